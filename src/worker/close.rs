//! How connections end.

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

use super::Worker;
use super::command::leave_everything;
use super::conn::{Connection, Kind};
use super::{polling, upgrade};
use crate::limits::CLOSE_LINGER_MS;
use crate::message::Transport;
use crate::protocol::engineio;
use crate::router::AnswerBody;
use crate::wire::frame;

/// Says a last WebSocket frame and waits for the peer to close as well, so that what was said is
/// not lost to a reset. A session ends at once: its subscriptions are left before this returns.
pub(super) fn gracefully(worker: &mut Worker, slot: u32, code: Option<u16>) {
    let until = worker.now + CLOSE_LINGER_MS;
    let id = worker.connections.id(slot);
    leave_everything(worker, slot);
    let Some(connection) = worker.connections.get_mut(slot) else { return };
    if connection.socket.is_none() {
        now(worker, slot);
        return;
    }
    let kind = std::mem::replace(&mut connection.kind, Kind::Closing { until });
    match kind {
        Kind::Session(session) => uncount(&worker.counters, session.transport()),
        Kind::Probe { session, .. } => upgrade::withdrawn(&mut worker.connections, id, &session),
        Kind::Echo | Kind::Closing { .. } => {}
    }
    worker.send(slot, frame::close(code, ""));
    worker.schedule(slot);
}

/// Lets a connection go without another word on a WebSocket; a poll that waits is told that the
/// session is over.
pub(super) fn now(worker: &mut Worker, slot: u32) {
    with_last_packet(worker, slot, engineio::CLOSE);
}

/// The same, where a waiting poll is told `packet`.
pub(super) fn with_last_packet(worker: &mut Worker, slot: u32, packet: &str) {
    leave_everything(worker, slot);
    let id = worker.connections.id(slot);
    let Some(mut connection) = worker.connections.remove(slot) else { return };
    worker.hub.router.unassign(worker.id);
    let dropped = connection.outbox.clear(&mut worker.drain.spares);
    worker.counters.frames_dropped.add(dropped as u64);
    let session = match connection.kind {
        Kind::Session(session) => session,
        Kind::Probe { session, .. } => {
            return upgrade::withdrawn(&mut worker.connections, id, &session);
        }
        Kind::Echo | Kind::Closing { .. } => return,
    };
    uncount(&worker.counters, session.transport());
    let Some(polling) = session.polling else { return };
    if let Some(waiting) = polling.waiting {
        polling::answer(worker, waiting, AnswerBody::Payload(packet.as_bytes().to_vec()));
    }
    if let Some(probe) = polling.probe
        && worker.connections.by_id(probe).is_some()
    {
        gracefully(worker, probe.slot, None);
    }
}

/// Our half of a closing socket is done once everything was sent.
pub(super) fn half(connection: &mut Connection) {
    if let Some(socket) = &connection.socket {
        half_socket(socket);
    }
}

fn half_socket(socket: &OwnedFd) {
    // It fails only where the peer was faster, which is as good.
    let _ = shutdown(socket, Shutdown::Write);
}

fn uncount(counters: &crate::metrics::Counters, transport: Transport) {
    match transport {
        Transport::WebSocket => counters.websockets.sub(1),
        Transport::Polling => counters.pollings.sub(1),
    }
}
