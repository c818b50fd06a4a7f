//! Closes the connections of a stopping node, evenly over a while. Only the transport is closed,
//! without a Socket.IO disconnect, so that stock clients reconnect. They do so at the pace at which
//! they were closed, so that the nodes that serve them next can keep up. Long-polling clients are
//! closed first and all at once: most of them make a connection for each poll, and the listener
//! stays open only until they have fetched their packets (`node/stop.rs`).

use std::collections::VecDeque;

use super::connection::{Connection, Connections, State};
use super::worker::{DrainProgress, Leaving, Untold, Worker};
use crate::broker::index;
use crate::interface::Shared;
use crate::interface::context::Local;
use crate::interface::next::{Close, Reason};
use crate::interface::resuming::is_away_handed_over;
use crate::limits::{SHUTDOWN_POLLS_MS, SHUTDOWN_SESSIONS_MS, SHUTDOWN_STEP_MS};
use crate::message::{ConnId, Millis, Now};

/// How connections are closed: with the code of a server that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: Close = Close { code: Some(1001), text: "", reason: Reason::Drain };

/// Makes the connections that are due by now leave their channels, or all connections once the time
/// is over. Closes each that has left all its channels and whose session may end.
pub(super) fn step(worker: &mut Worker) {
    let Some(plan) = worker.shared.shutdown.get().copied() else { return };
    let now = worker.now.monotonic();
    let mut progress = worker.drain.take().unwrap_or_else(|| begin(&mut worker.connections));
    let kept = match plan.due(now, progress.all) {
        Some(due) => progress.all - due,
        None => {
            // The list is made anew, so that connections that arrived meanwhile are in it.
            progress.waiting = worker.connections.ids().collect();
            0
        }
    };
    let around = (&mut worker.local, &worker.shared.interfaces, worker.now);
    take_out(&mut worker.connections, around, &mut progress, kept);
    let is_late = now >= plan.began + SHUTDOWN_POLLS_MS;
    for _ in 0..progress.leaving.len() {
        let Some(leaving) = progress.leaving.pop_front() else { break };
        match may_close(worker, leaving, is_late) {
            Some(true) => worker.close(leaving.id.slot, GOING_AWAY),
            Some(false) => progress.leaving.push_back(leaving),
            None => {}
        }
    }
    tell_of_detached(worker, &mut progress);
    worker.drain = Some(progress);
}

/// Returns whether a connection that leaves its channels may be closed; `None` if it has ended.
fn may_close(worker: &mut Worker, leaving: Leaving, is_late: bool) -> Option<bool> {
    let connection = worker.connections.by_id(leaving.id);
    let Some(Connection { link, state: State::Open(session), .. }) = connection else {
        return None;
    };
    // After a while, sessions on long-polling are no longer asked.
    let has_left = link.subscriptions == index::NONE;
    if !has_left || !is_late && !session.may_end(!link.is_drained()) {
        return Some(false);
    }
    // A session of a cluster can be resumed at another node once that knows of it.
    let slot = leaving.id.slot;
    let is_handed_over = worker.on(slot, |session, ctx, _| session.is_handed_over(ctx))?;
    Some(is_handed_over || worker.now.monotonic() >= leaving.until)
}

/// Tells the other nodes of a cluster what sessions without a connection are, once no connection is
/// left that could become one. The node waits for that.
fn tell_of_detached(worker: &mut Worker, progress: &mut DrainProgress) {
    if !progress.waiting.is_empty() || !progress.leaving.is_empty() {
        return;
    }
    let now = worker.now.monotonic();
    if let Untold::Unknown = progress.untold {
        let detached = worker.local.detached.as_ref();
        let untold = detached.map(|detached| detached.untold()).unwrap_or_default();
        progress.untold = Untold::These(untold, now + SHUTDOWN_SESSIONS_MS);
    }
    let Untold::These(untold, until) = &mut progress.untold else { return };
    let (local, shared) = (&mut worker.local, &worker.shared);
    untold.retain(|key| !is_away_handed_over(local, &shared.interfaces, key, now));
    if untold.is_empty() || now >= *until {
        progress.untold = Untold::Over;
        shared.untold.note();
    }
}

/// Lists the connections to be closed. Those on long-polling come first and do not count in `all`,
/// so that they are due at once.
fn begin(connections: &mut Connections) -> DrainProgress {
    let ids: Vec<ConnId> = connections.ids().collect();
    let (polling, others): (Vec<ConnId>, Vec<ConnId>) = ids.into_iter().partition(|id| {
        let connection = connections.by_id(*id);
        connection.is_some_and(|connection| connection.link.socket.is_none())
    });
    let all = others.len() as u64;
    let waiting = polling.into_iter().chain(others).collect();
    DrainProgress { all, waiting, leaving: VecDeque::new(), untold: Untold::Unknown }
}

/// Returns when the next step is due, in milliseconds since the node started; `None` if the node is
/// not stopping.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    worker.shared.shutdown.get().map(|_| worker.now.monotonic() + SHUTDOWN_STEP_MS)
}

/// Makes connections leave their channels until `kept` are left, or until a mailbox has no room.
fn take_out(
    connections: &mut Connections,
    (local, shared, now): (&mut Local, &Shared, Now),
    progress: &mut DrainProgress,
    kept: u64,
) {
    while progress.waiting.len() as u64 > kept {
        let Some(id) = progress.waiting.pop_front() else { return };
        let Some(Connection { link, state: State::Open(session), .. }) = connections.by_id(id)
        else {
            continue;
        };
        if link.begin_leaving() {
            let until = now.monotonic() + SHUTDOWN_SESSIONS_MS;
            progress.leaving.push_back(Leaving { id, until });
        }
        let Some(subscriber) = session.subscriber(id) else { continue };
        let is_settled = local.index.unsettled(link.subscriptions).next().is_none();
        if is_settled && link.goes_on_elsewhere() {
            // All channels at once: if one ended before another, the client could still receive an
            // event of that one. It would then resume behind what it missed of the first.
            local.subscriptions(shared, now).leave_all(link, &subscriber, 0);
            continue;
        }
        if !local.subscriptions(shared, now).leave_in_order(link, &subscriber) {
            return progress.waiting.push_front(id);
        }
    }
}
