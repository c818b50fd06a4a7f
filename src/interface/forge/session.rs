//! A client of Forge Realtime on its WebSocket: it proves its context, subscribes and publishes in
//! the scope of that context, and loses subscriptions whose tokens expire.

mod commands;
mod endings;

use std::sync::Arc;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::limits::{CONNECT_MS, GRACE_MS, REPLAYED_BYTES_MAX, RETRY_MS};
use super::nouns::Context as Place;
use super::wire::{self, Fault};
use crate::broker::directory::Subscriber;
use crate::codec::json::Document;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::frame::Frame;
use crate::interface::heartbeat::beat;
use crate::interface::heartbeat::{Heartbeat, Timings};
use crate::interface::next::{Close, End, Next, Reason};
use crate::message::{AckId, Activation, Channel, ConnId, Encoding, Millis, Now, Reply, Transport};
use endings::Endings;

/// Close code of a client that has not proved its context, or whose proof has expired.
const UNPROVED: u16 = 4401;

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
    endings: Endings,
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
            endings: Endings::default(),
        }
    }

    /// When the session must be told the time, in milliseconds since the node started.
    pub(in crate::interface) fn deadline(&self, now: Now) -> Millis {
        let Some(context) = &self.context else { return self.heartbeat.due().min(self.connect_by) };
        let context = context.expires_at.saturating_mul(1_000).saturating_add(GRACE_MS);
        let token = self.endings.next_s().map(|expires_s| expires_s * 1_000);
        let expires = token.map_or(context, |token| token.min(context));
        // What could not be carried out for want of room is tried again, but not at once.
        let left = expires.saturating_sub(now.wall).max(RETRY_MS);
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
        // An earlier end may come up in the meantime, and in front of the subscription that has
        // ended with its token.
        let is_last = !ctx.local.index.is_pending(ctx.link.subscriptions, topic);
        if is_last && self.endings.remove_left(topic) {
            ctx.send_text(&wire::token_expired(topic));
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
        for topic in self.endings.due(ctx.now.wall_seconds()) {
            if ctx.leave(&subscriber(ctx.id), &topic, None).is_err() {
                return;
            }
            self.endings.note_left(&topic);
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
