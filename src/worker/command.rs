//! Commands of clients: checked, carried out in the directory, answered. And the mail that makes
//! subscriptions begin and end.

use super::conn::{Connection, Kind};
use super::frame::Frame;
use super::replay::{self, Framing};
use super::{Worker, credential, forge, m2, recovery, verdict};
use crate::engine::directory::{Announced, Join, Leave, Subscriber};
use crate::engine::index::{self, Counted};
use crate::hub::{Submission, ToKeep, message_id};
use crate::limits::{SUBSCRIPTIONS_PER_CONNECTION_MAX, TURN_MAIL_MAX};
use crate::mailbox::{Mail, Mailbox};
use crate::message::{
    AckId, Action, Activation, Api, Channel, ChannelOptions, Command, ConnId, Content, Credential,
    Deactivation, Delivery, Durability, Group, Millis, PresenceMode, Refusal, Refused, ReplayWish,
    Reply,
};
use crate::metrics::{Counter, Counters};
use crate::protocol;
use crate::protocol::insforge::{self, Request};

/// A leave that found a mailbox full and must be tried again.
#[derive(Debug)]
pub(super) struct Postponed {
    channel: Channel,
    subscriber: Subscriber,
    lingers_until: Millis,
}

/// Carries a request out, as soon as policies have said what they have to say.
pub(super) fn execute(worker: &mut Worker, id: ConnId, request: Request, ack: Option<AckId>) {
    if let Some(request) = verdict::pass(worker, id, request, ack) {
        carry_out(worker, id, request, ack);
    }
}

/// Carries a request out and answers it, now or when its mail arrives.
pub(super) fn carry_out(worker: &mut Worker, id: ConnId, request: Request, ack: Option<AckId>) {
    let (channel, done) = match request {
        Request::Command(Command::Subscribe { channel, group }) => {
            let done = subscribe(worker, id, &channel, group, ack);
            (Some(channel), done)
        }
        Request::Command(Command::Unsubscribe { channel }) => {
            let done = unsubscribe(worker, id, &channel, ack);
            (Some(channel), done)
        }
        Request::Command(Command::Publish { channel, event, payload }) => {
            let published = publish(worker, id, &channel, event, payload);
            let done = published.map(|reply| answer(worker, id, &reply, ack));
            (Some(channel), done)
        }
        Request::Authenticate(auth) => return credential::refresh(worker, id, &auth, ack),
        Request::Invalid(channel, refusal) => (channel, Err(refusal)),
        Request::Unknown if ack.is_some() => (None, Err(Refusal::Invalid("Unknown event"))),
        // Nobody waits for an answer, and it is no command that went wrong: only counted.
        Request::Unknown => return worker.counters.refused_invalid.add(1),
    };
    if let Err(refusal) = done {
        refuse(worker, id, channel, refusal, ack);
    }
}

/// Refuses a command.
pub(super) fn refuse(
    worker: &mut Worker,
    id: ConnId,
    channel: Option<Channel>,
    refusal: Refusal,
    ack: Option<AckId>,
) {
    count_refusal(&worker.counters, refusal);
    answer(worker, id, &Reply::Refused { channel, refusal }, ack);
}

fn count_refusal(counters: &Counters, refusal: Refusal) {
    let counter = match refusal {
        Refusal::Overloaded => &counters.refused_overloaded,
        Refusal::HistoryFull => &counters.refused_history_queue,
        Refusal::Invalid(_) => &counters.refused_invalid,
        Refusal::SubscribeUnauthorized
        | Refusal::PublishUnauthorized
        | Refusal::Unauthenticated
        | Refusal::OtherIdentity
        | Refusal::Expired => &counters.refused_unauthorized,
        Refusal::NotSubscribed => &counters.refused_not_subscribed,
        Refusal::TooManySubscriptions => &counters.refused_subscriptions,
        Refusal::RateLimited => &counters.refused_rate_limited,
    };
    counter.add(1);
}

/// Answers a command, where there is anything to say.
pub(super) fn answer(worker: &mut Worker, id: ConnId, reply: &Reply, ack: Option<AckId>) {
    let text = match worker.connections.by_id(id).map(|connection| &connection.kind) {
        Some(Kind::Forge(_)) => protocol::forge::reply(reply, ack),
        // Behind a close nothing may follow (RFC 6455 section 5.5.1).
        Some(Kind::Closing { .. }) | None => return,
        // Whoever subscribes is told what there is, and who unsubscribes nothing (contract M9).
        Some(Kind::M2(_)) => return,
        Some(_) => insforge::reply(reply, ack),
    };
    if let Some(text) = text {
        worker.send_text(id.slot, &text);
    }
}

/// The connection and who it speaks for.
pub(super) fn speaker(
    worker: &mut Worker,
    id: ConnId,
) -> Option<(&mut Connection, std::sync::Arc<Credential>)> {
    let connection = worker.connections.by_id(id)?;
    let credential = connection.session()?.credential.clone()?;
    Some((connection, credential))
}

/// Has a client hear a channel, if it may; the acknowledgement follows with its activation.
fn subscribe(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    group: Group,
    reply: Option<AckId>,
) -> Result<(), Refusal> {
    let definition = worker.hub.definitions.load().find(channel.as_str()).cloned();
    let Some((_, credential)) = speaker(worker, id) else { return Ok(()) };
    let definition = definition.ok_or(Refusal::SubscribeUnauthorized)?;
    if !worker.verdicts.allow(Action::Subscribe, channel, &credential) {
        return Err(Refusal::SubscribeUnauthorized);
    }
    if worker.connections.by_id(id).is_some_and(|connection| connection.is_leaving) {
        return Err(Refusal::Overloaded);
    }
    recovery::note_permission(worker, id);
    let options = definition.options;
    let replay = ReplayWish { seconds: options.replay_seconds, after: None };
    join(worker, id, channel, &Joining { group, options, reply, replay, comes_back: false })
}

/// Has a client that was away hear a channel again. False where a mailbox has no room, or there is
/// no such channel any more.
pub(super) fn rejoin(worker: &mut Worker, id: ConnId, channel: &Channel, group: Group) -> bool {
    let definition = worker.hub.definitions.load().find(channel.as_str()).cloned();
    let Some(definition) = definition else { return false };
    let options = definition.options;
    let replay = ReplayWish::default();
    let joining = Joining { group, options, reply: None, replay, comes_back: true };
    join(worker, id, channel, &joining).is_ok()
}

/// How a client joins a channel.
pub(super) struct Joining {
    pub(super) group: Group,
    pub(super) options: ChannelOptions,
    pub(super) reply: Option<AckId>,
    pub(super) replay: ReplayWish,
    pub(super) comes_back: bool,
}

/// Counts the subscriber in the directory.
pub(super) fn join(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    joining: &Joining,
) -> Result<(), Refusal> {
    let &Joining { group, options, reply, replay, comes_back } = joining;
    let Some(connection) = worker.connections.by_id(id) else { return Ok(()) };
    let (first, subscribed) = (connection.subscriptions, connection.subscribed);
    let Some(mut subscriber) = connection.subscriber(id, group) else { return Ok(()) };
    subscriber.member = subscriber.member.filter(|_| options.presence != PresenceMode::Off);
    let already = worker.index.counted(first, channel);
    let is_present = already.map_or(subscriber.member.is_some(), |counted| counted.is_present);
    if already.is_none() && usize::from(subscribed) >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
        return Err(Refusal::TooManySubscriptions);
    }
    // Of what was before it a client of InsForge is given nothing twice; one of Forge asks for it.
    let is_given_again = already.is_none() || channel.api() == Api::Forge;
    let replay = if is_given_again { replay } else { ReplayWish::default() };
    let now = worker.hub.clock.wall();
    let wish = Join {
        channel,
        subscriber: &subscriber,
        already: already.map(|counted| counted.group),
        options,
        reply,
        comes_back,
        replay,
        announcement: message_id(now),
        now,
        clock: worker.hub.clock.monotonic(),
    };
    let announced = worker.hub.directory.join(&worker.hub.mailboxes.workers, &wish)?;
    count_suppressed(&worker.counters, announced);
    let Some(connection) = worker.connections.by_id(id) else { return Ok(()) };
    let counted = Counted { group, is_present };
    worker.index.joined(id.slot, &mut connection.subscriptions, channel, counted);
    if already.is_none() {
        connection.subscribed += 1;
        subscriptions(&worker.counters, channel.api()).add(1);
    }
    Ok(())
}

/// Uncounts the subscriber in the directory; the acknowledgement follows with its deactivation.
pub(super) fn unsubscribe(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    reply: Option<AckId>,
) -> Result<(), Refusal> {
    let now = worker.hub.clock.wall();
    let Some(connection) = worker.connections.by_id(id) else { return Ok(()) };
    let first = connection.subscriptions;
    let Some(anyone) = connection.subscriber(id, ANY) else { return Ok(()) };
    let Some(counted) = worker.index.counted(first, channel) else {
        return unsubscribed_already(worker, id, channel, reply);
    };
    let leave = Leave {
        channel,
        subscriber: &counted_as(&anyone, counted),
        lives_on: true,
        presence: presence_of(worker, channel),
        lingers_until: 0,
        reply,
        announcement: message_id(now),
        now,
    };
    let announced = worker.hub.directory.leave(&worker.hub.mailboxes.workers, &leave)?;
    count_suppressed(&worker.counters, announced);
    worker.index.left(first, channel);
    if let Some(connection) = worker.connections.by_id(id) {
        connection.subscribed -= 1;
        subscriptions(&worker.counters, channel.api()).sub(1);
    }
    Ok(())
}

/// For a subscriber whose group follows from how it is counted.
const ANY: Group = Group::InsforgeSdk;

/// A connection as the directory counts it in one of its channels.
fn counted_as(anyone: &Subscriber, counted: Counted) -> Subscriber {
    let member = anyone.member.clone().filter(|_| counted.is_present);
    Subscriber { group: counted.group, member, ..*anyone }
}

/// What a channel tells of presence by now.
fn presence_of(worker: &Worker, channel: &Channel) -> Option<PresenceMode> {
    if channel.api() != Api::Insforge {
        return Some(PresenceMode::Off);
    }
    let definitions = worker.hub.definitions.load();
    definitions.find(channel.as_str()).map(|definition| definition.options.presence)
}

/// Answers an unsubscribe that changes nothing: where an earlier one is still on its way, behind
/// that one.
fn unsubscribed_already(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    reply: Option<AckId>,
) -> Result<(), Refusal> {
    let Some(connection) = worker.connections.by_id(id) else { return Ok(()) };
    let first = connection.subscriptions;
    if !worker.index.is_pending(first, channel) {
        answer(worker, id, &Reply::Unsubscribed, reply);
        return Ok(());
    }
    let deactivation = Deactivation { connection: id, channel: channel.clone(), reply };
    worker.hub.mailboxes.control(worker.id, Mail::Deactivate(Box::new(deactivation)))?;
    worker.index.left(first, channel);
    Ok(())
}

fn publish(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    event: Box<str>,
    payload: Box<str>,
) -> Result<Reply, Refusal> {
    let definition = worker.hub.definitions.load().find(channel.as_str()).cloned();
    let Some((connection, credential)) = speaker(worker, id) else {
        return Err(Refusal::PublishUnauthorized);
    };
    if connection.is_leaving {
        return Err(Refusal::Overloaded);
    }
    let first = connection.subscriptions;
    if worker.index.counted(first, channel).is_none() {
        return Err(Refusal::NotSubscribed);
    }
    let definition = definition.ok_or(Refusal::PublishUnauthorized)?;
    if !worker.verdicts.allow(Action::Publish, channel, &credential) {
        return Err(Refusal::PublishUnauthorized);
    }
    let (rate, now) = (definition.options.rate_limit, worker.hub.clock.monotonic());
    if !worker.hub.directory.admit(channel, rate, now) {
        return Err(Refusal::RateLimited);
    }
    let at = worker.hub.clock.wall();
    let content = Content::Message { event, payload, sender: credential.sender() };
    let to_keep = ToKeep { definition: &definition, level: Durability::Memory, ticket: None };
    let published = worker.hub.publish(Submission {
        channel: channel.clone(),
        content,
        options: definition.options,
        at,
        history: (!definition.options.ephemeral).then_some(to_keep),
    });
    let (publication, _) = published?;
    worker.counters.publications_socket.add(1);
    Ok(Reply::Published(publication.id))
}

/// Leaves every channel as a client does that goes on listening: what was published before reaches
/// it. False where a mailbox had no room; then it must be tried again.
pub(super) fn leave_in_order(worker: &mut Worker, id: ConnId) -> bool {
    let Some(connection) = worker.connections.by_id(id) else { return true };
    let all = worker.index.of(connection.subscriptions);
    let channels: Vec<Channel> = all.map(|(channel, _)| channel.clone()).collect();
    channels.iter().all(|channel| unsubscribe(worker, id, channel, None).is_ok())
}

/// Leaves every channel, because the connection ends.
pub(super) fn leave_everything(worker: &mut Worker, slot: u32) {
    verdict::forget(worker, slot);
    let id = worker.connections.id(slot);
    m2::leave(worker, id);
    let Some(connection) = worker.connections.by_id(id) else { return };
    let Some(anyone) = connection.subscriber(id, ANY) else { return };
    let first = std::mem::replace(&mut connection.subscriptions, index::NONE);
    connection.subscribed = 0;
    let is_waited_for = connection.forge().is_some_and(|client| !client.has_left);
    let lingers_until = worker.hub.clock.monotonic() + worker.hub.forge.linger();
    let mut left = Vec::new();
    worker.index.forget(first, |channel, counted| {
        let lingers_until = if is_waited_for { lingers_until } else { 0 };
        left.push(Postponed { channel, subscriber: counted_as(&anyone, counted), lingers_until });
    });
    for wish in left {
        subscriptions(&worker.counters, wish.channel.api()).sub(1);
        if leave_for_good(worker, &wish).is_err() {
            worker.counters.leaves_postponed.add(1);
            worker.leaving.push_back(wish);
        }
    }
}

/// Tries leaves again that found a mailbox full, as many as fit into a turn.
pub(super) fn retry_leaves(worker: &mut Worker) {
    for _ in 0..worker.leaving.len().min(TURN_MAIL_MAX) {
        let Some(wish) = worker.leaving.pop_front() else { return };
        if leave_for_good(worker, &wish).is_err() {
            worker.leaving.push_back(wish);
        }
    }
}

/// Announcements of leaves take at most half of the mailboxes, so that a few connections with
/// thousands of channels do not close the node to publishers while they leave.
fn leave_for_good(worker: &Worker, wish: &Postponed) -> Result<(), Refused> {
    if !worker.hub.mailboxes.workers.iter().all(Mailbox::is_half_free) {
        return Err(Refused::Overloaded);
    }
    let now = worker.hub.clock.wall();
    let leave = Leave {
        channel: &wish.channel,
        subscriber: &wish.subscriber,
        lives_on: false,
        presence: presence_of(worker, &wish.channel),
        lingers_until: wish.lingers_until,
        reply: None,
        announcement: message_id(now),
        now,
    };
    let announced = worker.hub.directory.leave(&worker.hub.mailboxes.workers, &leave)?;
    count_suppressed(&worker.counters, announced);
    Ok(())
}

/// Which gauge a subscription counts in.
fn subscriptions(counters: &Counters, api: Api) -> &Counter {
    match api {
        Api::Insforge => &counters.subscriptions,
        Api::Forge => &counters.forge_subscriptions,
        Api::M2 => &counters.m2_subscriptions,
    }
}

fn count_suppressed(counters: &Counters, announced: Announced) {
    if announced == Announced::Suppressed {
        counters.announcements_suppressed.add(1);
    }
}

/// A subscription begins: what is delivered from here on reaches the connection, and before that
/// what the channel kept. Answers how many bytes that was.
pub(super) fn activate(worker: &mut Worker, activation: Activation) -> usize {
    let Activation { connection: id, channel, group, reply, presence, present, .. } = activation;
    if activation.comes_back {
        return 0;
    }
    if !activation.is_again {
        recovery::note_beginning(worker, id, &channel);
    }
    let Some(connection) = worker.connections.by_id(id) else { return 0 };
    if matches!(connection.kind, Kind::Closing { .. }) {
        return 0;
    }
    worker.index.activate(connection.subscriptions, &channel, group);
    if channel.api() == Api::M2 {
        return m2::activated(worker, id, channel, activation.current);
    }
    let (last, replay) = (activation.replay.last, activation.replay);
    let subscribed = Reply::Subscribed { channel: channel.clone(), presence, present, last };
    answer(worker, id, &subscribed, reply);
    if replay.has_gap {
        worker.send_text(id.slot, &protocol::forge::gap(&channel, None));
        worker.counters.gaps.add(1);
    }
    let framing = match (group, reply) {
        (Group::Forge, Some(request)) => Framing::Named(request),
        _ => Framing::Shared(group),
    };
    replay::replay(worker, id, (&channel, framing), &replay.publications)
}

/// A subscription ends: what was delivered up to here reached the connection.
pub(super) fn deactivate(worker: &mut Worker, deactivation: &Deactivation) {
    let Some(connection) = worker.connections.by_id(deactivation.connection) else { return };
    worker.index.deactivate(&mut connection.subscriptions, &deactivation.channel);
    recovery::note_end(worker, deactivation.connection, &deactivation.channel);
    answer(worker, deactivation.connection, &Reply::Unsubscribed, deactivation.reply);
    forge::ended(worker, deactivation.connection, &deactivation.channel);
    m2::deactivated(worker, deactivation.connection, &deactivation.channel);
}

/// Puts a publication into the outbox of everybody here who hears its channel. Answers how many
/// bytes one of them got, at most.
pub(super) fn deliver(worker: &mut Worker, delivery: &Delivery) -> usize {
    let publication = &delivery.publication;
    if let Content::Document { audience: Some(user), .. } = &publication.content {
        return m2::deliver(worker, publication, user);
    }
    let is_delivery = publication.content.is_published();
    let (mut taken, mut dropped, mut bytes) = (0, 0, 0);
    let except = publication.except.filter(|id| *id == worker.connections.id(id.slot));
    let except = except.map(|id| id.slot);
    for &group in publication.channel.groups() {
        let listeners = worker.index.listeners(&publication.channel, group);
        if listeners.is_empty() {
            continue;
        }
        let frame = Frame::of(publication, group);
        bytes = bytes.max(frame.as_ref().len());
        for listener in listeners {
            if Some(listener.connection) == except {
                continue;
            }
            let Some(connection) = worker.connections.get_mut(listener.connection) else {
                continue;
            };
            match worker.drain.push(listener.connection, connection, frame.clone()) {
                true => taken += 1,
                false => dropped += 1,
            }
        }
    }
    if is_delivery {
        worker.counters.matched.add(taken + dropped);
        worker.counters.dropped_slow_consumer.add(dropped);
        worker.undrained.push(publication.accepted);
        recovery::note(worker, publication);
        m2::delivered(worker, publication);
    } else {
        worker.counters.announcements.add(taken);
    }
    bytes
}
