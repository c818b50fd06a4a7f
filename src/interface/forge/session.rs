//! The session of a Forge client on its WebSocket. The client proves its context, then subscribes
//! and publishes in the scope of that context. A subscription ends when its token expires.

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

/// The session of one client.
#[derive(Debug)]
pub struct Session {
    /// The random name of the connection, which `connected` tells the client.
    key: [u8; 9],
    heartbeat: Heartbeat,
    /// Until when the client must prove its context, in milliseconds since the node started.
    connect_by: Millis,
    /// The proved context; `None` until the client has proved one.
    context: Option<Arc<Place>>,
    /// Whether the client has sent a close frame. Then its topics do not wait for it to return.
    has_left: bool,
    endings: Endings,
}

impl Session {
    /// Creates the session of a client that connects now. `context` is the one that the handshake
    /// has proved, if any.
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

    /// Returns when [`Self::on_deadline`] is due next, in milliseconds since the node started.
    pub(in crate::interface) fn deadline(&self, now: Now) -> Millis {
        let Some(context) = &self.context else { return self.heartbeat.due().min(self.connect_by) };
        let context = context.expires_at.saturating_mul(1_000).saturating_add(GRACE_MS);
        let token = self.endings.next_s().map(|expires_s| expires_s * 1_000);
        let expires = token.map_or(context, |token| token.min(context));
        // A leave that found no room in a mailbox is tried again, but not at once.
        let left = expires.saturating_sub(now.wall).max(RETRY_MS);
        self.heartbeat.due().min(now.monotonic().saturating_add(left))
    }

    /// Sends `connected` to a client that has proved its context in its handshake.
    pub(in crate::interface) fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        self.welcome(ctx, None);
        Next::Stay
    }

    /// Sends `connected`, if the client has proved a context.
    fn welcome(&self, ctx: &mut Context<'_>, ack: Option<AckId>) {
        let Some(context) = &self.context else { return };
        let node = (ctx.shared.start, ctx.shared.forge.replay_seconds);
        ctx.send_text(&wire::connected(ack, self.key, context.expires_at, node));
    }

    /// Notes that the client has sent a close frame.
    pub(in crate::interface) fn on_peer_close(&mut self) {
        self.has_left = true;
    }

    /// Notes that the client has answered a ping.
    pub(in crate::interface) fn on_pong(&mut self, ctx: &mut Context<'_>) {
        self.heartbeat.pong(ctx.now.monotonic(), &ctx.shared.timings);
    }

    /// Carries out a message. A refused message is answered and does not end the connection.
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

    /// Refuses a binary message: all messages of the protocol are text.
    pub(in crate::interface) fn on_binary(&mut self, ctx: &mut Context<'_>) {
        refuse(ctx, None, &Fault::Message);
    }

    /// Refuses a message that is too long. Its id is not known.
    pub(in crate::interface) fn refuse_too_long(ctx: &mut Context<'_>) {
        refuse(ctx, None, &Fault::MessageTooLarge);
    }

    /// Answers a subscribe whose subscription has begun, and replays the events that the client
    /// asked for. Returns how many bytes of events were queued.
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
            Some(request) => ctx.replay(
                (&channel, encoding),
                &replay.publications,
                REPLAYED_BYTES_MAX,
                |event| Some(Frame::replayed(event, request)),
            ),
            None => ctx.replay((&channel, encoding), &replay.publications, usize::MAX, |_| None),
        };
        given.bytes
    }

    /// Refuses a subscribe whose topic the node could not hear.
    pub(in crate::interface) fn on_join_refused(
        &mut self,
        ctx: &mut Context<'_>,
        topic: &Channel,
        ack: Option<AckId>,
    ) {
        self.endings.forget(topic);
        refuse(ctx, ack, &Fault::Unavailable);
    }

    /// Answers an unsubscribe whose subscription has ended. If the subscription ended with its
    /// token, the client receives `TOKEN_EXPIRED` behind the last event.
    pub(in crate::interface) fn on_left(
        &mut self,
        ctx: &mut Context<'_>,
        topic: &Channel,
        ack: Option<AckId>,
    ) {
        reply(ctx, &Reply::Unsubscribed, ack);
        // The end of an earlier subscription to this topic may come up before that of the one that
        // ended with its token.
        let is_last = !ctx.local.index.is_pending(ctx.link.subscriptions, topic);
        if is_last && self.endings.remove_left(topic) {
            ctx.send_text(&wire::token_expired(topic));
        }
    }

    /// Closes the connection if its proof is late or has expired. Otherwise ends the subscriptions
    /// whose tokens have expired, and pings the client if a ping is due.
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

    /// Leaves the topics whose tokens have expired. If a mailbox has no room, the next deadline
    /// tries again.
    fn end_subscriptions(&mut self, ctx: &mut Context<'_>) {
        for topic in self.endings.due(ctx.now.wall_seconds()) {
            if ctx.leave(&subscriber(ctx.id), &topic, None).is_err() {
                return;
            }
            self.endings.note_left(&topic);
        }
    }

    /// Returns for how long the ended connection still counts as a subscriber: the client may
    /// reconnect, unless it has sent a close frame.
    pub(in crate::interface) fn on_end(&mut self, ctx: &mut Context<'_>) -> End {
        let linger = ctx.now.monotonic() + ctx.shared.forge.linger();
        End { lingers_until: if self.has_left { 0 } else { linger }, ..End::default() }
    }
}

/// Returns the connection as a subscriber of topics.
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
        Fault::Message | Fault::Input(_) | Fault::Channel(_) | Fault::LongChannel(_) => {
            &counters.refused_invalid
        }
        Fault::PayloadTooLarge | Fault::MessageTooLarge => &counters.refused_too_large,
        Fault::ConnectionRate => &counters.refused_connection_rate,
        Fault::RateLimited => &counters.refused_rate_limited,
        Fault::Overloaded => &counters.refused_overloaded,
        Fault::Unavailable | Fault::Unknown(_) => &counters.refused_backplane,
        Fault::TooManySubscriptions => &counters.refused_subscriptions,
        Fault::Unauthorized(_)
        | Fault::OtherContext
        | Fault::Token(_)
        | Fault::PublishFailed(_) => &counters.refused_unauthorized,
    };
    counter.add(1);
    ctx.send_text(&wire::error(ack, fault));
}
