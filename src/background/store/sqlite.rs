//! The embedded store: one SQLite file.

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, ffi, params};
use uuid::Uuid;

use super::StoreError;
use super::documents::Documents;
use super::history::{self, History};
use super::integer::integer;
use crate::limits::DEFINITIONS_MAX;
use crate::message::{
    ChannelDefinition, ChannelOptions, MessageId, Millis, Position, PresenceMode, Record, Retain,
    SlowConsumer,
};

/// How long a statement waits for another process, such as a backup, to let go of the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// What makes a file of each schema version one of the next, beginning with an empty file. Released
/// steps stay as they are.
const SCHEMA: [&str; 5] = [
    include_str!("schema/1_channels.sql"),
    include_str!("schema/2_options.sql"),
    include_str!("schema/3_history.sql"),
    include_str!("schema/4_policies.sql"),
    include_str!("schema/5_documents.sql"),
];
/// The schema that this release writes, kept in the file's `user_version`.
const SCHEMA_VERSION: i64 = SCHEMA.len() as i64;

/// An open store. Dropping it closes the file; what was reported done stays done.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    history: History,
    pub(super) documents: Documents,
    /// Commits are in a log, so that each may choose whether it waits for the disk.
    has_log: bool,
    /// The last write failed, and not by its caller's fault.
    is_ailing: Cell<bool>,
}

impl Store {
    /// Opens the store in this file. File and directories are made where missing, for the node's
    /// own user only, because webhook URLs may carry secrets.
    ///
    /// # Errors
    ///
    /// `Unusable`, `Newer`, `Corrupt`, `Busy` or `DiskFull`, each with the path in its message.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        make_file(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(path, flags).map_err(|fault| failed(path, fault))?;
        refuse_read_only(&connection, path)?;
        let has_log = configure(&connection).map_err(|fault| failed(path, fault))?;
        prepare(&mut connection, path)?;
        let history = History::open(&connection).map_err(|fault| failed(path, fault))?;
        let documents = Documents::open(&connection).map_err(|fault| failed(path, fault))?;
        let (identity, is_ailing) = (identity(path), Cell::new(false));
        let path = path.to_owned();
        Ok(Self { connection, path, identity, history, documents, has_log, is_ailing })
    }

    /// All channels, the oldest first.
    ///
    /// # Errors
    ///
    /// `Corrupt` where a row makes no sense; the database's own failures.
    pub fn channels(&self) -> Result<Vec<ChannelDefinition>, StoreError> {
        let query =
            "SELECT id, pattern, description, webhook_urls, enabled, created_at, updated_at,
                     ephemeral, presence, slow_consumer, replay_seconds, rate_limit
                     FROM channels ORDER BY created_at, id";
        let read = || -> rusqlite::Result<Vec<_>> {
            self.connection.prepare_cached(query)?.query_map([], definition)?.collect()
        };
        read().map_err(|fault| self.failed(fault))
    }

    /// Keeps a new channel.
    ///
    /// # Errors
    ///
    /// `Duplicate` where the pattern is taken, `Full` at [`DEFINITIONS_MAX`]; the database's own
    /// failures.
    pub fn insert_channel(&self, channel: &ChannelDefinition) -> Result<(), StoreError> {
        let row = params![
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
            DEFINITIONS_MAX.cast_signed(),
        ];
        // One statement counts and inserts, so that nobody can come in between.
        let insert = "INSERT INTO channels
                      SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
                      WHERE (SELECT count(*) FROM channels) < ?13";
        let inserted = self.execute(insert, row).map_err(|fault| self.refused(fault, channel))?;
        if inserted == 0 {
            return Err(StoreError::Full { channels_max: DEFINITIONS_MAX });
        }
        Ok(())
    }

    /// Replaces the channel with this id, except for its id and creation time. False where there
    /// is none.
    ///
    /// # Errors
    ///
    /// `Duplicate` where another channel has the pattern; the database's own failures.
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
        ];
        let update = "UPDATE channels SET pattern = ?2, description = ?3, webhook_urls = ?4,
                      enabled = ?5, updated_at = ?6, ephemeral = ?7, presence = ?8,
                      slow_consumer = ?9, replay_seconds = ?10, rate_limit = ?11 WHERE id = ?1";
        let updated = self.execute(update, row).map_err(|fault| self.refused(fault, to))?;
        Ok(updated > 0)
    }

    /// Forgets the channel with this id. False where there is none.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn delete_channel(&self, id: Uuid) -> Result<bool, StoreError> {
        let deleted = self.execute("DELETE FROM channels WHERE id = ?1", params![id.to_string()]);
        Ok(deleted.map_err(|fault| self.failed(fault))? > 0)
    }

    /// Appends messages to history in their order, all or none. With `sync` they, and all before
    /// them, are on the disk when this returns. What is no message has no place in history and is
    /// left out.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was appended, and the same may be tried again.
    pub fn append(&mut self, records: &[Record], sync: bool) -> Result<(), StoreError> {
        let appended = self
            .waiting_for_disk(sync, |store| store.history.append(&mut store.connection, records));
        self.written(appended)
    }

    /// Does something whole or not at all. With `sync` it, and all before it, is on the disk when
    /// this returns.
    pub(super) fn commit<T>(
        &mut self,
        sync: bool,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let committed = self.waiting_for_disk(sync, |store| {
            let transaction = store.connection.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        self.written(committed)
    }

    /// Does something whose commits wait for the disk, if that is wanted. Without a log every one
    /// does.
    fn waiting_for_disk<T>(
        &mut self,
        sync: bool,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if !sync || !self.has_log {
            return work(self);
        }
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let done = work(self);
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        done
    }

    /// Adds to how many webhooks took each of these messages. A message that is gone is passed
    /// over.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was counted.
    pub fn count_delivered(&mut self, counts: &[(MessageId, u32)]) -> Result<(), StoreError> {
        let counted = history::count_delivered(&mut self.connection, counts);
        self.written(counted)
    }

    /// The position of the latest message that was ever appended.
    pub fn newest(&self) -> Position {
        self.history.newest()
    }

    /// Removes at most so many of the oldest messages up to a position, and says how many it was:
    /// none, when it is done.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was removed.
    pub fn clear_step(&mut self, up_to: Position, rows_max: u32) -> Result<u64, StoreError> {
        let removed = history::clear(&mut self.connection, up_to, rows_max);
        self.written(removed)
    }

    /// Removes at most so many messages from before a time, and says how many it was: none, when it
    /// is done.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was removed.
    pub fn retain_step(&mut self, before: Millis, rows_max: u32) -> Result<u64, StoreError> {
        let removed = history::retain(&mut self.connection, before, rows_max);
        self.written(removed)
    }

    /// For how many days messages are kept; `None` for ever.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn retention(&self) -> Result<Option<u32>, StoreError> {
        history::retention(&self.connection).map_err(|fault| self.failed(fault))
    }

    /// From now on messages are kept for so many days; `None` for ever.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn set_retention(&mut self, days: Option<u32>) -> Result<(), StoreError> {
        let set = history::set_retention(&self.connection, days);
        self.written(set)
    }

    /// Whether the store works: its file is there, can be read, and where the last write failed,
    /// written again. While all is well nothing is written, and a lock is not waited for, so that
    /// it may be asked often.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn probe(&self) -> Result<(), StoreError> {
        let read = "SELECT EXISTS (SELECT 1 FROM channels)";
        let read = self.connection.query_row(read, [], |_| Ok(()));
        read.map_err(|fault| self.failed(fault))?;
        if identity(&self.path) != self.identity {
            let reason = "it was removed or replaced while it was open".into();
            return Err(StoreError::Unusable { path: self.path.clone(), reason });
        }
        if self.is_ailing.get() {
            let write = self.at_once(|connection| {
                connection.pragma_update(None, "user_version", SCHEMA_VERSION)
            });
            write.map_err(|fault| self.failed(fault))?;
            self.is_ailing.set(false);
        }
        Ok(())
    }

    /// Brings everything from the write-ahead log into the file, and the file to the disk. Where
    /// another process reads the file meanwhile, such as a backup, the log itself is brought to the
    /// disk, and the next start goes on from there.
    ///
    /// # Errors
    ///
    /// The database's own failures; what was reported done is in the log all the same.
    pub fn flush(&self) -> Result<(), StoreError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let flushed = self.at_once(|connection| {
            connection.query_row(checkpoint, [], |row| row.get::<_, bool>(0))
        });
        let is_busy = match flushed.map_err(|fault| self.failed(fault)) {
            Err(StoreError::Busy { .. }) => true,
            flushed => flushed?,
        };
        if !is_busy {
            return Ok(());
        }
        tracing::warn!("another process uses the store: what is new stays in its log");
        let log = self.path.with_extension("db-wal");
        match File::open(&log).and_then(|log| log.sync_all()) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => {
                Err(StoreError::unusable(log, &fault))
            }
            _ => Ok(()),
        }
    }

    /// Does something without waiting for locks of others.
    fn at_once<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let done = work(&self.connection);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        done
    }

    fn execute(&self, statement: &str, row: impl rusqlite::Params) -> rusqlite::Result<usize> {
        let written = self.connection.prepare_cached(statement)?.execute(row);
        let violates = |fault: &rusqlite::Error| {
            fault.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
        };
        self.is_ailing.set(written.as_ref().is_err_and(|fault| !violates(fault)));
        written
    }

    /// Takes note of how a write went that no caller can be to blame for.
    fn written<T>(&self, written: rusqlite::Result<T>) -> Result<T, StoreError> {
        self.is_ailing.set(written.is_err());
        written.map_err(|fault| self.failed(fault))
    }

    /// Does something whole or not at all.
    pub(super) fn transact(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let transact = || {
            let transaction = self.connection.unchecked_transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        let done = transact();
        self.is_ailing.set(done.is_err());
        done.map_err(|fault| self.failed(fault))
    }

    /// Reads something.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|fault| self.failed(fault))
    }

    fn refused(&self, fault: rusqlite::Error, channel: &ChannelDefinition) -> StoreError {
        let code = fault.sqlite_error().map(|error| error.extended_code);
        if code == Some(ffi::SQLITE_CONSTRAINT_UNIQUE) {
            return StoreError::Duplicate { pattern: channel.pattern.clone() };
        }
        self.failed(fault)
    }

    fn failed(&self, fault: rusqlite::Error) -> StoreError {
        failed(&self.path, fault)
    }
}

/// Brings the file to this release.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let path = || path.to_owned();
    match make_schema(connection).map_err(|fault| failed(&path(), fault))? {
        SCHEMA_VERSION => Ok(()),
        ..=0 => Err(StoreError::Corrupt {
            path: path(),
            reason: "it holds tables of another program".into(),
        }),
        found => Err(StoreError::Newer { path: path(), found, known: SCHEMA_VERSION }),
    }
}

/// SQLite silently opens a file that it may not write for reading.
fn refuse_read_only(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    if connection.is_readonly("main").map_err(|fault| failed(path, fault))? {
        return Err(StoreError::unusable(path, &ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}

/// Says whether commits go to a log.
fn configure(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    // With a write-ahead log, NORMAL cannot damage the file at a power cut; it may lose the
    // last commits, as a node that restarts a moment earlier would have. Some network file
    // systems deny the log, and the rollback journal is safe only with FULL.
    let has_log = journal == "wal";
    connection.pragma_update(None, "synchronous", if has_log { "NORMAL" } else { "FULL" })?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(has_log)
}

/// Brings the file to the schema of this release, whole or not at all, and returns the version
/// that is in the file now: another one where the file is not ours to change.
fn make_schema(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_ours = (version == 0) == (tables == 0);
    let Some(steps) = usize::try_from(version).ok().and_then(|done| SCHEMA.get(done..)) else {
        return Ok(version);
    };
    if !is_ours || steps.is_empty() {
        return Ok(version);
    }
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(SCHEMA_VERSION)
}

/// Which file a path names at the moment: its device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// Makes directory and file where missing. The standard library says more plainly than SQLite why
/// it could not.
fn make_file(path: &Path) -> Result<(), StoreError> {
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|fault| StoreError::unusable(directory, &fault))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(fault) if fault.kind() != ErrorKind::AlreadyExists => {
            Err(StoreError::unusable(path, &fault))
        }
        // An existing file must not be opened here: closing it would drop the locks that another
        // store of this process holds on it (POSIX locks belong to the process).
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, fault: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match fault.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path, reason: fault.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::SystemIoFailure,
        ) => StoreError::Unusable { path, reason: fault.to_string() },
        _ if is_senseless_row(&fault) => StoreError::Corrupt { path, reason: fault.to_string() },
        _ => StoreError::Failed { path, source: fault.into() },
    }
}

fn is_senseless_row(fault: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        fault,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
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
    Ok(ChannelOptions {
        ephemeral: row.get(7)?,
        presence: PresenceMode::named(&presence).ok_or_else(|| unknown(8, &presence))?,
        slow_consumer: SlowConsumer::named(&slow_consumer)
            .ok_or_else(|| unknown(9, &slow_consumer))?,
        retain: Retain::window(row.get(10)?),
        rate_limit: row.get(11)?,
    })
}

pub(super) fn unknown(column: usize, value: &str) -> rusqlite::Error {
    senseless(column, format!("{value:?} is no value of it"))
}

pub(super) fn millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    let at: i64 = row.get(column)?;
    at.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, at))
}

pub(super) fn senseless(
    column: usize,
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, fault.into())
}

fn webhooks_text(channel: &ChannelDefinition) -> Option<String> {
    let urls = channel.webhook_urls.as_ref()?;
    Some(serde_json::to_string(urls).expect("strings serialize"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::super::Fault;
    use super::*;

    fn fresh() -> (TempDir, PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/fanfare.db");
        let store = Store::open(&path).unwrap();
        (directory, path, store)
    }

    fn channel(number: u128, pattern: &str) -> ChannelDefinition {
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
    fn a_store_that_cannot_be_written_says_so_until_it_can() {
        let (_directory, path, store) = fresh();
        store.probe().unwrap();
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.probe().expect("nothing has failed yet");
        store.insert_channel(&channel(1, "a")).unwrap_err();
        assert!(matches!(store.probe(), Err(StoreError::Busy { .. })));
        other.execute_batch("COMMIT").unwrap();
        store.probe().unwrap();
    }

    #[test]
    fn a_store_whose_file_is_gone_says_so() {
        let (_directory, path, store) = fresh();
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.probe(), Err(StoreError::Unusable { .. })));
    }

    #[test]
    fn a_flush_beside_a_reader_leaves_what_is_new_in_the_log() {
        let (_directory, path, store) = fresh();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN; SELECT count(*) FROM channels").unwrap();
        store.insert_channel(&channel(1, "a")).unwrap();
        store.flush().unwrap();
        drop((store, other));
        assert_eq!(Store::open(&path).unwrap().channels().unwrap().len(), 1);
    }

    #[test]
    fn a_refused_change_is_no_failure_of_the_store() {
        let (_directory, _path, store) = fresh();
        store.insert_channel(&channel(1, "a")).unwrap();
        store.insert_channel(&channel(2, "a")).unwrap_err();
        assert!(!store.is_ailing.get());
    }

    #[test]
    fn a_flush_leaves_nothing_in_the_log() {
        let (_directory, path, store) = fresh();
        store.insert_channel(&channel(1, "a")).unwrap();
        let log = path.with_extension("db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0);
        store.flush().unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
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
        store.connection.execute_batch(&fill).unwrap();
        let last = channel(u128::MAX, "last");
        store.insert_channel(&last).unwrap();
        let refusal = store.insert_channel(&channel(u128::MAX - 1, "more")).unwrap_err();
        assert!(matches!(refusal, StoreError::Full { channels_max: DEFINITIONS_MAX }));
        assert_eq!(store.channels().unwrap().len(), DEFINITIONS_MAX);
        assert!(store.delete_channel(last.id).unwrap());
        store.insert_channel(&channel(u128::MAX - 1, "more")).unwrap();
    }

    #[test]
    fn the_file_is_set_up_as_promised() {
        let (_directory, path, store) = fresh();
        let pragma = |name: &str| -> String {
            let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            store.connection.query_row(&query, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "1");
        assert_eq!(pragma("foreign_keys"), "1");
        assert_eq!(pragma("user_version"), SCHEMA_VERSION.to_string());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    fn refusal(path: &Path) -> StoreError {
        let refusal = Store::open(path).unwrap_err();
        assert_eq!(refusal.fault(), Fault::Operator);
        assert!(refusal.to_string().contains(path.parent().unwrap().to_str().unwrap()));
        refusal
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let below_a_file = refusal(&file.join("fanfare.db"));
        assert!(matches!(below_a_file, StoreError::Unusable { .. }), "{below_a_file}");
        let a_directory = refusal(directory.path());
        assert!(matches!(a_directory, StoreError::Unusable { .. }), "{a_directory}");
    }

    #[test]
    fn a_read_only_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
        // Permissions do not bind root, for whom only a directory of the kernel's is read-only.
        let bound = fs::write(directory.path().join("probe"), "").is_err();
        let read_only = if bound { directory.path() } else { Path::new("/proc/self") };
        let refused = refusal(&read_only.join("fanfare.db"));
        assert!(matches!(refused, StoreError::Unusable { .. }), "{refused}");
        assert!(!refused.is_temporary());
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let garbage = "not a database, and longer than the header of one ".repeat(100);
        fs::write(&path, &garbage).unwrap();
        let refused = refusal(&path);
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
    }

    #[test]
    fn another_programs_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        let refused = refusal(&path);
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    }

    #[test]
    fn damage_inside_the_file_is_found() {
        let (_directory, path, store) = fresh();
        for number in 0..500 {
            store.insert_channel(&channel(number, &format!("p{number}"))).unwrap();
        }
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.len() > 16 * 4_096, "the log was folded into the file at close");
        bytes[8 * 4_096..].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        let refused = Store::open(&path).and_then(|store| store.channels()).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
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

    #[test]
    fn a_later_releases_file_is_refused() {
        let (_directory, path, store) = fresh();
        store.connection.pragma_update(None, "user_version", 700).unwrap();
        drop(store);
        let refused = refusal(&path);
        let StoreError::Newer { found: 700, known: SCHEMA_VERSION, .. } = refused else {
            panic!("{refused}");
        };
    }

    #[test]
    fn a_file_of_the_first_release_is_brought_to_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA[0]).unwrap();
        let row = "INSERT INTO channels VALUES
                   ('00000000-0000-0000-0000-000000000001', 'a:*', 'd', '[]', 1, 5, 6)";
        old.execute_batch(row).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let expected = ChannelDefinition {
            id: Uuid::from_u128(1),
            pattern: "a:*".into(),
            description: Some("d".into()),
            webhook_urls: Some(vec![]),
            enabled: true,
            options: ChannelOptions::default(),
            created_at: 5,
            updated_at: 6,
        };
        let store = Store::open(&path).unwrap();
        assert_eq!(store.channels().unwrap(), std::slice::from_ref(&expected));
        drop(store);
        assert_eq!(Store::open(&path).unwrap().channels().unwrap(), [expected]);
    }

    #[test]
    fn a_locked_file_is_reported_as_busy() {
        let (_directory, path, store) = fresh();
        store.connection.busy_timeout(Duration::from_millis(20)).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let refused = store.insert_channel(&channel(1, "a")).unwrap_err();
        assert!(matches!(refused, StoreError::Busy { .. }) && refused.is_temporary(), "{refused}");
        other.execute_batch("ROLLBACK").unwrap();
        store.insert_channel(&channel(1, "a")).unwrap();
    }
}
