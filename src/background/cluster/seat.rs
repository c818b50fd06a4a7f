//! The way between the thread of the cluster and the register of its nodes.

use tokio::sync::{mpsc, watch};

use crate::cluster::health::Obstacle;
use crate::cluster::name::{NodeName, Stream};
use crate::cluster::wire::Anchor;

/// The thread's end of the way.
#[derive(Debug)]
pub struct Seat {
    /// What the thread asks of the register. At the bound a request is dropped: the thread repeats
    /// what it still needs.
    pub asks: mpsc::Sender<Ask>,
    /// What the register tells. The thread ends if the other end is gone.
    pub news: mpsc::Receiver<News>,
    /// Where the thread says which other nodes it hears.
    pub peers: watch::Sender<Vec<NodeName>>,
}

/// A request to the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Keep a stream's anchor, unless there is a later one.
    Remember(Stream, Anchor),
    /// Look whether the servers still have the streams and the node's entry, because the line has
    /// come up.
    Look,
    /// Register again, under a new incarnation: the other node of the same name is gone.
    Again,
}

/// What the register tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// The node may join, or may not, for this reason. It connects when it has joined for the first
    /// time, so that [`News::Remembered`] must come before.
    Joined(Result<(), Obstacle>),
    /// The register has this anchor of a stream.
    Remembered(Stream, Anchor),
}
