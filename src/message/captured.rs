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
    /// It is not published and never will be, for this reason: it breaks this rule.
    Skipped(Skipped, &'static str),
    /// It must be published again under the same id, because the node or its cluster did not take
    /// it, or did not say so.
    Again,
}

/// Why a row is not published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Skipped {
    /// No enabled definition matches its channel.
    NoChannel,
    /// The name of its channel is empty or too long.
    Channel,
    /// Its event has no name, or one that is not allowed.
    Event,
    /// Its payload is not allowed.
    Payload,
    /// It is too long.
    Length,
}

impl Skipped {
    /// The reasons in their order, as metrics name them.
    pub const NAMES: [&str; 5] = ["no_channel", "channel", "event", "payload", "length"];
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
