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
    /// The worker has as many sessions as it may.
    Overloaded,
}

/// An answer of the store.
pub type StoreResult<T> = Result<T, StoreRefusal>;

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
    /// The cluster cannot be reached; nothing has changed.
    Unavailable,
    /// The cluster did not answer, so that it is not known whether it has the document.
    Unknown,
    /// A worker or the store is busy; the same request may succeed a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}
