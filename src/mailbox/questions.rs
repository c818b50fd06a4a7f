//! The closed lists of what may be asked of the threads of the store.

use std::sync::Arc;

use uuid::Uuid;

use super::answers::{Changed, Gathered, Health, StoreResult, Written};
use super::ticket::Ticket;
use crate::message::{
    AckId, ChannelChange, ChannelDefinition, ConnId, Document, DocumentKey, DocumentWrite,
    Durability, Invocation, MessageQuery, Millis, Ordered, Permissions, Publication, Record,
    RecoveryKey, RepeatKey, SessionWish, Stats, StatsQuery, StoredMessage, WorkerId,
};

/// Requests to the thread that writes.
#[derive(Debug)]
pub enum Wish {
    /// Changes a channel definition. The answer is the definition after the change, or the deleted
    /// one.
    Change(Ticket<StoreResult<Changed<Box<ChannelDefinition>>>>, StoreChange),
    /// Replaces all policies. The answer is the policies after that.
    Permit(Ticket<StoreResult<Changed<Permissions>>>, Permissions),
    /// Removes all messages that are in history now. The answer is their number.
    Clear(Ticket<StoreResult<Changed<u64>>>),
    /// Sets how many days messages are kept; `None` is for ever. The answer repeats it.
    SetRetention(Ticket<StoreResult<Changed<Option<u32>>>>, Option<u32>),
    /// Lets all nodes of a cluster know what was registered or revoked.
    Invoke(Ticket<StoreResult<Changed<()>>>, Box<Invocation>),
    /// Asks for how many days messages are kept. The answer is `None` for ever.
    Retention(Ticket<StoreResult<Option<u32>>>),
    /// Asks whether the store works.
    Probe(Ticket<Health>),
    /// Ends the writer: it carries out all earlier requests, flushes them to the disk, and ignores
    /// later ones.
    Stop,
}

/// Changes to channel definitions.
#[derive(Clone, Debug)]
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
    Messages(Ticket<StoreResult<Gathered<Vec<StoredMessage>>>>, MessageQuery),
    /// Asks for counts of messages.
    Stats(Ticket<StoreResult<Gathered<Box<Stats>>>>, StatsQuery),
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

/// A publication for the cluster's stream.
#[derive(Debug)]
pub struct Submitted {
    /// The publication. It has no offset yet.
    pub publication: Arc<Publication>,
    /// How history keeps it once the stream has it; `None` if it does not. The place in the queue
    /// to history is promised.
    pub keep: Option<Keeping>,
    /// The publisher, which waits for the answer.
    pub publisher: Publisher,
    /// Recognizes a repetition of the publication. Without it none is recognized.
    pub repeat: Option<RepeatKey>,
}

/// A worker's wish for a session that all nodes of a cluster share.
#[derive(Debug)]
pub struct SessionAsk {
    /// The secret part of the session's private id.
    pub session: RecoveryKey,
    /// The worker, in whose mailbox a place for the answer is promised if there is to be one.
    pub worker: WorkerId,
    /// What it wishes for.
    pub wish: SessionWish,
}

/// How history is to keep a publication whose audience is not known yet.
#[derive(Debug)]
pub struct Keeping {
    /// The definition that governs the channel.
    pub definition: Arc<ChannelDefinition>,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// The right to answer the publisher then; `None` if the publisher does not wait for that.
    pub ticket: Option<Ticket<Durability>>,
}

/// The publisher of a publication for the cluster's stream.
#[derive(Debug)]
pub enum Publisher {
    /// A request to an acceptor. The answer needs the audience if `wants_audience` is true.
    Request {
        /// The right to answer.
        ticket: Ticket<Ordered>,
        /// Whether the answer says who received the publication.
        wants_audience: bool,
    },
    /// A connection of a worker, in whose mailbox a place for the answer is promised.
    Connection(ConnId, Option<AckId>),
}

impl Submitted {
    /// Returns whether the nodes count the audience of the publication: because its publisher or
    /// history wants to know it.
    pub fn is_counted(&self) -> bool {
        let is_asked = matches!(self.publisher, Publisher::Request { wants_audience: true, .. });
        is_asked || self.keep.is_some()
    }
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
