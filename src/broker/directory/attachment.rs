//! What a channel that a cluster's stream orders waits for.

use std::collections::{HashMap, VecDeque};

use super::requests::{HeldJoin, HeldLeave};
use crate::broker::budget::Budget;
use crate::message::{ConnId, Encoding, Millis, Offset, WorkerId};

/// What a channel of the stream waits for.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    pub(super) phase: Phase,
    /// Since when the node has heard the channel without a gap, in milliseconds since it started.
    pub(super) whole_since: Millis,
    /// Whether the channel is among the noted [`Interests`](crate::mailbox::Interests).
    pub(super) is_noted: bool,
    /// Whether the subscribers must be told, once the node hears the channel again, that they may
    /// have missed publications.
    pub(super) must_tell_gap: bool,
    pub(super) held: VecDeque<Held>,
    /// The connections of what is held.
    pub(super) connections: HashMap<ConnId, Waiting>,
    /// Workers that are behind, each with the offset of the last publication that it was given.
    pub(super) behind: Vec<(WorkerId, Offset)>,
}

/// How far a channel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// The node does not hear it yet and needs it.
    #[default]
    Asked,
    /// The node hears it.
    Attached,
    /// The node may hear it still and does not need it.
    Unneeded,
}

/// A request that is held back.
#[derive(Debug)]
pub(super) enum Held {
    Join(HeldJoin),
    Leave(HeldLeave),
}

/// A connection of which something is held back.
#[derive(Debug)]
pub(super) struct Waiting {
    requests: usize,
    /// The encoding under which it is counted as a subscriber; `None` if it is not counted.
    pub(super) counted: Option<Encoding>,
    /// Whether the connection has ended. What is held of it is passed over then.
    pub(super) has_ended: bool,
}

impl Attachment {
    pub(super) fn is_behind(&self, worker: WorkerId) -> bool {
        self.behind.iter().any(|(behind, _)| *behind == worker)
    }

    /// Notes that a worker has no subscribers any more, so that it misses nothing.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.behind.retain(|(behind, _)| *behind != worker);
    }

    /// Holds a request of a connection, which is counted under this encoding unless something of it
    /// is held already.
    pub(super) fn hold(&mut self, connection: ConnId, counted: Option<Encoding>, held: Held) {
        let waiting = Waiting { requests: 0, counted, has_ended: false };
        self.connections.entry(connection).or_insert(waiting).requests += 1;
        self.held.push_back(held);
    }

    /// Notes that a request is not held any more, and whether it was carried out.
    pub(super) fn settle(&mut self, held: &Held, is_done: bool, budget: &Budget) {
        let joined = match held {
            Held::Join(join) => Some(join.subscriber.encoding),
            Held::Leave(_) => None,
        };
        if joined.is_some() {
            budget.give(1);
        }
        let connection = held.connection();
        let Some(waiting) = self.connections.get_mut(&connection) else { return };
        waiting.requests -= 1;
        if is_done {
            waiting.counted = joined;
        }
        if waiting.requests == 0 {
            self.connections.remove(&connection);
        }
    }
}

impl Held {
    pub(super) fn connection(&self) -> ConnId {
        match self {
            Self::Join(join) => join.subscriber.connection,
            Self::Leave(leave) => leave.subscriber.connection,
        }
    }
}
