//! Moves sessions between workers: if a client wants to resume a session that another worker keeps,
//! it is brought there before its CONNECT is answered. Its socket moves with it. On long-polling
//! its requests still arrive here, because its session id names this worker, and are passed on;
//! what it has not fetched moves with it.

use super::arrivals::{Arrival, Migrant, Newcomer};
use super::connection::{Connection, Connections, State};
use super::forwards::BY_KEY;
use super::poller::Poller;
use super::sealing;
use super::sender::{Sent, send_waiting};
use super::wire::Wire;
use super::worker::{Begun, Worker};
use crate::interface::context::Local;
use crate::interface::next::{Close, Next, Reason};
use crate::mailbox::{Mailboxes, Slot};
use crate::message::{ConnId, SessionId, WorkerId};

/// Moves the session in a slot to the worker `to`, with the data of its CONNECT packet and the
/// bytes that followed the packet. If it cannot move, its client enters here as a new one. Returns
/// what the session asks for in that case; `None` if it has moved or ended.
pub(super) fn depart(
    worker: &mut Worker,
    slot: u32,
    (to, auth): (WorkerId, &str),
    rest: &[u8],
) -> Option<Next> {
    let shared = worker.shared.clone();
    let mailboxes = &shared.interfaces.broker.mailboxes;
    let may_go = !worker.forwards.is_full()
        && may_take_along(&mut worker.connections, &mut worker.local, slot);
    let place = may_go.then(|| mailboxes.workers.of(to).reserve(Slot::Control));
    let Some(place) = place.flatten() else {
        return worker.on(slot, |session, ctx, _| session.on_stayed(ctx, auth));
    };
    let taken = take((&mut worker.connections, &worker.poller), mailboxes, slot, to)?;
    let Taken { wire, state: State::Open(mut session), unfetched } = taken else { return None };
    if let Some(gauge) = session.gauge(&worker.local.counters) {
        gauge.sub(1);
    }
    let (key, probe) = (session.key().copied(), session.forget_probe());
    let is_polling = wire.is_none();
    let (leftover, auth) = (rest.to_vec(), auth.into());
    let migrant = Migrant { wire, leftover, unfetched, session, auth };
    worker.arrivals.post(to, place, Arrival::Session(migrant));
    let key = key?;
    if is_polling {
        worker.forwards.add(key, to, worker.now.monotonic());
    }
    if let Some(probe) = probe {
        send_after(worker, probe, SessionId { worker: to, slot: BY_KEY, key });
    }
    None
}

/// A connection that was removed from its worker.
struct Taken {
    wire: Option<Wire>,
    state: State,
    /// See [`Migrant::unfetched`].
    unfetched: Vec<Vec<u8>>,
}

/// Sends the frames in the outbox, and returns whether the rest can move. On long-polling that may
/// be anything but deliveries, which are counted where they are queued.
fn may_take_along(connections: &mut Connections, local: &mut Local, slot: u32) -> bool {
    let Some(connection) = connections.get_mut(slot) else { return false };
    match connection.link.socket {
        None => !connection.link.outbox.has_deliveries(),
        Some(_) => has_sent_all(connections, local, slot),
    }
}

/// Sends the frames in the outbox, and returns whether none is left that would have to move.
fn has_sent_all(connections: &mut Connections, local: &mut Local, slot: u32) -> bool {
    let Some(connection) = connections.get_mut(slot) else { return false };
    let spares = &mut local.outboxes.spares;
    let link = &mut connection.link;
    let sent = match &link.socket {
        None => return link.outbox.is_empty(),
        Some(_) if connection.sealed.is_some() => {
            sealing::send_waiting(connection, spares, &local.counters)
        }
        Some(socket) => send_waiting(socket, &mut link.outbox, spares, &local.counters),
    };
    if sent == Sent::All {
        local.outboxes.unblock(&mut connection.link);
    }
    sent == Sent::All
}

/// Removes a connection from this worker and counts it at the worker `to`.
fn take(
    (connections, poller): (&mut Connections, &Poller),
    mailboxes: &Mailboxes,
    slot: u32,
    to: WorkerId,
) -> Option<Taken> {
    let from = connections.id(slot).worker;
    let held = connections.take_held(slot);
    let Connection { link, state, sealed, .. } = connections.remove(slot)?;
    let unfetched = match link.socket {
        None => link.outbox.slices().map(<[u8]>::to_vec).collect(),
        Some(_) => Vec::new(),
    };
    if let Some(socket) = &link.socket {
        poller.remove(socket);
    }
    mailboxes.unassign(from);
    mailboxes.assign_to(to);
    let deflates = link.deflates();
    let wire = link.socket.map(|socket| Wire { socket, sealed, held, deflates });
    Some(Taken { wire, state, unfetched })
}

/// Moves the WebSocket that offers to carry a session to that session's new worker. If it cannot
/// move, the offer ends, and the session stays on long-polling.
fn send_after(worker: &mut Worker, probe: ConnId, session: SessionId) {
    let found = worker.connections.by_id(probe);
    if found.is_none_or(|connection| connection.is_closing()) {
        return;
    }
    let (shared, to) = (worker.shared.clone(), session.worker);
    let mailboxes = &shared.interfaces.broker.mailboxes;
    let may_go = has_sent_all(&mut worker.connections, &mut worker.local, probe.slot);
    let place = may_go.then(|| mailboxes.workers.of(to).reserve(Slot::Control));
    let Some(place) = place.flatten() else {
        let close = Close { code: None, text: "", reason: Reason::Protocol };
        return worker.close(probe.slot, close);
    };
    let taken = take((&mut worker.connections, &worker.poller), mailboxes, probe.slot, to);
    let Some(Taken { wire: Some(wire), state: State::Open(mut offer), .. }) = taken else { return };
    offer.renamed(session);
    let newcomer = Newcomer { wire, head: Vec::new(), leftover: Vec::new(), session: offer };
    worker.arrivals.post(to, place, Arrival::Socket(newcomer));
}

/// Takes in a session that comes from another worker. Returns what it asks for first; `None` if its
/// connection could not be watched or has ended.
pub(super) fn arrive(worker: &mut Worker, migrant: Migrant) -> Option<Begun> {
    let Migrant { wire, leftover, unfetched, session, auth } = migrant;
    if let Some(gauge) = session.gauge(&worker.local.counters) {
        gauge.add(1);
    }
    let key = session.key().copied().filter(|_| wire.is_none());
    let slot = worker.insert(wire, State::Open(session))?;
    key.into_iter().for_each(|key| worker.connections.find_by_key(key, slot));
    let next = worker.on(slot, |session, ctx, _| {
        // They come before the answer to the CONNECT, as they would have there.
        unfetched.into_iter().for_each(|frame| ctx.send(frame));
        session.on_arrived(ctx, &auth)
    })?;
    Some(Begun { slot, next, leftover })
}
