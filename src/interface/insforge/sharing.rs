//! Sharing a session with the other nodes of a cluster, so that each of them can resume it.
//!
//! [`Sharing`] decides what the other nodes are told and when; here are the events of a session
//! that it depends on.

use std::sync::Arc;

use super::detached::Detached;
use crate::broker::link::ResumeState;
use crate::broker::sharing::{MayChange, Owner, Sharing};
use crate::interface::context::{Context, Local};
use crate::interface::member::SocketKey;
use crate::interface::shared::Shared;
use crate::limits::{SESSION_RETRY_MS, SESSION_SECONDS, SESSION_SETTLED_MS};
use crate::message::{
    Activation, Channel, Credential, Mark, Millis, NotShared, Offset, PrivateId, RecoveryKey,
    SessionWish, WorkerId,
};

/// A client: the key of its socket id, and its credential; `None` before it has one.
type Who<'a> = (SocketKey, Option<&'a Arc<Credential>>);

/// Time until a node says its last word on a session again, in milliseconds.
const AGAIN_MS: Millis = SESSION_SECONDS * 1_000 / 2;

/// What a worker needs to tell other nodes of its sessions, with a connection or without.
struct Teller<'a> {
    detached: &'a mut Detached,
    shared: &'a Shared,
    worker: WorkerId,
    now: Millis,
}

impl<'a> Teller<'a> {
    /// Returns the teller of a worker; `None` if recovery is off.
    fn of(local: &'a mut Local, shared: &'a Shared, now: Millis) -> Option<Self> {
        let (worker, detached) = (local.worker, local.detached.as_deref_mut()?);
        Some(Self { detached, shared, worker, now })
    }

    /// Has a session shared this much later, because something of it has changed.
    fn changed(&mut self, key: RecoveryKey, sharing: &mut Sharing, after: Millis) {
        sharing.changed();
        self.detached.note(key, sharing, self.now + after, false);
    }

    /// Asks the thread of the cluster. A refusal of its queue is an answer as well.
    fn ask(&self, key: RecoveryKey, sharing: &mut Sharing, wish: SessionWish) -> bool {
        let asked = self.shared.broker.mailboxes.ask_session(self.worker, key, wish);
        if asked.is_err() {
            sharing.answered(Err(NotShared::Full));
        }
        asked.is_ok()
    }

    /// Lets the other nodes know what a session is, if they do not know it. If a word is under way,
    /// or there is no room for another, that is tried again later.
    fn share(
        &mut self,
        key: RecoveryKey,
        sharing: &mut Sharing,
        (socket_key, credential): (SocketKey, &Arc<Credential>),
        policies: Option<u64>,
    ) {
        if !sharing.is_idle() {
            return self.changed(key, sharing, SESSION_SETTLED_MS);
        }
        let current = self.shared.broker.policies.load();
        let policies = match policies {
            None => Ok(None),
            Some(version) if version == current.version() => Ok(Some(current.fingerprint())),
            Some(_) => Err(()),
        };
        let place = self.detached.log.place();
        let owner = Owner { socket_key, credential, policies, place };
        if let Some(wish) = sharing.share(&owner)
            && !self.ask(key, sharing, wish)
        {
            self.changed(key, sharing, SESSION_RETRY_MS);
        }
    }

    /// Takes the answer to the last word on a session. Returns false if another node has taken the
    /// session over.
    fn answered(
        &mut self,
        key: RecoveryKey,
        sharing: &mut Sharing,
        answer: Result<Offset, NotShared>,
    ) -> bool {
        let is_ours = sharing.answered(answer);
        match answer {
            Ok(_) => self.detached.note(key, sharing, self.now + AGAIN_MS, true),
            Err(_) if is_ours && sharing.is_changed() => {
                self.changed(key, sharing, SESSION_RETRY_MS);
            }
            Err(_) => {}
        }
        is_ours
    }
}

/// Returns the teller of a connection's worker, and the state of the connection's session.
fn parts<'c>(ctx: &'c mut Context<'_>) -> Option<(Teller<'c>, &'c mut ResumeState)> {
    let Context { link, local, shared, now, .. } = ctx;
    Some((Teller::of(local, shared, now.monotonic())?, link.resume_mut()?))
}

/// Notes that a subscription begins.
pub(super) fn joined(ctx: &mut Context<'_>, activation: &Activation) {
    if !ctx.shared.shares_sessions() {
        return;
    }
    let start = ctx.shared.start;
    let Some((mut teller, state)) = parts(ctx) else { return };
    let id = PrivateId { worker: teller.worker, start, key: state.key };
    let sharing = state.sharing.get_or_insert_with(|| Box::new(Sharing::new(id, None)));
    sharing.joined(&activation.channel, activation.encoding, activation.place);
    teller.changed(state.key, sharing, SESSION_SETTLED_MS);
}

/// Notes that a subscription has ended. What a stopping node ends without being asked by the
/// client, another one goes on with.
pub(super) fn left(ctx: &mut Context<'_>, channel: &Channel, is_asked: bool) {
    if ctx.link.is_leaving() && !is_asked {
        return;
    }
    let sharing = ctx.link.resume_mut().and_then(|state| state.sharing.as_mut());
    if let Some(sharing) = sharing {
        sharing.left(channel);
        changed(ctx);
    }
}

/// Notes that a subscription is sent earlier publications. Returns what its client is to remember
/// with the last of them, if that differs from what other clients are told.
pub(super) fn replayed(ctx: &mut Context<'_>, activation: &Activation) -> Option<Mark> {
    let (teller, state) = parts(ctx)?;
    let place = teller.detached.log.place_with(activation.place?);
    state.sharing.as_mut()?.replayed(place)
}

/// Has the session shared in a moment, because something of it has changed.
pub(super) fn changed(ctx: &mut Context<'_>) {
    if let Some((mut teller, state)) = parts(ctx)
        && let Some(sharing) = &mut state.sharing
    {
        teller.changed(state.key, sharing, SESSION_SETTLED_MS);
    }
}

/// Returns whether a command that changes the subscriptions may be carried out without a word to
/// the other nodes.
pub(super) fn is_free(ctx: &Context<'_>) -> bool {
    let sharing = ctx.link.resume().and_then(|state| state.sharing.as_ref());
    sharing.is_none_or(|sharing| sharing.is_free())
}

/// Returns whether a command that changes the subscriptions may be carried out. If the other nodes
/// must know first, they are told, unless a word is under way.
pub(super) fn may_change(ctx: &mut Context<'_>) -> MayChange {
    let Some((mut teller, state)) = parts(ctx) else { return MayChange::Now };
    let Some(sharing) = &mut state.sharing else { return MayChange::Now };
    let may_change = sharing.may_change();
    if may_change != MayChange::Told {
        return may_change;
    }
    let wish = sharing.tell_change();
    teller.changed(state.key, sharing, SESSION_SETTLED_MS);
    match teller.ask(state.key, sharing, wish) {
        true => MayChange::Told,
        false => sharing.may_change(),
    }
}

/// Lets the other nodes know what the session is, unless its subscriptions are not settled: then
/// that is tried again in a moment. If `is_again`, they are told even if they know it.
pub(super) fn share((socket_key, credential): Who<'_>, ctx: &mut Context<'_>, is_again: bool) {
    let is_settled = ctx.local.index.unsettled(ctx.link.subscriptions).next().is_none();
    let Some((mut teller, state)) = parts(ctx) else { return };
    let Some(sharing) = &mut state.sharing else { return };
    sharing.is_due(is_again);
    let Some(credential) = credential.filter(|_| state.resuming.is_none()) else { return };
    match is_settled {
        true => teller.share(state.key, sharing, (socket_key, credential), state.policies),
        false => teller.changed(state.key, sharing, SESSION_SETTLED_MS),
    }
}

/// Lets the other nodes know what a session is whose connection has ended. If `is_again`, they are
/// told even if they know it.
pub fn share_away(
    local: &mut Local,
    shared: &Shared,
    (key, is_again): (RecoveryKey, bool),
    now: Millis,
) {
    let Some(mut teller) = Teller::of(local, shared, now) else { return };
    let Some(away) = teller.detached.away_mut(&key) else { return };
    let Some(mut sharing) = away.sharing.take() else { return };
    let (socket_key, credential, policies) =
        (away.socket_key, away.credential.clone(), away.policies);
    sharing.is_due(is_again);
    teller.share(key, &mut sharing, (socket_key, &credential), policies);
    if let Some(away) = teller.detached.away_mut(&key) {
        away.sharing = Some(sharing);
    }
}

/// Lets the other nodes know what the session is, because this node is about to end. Returns false
/// while something of that is to come.
pub(super) fn is_handed_over(who: Who<'_>, ctx: &mut Context<'_>) -> bool {
    let Some(state) = ctx.link.resume_mut() else { return true };
    if state.resuming.is_some() {
        return false;
    }
    if state.sharing.as_mut().is_some_and(|sharing| sharing.ends()) {
        share(who, ctx, false);
    }
    let sharing = ctx.link.resume().and_then(|state| state.sharing.as_ref());
    sharing.is_none_or(|sharing| sharing.is_said())
}

/// The same for a session whose connection has ended.
pub fn is_away_handed_over(
    local: &mut Local,
    shared: &Shared,
    key: &RecoveryKey,
    now: Millis,
) -> bool {
    let sharing = |local: &mut Local, question: fn(&mut Sharing) -> bool| {
        let away = local.detached.as_mut()?.away_mut(key)?;
        away.sharing.as_deref_mut().map(question)
    };
    if sharing(local, Sharing::ends) == Some(true) {
        share_away(local, shared, (*key, false), now);
    }
    sharing(local, |sharing| sharing.is_said()) != Some(false)
}

/// Takes the answer to the session's last word. Returns false if another node has taken the session
/// over: the connection must end, and the session is forgotten.
pub(super) fn answered(ctx: &mut Context<'_>, answer: Result<Offset, NotShared>) -> bool {
    let Some((mut teller, state)) = parts(ctx) else { return true };
    let Some(sharing) = &mut state.sharing else { return true };
    let is_ours = teller.answered(state.key, sharing, answer);
    if !is_ours {
        tracing::debug!("a connection ends, because its client has resumed at another node");
        // No word of this node may follow.
        state.sharing = None;
    }
    is_ours
}

/// Takes the answer to the last word on a session whose connection has ended. Discards the session
/// if another node has taken it over.
pub fn answered_away(
    local: &mut Local,
    shared: &Shared,
    (key, now): (&RecoveryKey, Millis),
    answer: Result<Offset, NotShared>,
) {
    let Some(mut teller) = Teller::of(local, shared, now) else { return };
    let sharing = teller.detached.away_mut(key).and_then(|away| away.sharing.take());
    let Some(mut sharing) = sharing else { return };
    if !teller.answered(*key, &mut sharing, answer) {
        discard(local, shared, key);
    } else if let Some(away) = teller.detached.away_mut(key) {
        away.sharing = Some(sharing);
    }
}

/// Discards detached sessions whose time is over, and lets the other nodes know.
pub fn expire(local: &mut Local, shared: &Shared, now: Millis) {
    let Local { detached: Some(detached), worker, .. } = local else { return };
    for (key, end) in detached.expire(now, &shared.broker.directory, *worker) {
        // If there is no room, NATS forgets the session later.
        let _ = shared.broker.mailboxes.ask_session(*worker, key, end);
    }
}

/// Discards a detached session that another node has.
pub(super) fn discard(local: &mut Local, shared: &Shared, key: &RecoveryKey) {
    let away = local.detached.as_mut().and_then(|detached| detached.returns(key));
    for (channel, _) in away.iter().flat_map(|away| &away.channels) {
        shared.broker.directory.back(channel, local.worker);
    }
}

/// Lets the other nodes know that a session has ended.
pub(super) fn end(ctx: &Context<'_>, state: &ResumeState) {
    let wish = state.sharing.as_ref().and_then(|sharing| sharing.end());
    if let Some(wish) = wish {
        // If there is no room, NATS forgets the session later.
        let _ = ctx.shared.broker.mailboxes.ask_session(ctx.local.worker, state.key, wish);
    }
}

/// Lets the other nodes know what the session is, because this node is about to end.
pub(super) fn hand_over(who: Who<'_>, ctx: &mut Context<'_>) {
    share(who, ctx, false);
    let Some(state) = ctx.link.take_resume() else { return };
    if let Some(detached) = &mut ctx.local.detached {
        detached.forget(&state.key);
    }
}
