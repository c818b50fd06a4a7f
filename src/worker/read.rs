//! Sockets to messages: what a ready connection sent is read into the worker's own buffer and
//! taken apart there.

use std::ops::ControlFlow;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::close::{self, Reason};
use super::conn::Kind;
use super::{Worker, forge, liveness, m2, moving, session, upgrade};
use crate::limits::{ECHO_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, READS_PER_TURN_MAX};
use crate::message::ConnId;
use crate::protocol::Violation;
use crate::wire::frame::{FrameError, Message, Opcode, frame};

/// Reads what a socket has. True when it must be read again in the next turn, because it sent more
/// than one turn takes.
pub(super) fn read(worker: &mut Worker, slot: u32) -> bool {
    let mut scratch = std::mem::take(&mut worker.scratch);
    let more = read_into(worker, slot, &mut scratch);
    worker.scratch = scratch;
    more
}

fn read_into(worker: &mut Worker, slot: u32, scratch: &mut [u8]) -> bool {
    let mut id = worker.connections.id(slot);
    for _ in 0..READS_PER_TURN_MAX {
        let Some(connection) = worker.connections.by_id(id) else { return false };
        let Some(socket) = &connection.socket else { return false };
        let length = match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                close::now(worker, slot, Reason::Client);
                return false;
            }
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => return false,
            Err(Errno::INTR) => continue,
            Err(_) => {
                close::now(worker, slot, Reason::Client);
                return false;
            }
        };
        worker.counters.bytes_received.add(length as u64);
        let ended = connection.has_ended;
        id = feed(worker, id, &mut scratch[..length]);
        if id.slot != slot {
            // The session that took the socket over is told of what waits by the poller.
            return false;
        }
        // A short read emptied the socket, and what comes later is announced again; only an end
        // that was announced together with the bytes has still to be read.
        if length < scratch.len() && !ended {
            return false;
        }
    }
    true
}

/// Takes bytes of a connection apart and acts on every message in them. Answers who goes on with
/// the socket: the same connection, or the one that it became on the way.
pub(super) fn feed(worker: &mut Worker, id: ConnId, bytes: &mut [u8]) -> ConnId {
    let Some(connection) = worker.connections.by_id(id) else { return id };
    let bytes_max = match connection.kind {
        Kind::Closing { .. } => return id,
        Kind::Echo => ECHO_MESSAGE_BYTES_MAX,
        Kind::Session(_) | Kind::Forge(_) | Kind::M2(_) | Kind::Probe { .. } => MESSAGE_BYTES_MAX,
    };
    let mut decoder = std::mem::take(&mut connection.decoder);
    let fed = decoder.feed(bytes, bytes_max, &mut |message| on_message(worker, id, message));
    if let Some(heir) = worker.heir.take() {
        // What came behind the packet that changed the connection belongs to what it became.
        if let Some(connection) = worker.connections.by_id(heir) {
            connection.decoder = decoder;
        }
        return feed(worker, heir, &mut []);
    }
    let departing = worker.departing.take();
    let Some(connection) = worker.connections.by_id(id) else { return id };
    connection.decoder = decoder;
    if let Some(departure) = departing {
        return if moving::depart(worker, departure) { id } else { feed(worker, id, &mut []) };
    }
    if let Err(error) = fed
        && !matches!(connection.kind, Kind::Closing { .. })
    {
        refuse(worker, id.slot, error);
    }
    id
}

fn refuse(worker: &mut Worker, slot: u32, error: FrameError) {
    tracing::debug!(%error, "closing a WebSocket that broke its protocol");
    close::gracefully(worker, slot, Some(error.close_code()), Reason::Protocol);
}

fn on_message(worker: &mut Worker, id: ConnId, message: Message<'_>) -> ControlFlow<()> {
    match message {
        Message::Ping(data) => worker.send(id.slot, frame(Opcode::Pong, &[data])),
        Message::Pong(_) => liveness::on_pong(worker, id),
        Message::Close(said) => {
            let code = said.map(|(code, _)| code);
            forge::on_close(worker, id);
            close::gracefully(worker, id.slot, code, Reason::Client);
        }
        Message::Text(text) => match worker.connections.by_id(id).map(|c| &c.kind) {
            Some(Kind::Echo) => worker.send(id.slot, frame(Opcode::Text, &[text.as_bytes()])),
            Some(Kind::Probe { session, .. }) => {
                let session = *session;
                let handled = upgrade::on_probe_packet(worker, id, &session, text);
                session::check(worker, id, handled);
            }
            Some(Kind::Forge(_)) => forge::on_text(worker, id, text),
            Some(Kind::M2(_)) => m2::on_text(worker, id, text),
            Some(Kind::Session(_)) => {
                let handled = session::on_packet(worker, id, text);
                session::check(worker, id, handled);
            }
            Some(Kind::Closing { .. }) | None => {}
        },
        Message::Binary(data) => match worker.connections.by_id(id).map(|c| &c.kind) {
            Some(Kind::Echo) => worker.send(id.slot, frame(Opcode::Binary, &[data])),
            Some(Kind::Forge(_)) => forge::on_binary(worker, id),
            Some(Kind::M2(_)) => m2::on_binary(worker, id),
            Some(Kind::Session(_)) => {
                let handled = session::on_binary(worker, id, data);
                session::check(worker, id, handled);
            }
            Some(Kind::Probe { .. }) => {
                session::check(worker, id, Err(Violation("binary on a probe")));
            }
            Some(Kind::Closing { .. }) | None => {}
        },
    }
    match worker.connections.by_id(id).map(|connection| &connection.kind) {
        Some(Kind::Closing { .. }) | None => ControlFlow::Break(()),
        Some(_) if worker.departing.is_some() => ControlFlow::Break(()),
        Some(_) => ControlFlow::Continue(()),
    }
}
