//! Publications on their way into history, stored messages, and queries of them.

use std::sync::Arc;

use uuid::Uuid;

use super::{Audience, ChannelDefinition, Content, MessageId, Millis, Publication, Sender};

/// The place of a message in the history of all channels: a higher one is later. Signed, because
/// databases use signed integers.
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
    /// Every level, the least safe first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Stored, Self::Synced];

    /// Returns the level's name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Stored => "stored",
            Self::Synced => "synced",
        }
    }

    /// Returns the level of a name; `None` if there is no such level.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A place in the stream of a cluster. A higher one is later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct StreamPlace {
    /// Counts the lives of the stream, each of which begins its sequence anew.
    pub epoch: u64,
    /// The sequence in the stream.
    pub seq: u64,
}

/// What is known of earlier attempts to publish a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Attempt {
    /// There was none.
    #[default]
    First,
    /// There was one, perhaps on another node of the cluster, whose history may have the message.
    Repeated,
    /// There was one, and no other node that answers has the message.
    Checked,
}

/// A publication on its way into history.
#[derive(Clone, Debug)]
pub struct Record {
    /// The publication to keep.
    pub publication: Arc<Publication>,
    /// The definition that governed its channel.
    pub definition: Arc<ChannelDefinition>,
    /// The number of subscribers that it was posted to.
    pub audience: Audience,
    /// Its place in the cluster's stream; `None` if the stream did not order it.
    pub place: Option<StreamPlace>,
    /// Whether its publisher may have published it before.
    pub attempt: Attempt,
}

impl Record {
    /// Creates the record of a publication that no stream has ordered.
    pub fn new(
        publication: Arc<Publication>,
        definition: Arc<ChannelDefinition>,
        audience: Audience,
    ) -> Self {
        Self { publication, definition, audience, place: None, attempt: Attempt::First }
    }
}

/// What tells a message from all others. Publishers choose ids, so that the id alone does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageName {
    /// The id under which it was published.
    pub id: MessageId,
    /// The name of the channel that it was published on.
    pub channel: Box<str>,
    /// The publisher, as subscribers see it.
    pub sender: Sender,
}

impl MessageName {
    /// Returns the name of a publication; `None` if it is not a message.
    pub fn of(publication: &Publication) -> Option<Self> {
        let Content::Message { sender, .. } = &publication.content else { return None };
        let channel = publication.channel.as_str().into();
        Some(Self { id: publication.id, channel, sender: sender.clone() })
    }
}

/// A query of messages, the newest first. Every condition must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageQuery {
    /// Only messages under this definition.
    pub channel_id: Option<Uuid>,
    /// Only messages with this event name.
    pub event_name: Option<Box<str>>,
    /// The most messages to return, at most
    /// [`HISTORY_PAGE_MESSAGES_MAX`](crate::limits::HISTORY_PAGE_MESSAGES_MAX).
    pub limit: u32,
    /// The number of newest matches to skip.
    pub offset: u64,
    /// Only messages older than this one.
    pub before: Option<MessageId>,
}

/// A query that counts messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatsQuery {
    /// Only messages under this definition.
    pub channel_id: Option<Uuid>,
    /// Only messages published at this time or later.
    pub since: Option<Millis>,
}

/// A message in history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredMessage {
    /// The id that subscribers know the publication by.
    pub id: MessageId,
    /// The event name that the publisher chose.
    pub event_name: Box<str>,
    /// The definition that governed the channel. It may have been deleted since.
    pub channel_id: Uuid,
    /// The name of the channel that it was published on.
    pub channel_name: Box<str>,
    /// JSON text, as it was published.
    pub payload: Box<str>,
    /// The publisher, as subscribers see it.
    pub sender: Sender,
    /// The number of subscribers that it was posted to.
    pub ws_audience: u32,
    /// The number of webhooks that it was meant for.
    pub wh_audience: u32,
    /// The number of webhooks that accepted it.
    pub wh_delivered: u32,
    /// The time of publication.
    pub created_at: Millis,
}

/// Sums over the messages of a query.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// The number of messages.
    pub messages: u64,
    /// The number of webhook calls that they were meant for.
    pub wh_audience: u64,
    /// The number of these calls that were accepted.
    pub wh_delivered: u64,
    /// The most frequent event names with their numbers of messages, the most frequent first and
    /// equal ones by name. At most [`TOP_EVENTS_MAX`](crate::limits::TOP_EVENTS_MAX).
    pub top_events: Vec<(Box<str>, u64)>,
    /// The retention of messages in days; `None` if they are kept for ever.
    pub retention_days: Option<u32>,
}
