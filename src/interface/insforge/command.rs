//! The commands of clients of InsForge Realtime.

use bytestring::ByteString;

use crate::message::{Channel, Encoding, MessageId};

/// A command of a client, in either dialect of event names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Subscribes the client to a channel.
    Subscribe {
        /// The channel to subscribe to.
        channel: Channel,
        /// The encoding of the publications that the client will receive.
        encoding: Encoding,
    },
    /// Ends the client's subscription to a channel.
    Unsubscribe {
        /// The channel to leave.
        channel: Channel,
    },
    /// Publishes on a channel, which requires a subscription.
    Publish {
        /// The channel to publish on.
        channel: Channel,
        /// The event name: not empty and not reserved.
        event: Box<str>,
        /// The payload, as JSON text.
        payload: ByteString,
        /// The id that the publisher has given the publication; `None` for a new one.
        id: Option<MessageId>,
    },
}
