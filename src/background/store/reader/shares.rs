//! What a node tells others of its share of history.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::super::history::other_id;
use super::super::{StoreError, places, segments};
use super::search::{Filter, Search, message, position, sender};
use super::{Deadline, Reader, Stop, share};
use crate::cluster::history::{self, Below, Held, Share};
use crate::message::{MessageId, Position, StatsQuery, StoredMessage};

impl Reader {
    /// Returns where the store has the message with this id; `None` if it does not have it.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn locate(&mut self, id: MessageId) -> Result<Option<Held>, StoreError> {
        self.ask(|connection, deadline| {
            let found = position(connection, id)?;
            Ok(held(connection, deadline, found.as_slice())?.pop())
        })
    }

    /// Finds messages before the end of a search, the newest first, without the newest `skip`.
    ///
    /// # Errors
    /// `TooSlow`; the database's own failures.
    pub fn find(
        &mut self,
        filter: &history::Filter,
        below: Below,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Held>, StoreError> {
        let filter =
            Filter { channel_id: filter.channel_id, event_name: filter.event_name.as_deref() };
        self.ask(|connection, deadline| {
            let before = match below {
                Below::End => Position::MAX,
                Below::Position(position) => position,
                Below::Place(place) => places::first_from(connection, place)?,
            };
            let tail = segments::tail(connection)?;
            let (limit, found) = (limit as usize, Vec::new());
            let mut search =
                Search { connection, deadline, filter, tail, before, skip, limit, found };
            search.run()?;
            held(connection, deadline, &search.found)
        })
    }

    /// Returns the messages at these positions that are still there.
    ///
    /// # Errors
    /// `TooSlow`; the database's own failures.
    pub fn read(
        &mut self,
        positions: &[Position],
    ) -> Result<Vec<(Position, StoredMessage)>, StoreError> {
        self.ask(|connection, deadline| {
            let mut messages = Vec::with_capacity(positions.len());
            for position in positions {
                deadline.check()?;
                let found = message(connection, *position).optional()?;
                messages.extend(found.map(|message| (*position, message)));
            }
            Ok(messages)
        })
    }

    /// Counts messages, in total and by event name, and their webhook calls.
    ///
    /// # Errors
    /// `TooSlow`; the database's own failures.
    pub fn share(&mut self, query: StatsQuery) -> Result<Share, StoreError> {
        self.ask(|connection, deadline| share(connection, deadline, query))
    }
}

/// Returns what other nodes need to know of the messages at these positions.
fn held(
    connection: &Connection,
    deadline: Deadline,
    positions: &[Position],
) -> Result<Vec<Held>, Stop> {
    let query = "SELECT id, channel_name, sender_type, sender_id, octet_length(payload)
                 FROM messages WHERE position = ?1";
    let mut query = connection.prepare_cached(query)?;
    let mut all = Vec::with_capacity(positions.len());
    for &position in positions {
        deadline.check()?;
        let (twin, bytes) = query.query_row(params![position], |row| {
            let channel = row.get_ref(1)?.as_str()?;
            let twin = other_id(Uuid::from_bytes(row.get(0)?), channel, &sender(row, 2)?);
            Ok((twin, row.get::<_, i64>(4)?.cast_unsigned()))
        })?;
        all.push(Held { place: places::at(connection, position)?, position, twin, bytes });
    }
    Ok(all)
}
