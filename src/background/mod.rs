//! Cold work, off the hot threads: the embedded store, webhooks, and policies' expressions. What is
//! to be done comes through bounded queues that nobody waits on; answers go to whoever asked.

mod admin;
mod documents;
mod history;
mod log_throttle;
pub mod policy;
pub mod reader;
mod retention;
pub mod store;
pub mod webhook;
mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::mailbox::{Reservation, StoreRefusal, WorkerMailboxes};
use crate::message::{ChannelDefinition, Document, Found, Load, Millis, Permissions};

use store::StoreError;
pub use writer::{Incoming, Writer};

/// What has changed and holds from now on.
#[derive(Debug)]
pub enum News<'r> {
    /// These are all definitions.
    Channels(Vec<ChannelDefinition>),
    /// These are all policies.
    Permissions(Permissions),
    /// This document was committed; every worker has a place for it.
    Document(Document, Reservation<'r, WorkerMailboxes>),
    /// This is what a subscriber asked for, unless the store failed.
    Loaded(Load, Option<Found<Document>>),
}

/// Says why the store did not do what it was asked, and logs what the caller can do nothing about:
/// `hindered` names what an error that may pass has kept from being done.
fn refused(error: &StoreError, hindered: &'static str) -> StoreRefusal {
    match error {
        StoreError::Duplicate { pattern } => StoreRefusal::Duplicate(pattern.clone()),
        StoreError::Full { .. } => StoreRefusal::Full,
        StoreError::UnknownMessage { .. } => StoreRefusal::UnknownMessage,
        StoreError::PageTooLong => StoreRefusal::PageTooLong,
        StoreError::TooSlow => {
            tracing::warn!(%error, "a question to history is given up");
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

/// Milliseconds since the epoch.
fn now() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(now.as_millis()).unwrap_or(Millis::MAX)
}
