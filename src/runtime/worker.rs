//! A worker: its connections, what their sessions share, and how a connection begins, handles an
//! event and ends. It reads no clock and awaits nothing, so that a simulation can run it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rand::rngs::StdRng;

use super::arrivals::Arrivals;
use super::connection::{Connection, Connections, State};
use super::forwards::Forwards;
use super::poller::Poller;
use super::sender::Batch;
use super::shared::Shared;
use super::timer::{TICK, Wheel};
use super::wire::Wire;
use crate::broker::link::Progress;
use crate::broker::outboxes::Excess;
use crate::codec::websocket::Decoder;
use crate::interface;
use crate::interface::Session;
use crate::interface::authenticators::Authenticators;
use crate::interface::context::{Context, Local};
use crate::interface::frame::Frame;
use crate::interface::next::{Close, End, Next, Reason};
use crate::limits::{CLOSE_LINGER_MS, SHUTDOWN_LINGER_MS, TURN_MAIL_MAX};
use crate::message::{ConnId, Millis, Nanos, Now, RecoveryKey, WorkerId};
use crate::metrics::{Counter, Counters};

/// One worker. It stays on its own thread.
pub struct Worker {
    pub(super) id: WorkerId,
    pub(super) shared: Arc<Shared>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) connections: Connections,
    pub(super) local: Local,
    pub(super) poller: Poller,
    pub(super) wheel: Wheel,
    /// Long-polling sessions that moved to other workers.
    pub(super) forwards: Forwards,
    /// The slots of sockets to read.
    pub(super) unread: VecDeque<u32>,
    /// The time of the current event.
    pub(super) now: Now,
    /// When the publications were accepted whose frames may still wait in outboxes.
    pub(super) undrained: Vec<Nanos>,
    /// The connections that are being sent to.
    pub(super) batch: Batch,
    /// Memory for what encrypted records hold.
    pub(super) opened: Vec<u8>,
    /// When the worker last looked after the node's memory.
    pub(super) watch: Watch,
    /// The connections still to be closed; set once the node stops.
    pub(super) drain: Option<DrainProgress>,
}

/// The connections that a stopping node has still to close.
#[derive(Debug)]
pub(super) struct DrainProgress {
    /// How many connections, without those on long-polling, there were when the node began to stop.
    pub(super) all: u64,
    /// Connections that have not begun to leave their channels.
    pub(super) waiting: VecDeque<ConnId>,
    /// Connections that have begun to leave. Each is closed when its last subscription has ended,
    /// because only then it has received everything that was counted for it.
    pub(super) leaving: VecDeque<Leaving>,
    /// What follows when all have left.
    pub(super) untold: Untold,
}

/// A connection that leaves its channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) id: ConnId,
    /// Until when it waits for the other nodes of a cluster to know its session, in milliseconds
    /// since the node started.
    pub(super) until: Millis,
}

/// The sessions without a connection of which the other nodes of a cluster lack something.
#[derive(Debug)]
pub(super) enum Untold {
    /// There are still connections, each of which may end without its session.
    Unknown,
    /// These sessions, which are waited for until this time, in milliseconds since the node
    /// started.
    These(Vec<RecoveryKey>, Millis),
    /// None is waited for any longer.
    Over,
}

/// When a worker last did what it does from time to time for the node's memory.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When it noted the memory in use, in milliseconds since the node started.
    pub(super) noted: Millis,
    /// When it marked the connections whose clients take nothing.
    pub(super) marked: Millis,
    /// How many looks through its connections it has finished.
    pub(super) looked: u64,
}

/// A connection that has begun at this worker, with what its session asks for first and the bytes
/// that came with its socket.
pub(super) struct Begun {
    pub(super) slot: u32,
    pub(super) next: Next,
    pub(super) leftover: Vec<u8>,
}

impl Worker {
    /// Creates a worker without connections. The doorbell of its mailbox wakes it.
    ///
    /// # Errors
    /// If the system provides no epoll or timer descriptor.
    pub fn new(
        id: WorkerId,
        (shared, arrivals): (Arc<Shared>, Arc<Arrivals>),
        auth: Authenticators,
        counters: Arc<Counters>,
        (random, now): (StdRng, Now),
    ) -> io::Result<Self> {
        let poller =
            Poller::new(shared.interfaces.broker.mailboxes.workers.of(id).doorbell().descriptor())?;
        let local = Local::new(id, &shared.interfaces, auth, counters, random);
        let timings = &shared.interfaces.timings;
        let patience = 2 * (timings.ping_interval_ms + timings.ping_timeout_ms);
        Ok(Self {
            id,
            shared,
            arrivals,
            connections: Connections::new(id),
            local,
            poller,
            wheel: Wheel::new(now.monotonic()),
            forwards: Forwards::new(patience),
            unread: VecDeque::new(),
            now,
            undrained: Vec::with_capacity(TURN_MAIL_MAX),
            batch: Batch::default(),
            opened: Vec::new(),
            watch: Watch::default(),
            drain: None,
        })
    }

    /// Calls the session in a slot with an event, and enters its new deadline into the wheel.
    /// `None` if the connection has ended or is being closed.
    pub(super) fn on<R>(
        &mut self,
        slot: u32,
        event: impl FnOnce(&mut Session, &mut Context<'_>, &mut Decoder) -> R,
    ) -> Option<R> {
        let id = self.connections.id(slot);
        let Self { connections, local, shared, now, .. } = self;
        let connection = connections.get_mut(slot)?;
        let Connection { decoder, link, state: State::Open(session), .. } = connection else {
            return None;
        };
        let result = event(
            session,
            &mut Context { id, now: *now, link, local, shared: &shared.interfaces },
            decoder,
        );
        self.wheel.schedule(slot, connection, (self.now, &self.shared.interfaces));
        Some(result)
    }

    /// Adds a connection and watches its socket, if it has one. Returns its slot; `None` if the
    /// system refuses to watch the socket.
    pub(super) fn insert(&mut self, mut wire: Option<Wire>, state: State) -> Option<u32> {
        let held = wire.as_mut().and_then(|wire| wire.held.take());
        let ConnId { slot, .. } = self.connections.insert(Connection::new(wire, state));
        self.connections.hold(slot, held);
        let connection = self.connections.get_mut(slot)?;
        let socket = connection.link.socket.as_ref();
        if let Some(Err(error)) = socket.map(|socket| self.poller.add(socket, slot)) {
            tracing::warn!(%error, "a new socket cannot be watched and is closed");
            self.remove(slot, Reason::System);
            return None;
        }
        self.wheel.schedule(slot, connection, (self.now, &self.shared.interfaces));
        Some(slot)
    }

    /// Ends the session and sends a close frame. The connection then waits for the peer to close as
    /// well, so that a reset does not destroy what was sent. A connection without a socket is
    /// removed at once.
    pub(super) fn close(&mut self, slot: u32, close: Close) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.link.socket.is_none() {
            return self.remove(slot, close.reason);
        }
        let State::Open(session) = &connection.state else { return };
        let farewell = session.farewell(&close);
        self.end(slot, close.reason);
        let linger = match close.reason {
            Reason::Drain => SHUTDOWN_LINGER_MS,
            _ => CLOSE_LINGER_MS,
        };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.state = State::Closing { until: self.now.monotonic() + linger };
        if farewell.is_empty() {
            // Draining an empty outbox ends our half of the socket.
            self.local.outboxes.mark(slot, &mut connection.link);
        } else {
            self.local.outboxes.push(slot, &mut connection.link, Frame::own(farewell));
        }
        self.wheel.schedule(slot, connection, (self.now, &self.shared.interfaces));
    }

    /// Ends the session and removes the connection without a close frame.
    pub(super) fn remove(&mut self, slot: u32, reason: Reason) {
        self.end(slot, reason);
        let Some(mut connection) = self.connections.remove(slot) else { return };
        self.shared.interfaces.broker.mailboxes.unassign(self.id);
        self.local.outboxes.unblock(&mut connection.link);
        let dropped = connection.link.outbox.clear(&mut self.local.outboxes.spares);
        let sealed = connection.sealed.map(|mut sealed| sealed.give_up()).unwrap_or_default();
        let counters = &self.local.counters;
        let counter = match reason {
            Reason::SlowConsumer => &counters.dropped_slow_consumer,
            Reason::Memory => &counters.dropped_memory,
            _ => &counters.dropped_closed,
        };
        counter.add(dropped.deliveries + sealed.deliveries);
    }

    /// Ends the session of a connection: it leaves its channels and no longer counts as open.
    fn end(&mut self, slot: u32, reason: Reason) {
        let id = self.connections.id(slot);
        let Self { connections, local, shared, now, .. } = self;
        let Some(Connection { link, state, .. }) = connections.get_mut(slot) else { return };
        let State::Open(session) = state else { return };
        let ctx = &mut Context { id, now: *now, link, local, shared: &shared.interfaces };
        let End { lingers_until, withdraw, close_too } = session.on_end(ctx, reason);
        if let Some(subscriber) = session.subscriber(id) {
            ctx.leave_all(&subscriber, lingers_until);
        }
        if let Some(gauge) = session.gauge(&local.counters) {
            gauge.sub(1);
            closed(&local.counters, reason).add(1);
        }
        let key = session.key().copied();
        *state = State::Closing { until: now.monotonic() };
        key.iter().for_each(|key| connections.forget_key(key));
        if let Some(session) = withdraw {
            // The session that the probe offered to carry stays on long-polling.
            let carried = connections.find(&session).and_then(|(_, carried)| carried.session());
            carried.into_iter().for_each(|carried| carried.on_offer_withdrawn(id));
        }
        if let Some(probe) = close_too.filter(|probe| self.connections.by_id(*probe).is_some()) {
            self.close(probe.slot, Close { code: None, text: "", reason });
        }
    }

    /// Removes the connections that hold too much, and counts what other outboxes left out.
    pub fn reap(&mut self) {
        if let Some(lost) = self.local.outboxes.take_lost() {
            self.local.counters.dropped_oldest.add(lost.oldest);
            self.local.counters.conflated.add(lost.conflated);
            self.local.counters.gaps.add(lost.notices);
        }
        while let Some((slot, excess)) = self.local.outboxes.next_doomed() {
            let reason = match excess {
                Excess::Outbox => Reason::SlowConsumer,
                Excess::Memory => Reason::Memory,
            };
            let found = self.connections.get_mut(slot);
            if found.is_some_and(|connection| connection.link.progress == Progress::Doomed) {
                self.remove(slot, reason);
            }
        }
    }
}

impl Wheel {
    /// Enters a connection's next deadline, unless it has an earlier entry.
    pub(super) fn schedule(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        (now, shared): (Now, &interface::Shared),
    ) {
        let Some(deadline) = connection.deadline(now, shared) else { return };
        if connection.link.tick == 0 || connection.link.tick > deadline.div_ceil(TICK) {
            connection.link.tick = self.enter(slot, deadline);
        }
    }
}

/// Returns the counter of connections that were closed for this reason.
fn closed(counters: &Counters, reason: Reason) -> &Counter {
    match reason {
        Reason::Client => &counters.closed_client,
        Reason::PingTimeout => &counters.closed_ping_timeout,
        Reason::ConnectTimeout => &counters.closed_connect_timeout,
        Reason::Protocol => &counters.closed_protocol,
        Reason::TooLong => &counters.closed_too_long,
        Reason::SlowConsumer => &counters.closed_slow_consumer,
        Reason::Memory => &counters.closed_memory,
        Reason::Expired => &counters.closed_expired,
        Reason::Drain => &counters.closed_drain,
        Reason::System => &counters.closed_system,
    }
}
