//! How connections end.

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

use super::Worker;
use super::command::leave_everything;
use super::conn::{Connection, Kind};
use super::forge::UNPROVED;
use super::m2::EXPIRED;
use super::{recovery, upgrade};
use crate::limits::{CLOSE_LINGER_MS, SHUTDOWN_LINGER_MS};
use crate::mailbox::Polled;
use crate::message::{App, Transport};
use crate::metrics::{Counter, Counters};
use crate::protocol::engineio;
use crate::wire::frame;

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// Its client left, or vanished.
    Client,
    /// Its client did not answer a ping.
    PingTimeout,
    /// Its client did not enter a namespace.
    ConnectTimeout,
    /// Its client broke the protocol.
    Protocol,
    /// Its outbox overflowed.
    SlowConsumer,
    /// Its token expired.
    Expired,
    /// The node stops.
    Drain,
    /// The system did not let the node watch its socket.
    System,
}

impl Reason {
    /// Whether its client may go on where it was: whoever did not leave on purpose may.
    pub(super) fn may_come_back(self) -> bool {
        match self {
            Self::Client
            | Self::PingTimeout
            | Self::SlowConsumer
            | Self::Expired
            | Self::System => true,
            Self::ConnectTimeout | Self::Protocol | Self::Drain => false,
        }
    }

    fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Self::Client => &counters.closed_client,
            Self::PingTimeout => &counters.closed_ping_timeout,
            Self::ConnectTimeout => &counters.closed_connect_timeout,
            Self::Protocol => &counters.closed_protocol,
            Self::SlowConsumer => &counters.closed_slow_consumer,
            Self::Expired => &counters.closed_expired,
            Self::Drain => &counters.closed_drain,
            Self::System => &counters.closed_system,
        }
    }
}

/// Says a last WebSocket frame and waits for the peer to close as well, so that what was said is
/// not lost to a reset. A session ends at once: its subscriptions are left before this returns.
pub(super) fn gracefully(worker: &mut Worker, slot: u32, code: Option<u16>, reason: Reason) {
    let linger = if reason == Reason::Drain { SHUTDOWN_LINGER_MS } else { CLOSE_LINGER_MS };
    let until = worker.now + linger;
    let id = worker.connections.id(slot);
    recovery::keep(worker, slot, reason);
    leave_everything(worker, slot);
    let Some(connection) = worker.connections.get_mut(slot) else { return };
    if connection.socket.is_none() {
        now(worker, slot, reason);
        return;
    }
    let kind = std::mem::replace(&mut connection.kind, Kind::Closing { until });
    match kind {
        Kind::Session(session) => {
            uncount(&worker.counters, session.app, session.transport(), reason);
        }
        Kind::Forge(_) => uncount_plain(&worker.counters, |all| &all.forge_websockets, reason),
        Kind::M2(_) => uncount_plain(&worker.counters, |all| &all.m2_websockets, reason),
        Kind::Probe { session, .. } => upgrade::withdrawn(&mut worker.connections, id, &session),
        Kind::Echo | Kind::Closing { .. } => {}
    }
    let text = match (code, reason) {
        (Some(UNPROVED), Reason::Expired) => "the context token has expired",
        (Some(UNPROVED), _) => "no context was proved in time",
        (Some(EXPIRED), Reason::Expired) => "the token has expired",
        _ => "",
    };
    worker.send(slot, frame::close(code, text));
    worker.schedule(slot);
}

/// Lets a connection go without another word on a WebSocket; a poll that waits is told that the
/// session is over.
pub(super) fn now(worker: &mut Worker, slot: u32, reason: Reason) {
    with_last_packet(worker, slot, engineio::CLOSE, reason);
}

/// The same, where a waiting poll is told `packet`.
pub(super) fn with_last_packet(worker: &mut Worker, slot: u32, packet: &str, reason: Reason) {
    recovery::keep(worker, slot, reason);
    leave_everything(worker, slot);
    let id = worker.connections.id(slot);
    let Some(mut connection) = worker.connections.remove(slot) else { return };
    worker.hub.mailboxes.unassign(worker.id);
    let dropped = connection.outbox.clear(&mut worker.drain.spares);
    match reason {
        Reason::SlowConsumer => worker.counters.dropped_slow_consumer.add(dropped.deliveries),
        _ => worker.counters.dropped_closed.add(dropped.deliveries),
    }
    let session = match connection.kind {
        Kind::Session(session) => session,
        Kind::Probe { session, .. } => {
            return upgrade::withdrawn(&mut worker.connections, id, &session);
        }
        Kind::Forge(_) => {
            return uncount_plain(&worker.counters, |all| &all.forge_websockets, reason);
        }
        Kind::M2(_) => return uncount_plain(&worker.counters, |all| &all.m2_websockets, reason),
        Kind::Echo | Kind::Closing { .. } => return,
    };
    uncount(&worker.counters, session.app, session.transport(), reason);
    let Some(polling) = session.polling else { return };
    if let Some(waiting) = polling.waiting {
        worker.hub.mailboxes.answer(waiting, Ok(Polled::Payload(packet.as_bytes().to_vec())));
    }
    if let Some(probe) = polling.probe
        && worker.connections.by_id(probe).is_some()
    {
        gracefully(worker, probe.slot, None, reason);
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

/// Which gauge a session counts in.
pub(super) fn gauge(counters: &Counters, app: App, transport: Transport) -> &Counter {
    match (app, transport) {
        (App::Insforge, Transport::WebSocket) => &counters.websockets,
        (App::Insforge, Transport::Polling) => &counters.pollings,
        (_, Transport::WebSocket) => &counters.conformance_websockets,
        (_, Transport::Polling) => &counters.conformance_pollings,
    }
}

/// A client on a plain WebSocket is gone, which its interface counts in a gauge of its own.
fn uncount_plain(counters: &Counters, gauge: fn(&Counters) -> &Counter, reason: Reason) {
    gauge(counters).sub(1);
    reason.counter(counters).add(1);
}

fn uncount(counters: &Counters, app: App, transport: Transport, reason: Reason) {
    gauge(counters, app, transport).sub(1);
    reason.counter(counters).add(1);
}
