//! Sessions that change workers: a client that wants to resume a session that another worker knows
//! is brought there before its CONNECT is answered. Its socket goes; on long-polling its requests
//! go on arriving here, where its session id says, and are passed on.

use std::os::fd::OwnedFd;

use super::arrivals::{Arrival, Migrant, Newcomer};
use super::connection::{Connection, State};
use super::forwards::BY_KEY;
use super::sender::{Sent, send_waiting};
use super::worker::{Begun, Worker};
use crate::interface::next::{Close, Next, Reason};
use crate::mailbox::Slot;
use crate::message::{ConnId, Millis, SessionId, WorkerId};

/// Lets the session in a slot go on at another worker, with what came behind its CONNECT. If it
/// cannot, its client is let in here as a new one. Returns what the session asks for then; `None`
/// if it is gone.
pub(super) fn depart(
    worker: &mut Worker,
    slot: u32,
    (to, auth): (WorkerId, &str),
    rest: &[u8],
) -> Option<Next> {
    let shared = worker.shared.clone();
    let mailbox = shared.interfaces.broker.mailboxes.workers.of(to);
    let place = may_go(worker, slot).then(|| mailbox.reserve(Slot::Control)).flatten();
    let Some(place) = place else {
        return worker.on(slot, |session, ctx, _| session.on_stayed(ctx, auth));
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
    !worker.forwards.is_full() && has_sent_all(worker, slot)
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
pub(super) fn arrive(worker: &mut Worker, migrant: Migrant) -> Option<Begun> {
    let Migrant { socket, leftover, session, auth } = migrant;
    if let Some(gauge) = session.gauge(&worker.local.counters) {
        gauge.add(1);
    }
    let key = session.key().copied().filter(|_| socket.is_none());
    let slot = worker.insert(socket, State::Open(session))?;
    key.into_iter().for_each(|key| worker.connections.find_by_key(key, slot));
    let next = worker.on(slot, |session, ctx, _| session.on_arrived(ctx, &auth))?;
    Some(Begun { slot, next, leftover })
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
