//! Cold work, off the hot threads: the embedded store, webhooks, policies' expressions, and keys of
//! token issuers. Work arrives through bounded queues and answers go back to the thread that asked;
//! no hot thread waits for either.

mod admin;
pub mod cluster;
mod documents;
pub mod histories;
mod history;
pub mod issuer;
mod mail;
mod outgoing;
pub mod policy;
pub mod postgres;
pub mod reader;
mod retention;
pub mod store;
pub mod webhook;
mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::mailbox::{Reservation, StoreRefusal, WorkerMailboxes};
use crate::message::{ChannelDefinition, Document, Found, Load, Millis, Permissions};

pub use admin::sharing::{Administering, Sharing};
use store::StoreError;
pub use writer::{Incoming, Writer};

/// An announcement of the writer: a change that is committed, or a document that a subscriber asked
/// for.
#[derive(Debug)]
pub enum News<'r> {
    /// All channel definitions, after one of them changed.
    Channels(Vec<ChannelDefinition>),
    /// All policies, after they were replaced.
    Permissions(Permissions),
    /// A committed document, with a place for its fan-out at every worker.
    Document(Document, Reservation<'r, WorkerMailboxes>),
    /// A subscriber's load with the documents that were found; `None` if the store failed.
    Loaded(Load, Option<Found<Document>>),
}

/// Converts an error of the store into the refusal that the caller receives. Logs errors that the
/// caller can do nothing about. `hindered` is the log line of a temporary error: it names what was
/// not done.
fn refused(error: &StoreError, hindered: &'static str) -> StoreRefusal {
    match error {
        StoreError::Duplicate { pattern } => StoreRefusal::Duplicate(pattern.clone()),
        StoreError::Full { .. } => StoreRefusal::Full,
        StoreError::UnknownMessage { .. } => StoreRefusal::UnknownMessage,
        StoreError::PageTooLong => StoreRefusal::PageTooLong,
        StoreError::TooSlow => {
            tracing::warn!(%error, "a query of history took too long and was given up");
            StoreRefusal::TooSlow
        }
        error if error.is_temporary() => {
            tracing::warn!(%error, "{hindered}");
            StoreRefusal::Busy
        }
        error => {
            tracing::error!(%error, "the store failed");
            StoreRefusal::Failed
        }
    }
}

/// Returns the time in milliseconds since the Unix epoch.
fn now() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(now.as_millis()).unwrap_or(Millis::MAX)
}
