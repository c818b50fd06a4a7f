//! What a channel kept, for its new subscribers; and the sweeping out of what is kept no longer.

use std::sync::Arc;

use super::frame::Frame;
use super::{Worker, recovery};
use crate::engine::outbox::Outgoing;
use crate::limits::{FORGE_REPLAY_BYTES_MAX, SWEEP_MS};
use crate::message::{AckId, Channel, ConnId, Group, Millis, Publication, WorkerId};

/// The worker that sweeps: one is enough.
const SWEEPER: WorkerId = WorkerId(0);

/// Where the sweeping is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    due: Millis,
    step: usize,
}

/// In which frames a channel is replayed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// Those of a group, as they were live.
    Shared(Group),
    /// In frames of its own, that name the request.
    Named(AckId),
}

/// Puts what a channel kept into the outbox of a new subscriber, behind its acknowledgement and
/// before all that is live. Answers how many bytes that was.
///
/// A replay fills no more than half of an outbox: what comes next needs room as well. Where that
/// is too little the subscriber gets the newest, and is told of the others first.
pub(super) fn replay(
    worker: &mut Worker,
    id: ConnId,
    (channel, framing): (&Channel, Framing),
    publications: &[Arc<Publication>],
) -> usize {
    let Some(connection) = worker.connections.by_id(id) else { return 0 };
    let (mut frames_left, mut bytes_left) = connection.outbox.free_half();
    if let Framing::Named(_) = framing {
        let waiting = connection.outbox.bytes();
        bytes_left = bytes_left.min(FORGE_REPLAY_BYTES_MAX.saturating_sub(waiting));
    }
    let mut frames = Vec::with_capacity(publications.len());
    for publication in publications.iter().rev() {
        let frame = match framing {
            Framing::Shared(group) => Frame::of(publication, group),
            Framing::Named(request) => Frame::replayed(publication, request),
        };
        let length = frame.as_ref().len();
        if frames_left == 0 || bytes_left < length {
            break;
        }
        (frames_left, bytes_left) = (frames_left - 1, bytes_left - length);
        frames.push(frame);
    }
    let given = frames.len();
    let skipped = (publications.len() - given) as u64;
    if skipped > 0 && worker.drain.push(id.slot, connection, Frame::notice(channel, skipped)) {
        worker.counters.gaps.add(1);
    }
    let (mut bytes, mut dropped) = (0, 0);
    for frame in frames.into_iter().rev() {
        bytes += frame.as_ref().len();
        dropped += u64::from(!worker.drain.push(id.slot, connection, frame));
    }
    if let (Some(last), true) = (publications.last(), given > 0) {
        recovery::note_replay(worker, id, last);
    }
    let counters = &worker.counters;
    counters.matched.add(publications.len() as u64);
    counters.replayed.add(publications.len() as u64 - skipped - dropped);
    counters.dropped_replay.add(skipped);
    counters.dropped_slow_consumer.add(dropped);
    bytes
}

/// Sweeps, when it is time for that.
pub(super) fn sweep(worker: &mut Worker) {
    if next(worker).is_none_or(|due| due > worker.now) {
        return;
    }
    worker.hub.directory.sweep(worker.sweep.step, worker.now);
    worker.sweep.step += 1;
    worker.sweep.due = worker.now + SWEEP_MS;
}

/// When that is, at the worker that does it.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    (worker.id == SWEEPER).then_some(worker.sweep.due)
}
