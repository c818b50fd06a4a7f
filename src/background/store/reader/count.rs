//! Sums over messages: adds the tallies of whole segments, and reads the rows of the others.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::segments::{self, Segment, TOP, Tally};
use super::{Deadline, Stop, oldest};
use crate::cluster::history::Share;
use crate::limits::EVENTS_COUNTED_MAX;
use crate::message::Position;

/// A count of messages. Segments all of whose messages are new enough are added as a whole.
pub(super) struct Count<'q> {
    pub(super) connection: &'q Connection,
    pub(super) deadline: Deadline,
    /// The position behind all complete segments.
    pub(super) tail: Position,
    pub(super) since: i64,
    pub(super) channel_id: Option<Uuid>,
    pub(super) sum: Tally,
    pub(super) events: HashMap<Box<str>, i64>,
}

impl Count<'_> {
    pub(super) fn run(&mut self) -> Result<(), Stop> {
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
            let Some(header) = segments::header(self.connection, segment)? else { return Ok(()) };
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

    pub(super) fn into_share(self, retention_days: Option<u32>) -> Share {
        let events = self.events.into_iter();
        Share {
            messages: self.sum.messages.cast_unsigned(),
            wh_audience: self.sum.wh_audience.cast_unsigned(),
            wh_delivered: self.sum.wh_delivered.cast_unsigned(),
            events: events.map(|(name, count)| (name, count.cast_unsigned())).collect(),
            retention_days,
        }
    }
}
