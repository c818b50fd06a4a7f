//! What a channel that a cluster's stream orders waits for.

use std::collections::{HashMap, VecDeque};

use super::requests::{HeldJoin, HeldLeave, Subscriber};
use crate::broker::budget::Budget;
use crate::broker::roster::Roster;
use crate::message::{ConnId, Encoding, Millis, Offset, Transport, WorkerId};

/// What a channel of the stream waits for.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    pub(super) phase: Phase,
    /// Since when the node has heard the channel without a gap, in milliseconds since it started.
    pub(super) whole_since: Millis,
    /// The offset up to which publications are from before the node heard the channel; `None` if a
    /// gap was told since.
    pub(super) heard_from: Option<Offset>,
    /// The tag of the stream's epoch in which the node hears the channel.
    pub(super) epoch: u32,
    /// Whether the channel keeps what the stream has from before the node heard it.
    pub(super) earlier: Earlier,
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
    /// The members on all nodes; `None` if no subscriber has been shown presence.
    pub(super) roster: Option<Box<Roster>>,
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

/// What a channel keeps of the publications that the stream has from before the node heard it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Earlier {
    /// Nothing.
    #[default]
    Unread,
    /// A subscriber asks for them. Its join, and all behind it, are held until they are read.
    Wanted,
    /// All that the stream had when they were read.
    Read,
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
    /// How it is counted as a subscriber; `None` if it is not.
    pub(super) counted: Option<(Encoding, Transport)>,
    /// Whether it has left long-polling since requests of it are held.
    has_upgraded: bool,
    /// Whether the connection has ended. What is held of it is passed over then.
    pub(super) has_ended: bool,
}

impl Attachment {
    pub(super) fn is_behind(&self, worker: WorkerId) -> bool {
        self.behind.iter().any(|(behind, _)| *behind == worker)
    }

    /// Notes that the channel has dropped what it kept.
    pub(super) fn forget_earlier(&mut self) {
        if self.earlier == Earlier::Read {
            self.earlier = Earlier::Unread;
        }
    }

    /// Notes that a worker has no subscribers any more, so that it misses nothing.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.behind.retain(|(behind, _)| *behind != worker);
    }

    /// Holds a request back. If nothing else of its connection is held, `counted` is the encoding
    /// under which that is counted.
    pub(super) fn hold(&mut self, counted: Option<Encoding>, held: Held) {
        let &Subscriber { connection, transport, .. } = held.subscriber();
        let counted = counted.map(|encoding| (encoding, transport));
        let waiting = Waiting { requests: 0, counted, has_upgraded: false, has_ended: false };
        self.connections.entry(connection).or_insert(waiting).requests += 1;
        self.held.push_back(held);
    }

    /// Takes the next held request. Its subscriber has the transport that it has now.
    pub(super) fn next(&mut self) -> Option<Held> {
        let mut held = self.held.pop_front()?;
        let subscriber = held.subscriber_mut();
        let waiting = self.connections.get(&subscriber.connection);
        if waiting.is_some_and(|waiting| waiting.has_upgraded) {
            subscriber.transport = Transport::WebSocket;
        }
        Some(held)
    }

    /// Notes that a connection has left long-polling. Returns the encoding under which it is
    /// counted: `encoding` if nothing of it is held, and `None` if it is not counted.
    pub(super) fn upgrade(&mut self, connection: ConnId, encoding: Encoding) -> Option<Encoding> {
        let Some(waiting) = self.connections.get_mut(&connection) else { return Some(encoding) };
        waiting.has_upgraded = true;
        let (encoding, transport) = waiting.counted.as_mut()?;
        *transport = Transport::WebSocket;
        Some(*encoding)
    }

    /// Notes that a request is not held any more, and whether it was carried out.
    pub(super) fn settle(&mut self, held: &Held, is_done: bool, budget: &Budget) {
        let &Subscriber { connection, encoding, transport, .. } = held.subscriber();
        let is_join = matches!(held, Held::Join(_));
        if is_join {
            budget.give(1);
        }
        let Some(waiting) = self.connections.get_mut(&connection) else { return };
        waiting.requests -= 1;
        if is_done {
            waiting.counted = is_join.then_some((encoding, transport));
        }
        if waiting.requests == 0 {
            self.connections.remove(&connection);
        }
    }
}

impl Held {
    pub(super) fn subscriber(&self) -> &Subscriber {
        match self {
            Self::Join(join) => &join.subscriber,
            Self::Leave(leave) => &leave.subscriber,
        }
    }

    fn subscriber_mut(&mut self) -> &mut Subscriber {
        match self {
            Self::Join(join) => &mut join.subscriber,
            Self::Leave(leave) => &mut leave.subscriber,
        }
    }
}
