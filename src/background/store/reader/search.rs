//! Pages of messages, the newest first.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::super::segments::{self, Segment, TOP};
use super::super::time::millis;
use super::{Deadline, Stop, oldest};
use crate::limits::HISTORY_PAGE_BYTES_MAX;
use crate::message::{MessageId, Position, Sender, StoredMessage};

pub(super) fn position(
    connection: &Connection,
    id: MessageId,
) -> rusqlite::Result<Option<Position>> {
    let query = "SELECT position FROM messages WHERE id = ?1";
    let mut query = connection.prepare_cached(query)?;
    query.query_row([id.as_bytes()], |row| row.get(0)).optional()
}

/// The condition that the messages of a page meet.
#[derive(Clone, Copy)]
pub(super) struct Filter<'q> {
    pub(super) channel_id: Option<Uuid>,
    pub(super) event_name: Option<&'q str>,
}

impl Filter<'_> {
    fn is_any(self) -> bool {
        self.channel_id.is_none() && self.event_name.is_none()
    }

    /// Returns it in SQL, with the definition's id as parameter 3 and the event name as parameter
    /// 4.
    fn condition(self) -> &'static str {
        match (self.channel_id, self.event_name) {
            (None, None) => "?3 IS NULL AND ?4 IS NULL",
            (Some(_), None) => "channel_id = ?3 AND ?4 IS NULL",
            (None, Some(_)) => "event_name = ?4 AND ?3 IS NULL",
            (Some(_), Some(_)) => "channel_id = ?3 AND event_name = ?4",
        }
    }

    /// Returns the table of tallies, by the index that fits the filter. Left to itself, SQLite
    /// reads all tallies of a segment, which takes 0.2 ms for 3,000, and a search may pass over
    /// hundreds of segments.
    fn tallies(self) -> &'static str {
        match self.channel_id {
            None => "tallies INDEXED BY tallies_by_event",
            Some(_) => "tallies",
        }
    }

    /// Returns the definition's id as it is stored.
    fn channel_id(self) -> Option<[u8; 16]> {
        self.channel_id.map(Uuid::into_bytes)
    }
}

/// A search for the positions of a page, the newest first. It passes over segments that hold
/// nothing of the page.
pub(super) struct Search<'q> {
    pub(super) connection: &'q Connection,
    pub(super) deadline: Deadline,
    pub(super) filter: Filter<'q>,
    /// The position behind all complete segments.
    pub(super) tail: Position,
    pub(super) before: Position,
    /// Matches that are still to be skipped.
    pub(super) skip: u64,
    pub(super) limit: usize,
    pub(super) found: Vec<Position>,
}

impl Search<'_> {
    pub(super) fn run(&mut self) -> Result<(), Stop> {
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
        // If nothing is to be skipped, reading the matches of a lowest segment costs no more than
        // finding out whether there are any.
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

    /// Returns whether a complete segment need not be read: it holds no matches, or all of them are
    /// to be skipped.
    fn passes_over(&mut self, segment: Segment) -> Result<bool, Stop> {
        // Counting costs more than finding out whether there is a match.
        let can_skip = self.skip > 0 && segment.end() <= self.before;
        let matches = if self.filter.is_any() {
            segments::header(self.connection, segment)?.map_or(0, |header| header.messages)
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
            // A segment without tallies is divided, because its parts may have theirs.
            return Ok(
                segments::header(self.connection, segment)?.is_none_or(|header| header.is_tallied)
            );
        }
        if can_skip && matches.cast_unsigned() <= self.skip {
            self.skip -= matches.cast_unsigned();
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes the matches of a complete segment of the lowest level.
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

    /// Takes the matches of a segment that lost its tallies, because some of its messages were
    /// removed.
    fn take_untallied(&mut self, segment: Segment) -> Result<(), Stop> {
        match segments::header(self.connection, segment)? {
            Some(header) if !header.is_tallied => {
                self.take_rows(segment.first(), segment.end().min(self.before))
            }
            _ => Ok(()),
        }
    }

    /// Takes the matches from one position up to, but not including, another.
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

pub(super) fn page(
    connection: &Connection,
    deadline: Deadline,
    positions: &[Position],
) -> Result<Vec<StoredMessage>, Stop> {
    let (mut messages, mut bytes) = (Vec::with_capacity(positions.len()), 0);
    for position in positions {
        deadline.check()?;
        let message = message(connection, *position)?;
        bytes += message.payload.len();
        if bytes > HISTORY_PAGE_BYTES_MAX {
            return Err(Stop::PageTooLong);
        }
        messages.push(message);
    }
    Ok(messages)
}

/// Returns the message at a position.
pub(super) fn message(
    connection: &Connection,
    position: Position,
) -> rusqlite::Result<StoredMessage> {
    let query = "SELECT id, event_name, channel_id, channel_name, payload, sender_type, sender_id,
                 ws_audience, wh_audience, wh_delivered, created_at
                 FROM messages WHERE position = ?1";
    connection.prepare_cached(query)?.query_row([position], |row| {
        Ok(StoredMessage {
            id: Uuid::from_bytes(row.get(0)?),
            event_name: row.get(1)?,
            channel_id: Uuid::from_bytes(row.get(2)?),
            channel_name: row.get(3)?,
            payload: row.get(4)?,
            sender: sender(row, 5)?,
            ws_audience: row.get(7)?,
            wh_audience: row.get(8)?,
            wh_delivered: row.get(9)?,
            created_at: millis(row, 10)?,
        })
    })
}

/// Reads a sender from its type in this column and its id in the next.
pub(super) fn sender(row: &Row<'_>, column: usize) -> rusqlite::Result<Sender> {
    match row.get_ref(column)?.as_str()? {
        "system" => Ok(Sender::System),
        _ => Ok(Sender::User(row.get(column + 1)?)),
    }
}
