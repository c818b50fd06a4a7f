//! Hands sockets from acceptors to workers, and moves sessions from long-polling to WebSocket.

use std::os::fd::OwnedFd;

use super::arrivals::{Arrival, Arrivals, Newcomer};
use super::connection::{Connection, Connections, State};
use super::descriptors::Descriptors;
use super::http_connection::HttpConnection;
use super::wire::Wire;
use super::worker::{Begun, Worker};
use crate::broker::outgoing::Outgoing;
use crate::codec::http::Date;
use crate::interface::Session;
use crate::interface::Shared;
use crate::interface::context::Local;
use crate::interface::frame::Frame;
use crate::interface::http::{HttpContext, Upgrade};
use crate::interface::next::{Close, OfferStep, Offered, Reason};
use crate::interface::rest::ApiError;
use crate::limits::{CLOSE_LINGER_MS, NEWCOMER_BYTES};
use crate::mailbox::Slot;
use crate::message::SessionId;

/// How a probe is closed if its offer is not accepted.
const REFUSED: Close = Close { code: None, text: "", reason: Reason::Protocol };

/// Gives the socket of a connection that leaves HTTP to its worker.
///
/// # Errors
/// The connection, and why it cannot leave HTTP: descriptors have run out but for those that are
/// kept back, the worker's mailbox has no room, or too little memory is free.
pub(super) fn hand_over(
    (http, date): (&HttpContext<'_>, Date),
    (arrivals, descriptors): (&Arrivals, &Descriptors),
    mut connection: Box<HttpConnection>,
    upgrade: Upgrade<Session>,
) -> Result<(), Box<(Box<HttpConnection>, ApiError)>> {
    let Upgrade { head: response, session, to, deflates } = upgrade;
    if !http.shared.broker.memory.admit(NEWCOMER_BYTES) {
        http.counters.refused_overloaded.add(1);
        return Err(Box::new((connection, ApiError::overloaded())));
    }
    let mailboxes = &http.shared.broker.mailboxes;
    let socket = connection.descriptor().ok().filter(|socket| !descriptors.is_kept_back(socket));
    let Some(socket) = socket else {
        http.counters.refused_descriptors.add(1);
        descriptors.note_refusal();
        return Err(Box::new((connection, ApiError::no_descriptors())));
    };
    let worker = match to {
        Some(worker) => {
            mailboxes.assign_to(worker);
            worker
        }
        None => mailboxes.assign(),
    };
    let Some(place) = mailboxes.workers.of(worker).reserve(Slot::Control) else {
        mailboxes.unassign(worker);
        http.counters.refused_overloaded.add(1);
        connection.put_back(socket);
        return Err(Box::new((connection, ApiError::overloaded())));
    };
    let held = connection.take_counted();
    let (leftover, tls) = connection.into_leftover(&socket);
    let mut head = Vec::new();
    response.iter().for_each(|response| response.write(&mut head, date, true, false));
    let wire = Wire { held, deflates, ..Wire::new(socket, tls) };
    let newcomer = Newcomer { wire, head, leftover, session };
    arrivals.post(worker, place, Arrival::Socket(newcomer));
    Ok(())
}

/// Takes over a socket and sends the response to its handshake. Returns what its session asks for
/// first; `None` if the socket was passed on, refused or cannot be watched.
pub(super) fn adopt(worker: &mut Worker, newcomer: Newcomer) -> Option<Begun> {
    let Newcomer { wire, head, leftover, session } = check_probe(worker, newcomer)?;
    let counters = &worker.local.counters;
    if let Some(gauge) = session.gauge(counters) {
        gauge.add(1);
        counters.opened.add(1);
    }
    let slot = worker.insert(Some(wire), State::Open(session))?;
    let next = worker.on(slot, |session, ctx, _| {
        if !head.is_empty() {
            ctx.send(head);
        }
        session.on_open(ctx)
    });
    Some(Begun { slot, next: next?, leftover })
}

/// Returns the newcomer, unless it is a probe and the session that it offers to carry is not here.
/// If that session has moved to another worker, passes the probe's socket on. If it does not exist,
/// refuses the handshake and closes the socket.
fn check_probe(worker: &mut Worker, mut newcomer: Newcomer) -> Option<Newcomer> {
    let Some(carried) = newcomer.session.carries() else { return Some(newcomer) };
    let now = worker.now.monotonic();
    let located = worker.forwards.locate(carried, &worker.connections, now);
    newcomer.session.renamed(located);
    let there = located.worker;
    if there != worker.id {
        let mailboxes = &worker.shared.interfaces.broker.mailboxes;
        mailboxes.unassign(worker.id);
        // Without a place the socket is closed, and the session stays on long-polling.
        if let Some(place) = mailboxes.workers.of(there).reserve(Slot::Control) {
            mailboxes.assign_to(there);
            worker.arrivals.post(there, place, Arrival::Socket(newcomer));
        }
        return None;
    }
    if worker.connections.find(&located).is_some() {
        return Some(newcomer);
    }
    let mut bytes = Vec::new();
    let (refusal, date) =
        (newcomer.session.refusal(), worker.local.dates.at(worker.now.wall_seconds()));
    refusal.iter().for_each(|response| response.write(&mut bytes, date, false, false));
    let until = now + CLOSE_LINGER_MS;
    let slot = worker.insert(Some(newcomer.wire), State::Closing { until })?;
    let connection = worker.connections.get_mut(slot)?;
    worker.local.outboxes.push(slot, &mut connection.link, Frame::own(bytes));
    None
}

/// Takes a step of the offer that the probe in a slot makes. Returns the slot that now owns the
/// probe's socket; `None` if that connection has ended.
pub(super) fn offer(
    worker: &mut Worker,
    slot: u32,
    session: &SessionId,
    step: OfferStep,
) -> Option<u32> {
    let probe = worker.connections.id(slot);
    let found = worker.connections.find(session).map(|(id, _)| id.slot);
    let offered = found.and_then(|carried| {
        let offered = worker.on(carried, |session, ctx, _| session.on_offer(ctx, probe, step));
        offered.map(|offered| (carried, offered))
    });
    match offered {
        Some((_, Ok(Offered::Noted))) => {}
        Some((_, Ok(Offered::Probed))) => {
            worker.on(slot, |probe, ctx, _| probe.on_probed(ctx));
        }
        Some((carried, Ok(Offered::TakeOver))) => {
            let Worker { connections, local, shared, poller, .. } = worker;
            let socket = take_over(connections, (local, &shared.interfaces), slot, carried)?;
            if let Err(error) = poller.rename(socket, carried) {
                tracing::warn!(%error, "an upgraded socket cannot be watched and is closed");
                worker.remove(carried, Reason::System);
                return None;
            }
            return Some(carried);
        }
        Some((_, Err(violation))) => {
            tracing::debug!(
                why = violation.0,
                "closing a connection because its client broke the protocol"
            );
            worker.close(slot, REFUSED);
        }
        None => worker.close(slot, REFUSED),
    }
    Some(slot)
}

/// Moves the session in a slot from long-polling to the probe's socket. Its frames are put behind
/// the probe's own. Returns the socket; `None` if the session's connection has ended.
fn take_over<'c>(
    connections: &'c mut Connections,
    (local, shared): (&mut Local, &Shared),
    probe: u32,
    slot: u32,
) -> Option<&'c OwnedFd> {
    let broker = &shared.broker;
    let held = connections.take_held(probe);
    let offered = connections.remove(probe)?;
    connections.hold(slot, held);
    let id = connections.id(slot);
    broker.mailboxes.unassign(local.worker);
    let Connection { decoder, link, state: State::Open(session), sealed } =
        connections.get_mut(slot)?
    else {
        return None;
    };
    session.gauge(&local.counters)?.sub(1);
    let polled = session.leave_polling();
    session.gauge(&local.counters)?.add(1);
    *decoder = offered.decoder;
    link.set_sealed(offered.link.sealed());
    *sealed = offered.sealed;
    link.set_deflates(offered.link.deflates());
    let mut waiting = std::mem::replace(&mut link.outbox, offered.link.outbox);
    link.socket = offered.link.socket;
    link.is_blocked = offered.link.is_blocked;
    let Local { outboxes, index, counters, .. } = local;
    while let Some(frame) = waiting.pop(&mut outboxes.spares) {
        let is_delivery = frame.is_delivery();
        if !outboxes.push(slot, link, frame) && is_delivery {
            counters.dropped_slow_consumer.add(1);
        }
    }
    // The probe's slot may be in the list of connections to drain; the session's must be there
    // instead.
    outboxes.mark(slot, link);
    for (channel, counted) in index.of(link.subscriptions) {
        broker.directory.upgrade(channel, id, counted.encoding);
    }
    if let Some((ticket, answer)) = polled {
        broker.mailboxes.answer(ticket, Ok(answer));
    }
    link.socket.as_ref()
}
