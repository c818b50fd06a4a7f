//! What a node measures of its part in a cluster, for its metrics.

use super::name::Seq;
use crate::message::Millis;

/// Measurements of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vitals {
    /// The nodes that are heard, the node itself included if its line is up.
    pub nodes: usize,
    /// The numbers of the epochs of the stream of publications and of that of claims.
    pub epochs: (u64, u64),
    /// The sequence of the last message that came live from the stream of publications.
    pub heard: Seq,
    /// Messages that the stream is known to have and that come later than the last one heard.
    pub lag: Seq,
    /// How long ago the node's own heartbeat came back; `None` while the line is down.
    pub silence: Option<Millis>,
    /// How long the latest heartbeat took until it was acknowledged, and until it came back; `None`
    /// before the first.
    pub beat: (Option<Millis>, Option<Millis>),
    /// What must be added to the node's wall clock to get the stream's, in milliseconds.
    pub clock_offset: i64,
    /// Channels that the node hears.
    pub attached: usize,
    /// Claims of all nodes, as far as the node knows.
    pub claims: usize,
    /// Messages that are sent and not answered, and their bytes.
    pub in_flight: (usize, usize),
    /// Publications whose audience is being counted.
    pub counting: usize,
}
