//! Resuming sessions (Socket.IO calls this connection state recovery): a client whose connection
//! was cut gets back its subscriptions and the publications that it missed, or begins anew.
//!
//! A resuming client is counted in its channels again, and each channel posts an activation into
//! the worker's own mailbox. [`Mail::Recover`] is posted behind all of them. When the worker takes
//! it, the log holds all that the client missed, and none of that is in the client's outbox. From
//! then on the client's subscriptions are active again.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngExt as _;

use super::client::Client;
use super::detached::{Away, Found, Resuming};
use super::{socketio, wire as insforge};
use crate::broker::link::{Gap, ResumeState};
use crate::broker::resume_log::{Position, Sent};
use crate::broker::subscriptions::Joining;
use crate::interface::context::{Context, Local};
use crate::interface::next::Reason;
use crate::limits::{RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX};
use crate::mailbox::{Mail, Slot};
use crate::message::{Channel, ConnId, Encoding, PresenceMode, Publication, ReplayWish};

/// An estimate of the bytes of a publication's frame besides its content. It is an upper bound if
/// the channel's name has an ordinary length.
const ENVELOPE_BYTES: usize = 512;

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
}

/// Tells a client that it has entered with a new session. If recovery is on, the session can be
/// resumed later.
pub(super) fn welcome(client: &mut Client, ctx: &mut Context<'_>) {
    let private_id = begin(ctx);
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
fn begin(ctx: &mut Context<'_>) -> Option<String> {
    let Local { worker, detached, random, .. } = &mut *ctx.local;
    let (detached, worker) = (detached.as_mut()?, *worker);
    let key = random.random();
    ctx.link.set_resume(detached.begin(key, ctx.id));
    Some(detached.private_id(key, worker))
}

/// Resumes the session that the client named, unless it still has a connection.
pub(super) fn resume(client: &mut Client, ctx: &mut Context<'_>, resuming: &Resuming) -> Resumed {
    let resumed = match find(ctx, resuming) {
        Ok(Found::Here(old)) => return Resumed::Displaces(old),
        Ok(found) => go_on(client, ctx, resuming, &found),
        Err(why) => Err(why),
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
    let resumed = found.and_then(|found| go_on(client, ctx, resuming, &found));
    settle(ctx, resumed)
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
    if !detached.is_from_here(id, ctx.local.worker) {
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
    let away = detached.returns(&resuming.resume.id.key).ok_or(UNKNOWN)?;
    let joined = rejoin(client, ctx, resuming, &away);
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
    away: &Away,
) -> Result<(), &'static str> {
    let from = missed_from(ctx, resuming, away)?;
    let mailbox = ctx.shared.broker.mailboxes.workers.of(ctx.local.worker);
    let place = mailbox.reserve(Slot::Control).ok_or("the worker's mailbox is full")?;
    let own_key = std::mem::replace(&mut client.socket_key, away.socket_key);
    client.credential = Some(resuming.credential.clone());
    let mut channels = away.channels.iter();
    if !channels.all(|(channel, encoding)| join_again(client, ctx, channel, *encoding)) {
        client.leave_all(ctx);
        client.socket_key = own_key;
        return Err("a worker's mailbox is full");
    }
    let key = resuming.resume.id.key;
    let resuming = Some(Gap { from, dropped: away.dropped });
    ctx.link.set_resume(ResumeState { key, sent: away.sent, policies: away.policies, resuming });
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

/// Counts the client in a channel again. Returns false if the broker refuses the join, or if no
/// definition governs the channel any more.
fn join_again(
    client: &Client,
    ctx: &mut Context<'_>,
    channel: &Channel,
    encoding: Encoding,
) -> bool {
    let definition = ctx.shared.broker.definitions.load().find(channel.as_str()).cloned();
    let Some(definition) = definition else { return false };
    let joining = Joining {
        options: definition.options,
        reply: None,
        replay: ReplayWish::default(),
        replays_again: false,
        comes_back: true,
    };
    let subscriber = client.subscriber(ctx.id, encoding, ctx.transport());
    subscriber.is_none_or(|subscriber| ctx.join(subscriber, channel, &joining).is_ok())
}

/// Completes the resuming of a session: answers the client's CONNECT, sends the publications that
/// it missed, and activates its subscriptions. If it missed too many, or they have left the log in
/// the meantime, the client begins a new session instead.
pub(super) fn recover(client: &mut Client, ctx: &mut Context<'_>) {
    let Some(state) = ctx.link.resume_mut() else { return };
    let Some(Gap { from, .. }) = state.resuming.take() else { return };
    let (key, sent) = (state.key, state.sent);
    let channels = ctx.channels();
    let encodings: HashMap<&Channel, Encoding> =
        channels.iter().map(|(channel, encoding)| (channel, *encoding)).collect();
    let Some(detached) = &ctx.local.detached else { return };
    let missed = detached.log.missed(&key, from, |channel| encodings.contains_key(channel));
    let is_there = detached.log.start() <= from;
    let Some(missed) = missed.filter(|missed| is_there && fits(missed)) else {
        return begin_anew(client, ctx);
    };
    let private_id = detached.private_id(key, ctx.local.worker);
    client.has_entered = true;
    if let Some(state) = ctx.link.resume_mut() {
        let last = missed.last().map(|(position, one)| (*position, one.id));
        state.sent = Sent { last: last.or(sent.last), ..sent };
    }
    ctx.send_text(&socketio::connected_for_good(&client.socket_id(), &private_id));
    for (_, publication) in &missed {
        if let Some(encoding) = encodings.get(&publication.channel) {
            ctx.deliver(publication, *encoding);
        }
    }
    for (channel, encoding) in &channels {
        ctx.local.index.activate(ctx.link.subscriptions, channel, *encoding);
        sync_presence(ctx, channel);
    }
    ctx.local.counters.recovered.add(1);
    ctx.local.counters.recovered_publications.add(missed.len() as u64);
}

/// Returns whether these publications stay within [`RECOVERY_PUBLICATIONS_MAX`] and
/// [`RECOVERY_BYTES_MAX`], which leave room in the outbox for live publications.
fn fits(missed: &[(Position, Arc<Publication>)]) -> bool {
    let bytes: usize = missed.iter().map(|(_, one)| one.content.bytes() + ENVELOPE_BYTES).sum();
    missed.len() <= RECOVERY_PUBLICATIONS_MAX && bytes <= RECOVERY_BYTES_MAX
}

/// Sends the present members of a channel, in place of the joins and leaves that the client missed.
/// Does nothing unless the channel's presence mode is `full`.
fn sync_presence(ctx: &mut Context<'_>, channel: &Channel) {
    let definitions = ctx.shared.broker.definitions.load();
    let definition = definitions.find(channel.as_str());
    if !definition.is_some_and(|one| one.options.presence == PresenceMode::Full) {
        return;
    }
    let Some((presence, present)) = ctx.shared.broker.directory.present(channel) else { return };
    let stamp = (ctx.message_id(), ctx.now.wall);
    ctx.send_text(&insforge::presence_sync(channel, &presence, present, stamp));
}

/// Begins a new session for a client whose earlier session cannot be recovered after all.
fn begin_anew(client: &mut Client, ctx: &mut Context<'_>) {
    forget(ctx);
    client.leave_all(ctx);
    ctx.local.counters.not_recovered.add(1);
    tracing::debug!("a client is not recovered: it missed too much, or that has just left the log");
    client.socket_key = ctx.local.random.random();
    welcome(client, ctx);
}

/// Makes the session one that cannot be resumed.
pub(super) fn forget(ctx: &mut Context<'_>) {
    let Some(state) = ctx.link.take_resume() else { return };
    if let Some(detached) = &mut ctx.local.detached {
        detached.forget(&state.key);
    }
}

/// Detaches a session whose connection ends, if `reason` allows the client to resume it. The caller
/// must not have left the session's channels yet.
pub(super) fn keep(client: &Client, ctx: &mut Context<'_>, reason: Reason) {
    if !may_resume(reason) {
        return forget(ctx);
    }
    let (state, credential) = (ctx.link.take_resume(), client.credential.clone());
    let (Some(state), Some(credential)) = (state, credential) else { return };
    let channels = ctx.channels();
    let (directory, now) = (&ctx.shared.broker.directory, ctx.now.monotonic());
    for (channel, _) in &channels {
        directory.away(channel, ctx.local.worker);
    }
    let Local { detached: Some(detached), index, worker, .. } = &mut *ctx.local else { return };
    if state.resuming.is_none() {
        // The mail that begins and ends these subscriptions will find no connection.
        for (channel, begins) in index.unsettled(ctx.link.subscriptions) {
            match begins {
                true => detached.log.began(state.key, channel.clone(), now),
                false => detached.log.ended(state.key, channel.clone(), now),
            }
        }
    }
    let away = Away {
        socket_key: client.socket_key,
        credential,
        channels,
        sent: state.sent,
        dropped: state.resuming.map_or(detached.log.end(), |gap| gap.dropped),
        policies: state.policies,
        until: detached.until(now),
    };
    detached.leaves(state.key, away);
    detached.expire(now, directory, *worker);
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
