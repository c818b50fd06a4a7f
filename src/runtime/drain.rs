//! Closes the connections of a stopping node, evenly over a while. Only the transport is closed,
//! without a Socket.IO disconnect, so that stock clients reconnect. They do so at the pace at which
//! they were closed, so that the nodes that serve them next can keep up. Long-polling clients are
//! closed first and all at once: most of them make a connection for each poll, and the listener
//! stays open only until they have fetched their packets (`node/stop.rs`).

use std::collections::VecDeque;

use super::worker::{DrainProgress, Worker};
use crate::broker::index;
use crate::interface::next::{Close, Reason};
use crate::limits::{SHUTDOWN_POLLS_MS, SHUTDOWN_STEP_MS};
use crate::message::{ConnId, Millis};

/// The close code of a server that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Closes the connections that are due by now, and all of them once the time is over.
pub(super) fn step(worker: &mut Worker) {
    let Some(plan) = worker.shared.shutdown.get().copied() else { return };
    let now = worker.now.monotonic();
    let mut progress = worker.drain.take().unwrap_or_else(|| begin(worker));
    let kept = match plan.due(now, progress.all) {
        Some(due) => progress.all - due,
        None => {
            // The list is made anew, so that connections that arrived meanwhile are in it.
            progress.waiting = worker.connections.ids().collect();
            0
        }
    };
    take_out(worker, &mut progress, kept);
    let is_late = now >= plan.began + SHUTDOWN_POLLS_MS;
    for _ in 0..progress.leaving.len() {
        let Some(id) = progress.leaving.pop_front() else { break };
        if !let_go(worker, id, is_late) {
            progress.leaving.push_back(id);
        }
    }
    worker.drain = Some(progress);
}

/// Lists the connections to be closed. Those on long-polling come first and do not count in `all`,
/// so that they are due at once.
fn begin(worker: &mut Worker) -> DrainProgress {
    let ids: Vec<ConnId> = worker.connections.ids().collect();
    let (polling, others): (Vec<ConnId>, Vec<ConnId>) = ids.into_iter().partition(|id| {
        let connection = worker.connections.by_id(*id);
        connection.is_some_and(|connection| connection.link.socket.is_none())
    });
    let all = others.len() as u64;
    let waiting = polling.into_iter().chain(others).collect();
    DrainProgress { all, waiting, leaving: VecDeque::new() }
}

/// Returns when the next step is due, in milliseconds since the node started; `None` if the node is
/// not stopping.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    worker.shared.shutdown.get().map(|_| worker.now.monotonic() + SHUTDOWN_STEP_MS)
}

/// Makes connections leave their channels until `kept` are left, or until a mailbox has no room.
fn take_out(worker: &mut Worker, progress: &mut DrainProgress, kept: u64) {
    while progress.waiting.len() as u64 > kept {
        let Some(id) = progress.waiting.pop_front() else { return };
        let Some(connection) = worker.connections.by_id(id) else { continue };
        if connection.is_closing() {
            continue;
        }
        if !std::mem::replace(&mut connection.link.is_leaving, true) {
            progress.leaving.push_back(id);
        }
        let has_left = worker.on(id.slot, |session, ctx, _| {
            session.subscriber(ctx.id).is_none_or(|subscriber| ctx.leave_in_order(&subscriber))
        });
        if has_left == Some(false) {
            return progress.waiting.push_front(id);
        }
    }
}

/// Closes a connection once it has left all its channels and its session may end. If `is_late`, the
/// session is not asked. Returns false if the connection must be looked at again.
fn let_go(worker: &mut Worker, id: ConnId, is_late: bool) -> bool {
    let Some(connection) = worker.connections.by_id(id) else { return true };
    if connection.link.subscriptions != index::NONE {
        return false;
    }
    let has_output = !connection.link.outbox.is_empty();
    let Some(session) = connection.session() else { return true };
    if !is_late && !session.may_end(has_output) {
        return false;
    }
    worker.close(id.slot, Close { code: Some(GOING_AWAY), text: "", reason: Reason::Drain });
    true
}
