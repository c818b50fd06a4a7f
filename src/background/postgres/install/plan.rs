//! Which statements install and uninstall.

use super::Loose;
use super::parts::{
    BELL, CHANNELS, DISPATCHED_AT, Found, MESSAGES, PARTS, Part, RECORD, RING, SCHEMA, WAITING,
};
use crate::background::postgres::fault::Fault;

/// Statements, and what is said of them.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) statements: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Returns how what is missing is made.
///
/// # Errors
/// If something of others has the name of a part that must be ours.
pub(super) fn install(found: &Found) -> Result<Plan, Fault> {
    let mut plan = Plan::default();
    for part in &PARTS {
        let (exists, is_ours) = (found.exists(part.name), found.is_ours(part.name));
        // A trigger of others needs no function of ours.
        let is_needed = part.name != RING || !found.exists(BELL) || found.is_ours(BELL);
        if !exists && is_needed {
            plan.statements.push(format!("{}{}", part.sql, record(part, found)));
            plan.notes.push(format!("made     {}", part.name));
        } else if is_ours && part.is_replaced && found.is_outdated(part) {
            plan.statements.push(format!("{}{}", part.sql, record(part, found)));
            plan.notes.push(format!("replaced {}", part.name));
        } else if exists && !is_ours && !part.may_be_foreign {
            return Err(Fault::Refused(format!(
                "the {} exists and was not made by `fanfare postgres install`: rename or drop it",
                part.name
            )));
        } else if exists && !is_ours && part.name != RECORD {
            plan.notes.push(format!("kept     {}, which others have made", part.name));
        }
    }
    if plan.statements.is_empty() {
        plan.notes.push("nothing is missing".to_owned());
    }
    Ok(plan)
}

fn record(part: &Part, found: &Found) -> String {
    // The table is made after the schema, and records both.
    let names: &[&str] = match part.name {
        SCHEMA => &[],
        RECORD if !found.exists(SCHEMA) => &[SCHEMA, RECORD],
        name => &[name],
    };
    let version = part.version();
    let mut text = String::new();
    for name in names {
        text += &format!(
            "INSERT INTO realtime.fanfare_installed (part, version) VALUES ('{name}', '{version}')\n  \
             ON CONFLICT (part) DO UPDATE SET version = excluded.version;\n"
        );
    }
    text
}

/// Returns how what was made is removed, but for tables with rows unless `drops_data`.
pub(super) fn uninstall(found: &Found, drops_data: bool, loose: &Loose) -> Plan {
    let mut plan = Plan::default();
    if !found.is_ours(RECORD) {
        plan.notes.push("nothing here was made by `fanfare postgres install`".to_owned());
        return plan;
    }
    plan.statements.extend(loose.triggers.iter().cloned());
    let is_kept = |name: &str| {
        let has_rows = |table| !drops_data && loose.with_rows.contains(&table);
        match name {
            CHANNELS => has_rows(CHANNELS) || has_rows(MESSAGES),
            MESSAGES => has_rows(MESSAGES),
            // They belong to the table.
            DISPATCHED_AT | WAITING => found.is_ours(MESSAGES) && has_rows(MESSAGES),
            RECORD => has_rows(CHANNELS) || has_rows(MESSAGES),
            SCHEMA => has_rows(CHANNELS) || has_rows(MESSAGES) || !loose.others.is_empty(),
            _ => false,
        }
    };
    for part in PARTS.iter().rev().filter(|part| found.is_ours(part.name)) {
        if is_kept(part.name) {
            let is_shared = part.name == SCHEMA && !loose.others.is_empty();
            let others = || format!("in which others have {}", loose.others.join(", "));
            let why = if is_shared { others() } else { "with its rows".to_owned() };
            plan.notes.push(format!("kept     {}, {why}", part.name));
            continue;
        }
        plan.statements.push(part.drop.to_owned());
        if is_kept(RECORD) {
            let name = part.name;
            let forget = format!("DELETE FROM realtime.fanfare_installed WHERE part = '{name}';\n");
            plan.statements.push(forget);
        }
        plan.notes.push(format!("removed  {}", part.name));
    }
    if is_kept(RECORD) {
        plan.notes.push("--drop-data removes tables with their rows".to_owned());
    }
    plan
}
