//! The end of a node that is told to stop: connections are closed evenly over a while, the way
//! that makes stock clients come back (contract section 7.6: the transport ends, no `41` is said).
//! They come back at the pace at which they were let go, so whoever serves them next can keep up.

use std::collections::VecDeque;

use super::Worker;
use super::close::{self, Reason};
use super::conn::Kind;
use crate::limits::SHUTDOWN_STEP_MS;
use crate::message::{ConnId, Millis};

/// Close code of a server that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Who is still to be let go.
#[derive(Debug)]
pub(super) struct Farewell {
    all: u64,
    waiting: VecDeque<ConnId>,
}

/// Lets go whoever is due by now; once the time is over, everybody.
pub(super) fn step(worker: &mut Worker) {
    let Some(plan) = worker.hub.shutdown.get() else { return };
    let mut farewell = worker.farewell.take().unwrap_or_else(|| {
        let waiting: VecDeque<ConnId> = worker.connections.ids().collect();
        Farewell { all: waiting.len() as u64, waiting }
    });
    match plan.due(worker.now, farewell.all) {
        Some(due) => {
            let kept = farewell.all - due;
            // Everybody is looked at once in a step, at most: who is not ready stands last again.
            for _ in 0..farewell.waiting.len() {
                if farewell.waiting.len() as u64 <= kept {
                    break;
                }
                let Some(id) = farewell.waiting.pop_front() else { break };
                if is_owed_a_poll(worker, id) {
                    farewell.waiting.push_back(id);
                    continue;
                }
                let_go(worker, id);
            }
        }
        None => {
            // Those that came meanwhile are among them.
            farewell.waiting.clear();
            let ids: Vec<ConnId> = worker.connections.ids().collect();
            for id in ids {
                let_go(worker, id);
            }
        }
    }
    worker.farewell = Some(farewell);
}

/// When the next step is due.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    worker.hub.shutdown.get().map(|_| worker.now + SHUTDOWN_STEP_MS)
}

/// Whether a long-polling client has yet to fetch what waits for it.
fn is_owed_a_poll(worker: &mut Worker, id: ConnId) -> bool {
    let Some(connection) = worker.connections.by_id(id) else { return false };
    let is_owed = !connection.outbox.is_empty();
    is_owed && connection.session().is_some_and(|session| session.polling.is_some())
}

fn let_go(worker: &mut Worker, id: ConnId) {
    match worker.connections.by_id(id).map(|connection| &connection.kind) {
        Some(Kind::Session(_) | Kind::Probe { .. } | Kind::Echo) => {
            close::gracefully(worker, id.slot, Some(GOING_AWAY), Reason::Drain);
        }
        Some(Kind::Closing { .. }) | None => {}
    }
}
