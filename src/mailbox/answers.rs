//! What questions between threads are answered.

use crate::message::{Durability, Millis};

/// Whether a thread does its work, or what keeps it from that.
pub type Health = Result<(), &'static str>;

/// What a long-polling request is answered, if nothing is wrong with it.
#[derive(Debug)]
pub enum Polled {
    /// An Engine.IO payload for the client.
    Payload(Vec<u8>),
    /// The packets of a POST were taken.
    Taken,
}

/// Why a long-polling request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollRefusal {
    /// No such session.
    UnknownSession,
    /// The session exists, the request does not fit it.
    BadRequest,
    /// The worker has as many sessions as it may.
    Overloaded,
}

/// What the store answers.
pub type StoreResult<T> = Result<T, StoreRefusal>;

/// What became of a document that was to be written or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It was written or deleted under this version, and is as safe as this.
    Done(Millis, Durability),
    /// Nothing was done: the version that the writer gave is not newer than this one, the latest.
    Stale(Millis),
}

/// Why the store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRefusal {
    /// The new definition or policy makes no sense, as these words say.
    Invalid(String),
    /// There is no definition of that id, or no document to delete.
    NotFound,
    /// Another definition has this pattern.
    Duplicate(String),
    /// The number of definitions, or of documents, is at its bound.
    Full,
    /// The page should begin at a message that is not there.
    UnknownMessage,
    /// The page would be longer than it may be.
    PageTooLong,
    /// The answer took too long to find.
    TooSlow,
    /// A worker or the store is busy; the same request may succeed a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}
