//! The session of an M2 client: its subscriptions, and how it receives their documents.
//!
//! A subscriber is counted in the directory first. If the directory knows the current document, the
//! activation carries it. If not, the store is asked, and documents published meanwhile are sent at
//! once ([`PendingLoads`](super::loads::PendingLoads)). If a client does not keep up, its documents
//! become stale instead of being sent, and are read again once it has taken its frames.

use std::sync::Arc;

use super::limits::STALE_RELOADED_MAX;
use super::loads::Waiter;
use super::nouns::{Party, channel_of, resource_of};
use super::waiters::{Answer, Beginning, Wants};
use super::wire::{self, Fault, Request};
use crate::broker::directory::Subscriber;
use crate::broker::subscriptions::Joining;
use crate::codec::json::Document;
use crate::codec::websocket::{Opcode, frame};
use crate::config::M2 as Terms;
use crate::interface::context::Context;
use crate::interface::heartbeat::beat;
use crate::interface::heartbeat::{Heartbeat, Timings};
use crate::interface::next::{Close, End, Next, Reason};
use crate::interface::shared::Shared;
use crate::message::{
    Activation, Channel, ConnId, Encoding, Found, Load, Millis, Now, Publication, Refusal,
    ReplayWish, Transport,
};

/// Close code of a client whose token has expired (RFC 6455 section 7.4.1: policy violation).
const EXPIRED: u16 = 1008;

/// The session of one client.
#[derive(Debug)]
pub struct Session {
    party: Arc<Party>,
    heartbeat: Heartbeat,
}

impl Session {
    /// Creates the session of a client that connects now.
    pub fn new(party: Arc<Party>, now: Now, timings: &Timings) -> Self {
        Self { party, heartbeat: Heartbeat::new(now.monotonic(), timings) }
    }

    /// Returns when [`Self::on_deadline`] is due next, in milliseconds since the node started.
    pub(in crate::interface) fn deadline(&self, now: Now, shared: &Shared) -> Millis {
        let due = self.heartbeat.due();
        shared.closes_at(self.party.expires_at, now).map_or(due, |expires| expires.min(due))
    }

    /// Adds the connection to those of its user, which receive the user's own documents.
    pub(in crate::interface) fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        if let Some(user) = &self.party.user {
            ctx.local.index.user_came(user, ctx.id.slot);
        }
        Next::Stay
    }

    /// Notes that the client has answered a ping.
    pub(in crate::interface) fn on_pong(&mut self, ctx: &mut Context<'_>) {
        self.heartbeat.pong(ctx.now.monotonic(), &ctx.shared.timings);
    }

    /// Closes the connection if its token has expired. Otherwise pings the client if a ping is due.
    pub(in crate::interface) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let closes_at = ctx.shared.closes_at(self.party.expires_at, ctx.now);
        if closes_at.is_some_and(|at| at <= ctx.now.monotonic()) {
            let (code, text) = (Some(EXPIRED), "the token has expired");
            return Next::Close(Close { code, text, reason: Reason::Expired });
        }
        beat(&mut self.heartbeat, ctx, || frame(Opcode::Ping, &[]))
    }

    /// Carries out a message. A refused message is answered and does not end the connection.
    pub(in crate::interface) fn on_text(&mut self, ctx: &mut Context<'_>, text: &str) {
        self.heartbeat.sign_of_life(ctx.now.monotonic(), &ctx.shared.timings);
        let done = ctx.with_json(|ctx, scratch| match Document::from_text(text, scratch) {
            Ok(document) => wire::read(&document).and_then(|request| self.carry_out(ctx, &request)),
            Err(_) => Err(Fault::Message),
        });
        if let Err(fault) = done {
            refuse(ctx, fault);
        }
    }

    /// Refuses a binary message: all messages of the protocol are text.
    pub(in crate::interface) fn on_binary(&mut self, ctx: &mut Context<'_>) {
        refuse(ctx, Fault::Message);
    }

    fn carry_out(&mut self, ctx: &mut Context<'_>, request: &Request<'_>) -> Result<(), Fault> {
        let scope = &self.party.scope;
        match *request {
            Request::Subscribe(_, name) if name.len() > ctx.shared.config.limits.channel_bytes => {
                Err(Fault::IdTooLong)
            }
            Request::Subscribe(kind, name) => subscribe(ctx, &channel_of(scope, kind, name)),
            Request::Unsubscribe(kind, name) => {
                let resource = channel_of(scope, kind, name);
                // An unsubscribe is not answered.
                ctx.leave(&subscriber(ctx.id), &resource, None).map(|_| ()).map_err(fault)
            }
        }
    }

    /// Refuses a message that is too long.
    pub(in crate::interface) fn refuse_too_long(ctx: &mut Context<'_>) {
        refuse(ctx, Fault::TooLong);
    }

    /// Begins a subscription: sends the client the documents that are known and asks the store for
    /// the others. Returns how many bytes of documents were queued.
    pub(in crate::interface) fn on_joined(
        &mut self,
        ctx: &mut Context<'_>,
        activation: Activation,
    ) -> usize {
        let Activation { channel: resource, retained, .. } = activation;
        let user = self.party.user.clone();
        let Beginning { document, is_not_found, wants } = Beginning::of(&resource, retained, user);
        if is_not_found {
            tell_not_found(ctx, &resource);
        }
        let mut bytes = 0;
        let mut is_stale = false;
        if let Some(document) = document {
            bytes = ctx.deliver(&document, Encoding::Resource);
            is_stale = ctx.link.is_stale_in(&document);
        }
        match wants {
            Some(wants) => {
                let wants = if is_stale { wants.untold() } else { wants };
                ctx.local.loads.begin(ctx.shared, ctx.id, &resource, wants);
            }
            None if is_stale => _ = remember_unanswered(ctx, &resource, 1),
            None => {}
        }
        bytes
    }

    /// Forgets pending reads and stale documents of a subscription that has ended.
    pub(in crate::interface) fn on_left(&mut self, ctx: &mut Context<'_>, resource: &Channel) {
        ctx.local.loads.end(resource, ctx.id);
        if ctx.link.is_stale() {
            ctx.link.with_stale(|stale| stale.end(resource));
        }
    }

    /// Sends the client the documents that the store has found; `found` is `None` if the read
    /// failed. Skips documents that are not newer than those already sent. Returns how many bytes
    /// of documents were queued.
    pub(in crate::interface) fn on_loaded(
        &mut self,
        ctx: &mut Context<'_>,
        (load, waiter): (&Load, &Waiter),
        found: Option<Found<Arc<Publication>>>,
    ) -> usize {
        let Some(found) = found else {
            // Stale documents are read again after the next frame was sent, a ping at the latest.
            let documents = waiter.wants().stale_documents(&load.resource);
            ctx.link.with_stale(|stale| documents.for_each(|document| stale.insert(document)));
            // Each unanswered subscribe receives an error. If documents have answered all of them,
            // one error says that not all documents are known.
            let (times, unanswered) = waiter.wants().subscribes();
            (0..unanswered.max(times.min(1))).for_each(|_| refuse(ctx, Fault::Unavailable));
            return 0;
        };
        let tells_deletions = ctx.shared.m2.notify_deletes;
        let Answer { documents, times, unanswered, is_not_found } =
            waiter.answer(found, tells_deletions);
        let (mut bytes, mut is_told) = (0, unanswered == 0);
        for document in (0..times).flat_map(|_| &documents) {
            bytes += ctx.deliver(document, Encoding::Resource);
            is_told |= !ctx.link.is_stale_in(document);
        }
        if !is_told && !remember_unanswered(ctx, &load.resource, unanswered) && is_not_found {
            (0..unanswered).for_each(|_| tell_not_found(ctx, &load.resource));
        }
        bytes
    }

    /// Asks the store for stale documents, [`STALE_RELOADED_MAX`] at a time, once the client has
    /// taken all its frames.
    pub(in crate::interface) fn on_drained(&mut self, ctx: &mut Context<'_>) {
        let stale = ctx.link.with_stale(|stale| stale.take(STALE_RELOADED_MAX));
        for (document, unanswered) in stale {
            let wants = Wants::reload(&document, unanswered, self.party.user.clone());
            ctx.local.loads.begin(ctx.shared, ctx.id, &document.resource, wants);
        }
    }

    /// Removes the ending connection from those of its user.
    pub(in crate::interface) fn on_end(&mut self, ctx: &mut Context<'_>) -> End {
        if let Some(user) = &self.party.user {
            ctx.local.index.user_left(user, ctx.id.slot);
        }
        End::default()
    }
}

/// Returns the connection as a subscriber of resources.
fn subscriber(connection: ConnId) -> Subscriber {
    let (encoding, transport) = (Encoding::Resource, Transport::WebSocket);
    Subscriber { connection, encoding, transport, member: None }
}

fn subscribe(ctx: &mut Context<'_>, resource: &Channel) -> Result<(), Fault> {
    let is_full = usize::from(ctx.link.subscribed) >= ctx.shared.m2.subscriptions;
    if is_full && !ctx.link.is_leaving() && !ctx.is_subscribed(resource) {
        return Err(Fault::TooManySubscriptions);
    }
    let joining = Joining {
        options: Terms::OPTIONS,
        reply: None,
        replay: ReplayWish::default(),
        replays_again: false,
        comes_back: false,
    };
    ctx.join(subscriber(ctx.id), resource, &joining).map_err(fault)
}

fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::TooManySubscriptions => Fault::TooManySubscriptions,
        // Joining and leaving a resource return only one other refusal, `Overloaded`.
        _ => Fault::Overloaded,
    }
}

/// Notes that a stale document of the resource will answer `times` subscribes when it is read
/// again. Returns false if no document of the resource is stale.
fn remember_unanswered(ctx: &mut Context<'_>, resource: &Channel, times: u16) -> bool {
    ctx.link.is_stale() && ctx.link.with_stale(|stale| stale.add_unanswered(resource, times))
}

fn tell_not_found(ctx: &mut Context<'_>, resource: &Channel) {
    if let Some((kind, _)) = resource_of(resource) {
        ctx.send_text(&wire::not_found(kind));
    }
}

fn refuse(ctx: &mut Context<'_>, fault: Fault) {
    let counters = &ctx.local.counters;
    let counter = match fault {
        Fault::Message | Fault::IdTooLong => &counters.refused_invalid,
        Fault::TooLong => &counters.refused_too_large,
        Fault::TooManySubscriptions => &counters.refused_subscriptions,
        Fault::Overloaded | Fault::Unavailable => &counters.refused_overloaded,
    };
    counter.add(1);
    tracing::debug!(%fault, "refusing a message of M2");
    ctx.send_text(&wire::error(fault));
}
