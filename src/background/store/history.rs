//! Writes history: appends messages at its end and removes old ones.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::segments::{self, Delivered, Segment};
use super::time::integer;
use super::{Store, StoreError, places};
use crate::message::{
    Attempt, Content, MessageId, MessageName, Millis, Position, Publication, Record, Sender,
    StreamPlace,
};

/// The end of history: the position of the next message, and the place of the last one. Everything
/// else is in the file.
#[derive(Debug)]
pub(super) struct History {
    next: Position,
    last: StreamPlace,
}

impl History {
    /// Finds the end of the history in this file.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let next = segments::end_of_history(connection)?.max(places::end(connection)?);
        Ok(Self { next, last: places::at(connection, Position::MAX)? })
    }

    /// Returns the position of the message that was appended last.
    fn newest(&self) -> Position {
        self.next - 1
    }

    /// Appends messages in their order, all or none. Returns for each record whether history had it
    /// already.
    fn append(
        &mut self,
        connection: &mut Connection,
        records: &[Record],
    ) -> rusqlite::Result<Vec<bool>> {
        let transaction = begin(connection)?;
        let (mut next, mut last) = (self.next, self.last);
        let mut known = Vec::with_capacity(records.len());
        for record in records {
            let message = Message::of(record);
            let inserted =
                message.as_ref().map(|one| one.insert(&transaction, next)).transpose()?;
            known.push(inserted == Some(false));
            if inserted != Some(true) {
                continue;
            }
            // A message whose place is not later than that of the one before counts as being there,
            // too, so that places rise.
            if let Some(place) = record.place.filter(|place| *place > last) {
                places::insert(&transaction, next, place)?;
                last = place;
            }
            next += 1;
        }
        segments::complete(&transaction, self.next, next)?;
        transaction.commit()?;
        (self.next, self.last) = (next, last);
        Ok(known)
    }
}

impl Store {
    /// Appends messages to history in their order, all or none. With `sync` they, and all before
    /// them, are on the disk when this returns. Records that are not messages have no place in
    /// history and are left out. Returns for each record whether history had the message already,
    /// because its publisher has published it again: it is not appended.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was appended, and the same may be tried again.
    pub fn append(&mut self, records: &[Record], sync: bool) -> Result<Vec<bool>, StoreError> {
        let appended = self
            .waiting_for_disk(sync, |store| store.history.append(&mut store.connection, records));
        self.written(appended)
    }

    /// Lets everything that was committed be on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        // A commit that waits for the disk waits for all before it, but only one that writes.
        let update = "UPDATE history_settings SET retention_days = retention_days";
        self.commit(true, |connection| connection.execute(update, []).map(drop))
    }

    /// Returns whether history has a message.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn has(&self, name: &MessageName) -> Result<bool, StoreError> {
        has(&self.connection, name).map_err(|fault| self.failed(fault))
    }

    /// Adds to the numbers of webhooks that took these messages. A message that is gone is passed
    /// over.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was counted.
    pub fn count_delivered(&mut self, counts: &[(MessageId, u32)]) -> Result<(), StoreError> {
        let counted = count_delivered(&mut self.connection, counts);
        self.written(counted)
    }

    /// Returns the position of the latest message that was ever appended.
    pub fn newest(&self) -> Position {
        self.history.newest()
    }

    /// Removes at most `rows_max` of the oldest messages up to a position. Returns how many it
    /// removed; 0 if there are no more.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was removed.
    pub fn clear_step(&mut self, up_to: Position, rows_max: u32) -> Result<u64, StoreError> {
        let removed = clear(&mut self.connection, up_to, rows_max);
        self.written(removed)
    }

    /// Removes at most `rows_max` messages from before a time. Returns how many it removed; 0 if
    /// there are no more.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was removed.
    pub fn retain_step(&mut self, before: Millis, rows_max: u32) -> Result<u64, StoreError> {
        let removed = retain(&mut self.connection, before, rows_max);
        self.written(removed)
    }

    /// Returns for how many days messages are kept; `None` for ever.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn retention(&self) -> Result<Option<u32>, StoreError> {
        retention(&self.connection).map_err(|fault| self.failed(fault))
    }

    /// Sets for how many days messages are kept; `None` for ever.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn set_retention(&mut self, days: Option<u32>) -> Result<(), StoreError> {
        let set = set_retention(&self.connection, days);
        self.written(set)
    }
}

fn has(connection: &Connection, name: &MessageName) -> rusqlite::Result<bool> {
    let MessageName { id, channel, sender } = name;
    let (sender_type, sender_id) = sender.parts();
    let query = "SELECT 1 FROM messages WHERE id = ?5 OR id = ?1 AND channel_name = ?2
                 AND sender_type = ?3 AND sender_id IS ?4";
    let other = other_id(*id, channel, sender);
    let own = params![id.as_bytes(), channel, sender_type, sender_id, other.as_bytes()];
    connection.prepare_cached(query)?.exists(own)
}

/// Returns the id under which history keeps a message if its own id is taken by another one. A
/// repetition of the message has the same one.
pub(super) fn other_id(id: MessageId, channel: &str, sender: &Sender) -> MessageId {
    let (sender_type, sender_id) = sender.parts();
    let mut hash = Sha256::new();
    hash.update(id.as_bytes());
    hash.update(channel);
    hash.update([0]);
    hash.update(sender_type);
    hash.update(sender_id.unwrap_or_default());
    let digest = hash.finalize();
    uuid::Builder::from_custom_bytes(std::array::from_fn(|at| digest[at])).into_uuid()
}

/// Adds to the number of webhooks that took each message. A message that is gone is passed over.
fn count_delivered(
    connection: &mut Connection,
    counts: &[(MessageId, u32)],
) -> rusqlite::Result<()> {
    let transaction = begin(connection)?;
    let mut delivered = Vec::with_capacity(counts.len());
    for (id, count) in counts {
        let update = "UPDATE messages SET wh_delivered = wh_delivered + ?2 WHERE id = ?1
                      RETURNING position, channel_id, event_name";
        let mut update = transaction.prepare_cached(update)?;
        let counted = update.query_row(params![id.as_bytes(), count], |row| {
            let (position, channel_id) = (row.get(0)?, Uuid::from_bytes(row.get(1)?));
            Ok(Delivered { position, channel_id, event_name: row.get(2)?, count: *count })
        });
        delivered.extend(counted.optional()?);
    }
    segments::count_delivered(&transaction, &delivered)?;
    transaction.commit()
}

/// Removes at most `rows_max` of the oldest messages up to a position. Returns how many.
fn clear(connection: &mut Connection, up_to: Position, rows_max: u32) -> rusqlite::Result<u64> {
    let transaction = begin(connection)?;
    let oldest = "SELECT position FROM messages WHERE position <= ?1 ORDER BY position LIMIT ?2";
    let positions = positions(&transaction, oldest, params![up_to, rows_max])?;
    remove(transaction, &positions)
}

/// Removes at most `rows_max` messages from before a time. Returns how many.
fn retain(connection: &mut Connection, before: Millis, rows_max: u32) -> rusqlite::Result<u64> {
    let (before, transaction) = (integer(before), begin(connection)?);
    // A clock that was set back puts older messages behind younger ones. So every segment that
    // begins early enough is searched, wherever it is.
    let stale = "SELECT number FROM segments WHERE level = 0 AND first_at < ?1 LIMIT 1";
    while let Some(number) = first(&transaction, stale, before)? {
        let segment = Segment { level: 0, number };
        let old = "SELECT position FROM messages
                   WHERE position >= ?1 AND position < ?2 AND created_at < ?3 LIMIT ?4";
        let bounds = params![segment.first(), segment.end(), before, rows_max];
        let positions = positions(&transaction, old, bounds)?;
        if positions.len() < rows_max as usize {
            // The rest of the segment is younger; the next search passes it over.
            let update = "UPDATE segments SET first_at = ?2 WHERE level = 0 AND number = ?1";
            transaction.prepare_cached(update)?.execute(params![number, before])?;
        }
        if !positions.is_empty() {
            return remove(transaction, &positions);
        }
    }
    let old = "SELECT position FROM messages WHERE position >= ?1 AND created_at < ?2 LIMIT ?3";
    let bounds = params![segments::tail(&transaction)?, before, rows_max];
    let positions = positions(&transaction, old, bounds)?;
    remove(transaction, &positions)
}

/// Returns for how many days messages are kept; `None` for ever.
pub(super) fn retention(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let query = "SELECT retention_days FROM history_settings";
    connection.prepare_cached(query)?.query_row([], |row| row.get(0))
}

pub(super) fn set_retention(connection: &Connection, days: Option<u32>) -> rusqlite::Result<()> {
    let update = "UPDATE history_settings SET retention_days = ?1";
    connection.prepare_cached(update)?.execute([days])?;
    Ok(())
}

/// Begins a transaction that takes the write lock at once. A later lock could be denied half-way,
/// because another process writes.
fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// A record whose content is a message, taken apart.
struct Message<'a> {
    record: &'a Record,
    event: &'a str,
    payload: &'a str,
    sender: &'a Sender,
}

impl<'a> Message<'a> {
    /// Returns `None` if the content is not a message, which has no place in history.
    fn of(record: &'a Record) -> Option<Self> {
        let Content::Message { event, payload, sender } = &record.publication.content else {
            return None;
        };
        Some(Self { record, event, payload, sender })
    }

    /// Inserts the message at this position. Returns false if history has it already.
    fn insert(&self, transaction: &Transaction<'_>, position: Position) -> rusqlite::Result<bool> {
        if self.insert_as(transaction, position, self.record.publication.id)? {
            return Ok(true);
        }
        // Publishers may choose ids, so that one may have taken that of another's message. History
        // keeps both, the later one under an id that no publisher chose.
        Ok(!self.is_known(transaction)?
            && self.insert_as(transaction, position, self.other_id())?)
    }

    /// Inserts the message under this id. Returns false if another one has it.
    fn insert_as(
        &self,
        transaction: &Transaction<'_>,
        position: Position,
        id: MessageId,
    ) -> rusqlite::Result<bool> {
        let Record { publication, definition, audience, .. } = self.record;
        let webhooks = definition.webhook_urls.as_ref().map_or(0, Vec::len).cast_signed();
        let insert = "INSERT INTO messages (position, id, created_at, channel_id, event_name,
                      ws_audience, wh_audience, wh_delivered, sender_type, sender_id,
                      channel_name, payload)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11)
                      ON CONFLICT (id) DO NOTHING";
        let (sender_type, sender_id) = self.sender.parts();
        let inserted = transaction.prepare_cached(insert)?.execute(params![
            position,
            id.as_bytes(),
            integer(publication.at),
            definition.id.as_bytes(),
            self.event,
            audience.total(),
            webhooks,
            sender_type,
            sender_id,
            publication.channel.as_str(),
            self.payload,
        ])?;
        Ok(inserted > 0)
    }

    /// Returns whether the message with this one's id is this one. What a cluster's stream has
    /// recognized as a repetition is, whatever its publisher has changed.
    fn is_known(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let Publication { id, channel, .. } = &*self.record.publication;
        let (sender_type, sender_id) = self.sender.parts();
        let query = "SELECT 1 FROM messages WHERE id = ?1 AND channel_name = ?2
                     AND sender_type = ?3 AND sender_id IS ?4
                     AND (?5 OR event_name = ?6 AND payload = ?7)";
        let own = params![
            id.as_bytes(),
            channel.as_str(),
            sender_type,
            sender_id,
            self.record.attempt != Attempt::First,
            self.event,
            self.payload
        ];
        transaction.prepare_cached(query)?.exists(own)
    }

    fn other_id(&self) -> MessageId {
        let Publication { id, channel, .. } = &*self.record.publication;
        other_id(*id, channel.as_str(), self.sender)
    }
}

fn positions(
    transaction: &Transaction<'_>,
    query: &str,
    bounds: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Position>> {
    transaction.prepare_cached(query)?.query_map(bounds, |row| row.get(0))?.collect()
}

fn remove(transaction: Transaction<'_>, positions: &[Position]) -> rusqlite::Result<u64> {
    for position in positions {
        let delete = "DELETE FROM messages WHERE position = ?1";
        transaction.prepare_cached(delete)?.execute([position])?;
    }
    segments::forget(&transaction, positions)?;
    places::forget(&transaction)?;
    transaction.commit()?;
    Ok(positions.len() as u64)
}

fn first(
    transaction: &Transaction<'_>,
    query: &str,
    before: i64,
) -> rusqlite::Result<Option<Position>> {
    transaction.prepare_cached(query)?.query_row([before], |row| row.get(0)).optional()
}
