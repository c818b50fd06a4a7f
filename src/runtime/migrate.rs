//! Sessions that change workers: a client that wants to resume a session that another worker knows
//! is brought there before its CONNECT is answered. Its socket goes; on long-polling its requests
//! go on arriving here, where its session id says, and are passed on.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use super::arrivals::{Arrival, Migrant, Newcomer};
use super::connection::{Connection, State};
use super::sender::{Sent, send_waiting};
use super::upgrade;
use super::worker::Worker;
use crate::interface::next::{Close, Reason};
use crate::limits::FORWARDS_MAX;
use crate::mailbox::Slot;
use crate::message::{ConnId, Millis, SessionId, SessionKey, WorkerId};

/// In the place of the slot in the id of a session that came from another worker: it is found by
/// the secret part of its id.
pub(super) const BY_KEY: u32 = u32::MAX;

/// Where requests of long-polling sessions are passed on to that were here.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    to: HashMap<SessionKey, Forward>,
    /// When to look at each again.
    order: VecDeque<(Millis, SessionKey)>,
}

#[derive(Clone, Copy, Debug)]
struct Forward {
    worker: WorkerId,
    /// When its client counts as gone, unless it asks again.
    until: Millis,
}

impl Forwards {
    /// The id of a session where it is now.
    fn find(&self, session: &SessionId) -> Option<SessionId> {
        let Forward { worker, .. } = *self.to.get(&session.key)?;
        Some(SessionId { worker, slot: BY_KEY, key: session.key })
    }

    fn add(&mut self, key: SessionKey, worker: WorkerId, until: Millis) {
        self.to.insert(key, Forward { worker, until });
        self.order.push_back((until, key));
    }

    fn renew(&mut self, key: &SessionKey, until: Millis) {
        if let Some(forward) = self.to.get_mut(key) {
            forward.until = until;
        }
    }

    fn expire(&mut self, now: Millis) {
        while let Some((at, key)) = self.order.front().copied()
            && at <= now
        {
            self.order.pop_front();
            match self.to.get(&key) {
                Some(forward) if forward.until > now => self.order.push_back((forward.until, key)),
                _ => drop(self.to.remove(&key)),
            }
        }
    }
}

/// Lets the session in a slot go on at another worker, with what came behind its CONNECT. If it
/// cannot, its client is let in here as a new one. Returns the slot if the session stays.
pub(super) fn depart(
    worker: &mut Worker,
    slot: u32,
    (to, auth): (WorkerId, &str),
    rest: &[u8],
) -> Option<u32> {
    let shared = worker.shared.clone();
    let mailbox = shared.interfaces.broker.mailboxes.workers.of(to);
    let place = may_go(worker, slot).then(|| mailbox.reserve(Slot::Control)).flatten();
    let Some(place) = place else {
        let next = worker.on(slot, |session, ctx, _| session.on_stayed(ctx, auth));
        return worker.apply(slot, next?, rest);
    };
    let (socket, State::Open(mut session)) = take(worker, slot, to)? else { return None };
    if let Some(gauge) = session.gauge(&worker.local.counters) {
        gauge.sub(1);
    }
    let (key, probe) = (session.key().copied(), session.forget_probe());
    let is_polling = socket.is_none();
    let migrant = Migrant { socket, leftover: rest.to_vec(), session, auth: auth.into() };
    worker.arrivals.post(to, place, Arrival::Session(migrant));
    let key = key?;
    if is_polling {
        let until = until(worker);
        worker.forwards.expire(worker.now.monotonic());
        worker.forwards.add(key, to, until);
    }
    if let Some(probe) = probe {
        send_after(worker, probe, SessionId { worker: to, slot: BY_KEY, key });
    }
    None
}

/// Whether nothing holds a session here.
fn may_go(worker: &mut Worker, slot: u32) -> bool {
    worker.forwards.to.len() < FORWARDS_MAX && has_sent_all(worker, slot)
}

/// Sends what waits, so that nothing of it has to move.
fn has_sent_all(worker: &mut Worker, slot: u32) -> bool {
    let Some(connection) = worker.connections.get_mut(slot) else { return false };
    let link = &mut connection.link;
    let Some(socket) = &link.socket else { return link.outbox.is_empty() };
    let spares = &mut worker.local.outboxes.spares;
    send_waiting(socket, &mut link.outbox, spares, &worker.local.counters) == Sent::All
}

/// Takes a connection out of this worker, on its way to another.
fn take(worker: &mut Worker, slot: u32, to: WorkerId) -> Option<(Option<OwnedFd>, State)> {
    let Connection { link, state, .. } = worker.connections.remove(slot)?;
    if let Some(socket) = &link.socket {
        worker.poller.remove(socket);
    }
    worker.shared.interfaces.broker.mailboxes.unassign(worker.id);
    worker.shared.interfaces.broker.mailboxes.assign_to(to);
    Some((link.socket, state))
}

/// Sends the WebSocket that offers to carry a session after it. If that cannot be done the offer
/// ends, and the session stays on long-polling.
fn send_after(worker: &mut Worker, probe: ConnId, session: SessionId) {
    let found = worker.connections.by_id(probe);
    if found.is_none_or(|connection| connection.is_closing()) {
        return;
    }
    let shared = worker.shared.clone();
    let mailbox = shared.interfaces.broker.mailboxes.workers.of(session.worker);
    let place = has_sent_all(worker, probe.slot).then(|| mailbox.reserve(Slot::Control)).flatten();
    let Some(place) = place else {
        let close = Close { code: None, text: "", reason: Reason::Protocol };
        return worker.close(probe.slot, close);
    };
    let taken = take(worker, probe.slot, session.worker);
    let Some((Some(socket), State::Open(mut offer))) = taken else { return };
    offer.renamed(session);
    let newcomer = Newcomer { socket, head: Vec::new(), leftover: Vec::new(), session: offer };
    worker.arrivals.post(session.worker, place, Arrival::Socket(newcomer));
}

/// Goes on with a session that comes from another worker.
pub(super) fn arrive(worker: &mut Worker, migrant: Migrant) {
    let Migrant { socket, mut leftover, session, auth } = migrant;
    if let Some(gauge) = session.gauge(&worker.local.counters) {
        gauge.add(1);
    }
    let key = session.key().copied().filter(|_| socket.is_none());
    let Some(slot) = upgrade::insert(worker, socket, State::Open(session)) else { return };
    key.into_iter().for_each(|key| worker.connections.find_by_key(key, slot));
    let next = worker.on(slot, |session, ctx, _| session.on_arrived(ctx, &auth));
    if let Some(slot) = next.and_then(|next| worker.apply(slot, next, &[])) {
        worker.receive(slot, &mut leftover);
    }
}

/// Returns the id of a session as this worker knows it, or of the worker that it went to.
pub(super) fn locate(worker: &mut Worker, session: SessionId) -> SessionId {
    if session.slot == BY_KEY {
        let slot = worker.connections.slot_by_key(&session.key).unwrap_or(BY_KEY);
        return SessionId { slot, ..session };
    }
    let Some(there) = worker.forwards.find(&session) else { return session };
    let until = until(worker);
    worker.forwards.renew(&session.key, until);
    there
}

/// When the client of a session that is asked for now counts as gone, unless it asks again.
fn until(worker: &Worker) -> Millis {
    let timings = &worker.shared.interfaces.timings;
    worker.now.monotonic() + 2 * (timings.ping_interval_ms + timings.ping_timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_ends_when_its_client_stops_asking() {
        let mut forwards = Forwards::default();
        let (one, other) = ([1; 9], [2; 9]);
        forwards.add(one, WorkerId(1), 100);
        forwards.add(other, WorkerId(1), 110);
        forwards.renew(&one, 200);
        forwards.expire(150);
        let session = |key| SessionId { worker: WorkerId(0), slot: 5, key };
        let there = SessionId { worker: WorkerId(1), slot: BY_KEY, key: one };
        assert_eq!(forwards.find(&session(one)), Some(there));
        assert_eq!(forwards.find(&session(other)), None);
        forwards.expire(200);
        assert_eq!((forwards.to.len(), forwards.order.len()), (0, 0));
    }
}
