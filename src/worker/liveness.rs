//! Whether clients on plain WebSockets are still there: pings of the protocol itself.

use super::Worker;
use super::close::{self, Reason};
use crate::message::ConnId;
use crate::protocol::engineio::Pulse;
use crate::wire::frame::{Opcode, frame};

/// A pong came.
pub(super) fn on_pong(worker: &mut Worker, id: ConnId) {
    let (now, timings) = (worker.now, worker.hub.timings);
    let connection = worker.connections.by_id(id);
    if let Some(heartbeat) = connection.and_then(|connection| connection.heartbeat()) {
        heartbeat.pong(now, &timings);
        worker.schedule(id.slot);
    }
}

/// Something else came.
pub(super) fn on_message(worker: &mut Worker, id: ConnId) {
    let (now, timings) = (worker.now, worker.hub.timings);
    let connection = worker.connections.by_id(id);
    if let Some(heartbeat) = connection.and_then(|connection| connection.heartbeat()) {
        heartbeat.sign_of_life(now, &timings);
    }
}

/// Pings a client when it is time for that, and lets one go that does not answer.
pub(super) fn beat(worker: &mut Worker, id: ConnId) {
    let (now, timings) = (worker.now, worker.hub.timings);
    loop {
        let connection = worker.connections.by_id(id);
        let Some(heartbeat) = connection.and_then(|connection| connection.heartbeat()) else {
            return;
        };
        match heartbeat.beat(now, &timings) {
            Pulse::Steady => return,
            Pulse::Ping => worker.send(id.slot, frame(Opcode::Ping, &[])),
            Pulse::Dead => return close::gracefully(worker, id.slot, None, Reason::PingTimeout),
        }
    }
}
