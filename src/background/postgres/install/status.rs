//! What a database has, for the operator.

use tokio_postgres::Client;

use super::Report;
use super::parts::{DISPATCHED_AT, Found, MESSAGES, PARTS, RING, find};
use crate::background::postgres::connection::in_time;
use crate::background::postgres::fault::Fault;
use crate::background::postgres::settings::Settings;

/// Returns the state of the database.
pub(super) async fn report(client: &Client, settings: &Settings) -> Result<Report, Fault> {
    let query = "SELECT current_database()::text, current_setting('server_version'), \
                 current_user::text";
    let row = in_time(client.query_one(query, &[])).await?;
    let (database, version, user): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let found = find(client).await?;
    let place = &settings.place;
    let mut text = format!(
        "server   {place}, PostgreSQL {version}\ndatabase {database}, as {user}\nschema   {}\n",
        made_by(&found)
    );
    let missing: Vec<_> = PARTS.iter().filter(|part| is_missing(&found, part.name)).collect();
    for part in &missing {
        text += &format!("missing  {}\n", part.name);
    }
    if found.exists(DISPATCHED_AT) {
        let query = "SELECT count(*), \
                     coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 \
                     FROM realtime.messages WHERE dispatched_at IS NULL";
        let row = in_time(client.query_one(query, &[])).await?;
        let (count, age): (i64, f64) = (row.get(0), row.get(1));
        text += &format!("waiting  {count} rows");
        text += &if count > 0 { format!(", the oldest for {age:.0} s\n") } else { "\n".to_owned() };
    }
    text += &capturer(client).await?;
    text += &watched(client).await?;
    let is_well = missing.is_empty();
    if !is_well {
        text += "run `fanfare postgres install` with the same settings\n";
    }
    Ok(Report { text, is_well })
}

fn is_missing(found: &Found, name: &str) -> bool {
    // A trigger of others needs no function of ours.
    let is_needed = name != RING || !found.exists(super::parts::BELL);
    is_needed && !found.exists(name)
}

fn made_by(found: &Found) -> &'static str {
    match (found.exists(MESSAGES), found.is_ours(MESSAGES)) {
        (true, true) => "made by `fanfare postgres install`",
        (true, false) => "made by others",
        (false, _) => "not there",
    }
}

async fn capturer(client: &Client) -> Result<String, Fault> {
    let query = "SELECT a.application_name, coalesce(host(a.client_addr), 'a unix socket'), \
                 to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND l.classid = $1::int4::oid AND l.objid = $2::int4::oid";
    let (one, other) = crate::background::postgres::capture::LOCK;
    let rows = in_time(client.query(query, &[&one, &other])).await?;
    Ok(match rows.first() {
        None => "captures no node\n".to_owned(),
        Some(row) => {
            let name: Option<String> = row.get(0);
            let (host, since): (String, Option<String>) = (row.get(1), row.get(2));
            let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
            format!("captures {} from {host}{since}\n", name.unwrap_or_default())
        }
    })
}

async fn watched(client: &Client) -> Result<String, Fault> {
    let query = "SELECT n.nspname || '.' || c.relname, \
                 convert_from(substring(t.tgargs FROM 1 FOR \
                   position('\\x00'::bytea IN t.tgargs) - 1), 'UTF8') \
                 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE t.tgparentid = 0 AND t.tgfoid = to_regprocedure('realtime.fanfare_changed()') \
                 ORDER BY 1, 2";
    let rows = in_time(client.query(query, &[])).await?;
    let line = |row: &tokio_postgres::Row| {
        format!("watched  {} on {}\n", row.get::<_, String>(0), row.get::<_, String>(1))
    };
    Ok(rows.iter().map(line).collect())
}
