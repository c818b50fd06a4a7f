//! Channel definitions in the store.

use rusqlite::{Connection, Row, ToSql, ffi, params};
use uuid::Uuid;

use super::fault::{senseless, unknown};
use super::time::{integer, millis};
use super::{Store, StoreError};
use crate::limits::DEFINITIONS_MAX;
use crate::message::{
    ChannelDefinition, ChannelOptions, ChannelOrder, PresenceMode, Retain, SlowConsumer,
};

impl Store {
    /// Returns all channel definitions, the oldest first.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row makes no sense; the database's own failures.
    pub fn channels(&self) -> Result<Vec<ChannelDefinition>, StoreError> {
        self.read(all)
    }

    /// Inserts a new channel definition.
    ///
    /// # Errors
    ///
    /// `Duplicate` if the pattern is taken, `Full` at [`DEFINITIONS_MAX`]; the database's own
    /// failures.
    pub fn insert_channel(&self, channel: &ChannelDefinition) -> Result<(), StoreError> {
        // One statement counts and inserts, so that no other insert comes in between.
        let most = DEFINITIONS_MAX.cast_signed();
        let inserted = self.noted(write(&self.connection, "INSERT INTO", channel, most));
        match inserted.map_err(|fault| self.refused(fault, channel))? {
            0 => Err(StoreError::Full { channels_max: DEFINITIONS_MAX }),
            _ => Ok(()),
        }
    }

    /// Replaces the definition with this id, except for its id and creation time. Returns false if
    /// there is no such definition.
    ///
    /// # Errors
    ///
    /// `Duplicate` if another definition has the pattern; the database's own failures.
    pub fn update_channel(&self, id: Uuid, to: &ChannelDefinition) -> Result<bool, StoreError> {
        let row = params![
            id.to_string(),
            to.pattern,
            to.description,
            webhooks_text(to),
            to.enabled,
            integer(to.updated_at),
            to.options.ephemeral,
            to.options.presence.name(),
            to.options.slow_consumer.name(),
            to.options.retain.seconds(),
            to.options.rate_limit,
            to.options.order.name(),
        ];
        let update = "UPDATE channels SET pattern = ?2, description = ?3, webhook_urls = ?4,
                      enabled = ?5, updated_at = ?6, ephemeral = ?7, presence = ?8,
                      slow_consumer = ?9, replay_seconds = ?10, rate_limit = ?11, ordering = ?12
                      WHERE id = ?1";
        let updated = self.execute(update, row).map_err(|fault| self.refused(fault, to))?;
        Ok(updated > 0)
    }

    /// Deletes the definition with this id. Returns false if there is no such definition.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn delete_channel(&self, id: Uuid) -> Result<bool, StoreError> {
        let deleted = self.execute("DELETE FROM channels WHERE id = ?1", params![id.to_string()]);
        Ok(deleted.map_err(|fault| self.failed(fault))? > 0)
    }

    fn refused(&self, fault: rusqlite::Error, channel: &ChannelDefinition) -> StoreError {
        if is_duplicate(&fault) {
            return StoreError::Duplicate { pattern: channel.pattern.clone() };
        }
        self.failed(fault)
    }
}

/// Returns all definitions, the oldest first.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<ChannelDefinition>> {
    let query = "SELECT id, pattern, description, webhook_urls, enabled, created_at, updated_at,
                 ephemeral, presence, slow_consumer, replay_seconds, rate_limit, ordering
                 FROM channels ORDER BY created_at, id";
    connection.prepare_cached(query)?.query_map([], definition)?.collect()
}

/// Puts a definition in the place of others with its id or its pattern.
pub(super) fn put(connection: &Connection, channel: &ChannelDefinition) -> rusqlite::Result<()> {
    write(connection, "INSERT OR REPLACE INTO", channel, i64::MAX).map(drop)
}

/// Inserts a definition if there are fewer than `most`. Returns how many were inserted.
fn write(
    connection: &Connection,
    verb: &str,
    channel: &ChannelDefinition,
    most: impl ToSql,
) -> rusqlite::Result<usize> {
    let insert = format!(
        "{verb} channels SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
         WHERE (SELECT count(*) FROM channels) < ?14"
    );
    connection.prepare_cached(&insert)?.execute(params![
        channel.id.to_string(),
        channel.pattern,
        channel.description,
        webhooks_text(channel),
        channel.enabled,
        integer(channel.created_at),
        integer(channel.updated_at),
        channel.options.ephemeral,
        channel.options.presence.name(),
        channel.options.slow_consumer.name(),
        channel.options.retain.seconds(),
        channel.options.rate_limit,
        channel.options.order.name(),
        most,
    ])
}

fn is_duplicate(fault: &rusqlite::Error) -> bool {
    let code = fault.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_CONSTRAINT_UNIQUE)
}

fn definition(row: &Row<'_>) -> rusqlite::Result<ChannelDefinition> {
    let id: String = row.get(0)?;
    let webhook_urls: Option<String> = row.get(3)?;
    let webhook_urls = webhook_urls.map(|text| serde_json::from_str(&text)).transpose();
    Ok(ChannelDefinition {
        id: Uuid::try_parse(&id).map_err(|fault| senseless(0, fault))?,
        pattern: row.get(1)?,
        description: row.get(2)?,
        webhook_urls: webhook_urls.map_err(|fault| senseless(3, fault))?,
        enabled: row.get(4)?,
        options: options(row)?,
        created_at: millis(row, 5)?,
        updated_at: millis(row, 6)?,
    })
}

fn options(row: &Row<'_>) -> rusqlite::Result<ChannelOptions> {
    let (presence, slow_consumer): (String, String) = (row.get(8)?, row.get(9)?);
    let order: String = row.get(12)?;
    Ok(ChannelOptions {
        ephemeral: row.get(7)?,
        presence: PresenceMode::named(&presence).ok_or_else(|| unknown(8, &presence))?,
        slow_consumer: SlowConsumer::named(&slow_consumer)
            .ok_or_else(|| unknown(9, &slow_consumer))?,
        retain: Retain::window(row.get(10)?),
        rate_limit: row.get(11)?,
        order: ChannelOrder::named(&order).ok_or_else(|| unknown(12, &order))?,
    })
}

fn webhooks_text(channel: &ChannelDefinition) -> Option<String> {
    let urls = channel.webhook_urls.as_ref()?;
    Some(serde_json::to_string(urls).expect("strings serialize"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::Fault;
    use super::*;

    pub(in super::super) fn fresh() -> (TempDir, PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/fanfare.db");
        let store = Store::open(&path).unwrap();
        (directory, path, store)
    }

    pub(in super::super) fn channel(number: u128, pattern: &str) -> ChannelDefinition {
        ChannelDefinition {
            id: Uuid::from_u128(number),
            pattern: pattern.into(),
            description: Some("für alle\n\"☃\"".into()),
            webhook_urls: Some(vec!["https://a.example/x?y=1".into(), "http://b\"".into()]),
            enabled: true,
            options: ChannelOptions {
                ephemeral: false,
                presence: PresenceMode::Off,
                slow_consumer: SlowConsumer::Latest,
                retain: Retain::window(60),
                rate_limit: 10,
                order: ChannelOrder::Local,
            },
            created_at: 1_777_136_400_123,
            updated_at: 1_777_136_400_124,
        }
    }

    #[test]
    fn channels_outlive_the_store() {
        let (_directory, path, store) = fresh();
        let full = channel(2, "order:*");
        let mut bare = channel(1, "chat");
        (bare.description, bare.webhook_urls, bare.enabled) = (None, None, false);
        let mut empty = channel(3, "a:%");
        (empty.webhook_urls, empty.created_at) = (Some(vec![]), 5);
        for one in [&full, &bare, &empty] {
            store.insert_channel(one).unwrap();
        }
        let expected = [empty, bare, full];
        assert_eq!(store.channels().unwrap(), expected);
        drop(store);
        assert_eq!(Store::open(&path).unwrap().channels().unwrap(), expected);
    }

    #[test]
    fn channels_are_updated_and_deleted() {
        let (_directory, path, store) = fresh();
        let before = channel(1, "a");
        store.insert_channel(&before).unwrap();
        store.insert_channel(&channel(2, "b")).unwrap();
        let mut after = before.clone();
        (after.pattern, after.description, after.webhook_urls) = ("c".into(), None, None);
        (after.enabled, after.updated_at) = (false, 2_000_000_000_000);
        after.options = ChannelOptions { ephemeral: true, ..ChannelOptions::default() };
        assert!(store.update_channel(after.id, &after).unwrap());
        assert!(store.delete_channel(Uuid::from_u128(2)).unwrap());
        assert!(!store.delete_channel(Uuid::from_u128(2)).unwrap());
        assert!(!store.update_channel(Uuid::from_u128(2), &channel(2, "d")).unwrap());
        drop(store);
        assert_eq!(Store::open(&path).unwrap().channels().unwrap(), [after]);
    }

    #[test]
    fn a_pattern_is_kept_once() {
        let (_directory, _path, store) = fresh();
        store.insert_channel(&channel(1, "a:*")).unwrap();
        store.insert_channel(&channel(2, "b")).unwrap();
        let refusals = [
            store.insert_channel(&channel(3, "a:*")).unwrap_err(),
            store.update_channel(Uuid::from_u128(2), &channel(2, "a:*")).unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(&refusal, StoreError::Duplicate { pattern } if pattern == "a:*"));
            assert_eq!(refusal.fault(), Fault::Caller);
        }
        assert!(store.update_channel(Uuid::from_u128(1), &channel(1, "a:*")).unwrap());
        let same_id = store.insert_channel(&channel(1, "c")).unwrap_err();
        assert_eq!(same_id.fault(), Fault::Node);
        assert_eq!(store.channels().unwrap().len(), 2);
    }

    #[test]
    fn the_bound_holds() {
        let (_directory, _path, store) = fresh();
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             INSERT INTO channels (id, pattern, enabled, created_at, updated_at)
             SELECT printf('%032x', i), 'p' || i, 1, i, i FROM n",
            DEFINITIONS_MAX - 1
        );
        store.read(|connection| connection.execute_batch(&fill)).unwrap();
        let last = channel(u128::MAX, "last");
        store.insert_channel(&last).unwrap();
        let refusal = store.insert_channel(&channel(u128::MAX - 1, "more")).unwrap_err();
        assert!(matches!(refusal, StoreError::Full { channels_max: DEFINITIONS_MAX }));
        assert_eq!(store.channels().unwrap().len(), DEFINITIONS_MAX);
        assert!(store.delete_channel(last.id).unwrap());
        store.insert_channel(&channel(u128::MAX - 1, "more")).unwrap();
    }

    #[test]
    fn a_row_that_makes_no_sense_is_reported() {
        let faults = [
            "id = 'x'",
            "webhook_urls = '{'",
            "created_at = -1",
            "enabled = 'maybe'",
            "presence = 'x'",
        ];
        for fault in faults {
            let (_directory, _path, store) = fresh();
            store.insert_channel(&channel(1, "a")).unwrap();
            store.connection.execute(&format!("UPDATE channels SET {fault}"), []).unwrap();
            let refused = store.channels().unwrap_err();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{fault}: {refused}");
        }
    }
}
