//! The requests of a client: it proves its context, subscribes, publishes and unsubscribes.

use std::sync::Arc;

use super::{Session, refuse, reply, subscriber};
use crate::broker::subscriptions::{Joining, Left};
use crate::interface::context::Context;
use crate::interface::forge::access::{Asked, Denied, Grant, Origin, Permission, authorize};
use crate::interface::forge::nouns::Context as Place;
use crate::interface::forge::publish::{
    Event, EventReceipt, is_ordered, publish_event, send_event,
};
use crate::interface::forge::wire::{self, Fault, Request, Target};
use crate::mailbox::Publisher;
use crate::message::{AckId, Channel, MessageId, Now, Ordered, ReplayWish, Reply, Settled};

/// The error for a client that has not proved its context yet.
const UNPROVED_YET: &str = "connect with a context token first";

impl Session {
    pub(super) fn carry_out(
        &mut self,
        ctx: &mut Context<'_>,
        ack: Option<AckId>,
        request: Request<'_, '_>,
    ) -> Result<(), Fault> {
        match request {
            Request::Connect(token) => self.connect(ctx, ack, token),
            Request::Subscribe { to, replay } => self.subscribe(ctx, ack, &to, replay),
            Request::Publish { to, payload, id } => {
                if !ctx.admit_publish() {
                    return Err(Fault::ConnectionRate);
                }
                if payload.value.len() > ctx.shared.forge.payload_bytes {
                    return Err(Fault::PayloadTooLarge);
                }
                self.publish(ctx, ack, &to, (id, payload.raw()))
            }
            Request::Unsubscribe(topic) => {
                if self.context.is_none() {
                    return Err(Fault::Unauthorized(UNPROVED_YET.to_owned()));
                }
                let topic = Channel::topic(topic);
                let left = ctx.leave(&subscriber(ctx.id), &topic, ack)?;
                // Only now, because after a refused leave the subscription still ends with its
                // token.
                self.endings.forget(&topic);
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
            ctx.local.auth.refusals.note("forge", error.why(), ctx.now.monotonic());
            Fault::Unauthorized(error.to_string())
        })?;
        if self.context.as_ref().is_some_and(|older| !older.is_same_place(&newer)) {
            return Err(Fault::OtherContext);
        }
        self.context = Some(newer);
        self.welcome(ctx, ack);
        Ok(())
    }

    /// Returns the proved context.
    ///
    /// # Errors
    /// [`Fault::Unauthorized`] if the client has proved no context, or the proof has expired.
    fn proved(&self, now: Now) -> Result<Arc<Place>, Fault> {
        let context = self.context.clone();
        let context = context.ok_or_else(|| Fault::Unauthorized(UNPROVED_YET.to_owned()))?;
        if now.wall_seconds() >= context.expires_at {
            return Err(Fault::Unauthorized("the context token has expired".to_owned()));
        }
        Ok(context)
    }

    /// Finds the topic that a request means, and checks that the client may subscribe or publish
    /// there. The grant is that of the realtime token, if the request has one.
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
                (Denied::LongChannel(bytes_max), _) => Fault::LongChannel(bytes_max),
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
        // Each subscribe of a Forge client says which events it wants replayed.
        let joining = Joining { options, reply, replay, replays_again: true, comes_back: false };
        ctx.join(subscriber(ctx.id), &topic, &joining)?;
        if let Some(grant) = grant.filter(|_| enforce_expiry) {
            self.endings.note(topic, grant.expires_at);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        ctx: &mut Context<'_>,
        ack: Option<AckId>,
        to: &Target<'_>,
        (given, payload): (Option<MessageId>, &str),
    ) -> Result<(), Fault> {
        let (topic, _) = self.find_topic(ctx, to, Permission::Publish)?;
        let origin = Origin::Context(self.proved(ctx.now)?);
        let (payload, now) = (ctx.keep(payload), ctx.now);
        let id = given.unwrap_or_else(|| ctx.message_id());
        let event =
            Event::new(ctx.shared, origin.publisher(), &topic, (id, given.is_some()), payload);
        if is_ordered(ctx.shared) {
            let publisher = Publisher::Connection(ctx.id, ack);
            let sent = send_event(ctx.shared, &topic, event, now, publisher);
            return sent.map(|_| ()).map_err(|_| Fault::Overloaded);
        }
        let receipt = publish_event(ctx.shared, &topic, &event, now);
        answer(ctx, ack, receipt.map_err(|_| Fault::Overloaded)?);
        Ok(())
    }

    /// Answers a publish after the cluster's stream has.
    pub(in crate::interface) fn on_settled(ctx: &mut Context<'_>, settled: &Settled) {
        let &Settled { reply: ack, id, at, .. } = settled;
        let fault = match settled.ordered {
            Ordered::Stored(_) => return answer(ctx, ack, Some(EventReceipt { id, at })),
            Ordered::NotHeard => return answer(ctx, ack, None),
            Ordered::Overloaded => Fault::Overloaded,
            Ordered::Unknown => Fault::Unknown(id),
            Ordered::Unproven | Ordered::Unavailable => Fault::Unavailable,
        };
        refuse(ctx, ack, &fault);
    }
}

/// Counts a publish and answers it: with the event, or with `null` if the topic has no
/// subscriber.
fn answer(ctx: &mut Context<'_>, ack: Option<AckId>, receipt: Option<EventReceipt>) {
    let counters = &ctx.local.counters;
    let counter = match receipt {
        Some(_) => &counters.events_socket,
        None => &counters.events_unheard,
    };
    counter.add(1);
    let receipt = receipt.map(|receipt| (receipt.id, receipt.at));
    ctx.send_text(&wire::published(ack, receipt));
}
