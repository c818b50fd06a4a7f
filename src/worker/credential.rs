//! Credentials of live connections: replaced by newer ones, and, where the node is told so, the end
//! of the connection.

use super::Worker;
use super::close::{self, Reason};
use super::command;
use crate::message::{AckId, ConnId, Credential, Millis, Refusal, Reply};

/// Puts a newer credential in the place of the one that a connection has. It must be the same
/// identity's; what it may do from now on is judged by the newer one.
pub(super) fn refresh(worker: &mut Worker, id: ConnId, auth: &str, ack: Option<AckId>) {
    let now_s = worker.hub.clock.wall() / 1_000;
    let newer = worker.auth.users.connect(auth, now_s);
    let Some(session) = worker.connections.by_id(id).and_then(|connection| connection.session())
    else {
        return;
    };
    let refusal = match (newer, &session.credential) {
        (Err(_), _) => Refusal::Unauthenticated,
        (Ok(newer), Some(older)) if is_same_identity(&newer, older) => {
            session.credential = Some(newer);
            worker.schedule(id.slot);
            return command::answer(worker, id, &Reply::Authenticated, ack);
        }
        (Ok(_), _) => Refusal::OtherIdentity,
    };
    command::refuse(worker, id, None, refusal, ack);
}

fn is_same_identity(one: &Credential, other: &Credential) -> bool {
    (&one.id, one.is_user) == (&other.id, other.is_user)
}

/// When a connection's token expires, where that matters: in the worker's own time.
pub(super) fn expires(worker: &mut Worker, slot: u32) -> Option<Millis> {
    if !worker.hub.config.auth.close_expired {
        return None;
    }
    let expires_s = worker.connections.get_mut(slot)?.token_expires_at()?;
    let left = expires_s.saturating_mul(1_000).saturating_sub(worker.hub.clock.wall());
    Some(worker.now.saturating_add(left))
}

/// Ends a connection whose token has expired. False where it has not.
pub(super) fn end_expired(worker: &mut Worker, id: ConnId) -> bool {
    let now = worker.now;
    if expires(worker, id.slot).is_none_or(|at| at > now) {
        return false;
    }
    command::refuse(worker, id, None, Refusal::Expired, None);
    close::gracefully(worker, id.slot, None, Reason::Expired);
    true
}
