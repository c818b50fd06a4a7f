//! Sockets that arrive from an acceptor, and the move of a session from long-polling to WebSocket
//! (contract section 7.2).

use super::close::{self, Reason};
use super::conn::{Connection, Connections, Kind, Session};
use super::forge::{self, Forge};
use super::m2::{self, M2};
use super::{Worker, moving, polling, read};
use crate::engine::outbox::Outgoing;
use crate::limits::POLLING_SESSIONS_MAX;
use crate::mailbox::{Accepted, Handover, Mail, Polled, Purpose};
use crate::message::{App, ConnId, SessionId, Transport};
use crate::protocol::Violation;
use crate::protocol::engineio::{self, Packet, RequestError};
use crate::wire::handshake;
use crate::wire::http::Response;

/// Takes a socket over: answers its handshake, and goes on with the bytes that came with it.
pub(super) fn adopt(worker: &mut Worker, handover: Handover) {
    let Some(handover) = pass_on(worker, handover) else { return };
    let Handover { socket, mut leftover, accept, purpose } = handover;
    let (now, timings) = (worker.now, worker.hub.timings);
    let kind = match &purpose {
        Purpose::EngineIo(app) => {
            close::gauge(&worker.counters, *app, Transport::WebSocket).add(1);
            worker.counters.opened.add(1);
            Kind::Session(Session::new(*app, now, &timings))
        }
        Purpose::Forge(context) => {
            worker.counters.forge_websockets.add(1);
            worker.counters.opened.add(1);
            Kind::Forge(Forge::new(context.clone(), now, &timings))
        }
        Purpose::M2(party) => {
            worker.counters.m2_websockets.add(1);
            worker.counters.opened.add(1);
            Kind::M2(M2::new(party.clone(), now, &timings))
        }
        Purpose::Probe(session) => {
            if worker.connections.session(session).is_none() {
                return refuse(worker, socket, RequestError::UnknownSession);
            }
            Kind::Probe { session: *session, until: now + timings.upgrade_timeout_ms }
        }
        Purpose::Echo => Kind::Echo,
    };
    let Some(id) = insert(worker, socket, kind) else { return };
    if let Some(Accepted { key, protocol }) = accept {
        let protocol = protocol.as_deref().map(|name| ("Sec-WebSocket-Protocol", name));
        worker.send(id.slot, handshake::response(&key, protocol.as_slice()));
    }
    match purpose {
        Purpose::EngineIo(_) => open(worker, id),
        Purpose::Probe(session) => offer(worker, id, &session),
        Purpose::Forge(_) => forge::welcome(worker, id, None),
        Purpose::M2(_) => m2::welcome(worker, id),
        Purpose::Echo => {}
    }
    read::feed(worker, id, &mut leftover);
}

/// Hands a socket on whose session went to another worker; else it is ours.
fn pass_on(worker: &mut Worker, mut handover: Handover) -> Option<Handover> {
    let Purpose::Probe(session) = handover.purpose else { return Some(handover) };
    let located = moving::locate(worker, session);
    handover.purpose = Purpose::Probe(located);
    if located.worker == worker.id {
        return Some(handover);
    }
    let mailboxes = &worker.hub.mailboxes;
    mailboxes.unassign(worker.id);
    mailboxes.assign_to(located.worker);
    if mailboxes.control(located.worker, Mail::Adopt(Box::new(handover))).is_err() {
        // The socket is closed with the mail; the session stays on long-polling.
        mailboxes.unassign(located.worker);
    }
    None
}

/// Says the opening packet of a session on WebSocket.
fn open(worker: &mut Worker, id: ConnId) {
    let (worker_id, timings) = (worker.id, worker.hub.timings);
    let Some(session) = worker.session(id) else { return };
    let session_id = SessionId { worker: worker_id, slot: id.slot, key: session.key };
    worker.send_text(id.slot, &engineio::open(&session_id, false, &timings));
}

/// Takes a connection in and watches its socket. `None` where the system does not let it.
pub(super) fn insert(
    worker: &mut Worker,
    socket: std::os::fd::OwnedFd,
    kind: Kind,
) -> Option<ConnId> {
    let id = worker.connections.insert(Connection::new(Some(socket), kind));
    let connection = worker.connections.get_mut(id.slot)?;
    let watched = connection.socket.as_ref().map(|socket| worker.poller.add(socket, id.slot));
    if let Some(Err(error)) = watched {
        tracing::warn!(%error, "a new socket cannot be watched and is closed");
        close::now(worker, id.slot, Reason::System);
        return None;
    }
    worker.schedule(id.slot);
    Some(id)
}

/// Notes that a WebSocket offers to carry this session. A session takes one offer at a time, and
/// none once it has moved: then the new socket is closed and the session does not notice.
fn offer(worker: &mut Worker, probe: ConnId, session: &SessionId) {
    let found = worker.connections.session(session);
    let session = found.and_then(|(_, connection)| connection.session());
    match session.and_then(|session| session.polling.as_mut()) {
        Some(polling) if polling.probe.is_none() => polling.probe = Some(probe),
        _ => close::gracefully(worker, probe.slot, None, Reason::Protocol),
    }
}

/// Answers an upgrade request with an error, as plain text, and closes.
fn refuse(worker: &mut Worker, socket: std::os::fd::OwnedFd, error: RequestError) {
    let until = worker.now + crate::limits::CLOSE_LINGER_MS;
    let mut bytes = Vec::new();
    Response::with_type(400, "text/html", error.message()).write(&mut bytes, false, false);
    if let Some(id) = insert(worker, socket, Kind::Closing { until }) {
        worker.send(id.slot, bytes);
    }
}

/// Acts on a packet from a WebSocket that offers to carry a session.
///
/// # Errors
/// When it is neither the probe nor the upgrade; the session goes on as it was.
pub(super) fn on_probe_packet(
    worker: &mut Worker,
    probe: ConnId,
    session: &SessionId,
    text: &str,
) -> Result<(), Violation> {
    let (id, connection) =
        worker.connections.session(session).ok_or(Violation("the session is gone"))?;
    let polling = connection.session().and_then(|session| session.polling.as_mut());
    let polling = polling.ok_or(Violation("the session has moved already"))?;
    match engineio::decode(text)? {
        Packet::Ping("probe") => {
            polling.is_upgrading = true;
            worker.send_text(probe.slot, engineio::PROBE_ANSWER);
            polling::release(worker, id.slot);
            Ok(())
        }
        Packet::Upgrade if polling.is_upgrading => {
            take_over(worker, probe, id);
            Ok(())
        }
        _ => Err(Violation("neither probe nor upgrade")),
    }
}

/// The session goes on over the probe's socket. What waited for a poll waits for the socket now.
fn take_over(worker: &mut Worker, probe: ConnId, id: ConnId) {
    let Some(mut offered) = worker.connections.remove(probe.slot) else { return };
    worker.hub.mailboxes.unassign(worker.id);
    let Some(connection) = worker.connections.by_id(id) else { return };
    let mut waiting = std::mem::replace(&mut connection.outbox, offered.outbox);
    connection.socket = offered.socket.take();
    connection.is_blocked = offered.is_blocked;
    let renamed = connection.socket.as_ref().map(|socket| worker.poller.rename(socket, id.slot));
    let Some(session) = connection.session() else { return };
    let (app, polling) = (session.app, session.polling.take());
    while let Some(frame) = waiting.pop(&mut worker.drain.spares) {
        let is_delivery = frame.is_delivery();
        if !worker.drain.push(id.slot, connection, frame) && is_delivery {
            worker.counters.dropped_slow_consumer.add(1);
        }
    }
    // The probe's slot may have been waiting to be drained; the session's must be instead.
    worker.drain.mark(id.slot, connection);
    let subscriptions = connection.subscriptions;
    close::gauge(&worker.counters, app, Transport::Polling).sub(1);
    close::gauge(&worker.counters, app, Transport::WebSocket).add(1);
    for (channel, counted) in worker.index.of(subscriptions) {
        worker.hub.directory.upgrade(channel, worker.id, counted.group);
    }
    if let Some(waiting) = polling.and_then(|polling| polling.waiting) {
        worker.hub.mailboxes.answer(waiting, Ok(Polled::Payload(engineio::NOOP.into())));
    }
    if let Some(Err(error)) = renamed {
        tracing::warn!(%error, "an upgraded socket cannot be watched and is closed");
        return close::now(worker, id.slot, Reason::System);
    }
    worker.heir = Some(id);
}

/// A WebSocket no longer offers to carry a session: the session stays on long-polling.
pub(super) fn withdrawn(connections: &mut Connections, probe: ConnId, session: &SessionId) {
    if let Some((_, connection)) = connections.session(session)
        && let Some(polling) = connection.session().and_then(|session| session.polling.as_mut())
        && polling.probe == Some(probe)
    {
        (polling.probe, polling.is_upgrading) = (None, false);
    }
}

/// A new session on long-polling; none, where there are as many as there may be.
pub(super) fn open_polling(worker: &mut Worker, app: App) -> Option<String> {
    if close::gauge(&worker.counters, app, Transport::Polling).get() >= POLLING_SESSIONS_MAX {
        worker.hub.mailboxes.unassign(worker.id);
        return None;
    }
    let mut session = Session::new(app, worker.now, &worker.hub.timings);
    session.polling = Some(Box::default());
    let key = session.key;
    debug_assert_eq!(session.transport(), Transport::Polling);
    let id = worker.connections.insert(Connection::new(None, Kind::Session(session)));
    close::gauge(&worker.counters, app, Transport::Polling).add(1);
    worker.counters.opened.add(1);
    worker.schedule(id.slot);
    let session_id = SessionId { worker: worker.id, slot: id.slot, key };
    Some(engineio::open(&session_id, true, &worker.hub.timings))
}
