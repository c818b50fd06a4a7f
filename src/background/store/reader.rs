//! Reads history and documents, beside the thread that writes them.

mod count;
mod search;
mod shares;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::fault::failed;
use super::file::BUSY_TIMEOUT;
use super::segments::{self, Tally};
use super::time::integer;
use super::{StoreError, documents, history};
use crate::cluster::history::Share;
use crate::limits::QUERY_MS_MAX;
use crate::message::{
    Document, DocumentKey, MessageId, MessageQuery, Position, Stats, StatsQuery, StoredMessage,
};
use count::Count;
use search::{Filter, Search, page, position};

/// A second connection to a store's file, for reading only. Each query sees the file as it was when
/// the query began, and writers go on meanwhile.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    /// Time for one query.
    patience: Duration,
}

impl Reader {
    /// Opens a file that a [`Store`](super::Store) has created.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            Ok(connection)
        };
        let connection = open().map_err(|fault| failed(&path, fault))?;
        Ok(Self { connection, path, patience: Duration::from_millis(QUERY_MS_MAX) })
    }

    /// Returns the messages that a query asks for, the newest first.
    ///
    /// # Errors
    /// `UnknownMessage`, `PageTooLong`, `TooSlow`; the database's own failures.
    pub fn messages(&mut self, query: &MessageQuery) -> Result<Vec<StoredMessage>, StoreError> {
        self.ask(|connection, deadline| {
            let filter =
                Filter { channel_id: query.channel_id, event_name: query.event_name.as_deref() };
            let before = match query.before {
                Some(id) => position(connection, id)?.ok_or(Stop::UnknownMessage(id))?,
                None => Position::MAX,
            };
            let tail = segments::tail(connection)?;
            let (skip, limit, found) = (query.offset, query.limit as usize, Vec::new());
            let mut search =
                Search { connection, deadline, filter, tail, before, skip, limit, found };
            search.run()?;
            page(connection, deadline, &search.found)
        })
    }

    /// Counts messages, in total and by event name, and their webhook calls.
    ///
    /// # Errors
    /// `TooSlow`; the database's own failures.
    pub fn stats(&mut self, query: StatsQuery) -> Result<Stats, StoreError> {
        self.ask(|connection, deadline| Ok(share(connection, deadline, query)?.into_stats()))
    }

    /// Returns a document, even one that was deleted; `None` if the store does not know it.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn document(&mut self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.ask(|connection, _| Ok(documents::find(connection, key)?))
    }

    /// Runs a query on one state of the file.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&Connection, Deadline) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let deadline = Deadline(Instant::now() + self.patience);
        let ask = || {
            let transaction = self.connection.transaction()?;
            question(&transaction, deadline)
        };
        ask().map_err(|stop| match stop {
            Stop::UnknownMessage(id) => StoreError::UnknownMessage { id },
            Stop::PageTooLong => StoreError::PageTooLong,
            Stop::TooSlow => StoreError::TooSlow,
            Stop::Database(fault) => failed(&self.path, fault),
        })
    }
}

/// Counts messages.
fn share(connection: &Connection, deadline: Deadline, query: StatsQuery) -> Result<Share, Stop> {
    let tail = segments::tail(connection)?;
    let since = query.since.map_or(i64::MIN, integer);
    let (channel_id, sum, events) = (query.channel_id, Tally::default(), HashMap::new());
    let mut count = Count { connection, deadline, tail, since, channel_id, sum, events };
    count.run()?;
    Ok(count.into_share(history::retention(connection)?))
}

/// Why a query ends without an answer.
#[derive(Debug)]
enum Stop {
    UnknownMessage(MessageId),
    PageTooLong,
    TooSlow,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(fault: rusqlite::Error) -> Self {
        Self::Database(fault)
    }
}

/// The time at which a query is given up. Every statement reads at most one segment, so that it is
/// enough to check between statements.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn check(self) -> Result<(), Stop> {
        if Instant::now() < self.0 { Ok(()) } else { Err(Stop::TooSlow) }
    }
}

/// Returns the position of the oldest message.
fn oldest(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    connection.query_row("SELECT min(position) FROM messages", [], |row| row.get(0))
}

#[cfg(test)]
impl Reader {
    /// Gives queries no time from now on.
    pub(super) fn give_up_at_once(&mut self) {
        self.patience = Duration::ZERO;
    }

    /// Returns all messages as a query finds them while `happening` runs in its middle.
    pub(super) fn during(&mut self, happening: impl FnOnce()) -> Vec<StoredMessage> {
        let asked = self.ask(|connection, deadline| {
            // The transaction sees the state of its first read.
            let tail = segments::tail(connection)?;
            happening();
            let filter = Filter { channel_id: None, event_name: None };
            let (before, limit) = (Position::MAX, usize::MAX);
            let found = Vec::new();
            let mut search =
                Search { connection, deadline, filter, tail, before, skip: 0, limit, found };
            search.run()?;
            page(connection, deadline, &search.found)
        });
        asked.expect("the file can be read")
    }
}
