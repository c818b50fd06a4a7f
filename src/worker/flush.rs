//! Outboxes to sockets: the list of connections with something to send, and one vectored send for
//! each of them.

use std::collections::VecDeque;

use super::Worker;
use super::close::{self, Reason};
use super::conn::{Connection, Kind};
use super::frame::Frame;
use super::polling;
use super::send::{Sent, send_waiting};
use crate::engine::compaction::Lost;
use crate::engine::outbox::{Full, Spares};
use crate::limits::TURN_DRAINS_MAX;

/// Connections that have something to send, and what they need for it.
#[derive(Debug, Default)]
pub(super) struct Drain {
    dirty: VecDeque<u32>,
    /// Connections whose outbox overflowed.
    doomed: Vec<u32>,
    /// What outboxes lost and is not counted yet.
    lost: Lost,
    pub(super) spares: Spares<Frame>,
}

impl Drain {
    /// Puts a frame into a connection's outbox. A connection that cannot take it is too slow and
    /// will be closed: then this is false.
    pub(super) fn push(&mut self, slot: u32, connection: &mut Connection, frame: Frame) -> bool {
        if connection.is_doomed {
            return false;
        }
        if connection.is_owed_rather(&frame) {
            self.lost.conflated += 1;
            return true;
        }
        let payment = connection.is_in_debt().then(|| frame.clone());
        if let Err(Full(frame)) = connection.outbox.push(frame, &mut self.spares)
            && let Err(frame) = self.push_into_room(connection, frame)
        {
            if connection.owes(&frame) {
                self.lost.conflated += 1;
                return true;
            }
            connection.is_doomed = true;
            self.doomed.push(slot);
            return false;
        }
        if let Some(frame) = payment {
            connection.pays(&frame);
        }
        if connection.is_blocked {
            self.relieve(connection);
        }
        self.mark(slot, connection);
        true
    }

    /// Puts a frame into a full outbox, in place of what its channels can do without.
    #[cold]
    fn push_into_room(&mut self, connection: &mut Connection, frame: Frame) -> Result<(), Frame> {
        let Some(lost) = connection.outbox.make_room(&frame) else { return Err(frame) };
        self.lost.add(lost);
        connection.outbox.push(frame, &mut self.spares).map_err(|Full(frame)| frame)
    }

    /// Takes outdated publications out of the outbox of a connection that takes nothing at the
    /// moment, once many frames wait there.
    pub(super) fn relieve(&mut self, connection: &mut Connection) {
        if connection.outbox.is_crowded() {
            self.lost.add(connection.outbox.conflate());
        }
    }

    /// Notes that a connection must be looked at before the turn ends.
    pub(super) fn mark(&mut self, slot: u32, connection: &mut Connection) {
        if !connection.is_dirty && !connection.is_blocked {
            connection.is_dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Whether anybody waits to be drained.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }
}

/// Closes the connections that turned out too slow, and counts what the others lost.
pub(super) fn reap(worker: &mut Worker) {
    if worker.drain.lost != Lost::default() {
        let Lost { oldest, conflated, notices } = std::mem::take(&mut worker.drain.lost);
        worker.counters.dropped_oldest.add(oldest);
        worker.counters.conflated.add(conflated);
        worker.counters.gaps.add(notices);
    }
    while let Some(slot) = worker.drain.doomed.pop() {
        if worker.connections.get_mut(slot).is_some_and(|connection| connection.is_doomed) {
            close::now(worker, slot, Reason::SlowConsumer);
        }
    }
}

/// Drains up to [`TURN_DRAINS_MAX`] connections, each once, in the order in which they got
/// something to send.
pub(super) fn drain(worker: &mut Worker) {
    for _ in 0..TURN_DRAINS_MAX {
        let Some(slot) = worker.drain.dirty.pop_front() else { return };
        let id = worker.connections.id(slot);
        let Some(connection) = worker.connections.get_mut(slot) else { continue };
        connection.is_dirty = false;
        if connection.session().is_some_and(|session| session.polling.is_some()) {
            polling::release(worker, slot);
            continue;
        }
        let Connection { socket: Some(socket), outbox, .. } = connection else { continue };
        match send_waiting(socket, outbox, &mut worker.drain.spares, &worker.counters) {
            Sent::All if matches!(connection.kind, Kind::Closing { .. }) => {
                close::half(connection);
            }
            Sent::All if connection.is_in_debt() => worker.m2.owed.push(id),
            Sent::All => {}
            Sent::Full => connection.is_blocked = true,
            Sent::Failed => close::now(worker, slot, Reason::Client),
        }
    }
}
