//! Publications that are not sent yet.

use crate::cluster::ack::Refusal;
use crate::cluster::events::Publish;
use crate::cluster::name::{ChannelHash, Stream};
use crate::cluster::wire::Body;
use crate::message::{Millis, RepeatKey};

/// The stream's error for a message that is too long, which the node does not even send.
pub(super) const TOO_LONG: Refusal = Refusal::Error(10_054);

/// Bytes of a message beside its body: subjects and headers.
const HEAD_BYTES: usize = 512;

/// A publication that is not sent yet.
pub(super) struct Parcel {
    pub(super) channel: ChannelHash,
    pub(super) body: Body,
    pub(super) bytes: Vec<u8>,
    /// What the stream recognizes a repetition by; `None` if it recognizes none.
    pub(super) repeat: Option<RepeatKey>,
}

impl Parcel {
    /// Packs a body; `None` if it is too long for a message.
    pub(super) fn new(channel: ChannelHash, body: Body, repeat: Option<RepeatKey>) -> Option<Self> {
        let bytes = body.encode()?;
        Some(Self { channel, body, bytes, repeat })
    }

    /// Returns what asks for a place in the stream. What was published is dropped without a
    /// listener if it needs one, and counted within `audience` milliseconds.
    pub(super) fn publish(
        &self,
        token: u64,
        patience: Millis,
        (needs_listener, audience): (bool, Option<Millis>),
    ) -> Publish {
        Publish {
            token,
            channel: self.channel,
            patterns: Vec::new(),
            bytes: self.bytes.len() + HEAD_BYTES,
            patience,
            needs_listener,
            audience,
        }
    }
}

/// Returns the place of a stream among the two.
pub(super) fn place(stream: Stream) -> usize {
    match stream {
        Stream::Order => 0,
        Stream::Claims => 1,
    }
}
