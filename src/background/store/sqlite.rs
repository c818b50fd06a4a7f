//! The embedded store: one SQLite file.

use std::cell::Cell;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::StoreError;
use super::documents::Documents;
use super::fault::failed;
use super::file::{self, BUSY_TIMEOUT};
use super::history::History;
use super::schema::{self, SCHEMA_VERSION};

/// An open store. Dropping it closes the file; writes that were reported as done stay written.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Device and inode at the start, to notice a file that was removed or replaced.
    identity: Option<(u64, u64)>,
    pub(super) history: History,
    pub(super) documents: Documents,
    /// Commits go to a write-ahead log, so that each can choose whether to wait for the disk.
    has_log: bool,
    /// The last write failed, and not because of its caller's mistake.
    is_ailing: Cell<bool>,
}

impl Store {
    /// Opens the store in this file. Creates the file and its directories if they are missing, for
    /// the node's own user only, because webhook URLs may carry secrets.
    ///
    /// # Errors
    ///
    /// `Unusable`, `Newer`, `Corrupt`, `Busy` or `DiskFull`, each with the path in its message.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let (mut connection, has_log) = file::open(path)?;
        schema::prepare(&mut connection, path)?;
        let history = History::open(&connection).map_err(|fault| failed(path, fault))?;
        let documents = Documents::open(&connection).map_err(|fault| failed(path, fault))?;
        let (identity, is_ailing) = (file::identity(path), Cell::new(false));
        let path = path.to_owned();
        Ok(Self { connection, path, identity, history, documents, has_log, is_ailing })
    }

    /// Runs `work` in a transaction. With `sync` its changes, and all before them, are on the disk
    /// when this returns.
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

    /// Runs `work`, and with `sync` lets its commits wait for the disk. Without a log every commit
    /// waits.
    pub(super) fn waiting_for_disk<T>(
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

    /// Checks that the store works: its file is in place, can be read, and can be written again if
    /// the last write failed. A store without failures is not written to and locks are not waited
    /// for, so that frequent probes are cheap.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn probe(&self) -> Result<(), StoreError> {
        let read = "SELECT EXISTS (SELECT 1 FROM channels)";
        let read = self.connection.query_row(read, [], |_| Ok(()));
        read.map_err(|fault| self.failed(fault))?;
        if file::identity(&self.path) != self.identity {
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

    /// Brings everything from the write-ahead log into the file, and the file to the disk. If
    /// another process, such as a backup, reads the file meanwhile, brings the log itself to the
    /// disk; the next start goes on from there.
    ///
    /// # Errors
    ///
    /// The database's own failures; what was reported as written is in the log all the same.
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
        tracing::warn!("another process uses the store: new data stays in its log");
        let log = self.path.with_extension("db-wal");
        match File::open(&log).and_then(|log| log.sync_all()) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => {
                Err(StoreError::unusable(log, &fault))
            }
            _ => Ok(()),
        }
    }

    /// Runs `work` without waiting for the locks of other processes.
    fn at_once<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let done = work(&self.connection);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        done
    }

    /// Runs a statement, and records whether it failed. A constraint that is violated is the
    /// caller's mistake.
    pub(super) fn execute(
        &self,
        statement: &str,
        row: impl rusqlite::Params,
    ) -> rusqlite::Result<usize> {
        let written = self.connection.prepare_cached(statement)?.execute(row);
        self.noted(written)
    }

    /// Records whether a write failed otherwise than by a caller's mistake.
    pub(super) fn noted<T>(&self, written: rusqlite::Result<T>) -> rusqlite::Result<T> {
        let violates = |fault: &rusqlite::Error| {
            fault.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
        };
        self.is_ailing.set(written.as_ref().is_err_and(|fault| !violates(fault)));
        written
    }

    /// Records whether a write failed, which cannot be its caller's mistake, and converts its
    /// error.
    pub(super) fn written<T>(&self, written: rusqlite::Result<T>) -> Result<T, StoreError> {
        self.is_ailing.set(written.is_err());
        written.map_err(|fault| self.failed(fault))
    }

    /// Runs `work` in a transaction.
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

    /// Runs a read, and converts its error.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|fault| self.failed(fault))
    }

    pub(super) fn failed(&self, fault: rusqlite::Error) -> StoreError {
        failed(&self.path, fault)
    }
}

#[cfg(test)]
mod tests;
