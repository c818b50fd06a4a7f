//! Reasons to refuse a message.

use super::SelectionFault;
use crate::interface::forge::nouns::{OVERRIDES_PROBLEM, TokenError};
use crate::message::{MessageId, Refusal};

/// Why the node refuses a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The message is not a JSON object with an `id` and a known `type`.
    Message,
    /// A member is missing or has the wrong type; the text says which.
    Input(&'static str),
    /// The name of the channel is not valid, for this reason.
    Channel(&'static str),
    /// The name of the channel is longer than this many bytes.
    LongChannel(usize),
    /// The client has not proved its context, or the context does not allow this; the text says
    /// why.
    Unauthorized(String),
    /// The newer context token is for another place than the first one.
    OtherContext,
    /// The realtime token is refused, for this reason.
    Token(TokenError),
    /// The client may not publish on this channel from its context; the text says why.
    PublishFailed(String),
    /// The payload is longer than the configured bound.
    PayloadTooLarge,
    /// The message is longer than any may be; the connection is closed.
    MessageTooLarge,
    /// The connection publishes more often than it may.
    ConnectionRate,
    /// The installation is above its rate.
    RateLimited,
    /// A queue of the node is full.
    Overloaded,
    /// The cluster cannot order events at the moment. Nothing was published or subscribed.
    Unavailable,
    /// It is not known whether the event with this id was published.
    Unknown(MessageId),
    /// The connection has as many subscriptions as it may have.
    TooManySubscriptions,
}

impl From<Refusal> for Fault {
    /// Converts the refusals that subscribing and unsubscribing can return.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManySubscriptions => Self::TooManySubscriptions,
            Refusal::Unavailable => Self::Unavailable,
            _ => Self::Overloaded,
        }
    }
}

impl From<SelectionFault> for Fault {
    fn from(fault: SelectionFault) -> Self {
        Self::Input(match fault {
            SelectionFault::Options(_) => "options: Expected object",
            SelectionFault::Token(_) => "token: Expected string",
            SelectionFault::Overrides => OVERRIDES_PROBLEM,
        })
    }
}
