//! Engine.IO sessions: what a packet means, on whichever transport it came, and what time brings.

use std::sync::Arc;

use super::close::{self, Reason};
use super::conn::Session;
use super::moving::Departure;
use super::{Worker, command, credential, recovery};
use crate::message::{App, ConnId, Credential};
use crate::protocol::engineio::{self, Packet, Pulse};
use crate::protocol::socketio::{self, Event};
use crate::protocol::{self, Violation, conformance, insforge};
use crate::wire::frame::{Opcode, frame};

/// Acts on a text packet.
///
/// # Errors
/// When the client broke the protocol; the caller closes the session ([`check`]).
pub(super) fn on_packet(worker: &mut Worker, id: ConnId, text: &str) -> Result<(), Violation> {
    let (now, timings) = (worker.now, worker.hub.timings);
    let Some(session) = worker.session(id) else { return Ok(()) };
    let packet = engineio::decode(text)?;
    if packet == Packet::Pong {
        session.heartbeat.pong(now, &timings);
        worker.schedule(id.slot);
        return Ok(());
    }
    session.heartbeat.sign_of_life(now, &timings);
    match packet {
        Packet::Message(data) => return on_message(worker, id, data),
        Packet::Close if session.polling.is_some() => {
            close::with_last_packet(worker, id.slot, engineio::NOOP, Reason::Client);
        }
        Packet::Close => close::gracefully(worker, id.slot, None, Reason::Client),
        Packet::Pong | Packet::Noop => {}
        Packet::Ping(_) => return Err(Violation("a client does not ping")),
        Packet::Upgrade => return Err(Violation("nothing to upgrade")),
    }
    Ok(())
}

/// Acts on a binary message.
///
/// # Errors
/// As [`on_packet`].
pub(super) fn on_binary(worker: &mut Worker, id: ConnId, data: &[u8]) -> Result<(), Violation> {
    let (now, timings) = (worker.now, worker.hub.timings);
    let Some(session) = worker.session(id) else { return Ok(()) };
    session.heartbeat.sign_of_life(now, &timings);
    if session.app == App::EngineIoConformance {
        worker.send(id.slot, frame(Opcode::Binary, &[data]));
        return Ok(());
    }
    let mut pending = session.take_pending().ok_or(Violation("binary that no packet announced"))?;
    if pending.attach(data)? {
        return on_binary_event(worker, id, &pending);
    }
    session.keep_pending(pending);
    Ok(())
}

/// Closes the transport of a client that broke the protocol; it may come again.
pub(super) fn check(worker: &mut Worker, id: ConnId, handled: Result<(), Violation>) {
    if let Err(Violation(why)) = handled {
        tracing::debug!(why, "closing a connection that broke its protocol");
        close::gracefully(worker, id.slot, None, Reason::Protocol);
    }
}

fn on_message(worker: &mut Worker, id: ConnId, data: &str) -> Result<(), Violation> {
    let Some(session) = worker.session(id) else { return Ok(()) };
    if session.app == App::EngineIoConformance {
        worker.send_text(id.slot, &format!("4{data}"));
        return Ok(());
    }
    if session.is_pending() {
        return Err(Violation("text where an attachment was due"));
    }
    match socketio::decode(data)? {
        socketio::Packet::Connect { namespace, auth } => connect(worker, id, namespace, auth),
        socketio::Packet::Disconnect { namespace } => {
            disconnect(worker, id, namespace);
            Ok(())
        }
        socketio::Packet::Event(event) => on_event(worker, id, &event, &[]),
        socketio::Packet::Incomplete(pending) => {
            session.keep_pending(pending);
            Ok(())
        }
        socketio::Packet::Ack { namespace } => match namespace_bit(session, namespace) {
            Some(bit) if session.namespaces & bit != 0 => Ok(()),
            _ => Err(Violation("an acknowledgement before CONNECT")),
        },
    }
}

fn on_binary_event(
    worker: &mut Worker,
    id: ConnId,
    pending: &socketio::Pending,
) -> Result<(), Violation> {
    let Some(session) = worker.session(id) else { return Ok(()) };
    let inlined = pending.inlined()?;
    if session.app == App::SocketIoConformance {
        return on_event(worker, id, &pending.event()?, pending.attachments());
    }
    on_event(worker, id, &inlined.event()?, &[])
}

/// The bit of a namespace, if the app has it.
fn namespace_bit(session: &Session, namespace: &str) -> Option<u8> {
    let namespaces: &[&str] = match session.app {
        App::SocketIoConformance => &conformance::NAMESPACES,
        App::Insforge | App::EngineIoConformance => &["/"],
    };
    namespaces.iter().position(|known| *known == namespace).map(|place| 1 << place)
}

fn connect(worker: &mut Worker, id: ConnId, namespace: &str, auth: &str) -> Result<(), Violation> {
    let Some(session) = worker.session(id) else { return Ok(()) };
    let Some(bit) = namespace_bit(session, namespace) else {
        let refusal = socketio::connect_error(namespace, "Invalid namespace");
        worker.send_text(id.slot, &refusal);
        return Ok(());
    };
    // One that comes back has entered too, though it is not told yet.
    if session.namespaces & bit != 0 || session.credential.is_some() {
        return Err(Violation("a second CONNECT"));
    }
    if session.app == App::Insforge {
        enter(worker, id, auth);
        return Ok(());
    }
    session.namespaces |= bit;
    // A socket's name is its namespace's own; only the main one's is needed later.
    let socket_id = match namespace {
        "/" => session.socket_id(),
        _ => super::conn::socket_id(rand::random()),
    };
    worker.send_text(id.slot, &socketio::connected(namespace, &socket_id));
    worker.send_text(id.slot, &conformance::greeting(namespace, auth));
    Ok(())
}

/// Lets a client into the API, if its credential is good: as a new one, or back to what it had.
pub(super) fn enter(worker: &mut Worker, id: ConnId, auth: &str) {
    let resume = protocol::recovery::resume(auth).filter(|_| worker.recovery.is_some());
    if let Some(home) = resume.and_then(|resume| recovery::home(worker, &resume)) {
        worker.departing = Some(Departure { connection: id, to: home, auth: auth.into() });
        return;
    }
    let Some(credential) = admit(worker, id, auth) else { return };
    let came_back = resume.is_some_and(|wish| recovery::resume(worker, id, &wish, &credential));
    if !came_back && let Some(session) = worker.session(id) {
        session.credential = Some(credential);
        welcome(worker, id);
    }
}

/// The same, where there is nothing to go back to.
pub(super) fn enter_anew(worker: &mut Worker, id: ConnId, auth: &str) {
    let Some(credential) = admit(worker, id, auth) else { return };
    if let Some(session) = worker.session(id) {
        session.credential = Some(credential);
        welcome(worker, id);
    }
}

/// Who the client is; who is nobody is told so.
fn admit(worker: &mut Worker, id: ConnId, auth: &str) -> Option<Arc<Credential>> {
    match worker.auth.users.connect(auth, worker.hub.clock.wall() / 1_000) {
        Ok(credential) => Some(credential),
        Err(error) => {
            worker.counters.refused_unauthorized.add(1);
            tracing::debug!(%error, "refusing a client's credential");
            let refusal = socketio::connect_error("/", &error.to_string());
            worker.send_text(id.slot, &refusal);
            None
        }
    }
}

/// Tells a client that it has entered the API, as a new one.
pub(super) fn welcome(worker: &mut Worker, id: ConnId) {
    let private_id = recovery::begin(worker, id);
    let Some(session) = worker.session(id) else { return };
    session.namespaces |= 1;
    let socket_id = session.socket_id();
    let text = match private_id {
        Some(private_id) => socketio::connected_for_good(&socket_id, &private_id),
        None => socketio::connected("/", &socket_id),
    };
    worker.send_text(id.slot, &text);
    worker.schedule(id.slot);
}

/// The client leaves a namespace; the transport stays, as long as the client enters another one in
/// the time that a new session has for it.
fn disconnect(worker: &mut Worker, id: ConnId, namespace: &str) {
    let connect_by = worker.now + worker.hub.timings.connect_timeout_ms;
    let Some(session) = worker.session(id) else { return };
    let bit = namespace_bit(session, namespace).unwrap_or_default();
    if session.namespaces & bit == 0 {
        return;
    }
    session.namespaces &= !bit;
    session.connect_by = connect_by;
    if session.app == App::Insforge {
        recovery::forget(worker, id);
        command::leave_everything(worker, id.slot);
        if let Some(session) = worker.session(id) {
            session.credential = None;
        }
        // Activations of what was just left may still be in the mailbox; they must not meet the
        // subscriptions that the client makes when it enters again.
        worker.heir = Some(worker.connections.renew(id.slot));
    }
    worker.schedule(id.slot);
}

fn on_event(
    worker: &mut Worker,
    id: ConnId,
    event: &Event<'_>,
    attachments: &[Vec<u8>],
) -> Result<(), Violation> {
    let Some(session) = worker.session(id) else { return Ok(()) };
    let bit = namespace_bit(session, event.namespace).unwrap_or_default();
    if session.namespaces & bit == 0 {
        return Err(Violation("an event before CONNECT"));
    }
    if session.app == App::Insforge {
        command::execute(worker, id, insforge::request(event), event.ack);
        return Ok(());
    }
    if let Some(answer) = conformance::answer(event, attachments.len()) {
        worker.send_text(id.slot, &answer);
        for attachment in attachments {
            worker.send(id.slot, frame(Opcode::Binary, &[attachment]));
        }
    }
    Ok(())
}

/// Looks at the clock for a session: pings it, or lets it go.
pub(super) fn on_time(worker: &mut Worker, id: ConnId) {
    let (now, timings) = (worker.now, worker.hub.timings);
    let Some(session) = worker.session(id) else { return };
    if session.owes_connect() && now >= session.connect_by {
        return close::gracefully(worker, id.slot, None, Reason::ConnectTimeout);
    }
    if credential::end_expired(worker, id) {
        return;
    }
    while let Some(session) = worker.session(id) {
        match session.heartbeat.beat(now, &timings) {
            Pulse::Steady => return,
            Pulse::Ping => worker.send_text(id.slot, engineio::PING),
            Pulse::Dead => {
                return close::gracefully(worker, id.slot, None, Reason::PingTimeout);
            }
        }
    }
}
