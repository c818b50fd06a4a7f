//! A connection, and a worker's table of connections.

use std::collections::HashMap;

use super::wire::{Sealed, Wire};
use crate::broker::link::Link;
use crate::broker::slab::Slab;
use crate::codec::websocket::Decoder;
use crate::interface::Session;
use crate::interface::Shared;
use crate::interface::frame::Frame;
use crate::interface::throttle::Held;
use crate::message::{ConnId, Millis, Now, SessionId, SessionKey, WorkerId};

/// A connection. If it is idle, it owns no memory elsewhere except what its session keeps.
#[derive(Debug)]
pub(super) struct Connection {
    /// The decoder of WebSocket messages.
    pub(super) decoder: Decoder,
    /// The broker's part of the connection.
    pub(super) link: Link<Frame>,
    /// The session, or the state of closing.
    pub(super) state: State,
    /// The encrypted side; `None` if the client's bytes are not encrypted.
    pub(super) sealed: Option<Box<Sealed>>,
}

/// Whether a connection is open.
#[derive(Debug)]
pub(super) enum State {
    /// The connection is open.
    Open(Session),
    /// The close frame is in the outbox or sent. The peer has not closed its side yet.
    Closing {
        /// When the worker stops waiting for the peer, in milliseconds since the node started.
        until: Millis,
    },
}

impl Connection {
    /// Creates a connection with nothing to send. Without a socket it is on long-polling.
    pub(super) fn new(wire: Option<Wire>, state: State) -> Self {
        let (mut link, mut sealed) = (Link::new(None), None);
        if let Some(wire) = wire {
            link.socket = Some(wire.socket);
            link.set_deflates(wire.deflates);
            sealed = wire.sealed;
        }
        Self { decoder: Decoder::default(), link, state, sealed }
    }

    /// Returns the session; `None` if the connection is being closed.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Open(session) => Some(session),
            State::Closing { .. } => None,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Returns when the connection has something to do, in milliseconds since the node started;
    /// `None` if never.
    pub(super) fn deadline(&self, now: Now, shared: &Shared) -> Option<Millis> {
        match &self.state {
            State::Open(session) => session.deadline(now, shared),
            State::Closing { until } => Some(*until),
        }
    }
}

/// A worker's connections by slot.
#[derive(Debug)]
pub(super) struct Connections {
    worker: WorkerId,
    slots: Slab<Connection>,
    generations: Vec<u32>,
    /// What sockets count at their clients' addresses, by slot. It has places only if there is a
    /// limit, so that a connection has none without it.
    held: Vec<Option<Held>>,
    /// Slots of long-polling sessions that moved here from other workers. The session id in their
    /// requests names a slot of the former worker, so they are found by the secret part of the id.
    by_key: HashMap<SessionKey, u32>,
}

impl Connections {
    /// Creates an empty table.
    pub(super) fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            slots: Slab::default(),
            generations: Vec::new(),
            held: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    /// Adds a connection and returns its id.
    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        let slot = self.slots.insert(connection);
        if self.generations.len() <= slot as usize {
            self.generations.resize(slot as usize + 1, 0);
        }
        self.id(slot)
    }

    /// Removes a connection. Mail to its id is ignored from now on.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let connection = self.slots.remove(slot)?;
        self.take_held(slot);
        self.renew(slot);
        Some(connection)
    }

    /// Keeps what the socket in a slot counts at its client's address until it is removed.
    pub(super) fn hold(&mut self, slot: u32, held: Option<Held>) {
        let (Some(held), at) = (held, slot as usize) else { return };
        if self.held.len() <= at {
            self.held.resize_with(at + 1, || None);
        }
        self.held[at] = Some(held);
    }

    /// Takes what the socket in a slot counts at its client's address.
    pub(super) fn take_held(&mut self, slot: u32) -> Option<Held> {
        self.held.get_mut(slot as usize)?.take()
    }

    /// Gives the connection in a slot a new id. Mail to the old id is ignored from now on.
    pub(super) fn renew(&mut self, slot: u32) {
        self.generations[slot as usize] = self.generations[slot as usize].wrapping_add(1);
    }

    /// Lets a session be found by the secret part of its id alone.
    pub(super) fn find_by_key(&mut self, key: SessionKey, slot: u32) {
        self.by_key.insert(key, slot);
    }

    /// Forgets that a session is found by the secret part of its id, if it is.
    pub(super) fn forget_key(&mut self, key: &SessionKey) {
        if !self.by_key.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// Returns the slot of a session that [`Self::find_by_key`] was called for.
    pub(super) fn slot_by_key(&self, key: &SessionKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Returns the slots that have a connection.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> {
        let all = (0u32..).zip(&self.generations);
        all.map(|(slot, _)| slot).filter(|slot| self.slots.get(*slot).is_some())
    }

    /// Returns the ids of all connections.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.taken().map(|slot| self.id(slot))
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot)
    }

    /// Returns the connection with this id; `None` if it has ended.
    pub(super) fn by_id(&mut self, id: ConnId) -> Option<&mut Connection> {
        if self.generations.get(id.slot as usize) != Some(&id.generation) {
            return None;
        }
        self.get_mut(id.slot)
    }

    /// Returns the id of the connection that is in a slot now.
    pub(super) fn id(&self, slot: u32) -> ConnId {
        let generation = self.generations.get(slot as usize).copied().unwrap_or_default();
        ConnId { worker: self.worker, slot, generation }
    }

    /// Finds the connection of a session; `None` if it has ended or the secret part of the id is
    /// wrong.
    pub(super) fn find(&mut self, session: &SessionId) -> Option<(ConnId, &mut Connection)> {
        let id = self.id(session.slot);
        let connection = self.get_mut(session.slot)?;
        let answers = connection.session().is_some_and(|one| one.key() == Some(&session.key));
        answers.then_some((id, connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // The memory of idle connections depends on this.
        assert!(size_of::<Option<Connection>>() <= 152, "{}", size_of::<Option<Connection>>());
    }

    #[test]
    fn a_reused_slot_is_another_connection() {
        let mut connections = Connections::new(WorkerId(3));
        let connection = || Connection::new(None, State::Open(Session::Echo));
        let first = connections.insert(connection());
        connections.remove(first.slot);
        let second = connections.insert(connection());
        assert_eq!(first.slot, second.slot);
        assert!(connections.by_id(first).is_none());
        assert!(connections.by_id(second).is_some());
    }
}
