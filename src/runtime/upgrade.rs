//! Sockets that arrive from an acceptor, and the move of a session from long-polling to WebSocket.

use std::os::fd::OwnedFd;

use super::connection::{Connection, Connections, State};
use super::migrate;
use super::worker::Worker;
use crate::broker::outgoing::Outgoing;
use crate::codec::http::Response;
use crate::codec::websocket::handshake;
use crate::interface::context::Local;
use crate::interface::frame::Frame;
use crate::interface::insforge::engineio::{self, RequestError};
use crate::interface::next::{Close, OfferStep, Offered, Reason};
use crate::interface::{Session, forge, insforge, m2};
use crate::limits::CLOSE_LINGER_MS;
use crate::mailbox::{Accepted, Handover, Mail, Polled, Purpose};
use crate::message::{ConnId, SessionId};

/// How a probe ends whose offer was not accepted.
const REFUSED: Close = Close { code: None, text: "", reason: Reason::Protocol };

/// Takes a socket over: answers its handshake, and goes on with the bytes that came with it.
pub(super) fn adopt(worker: &mut Worker, handover: Handover) {
    let Some(handover) = pass_on(worker, handover) else { return };
    let Handover { socket, mut leftover, accept, purpose } = handover;
    let Worker { shared, local, now, connections, .. } = worker;
    let session = match purpose {
        Purpose::EngineIo(app) => {
            let random = &mut local.random;
            Session::Insforge(insforge::Session::websocket(app, *now, &shared.timings, random))
        }
        Purpose::Forge(context) => {
            let random = &mut local.random;
            Session::Forge(forge::Session::new(context, *now, &shared.timings, random))
        }
        Purpose::M2(party) => Session::M2(m2::Session::new(party, *now, &shared.timings)),
        Purpose::Probe(session) => {
            if connections.find(&session).is_none() {
                return refuse(worker, socket, RequestError::UnknownSession);
            }
            let until = now.monotonic() + shared.timings.upgrade_timeout_ms;
            Session::Probe(insforge::Probe::new(session, until))
        }
        Purpose::Echo => Session::Echo,
    };
    if let Some(gauge) = session.gauge(&local.counters) {
        gauge.add(1);
        local.counters.opened.add(1);
    }
    let Some(slot) = insert(worker, Some(socket), State::Open(session)) else { return };
    let next = worker.on(slot, |session, ctx, _| {
        if let Some(Accepted { key, protocol }) = &accept {
            let protocol = protocol.as_deref().map(|name| ("Sec-WebSocket-Protocol", name));
            ctx.send(handshake::response(key, protocol.as_slice()));
        }
        session.on_open(ctx)
    });
    if let Some(slot) = next.and_then(|next| worker.apply(slot, next, &[])) {
        worker.receive(slot, &mut leftover);
    }
}

/// Hands a socket on whose session went to another worker; else it is ours.
fn pass_on(worker: &mut Worker, mut handover: Handover) -> Option<Handover> {
    let Purpose::Probe(session) = handover.purpose else { return Some(handover) };
    let located = migrate::locate(worker, session);
    handover.purpose = Purpose::Probe(located);
    if located.worker == worker.id {
        return Some(handover);
    }
    let router = &worker.shared.mailboxes;
    router.unassign(worker.id);
    router.assign_to(located.worker);
    if router.control(located.worker, Mail::Adopt(Box::new(handover))).is_err() {
        // The socket is closed with the mail; the session stays on long-polling.
        router.unassign(located.worker);
    }
    None
}

/// Takes a connection in and watches its socket, if it has one. `None` if the system does not let
/// the worker watch it.
pub(super) fn insert(worker: &mut Worker, socket: Option<OwnedFd>, state: State) -> Option<u32> {
    let ConnId { slot, .. } = worker.connections.insert(Connection::new(socket, state));
    let connection = worker.connections.get_mut(slot)?;
    let socket = connection.link.socket.as_ref();
    if let Some(Err(error)) = socket.map(|socket| worker.poller.add(socket, slot)) {
        tracing::warn!(%error, "a new socket cannot be watched and is closed");
        worker.remove(slot, Reason::System);
        return None;
    }
    worker.wheel.schedule(slot, connection, (worker.now, &worker.shared));
    Some(slot)
}

/// Answers an upgrade request with an error, as plain text, and closes.
fn refuse(worker: &mut Worker, socket: OwnedFd, error: RequestError) {
    let until = worker.now.monotonic() + CLOSE_LINGER_MS;
    let mut bytes = Vec::new();
    Response::with_type(400, "text/html", error.message()).write(&mut bytes, false, false);
    if let Some(slot) = insert(worker, Some(socket), State::Closing { until })
        && let Some(connection) = worker.connections.get_mut(slot)
    {
        worker.local.outboxes.push(slot, &mut connection.link, Frame::own(bytes));
    }
}

/// Takes a step of the offer that the probe in a slot makes. Returns the slot that goes on with the
/// probe's socket.
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
        Some((carried, Ok(Offered::TakeOver))) => return take_over(worker, slot, carried),
        Some((_, Err(violation))) => {
            tracing::debug!(why = violation.0, "closing a connection that broke its protocol");
            worker.close(slot, REFUSED);
        }
        None => worker.close(slot, REFUSED),
    }
    Some(slot)
}

/// Lets a session go on over the probe's socket. Frames that waited for a poll wait for the socket
/// now, behind the probe's own. Returns the session's slot.
fn take_over(worker: &mut Worker, probe: u32, slot: u32) -> Option<u32> {
    let offered = worker.connections.remove(probe)?;
    worker.shared.mailboxes.unassign(worker.id);
    let Worker { connections, local, shared, poller, .. } = worker;
    let Connection { decoder, link, state: State::Open(session) } = connections.get_mut(slot)?
    else {
        return None;
    };
    session.gauge(&local.counters)?.sub(1);
    let polled = session.leave_polling();
    session.gauge(&local.counters)?.add(1);
    *decoder = offered.decoder;
    let mut waiting = std::mem::replace(&mut link.outbox, offered.link.outbox);
    link.socket = offered.link.socket;
    link.is_blocked = offered.link.is_blocked;
    let renamed = link.socket.as_ref().map(|socket| poller.rename(socket, slot));
    let Local { outboxes, index, counters, .. } = local;
    while let Some(frame) = waiting.pop(&mut outboxes.spares) {
        let is_delivery = frame.is_delivery();
        if !outboxes.push(slot, link, frame) && is_delivery {
            counters.dropped_slow_consumer.add(1);
        }
    }
    // The probe's slot may have been waiting to be drained; the session's must be instead.
    outboxes.mark(slot, link);
    for (channel, counted) in index.of(link.subscriptions) {
        shared.directory.upgrade(channel, worker.id, counted.group);
    }
    if let Some(ticket) = polled {
        shared.mailboxes.answer(ticket, Ok(Polled::Payload(engineio::NOOP.into())));
    }
    if let Some(Err(error)) = renamed {
        tracing::warn!(%error, "an upgraded socket cannot be watched and is closed");
        worker.remove(slot, Reason::System);
        return None;
    }
    Some(slot)
}

/// A WebSocket no longer offers to carry a session: the session stays on long-polling.
pub(super) fn withdraw(connections: &mut Connections, probe: ConnId, session: &SessionId) {
    if let Some((_, connection)) = connections.find(session)
        && let Some(session) = connection.session()
    {
        session.on_offer_withdrawn(probe);
    }
}
