//! Replies to clients' commands.

use std::sync::Arc;

use super::{Channel, MessageId, Snapshot};

/// Why a command was refused, in every interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The command is invalid; the text says why.
    Invalid(&'static str),
    /// No policy allows the client to subscribe to the channel.
    SubscribeUnauthorized,
    /// No enabled definition matches the channel that the client wants to subscribe to.
    SubscribeUndefined,
    /// No policy allows the client to publish on the channel.
    PublishUnauthorized,
    /// No enabled definition matches the channel that the client wants to publish on.
    PublishUndefined,
    /// A newer credential of the client is not valid; the text says why.
    Unauthenticated(&'static str),
    /// A newer credential names another identity than the connection's.
    OtherIdentity,
    /// The token has expired; the connection is closed.
    Expired,
    /// The client published on a channel that it is not subscribed to.
    NotSubscribed,
    /// The node is overloaded. The same command may succeed a second later.
    Overloaded,
    /// The queue to history is full. The same command may succeed a second later.
    HistoryFull,
    /// The connection has as many subscriptions as it may.
    TooManySubscriptions,
    /// The message is longer than allowed; the connection is closed.
    TooLarge,
    /// The channel's name is longer than this many bytes.
    LongChannel(usize),
    /// The payload is longer than this many bytes.
    LongPayload(usize),
    /// The connection publishes more often than it may.
    ConnectionRate,
    /// The channel's clients together publish more often than its definition allows.
    RateLimited,
    /// The cluster's stream cannot be reached or stores nothing. Nothing was published.
    Unavailable,
    /// The cluster's stream did not answer in time: the publication with this id may have been
    /// published.
    Unknown(MessageId),
}

impl Refusal {
    /// The text of the log about a refusal for want of a definition.
    pub const UNDEFINED: &str = "no enabled channel definition matches the channel";
}

/// The reply to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The client is subscribed.
    Subscribed {
        /// The channel that the client is subscribed to.
        channel: Channel,
        /// The members of the channel, cut at the bound.
        presence: Arc<Snapshot>,
        /// The number of members, counted even if the snapshot is cut.
        present: usize,
        /// The newest publication that the channel keeps.
        last: Option<MessageId>,
    },
    /// The newer credential is in force.
    Authenticated,
    /// The client is not subscribed any more.
    Unsubscribed,
    /// The publication was accepted under this id.
    Published(MessageId),
    /// The command was not carried out.
    Refused {
        /// The channel that the command named; `None` if it named none.
        channel: Option<Channel>,
        /// The reason, which the client receives as a code and a text.
        refusal: Refusal,
    },
}
