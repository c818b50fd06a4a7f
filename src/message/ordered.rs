//! Publications of channels that a cluster's stream orders.

use std::sync::Arc;

use super::{AckId, Audience, Channel, ConnId, MessageId, Millis, Offset, WorkerId};

/// What a publication of the stream met on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Landed {
    /// The number of the node's subscribers that receive it, at once or when their worker has
    /// caught up.
    pub audience: Audience,
    /// Whether a worker is behind on the channel.
    pub is_behind: bool,
}

/// A worker that is behind on a channel: it missed publications because its mailbox was full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// The worker whose mailbox was full.
    pub worker: WorkerId,
    /// The offset of the last publication that it was given.
    pub after: Offset,
    /// The offset of the channel's last publication.
    pub up_to: Offset,
}

/// The audience of a publication on all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spread {
    /// The subscribers on the nodes that answered.
    pub audience: Audience,
    /// The number of nodes that answered.
    pub nodes: usize,
    /// The names of the nodes that may have subscribers and did not answer in time.
    pub unknown: Vec<Arc<str>>,
    /// Whether all nodes that may have subscribers are known by name. If not, any may be missing.
    pub is_named: bool,
}

/// What became of a publication that was sent to the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ordered {
    /// The stream has it. The audience is `None` if the publisher did not ask for it.
    Stored(Option<Box<Spread>>),
    /// No node has a subscriber, for certain. Nothing was published.
    NotHeard,
    /// Whether a node has a subscriber cannot be said for certain. Nothing was published.
    Unproven,
    /// The stream or its queue is full. Nothing was published.
    Overloaded,
    /// The stream cannot store anything at the moment. Nothing was published.
    Unavailable,
    /// The stream did not answer in time: it may have been published.
    Unknown,
}

/// What became of a publication, for a publisher that is connected to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The connection of the publisher.
    pub connection: ConnId,
    /// The channel of the publication.
    pub channel: Channel,
    /// The acknowledgement that the publisher waits for.
    pub reply: Option<AckId>,
    /// The id of the publication.
    pub id: MessageId,
    /// The time of the publication.
    pub at: Millis,
    /// What became of it.
    pub ordered: Ordered,
}
