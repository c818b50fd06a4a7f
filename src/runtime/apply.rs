//! What an event asked of the runtime, carried out, and the bytes of a connection, taken apart.

use super::connection::Connection;
use super::worker::{Begun, Worker};
use super::{migrate, upgrade};
use crate::interface::next::{Next, Reason};

/// Takes the bytes that came for a connection apart, until they are used up or the connection is
/// gone. Returns the slot that goes on with its socket, if any.
pub(super) fn receive(worker: &mut Worker, mut slot: u32, bytes: &mut [u8]) -> Option<u32> {
    let mut at = 0;
    loop {
        let next =
            worker.on(slot, |session, ctx, decoder| session.on_bytes(ctx, decoder, bytes, &mut at));
        match next {
            Some(Next::Stay) => return Some(slot),
            Some(next) => slot = apply(worker, slot, next, &bytes[at..])?,
            // The bytes of a connection that is being closed are discarded.
            None => return worker.connections.get_mut(slot).map(|_| slot),
        }
    }
}

/// Goes on with a connection that has begun here. Returns the slot that goes on, if any.
pub(super) fn begin(worker: &mut Worker, begun: Begun) -> Option<u32> {
    let Begun { slot, next, mut leftover } = begun;
    let slot = apply(worker, slot, next, &[])?;
    receive(worker, slot, &mut leftover)
}

/// Tells a session the time.
pub(super) fn deadline(worker: &mut Worker, slot: u32) {
    if let Some(next) = worker.on(slot, |session, ctx, _| session.on_deadline(ctx)) {
        apply(worker, slot, next, &[]);
    }
}

/// Carries out what an event asked of the runtime. `rest` is what came behind the message that
/// asked. Returns the slot that goes on, if any.
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
