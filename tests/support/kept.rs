//! History in a node's database, read through a connection of the test's own.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{API_KEY, Node, Response, http};

/// A message in history.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) position: i64,
    pub(crate) id: Uuid,
    pub(crate) channel: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
    /// Number of webhooks to call, and of successful calls.
    pub(crate) wh_audience: u32,
    pub(crate) wh_delivered: u32,
}

impl Node {
    /// Returns all of history in order. The node may be running or not.
    pub(crate) fn history(&self) -> Vec<Kept> {
        let database = self.open_database();
        let query = "SELECT position, id, channel_name, event_name, payload, wh_audience,
                     wh_delivered FROM messages ORDER BY position";
        let mut query = database.prepare(query).expect("there is a history");
        let rows = query.query_map([], |row| {
            let payload: String = row.get(4)?;
            Ok(Kept {
                position: row.get(0)?,
                id: Uuid::from_bytes(row.get(1)?),
                channel: row.get(2)?,
                event: row.get(3)?,
                payload: serde_json::from_str(&payload).expect("payloads are JSON"),
                wh_audience: row.get(5)?,
                wh_delivered: row.get(6)?,
            })
        });
        let rows = rows.expect("it can be read");
        rows.map(|row| row.expect("every row is whole")).collect()
    }

    /// Runs SQLite's integrity check. Panics if it finds anything.
    pub(crate) fn check_database(&self) {
        let database = self.open_database();
        let check = "PRAGMA integrity_check";
        let found: String = database.query_row(check, [], |row| row.get(0)).expect("it is read");
        assert_eq!(found, "ok", "{check}");
    }

    /// Opens the database for writing, too: a transaction on this connection keeps the node from
    /// writing.
    pub(crate) fn share_database(&self) -> Connection {
        Connection::open(database(self.data_dir())).expect("it can be shared")
    }

    fn open_database(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(database(self.data_dir()), flags).expect("it can be read")
    }
}

/// Publishes over HTTP with a level of durability; empty for the node's default.
pub(crate) fn publish_at(
    port: u16,
    level: &str,
    (channel, event): (&str, &str),
    payload: &Value,
) -> Response {
    let body = json!({ "channel": channel, "event": event, "payload": payload }).to_string();
    http::request(port, "POST", &target_at(level), &[("x-api-key", API_KEY)], body.as_bytes())
}

/// Returns the target of a publish with this level.
pub(crate) fn target_at(level: &str) -> String {
    let query = if level.is_empty() { String::new() } else { format!("?durability={level}") };
    format!("/api/realtime/messages{query}")
}

/// Returns the message id in the answer to a publish.
pub(crate) fn message_id(answer: &Value) -> Uuid {
    let id = answer["messageId"].as_str().unwrap_or_else(|| panic!("no message id in {answer}"));
    Uuid::try_parse(id).expect("an id is a UUID")
}

fn database(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("fanfare.db")
}
