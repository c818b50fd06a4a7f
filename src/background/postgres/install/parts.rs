//! The parts of the schema, and which of them a database has.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use crate::background::postgres::connection::in_time;
use crate::background::postgres::fault::Fault;

pub(super) const SCHEMA: &str = "schema realtime";
pub(super) const RECORD: &str = "table realtime.fanfare_installed";
pub(super) const CHANNELS: &str = "table realtime.channels";
pub(super) const MESSAGES: &str = "table realtime.messages";
pub(super) const DISPATCHED_AT: &str = "column realtime.messages.dispatched_at";
pub(super) const WAITING: &str = "index realtime.fanfare_waiting";
pub(super) const RING: &str = "function realtime.fanfare_ring";
pub(super) const BELL: &str = "trigger fanfare_bell";

/// A part of the schema.
pub(super) struct Part {
    /// Its kind and name, as it is recorded.
    pub(super) name: &'static str,
    /// The statements that make it.
    pub(super) sql: &'static str,
    /// An expression that says whether a database has it.
    exists: &'static str,
    /// The statement that removes it.
    pub(super) drop: &'static str,
    /// Whether the same statements replace an earlier version.
    pub(super) is_replaced: bool,
    /// Whether a part of this name that others have made serves as well.
    pub(super) may_be_foreign: bool,
}

/// All parts, each behind those that it needs.
pub(super) const PARTS: [Part; 13] = [
    table(
        SCHEMA,
        "CREATE SCHEMA realtime;\n",
        "to_regnamespace('realtime') IS NOT NULL",
        "DROP SCHEMA realtime;\n",
    ),
    table(
        RECORD,
        include_str!("../schema/record.sql"),
        "to_regclass('realtime.fanfare_installed') IS NOT NULL",
        "DROP TABLE realtime.fanfare_installed;\n",
    ),
    table(
        CHANNELS,
        include_str!("../schema/channels.sql"),
        "to_regclass('realtime.channels') IS NOT NULL",
        "DROP TABLE realtime.channels;\n",
    ),
    table(
        MESSAGES,
        include_str!("../schema/messages.sql"),
        "to_regclass('realtime.messages') IS NOT NULL",
        "DROP TABLE realtime.messages;\n",
    ),
    table(
        DISPATCHED_AT,
        include_str!("../schema/dispatched_at.sql"),
        "EXISTS (SELECT FROM pg_attribute WHERE attname = 'dispatched_at' AND NOT attisdropped \
         AND attrelid = to_regclass('realtime.messages'))",
        "ALTER TABLE realtime.messages DROP COLUMN dispatched_at;\n",
    ),
    table(
        WAITING,
        include_str!("../schema/waiting.sql"),
        "to_regclass('realtime.fanfare_waiting') IS NOT NULL",
        "DROP INDEX realtime.fanfare_waiting;\n",
    ),
    Part {
        may_be_foreign: false,
        ..table(
            "view realtime.fanfare_capture",
            include_str!("../schema/capture.sql"),
            "to_regclass('realtime.fanfare_capture') IS NOT NULL",
            "DROP VIEW realtime.fanfare_capture;\n",
        )
    },
    Part {
        may_be_foreign: true,
        ..function(
            "function realtime.publish",
            include_str!("../schema/publish.sql"),
            "to_regprocedure('realtime.publish(text, text, jsonb)') IS NOT NULL",
            "DROP FUNCTION realtime.publish(text, text, jsonb);\n",
        )
    },
    function(
        RING,
        include_str!("../schema/ring.sql"),
        "to_regprocedure('realtime.fanfare_ring()') IS NOT NULL",
        "DROP FUNCTION realtime.fanfare_ring();\n",
    ),
    table(
        BELL,
        include_str!("../schema/bell.sql"),
        "EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
         WHERE t.tgrelid = to_regclass('realtime.messages') AND NOT t.tgisinternal \
         AND t.tgenabled <> 'D' AND p.prosrc LIKE '%realtime_message%')",
        "DROP TRIGGER fanfare_bell ON realtime.messages;\n",
    ),
    function(
        "function realtime.fanfare_changed",
        include_str!("../schema/changed.sql"),
        "to_regprocedure('realtime.fanfare_changed()') IS NOT NULL",
        "DROP FUNCTION realtime.fanfare_changed();\n\
         DROP FUNCTION realtime.fanfare_line(oid, text[]);\n\
         DROP FUNCTION realtime.fanfare_part(jsonb, text[]);\n\
         DROP FUNCTION realtime.fanfare_channel(text, jsonb);\n",
    ),
    function(
        "function realtime.unwatch",
        include_str!("../schema/unwatch.sql"),
        "to_regprocedure('realtime.unwatch(regclass, text)') IS NOT NULL",
        "DROP FUNCTION realtime.unwatch(regclass, text);\n",
    ),
    function(
        "function realtime.watch",
        include_str!("../schema/watch.sql"),
        "to_regprocedure('realtime.watch(regclass, text, text[], boolean)') IS NOT NULL",
        "DROP FUNCTION realtime.watch(regclass, text, text[], boolean);\n",
    ),
];

const fn table(
    name: &'static str,
    sql: &'static str,
    exists: &'static str,
    drop: &'static str,
) -> Part {
    Part { name, sql, exists, drop, is_replaced: false, may_be_foreign: true }
}

const fn function(
    name: &'static str,
    sql: &'static str,
    exists: &'static str,
    drop: &'static str,
) -> Part {
    Part { name, sql, exists, drop, is_replaced: true, may_be_foreign: false }
}

impl Part {
    /// Returns what the record says of the version of this part.
    pub(super) fn version(&self) -> String {
        let digest = Sha256::digest(self.sql.as_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The parts that a database has.
pub(super) struct Found {
    existing: Vec<&'static str>,
    /// The recorded parts, with their versions.
    recorded: HashMap<String, String>,
    /// Whether the user may not read the record.
    pub(super) is_record_hidden: bool,
}

impl Found {
    pub(super) fn exists(&self, name: &str) -> bool {
        self.existing.contains(&name)
    }

    /// Returns whether `install` has made a part that exists.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        self.exists(name) && self.recorded.contains_key(name)
    }

    /// Returns whether the part was made by an earlier version of these statements.
    pub(super) fn is_outdated(&self, part: &Part) -> bool {
        self.recorded.get(part.name).is_some_and(|version| *version != part.version())
    }

    /// Returns the relations, or the functions with their arguments, that `install` has made.
    pub(super) fn own(&self, kinds: &[&str]) -> Vec<&'static str> {
        let drops = PARTS.iter().filter(|part| self.is_ours(part.name)).map(|part| part.drop);
        let named = |line: &'static str| {
            let (kind, name) = line.strip_prefix("DROP ")?.split_once(' ')?;
            kinds.contains(&kind).then(|| name.trim_end_matches(';'))
        };
        drops.flat_map(str::lines).filter_map(named).collect()
    }
}

/// Looks at a database.
pub(super) async fn find(client: &Client) -> Result<Found, Fault> {
    let expressions: Vec<_> = PARTS.iter().map(|part| part.exists).collect();
    let query = format!("SELECT {}", expressions.join(", "));
    let row = in_time(client.query_one(&query, &[])).await?;
    let existing = PARTS.iter().enumerate().filter(|(at, _)| row.get::<_, bool>(*at));
    let existing: Vec<_> = existing.map(|(_, part)| part.name).collect();
    let mut recorded = HashMap::new();
    let mut is_record_hidden = false;
    if existing.contains(&RECORD) {
        let query = "SELECT has_table_privilege('realtime.fanfare_installed', 'SELECT')";
        is_record_hidden = !in_time(client.query_one(query, &[])).await?.get::<_, bool>(0);
    }
    if existing.contains(&RECORD) && !is_record_hidden {
        let query = "SELECT part, version FROM realtime.fanfare_installed";
        let rows = in_time(client.query(query, &[])).await?;
        recorded.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    Ok(Found { existing, recorded, is_record_hidden })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::limits::{
        CHANNEL_BYTES_MAX, EVENT_BYTES_MAX, POSTGRES_PAYLOAD_BYTES_MAX, SPREAD_BYTES_MAX,
    };
    use crate::message::reserved_event_names;

    /// Returns the value of a constant in the function that publishes.
    fn constant(name: &str) -> &'static str {
        let start = format!("  {name} CONSTANT ");
        let text = include_str!("../schema/publish.sql").split_once(&start).expect("it has it").1;
        text.split_once(":= ").and_then(|(_, text)| text.split_once(';')).expect("it has a value").0
    }

    #[test]
    fn publish_has_the_bounds_of_the_node() {
        let number = |name| constant(name).parse().ok();
        assert_eq!(number("name_max"), Some(CHANNEL_BYTES_MAX));
        assert_eq!(number("name_max"), Some(EVENT_BYTES_MAX));
        assert_eq!(number("payload_max"), Some(POSTGRES_PAYLOAD_BYTES_MAX));
        assert_eq!(number("spread_max"), Some(SPREAD_BYTES_MAX));
        let names = constant("reserved").trim_matches(['\'', '{', '}']).split(',').map(str::trim);
        assert_eq!(names.collect::<BTreeSet<_>>(), reserved_event_names().collect());
    }

    #[test]
    fn watch_has_the_bounds_of_the_node() {
        let bound = format!("> {POSTGRES_PAYLOAD_BYTES_MAX} THEN");
        assert!(include_str!("../schema/changed.sql").contains(&bound));
        let bound = format!("NOT BETWEEN 1 AND {CHANNEL_BYTES_MAX}\n");
        assert!(include_str!("../schema/watch.sql").contains(&bound));
    }
}
