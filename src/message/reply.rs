//! Answers to what clients ask for.

use std::sync::Arc;

use super::{Channel, MessageId, Snapshot};

/// Why a command was not carried out, whatever the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The command's own fault; the text says what is wrong.
    Invalid(&'static str),
    /// No enabled definition, or a role that may not: subscribing.
    SubscribeUnauthorized,
    /// No enabled definition, or a role that may not: publishing.
    PublishUnauthorized,
    /// A newer credential is not valid.
    Unauthenticated,
    /// A newer credential is not that of whom the connection speaks for.
    OtherIdentity,
    /// The token has expired, and with it the connection ends.
    Expired,
    /// Publishing takes a subscription.
    NotSubscribed,
    /// The node has no room at the moment; the same command may work a second later.
    Overloaded,
    /// History has no room at the moment; the same command may work a second later.
    HistoryFull,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
    /// The channel's clients together publish more often than its definition lets them.
    RateLimited,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Subscribed, with who is there.
    Subscribed {
        /// Where.
        channel: Channel,
        /// Who, perhaps cut.
        presence: Arc<Snapshot>,
        /// How many.
        present: usize,
        /// The newest publication that the channel keeps.
        last: Option<MessageId>,
    },
    /// A newer credential is in force.
    Authenticated,
    /// Unsubscribed.
    Unsubscribed,
    /// Published under this id.
    Published(MessageId),
    /// Not carried out.
    Refused {
        /// The channel that the command named, where it named one.
        channel: Option<Channel>,
        /// Why.
        refusal: Refusal,
    },
}
