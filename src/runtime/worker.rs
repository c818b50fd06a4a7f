//! A worker without its loop: connections, what their sessions share, and the events that the loop
//! hands in. It reads no clock and awaits nothing, so that a simulation can run it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rand::rngs::StdRng;

use super::arrivals::{Arrival, Arrivals};
use super::connection::{Connection, Connections, State};
use super::drain::DrainProgress;
use super::migrate::Forwards;
use super::poller::Poller;
use super::shared::Shared;
use super::timer::{TICK, Wheel};
use super::{fanout, migrate, pending, upgrade};
use crate::codec::websocket::Decoder;
use crate::interface;
use crate::interface::authenticators::Authenticators;
use crate::interface::context::{Context, Local};
use crate::interface::frame::Frame;
use crate::interface::next::{Close, End, Next, Reason};
use crate::interface::{Session, close_frame};
use crate::limits::{CLOSE_LINGER_MS, SHUTDOWN_LINGER_MS, TURN_MAIL_MAX, TURN_READS_MAX};
use crate::mailbox::{Loaded, Mail};
use crate::message::{Nanos, Now, WorkerId};
use crate::metrics::{Counter, Counters};

/// One worker. Lives on its own thread and never leaves it.
pub struct Worker {
    pub(super) id: WorkerId,
    pub(super) shared: Arc<Shared>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) connections: Connections,
    pub(super) local: Local,
    pub(super) poller: Poller,
    pub(super) wheel: Wheel,
    /// Long-polling sessions that went on at other workers.
    pub(super) forwards: Forwards,
    /// Slots of sockets to read.
    pub(super) unread: VecDeque<u32>,
    /// Now, as it was read for the event at hand.
    pub(super) now: Now,
    /// When the publications were accepted that the next drain carries.
    pub(super) undrained: Vec<Nanos>,
    /// Which connections are still to be closed, once the node stops.
    pub(super) drain: Option<DrainProgress>,
}

impl Worker {
    /// Creates a worker without connections, which is woken by the doorbell of its mailbox.
    ///
    /// # Errors
    /// If the system gives no epoll or timer descriptor.
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
        Ok(Self {
            id,
            shared,
            arrivals,
            connections: Connections::new(id),
            local,
            poller,
            wheel: Wheel::new(now.monotonic()),
            forwards: Forwards::default(),
            unread: VecDeque::new(),
            now,
            undrained: Vec::with_capacity(TURN_MAIL_MAX),
            drain: None,
        })
    }

    /// Acts on a piece of mail. Returns how many bytes one connection was sent because of it.
    pub fn take(&mut self, mail: Mail) -> usize {
        let Self { connections, local, shared, now, .. } = self;
        match mail {
            Mail::Deliver(delivery) => {
                if delivery.publication.content.is_published() {
                    self.undrained.push(delivery.publication.accepted);
                }
                return fanout::deliver(connections, local, &delivery.publication, now.monotonic());
            }
            Mail::Activate(activation) => {
                return fanout::activate(
                    connections,
                    (local, &shared.interfaces, *now),
                    *activation,
                );
            }
            Mail::Deactivate(deactivation) => {
                fanout::deactivate(connections, (local, &shared.interfaces, *now), &deactivation);
            }
            Mail::Recover(id) => {
                if connections.by_id(id).is_some() {
                    self.on(id.slot, |session, ctx, _| session.on_resumed(ctx));
                }
            }
            Mail::Arrive => {
                if let Some(arrival) = self.arrivals.take(self.id) {
                    self.arrive(arrival);
                }
            }
            Mail::PollGone(session) => pending::on_poll_gone(self, session),
            Mail::Loaded(loaded) => return self.take_loaded(*loaded),
            Mail::Verdict(verdict) => local.authorizer.learn(*verdict, &local.counters),
            Mail::Probe(ticket) => shared.interfaces.broker.mailboxes.answer(ticket, Ok(())),
        }
        0
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Socket(newcomer) => {
                upgrade::adopt(self, newcomer);
            }
            Arrival::Poll(asked) => pending::on_poll(self, asked),
            Arrival::Session(migrant) => migrate::arrive(self, migrant),
        }
    }

    fn take_loaded(&mut self, loaded: Loaded) -> usize {
        let Loaded { load, found } = loaded;
        let is_known = found.is_some();
        let waiter = self.local.loads.answered(&load);
        let id = load.connection;
        let mut bytes = 0;
        if self.connections.by_id(id).is_some() {
            let sent = waiter.and_then(|waiter| {
                self.on(id.slot, |session, ctx, _| session.on_loaded(ctx, (&load, &waiter), found))
            });
            bytes = sent.unwrap_or_default();
        }
        if is_known
            && let Some(connection) = self.connections.by_id(id)
            && connection.link.outbox.is_empty()
            && connection.link.is_stale()
        {
            // Nothing stale had to be sent, so that no drain of the outbox will report it.
            self.local.outboxes.stale.push(id);
        }
        self.local.loads.ask(&self.shared.interfaces, self.id);
        bytes
    }

    /// Takes the bytes that came for a connection apart, until they are used up or the connection
    /// is gone. Returns the slot that goes on with its socket, if any.
    pub fn receive(&mut self, mut slot: u32, bytes: &mut [u8]) -> Option<u32> {
        let mut at = 0;
        loop {
            let next = self
                .on(slot, |session, ctx, decoder| session.on_bytes(ctx, decoder, bytes, &mut at));
            match next {
                Some(Next::Stay) => return Some(slot),
                Some(next) => slot = self.apply(slot, next, &bytes[at..])?,
                // The bytes of a connection that is being closed are discarded.
                None => return self.connections.get_mut(slot).map(|_| slot),
            }
        }
    }

    /// Runs an event of the session in a slot, and enters the deadline that follows from it.
    /// `None` if the connection is gone or being closed.
    pub(super) fn on<R>(
        &mut self,
        slot: u32,
        event: impl FnOnce(&mut Session, &mut Context<'_>, &mut Decoder) -> R,
    ) -> Option<R> {
        let id = self.connections.id(slot);
        let Self { connections, local, shared, now, .. } = self;
        let connection = connections.get_mut(slot)?;
        let Connection { decoder, link, state: State::Open(session) } = connection else {
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

    /// Carries out what an event asked of the runtime. `rest` is what came behind the message that
    /// asked. Returns the slot that goes on, if any.
    pub(super) fn apply(&mut self, slot: u32, next: Next, rest: &[u8]) -> Option<u32> {
        match next {
            Next::Stay => {}
            Next::Close(close) => self.close(slot, close),
            Next::Renew => self.connections.renew(slot),
            Next::Migrate { to, auth } => return migrate::depart(self, slot, (to, &auth), rest),
            Next::Offer { session, step } => return upgrade::offer(self, slot, &session, step),
            Next::Displace { old, resuming } => {
                let held = self.connections.by_id(old).and_then(Connection::session);
                let is_theirs = held.is_some_and(|one| one.holds(&resuming.credential));
                if is_theirs {
                    self.remove(old.slot, Reason::Client);
                }
                let next = self
                    .on(slot, |session, ctx, _| session.on_displaced(ctx, &resuming, is_theirs));
                return self.apply(slot, next?, rest);
            }
        }
        self.connections.get_mut(slot).map(|_| slot)
    }

    /// Sends a last frame and waits for the peer to close as well, so that what was sent is not
    /// lost to a reset. The session ends at once. A connection without a socket is gone at once.
    pub(super) fn close(&mut self, slot: u32, close: Close) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.link.socket.is_none() {
            return self.remove(slot, close.reason);
        }
        self.end(slot, close.reason);
        let linger = match close.reason {
            Reason::Drain => SHUTDOWN_LINGER_MS,
            _ => CLOSE_LINGER_MS,
        };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.state = State::Closing { until: self.now.monotonic() + linger };
        let frame = Frame::own(close_frame(&close));
        self.local.outboxes.push(slot, &mut connection.link, frame);
        self.wheel.schedule(slot, connection, (self.now, &self.shared.interfaces));
    }

    /// Lets a connection go without another frame.
    pub(super) fn remove(&mut self, slot: u32, reason: Reason) {
        self.end(slot, reason);
        let Some(mut connection) = self.connections.remove(slot) else { return };
        self.shared.interfaces.broker.mailboxes.unassign(self.id);
        let dropped = connection.link.outbox.clear(&mut self.local.outboxes.spares);
        let counters = &self.local.counters;
        let counter = match reason {
            Reason::SlowConsumer => &counters.dropped_slow_consumer,
            _ => &counters.dropped_closed,
        };
        counter.add(dropped.deliveries);
    }

    /// Ends the session of a connection: it leaves its channels and is uncounted.
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
            upgrade::withdraw(connections, id, &session);
        }
        if let Some(probe) = close_too.filter(|probe| self.connections.by_id(*probe).is_some()) {
            self.close(probe.slot, Close { code: None, text: "", reason });
        }
    }

    /// Tells every session the time whose deadline has come.
    pub fn run_timers(&mut self) {
        while let Some((tick, slots)) = self.wheel.due(self.now.monotonic()) {
            for slot in slots {
                let Some(connection) = self.connections.get_mut(slot) else { continue };
                if connection.link.tick != tick {
                    continue;
                }
                connection.link.tick = 0;
                match connection.state {
                    State::Closing { until } if until <= self.now.monotonic() => {
                        self.remove(slot, Reason::Client);
                    }
                    State::Closing { .. } => {
                        self.wheel.schedule(slot, connection, (self.now, &self.shared.interfaces));
                    }
                    State::Open(_) => self.deadline(slot),
                }
            }
        }
    }

    /// Tells a session the time.
    pub(super) fn deadline(&mut self, slot: u32) {
        if let Some(next) = self.on(slot, |session, ctx, _| session.on_deadline(ctx)) {
            self.apply(slot, next, &[]);
        }
    }

    /// Lets sessions go on whose verdicts are known. True if there are more of them.
    pub fn resume_judged(&mut self) -> bool {
        for _ in 0..self.local.authorizer.ready().min(TURN_READS_MAX) {
            let Some(id) = self.local.authorizer.next_ready() else { break };
            if self.connections.by_id(id).is_none() {
                continue;
            }
            let is_done = self.on(id.slot, |session, ctx, _| session.on_verdict(ctx));
            self.reap();
            if is_done == Some(false) {
                self.local.authorizer.not_ready(id);
                break;
            }
        }
        self.local.authorizer.ready() > 0
    }

    /// Closes the connections whose outbox overflowed, and counts what the others lost.
    pub fn reap(&mut self) {
        if let Some(lost) = self.local.outboxes.take_lost() {
            self.local.counters.dropped_oldest.add(lost.oldest);
            self.local.counters.conflated.add(lost.conflated);
            self.local.counters.gaps.add(lost.notices);
        }
        while let Some(slot) = self.local.outboxes.next_doomed() {
            if self.connections.get_mut(slot).is_some_and(|connection| connection.link.is_doomed) {
                self.remove(slot, Reason::SlowConsumer);
            }
        }
    }
}

impl Wheel {
    /// Enters a connection's next deadline, unless an earlier one is there.
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

/// The counter of connections that were closed for a reason.
fn closed(counters: &Counters, reason: Reason) -> &Counter {
    match reason {
        Reason::Client => &counters.closed_client,
        Reason::PingTimeout => &counters.closed_ping_timeout,
        Reason::ConnectTimeout => &counters.closed_connect_timeout,
        Reason::Protocol => &counters.closed_protocol,
        Reason::SlowConsumer => &counters.closed_slow_consumer,
        Reason::Expired => &counters.closed_expired,
        Reason::Drain => &counters.closed_drain,
        Reason::System => &counters.closed_system,
    }
}
