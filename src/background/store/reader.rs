//! Reading history and documents, beside the thread that writes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use uuid::Uuid;

use super::StoreError;
use super::integer::integer;
use super::segments::{self, Header, Segment, TOP, Tally};
use super::sqlite::{BUSY_TIMEOUT, failed, millis};
use super::{documents, history};
use crate::limits::{EVENTS_COUNTED_MAX, HISTORY_PAGE_BYTES_MAX, QUERY_MS_MAX, TOP_EVENTS_MAX};
use crate::message::{
    Document, DocumentKey, MessageId, MessageQuery, Position, Sender, Stats, StatsQuery,
    StoredMessage,
};

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

fn position(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<Position>> {
    let query = "SELECT position FROM messages WHERE id = ?1";
    let mut query = connection.prepare_cached(query)?;
    query.query_row([id.as_bytes()], |row| row.get(0)).optional()
}

/// Which messages match.
#[derive(Clone, Copy)]
struct Filter<'q> {
    channel_id: Option<Uuid>,
    event_name: Option<&'q str>,
}

impl Filter<'_> {
    fn is_any(self) -> bool {
        self.channel_id.is_none() && self.event_name.is_none()
    }

    /// As the condition of a query that has the definition's id as parameter 3 and the event name
    /// as parameter 4.
    fn condition(self) -> &'static str {
        match (self.channel_id, self.event_name) {
            (None, None) => "?3 IS NULL AND ?4 IS NULL",
            (Some(_), None) => "channel_id = ?3 AND ?4 IS NULL",
            (None, Some(_)) => "event_name = ?4 AND ?3 IS NULL",
            (Some(_), Some(_)) => "channel_id = ?3 AND event_name = ?4",
        }
    }

    /// The tallies, by the way that leads to what matches. Left to itself, SQLite reads all of a
    /// segment's, which takes 0.2 ms where there are 3,000, and a search may pass over hundreds.
    fn tallies(self) -> &'static str {
        match self.channel_id {
            None => "tallies INDEXED BY tallies_by_event",
            Some(_) => "tallies",
        }
    }

    /// The id as it is stored.
    fn channel_id(self) -> Option<[u8; 16]> {
        self.channel_id.map(Uuid::into_bytes)
    }
}

/// Looks for the positions of a page, the newest first, and passes over the segments that hold
/// nothing of it.
struct Search<'q> {
    connection: &'q Connection,
    deadline: Deadline,
    filter: Filter<'q>,
    /// Where complete segments end.
    tail: Position,
    before: Position,
    /// Matches that are still to be passed over.
    skip: u64,
    limit: usize,
    found: Vec<Position>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.take_rows(self.tail, self.before)?;
        let Some(oldest) = oldest(self.connection)? else { return Ok(()) };
        let oldest = Segment::holding(TOP, oldest).number;
        for number in (oldest..=Segment::holding(TOP, self.tail).number).rev() {
            self.visit(Segment { level: TOP, number })?;
        }
        Ok(())
    }

    fn visit(&mut self, segment: Segment) -> Result<(), Stop> {
        let is_out = segment.first() >= self.before.min(self.tail);
        if is_out || self.found.len() == self.limit {
            return Ok(());
        }
        self.deadline.check()?;
        // Where nothing is to be skipped, taking what a lowest segment holds of it costs no more
        // than finding out whether it holds any.
        let is_taken = segment.level == 0 && self.skip == 0;
        if !is_taken && segment.end() <= self.tail && self.passes_over(segment)? {
            return Ok(());
        }
        if segment.level == 0 {
            return self.take(segment);
        }
        for part in segment.parts().rev() {
            self.visit(part)?;
        }
        Ok(())
    }

    /// Whether a complete segment need not be looked into: it holds nothing that matches, or all of
    /// it is to be skipped.
    fn passes_over(&mut self, segment: Segment) -> Result<bool, Stop> {
        // Counting is dearer than looking whether there is any.
        let can_skip = self.skip > 0 && segment.end() <= self.before;
        let matches = if self.filter.is_any() {
            header(self.connection, segment)?.map_or(0, |header| header.messages)
        } else {
            let what = if can_skip { "coalesce(sum(messages), 0)" } else { "count(*) > 0" };
            let query = format!(
                "SELECT {what} FROM (SELECT messages FROM {}
                 WHERE level = ?1 AND segment = ?2 AND {} LIMIT ?5)",
                self.filter.tallies(),
                self.filter.condition()
            );
            let tallies_max = if can_skip { -1 } else { 1 };
            let mut query = self.connection.prepare_cached(&query)?;
            let (level, number) = (segment.level, segment.number);
            let (channel_id, event_name) = (self.filter.channel_id(), self.filter.event_name);
            let key = params![level, number, channel_id, event_name, tallies_max];
            query.query_row(key, |row| row.get(0))?
        };
        if matches == 0 {
            // Where there are no tallies, those of the parts say more.
            return Ok(header(self.connection, segment)?.is_none_or(|header| header.is_tallied));
        }
        if can_skip && matches.cast_unsigned() <= self.skip {
            self.skip -= matches.cast_unsigned();
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes what a complete segment of the lowest level holds.
    fn take(&mut self, segment: Segment) -> Result<(), Stop> {
        if self.filter.is_any() {
            return self.take_rows(segment.first(), segment.end().min(self.before));
        }
        let query = format!(
            "SELECT places FROM {} WHERE level = ?1 AND segment = ?2 AND {}",
            self.filter.tallies(),
            self.filter.condition()
        );
        let mut query = self.connection.prepare_cached(&query)?;
        let (channel_id, event_name) = (self.filter.channel_id(), self.filter.event_name);
        let mut rows =
            query.query(params![segment.level, segment.number, channel_id, event_name])?;
        let mut positions = Vec::new();
        while let Some(row) = rows.next()? {
            let places = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            positions.extend(segments::positions(segment, places));
        }
        if positions.is_empty() {
            return self.take_untallied(segment);
        }
        positions.retain(|position| *position < self.before);
        positions.sort_unstable();
        self.keep(positions.into_iter().rev());
        Ok(())
    }

    /// Takes what a segment holds that has no tallies, because some of it was removed.
    fn take_untallied(&mut self, segment: Segment) -> Result<(), Stop> {
        match header(self.connection, segment)? {
            Some(header) if !header.is_tallied => {
                self.take_rows(segment.first(), segment.end().min(self.before))
            }
            _ => Ok(()),
        }
    }

    /// Takes what matches among the rows from one position to another.
    fn take_rows(&mut self, from: Position, to: Position) -> Result<(), Stop> {
        let query = format!(
            "SELECT position FROM messages WHERE position >= ?1 AND position < ?2 AND {}
             ORDER BY position DESC",
            self.filter.condition()
        );
        let mut query = self.connection.prepare_cached(&query)?;
        let key = params![from, to, self.filter.channel_id(), self.filter.event_name];
        let positions = query.query_map(key, |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
        self.keep(positions.into_iter());
        Ok(())
    }

    fn keep(&mut self, matches: impl ExactSizeIterator<Item = Position>) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(matches.len());
        self.skip -= skipped as u64;
        let room = self.limit - self.found.len();
        self.found.extend(matches.skip(skipped).take(room));
    }
}

/// The oldest message's position.
fn oldest(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    connection.query_row("SELECT min(position) FROM messages", [], |row| row.get(0))
}

fn header(connection: &Connection, segment: Segment) -> rusqlite::Result<Option<Header>> {
    segments::header(connection, segment)
}

fn page(
    connection: &Connection,
    deadline: Deadline,
    positions: &[Position],
) -> Result<Vec<StoredMessage>, Stop> {
    let query = "SELECT id, event_name, channel_id, channel_name, payload, sender_type, sender_id,
                 ws_audience, wh_audience, wh_delivered, created_at
                 FROM messages WHERE position = ?1";
    let mut query = connection.prepare_cached(query)?;
    let (mut messages, mut bytes) = (Vec::with_capacity(positions.len()), 0);
    for position in positions {
        deadline.check()?;
        let message = query.query_row([position], message)?;
        bytes += message.payload.len();
        if bytes > HISTORY_PAGE_BYTES_MAX {
            return Err(Stop::PageTooLong);
        }
        messages.push(message);
    }
    Ok(messages)
}

fn message(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    let sender_type: Box<str> = row.get(5)?;
    let sender = match &*sender_type {
        "system" => Sender::System,
        _ => Sender::User(row.get(6)?),
    };
    Ok(StoredMessage {
        id: Uuid::from_bytes(row.get(0)?),
        event_name: row.get(1)?,
        channel_id: Uuid::from_bytes(row.get(2)?),
        channel_name: row.get(3)?,
        payload: row.get(4)?,
        sender,
        ws_audience: row.get(7)?,
        wh_audience: row.get(8)?,
        wh_delivered: row.get(9)?,
        created_at: millis(row, 10)?,
    })
}

/// Adds up what there is, whole segments at a time where they are new enough as a whole.
struct Count<'q> {
    connection: &'q Connection,
    deadline: Deadline,
    /// Where complete segments end.
    tail: Position,
    since: i64,
    channel_id: Option<Uuid>,
    sum: Tally,
    events: HashMap<Box<str>, i64>,
}

impl Count<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.add_rows(self.tail, Position::MAX)?;
        let Some(oldest) = oldest(self.connection)? else { return Ok(()) };
        let oldest = Segment::holding(TOP, oldest).number;
        for number in oldest..=Segment::holding(TOP, self.tail).number {
            self.visit(Segment { level: TOP, number })?;
        }
        Ok(())
    }

    fn visit(&mut self, segment: Segment) -> Result<(), Stop> {
        if segment.first() >= self.tail {
            return Ok(());
        }
        self.deadline.check()?;
        if segment.end() <= self.tail {
            let Some(header) = header(self.connection, segment)? else { return Ok(()) };
            if header.last_at < self.since {
                return Ok(());
            }
            if header.first_at >= self.since && header.is_tallied {
                return self.add_tallies(segment);
            }
        }
        if segment.level == 0 {
            return self.add_rows(segment.first(), segment.end());
        }
        for part in segment.parts() {
            self.visit(part)?;
        }
        Ok(())
    }

    fn add_tallies(&mut self, segment: Segment) -> Result<(), Stop> {
        let condition = if self.channel_id.is_some() { "channel_id = ?3" } else { "?3 IS NULL" };
        let query = format!(
            "SELECT event_name, messages, wh_audience, wh_delivered FROM tallies
             WHERE level = ?1 AND segment = ?2 AND {condition}"
        );
        let mut query = self.connection.prepare_cached(&query)?;
        let channel_id = self.channel_id.map(Uuid::into_bytes);
        self.add(query.query(params![segment.level, segment.number, channel_id])?)
    }

    fn add_rows(&mut self, from: Position, to: Position) -> Result<(), Stop> {
        let query = "SELECT event_name, 1, wh_audience, wh_delivered FROM messages
                     WHERE position >= ?1 AND position < ?2 AND created_at >= ?3
                     AND (?4 IS NULL OR channel_id = ?4)";
        let mut query = self.connection.prepare_cached(query)?;
        let channel_id = self.channel_id.map(Uuid::into_bytes);
        self.add(query.query(params![from, to, self.since, channel_id])?)
    }

    fn add(&mut self, mut rows: rusqlite::Rows<'_>) -> Result<(), Stop> {
        while let Some(row) = rows.next()? {
            let (messages, wh_audience, wh_delivered) = (row.get(1)?, row.get(2)?, row.get(3)?);
            self.sum.add(Tally { messages, wh_audience, wh_delivered });
            let event_name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            if let Some(count) = self.events.get_mut(event_name) {
                *count += messages;
                continue;
            }
            if self.events.len() == EVENTS_COUNTED_MAX {
                return Err(Stop::TooSlow);
            }
            self.events.insert(event_name.into(), messages);
        }
        Ok(())
    }

    fn into_stats(self, retention_days: Option<u32>) -> Stats {
        let mut events: Vec<(Box<str>, i64)> = self.events.into_iter().collect();
        let by_count = |one: &(Box<str>, i64), other: &(Box<str>, i64)| {
            other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0))
        };
        events.sort_unstable_by(by_count);
        events.truncate(TOP_EVENTS_MAX);
        Stats {
            messages: self.sum.messages.cast_unsigned(),
            wh_audience: self.sum.wh_audience.cast_unsigned(),
            wh_delivered: self.sum.wh_delivered.cast_unsigned(),
            top_events: events
                .into_iter()
                .map(|(name, count)| (name, count.cast_unsigned()))
                .collect(),
            retention_days,
        }
    }
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
