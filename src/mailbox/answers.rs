//! Answers to questions between threads.

use crate::message::{Durability, Millis};

/// Whether a thread does its work; the error says what keeps it from that.
pub type Health = Result<(), &'static str>;

/// The answer to a valid long-polling request.
#[derive(Debug)]
pub enum Polled {
    /// An Engine.IO payload for the client.
    Payload(Vec<u8>),
    /// The packets of a POST were accepted.
    Taken,
}

/// Why a long-polling request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollRefusal {
    /// There is no such session.
    UnknownSession,
    /// The session exists, but the request does not fit it.
    BadRequest,
    /// The node has as many sessions as it may.
    TooMany,
    /// A queue of the node is full, or too little memory is free.
    Overloaded,
}

/// An answer of the store.
pub type StoreResult<T> = Result<T, StoreRefusal>;

/// What an administrator has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed<T> {
    /// How it is now; the old value if it was deleted.
    pub now: T,
    /// The nodes of a cluster that have not confirmed in time that the change is in force there.
    pub unconfirmed: Vec<Box<str>>,
}

impl<T> From<T> for Changed<T> {
    /// Returns a change that is in force everywhere.
    fn from(now: T) -> Self {
        Self { now, unconfirmed: Vec::new() }
    }
}

/// What the nodes of a cluster have found together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gathered<T> {
    /// What those that answered have found.
    pub found: T,
    /// The nodes that have not answered in time, or are gone.
    pub unanswered: Vec<Box<str>>,
}

/// The result of a write or a deletion of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// The document was written or deleted under this version, and is as safe as this level.
    Done(Millis, Durability),
    /// Nothing was done: the version that the writer gave is not newer than this one, the latest.
    Stale(Millis),
}

/// Why the store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRefusal {
    /// The new definition or policy is invalid, for this reason.
    Invalid(String),
    /// There is no definition with that id, or no document to delete.
    NotFound,
    /// Another definition has this pattern.
    Duplicate(String),
    /// The number of definitions, or of documents, is at its bound.
    Full,
    /// The page should have messages older than one that does not exist.
    UnknownMessage,
    /// The page would have more bytes than allowed.
    PageTooLong,
    /// The answer took too long to find.
    TooSlow,
    /// A worker or the store is busy; the same request may succeed a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
    /// The cluster cannot take the change at the moment. Nothing was changed.
    Unavailable,
    /// It is not known whether the cluster has taken the change.
    Unknown,
    /// Nodes of the cluster that may have what was asked for do not answer.
    Incomplete,
}
