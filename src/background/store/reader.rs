//! Reading history and documents, beside the thread that writes it.

mod count;
mod search;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::fault::failed;
use super::file::BUSY_TIMEOUT;
use super::segments::{self, Tally};
use super::time::integer;
use super::{StoreError, documents, history};
use crate::limits::QUERY_MS_MAX;
use crate::message::{
    Document, DocumentKey, MessageId, MessageQuery, Position, Stats, StatsQuery, StoredMessage,
};
use count::Count;
use search::{Filter, Search, page, position};

/// A second way into a store's file, for reading only. Each question sees the file as it was when
/// it was asked, and writers go on meanwhile.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    patience: Duration,
}

impl Reader {
    /// Opens a file that a [`Store`](super::Store) has made.
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

    /// The messages that a query asks for, the newest first.
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

    /// How many messages there are, and of what.
    ///
    /// # Errors
    /// `TooSlow`; the database's own failures.
    pub fn stats(&mut self, query: StatsQuery) -> Result<Stats, StoreError> {
        self.ask(|connection, deadline| {
            let tail = segments::tail(connection)?;
            let since = query.since.map_or(i64::MIN, integer);
            let (channel_id, sum, events) = (query.channel_id, Tally::default(), HashMap::new());
            let mut count = Count { connection, deadline, tail, since, channel_id, sum, events };
            count.run()?;
            let retention_days = history::retention(connection)?;
            Ok(count.into_stats(retention_days))
        })
    }

    /// A document, one that was deleted included.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn document(&mut self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.ask(|connection, _| Ok(documents::find(connection, key)?))
    }

    /// Puts one question to one state of the file.
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

/// Why there is no answer.
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

/// When a question is given up. Every statement reads one segment or less, so that it is enough to
/// look between them.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn check(self) -> Result<(), Stop> {
        if Instant::now() < self.0 { Ok(()) } else { Err(Stop::TooSlow) }
    }
}

/// The oldest message's position.
fn oldest(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    connection.query_row("SELECT min(position) FROM messages", [], |row| row.get(0))
}

#[cfg(test)]
impl Reader {
    /// Has no patience from now on.
    pub(super) fn give_up_at_once(&mut self) {
        self.patience = Duration::ZERO;
    }

    /// All messages, as they are found after something happened in the middle of the question.
    pub(super) fn during(&mut self, happening: impl FnOnce()) -> Vec<StoredMessage> {
        let asked = self.ask(|connection, deadline| {
            // The state is the one of the first look.
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
