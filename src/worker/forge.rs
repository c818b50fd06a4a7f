//! Clients of Forge Realtime: what they say is checked, carried out like everybody's, and answered
//! (contract section 3.1).

use std::sync::Arc;

use super::Worker;
use super::close::{self, Reason};
use super::command::{Joining, join, unsubscribe};
use super::liveness;
use crate::auth::forge::{Grant, Permission, Reach, Topic, Wanted};
use crate::limits::{FORGE_CONNECT_MS, FORGE_GRACE_MS, FORGE_RETRY_MS};
use crate::message::{AckId, Channel, ConnId, Context, Group, Millis, ReplayWish};
use crate::protocol::engineio::{Heartbeat, Timings};
use crate::protocol::forge::{self, Fault, Request, Target};
use crate::wire::json::Document;

/// Close code of a client that has not proved its context, or no longer does.
pub(super) const UNPROVED: u16 = 4401;
/// What a client is told that has not begun with that.
const UNPROVED_YET: &str = "connect with a context token first";

/// A client, and what it has proved.
#[derive(Debug)]
pub(super) struct Forge {
    /// Its name.
    key: [u8; 9],
    /// Whether it is still there.
    pub(super) heartbeat: Heartbeat,
    /// Until when it must have proved its context.
    connect_by: Millis,
    /// The context that it has proved.
    context: Option<Arc<Context>>,
    /// It said that it leaves, so that nobody waits for it to come back.
    pub(super) has_left: bool,
    /// Subscriptions that end with their token.
    ending: Vec<Ending>,
}

/// A subscription that ends with its token.
#[derive(Debug)]
struct Ending {
    topic: Channel,
    /// When, in seconds since the epoch.
    expires_at: u64,
    /// It was left, and its end is on its way through the mailbox.
    is_over: bool,
}

impl Forge {
    /// That comes now, with what it has proved in its handshake, where it did so there.
    pub(super) fn new(context: Option<Arc<Context>>, now: Millis, timings: &Timings) -> Self {
        Self {
            key: rand::random(),
            heartbeat: Heartbeat::new(now, timings),
            connect_by: now + FORGE_CONNECT_MS,
            context,
            has_left: false,
            ending: Vec::new(),
        }
    }

    /// When somebody must look at it again, as far as the node's own clock goes.
    pub(super) fn deadline(&self) -> Millis {
        match self.context {
            Some(_) => self.heartbeat.due(),
            None => self.heartbeat.due().min(self.connect_by),
        }
    }

    /// When something of it expires next, in milliseconds since the epoch.
    fn expires(&self) -> Option<Millis> {
        let context = self.context.as_ref()?.expires_at.saturating_mul(1_000);
        let token =
            self.ending.iter().filter(|one| !one.is_over).map(|one| one.expires_at * 1_000).min();
        let context = context.saturating_add(FORGE_GRACE_MS);
        Some(token.map_or(context, |token| token.min(context)))
    }
}

/// When something of a client expires next, in the worker's own time.
pub(super) fn expires(worker: &mut Worker, slot: u32) -> Option<Millis> {
    let expires = worker.connections.get_mut(slot)?.forge()?.expires()?;
    let left = expires.saturating_sub(worker.hub.clock.wall());
    // What could not be carried out for want of room is tried again, but not at once.
    Some(worker.now.saturating_add(left.max(FORGE_RETRY_MS)))
}

/// Tells a client that its context is proved.
pub(super) fn welcome(worker: &mut Worker, id: ConnId, ack: Option<AckId>) {
    let node = (worker.hub.start, worker.hub.forge.replay_seconds);
    let Some(client) = client(worker, id) else { return };
    let Some(context) = &client.context else { return };
    let text = forge::connected(ack, client.key, context.expires_at, node);
    worker.send_text(id.slot, &text);
    worker.schedule(id.slot);
}

fn client(worker: &mut Worker, id: ConnId) -> Option<&mut Forge> {
    worker.connections.by_id(id)?.forge()
}

/// It says that it leaves.
pub(super) fn on_close(worker: &mut Worker, id: ConnId) {
    if let Some(client) = client(worker, id) {
        client.has_left = true;
    }
}

/// Acts on a message. One that makes no sense is answered, and the client stays.
pub(super) fn on_text(worker: &mut Worker, id: ConnId, text: &str) {
    liveness::on_message(worker, id);
    let mut scratch = std::mem::take(&mut worker.json);
    match Document::from_text(text, &mut scratch) {
        Ok(document) => {
            let said = forge::read(&document);
            let ack = said.id;
            let done = said.request.and_then(|request| carry_out(worker, id, ack, request));
            if let Err(fault) = done {
                refuse(worker, id, ack, &fault);
            }
        }
        Err(_) => refuse(worker, id, None, &Fault::Message),
    }
    worker.json = scratch;
}

/// Refuses a message that no client may send.
pub(super) fn on_binary(worker: &mut Worker, id: ConnId) {
    refuse(worker, id, None, &Fault::Message);
}

fn refuse(worker: &mut Worker, id: ConnId, ack: Option<AckId>, fault: &Fault) {
    let counters = &worker.counters;
    let counter = match fault {
        Fault::Message | Fault::Input(_) | Fault::Channel(_) | Fault::PayloadTooLarge => {
            &counters.refused_invalid
        }
        Fault::RateLimited => &counters.refused_rate_limited,
        Fault::Overloaded => &counters.refused_overloaded,
        Fault::TooManySubscriptions => &counters.refused_subscriptions,
        Fault::Unauthorized(_)
        | Fault::OtherContext
        | Fault::Token(_)
        | Fault::PublishFailed(_) => &counters.refused_unauthorized,
    };
    counter.add(1);
    worker.send_text(id.slot, &forge::error(ack, fault));
}

fn carry_out(
    worker: &mut Worker,
    id: ConnId,
    ack: Option<AckId>,
    request: Request<'_, '_>,
) -> Result<(), Fault> {
    match request {
        Request::Connect(token) => connect(worker, id, ack, token),
        Request::Subscribe { to, replay } => subscribe(worker, id, ack, &to, replay),
        Request::Publish { to, payload } => {
            if payload.value.len() > worker.hub.forge.payload_bytes {
                return Err(Fault::PayloadTooLarge);
            }
            publish(worker, id, ack, &to, payload.raw())
        }
        Request::Unsubscribe(topic) => {
            if client(worker, id).is_none_or(|client| client.context.is_none()) {
                return Err(Fault::Unauthorized(UNPROVED_YET.to_owned()));
            }
            let topic = Channel::topic(topic);
            forget_ending(worker, id, &topic);
            unsubscribe(worker, id, &topic, ack).map_err(Fault::from)
        }
    }
}

/// Proves a context, or renews the proof of the same one.
fn connect(worker: &mut Worker, id: ConnId, ack: Option<AckId>, token: &str) -> Result<(), Fault> {
    let now_s = worker.hub.clock.wall() / 1_000;
    let newer = worker.auth.forge.context(token, now_s).map_err(|error| {
        tracing::debug!(%error, "refusing a context token");
        Fault::Unauthorized(error.to_string())
    })?;
    let Some(client) = client(worker, id) else { return Ok(()) };
    if client.context.as_ref().is_some_and(|older| !older.is_same_place(&newer)) {
        return Err(Fault::OtherContext);
    }
    client.context = Some(newer);
    welcome(worker, id, ack);
    Ok(())
}

/// The context of a client, as long as it is proved.
fn proved(worker: &mut Worker, id: ConnId) -> Result<Arc<Context>, Fault> {
    let now_s = worker.hub.clock.wall() / 1_000;
    let context = client(worker, id).and_then(|client| client.context.clone());
    let context = context.ok_or_else(|| Fault::Unauthorized(UNPROVED_YET.to_owned()))?;
    if now_s >= context.expires_at {
        return Err(Fault::Unauthorized("the context token has expired".to_owned()));
    }
    Ok(context)
}

/// Which topic a client means, if it may do there what it wants to.
fn find_topic(
    worker: &mut Worker,
    id: ConnId,
    to: &Target<'_>,
    permission: Permission,
) -> Result<(Channel, Option<Grant>), Fault> {
    let context = proved(worker, id)?;
    let (channel, installation) = (to.channel, &*context.installation);
    let now_s = worker.hub.clock.wall() / 1_000;
    let auth = &worker.auth.forge;
    let wanted = Wanted { channel, installation, permission };
    let grant = to.token.map(|token| auth.channel_token(token, &wanted, now_s)).transpose();
    let grant = grant.map_err(Fault::Token)?;
    if !worker.hub.admit_installation(installation) {
        return Err(Fault::RateLimited);
    }
    let terms = &worker.hub.forge;
    let may_listen = context.reads_global.unwrap_or(!terms.require_scopes);
    if to.is_global && permission == Permission::Subscribe && !may_listen {
        let why = "the context lacks the scope read:app-global-channel:realtime";
        return Err(Fault::Unauthorized(why.to_owned()));
    }
    let reach = Reach::chosen(permission, to.is_global, Some(&context), to.overrides.as_deref());
    let reach = reach.map_err(|error| Fault::PublishFailed(error.to_string()))?;
    let claims = grant.as_ref().map(|grant| &*grant.claims);
    let scope = Topic { installation, channel, reach, claims };
    let topic = auth.topic(&scope).map_err(|missing| match permission {
        Permission::Subscribe => Fault::Unauthorized(missing.to_string()),
        Permission::Publish => Fault::PublishFailed(missing.to_string()),
    })?;
    tracing::debug!(what = permission.name(), %scope, topic = topic.as_str(), "a scope");
    Ok((topic, grant))
}

fn subscribe(
    worker: &mut Worker,
    id: ConnId,
    reply: Option<AckId>,
    to: &Target<'_>,
    replay: ReplayWish,
) -> Result<(), Fault> {
    let (topic, grant) = find_topic(worker, id, to, Permission::Subscribe)?;
    if worker.connections.by_id(id).is_some_and(|connection| connection.is_leaving) {
        return Err(Fault::Overloaded);
    }
    let terms = worker.hub.forge;
    let replay = ReplayWish { seconds: replay.seconds.min(terms.replay_seconds), ..replay };
    let (group, options) = (Group::Forge, terms.options());
    join(worker, id, &topic, &Joining { group, options, reply, replay, comes_back: false })?;
    if let Some(grant) = grant.filter(|_| terms.enforce_token_expiry) {
        note_ending(worker, id, topic, grant.expires_at);
    }
    Ok(())
}

fn publish(
    worker: &mut Worker,
    id: ConnId,
    ack: Option<AckId>,
    to: &Target<'_>,
    payload: &str,
) -> Result<(), Fault> {
    let (topic, _) = find_topic(worker, id, to, Permission::Publish)?;
    let receipt = worker.hub.publish_event(topic, payload).map_err(|_| Fault::Overloaded)?;
    let counter = match receipt {
        Some(_) => &worker.counters.events_socket,
        None => &worker.counters.events_unheard,
    };
    counter.add(1);
    let receipt = receipt.map(|receipt| (receipt.id, receipt.at));
    worker.send_text(id.slot, &forge::published(ack, receipt));
    Ok(())
}

/// Notes when a subscription ends; that of a newer token takes the place of an older one's.
fn note_ending(worker: &mut Worker, id: ConnId, topic: Channel, expires_at: u64) {
    forget_ending(worker, id, &topic);
    let Some(client) = client(worker, id) else { return };
    let ending = Ending { topic, expires_at, is_over: false };
    client.ending.push(ending);
    worker.schedule(id.slot);
}

fn forget_ending(worker: &mut Worker, id: ConnId, topic: &Channel) {
    if let Some(client) = client(worker, id) {
        client.ending.retain(|one| one.topic != *topic);
    }
}

/// A subscription has ended. If that was because of its token, its client is told, behind the last
/// event.
pub(super) fn ended(worker: &mut Worker, id: ConnId, topic: &Channel) {
    let Some(client) = client(worker, id) else { return };
    let over = client.ending.iter().position(|one| one.is_over && one.topic == *topic);
    if let Some(place) = over {
        client.ending.swap_remove(place);
        worker.send_text(id.slot, &forge::token_expired(topic));
    }
}

/// Looks at the clock for a client: pings it, ends what has expired, or lets it go.
pub(super) fn on_time(worker: &mut Worker, id: ConnId) {
    let (now, wall) = (worker.now, worker.hub.clock.wall());
    let Some(client) = client(worker, id) else { return };
    let reason = match &client.context {
        None if now >= client.connect_by => Some(Reason::ConnectTimeout),
        Some(context) if wall >= context.expires_at.saturating_mul(1_000) + FORGE_GRACE_MS => {
            Some(Reason::Expired)
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return close::gracefully(worker, id.slot, Some(UNPROVED), reason);
    }
    end_subscriptions(worker, id, wall / 1_000);
    liveness::beat(worker, id);
}

/// Leaves the topics whose tokens have expired. Where a mailbox has no room that is tried again.
fn end_subscriptions(worker: &mut Worker, id: ConnId, now_s: u64) {
    let Some(client) = client(worker, id) else { return };
    let due = client.ending.iter().filter(|one| !one.is_over && one.expires_at <= now_s);
    let due: Vec<Channel> = due.map(|one| one.topic.clone()).collect();
    for topic in due {
        if unsubscribe(worker, id, &topic, None).is_err() {
            return;
        }
        let Some(client) = self::client(worker, id) else { return };
        for ending in client.ending.iter_mut().filter(|one| one.topic == topic) {
            ending.is_over = true;
        }
    }
}
