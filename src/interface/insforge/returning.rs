//! Resuming a session that another node had.
//!
//! The session is taken over first, so that no other node can resume it. Then the client joins its
//! channels again, each with what the cluster's stream has of it since the client's mark. What
//! comes meanwhile is in the worker's log. When all channels are joined, [`Mail::Recover`] follows,
//! and the client receives both in the order of the stream.

use std::collections::HashMap;
use std::sync::Arc;

use super::client::Client;
use super::detached::Resuming;
use super::recovered::{bytes, fits, join_again, welcome_back};
use super::sharing;
use crate::broker::link::{Recovering, ResumeState, Returning};
use crate::broker::resume_log::Sent;
use crate::broker::sharing::{Missed, Sharing, missed};
use crate::interface::context::Context;
use crate::interface::shared::Shared;
use crate::mailbox::{Mail, Slot};
use crate::message::{
    Activation, Mark, NotTaken, Offset, Publication, RecoveryKey, ReplayWish, SessionWish,
    SharedSession, TakenSession, WorkerId,
};

/// Asks for the session that a client wants to resume.
///
/// # Errors
/// If the cluster's queue is full, for the log.
pub(super) fn ask(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
) -> Result<(), &'static str> {
    let up_to = match resuming.resume.offset {
        Some(Mark::Place(place) | Mark::Replays(place, _)) => place.seq(),
        Some(Mark::Id(_)) | None => 0,
    };
    let credential = resuming.credential.clone();
    let wish = SessionWish::Take { connection: ctx.id, credential, up_to };
    let (mailboxes, worker) = (&ctx.shared.broker.mailboxes, ctx.local.worker);
    let asked = mailboxes.ask_session(worker, resuming.resume.id.key, wish);
    asked.map_err(|_| "too many sessions are asked for")?;
    client.credential = Some(resuming.credential.clone());
    client.unfinished.keep_resuming(resuming.clone());
    Ok(())
}

/// Returns why a session was not taken over, for the log.
pub(super) fn why(not: NotTaken) -> &'static str {
    match not {
        NotTaken::Unknown => "no node knows its session",
        NotTaken::Ended => "its session has ended, or is written as another version does",
        NotTaken::Changing => "another node is changing its session, or has ended meanwhile",
        NotTaken::Foreign => "its session belongs to another client",
        NotTaken::Unavailable => "the cluster cannot be asked for its session",
    }
}

/// Shares a session again that was taken over for a connection that has ended.
pub(super) fn give_back(ctx: &mut Context<'_>, key: RecoveryKey, returning: Returning) {
    if let Some(detached) = &mut ctx.local.detached {
        detached.forget(&key);
    }
    give_back_to(ctx.shared, ctx.local.worker, key, (returning.session, returning.taken));
}

/// Shares a session again, whose word that it is taken over has this place.
pub fn give_back_to(
    shared: &Shared,
    worker: WorkerId,
    key: RecoveryKey,
    (session, taken): (SharedSession, Offset),
) {
    let wish = SessionWish::Share(Some(Box::new(session)), taken);
    // If there is no room, the client is not recovered.
    let _ = shared.broker.mailboxes.ask_session(worker, key, wish);
}

/// Joins the channels of a session again that was taken over. [`finish`] answers the client's
/// CONNECT.
///
/// # Errors
/// Why the session cannot be resumed, for the log.
pub(super) fn come_back(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    TakenSession { session, now, .. }: TakenSession,
) -> Result<(), &'static str> {
    let Missed { epoch, behind } = missed(&session, resuming.resume.offset)?;
    let policies = ctx.shared.broker.policies.load_full();
    if session.policies.is_some_and(|fingerprint| fingerprint != policies.fingerprint()) {
        return Err("policies have changed since");
    }
    let mailbox = ctx.shared.broker.mailboxes.workers.of(ctx.local.worker);
    let place = mailbox.reserve(Slot::Control).ok_or("the worker's mailbox is full")?;
    let (Some(detached), key) = (&mut ctx.local.detached, resuming.resume.id.key) else {
        return Err("recovery is off");
    };
    detached.stays(key, ctx.id);
    place.promise();
    client.socket_key = session.socket_key;
    client.credential = Some(resuming.credential.clone());
    let sharing = Some(Box::new(Sharing::of(resuming.resume.id, &session, now)));
    let sent = Sent { connected: detached.log.end(), replayed: None, last: None };
    let policies = session.policies.map(|_| policies.version());
    let channels = session.channels.clone();
    let returning = Returning {
        session,
        offset: resuming.resume.offset,
        taken: now,
        epoch,
        awaited: 1,
        is_whole: true,
        missed: Vec::new(),
        joined: HashMap::new(),
    };
    let resuming = Some(Recovering::Stream(Box::new(returning)));
    ctx.link.set_resume(ResumeState { key, sent, policies, resuming, sharing });
    for (one, behind) in channels.iter().zip(behind) {
        let replay = ReplayWish { behind: Some(behind), ..ReplayWish::default() };
        let is_joining = join_again(client, ctx, (&one.channel, one.encoding), replay);
        if let Some(returning) = returning_of(ctx) {
            returning.awaited += usize::from(is_joining);
            returning.is_whole &= is_joining;
        }
    }
    settle(ctx, true);
    Ok(())
}

fn returning_of<'c>(ctx: &'c mut Context<'_>) -> Option<&'c mut Returning> {
    match &mut ctx.link.resume_mut()?.resuming {
        Some(Recovering::Stream(returning)) => Some(returning),
        Some(Recovering::Log(_)) | None => None,
    }
}

/// Takes the beginning of a subscription that the client had at another node.
pub(super) fn joined(ctx: &mut Context<'_>, activation: Activation) {
    let position = ctx.local.detached.as_ref().map_or(0, |detached| detached.log.end());
    let Some(returning) = returning_of(ctx) else { return };
    let epoch = activation.place.map(|place| place.epoch());
    let is_whole = activation.replay.is_whole && epoch == Some(returning.epoch);
    returning.missed.extend(activation.replay.publications);
    returning.joined.insert(activation.channel, position);
    settle(ctx, is_whole);
}

/// Takes the refusal of a join that the session waits for. Returns false if it waits for none.
pub(super) fn refused(ctx: &mut Context<'_>) -> bool {
    if returning_of(ctx).is_none() {
        return false;
    }
    settle(ctx, false);
    true
}

/// Notes that one thing less is awaited. With the last one the mail that completes the resuming is
/// posted into the place that was promised to it.
fn settle(ctx: &mut Context<'_>, is_whole: bool) {
    let Some(returning) = returning_of(ctx) else { return };
    returning.awaited -= 1;
    returning.is_whole &= is_whole;
    if returning.awaited == 0 {
        let (mailboxes, worker) = (&ctx.shared.broker.mailboxes, ctx.local.worker);
        mailboxes.workers.of(worker).answer(Mail::Recover(ctx.id));
    }
}

/// Answers the client's CONNECT, and sends what it has missed. Returns false if something of that
/// may be missing, or it is too much.
pub(super) fn finish(client: &mut Client, ctx: &mut Context<'_>, returning: Returning) -> bool {
    let Some(detached) = &ctx.local.detached else { return false };
    let Returning { is_whole, missed, joined, .. } = returning;
    let live = detached.log.heard_since(&joined).filter(|_| is_whole);
    let Some(live) = live else { return false };
    let missed = in_order(missed, live);
    if !fits(missed.iter().map(bytes)) {
        return false;
    }
    let end = detached.log.end();
    if let Some(state) = ctx.link.resume_mut() {
        let last = missed.last().map(|last| (end, last.mark()));
        state.sent = Sent { connected: end, replayed: last, last };
    }
    welcome_back(client, ctx, &missed);
    sharing::share(client.who(), ctx, false);
    true
}

/// Returns all publications in the order of the stream.
fn in_order(
    mut missed: Vec<Arc<Publication>>,
    live: Vec<Arc<Publication>>,
) -> Vec<Arc<Publication>> {
    missed.extend(live);
    missed.sort_by_key(|one| one.place);
    missed.dedup_by_key(|one| one.place);
    missed
}
