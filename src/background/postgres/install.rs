//! `fanfare postgres install`, `status` and `uninstall`.

mod parts;
mod plan;
mod status;

use tokio::runtime::Builder;
use tokio_postgres::Client;

use super::connection::{Link, in_time};
use super::fault::Fault;
use super::settings::Settings;
use parts::{Found, find};

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
            Wish::Install(change) => transaction(&link, change, None).await,
            Wish::Uninstall { change, drops_data } => {
                transaction(&link, change, Some(drops_data)).await
            }
        }
    })
}

/// Plans and makes a change in one transaction. `removes` is `None` to install, and otherwise says
/// whether data goes, too.
async fn transaction(link: &Link, change: Change, removes: Option<bool>) -> Result<Report, Fault> {
    link.execute("BEGIN").await?;
    link.execute(LOCK).await?;
    let found = find(&link.client).await?;
    let plan = match removes {
        None => plan::install(&found)?,
        Some(drops_data) => {
            plan::uninstall(&found, drops_data, &loose(&link.client, &found).await?)
        }
    };
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
    /// Whether the schema holds things of others.
    pub(super) has_others: bool,
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
    let query = "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'realtime'::regnamespace \
                   AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT relname = ANY ($1)) \
                 OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'realtime'::regnamespace \
                   AND NOT proname = ANY ($1))";
    let ours: Vec<&str> = found.own_names();
    loose.has_others = in_time(client.query_one(query, &[&ours])).await?.get(0);
    Ok(loose)
}
