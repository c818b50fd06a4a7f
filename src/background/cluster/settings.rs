//! What the thread of the cluster must know of its node.

use std::sync::Arc;

use super::documents::Outside;
use super::line;
use super::seat::Seat;
use super::sessions::Asked;
use crate::cluster::wire::Origin;
use crate::message::Millis;

/// What a node is in its cluster.
pub struct Settings {
    /// How the node connects. It makes six connections: for what must keep its order, for reads,
    /// for all nodes' claims, for sessions, and two for documents. If it passes long-polling
    /// requests on, it makes one more for these.
    pub line: line::Settings,
    /// The prefix of the cluster's subjects and streams.
    pub prefix: Box<str>,
    /// This start of the node.
    pub origin: Origin,
    /// The revision of the node's entry in the register.
    pub registered: u64,
    /// How long the stream may take to acknowledge a publication, in milliseconds.
    pub patience: Millis,
    /// How long the nodes may take to count the audience of a publication, in milliseconds.
    pub audience_patience: Millis,
    /// The register; without one, the node has joined from the beginning, and remembers anchors
    /// until it ends.
    pub seat: Option<Seat>,
    /// The way to the thread of documents; without one, the node has no documents.
    pub documents: Option<Arc<Outside>>,
    /// The way of wishes for sessions; without one, the node shares no sessions.
    pub sessions: Option<Arc<Asked>>,
}
