//! The end of a node that is told to stop: connections are closed evenly over a while, the way
//! that makes stock clients come back (contract section 7.6: the transport ends, no `41` is said).
//! They come back at the pace at which they were let go, so whoever serves them next can keep up.
//! Long-polling clients go first, all at once: most make a connection for each poll, and the
//! listener is open no longer than it takes them to fetch what waits for them (`node/stop.rs`).

use std::collections::VecDeque;

use super::close::{self, Reason};
use super::conn::Kind;
use super::{Worker, command};
use crate::engine::index;
use crate::limits::{SHUTDOWN_POLLS_MS, SHUTDOWN_STEP_MS};
use crate::message::{ConnId, Millis};

/// Close code of a server that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Who is still to be let go.
#[derive(Debug)]
pub(super) struct Farewell {
    /// How many there were to be let go evenly when the node was told to stop.
    all: u64,
    /// Who is in its channels still.
    waiting: VecDeque<ConnId>,
    /// Who was taken out of them. What was published before that is in the mailbox, in front of
    /// the mail that ends its subscriptions: only then has it heard all that was counted for it.
    leaving: VecDeque<ConnId>,
}

/// Lets go whoever is due by now; once the time is over, everybody.
pub(super) fn step(worker: &mut Worker) {
    let Some(plan) = worker.hub.shutdown.get().copied() else { return };
    let mut farewell = worker.farewell.take().unwrap_or_else(|| begin(worker));
    let kept = match plan.due(worker.now, farewell.all) {
        Some(due) => farewell.all - due,
        None => {
            // Those that came meanwhile are among them.
            farewell.waiting = worker.connections.ids().collect();
            0
        }
    };
    take_out(worker, &mut farewell, kept);
    let is_late = worker.now >= plan.began + SHUTDOWN_POLLS_MS;
    for _ in 0..farewell.leaving.len() {
        let Some(id) = farewell.leaving.pop_front() else { break };
        if !let_go(worker, id, is_late) {
            farewell.leaving.push_back(id);
        }
    }
    worker.farewell = Some(farewell);
}

/// Whom there is to let go: those on long-polling stand first, and beyond the number that is kept.
fn begin(worker: &mut Worker) -> Farewell {
    let ids: Vec<ConnId> = worker.connections.ids().collect();
    let (polling, others): (Vec<ConnId>, Vec<ConnId>) = ids
        .into_iter()
        .partition(|id| worker.session(*id).is_some_and(|one| one.polling.is_some()));
    let all = others.len() as u64;
    Farewell { all, waiting: polling.into_iter().chain(others).collect(), leaving: VecDeque::new() }
}

/// When the next step is due.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    worker.hub.shutdown.get().map(|_| worker.now + SHUTDOWN_STEP_MS)
}

/// Takes connections out of their channels until so many are left, or a mailbox has no room.
fn take_out(worker: &mut Worker, farewell: &mut Farewell, kept: u64) {
    while farewell.waiting.len() as u64 > kept {
        let Some(id) = farewell.waiting.pop_front() else { return };
        let Some(connection) = worker.connections.by_id(id) else { continue };
        if matches!(connection.kind, Kind::Closing { .. }) {
            continue;
        }
        if !std::mem::replace(&mut connection.is_leaving, true) {
            farewell.leaving.push_back(id);
        }
        if !command::leave_in_order(worker, id) {
            return farewell.waiting.push_front(id);
        }
    }
}

/// Closes a connection that has heard all it was to hear. False where it has not yet.
fn let_go(worker: &mut Worker, id: ConnId, is_late: bool) -> bool {
    let Some(connection) = worker.connections.by_id(id) else { return true };
    if connection.subscriptions != index::NONE {
        return false;
    }
    // A long-polling client has yet to fetch what waits for it, or to come and be told.
    let has_fetched = connection.outbox.is_empty();
    if let Some(polling) = connection.session().and_then(|session| session.polling.as_ref())
        && !(has_fetched && polling.waiting.is_some() || is_late)
    {
        return false;
    }
    if !matches!(connection.kind, Kind::Closing { .. }) {
        close::gracefully(worker, id.slot, Some(GOING_AWAY), Reason::Drain);
    }
    true
}
