//! Which tables of messages can be used, also those that others have made.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::connection::in_time;
use super::fault::Fault;

/// The columns that are read or written, each with the types that it may have. Without any, it may
/// have all.
const COLUMNS: [(&str, &[&str]); 9] = [
    ("id", &["uuid"]),
    ("channel_name", &[]),
    ("event_name", &[]),
    ("payload", &["jsonb", "json", "text"]),
    ("sender_type", &[]),
    ("sender_id", &[]),
    ("created_at", &["timestamp with time zone", "timestamp without time zone"]),
    ("ws_audience_count", &["integer", "bigint"]),
    (DISPATCHED_AT, &["timestamp with time zone"]),
];
/// The column that install adds.
const DISPATCHED_AT: &str = "dispatched_at";

/// Checks the columns of the table of messages, and the encoding of the database. `lacks` says
/// whether the column that install adds may be missing.
///
/// # Errors
/// If rows of the table cannot be messages.
pub(super) async fn check(client: &Client, lacks: bool) -> Result<(), Fault> {
    let query = "SELECT a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) \
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                 WHERE a.attrelid = to_regclass('realtime.messages') AND a.attnum > 0 \
                 AND NOT a.attisdropped";
    let rows = in_time(client.query(query, &[])).await?;
    let types: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (column, allowed) in COLUMNS {
        let Some(found) = types.get(column) else {
            if column == DISPATCHED_AT && lacks {
                continue;
            }
            if column == DISPATCHED_AT {
                return Err(Fault::NotInstalled("the column realtime.messages.dispatched_at"));
            }
            return Err(Fault::Refused(format!(
                "the table realtime.messages lacks the column {column}: add it, as \
                 `fanfare postgres install --dry-run` shows it for an empty database"
            )));
        };
        if !allowed.is_empty() && !allowed.contains(&found.as_str()) {
            return Err(Fault::Refused(format!(
                "the column realtime.messages.{column} is not of the type {}, but {found}: change \
                 its type",
                allowed.join(" or ")
            )));
        }
    }
    let query = "SELECT current_setting('server_encoding') = 'SQL_ASCII'";
    if in_time(client.query_one(query, &[])).await?.get(0) {
        let text = "the database has the encoding SQL_ASCII, so that a row may be no text: use a \
                    database with another encoding, such as UTF8";
        return Err(Fault::Refused(text.to_owned()));
    }
    Ok(())
}
