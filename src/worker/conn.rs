//! One connection, and the table of all of a worker's.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::engine::directory::Subscriber;
use crate::engine::index;
use crate::engine::outbox::{Outbox, Outgoing};
use crate::engine::presence::MemberKey;
use crate::engine::slots::Slots;
use crate::limits::M2_OUTBOX_BYTES_MAX;
use crate::mailbox::PollTicket;
use crate::message::{
    App, ConnId, Credential, Group, Millis, SessionId, SessionKey, Transport, WorkerId,
};
use crate::protocol::engineio::{Heartbeat, Timings};
use crate::protocol::socketio::Pending;
use crate::wire::frame::Decoder;
use crate::worker::forge::Forge;
use crate::worker::frame::Frame;
use crate::worker::m2::M2;
use crate::worker::recovery::Lineage;
use crate::worker::timer::Tick;
use crate::worker::verdict::Line;

/// A connection. An idle one owns no memory besides.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its socket; none on long-polling.
    pub(super) socket: Option<OwnedFd>,
    /// Head of its subscriptions in the index.
    pub(super) subscriptions: u32,
    /// How many of them the directory counts.
    pub(super) subscribed: u16,
    /// It stands in the list of connections to drain.
    pub(super) is_dirty: bool,
    /// Its socket is full; the poller will say when it is not.
    pub(super) is_blocked: bool,
    /// It stands in the list of sockets to read.
    pub(super) is_unread: bool,
    /// The peer has closed its side: the socket is read until its end.
    pub(super) has_ended: bool,
    /// The node stops, and takes it out of its channels.
    pub(super) is_leaving: bool,
    /// Its outbox overflowed: it is closed at the end of the step.
    pub(super) is_doomed: bool,
    /// The wheel's live entry for it; 0 is none.
    pub(super) tick: Tick,
    /// Takes its bytes apart.
    pub(super) decoder: Decoder,
    /// What it has not taken yet.
    pub(super) outbox: Outbox<Frame>,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a connection is.
#[derive(Debug)]
pub(super) enum Kind {
    /// An Engine.IO session.
    Session(Session),
    /// A client of Forge Realtime.
    Forge(Forge),
    /// A client of M2 Realtime.
    M2(M2),
    /// A WebSocket that offers to carry a session on.
    Probe {
        /// Which.
        session: SessionId,
        /// Until when the offer stands.
        until: Millis,
    },
    /// WebSocket echo.
    Echo,
    /// Everything was said; the peer's side of the close is awaited.
    Closing {
        /// Until when.
        until: Millis,
    },
}

/// An Engine.IO session and what runs over it.
#[derive(Debug)]
pub(super) struct Session {
    /// The secret part of its id.
    pub(super) key: SessionKey,
    /// What runs over it.
    pub(super) app: App,
    /// Namespaces entered, a bit each.
    pub(super) namespaces: u8,
    /// Its heartbeat.
    pub(super) heartbeat: Heartbeat,
    /// Until when it must have entered a namespace.
    pub(super) connect_by: Millis,
    /// Names it to other clients, where it stands for itself.
    pub(super) socket_key: [u8; 15],
    /// For whom it speaks, once connected.
    pub(super) credential: Option<Arc<Credential>>,
    /// What few sessions have, and no idle one.
    aside: Option<Box<Aside>>,
    /// Long-polling's own state, while it is the transport.
    pub(super) polling: Option<Box<Polling>>,
    /// What it goes on with after a cut, where it can.
    pub(super) lineage: Option<Box<Lineage>>,
}

/// What few sessions have, and no idle one.
#[derive(Debug, Default)]
struct Aside {
    /// A binary packet that is not complete.
    pending: Option<Pending>,
    /// Commands that wait for a verdict, if there are any.
    line: Option<Line>,
}

/// Long-polling's side of a session.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// The request that waits for packets.
    pub(super) waiting: Option<PollTicket>,
    /// The WebSocket that offers to take over.
    pub(super) probe: Option<ConnId>,
    /// Its probe was answered: polls end at once, so that the client can stop polling.
    pub(super) is_upgrading: bool,
}

impl Session {
    /// A session that opens now.
    pub(super) fn new(app: App, now: Millis, timings: &Timings) -> Self {
        Self {
            key: rand::random(),
            app,
            namespaces: 0,
            heartbeat: Heartbeat::new(now, timings),
            connect_by: now + timings.connect_timeout_ms,
            socket_key: rand::random(),
            credential: None,
            aside: None,
            polling: None,
            lineage: None,
        }
    }

    /// How its bytes travel at the moment.
    pub(super) fn transport(&self) -> Transport {
        match self.polling {
            Some(_) => Transport::Polling,
            None => Transport::WebSocket,
        }
    }

    /// Whether a binary packet is not complete.
    pub(super) fn is_pending(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.pending.is_some())
    }

    /// Takes the binary packet that is not complete.
    pub(super) fn take_pending(&mut self) -> Option<Pending> {
        let pending = self.aside.as_mut()?.pending.take();
        self.tidy_aside();
        pending
    }

    /// Keeps a binary packet until it is complete.
    pub(super) fn keep_pending(&mut self, pending: Pending) {
        self.aside.get_or_insert_default().pending = Some(pending);
    }

    /// The commands that wait, if there are any.
    pub(super) fn line(&self) -> Option<&Line> {
        self.aside.as_ref()?.line.as_ref()
    }

    /// The line in which commands wait, made where there is none.
    pub(super) fn line_made(&mut self) -> &mut Line {
        self.aside.get_or_insert_default().line.get_or_insert_default()
    }

    /// Takes the line away, with what waits in it.
    pub(super) fn drop_line(&mut self) -> Option<Line> {
        let line = self.aside.as_mut()?.line.take();
        self.tidy_aside();
        line
    }

    fn tidy_aside(&mut self) {
        if self.aside.as_ref().is_some_and(|one| one.pending.is_none() && one.line.is_none()) {
            self.aside = None;
        }
    }

    /// Whether a CONNECT is still owed.
    pub(super) fn owes_connect(&self) -> bool {
        self.namespaces == 0 && self.app != App::EngineIoConformance
    }

    /// Its name towards other clients: not derived from the session id, which is a secret.
    pub(super) fn socket_id(&self) -> String {
        socket_id(self.socket_key)
    }

    /// As whom it is present, once connected.
    fn member(&self) -> Option<MemberKey> {
        let credential = self.credential.as_ref()?;
        let id = if credential.is_user { credential.id.clone() } else { self.socket_id().into() };
        Some(MemberKey { is_user: credential.is_user, id })
    }
}

/// A socket id as clients see it: 20 characters.
pub(super) fn socket_id(key: [u8; 15]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key)
}

impl Connection {
    /// A connection with nothing to send yet.
    pub(super) fn new(socket: Option<OwnedFd>, kind: Kind) -> Self {
        Self {
            socket,
            subscriptions: index::NONE,
            subscribed: 0,
            is_dirty: false,
            is_blocked: false,
            is_unread: false,
            has_ended: false,
            is_leaving: false,
            is_doomed: false,
            tick: 0,
            decoder: Decoder::default(),
            outbox: Outbox::default(),
            kind,
        }
    }

    /// Its session, if it is one.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.kind {
            Kind::Session(session) => Some(session),
            _ => None,
        }
    }

    /// As whom it subscribes, once it has said who it is.
    pub(super) fn subscriber(&self, connection: ConnId, group: Group) -> Option<Subscriber> {
        match &self.kind {
            Kind::Session(session) => {
                let (member, transport) = (Some(session.member()?), session.transport());
                Some(Subscriber { connection, group, transport, member })
            }
            Kind::Forge(_) | Kind::M2(_) => {
                let transport = Transport::WebSocket;
                Some(Subscriber { connection, group, transport, member: None })
            }
            _ => None,
        }
    }

    /// Its Forge client, if it is one.
    pub(super) fn forge(&mut self) -> Option<&mut Forge> {
        match &mut self.kind {
            Kind::Forge(forge) => Some(forge),
            _ => None,
        }
    }

    /// Its M2 client, if it is one.
    pub(super) fn m2(&mut self) -> Option<&mut M2> {
        match &mut self.kind {
            Kind::M2(client) => Some(client),
            _ => None,
        }
    }

    /// Whether a document goes into the books of a client of M2 instead of its outbox, because so
    /// much waits there that it is better sent when that is gone, as it is then.
    pub(super) fn is_owed_rather(&mut self, frame: &Frame) -> bool {
        if !matches!(self.kind, Kind::M2(_)) {
            return false;
        }
        let waits = self.outbox.bytes() + frame.as_ref().len();
        self.is_blocked
            && waits > M2_OUTBOX_BYTES_MAX
            && !self.outbox.is_empty()
            && self.owes(frame)
    }

    /// Enters a document into the books of a client of M2. False where frame or client is no such
    /// one.
    pub(super) fn owes(&mut self, frame: &Frame) -> bool {
        let Some((client, document)) = self.m2().zip(frame.expendable()) else { return false };
        client.debts.owe(document)
    }

    /// Strikes a document that was put into the outbox of a client of M2 off its books.
    pub(super) fn pays(&mut self, frame: &Frame) {
        if let Some((client, document)) = self.m2().zip(frame.expendable()) {
            client.debts.sent(document);
        }
    }

    /// When the token expires that it has shown, in seconds since the epoch.
    pub(super) fn token_expires_at(&self) -> Option<u64> {
        match &self.kind {
            Kind::Session(session) => session.credential.as_ref()?.expires_at,
            Kind::M2(client) => client.party.expires_at,
            _ => None,
        }
    }

    /// Whether it is a client of M2 that is owed documents.
    pub(super) fn is_in_debt(&mut self) -> bool {
        self.m2().is_some_and(|client| !client.debts.is_empty())
    }

    /// By what it is known whether its client is still there, on a plain WebSocket.
    pub(super) fn heartbeat(&mut self) -> Option<&mut Heartbeat> {
        match &mut self.kind {
            Kind::Forge(client) => Some(&mut client.heartbeat),
            Kind::M2(client) => Some(&mut client.heartbeat),
            _ => None,
        }
    }

    /// When somebody must look at it again.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match &self.kind {
            Kind::Session(session) if session.owes_connect() => {
                Some(session.heartbeat.due().min(session.connect_by))
            }
            Kind::Session(session) => Some(session.heartbeat.due()),
            Kind::Forge(forge) => Some(forge.deadline()),
            Kind::M2(client) => Some(client.heartbeat.due()),
            Kind::Probe { until, .. } | Kind::Closing { until } => Some(*until),
            Kind::Echo => None,
        }
    }
}

/// A worker's connections by slot.
#[derive(Debug)]
pub(super) struct Connections {
    worker: WorkerId,
    slots: Slots<Connection>,
    generations: Vec<u32>,
    /// Long-polling sessions that came from other workers, whose requests know their key alone.
    by_key: HashMap<SessionKey, u32>,
}

impl Connections {
    /// Of this worker.
    pub(super) fn new(worker: WorkerId) -> Self {
        Self { worker, slots: Slots::default(), generations: Vec::new(), by_key: HashMap::new() }
    }

    /// Takes a connection in.
    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        let slot = self.slots.insert(connection);
        if self.generations.len() <= slot as usize {
            self.generations.resize(slot as usize + 1, 0);
        }
        self.id(slot)
    }

    /// Lets a connection go.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let connection = self.slots.remove(slot)?;
        if let Kind::Session(session) = &connection.kind
            && !self.by_key.is_empty()
        {
            self.by_key.remove(&session.key);
        }
        self.renew(slot);
        Some(connection)
    }

    /// Gives what is in a slot a new id, so that mail on its way to the old one finds nobody.
    pub(super) fn renew(&mut self, slot: u32) -> ConnId {
        self.generations[slot as usize] = self.generations[slot as usize].wrapping_add(1);
        self.id(slot)
    }

    /// Makes a session known by its key alone.
    pub(super) fn find_by_key(&mut self, key: SessionKey, slot: u32) {
        self.by_key.insert(key, slot);
    }

    /// The slot of a session that is known by its key.
    pub(super) fn slot_by_key(&self, key: &SessionKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The ids of all of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> {
        let taken =
            (0u32..).zip(&self.generations).filter(|(slot, _)| self.slots.get(*slot).is_some());
        taken.map(|(slot, _)| self.id(slot))
    }

    /// The connection in a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot)
    }

    /// The connection of that id, unless it is gone.
    pub(super) fn by_id(&mut self, id: ConnId) -> Option<&mut Connection> {
        if self.generations.get(id.slot as usize) != Some(&id.generation) {
            return None;
        }
        self.get_mut(id.slot)
    }

    /// The full id of what is in a slot now.
    pub(super) fn id(&self, slot: u32) -> ConnId {
        let generation = self.generations.get(slot as usize).copied().unwrap_or_default();
        ConnId { worker: self.worker, slot, generation }
    }

    /// The session of that id, unless it is gone or the key is wrong.
    pub(super) fn session(&mut self, id: &SessionId) -> Option<(ConnId, &mut Connection)> {
        let conn_id = self.id(id.slot);
        let connection = self.get_mut(id.slot)?;
        match &connection.kind {
            Kind::Session(session) if session.key == id.key => Some((conn_id, connection)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // The idle memory per connection stands or falls with this.
        assert!(size_of::<Option<Connection>>() <= 176, "{}", size_of::<Option<Connection>>());
    }

    #[test]
    fn a_reused_slot_is_somebody_else() {
        let mut connections = Connections::new(WorkerId(3));
        let first = connections.insert(Connection::new(None, Kind::Echo));
        connections.remove(first.slot);
        let second = connections.insert(Connection::new(None, Kind::Echo));
        assert_eq!(first.slot, second.slot);
        assert!(connections.by_id(first).is_none());
        assert!(connections.by_id(second).is_some());
    }
}
