//! What becomes of a publication besides being heard.

use std::sync::Arc;

use uuid::Uuid;

use super::{Audience, ChannelDefinition, MessageId, Millis, Publication, Sender};

/// Place of a message in the history of all channels: higher is later. Signed, as databases are.
pub type Position = i64;

/// How safe a publication is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Durability {
    /// On its way: lost if the node ends before it is stored.
    Memory,
    /// Committed: survives the end of the process.
    Stored,
    /// Committed and on the disk: survives the loss of power.
    Synced,
}

impl Durability {
    /// All of them, the least safe first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Stored, Self::Synced];

    /// As the interface writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Stored => "stored",
            Self::Synced => "synced",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A publication on its way into history.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was published.
    pub publication: Arc<Publication>,
    /// The definition that governed its channel.
    pub definition: Arc<ChannelDefinition>,
    /// Whom it was posted to.
    pub audience: Audience,
}

/// Which messages are wanted, of all that match the newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageQuery {
    /// Those of this definition's channels.
    pub channel_id: Option<Uuid>,
    /// Those of this event name.
    pub event_name: Option<Box<str>>,
    /// At most so many, and at most
    /// [`HISTORY_PAGE_MESSAGES_MAX`](crate::limits::HISTORY_PAGE_MESSAGES_MAX).
    pub limit: u32,
    /// Without so many of the newest.
    pub offset: u64,
    /// Those older than this message.
    pub before: Option<MessageId>,
}

/// Which messages are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatsQuery {
    /// Those of this definition's channels.
    pub channel_id: Option<Uuid>,
    /// Those published at this time or later.
    pub since: Option<Millis>,
}

/// A message in history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredMessage {
    /// Its id.
    pub id: MessageId,
    /// Under which event name.
    pub event_name: Box<str>,
    /// Under which definition, which may be gone since.
    pub channel_id: Uuid,
    /// Where.
    pub channel_name: Box<str>,
    /// JSON text, as it was published.
    pub payload: Box<str>,
    /// By whom.
    pub sender: Sender,
    /// Subscribers that it was posted to.
    pub ws_audience: u32,
    /// Webhooks that it was for.
    pub wh_audience: u32,
    /// Webhooks that took it.
    pub wh_delivered: u32,
    /// When it was published.
    pub created_at: Millis,
}

/// Messages, counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// How many.
    pub messages: u64,
    /// Webhooks that they were for.
    pub wh_audience: u64,
    /// Webhooks that took them.
    pub wh_delivered: u64,
    /// The most frequent event names and how often each is there: the most frequent first, equal
    /// ones by name. At most [`TOP_EVENTS_MAX`](crate::limits::TOP_EVENTS_MAX).
    pub top_events: Vec<(Box<str>, u64)>,
    /// For how many days messages are kept; `None` for ever.
    pub retention_days: Option<u32>,
}
