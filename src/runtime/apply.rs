//! Hands the bytes of a connection to its session, and carries out what events ask of the runtime.

use super::connection::Connection;
use super::worker::{Begun, Worker};
use super::{migrate, upgrade};
use crate::interface::next::{Next, Reason};

/// Hands received bytes to the connection's session until they are used up or the connection has
/// ended. Returns the slot that now owns the socket; `None` if the connection has ended.
pub(super) fn receive(worker: &mut Worker, mut slot: u32, bytes: &mut [u8]) -> Option<u32> {
    let mut at = 0;
    loop {
        let next =
            worker.on(slot, |session, ctx, decoder| session.on_bytes(ctx, decoder, bytes, &mut at));
        match next {
            Some(Next::Stay) => return Some(slot),
            Some(next) => slot = apply(worker, slot, next, &bytes[at..])?,
            // If the connection is being closed, its bytes are discarded.
            None => return worker.connections.get_mut(slot).map(|_| slot),
        }
    }
}

/// Carries out what a new connection's session asks for first, then handles the bytes that came
/// with it. Returns the slot that now owns the socket; `None` if the connection has ended.
pub(super) fn begin(worker: &mut Worker, begun: Begun) -> Option<u32> {
    let Begun { slot, next, mut leftover } = begun;
    let slot = apply(worker, slot, next, &[])?;
    receive(worker, slot, &mut leftover)
}

/// Calls a session's `on_deadline` and carries out what it asks for.
pub(super) fn deadline(worker: &mut Worker, slot: u32) {
    if let Some(next) = worker.on(slot, |session, ctx, _| session.on_deadline(ctx)) {
        apply(worker, slot, next, &[]);
    }
}

/// Carries out what an event asked of the runtime. `rest` are the bytes after the message that
/// caused the event. Returns the slot that now owns the socket; `None` if the connection has ended
/// or moved.
pub(super) fn apply(worker: &mut Worker, slot: u32, next: Next, rest: &[u8]) -> Option<u32> {
    match next {
        Next::Stay => {}
        Next::Close(close) => worker.close(slot, close),
        Next::Renew => worker.connections.renew(slot),
        Next::Migrate { to, auth } => {
            let next = migrate::depart(worker, slot, (to, &auth), rest)?;
            return apply(worker, slot, next, rest);
        }
        Next::Offer { session, step } => return upgrade::offer(worker, slot, &session, step),
        Next::Displace { old, resuming } => {
            let held = worker.connections.by_id(old).and_then(Connection::session);
            let is_theirs = held.is_some_and(|one| one.holds(&resuming.credential));
            if is_theirs {
                worker.remove(old.slot, Reason::Client);
            }
            let next =
                worker.on(slot, |session, ctx, _| session.on_displaced(ctx, &resuming, is_theirs));
            return apply(worker, slot, next?, rest);
        }
    }
    worker.connections.get_mut(slot).map(|_| slot)
}
