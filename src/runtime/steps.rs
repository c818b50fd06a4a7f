//! The steps of a turn. The loop calls them, or a simulation does in its place. They read no clock
//! and send nothing themselves.

use std::os::fd::OwnedFd;

use super::arrivals::{Arrival, Newcomer};
use super::connection::State;
use super::sender;
use super::transmit::Transmit;
use super::wire::Wire;
use super::worker::{Begun, Worker};
use super::{drain, fanout, migrate, pending, upgrade};
use crate::broker::link::Link;
use crate::interface::Session;
use crate::interface::frame::Frame;
use crate::interface::next::Reason;
use crate::interface::resuming;
use crate::limits::{TURN_DRAINS_MAX, TURN_READS_MAX};
use crate::mailbox::Mail;
use crate::message::{ConnId, Now};

impl Worker {
    /// Takes over a socket whose handshake has been answered. Returns the id of its connection;
    /// `None` if the system refuses to watch the socket, or the connection has ended already.
    pub fn open(&mut self, socket: OwnedFd, session: Session) -> Option<ConnId> {
        let (wire, head, leftover) = (Wire::new(socket, None), Vec::new(), Vec::new());
        let newcomer = Newcomer { wire, head, leftover, session };
        self.arrive(Arrival::Socket(newcomer)).map(|slot| self.connections.id(slot))
    }

    /// Sets the time of the events that follow.
    pub fn at(&mut self, now: Now) {
        self.now = now;
    }

    /// Handles one piece of mail. Returns how many bytes one connection was sent because of it, at
    /// most.
    pub fn take(&mut self, mail: Mail) -> usize {
        let (connections, local) = (&mut self.connections, &mut self.local);
        let (shared, now) = (&self.shared.interfaces, self.now);
        match mail {
            Mail::Deliver(delivery) => {
                if delivery.publication.content.is_published() {
                    self.undrained.push(delivery.publication.accepted);
                }
                return fanout::deliver(connections, local, &delivery.publication, now.monotonic());
            }
            Mail::Activate(activation) => {
                return fanout::activate(connections, (local, shared, now), *activation);
            }
            Mail::Deactivate(deactivation) => {
                fanout::deactivate(connections, (local, shared, now), &deactivation);
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
            Mail::PollRelease(session) => pending::on_poll_release(self, session),
            Mail::Loaded(loaded) => {
                return fanout::load(connections, (local, shared, now), *loaded);
            }
            Mail::Verdict(verdict) => local.authorizer.learn(*verdict, &local.counters),
            Mail::JoinRefused(refused) => {
                let id = refused.connection;
                if self.connections.by_id(id).is_some() {
                    self.handle(id.slot, |session, ctx, _| session.on_join_refused(ctx, *refused));
                }
            }
            Mail::Settled(settled) => {
                let id = settled.connection;
                if connections.by_id(id).is_some() {
                    self.on(id.slot, |session, ctx, _| session.on_settled(ctx, *settled));
                }
            }
            Mail::Session(told) => self.session_told(*told),
            Mail::Gap(channel) => fanout::tell_gap(connections, local, *channel, now.monotonic()),
            Mail::Probe(ticket) => shared.broker.mailboxes.answer(ticket, Ok(())),
            // The watchdog lives as long as the node.
            Mail::Roll(answer) => drop(answer.send(self.id)),
        }
        0
    }

    /// Takes in an arrival. If a connection begins with it, carries out what its session asks for
    /// first, then handles the bytes that came with its socket. Returns the connection's slot;
    /// `None` if no connection has the id, or the connection has ended.
    fn arrive(&mut self, arrival: Arrival) -> Option<u32> {
        let Begun { slot, next, mut leftover } = match arrival {
            Arrival::Socket(newcomer) => upgrade::adopt(self, newcomer)?,
            Arrival::Session(migrant) => migrate::arrive(self, migrant)?,
            Arrival::Poll(asked) => {
                pending::on_poll(self, asked);
                return None;
            }
        };
        let slot = self.apply(slot, next, &[])?;
        let slot = self.receive(slot, &mut leftover)?;
        // What has ended with the bytes before is not reported by the socket.
        let sealed = self.connections.get(slot).and_then(|connection| connection.sealed.as_ref());
        if sealed.is_some_and(|sealed| sealed.tls.has_ended()) {
            self.input_ended(slot);
        }
        Some(slot)
    }

    /// Calls `on_deadline` of every session whose deadline has come, and removes connections that
    /// have waited long enough for their peers to close.
    fn run_timers(&mut self) {
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
                    State::Open(_) => self.handle(slot, |session, ctx, _| session.on_deadline(ctx)),
                }
            }
        }
    }

    /// Retries leaves that found a mailbox full, discards detached sessions whose time is over, and
    /// runs backlogs whose verdicts are known. Returns true if there is more to do at once.
    pub fn catch_up(&mut self) -> bool {
        let now = self.now;
        self.local.subscriptions(&self.shared.interfaces, now).retry_leaves();
        resuming::expire(&mut self.local, &self.shared.interfaces, now.monotonic());
        self.share_sessions();
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

    /// Removes a connection whose socket has ended or failed.
    pub fn ended(&mut self, slot: u32) {
        self.remove(slot, Reason::Client);
    }

    /// Removes a connection whose client has closed its sending side. A session that has not
    /// answered its client's request yet ends by itself once it has, and a connection that is being
    /// closed is first sent what its outbox holds.
    pub(super) fn input_ended(&mut self, slot: u32) {
        let is_answering = self.on(slot, |session, ctx, _| session.on_input_end(ctx));
        let is_answering = is_answering.unwrap_or_else(|| {
            let closing = self.connections.get_mut(slot);
            closing.is_some_and(|connection| !connection.link.is_drained())
        });
        if !is_answering {
            self.remove(slot, Reason::Client);
        }
    }

    /// Notes that a socket which was full takes bytes again.
    pub fn writable(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if self.local.outboxes.unblock(&mut connection.link) {
            self.local.outboxes.mark(slot, &mut connection.link);
        }
    }

    /// Ends a turn: handles deadlines, closes connections that are due, and sends up to
    /// [`TURN_DRAINS_MAX`] times, in the order in which connections received their first frame.
    pub fn end_turn(&mut self, transmit: &mut impl Transmit) {
        self.run_timers();
        drain::step(self);
        self.reap();
        let mut left = TURN_DRAINS_MAX;
        while left > 0 && !self.local.outboxes.is_idle() {
            left -= self.send_batch(left, transmit);
        }
        let around = (&mut self.local, &self.shared.interfaces, self.now);
        sender::reload_stale(&mut self.connections, around);
    }

    /// Sends what a batch of connections has to send. Returns how many sends that counts as, at
    /// most `most`.
    fn send_batch(&mut self, most: usize, transmit: &mut impl Transmit) -> usize {
        let looked = self.batch.fill(&mut self.connections, &mut self.local, most);
        self.batch.transmit(&mut self.connections, transmit);
        for slot in self.batch.settle(&mut self.connections, &mut self.local) {
            self.remove(slot, Reason::Client);
        }
        let mut polling = std::mem::take(&mut self.batch.polling);
        for slot in polling.drain(..) {
            self.on(slot, |session, ctx, _| session.on_output(ctx));
        }
        self.batch.polling = polling;
        looked
    }

    /// Returns the ids of all connections, including those that are being closed.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.connections.ids()
    }

    /// Returns the broker's part of a connection; `None` if the connection has ended.
    pub fn link(&mut self, id: ConnId) -> Option<&mut Link<Frame>> {
        Some(&mut self.connections.by_id(id)?.link)
    }

    /// Returns whether ended connections have left nothing behind and nothing waits for the store:
    /// no subscription, no leave to be retried and no read of a document.
    pub fn is_vacant(&self) -> bool {
        let local = &self.local;
        local.index.is_empty() && local.leaves.is_empty() && local.loads.is_empty()
    }
}
