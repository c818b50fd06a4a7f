//! What a node has taken from buckets that all nodes of a cluster share.

use super::Channel;

/// Tokens that a node has taken from the bucket of a channel or an installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taking {
    /// The name of the bucket.
    pub channel: Channel,
    /// The rate at which the bucket is refilled, in tokens a second.
    pub rate: u32,
    /// The number of tokens.
    pub count: u32,
}
