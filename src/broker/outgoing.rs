//! The properties of frames that an outbox depends on.

use crate::message::{Channel, FrameBytes, Publication};

/// A frame in an outbox.
pub trait Outgoing: AsRef<[u8]> {
    /// Returns whether the frame is a delivery: one subscriber's share of a publication. Deliveries
    /// are accounted for one by one.
    fn is_delivery(&self) -> bool;
    /// Returns the bytes with the right to keep them, if the frame has them so.
    fn bytes(&self) -> Option<&FrameBytes> {
        None
    }
    /// Returns in how many places its bytes are held, at least 1.
    fn sharers(&self) -> usize {
        1
    }
    /// Returns the publication, if its channel allows the frame to be dropped when the subscriber
    /// does not keep up.
    fn expendable(&self) -> Option<&Publication>;
    /// Returns whether the frame is the state of something, so that a later read makes up for its
    /// loss.
    fn is_state(&self) -> bool {
        false
    }
    /// Returns the channel and the number of lost publications, if the frame is a gap notice.
    fn gap(&self) -> Option<(&Channel, u64)>;
    /// Creates the gap notice of `count` lost publications of a channel, in the encoding of this
    /// frame, which is one of them or an earlier notice.
    fn notice(&self, channel: &Channel, count: u64) -> Self;
}
