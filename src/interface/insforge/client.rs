//! A client of InsForge Realtime: its identity and its commands, which are checked, run and
//! answered here.
//!
//! A command may depend on a verdict of the policies that the worker does not know yet. Then the
//! command waits in the session's backlog, and all later commands of the client wait behind it.

mod waiting;

use std::sync::Arc;

use bytestring::ByteString;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::backlog::Unfinished;
use super::sharing;
use super::wire::{self, Request};
use crate::broker::directory::Subscriber;
use crate::broker::publish::{Submission, ToKeep};
use crate::broker::subscriptions::{Joining, Left};
use crate::interface::context::Context;
use crate::interface::frame::Frame;
use crate::interface::insforge::command::Command;
use crate::interface::member::{self, SocketKey};
use crate::mailbox::Publisher;
use crate::message::{
    AckId, Action, Activation, Channel, ConnId, Content, Credential, Durability, Encoding, Mark,
    MessageId, Ordered, Publication, Refusal, RepeatKey, ReplayWish, Reply, Role, Settled,
    Transport,
};
use crate::metrics::Counters;

/// The client of a session, from before its CONNECT until the session ends.
#[derive(Debug)]
pub(super) struct Client {
    /// The key of the socket id, which other clients may learn. It is not derived from the session
    /// id, because that is a secret.
    pub(super) socket_key: SocketKey,
    /// Whether the node has answered the client's CONNECT with success. A resuming client is
    /// answered when its subscriptions are active again.
    pub(super) has_entered: bool,
    /// The client's verified credential; `None` before its CONNECT is accepted.
    pub(super) credential: Option<Arc<Credential>>,
    /// The input that the node has received and not yet handled.
    pub(super) unfinished: Unfinished,
}

impl Client {
    /// Creates a client that has not sent its CONNECT.
    pub(super) fn new(random: &mut StdRng) -> Self {
        Self {
            socket_key: random.random(),
            has_entered: false,
            credential: None,
            unfinished: Unfinished::default(),
        }
    }

    /// Returns the id that names the client to other clients.
    pub(super) fn socket_id(&self) -> String {
        member::socket_id(&self.socket_key)
    }

    /// Returns what tells the client from others: the key of its socket id, and its credential.
    pub(super) fn who(&self) -> (SocketKey, Option<&Arc<Credential>>) {
        (self.socket_key, self.credential.as_ref())
    }

    /// Returns the client as the broker counts it in a channel; `None` if it has no credential. All
    /// connections of a user are one member of presence, each other connection is its own.
    pub(super) fn subscriber(
        &self,
        connection: ConnId,
        encoding: Encoding,
        transport: Transport,
    ) -> Option<Subscriber> {
        let credential = self.credential.as_ref()?;
        let member = Some(member::id(credential, &self.socket_key));
        Some(Subscriber { connection, encoding, transport, member })
    }

    /// Leaves all channels and drops the waiting commands, because the client left the namespace or
    /// could not resume its session.
    pub(super) fn leave_all(&mut self, ctx: &mut Context<'_>) {
        self.drop_backlog(ctx);
        if let Some(subscriber) = self.any_subscriber(ctx) {
            ctx.leave_all(&subscriber, 0);
        }
    }

    /// Drops the waiting commands and takes them out of the worker's counts.
    pub(super) fn drop_backlog(&mut self, ctx: &mut Context<'_>) {
        let (commands, bytes) = self.unfinished.drop_backlog();
        ctx.local.authorizer.left(commands, bytes);
        ctx.local.counters.commands_waiting.sub(commands as u64);
    }

    /// Returns the subscriber for a leave. Its encoding is arbitrary, because the broker knows
    /// which encoding each of the connection's subscriptions has.
    fn any_subscriber(&self, ctx: &Context<'_>) -> Option<Subscriber> {
        self.subscriber(ctx.id, Encoding::Sdk, ctx.transport())
    }
}

/// The commands, and their answers once mail has settled them.
impl Client {
    /// Runs a command. It is answered at once, or when the worker takes the activation or
    /// deactivation that it posts.
    fn carry_out(&mut self, ctx: &mut Context<'_>, request: Request, ack: Option<AckId>) {
        let (channel, done) = match request {
            Request::Command(Command::Subscribe { channel, encoding }) => {
                let done = self.subscribe(ctx, &channel, encoding, ack);
                (Some(channel), done)
            }
            Request::Command(Command::Unsubscribe { channel }) => {
                let done = self.unsubscribe(ctx, &channel, ack);
                (Some(channel), done)
            }
            Request::Command(Command::Publish { channel, event, payload, id }) => {
                return match self.publish(ctx, &channel, (event, payload, id), ack) {
                    Ok(Some(id)) => published(ctx, id, ack),
                    Ok(None) => {}
                    Err(refusal) => refuse(ctx, Some(channel), refusal, ack),
                };
            }
            Request::Authenticate(auth) => (None, self.authenticate(ctx, &auth, ack)),
            Request::Invalid(channel, refusal) => (channel, Err(refusal)),
            Request::Unknown if ack.is_some() => (None, Err(Refusal::Invalid("Unknown event"))),
            // The client requested no acknowledgement, and the event is not a command that could
            // fail: it is only counted.
            Request::Unknown => return ctx.local.counters.refused_invalid.add(1),
        };
        if let Err(refusal) = done {
            refuse(ctx, channel, refusal, ack);
        }
    }

    /// Subscribes the client to a channel if a definition and the policies allow it.
    /// [`Client::on_joined`] acknowledges the command.
    fn subscribe(
        &mut self,
        ctx: &mut Context<'_>,
        channel: &Channel,
        encoding: Encoding,
        reply: Option<AckId>,
    ) -> Result<(), Refusal> {
        let definition = ctx.shared.broker.definitions.load().find(channel.as_str()).cloned();
        let Some(credential) = &self.credential else { return Ok(()) };
        let definition = definition.ok_or(Refusal::SubscribeUndefined)?;
        if !ctx.local.authorizer.allows(Action::Subscribe, channel, credential) {
            return Err(Refusal::SubscribeUnauthorized);
        }
        if ctx.link.is_leaving() {
            return Err(Refusal::Overloaded);
        }
        note_permission(ctx);
        let options = definition.options;
        let replay = ReplayWish { seconds: options.retain.seconds(), after: None, behind: None };
        let joining = Joining { options, reply, replay, replays_again: false, comes_back: false };
        let subscriber = self.subscriber(ctx.id, encoding, ctx.transport());
        subscriber.map_or(Ok(()), |subscriber| ctx.join(subscriber, channel, &joining))
    }

    /// Acknowledges a subscription and sends the channel's retained publications. Returns the bytes
    /// of the publications sent.
    pub(super) fn on_joined(ctx: &mut Context<'_>, activation: Activation) -> usize {
        sharing::joined(ctx, &activation);
        let has_replay = !activation.replay.publications.is_empty();
        let mark = has_replay.then(|| sharing::replayed(ctx, &activation)).flatten();
        let Activation { channel, encoding, reply, presence, present, replay, .. } = activation;
        let last = replay.last;
        let subscribed = Reply::Subscribed { channel: channel.clone(), presence, present, last };
        answer(ctx, &subscribed, reply);
        let publications = &replay.publications;
        let is_last =
            |one: &Arc<Publication>| publications.last().is_some_and(|it| Arc::ptr_eq(it, one));
        let own_frame = |publication: &Arc<Publication>| {
            let mark = mark.filter(|_| is_last(publication))?;
            Some(Frame::marked(publication, encoding, &mark))
        };
        let replayed = ctx.replay((&channel, encoding), publications, usize::MAX, own_frame);
        if let Some(last) = publications.last().filter(|_| replayed.is_any_given) {
            note_replay(ctx, mark.unwrap_or_else(|| last.mark()));
        }
        replayed.bytes
    }

    /// Publishes a message. Returns its id, or `None` if the client is answered later, by
    /// [`Client::on_settled`].
    fn publish(
        &mut self,
        ctx: &mut Context<'_>,
        channel: &Channel,
        (event, payload, given): (Box<str>, ByteString, Option<MessageId>),
        ack: Option<AckId>,
    ) -> Result<Option<MessageId>, Refusal> {
        let definition = ctx.shared.broker.definitions.load().find(channel.as_str()).cloned();
        let credential = self.credential.as_ref().ok_or(Refusal::PublishUnauthorized)?;
        if ctx.link.is_leaving() {
            return Err(Refusal::Overloaded);
        }
        if credential.role != Role::ProjectAdmin && !ctx.admit_publish() {
            return Err(Refusal::ConnectionRate);
        }
        if !ctx.is_subscribed(channel) {
            return Err(Refusal::NotSubscribed);
        }
        let definition = definition.ok_or(Refusal::PublishUndefined)?;
        if !ctx.local.authorizer.allows(Action::Publish, channel, credential) {
            return Err(Refusal::PublishUnauthorized);
        }
        let (options, now) = (definition.options, ctx.now);
        if !ctx.shared.broker.directory.admit(channel, options.rate_limit, now.monotonic()) {
            return Err(Refusal::RateLimited);
        }
        let to_keep = ToKeep { definition: &definition, level: Durability::Memory, ticket: None };
        let is_ordered = ctx.shared.broker.is_ordered(options);
        let id = given.unwrap_or_else(|| ctx.message_id());
        let repeat = (is_ordered || given.is_some())
            .then(|| RepeatKey::of(&credential.publisher(), channel, id));
        let submission = Submission {
            id,
            channel: channel.clone(),
            content: Content::Message { event, payload, sender: credential.sender() },
            options,
            now,
            is_recoverable: ctx.shared.recovery.is_some(),
            history: (!options.ephemeral).then_some(to_keep),
            repeat,
        };
        if is_ordered {
            ctx.shared.broker.send(submission, Publisher::Connection(ctx.id, ack))?;
            return Ok(None);
        }
        let (publication, _) = ctx.shared.publish(submission)?;
        Ok(Some(publication.id))
    }

    /// Answers a publish command after the cluster's stream has.
    pub(super) fn on_settled(ctx: &mut Context<'_>, settled: Settled) {
        let Settled { channel, reply, id, ordered, .. } = settled;
        let refusal = match ordered {
            Ordered::Stored(_) => return published(ctx, id, reply),
            Ordered::Overloaded => Refusal::Overloaded,
            Ordered::Unknown => Refusal::Unknown(id),
            Ordered::NotHeard | Ordered::Unproven | Ordered::Unavailable => Refusal::Unavailable,
        };
        refuse(ctx, Some(channel), refusal, reply);
    }

    /// Unsubscribes the client from a channel. [`Client::on_left`] acknowledges the command; if the
    /// client was not subscribed, it is acknowledged at once.
    fn unsubscribe(
        &mut self,
        ctx: &mut Context<'_>,
        channel: &Channel,
        reply: Option<AckId>,
    ) -> Result<(), Refusal> {
        let Some(subscriber) = self.any_subscriber(ctx) else { return Ok(()) };
        match ctx.leave(&subscriber, channel, reply)? {
            Left::Already => {
                // The node that stops has ended the subscription before its client did.
                if ctx.link.is_leaving() {
                    sharing::left(ctx, channel, true);
                }
                answer(ctx, &Reply::Unsubscribed, reply);
            }
            Left::Posted => {}
        }
        Ok(())
    }

    /// Acknowledges an unsubscribe command.
    pub(super) fn on_left(ctx: &mut Context<'_>, channel: &Channel, reply: Option<AckId>) {
        sharing::left(ctx, channel, reply.is_some());
        answer(ctx, &Reply::Unsubscribed, reply);
    }

    /// Replaces the client's credential by a newer one of the same identity, by which all later
    /// commands are judged.
    ///
    /// # Errors
    /// If the newer credential is invalid or belongs to another identity. The older one stays.
    fn authenticate(
        &mut self,
        ctx: &mut Context<'_>,
        auth: &str,
        ack: Option<AckId>,
    ) -> Result<(), Refusal> {
        let newer = ctx.local.auth.users.connect(auth, ctx.now.wall_seconds());
        let newer = newer.map_err(|error| {
            ctx.local.auth.refusals.note("insforge", error.why(), ctx.now.monotonic());
            Refusal::Unauthenticated(error.why())
        })?;
        let is_same = |older: &Arc<Credential>| is_same_identity(&newer, older);
        if !self.credential.as_ref().is_some_and(is_same) {
            return Err(Refusal::OtherIdentity);
        }
        self.credential = Some(newer);
        sharing::changed(ctx);
        answer(ctx, &Reply::Authenticated, ack);
        Ok(())
    }
}

/// Counts an accepted publication and answers its command.
fn published(ctx: &mut Context<'_>, id: MessageId, ack: Option<AckId>) {
    ctx.local.counters.publications_socket.add(1);
    answer(ctx, &Reply::Published(id), ack);
}

/// Counts a refusal and answers the client with it.
pub(super) fn refuse(
    ctx: &mut Context<'_>,
    channel: Option<Channel>,
    refusal: Refusal,
    ack: Option<AckId>,
) {
    count_refusal(&ctx.local.counters, refusal);
    if matches!(refusal, Refusal::SubscribeUndefined | Refusal::PublishUndefined) {
        ctx.local.auth.refusals.note("insforge", Refusal::UNDEFINED, ctx.now.monotonic());
    }
    answer(ctx, &Reply::Refused { channel, refusal }, ack);
}

/// Sends the answer to a command. A success without a requested acknowledgement has no answer.
fn answer(ctx: &mut Context<'_>, reply: &Reply, ack: Option<AckId>) {
    if let Some(text) = wire::reply(reply, ack) {
        ctx.send_text(&text);
    }
}

fn count_refusal(counters: &Counters, refusal: Refusal) {
    let counter = match refusal {
        Refusal::Overloaded => &counters.refused_overloaded,
        Refusal::HistoryFull => &counters.refused_history_queue,
        Refusal::Invalid(_) | Refusal::LongChannel(_) => &counters.refused_invalid,
        Refusal::SubscribeUnauthorized
        | Refusal::SubscribeUndefined
        | Refusal::PublishUnauthorized
        | Refusal::PublishUndefined
        | Refusal::Unauthenticated(_)
        | Refusal::OtherIdentity
        | Refusal::Expired => &counters.refused_unauthorized,
        Refusal::NotSubscribed => &counters.refused_not_subscribed,
        Refusal::TooManySubscriptions => &counters.refused_subscriptions,
        Refusal::TooLarge | Refusal::LongPayload(_) => &counters.refused_too_large,
        Refusal::ConnectionRate => &counters.refused_connection_rate,
        Refusal::RateLimited => &counters.refused_rate_limited,
        Refusal::Unavailable | Refusal::Unknown(_) => &counters.refused_backplane,
    };
    counter.add(1);
}

fn is_same_identity(one: &Credential, other: &Credential) -> bool {
    (&one.id, one.is_user) == (&other.id, other.is_user)
}

/// Records the version of the policies that allowed the session's first subscription, if the
/// session can be resumed: it can be resumed only while that version is in force.
fn note_permission(ctx: &mut Context<'_>) {
    let version = ctx.local.authorizer.judged_by();
    if let Some(state) = ctx.link.resume_mut() {
        state.policies.get_or_insert(version);
    }
}

/// Records what the client remembers of the last retained publication that it was sent, if the
/// session can be resumed.
fn note_replay(ctx: &mut Context<'_>, mark: Mark) {
    let (Some(detached), Some(state)) = (&ctx.local.detached, ctx.link.resume_mut()) else {
        return;
    };
    state.sent.replayed = Some((detached.log.end(), mark));
    state.sent.last = state.sent.replayed;
}
