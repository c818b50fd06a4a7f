//! The closed lists of what the threads of the store are asked, and what they answer.

use uuid::Uuid;

use super::answers::{Health, StoreResult, Written};
use super::ticket::Ticket;
use crate::message::{
    ChannelChange, ChannelDefinition, Document, DocumentKey, DocumentWrite, Durability,
    MessageQuery, Millis, Permissions, Record, Stats, StatsQuery, StoredMessage,
};

/// Everything that can be asked of the thread that writes.
#[derive(Debug)]
pub enum Wish {
    /// A change of a channel definition; the answer is the definition as it is, or was if it is
    /// deleted.
    Change(Ticket<StoreResult<Box<ChannelDefinition>>>, StoreChange),
    /// Other policies, instead of all there are; the answer is the policies as they are now.
    Permit(Ticket<StoreResult<Permissions>>, Permissions),
    /// History is emptied of what is there now; the answer is how many messages were removed.
    Clear(Ticket<StoreResult<u64>>),
    /// Messages are kept for so many days from now on, `None` for ever; the answer repeats it.
    SetRetention(Ticket<StoreResult<Option<u32>>>, Option<u32>),
    /// The answer is for how many days messages are kept, `None` for ever.
    Retention(Ticket<StoreResult<Option<u32>>>),
    /// Whether the store works.
    Probe(Ticket<Health>),
    /// The end: the writer carries out all earlier wishes and flushes them to the disk; it ignores
    /// later ones.
    Stop,
}

/// Changes to channel definitions.
#[derive(Debug)]
pub enum StoreChange {
    /// A new definition.
    Insert(ChannelDefinition),
    /// The definition of that id is changed, at that time.
    Update(Uuid, ChannelChange, Millis),
    /// The definition of that id is deleted.
    Delete(Uuid),
}

/// Everything that can be asked of the thread that reads.
#[derive(Debug)]
pub enum Query {
    /// A page of messages, the newest first.
    Messages(Ticket<StoreResult<Vec<StoredMessage>>>, MessageQuery),
    /// How many messages there are.
    Stats(Ticket<StoreResult<Stats>>, StatsQuery),
    /// A document; `None` if there is none, or it was deleted.
    Document(Ticket<StoreResult<Option<Box<Document>>>>, DocumentKey),
}

/// A publication that is to be kept.
#[derive(Debug)]
pub struct Keep {
    /// The publication, and what history keeps beside it.
    pub record: Record,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// Answered with how safe it is; `None` if the publisher does not wait.
    pub ticket: Option<Ticket<Durability>>,
}

/// A document that is to be written.
#[derive(Debug)]
pub struct Write {
    /// The document.
    pub what: DocumentWrite,
    /// How safe it must be before its writer is answered.
    pub level: Durability,
    /// Answered with what became of it.
    pub ticket: Ticket<StoreResult<Written>>,
}
