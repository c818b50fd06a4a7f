//! Why a message of a client is not carried out.

use super::SelectionFault;
use crate::interface::forge::nouns::{OVERRIDES_PROBLEM, TokenError};
use crate::message::Refusal;

/// Why a message is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It makes no sense.
    Message,
    /// It asks for something that there is not; the text says what.
    Input(&'static str),
    /// No channel can have this name, for this reason.
    Channel(&'static str),
    /// The client has not proved that it may; the text says what is wrong with its proof.
    Unauthorized(String),
    /// A newer context token is that of another place.
    OtherContext,
    /// A realtime token is no good, for this reason.
    Token(TokenError),
    /// The event cannot be published from this context; the text says why.
    PublishFailed(String),
    /// The payload is longer than it may be.
    PayloadTooLarge,
    /// The installation does too much.
    RateLimited,
    /// The node has no room at the moment.
    Overloaded,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
}

impl From<Refusal> for Fault {
    /// Of those refusals that subscribing and unsubscribing know.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManySubscriptions => Self::TooManySubscriptions,
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
