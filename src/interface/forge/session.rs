//! A client of Forge Realtime on its WebSocket: it proves its context, subscribes and publishes in
//! the scope of that context, and loses subscriptions whose tokens expire.

use std::sync::Arc;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::access::{Asked, Denied, Grant, Origin, Permission, authorize};
use super::publish::publish_event;
use super::wire::{self as wire, Fault, Request, Target};
use crate::broker::directory::Subscriber;
use crate::broker::subscriptions::{Joining, Left};
use crate::codec::json::Document;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::forge::limits::{CONNECT_MS, GRACE_MS, REPLAYED_BYTES_MAX, RETRY_MS};
use crate::interface::forge::nouns::Context as Place;
use crate::interface::frame::Frame;
use crate::interface::heartbeat::beat;
use crate::interface::heartbeat::{Heartbeat, Timings};
use crate::interface::next::{Close, End, Next, Reason};
use crate::message::{
    AckId, Activation, Channel, ConnId, Encoding, Millis, Now, ReplayWish, Reply, Transport,
};

/// Close code of a client that has not proved its context, or whose proof has expired.
const UNPROVED: u16 = 4401;
/// The refusal of a client that has not begun by proving its context.
const UNPROVED_YET: &str = "connect with a context token first";

/// A client, and what it has proved.
#[derive(Debug)]
pub struct Session {
    /// Names the client.
    key: [u8; 9],
    heartbeat: Heartbeat,
    /// Until when it must have proved its context.
    connect_by: Millis,
    /// The context that it has proved.
    context: Option<Arc<Place>>,
    /// Whether it said that it leaves, so that its channels do not wait for it to come back.
    has_left: bool,
    /// Subscriptions that end with their token; `None` if there are none.
    #[expect(clippy::box_collection, reason = "it saves 16 bytes of every connection")]
    ending: Option<Box<Vec<Ending>>>,
}

/// A subscription that ends with its token.
#[derive(Debug)]
struct Ending {
    topic: Channel,
    /// When, in seconds since the epoch.
    expires_at: u64,
    /// Whether it was left, and its end is on its way through the mailbox.
    is_over: bool,
}

impl Session {
    /// Creates the session of a client that connects now, with the context that it has proved in
    /// its handshake, if it did so there.
    pub fn new(
        context: Option<Arc<Place>>,
        now: Now,
        timings: &Timings,
        random: &mut StdRng,
    ) -> Self {
        let mut key = [0; 9];
        random.fill_bytes(&mut key);
        let now = now.monotonic();
        Self {
            key,
            heartbeat: Heartbeat::new(now, timings),
            connect_by: now + CONNECT_MS,
            context,
            has_left: false,
            ending: None,
        }
    }

    /// When the session must be told the time, in milliseconds since the node started.
    pub(in crate::interface) fn deadline(&self, now: Now) -> Millis {
        let Some(context) = &self.context else { return self.heartbeat.due().min(self.connect_by) };
        let context = context.expires_at.saturating_mul(1_000).saturating_add(GRACE_MS);
        let tokens = self.endings().filter(|one| !one.is_over);
        let expires = tokens.map(|one| one.expires_at * 1_000).chain([context]).min();
        // What could not be carried out for want of room is tried again, but not at once.
        let left = expires.unwrap_or(context).saturating_sub(now.wall).max(RETRY_MS);
        self.heartbeat.due().min(now.monotonic().saturating_add(left))
    }

    /// Welcomes a client that has proved its context in its handshake.
    pub(in crate::interface) fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        self.welcome(ctx, None);
        Next::Stay
    }

    /// Tells the client that its context is proved.
    fn welcome(&self, ctx: &mut Context<'_>, ack: Option<AckId>) {
        let Some(context) = &self.context else { return };
        let node = (ctx.shared.start, ctx.shared.forge.replay_seconds);
        ctx.send_text(&wire::connected(ack, self.key, context.expires_at, node));
    }

    /// The client said that it leaves.
    pub(in crate::interface) fn on_peer_close(&mut self) {
        self.has_left = true;
    }

    /// The client answered a ping.
    pub(in crate::interface) fn on_pong(&mut self, ctx: &mut Context<'_>) {
        self.heartbeat.pong(ctx.now.monotonic(), &ctx.shared.timings);
    }

    /// Acts on a message. A message that makes no sense is refused, and the client stays.
    pub(in crate::interface) fn on_text(&mut self, ctx: &mut Context<'_>, text: &str) {
        self.heartbeat.sign_of_life(ctx.now.monotonic(), &ctx.shared.timings);
        ctx.with_json(|ctx, scratch| match Document::from_text(text, scratch) {
            Ok(document) => {
                let said = wire::read(&document);
                let ack = said.id;
                let done = said.request.and_then(|request| self.carry_out(ctx, ack, request));
                if let Err(fault) = done {
                    refuse(ctx, ack, &fault);
                }
            }
            Err(_) => refuse(ctx, None, &Fault::Message),
        });
    }

    /// Refuses a binary message, which no client may send.
    pub(in crate::interface) fn on_binary(&mut self, ctx: &mut Context<'_>) {
        refuse(ctx, None, &Fault::Message);
    }

    fn carry_out(
        &mut self,
        ctx: &mut Context<'_>,
        ack: Option<AckId>,
        request: Request<'_, '_>,
    ) -> Result<(), Fault> {
        match request {
            Request::Connect(token) => self.connect(ctx, ack, token),
            Request::Subscribe { to, replay } => self.subscribe(ctx, ack, &to, replay),
            Request::Publish { to, payload } => {
                if payload.value.len() > ctx.shared.forge.payload_bytes {
                    return Err(Fault::PayloadTooLarge);
                }
                self.publish(ctx, ack, &to, payload.raw())
            }
            Request::Unsubscribe(topic) => {
                if self.context.is_none() {
                    return Err(Fault::Unauthorized(UNPROVED_YET.to_owned()));
                }
                let topic = Channel::topic(topic);
                let left = ctx.leave(&subscriber(ctx.id), &topic, ack)?;
                // Not before: a subscription that stays still ends with its token.
                self.forget_ending(&topic);
                if left == Left::Already {
                    reply(ctx, &Reply::Unsubscribed, ack);
                }
                Ok(())
            }
        }
    }

    /// Proves a context, or renews the proof of the same one.
    fn connect(
        &mut self,
        ctx: &mut Context<'_>,
        ack: Option<AckId>,
        token: &str,
    ) -> Result<(), Fault> {
        let newer = ctx.local.auth.forge.context(token, ctx.now.wall_seconds());
        let newer = newer.map_err(|error| {
            tracing::debug!(%error, "refusing a context token");
            Fault::Unauthorized(error.to_string())
        })?;
        if self.context.as_ref().is_some_and(|older| !older.is_same_place(&newer)) {
            return Err(Fault::OtherContext);
        }
        self.context = Some(newer);
        self.welcome(ctx, ack);
        Ok(())
    }

    /// The client's context, as long as its proof holds.
    fn proved(&self, now: Now) -> Result<Arc<Place>, Fault> {
        let context = self.context.clone();
        let context = context.ok_or_else(|| Fault::Unauthorized(UNPROVED_YET.to_owned()))?;
        if now.wall_seconds() >= context.expires_at {
            return Err(Fault::Unauthorized("the context token has expired".to_owned()));
        }
        Ok(context)
    }

    /// Finds the topic that the client means, if it may do there what it wants to.
    fn find_topic(
        &self,
        ctx: &mut Context<'_>,
        to: &Target<'_>,
        permission: Permission,
    ) -> Result<(Channel, Option<Grant>), Fault> {
        let origin = Origin::Context(self.proved(ctx.now)?);
        let Target { channel, is_global, token, ref overrides } = *to;
        let overrides = overrides.as_deref();
        let asked = Asked { permission, channel, is_global, token, overrides };
        let auth = &ctx.local.auth.forge;
        authorize((ctx.shared, auth), &origin, &asked, ctx.now).map_err(|denied| {
            match (denied, permission) {
                (Denied::Token(error), _) => Fault::Token(error),
                (Denied::RateLimited, _) => Fault::RateLimited,
                (denied, Permission::Subscribe) => Fault::Unauthorized(denied.to_string()),
                (denied, Permission::Publish) => Fault::PublishFailed(denied.to_string()),
            }
        })
    }

    fn subscribe(
        &mut self,
        ctx: &mut Context<'_>,
        reply: Option<AckId>,
        to: &Target<'_>,
        replay: ReplayWish,
    ) -> Result<(), Fault> {
        let (topic, grant) = self.find_topic(ctx, to, Permission::Subscribe)?;
        let terms = &ctx.shared.forge;
        let (options, enforce_expiry) = (terms.options(), terms.enforce_token_expiry);
        let replay = ReplayWish { seconds: replay.seconds.min(terms.replay_seconds), ..replay };
        // A client of Forge says which events it wants, each time.
        let joining = Joining { options, reply, replay, replays_again: true, comes_back: false };
        ctx.join(subscriber(ctx.id), &topic, &joining)?;
        if let Some(grant) = grant.filter(|_| enforce_expiry) {
            self.note_ending(topic, grant.expires_at);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        ctx: &mut Context<'_>,
        ack: Option<AckId>,
        to: &Target<'_>,
        payload: &str,
    ) -> Result<(), Fault> {
        let (topic, _) = self.find_topic(ctx, to, Permission::Publish)?;
        let id = ctx.message_id();
        let receipt = publish_event(ctx.shared, &topic, payload, (id, ctx.now));
        let receipt = receipt.map_err(|_| Fault::Overloaded)?;
        let counters = &ctx.local.counters;
        let counter = match receipt {
            Some(_) => &counters.events_socket,
            None => &counters.events_unheard,
        };
        counter.add(1);
        let receipt = receipt.map(|receipt| (receipt.id, receipt.at));
        ctx.send_text(&wire::published(ack, receipt));
        Ok(())
    }

    /// Notes when a subscription ends; a newer token's end takes the place of an older one's.
    fn note_ending(&mut self, topic: Channel, expires_at: u64) {
        self.forget_ending(&topic);
        let ending = Ending { topic, expires_at, is_over: false };
        self.ending.get_or_insert_default().push(ending);
    }

    fn forget_ending(&mut self, topic: &Channel) {
        self.retain_endings(|one| one.topic != *topic);
    }

    /// A subscription begins: the client is answered, and given the events that it asked for.
    pub(in crate::interface) fn on_joined(
        &mut self,
        ctx: &mut Context<'_>,
        activation: Activation,
    ) -> usize {
        let Activation { channel, encoding, reply: ack, presence, present, replay, .. } =
            activation;
        let last = replay.last;
        reply(ctx, &Reply::Subscribed { channel: channel.clone(), presence, present, last }, ack);
        if replay.has_gap {
            ctx.send_text(&wire::gap(&channel, None));
            ctx.local.counters.gaps.add(1);
        }
        let given = match ack {
            Some(request) => {
                ctx.replay(&channel, &replay.publications, REPLAYED_BYTES_MAX, |event| {
                    Frame::replayed(event, request)
                })
            }
            None => ctx.replay(&channel, &replay.publications, usize::MAX, |event| {
                Frame::of(event, encoding)
            }),
        };
        given.bytes
    }

    /// A subscription has ended. If that was because of its token, the client is told so behind the
    /// last event.
    pub(in crate::interface) fn on_left(
        &mut self,
        ctx: &mut Context<'_>,
        topic: &Channel,
        ack: Option<AckId>,
    ) {
        reply(ctx, &Reply::Unsubscribed, ack);
        let is_over = |one: &Ending| one.is_over && one.topic == *topic;
        // An earlier end may come up in the meantime, and in front of the subscription that has
        // ended with its token.
        let is_last = !ctx.local.index.is_pending(ctx.link.subscriptions, topic);
        if is_last && self.endings().any(is_over) {
            self.retain_endings(|one| !is_over(one));
            ctx.send_text(&wire::token_expired(topic));
        }
    }

    fn endings(&self) -> impl Iterator<Item = &Ending> {
        self.ending.iter().flat_map(|all| all.iter())
    }

    fn retain_endings(&mut self, stays: impl Fn(&Ending) -> bool) {
        if let Some(all) = &mut self.ending {
            all.retain(stays);
            if all.is_empty() {
                self.ending = None;
            }
        }
    }

    /// Ends what has expired, and pings the client if that is due.
    pub(in crate::interface) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let (now, wall) = (ctx.now.monotonic(), ctx.now.wall);
        let (text, reason) = match &self.context {
            None if now >= self.connect_by => {
                ("no context was proved in time", Reason::ConnectTimeout)
            }
            Some(context) if wall >= context.expires_at.saturating_mul(1_000) + GRACE_MS => {
                ("the context token has expired", Reason::Expired)
            }
            _ => {
                self.end_subscriptions(ctx);
                return beat(&mut self.heartbeat, ctx, || frame(Opcode::Ping, &[]));
            }
        };
        Next::Close(Close { code: Some(UNPROVED), text, reason })
    }

    /// Leaves the topics whose tokens have expired. If a mailbox has no room that is tried again.
    fn end_subscriptions(&mut self, ctx: &mut Context<'_>) {
        let now_s = ctx.now.wall_seconds();
        let due = self.endings().filter(|one| !one.is_over && one.expires_at <= now_s);
        let due: Vec<Channel> = due.map(|one| one.topic.clone()).collect();
        for topic in due {
            if ctx.leave(&subscriber(ctx.id), &topic, None).is_err() {
                return;
            }
            for ending in self
                .ending
                .iter_mut()
                .flat_map(|all| all.iter_mut())
                .filter(|one| one.topic == topic)
            {
                ending.is_over = true;
            }
        }
    }

    /// The connection is about to end. Unless the client said that it leaves, it counts as a
    /// listener for a while, because it may come back.
    pub(in crate::interface) fn on_end(&mut self, ctx: &mut Context<'_>) -> End {
        let linger = ctx.now.monotonic() + ctx.shared.forge.linger();
        End { lingers_until: if self.has_left { 0 } else { linger }, ..End::default() }
    }
}

/// The connection as it subscribes.
fn subscriber(connection: ConnId) -> Subscriber {
    let (encoding, transport) = (Encoding::Topic, Transport::WebSocket);
    Subscriber { connection, encoding, transport, member: None }
}

fn reply(ctx: &mut Context<'_>, reply: &Reply, ack: Option<AckId>) {
    if let Some(text) = wire::reply(reply, ack) {
        ctx.send_text(&text);
    }
}

fn refuse(ctx: &mut Context<'_>, ack: Option<AckId>, fault: &Fault) {
    let counters = &ctx.local.counters;
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
    ctx.send_text(&wire::error(ack, fault));
}
