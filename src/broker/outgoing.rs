//! What an outbox asks of the frames that it holds.

use crate::message::{Channel, Publication};

/// What an outbox holds.
pub trait Outgoing: AsRef<[u8]> {
    /// Whether it is a subscriber's share of a publication, which is accounted for one by one.
    fn is_delivery(&self) -> bool;
    /// The publication, where its channel would rather lose it than its subscriber.
    fn expendable(&self) -> Option<&Publication>;
    /// Whether it is the state of something, so that a later reading of it makes up for its loss.
    fn is_state(&self) -> bool {
        false
    }
    /// Of which channel publications were lost and how many, where it is the notice of that.
    fn gap(&self) -> Option<(&Channel, u64)>;
    /// The notice that so many publications of a channel were lost.
    fn notice(channel: &Channel, count: u64) -> Self;
}
