//! Resuming sessions (Socket.IO calls this connection state recovery): a client whose connection
//! was cut gets back its subscriptions and the publications that it missed, or begins anew.
//!
//! A resuming client is counted in its channels again, and each channel posts an activation into
//! the worker's own mailbox. [`Mail::Recover`] is posted behind all of them. When the worker takes
//! it, the log holds all that the client missed, and none of that is in the client's outbox. From
//! then on the client's subscriptions are active again.

use std::collections::HashSet;
use std::sync::Arc;

use rand::RngExt as _;

use super::client::Client;
use super::detached::{Away, Found, Resuming};
use super::recovered::{bytes, fits, join_again, welcome_back};
use super::recovery::encode_id;
use super::{returning, sharing, socketio};
use crate::broker::link::{Gap, Recovering, ResumeState};
use crate::broker::resume_log::{Position, Sent};
use crate::broker::sharing::Sharing;
use crate::interface::context::{Context, Local};
use crate::interface::next::Reason;
use crate::mailbox::{Mail, Slot};
use crate::message::{
    ConnId, Encoding, Mark, NotTaken, Publication, RecoveryKey, ReplayWish, TakenSession,
};

const UNKNOWN: &str = "its session is not known";
const FOREIGN: &str = "its session belongs to another client";

/// The result of an attempt to resume a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resumed {
    /// The client is counted in its channels again; [`recover`] answers its CONNECT.
    Yes,
    /// The session cannot be resumed.
    No,
    /// The session still has this older connection, which must be closed first.
    Displaces(ConnId),
    /// The nodes of the cluster are asked for the session; [`taken`] goes on.
    Asked,
}

/// Tells a client that it has entered with a new session. If recovery is on, the session can be
/// resumed later. `before` is what the client remembers of an earlier one.
pub(super) fn welcome(client: &mut Client, ctx: &mut Context<'_>, before: Option<Mark>) {
    let private_id = begin(ctx, before);
    client.has_entered = true;
    let socket_id = client.socket_id();
    let text = match private_id {
        Some(private_id) => socketio::connected_for_good(&socket_id, &private_id),
        None => socketio::connected("/", &socket_id),
    };
    ctx.send_text(&text);
}

/// Begins a session that can be resumed. Returns the id by which the client can ask to resume it;
/// `None` if recovery is off.
fn begin(ctx: &mut Context<'_>, before: Option<Mark>) -> Option<String> {
    let are_shared = ctx.shared.shares_sessions();
    let Local { worker, detached, random, .. } = &mut *ctx.local;
    let (detached, worker) = (detached.as_mut()?, *worker);
    let mut state = detached.begin(random.random(), ctx.id);
    let id = detached.private_id(&state, worker);
    if before.is_some() && are_shared {
        state.sharing = Some(Box::new(Sharing::new(id, before)));
    }
    ctx.link.set_resume(state);
    Some(encode_id(&id))
}

/// Resumes the session that the client named, unless it still has a connection.
pub(super) fn resume(client: &mut Client, ctx: &mut Context<'_>, resuming: &Resuming) -> Resumed {
    match find(ctx, resuming) {
        Ok(Found::Here(old)) => Resumed::Displaces(old),
        found => ask_or_go_on(client, ctx, resuming, found),
    }
}

/// Resumes a session, or asks the nodes of the cluster for it, if another one may have it.
fn ask_or_go_on(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    found: Result<Found, &'static str>,
) -> Resumed {
    let resumed = match found {
        Ok(found) if must_ask(ctx, &found, resuming) => {
            match returning::ask(client, ctx, resuming) {
                Ok(()) => return Resumed::Asked,
                Err(why) => Err(why),
            }
        }
        Ok(found) => go_on(client, ctx, resuming, &found),
        Err(why) => Err(why),
    };
    settle(ctx, resumed)
}

/// Returns whether the nodes of the cluster must be asked for a session: because another one may
/// have it, or because its own worker does not know what it missed, which the stream may.
fn must_ask(ctx: &mut Context<'_>, found: &Found, resuming: &Resuming) -> bool {
    if !ctx.shared.shares_sessions() {
        return false;
    }
    match found {
        Found::Nothing => true,
        Found::Theirs => {
            let has_log = log_has(ctx, resuming);
            sharing_of(ctx, &resuming.resume.id.key)
                .is_some_and(|sharing| sharing.may_be_elsewhere() || !has_log)
        }
        Found::Foreign | Found::Here(_) => false,
    }
}

fn sharing_of<'c>(ctx: &'c mut Context<'_>, key: &RecoveryKey) -> Option<&'c mut Sharing> {
    ctx.local.detached.as_mut()?.away_mut(key)?.sharing.as_deref_mut()
}

/// Returns whether the worker's log has what the client of a detached session has missed.
fn log_has(ctx: &mut Context<'_>, resuming: &Resuming) -> bool {
    let Some(detached) = &mut ctx.local.detached else { return false };
    let away = detached.away_mut(&resuming.resume.id.key);
    let Some((sent, dropped)) = away.map(|away| (away.sent, away.dropped)) else { return false };
    detached.log.resume_from(&sent, dropped, resuming.resume.offset).is_some()
}

/// Goes on with the session that the nodes of the cluster were asked for.
pub(super) fn taken(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    taken: Result<TakenSession, NotTaken>,
) -> Resumed {
    let key = &resuming.resume.id.key;
    let resumed = match taken {
        Ok(taken) => {
            let has_log = log_has(ctx, resuming);
            let sharing = sharing_of(ctx, key);
            let is_same = sharing.is_some_and(|one| one.taken(taken.before, taken.now));
            let is_ours = is_same && has_log;
            if is_ours && go_on(client, ctx, resuming, &Found::Theirs).is_ok() {
                Ok(())
            } else {
                sharing::discard(ctx.local, ctx.shared, key);
                returning::come_back(client, ctx, resuming, taken)
            }
        }
        Err(not) => Err(returning::why(not)),
    };
    settle(ctx, resumed)
}

/// Resumes a session that still had a connection. If `is_theirs`, that connection belonged to the
/// same client and was closed just now; otherwise the session cannot be resumed.
pub(super) fn resume_displaced(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    is_theirs: bool,
) -> Resumed {
    let found = if is_theirs { find(ctx, resuming) } else { Err(FOREIGN) };
    ask_or_go_on(client, ctx, resuming, found)
}

fn settle(ctx: &Context<'_>, resumed: Result<(), &'static str>) -> Resumed {
    match resumed {
        Ok(()) => Resumed::Yes,
        Err(why) => {
            ctx.local.counters.not_recovered.add(1);
            tracing::debug!(why, "a client is not recovered");
            Resumed::No
        }
    }
}

fn find(ctx: &Context<'_>, resuming: &Resuming) -> Result<Found, &'static str> {
    let id = &resuming.resume.id;
    let detached = ctx.local.detached.as_ref().ok_or(UNKNOWN)?;
    if !ctx.shared.shares_sessions() && !detached.is_from_here(id, ctx.local.worker) {
        return Err("its session is from another node or an earlier start");
    }
    Ok(detached.find(&id.key, &resuming.credential))
}

fn go_on(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    found: &Found,
) -> Result<(), &'static str> {
    match found {
        Found::Theirs => {}
        Found::Foreign => return Err(FOREIGN),
        Found::Nothing | Found::Here(_) => return Err(UNKNOWN),
    }
    let detached = ctx.local.detached.as_mut().ok_or(UNKNOWN)?;
    let mut away = detached.returns(&resuming.resume.id.key).ok_or(UNKNOWN)?;
    let sharing = away.sharing.take();
    let joined = rejoin(client, ctx, resuming, (&away, sharing));
    for (channel, _) in &away.channels {
        ctx.shared.broker.directory.back(channel, ctx.local.worker);
    }
    joined
}

/// Counts the client in all channels of its session again, or in none of them.
///
/// # Errors
/// The reason why the session cannot be resumed, for the log.
fn rejoin(
    client: &mut Client,
    ctx: &mut Context<'_>,
    resuming: &Resuming,
    (away, sharing): (&Away, Option<Box<Sharing>>),
) -> Result<(), &'static str> {
    let from = missed_from(ctx, resuming, away)?;
    let mailbox = ctx.shared.broker.mailboxes.workers.of(ctx.local.worker);
    let place = mailbox.reserve(Slot::Control).ok_or("the worker's mailbox is full")?;
    let own_key = std::mem::replace(&mut client.socket_key, away.socket_key);
    client.credential = Some(resuming.credential.clone());
    let mut channels = away.channels.iter();
    let replay = ReplayWish::default();
    if !channels.all(|(channel, encoding)| join_again(client, ctx, (channel, *encoding), replay)) {
        client.leave_all(ctx);
        client.socket_key = own_key;
        return Err("a worker's mailbox is full");
    }
    let key = resuming.resume.id.key;
    let resuming = Some(Recovering::Log(Gap { from, dropped: away.dropped }));
    let (sent, policies) = (away.sent, away.policies);
    ctx.link.set_resume(ResumeState { key, sent, policies, resuming, sharing });
    if let Some(detached) = &mut ctx.local.detached {
        detached.stays(key, ctx.id);
    }
    place.post(Mail::Recover(ctx.id));
    Ok(())
}

/// Returns the first position of the log that the client may have missed.
///
/// # Errors
/// If that position is unknown or has left the log, if policies have changed, or if a channel of
/// the session is no longer governed by a definition.
fn missed_from(
    ctx: &Context<'_>,
    resuming: &Resuming,
    away: &Away,
) -> Result<Position, &'static str> {
    let detached = ctx.local.detached.as_ref().ok_or(UNKNOWN)?;
    let from = detached.log.resume_from(&away.sent, away.dropped, resuming.resume.offset);
    let from = from.ok_or("what it missed is not known, or is no longer in the log")?;
    let policies = ctx.shared.broker.policies.load().version();
    if away.policies.is_some_and(|version| version != policies) {
        return Err("policies have changed since");
    }
    let definitions = ctx.shared.broker.definitions.load();
    if away.channels.iter().any(|(channel, _)| definitions.find(channel.as_str()).is_none()) {
        return Err("no definition governs one of its channels any more");
    }
    Ok(from)
}

/// Completes the resuming of a session: answers the client's CONNECT, sends the publications that
/// it missed, and activates its subscriptions. If it missed too many, or they have left the log in
/// the meantime, the client begins a new session instead.
pub(super) fn recover(client: &mut Client, ctx: &mut Context<'_>) {
    let Some(state) = ctx.link.resume_mut() else { return };
    let from = match state.resuming.take() {
        Some(Recovering::Log(Gap { from, .. })) => from,
        Some(Recovering::Stream(returning)) => {
            let before = returning.offset;
            if !returning::finish(client, ctx, *returning) {
                begin_anew(client, ctx, before);
            }
            return;
        }
        None => return,
    };
    let (key, sent) = (state.key, state.sent);
    let channels: HashSet<_> = ctx.channels().into_iter().map(|(channel, _)| channel).collect();
    let Some(detached) = &ctx.local.detached else { return };
    let missed = detached.log.missed(&key, from, |channel| channels.contains(channel));
    let is_there = detached.log.start() <= from;
    let sizes = |missed: &[(_, Arc<Publication>)]| fits(missed.iter().map(|(_, one)| bytes(one)));
    let Some(missed) = missed.filter(|missed| is_there && sizes(missed)) else {
        return begin_anew(client, ctx, None);
    };
    if let Some(state) = ctx.link.resume_mut() {
        let last = missed.last().map(|(position, one)| (*position, one.mark()));
        state.sent = Sent { last: last.or(sent.last), ..sent };
    }
    let missed: Vec<_> = missed.into_iter().map(|(_, one)| one).collect();
    welcome_back(client, ctx, &missed);
    sharing::share(client.who(), ctx, false);
}

/// Begins a new session for a client whose earlier session cannot be recovered after all. `before`
/// is what the client remembers of that.
fn begin_anew(client: &mut Client, ctx: &mut Context<'_>, before: Option<Mark>) {
    forget(ctx);
    client.leave_all(ctx);
    ctx.local.counters.not_recovered.add(1);
    tracing::debug!("a client is not recovered: it missed too much, or that has just left the log");
    client.socket_key = ctx.local.random.random();
    welcome(client, ctx, before);
}

/// Makes the session one that cannot be resumed.
pub(super) fn forget(ctx: &mut Context<'_>) {
    let Some(state) = ctx.link.take_resume() else { return };
    sharing::end(ctx, &state);
    if let Some(detached) = &mut ctx.local.detached {
        detached.forget(&state.key);
    }
}

/// Detaches a session whose connection ends, if `reason` allows the client to resume it. The caller
/// must not have left the session's channels yet.
pub(super) fn keep(client: &Client, ctx: &mut Context<'_>, reason: Reason) {
    if reason == Reason::Drain {
        return end_with_node(client, ctx);
    }
    if !may_resume(reason) {
        tracing::debug!(?reason, "a session ends with its connection");
        return forget(ctx);
    }
    let (state, credential) = (ctx.link.take_resume(), client.credential.clone());
    let (Some(mut state), Some(credential)) = (state, credential) else { return };
    let gap = match state.resuming.take() {
        Some(Recovering::Log(gap)) => Some(gap),
        Some(Recovering::Stream(returning)) => {
            return returning::give_back(ctx, state.key, *returning);
        }
        None => None,
    };
    let channels = ctx.channels();
    let (directory, now) = (&ctx.shared.broker.directory, ctx.now.monotonic());
    for (channel, _) in &channels {
        directory.away(channel, ctx.local.worker);
    }
    let Local { detached: Some(detached), index, .. } = &mut *ctx.local else { return };
    if gap.is_none() {
        // The mail that begins and ends these subscriptions will find no connection.
        for (channel, begins) in index.unsettled(ctx.link.subscriptions) {
            match begins {
                true => detached.log.began(state.key, channel.clone(), now),
                false => detached.log.ended(state.key, channel.clone(), now),
            }
            if let Some(sharing) = &mut state.sharing {
                // Where the subscription begins is not known.
                if begins {
                    sharing.joined(channel, Encoding::Sdk, None);
                } else {
                    sharing.left(channel);
                }
            }
        }
    }
    let key = state.key;
    let away = Away {
        socket_key: client.socket_key,
        credential,
        channels,
        sent: state.sent,
        dropped: gap.map_or(detached.log.end(), |gap| gap.dropped),
        policies: state.policies,
        sharing: state.sharing,
        until: detached.until(now),
    };
    detached.leaves(key, away);
    sharing::expire(ctx.local, ctx.shared, now);
    sharing::share_away(ctx.local, ctx.shared, (key, false), now);
}

/// Ends a session whose client may go on with it at another node.
fn end_with_node(client: &Client, ctx: &mut Context<'_>) {
    let resuming =
        ctx.link.resume_mut().and_then(|state| Some((state.key, state.resuming.take()?)));
    match resuming {
        Some((key, Recovering::Stream(returning))) => {
            ctx.link.take_resume();
            returning::give_back(ctx, key, *returning);
        }
        Some((_, Recovering::Log(_))) | None => sharing::hand_over(client.who(), ctx),
    }
}

/// Returns whether a client may resume its session after its connection ended for this reason. A
/// client that never entered or broke the protocol may not, and neither may one that a stopping
/// node closes.
fn may_resume(reason: Reason) -> bool {
    match reason {
        Reason::Client
        | Reason::PingTimeout
        | Reason::SlowConsumer
        | Reason::Memory
        | Reason::Expired
        | Reason::System => true,
        Reason::ConnectTimeout | Reason::Protocol | Reason::TooLong | Reason::Drain => false,
    }
}
