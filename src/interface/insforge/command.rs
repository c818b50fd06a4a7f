//! What clients of InsForge ask for on their sockets.

use crate::message::{Channel, Encoding};

/// What a client asks for, whatever its protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Hear what is published on a channel, in the frames of an encoding.
    Subscribe {
        /// Where.
        channel: Channel,
        /// Which frames.
        encoding: Encoding,
    },
    /// Hear no more of it.
    Unsubscribe {
        /// Where.
        channel: Channel,
    },
    /// Tell everybody on a channel.
    Publish {
        /// Where.
        channel: Channel,
        /// Under which event name.
        event: Box<str>,
        /// JSON text.
        payload: Box<str>,
    },
}
