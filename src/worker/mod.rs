//! A worker: one thread, its connections, and the turn that they all live by.
//!
//! mail → local index → outboxes → sockets: a turn takes what waits in the mailbox, reads
//! the sockets that are ready, looks at the clock, and then drains every connection that has
//! something to send, once. Under load much is drained together; a lone publication goes out at
//! once.

mod close;
mod command;
mod conn;
mod credential;
pub mod driver;
mod flush;
mod forge;
mod frame;
mod liveness;
mod m2;
mod moving;
mod poller;
mod polling;
mod read;
mod recovery;
mod replay;
pub mod send;
mod session;
mod shutdown;
mod timer;
mod upgrade;
mod verdict;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Authenticators;
use crate::engine::index::Index;
use crate::hub::Hub;
use crate::limits::{
    LEAVE_RETRY_MS, MAILBOX_CONTROL_MAX, READ_BUFFER_BYTES, TURN_BYTES_MAX, TURN_MAIL_MAX,
    TURN_READS_MAX,
};
use crate::mailbox::{Inbox, Mail, Slot};
use crate::message::{ConnId, Millis, Nanos, WorkerId};
use crate::metrics::Counters;
use crate::wire::frame::{Opcode, frame};
use crate::wire::json::Scratch;
use close::Reason;
use command::Postponed;
use conn::{Connections, Kind, Session};
use flush::Drain;
use frame::Frame;
use moving::{Departure, Forwards};
use poller::{Poller, Ready};
use recovery::Recovery;
use replay::Sweep;
use shutdown::Farewell;
use timer::Wheel;
use verdict::Verdicts;

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// One worker. Lives on its own thread and never leaves it.
pub struct Worker {
    id: WorkerId,
    hub: Arc<Hub>,
    inbox: Inbox<Mail>,
    counters: Arc<Counters>,
    auth: Authenticators,
    /// What messages of Forge and M2 clients are taken apart in.
    json: Scratch,
    poller: Poller,
    wheel: Wheel,
    connections: Connections,
    index: Index,
    drain: Drain,
    leaving: VecDeque<Postponed>,
    /// What clients of M2 share.
    m2: m2::Clients,
    /// Who may come back after a cut, where the node lets anybody.
    recovery: Option<Box<Recovery>>,
    /// Long-polling sessions that went on elsewhere.
    forwards: Forwards,
    /// The session that is to go on at another worker.
    departing: Option<Departure>,
    verdicts: Verdicts,
    sweep: Sweep,
    /// Sockets that had more than one turn takes.
    unread: VecDeque<u32>,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    /// Monotonic time of this turn.
    now: Millis,
    /// When the publications were accepted that this drain carries.
    undrained: Vec<Nanos>,
    /// Who is still to be let go, once the node stops.
    farewell: Option<Farewell>,
    /// Who goes on with the bytes of the connection that is being read.
    heir: Option<ConnId>,
    /// What the poller's timer is set to.
    armed: Option<Millis>,
}

impl Worker {
    /// A worker without connections. To be made on its own thread.
    ///
    /// # Errors
    /// When the system gives no epoll or timer descriptor.
    pub fn new(
        id: WorkerId,
        hub: Arc<Hub>,
        inbox: Inbox<Mail>,
        auth: Authenticators,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let poller = Poller::new(inbox.mailbox().doorbell().descriptor())?;
        let now = hub.clock.monotonic();
        let recovery = hub.recovery.map(|terms| Box::new(Recovery::new(terms, hub.start)));
        let verdicts = Verdicts::new(&hub.policies);
        Ok(Self {
            id,
            hub,
            inbox,
            counters,
            auth,
            json: Scratch::default(),
            poller,
            wheel: Wheel::new(now),
            connections: Connections::new(id),
            index: Index::default(),
            drain: Drain::default(),
            leaving: VecDeque::new(),
            m2: m2::Clients::default(),
            recovery,
            forwards: Forwards::default(),
            departing: None,
            verdicts,
            sweep: Sweep::default(),
            unread: VecDeque::new(),
            ready: Vec::new(),
            scratch: vec![0; READ_BUFFER_BYTES],
            now,
            undrained: Vec::with_capacity(TURN_MAIL_MAX),
            farewell: None,
            heir: None,
            armed: None,
        })
    }

    /// Takes turns for ever.
    pub async fn run(mut self) {
        loop {
            let has_more = self.turn();
            if let Err(error) = self.arm() {
                tracing::error!(%error, "the worker's timer cannot be set");
            }
            let mailbox = self.inbox.mailbox().clone();
            let bell = mailbox.doorbell();
            if has_more {
                // Waiting for a bell that rings already lets the other tasks of this thread run.
                // The epoll driver would find it rung without letting go of the thread; its
                // shortest real wait is a tick of its timer.
                if monoio::utils::is_legacy() {
                    monoio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    bell.ring();
                    self.poller.wait().await;
                }
            } else if bell.sleep(|| self.inbox.is_empty()) {
                self.poller.wait().await;
                bell.woke();
            }
        }
    }

    /// One turn. True when there is more to do at once.
    fn turn(&mut self) -> bool {
        self.counters.turns.add(1);
        let began = self.hub.clock.nanos();
        self.now = began / NANOS_PER_MILLI;
        // A long drain is finished before new mail is taken: else outboxes would grow because this
        // worker is slow, and the mailbox is where that must show.
        if self.drain.is_idle() {
            self.take_mail();
        }
        command::retry_leaves(self);
        recovery::expire(self);
        let has_more = verdict::resume(self) | self.read_sockets();
        self.look_at_the_clock();
        replay::sweep(self);
        shutdown::step(self);
        flush::reap(self);
        flush::drain(self);
        m2::pay(self);
        self.measure(began);
        has_more || !self.unread.is_empty() || !self.drain.is_idle() || !self.inbox.is_empty()
    }

    fn measure(&mut self, began: Nanos) {
        let now = self.hub.clock.nanos();
        self.counters.turn_duration.record_nanos(now - began);
        if !self.drain.is_idle() {
            return;
        }
        for accepted in self.undrained.drain(..) {
            self.counters.publish_to_drain.record_nanos(now.saturating_sub(accepted));
        }
    }

    fn take_mail(&mut self) {
        let mut bytes = 0;
        for _ in 0..TURN_MAIL_MAX {
            if bytes >= TURN_BYTES_MAX {
                return;
            }
            let Some(mail) = self.inbox.take(Mail::slot) else { return };
            match mail {
                Mail::Deliver(delivery) => bytes += command::deliver(self, &delivery),
                Mail::Activate(activation) => bytes += command::activate(self, *activation),
                Mail::Deactivate(deactivation) => command::deactivate(self, &deactivation),
                Mail::Adopt(handover) => upgrade::adopt(self, *handover),
                Mail::Recover(id) => recovery::recover(self, id),
                Mail::Move(moved) => moving::arrive(self, *moved),
                Mail::Poll(poll) => polling::on_request(self, *poll),
                Mail::PollGone(session) => polling::on_gone(self, session),
                Mail::Loaded(loaded) => bytes += m2::loaded(self, *loaded),
                Mail::Verdict(verdict) => verdict::learn(self, *verdict),
                Mail::Probe(ticket) => self.hub.mailboxes.answer(ticket, Ok(())),
            }
            flush::reap(self);
        }
    }

    /// Reads what is ready. True when the kernel may have more to report.
    fn read_sockets(&mut self) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        let has_more = self.poller.collect(|event| ready.push(event));
        for event in ready.drain(..) {
            let Ready::Socket { slot, readable, ended, writable } = event else { continue };
            if writable {
                self.unblock(slot);
            }
            if readable {
                self.note_unread(slot, ended);
            }
        }
        self.ready = ready;
        for _ in 0..self.unread.len().min(TURN_READS_MAX) {
            // Every command read may need a place in the own mailbox, which is emptied next turn.
            if self.inbox.mailbox().free(Slot::Control) < MAILBOX_CONTROL_MAX / 2 {
                break;
            }
            let Some(slot) = self.unread.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.is_unread = false;
            }
            if read::read(self, slot) {
                self.note_unread(slot, false);
            }
            flush::reap(self);
        }
        has_more
    }

    /// Puts a socket on the list of those to read, once.
    fn note_unread(&mut self, slot: u32, ended: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.has_ended |= ended;
        if !connection.is_unread {
            connection.is_unread = true;
            self.unread.push_back(slot);
        }
    }

    fn unblock(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if std::mem::take(&mut connection.is_blocked) {
            self.drain.mark(slot, connection);
        }
    }

    fn look_at_the_clock(&mut self) {
        while let Some((tick, slots)) = self.wheel.due(self.now) {
            for slot in slots {
                let Some(connection) = self.connections.get_mut(slot) else { continue };
                if connection.tick != tick {
                    continue;
                }
                connection.tick = 0;
                self.on_deadline(slot);
                self.schedule(slot);
            }
        }
    }

    fn on_deadline(&mut self, slot: u32) {
        let id = self.connections.id(slot);
        match self.connections.get_mut(slot).map(|connection| &connection.kind) {
            Some(Kind::Session(_)) => session::on_time(self, id),
            Some(Kind::Forge(_)) => forge::on_time(self, id),
            Some(Kind::M2(_)) => m2::on_time(self, id),
            Some(Kind::Closing { until }) if *until <= self.now => {
                close::now(self, slot, Reason::Client);
            }
            Some(Kind::Probe { until, .. }) if *until <= self.now => {
                close::gracefully(self, slot, None, Reason::Client);
            }
            _ => {}
        }
    }

    /// Enters a connection's next deadline into the wheel, unless an earlier one is there.
    fn schedule(&mut self, slot: u32) {
        let expires = credential::expires(self, slot).or_else(|| forge::expires(self, slot));
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let deadline = connection.deadline().into_iter().chain(expires).min();
        let Some(deadline) = deadline else { return };
        if connection.tick == 0 || connection.tick > deadline.div_ceil(timer::TICK) {
            connection.tick = self.wheel.enter(slot, deadline);
        }
    }

    /// Sets the poller's timer to the next deadline.
    fn arm(&mut self) -> io::Result<()> {
        let mut next = self.wheel.next();
        if !self.leaving.is_empty() {
            let retry = self.now + LEAVE_RETRY_MS;
            next = Some(next.map_or(retry, |next| next.min(retry)));
        }
        let others = [shutdown::next(self), replay::next(self), recovery::next(self)];
        for due in others.into_iter().flatten() {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        if next == self.armed {
            return Ok(());
        }
        self.armed = next;
        let Some(next) = next else { return Ok(()) };
        // The clock counts whole milliseconds passed: without one more the timer could fire within
        // the millisecond before the deadline, find nothing due, and not be set again.
        let delay = next.saturating_sub(self.hub.clock.monotonic()) + 1;
        self.poller.wake_in(Duration::from_millis(delay))
    }

    /// The session of a connection, unless it is gone.
    fn session(&mut self, id: ConnId) -> Option<&mut Session> {
        self.connections.by_id(id)?.session()
    }

    /// Puts a frame of its own into a connection's outbox.
    fn send(&mut self, slot: u32, frame: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            self.drain.push(slot, connection, Frame::own(frame));
        }
    }

    /// The same, for text.
    fn send_text(&mut self, slot: u32, text: &str) {
        self.send(slot, frame(Opcode::Text, &[text.as_bytes()]));
    }
}
