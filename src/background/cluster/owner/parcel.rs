//! Publications that are not sent yet.

use crate::cluster::ack::Refusal;
use crate::cluster::name::{ChannelHash, Stream};
use crate::cluster::wire::Body;
use crate::message::RepeatKey;

/// The stream's error for a message that is too long, which the node does not even send.
pub(super) const TOO_LONG: Refusal = Refusal::Error(10_054);

/// A publication that is not sent yet.
pub(super) struct Parcel {
    pub(super) channel: ChannelHash,
    pub(super) body: Body,
    pub(super) bytes: Vec<u8>,
    /// What the stream recognizes a repetition by; `None` if it recognizes none.
    pub(super) repeat: Option<RepeatKey>,
}

/// Returns the place of a stream among the two.
pub(super) fn place(stream: Stream) -> usize {
    match stream {
        Stream::Order => 0,
        Stream::Claims => 1,
    }
}
