//! Rows of a database that are events, and what becomes of them.

use std::fmt;
use std::sync::Arc;

use super::{MessageId, Sender};

/// A row that is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapturedRow {
    /// The id of the row, by which subscribers and history know the publication.
    pub id: MessageId,
    /// The channel, as the row names it.
    pub channel: String,
    /// The event name.
    pub event: String,
    /// JSON text.
    pub payload: String,
    /// The publisher, as subscribers see it.
    pub sender: Sender,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Captured {
    /// It was published to this many subscribers.
    Published(u32),
    /// It is not published, for this reason, and never will be.
    Skipped(Skipped),
    /// It must be published again under the same id, because the node or its cluster did not take
    /// it, or did not say so.
    Again,
}

/// Why a row is not published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skipped {
    /// No enabled definition matches its channel.
    NoChannel,
    /// It breaks this rule.
    Invalid(&'static str),
}

/// The condition of a node that publishes rows of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaptureCondition {
    /// It has not connected yet.
    Connecting,
    /// It publishes the rows.
    Capturing,
    /// Another node publishes them.
    Waiting,
    /// It does not serve the channels of its cluster, so that it leaves the rows to another node.
    Apart,
    /// It cannot publish them, for this reason.
    Failing(Arc<str>),
}

/// Shows the condition as health and log lines do.
impl fmt::Display for CaptureCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting to the database"),
            Self::Capturing => f.write_str("publishing the rows of the database"),
            Self::Waiting => f.write_str("another node publishes the rows of the database"),
            Self::Apart => f.write_str("the rows of the database are left to other nodes"),
            Self::Failing(text) => {
                write!(f, "rows of the database are not published, and wait there: {text}")
            }
        }
    }
}
