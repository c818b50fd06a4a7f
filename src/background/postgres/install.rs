//! `fanfare postgres install`, `status` and `uninstall`.

mod parts;
mod plan;
mod status;

use tokio::runtime::Builder;
use tokio_postgres::Client;

use super::connection::{Link, in_time};
use super::fault::Fault;
use super::settings::Settings;
use super::shape;
use parts::{Found, find};

/// Said if others keep the rows that the node keeps, too.
pub(super) const KEPT_TWICE: &str = "the table realtime.messages was made by others, who keep its \
    rows as their history, and the history of this node keeps them once more: set `postgres.owner` \
    to insforge, so that the node leaves history and webhooks to them";

/// The lock under which one command changes the schema.
const LOCK: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL search_path = pg_catalog; \
                    SELECT pg_advisory_xact_lock(1717661286, 2)";

/// What an operator wishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To make what is missing.
    Install(Change),
    /// To remove what was made, with rows if `drops_data`.
    Uninstall {
        /// Whether it is done or shown.
        change: Change,
        /// Whether tables with rows are removed.
        drops_data: bool,
    },
    /// To see what is there.
    Status,
}

/// Whether something is done or only shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is done.
    Made,
    /// Its SQL is printed.
    Shown,
}

/// What the operator reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Lines for people, or SQL.
    pub text: String,
    /// Whether nothing is missing or in the way.
    pub is_well: bool,
}

/// Carries out a wish on the database.
///
/// # Errors
/// If the database cannot be reached, or refuses something: then nothing was changed.
pub fn run(settings: &Settings, wish: Wish) -> Result<Report, Fault> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::Refused(error.to_string()))?;
    runtime.block_on(async {
        let link = Link::open(settings).await?;
        match wish {
            Wish::Status => status::report(&link.client, settings).await,
            Wish::Install(change) => transaction(&link, settings, change, None).await,
            Wish::Uninstall { change, drops_data } => {
                transaction(&link, settings, change, Some(drops_data)).await
            }
        }
    })
}

/// Plans and makes a change in one transaction. `removes` is `None` to install, and otherwise says
/// whether data goes, too.
async fn transaction(
    link: &Link,
    settings: &Settings,
    change: Change,
    removes: Option<bool>,
) -> Result<Report, Fault> {
    link.execute("BEGIN").await?;
    link.execute(LOCK).await?;
    let found = find(&link.client).await?;
    if found.is_record_hidden {
        let text = "the user of `postgres.url` may not read realtime.fanfare_installed, which says what \
                    was made here: let it name the owner of that table";
        return Err(Fault::Refused(text.to_owned()));
    }
    if removes.is_none() && found.exists(parts::MESSAGES) {
        shape::check(&link.client, true).await?;
    }
    let mut plan = match removes {
        None => plan::install(&found)?,
        Some(drops_data) => {
            plan::uninstall(&found, drops_data, &loose(&link.client, &found).await?)
        }
    };
    if removes.is_none() && settings.writes_counts && has_others_rows(&found) {
        plan.notes.push(format!("warning: {KEPT_TWICE}"));
    }
    let sql = plan.statements.concat();
    if change == Change::Shown {
        link.execute("ROLLBACK").await?;
        let text = if sql.is_empty() { String::new() } else { format!("BEGIN;\n{sql}COMMIT;\n") };
        let notes: String = plan.notes.iter().map(|note| format!("-- {note}\n")).collect();
        return Ok(Report { text: notes + &text, is_well: true });
    }
    link.execute(&sql).await?;
    link.execute("COMMIT").await?;
    let text = plan.notes.iter().map(|note| format!("{note}\n")).collect();
    Ok(Report { text, is_well: true })
}

/// What must be known to remove.
#[derive(Default)]
pub(super) struct Loose {
    /// Statements that remove the triggers of watched tables.
    pub(super) triggers: Vec<String>,
    /// The tables of ours with rows.
    pub(super) with_rows: Vec<&'static str>,
    /// What others have in the schema: the first of it, for the operator.
    pub(super) others: Vec<String>,
}

/// Returns whether others keep the rows of the table of messages, which they have made.
pub(super) async fn is_of_others(client: &Client) -> Result<bool, Fault> {
    Ok(has_others_rows(&find(client).await?))
}

fn has_others_rows(found: &Found) -> bool {
    found.exists(parts::MESSAGES) && !found.is_ours(parts::MESSAGES) && !found.is_record_hidden
}

async fn loose(client: &Client, found: &Found) -> Result<Loose, Fault> {
    let mut loose = Loose::default();
    if !found.exists(parts::SCHEMA) {
        return Ok(loose);
    }
    let query = "SELECT format('DROP TRIGGER %I ON %I.%I;', t.tgname, n.nspname, c.relname) \
                 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgparentid = 0 \
                 AND t.tgfoid = to_regprocedure('realtime.fanfare_changed()')";
    let rows = in_time(client.query(query, &[])).await?;
    loose.triggers = rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    for table in [parts::CHANNELS, parts::MESSAGES] {
        if !found.is_ours(table) {
            continue;
        }
        let name = table.trim_start_matches("table ");
        let query = format!("SELECT EXISTS (SELECT FROM {name})");
        if in_time(client.query_one(&query, &[])).await?.get(0) {
            loose.with_rows.push(table);
        }
    }
    let query = "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend \
                 WHERE refclassid = 'pg_namespace'::regclass AND refobjid = 'realtime'::regnamespace \
                 AND NOT (classid = 'pg_class'::regclass AND objid = ANY ($1::text[]::regclass[]::oid[])) \
                 AND NOT (classid = 'pg_proc'::regclass AND objid = ANY ($2::text[]::regprocedure[]::oid[])) \
                 ORDER BY 1 LIMIT 5";
    let relations = found.own(&["TABLE", "VIEW", "INDEX"]);
    let functions = found.own(&["FUNCTION"]);
    let rows = in_time(client.query(query, &[&relations, &functions])).await?;
    loose.others = rows.iter().map(|row| row.get(0)).collect();
    Ok(loose)
}
