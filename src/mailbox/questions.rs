//! The closed lists of what may be asked of the threads of the store.

use uuid::Uuid;

use super::answers::{Health, StoreResult, Written};
use super::ticket::Ticket;
use crate::message::{
    ChannelChange, ChannelDefinition, Document, DocumentKey, DocumentWrite, Durability,
    MessageQuery, Millis, Permissions, Record, Stats, StatsQuery, StoredMessage,
};

/// Requests to the thread that writes.
#[derive(Debug)]
pub enum Wish {
    /// Changes a channel definition. The answer is the definition after the change, or the deleted
    /// one.
    Change(Ticket<StoreResult<Box<ChannelDefinition>>>, StoreChange),
    /// Replaces all policies. The answer is the policies after that.
    Permit(Ticket<StoreResult<Permissions>>, Permissions),
    /// Removes all messages that are in history now. The answer is their number.
    Clear(Ticket<StoreResult<u64>>),
    /// Sets how many days messages are kept; `None` is for ever. The answer repeats it.
    SetRetention(Ticket<StoreResult<Option<u32>>>, Option<u32>),
    /// Asks for how many days messages are kept. The answer is `None` for ever.
    Retention(Ticket<StoreResult<Option<u32>>>),
    /// Asks whether the store works.
    Probe(Ticket<Health>),
    /// Ends the writer: it carries out all earlier requests, flushes them to the disk, and ignores
    /// later ones.
    Stop,
}

/// Changes to channel definitions.
#[derive(Debug)]
pub enum StoreChange {
    /// Adds a definition. Its pattern must not exist yet.
    Insert(ChannelDefinition),
    /// Changes the definition with that id, at that time.
    Update(Uuid, ChannelChange, Millis),
    /// Deletes the definition with that id.
    Delete(Uuid),
}

/// Queries to the thread that reads.
#[derive(Debug)]
pub enum Query {
    /// Asks for a page of messages, the newest first.
    Messages(Ticket<StoreResult<Vec<StoredMessage>>>, MessageQuery),
    /// Asks for counts of messages.
    Stats(Ticket<StoreResult<Stats>>, StatsQuery),
    /// Asks for a document. The answer is `None` if it does not exist or was deleted.
    Document(Ticket<StoreResult<Option<Box<Document>>>>, DocumentKey),
}

/// A publication to be kept in history.
#[derive(Debug)]
pub struct Keep {
    /// The publication, and what history keeps beside it.
    pub record: Record,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// The right to answer the publisher with how safe it is; `None` if the publisher does not
    /// wait.
    pub ticket: Option<Ticket<Durability>>,
}

/// A document to be written.
#[derive(Debug)]
pub struct Write {
    /// The document to write or delete.
    pub what: DocumentWrite,
    /// How safe it must be before its writer is answered.
    pub level: Durability,
    /// The right to answer the writer with the result.
    pub ticket: Ticket<StoreResult<Written>>,
}
