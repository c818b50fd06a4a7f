//! Joins and leaves of a worker's connections. Directory and index count them at once; the client's
//! subscription begins or ends when the worker takes the mail about it.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use smallvec::SmallVec;

use super::link::Link;
use super::publish::{Broker, message_id};
use crate::broker::directory::{Announced, Join, Leave, Subscriber};
use crate::broker::index::{self, Counted, Index};

use crate::limits::{NEWCOMER_BYTES, TURN_MAIL_MAX};
use crate::mailbox::{Mail, Mailbox};
use crate::message::{
    AckId, Channel, ChannelOptions, ConnId, Deactivation, Millis, Now, PresenceMode, Refusal,
    Refused, ReplayWish, Space, WorkerId,
};
use crate::metrics::{Counter, Counters};

/// How a client joins a channel.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// The options of the definition that governs the channel.
    pub options: ChannelOptions,
    /// The acknowledgement that the client waits for.
    pub reply: Option<AckId>,
    /// The earlier publications that the client asks for.
    pub replay: ReplayWish,
    /// Whether a client that is subscribed already receives earlier publications once more.
    pub replays_again: bool,
    /// Whether it resumes a subscription that it had before its connection was cut.
    pub comes_back: bool,
}

/// The result of a leave that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The connection was not subscribed: the caller answers at once.
    Already,
    /// The deactivation is in the worker's mailbox; the answer follows when the worker takes it.
    Posted,
}

/// Leaves of closed connections that found a mailbox full. They are tried again until they find
/// places.
#[derive(Debug, Default)]
pub struct DeferredLeaves(VecDeque<Deferred>);

#[derive(Debug)]
struct Deferred {
    channel: Channel,
    subscriber: Subscriber,
    lingers_until: Millis,
}

impl DeferredLeaves {
    /// Returns whether there are no such leaves.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Joins and leaves of one worker, with all that they need.
pub struct Subscriptions<'a> {
    /// Directory, definitions and mailboxes.
    pub broker: &'a Broker,
    /// The id of the worker whose connections join and leave.
    pub worker: WorkerId,
    /// Channels that one connection may be subscribed to.
    pub most: usize,
    /// The index of that worker, by channel and by connection.
    pub index: &'a mut Index,
    /// Leaves to be tried again.
    pub leaves: &'a mut DeferredLeaves,
    /// The source of randomness for the ids of announcements.
    pub random: &'a mut StdRng,
    /// The counters of that worker.
    pub counters: &'a Counters,
    /// The time of the event, on both clocks.
    pub now: Now,
}

impl Subscriptions<'_> {
    /// Counts a subscriber in a channel and posts its activation.
    ///
    /// # Errors
    /// [`Refusal::TooManySubscriptions`], or [`Refusal::Overloaded`] if a mailbox has no free
    /// place.
    pub fn join<F>(
        &mut self,
        link: &mut Link<F>,
        mut subscriber: Subscriber,
        channel: &Channel,
        joining: &Joining,
    ) -> Result<(), Refusal> {
        let &Joining { options, reply, comes_back, .. } = joining;
        subscriber.member = subscriber.member.filter(|_| options.presence != PresenceMode::Off);
        let already = self.index.counted(link.subscriptions, channel);
        let is_present = already.map_or(subscriber.member.is_some(), |counted| counted.is_present);
        let is_full = usize::from(link.subscribed) >= self.most;
        if already.is_none() && is_full {
            return Err(Refusal::TooManySubscriptions);
        }
        if !self.broker.memory.admit(NEWCOMER_BYTES) {
            return Err(Refusal::Overloaded);
        }
        let is_replayed = already.is_none() || joining.replays_again;
        let replay = if is_replayed { joining.replay } else { ReplayWish::default() };
        let wish = Join {
            channel,
            subscriber: &subscriber,
            already: already.map(|counted| counted.encoding),
            options,
            reply,
            comes_back,
            replay,
            announcement: message_id(self.now.wall, self.random),
            now: self.now.wall,
            clock: self.now.monotonic(),
        };
        let announced = self.broker.directory.join(&self.broker.mailboxes.workers, &wish)?;
        self.count_suppressed(announced);
        let counted = Counted { encoding: subscriber.encoding, is_present };
        let slot = subscriber.connection.slot;
        self.index.joined(slot, &mut link.subscriptions, channel, counted);
        if already.is_none() {
            link.subscribed += 1;
            gauge(self.counters, channel.space()).add(1);
        }
        Ok(())
    }

    /// Uncounts a subscriber and posts its deactivation. The encoding is the one under which the
    /// subscriber is counted, whatever `subscriber` says.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] if a mailbox has no free place.
    pub fn leave<F>(
        &mut self,
        link: &mut Link<F>,
        subscriber: &Subscriber,
        channel: &Channel,
        reply: Option<AckId>,
    ) -> Result<Left, Refusal> {
        let first = link.subscriptions;
        let Some(counted) = self.index.counted(first, channel) else {
            return self.leave_again(link, subscriber, channel, reply);
        };
        let leave = Leave {
            channel,
            subscriber: &counted_as(subscriber, counted),
            lives_on: true,
            presence: self.presence_of(channel),
            lingers_until: 0,
            reply,
            announcement: message_id(self.now.wall, self.random),
            now: self.now.wall,
        };
        let announced = self.broker.directory.leave(&self.broker.mailboxes.workers, &leave)?;
        self.count_suppressed(announced);
        self.index.left(first, channel);
        link.subscribed -= 1;
        gauge(self.counters, channel.space()).sub(1);
        Ok(Left::Posted)
    }

    /// Answers an unsubscribe that changes nothing. If an earlier one is still in the mailbox the
    /// answer follows behind it, so that acknowledgements keep their order.
    fn leave_again<F>(
        &mut self,
        link: &Link<F>,
        subscriber: &Subscriber,
        channel: &Channel,
        reply: Option<AckId>,
    ) -> Result<Left, Refusal> {
        let first = link.subscriptions;
        if !self.index.is_pending(first, channel) {
            return Ok(Left::Already);
        }
        let connection = subscriber.connection;
        let deactivation = Deactivation { connection, channel: channel.clone(), reply };
        self.broker.mailboxes.control(self.worker, Mail::Deactivate(Box::new(deactivation)))?;
        self.index.left(first, channel);
        Ok(Left::Posted)
    }

    /// Handles the refusal of a join that was held back.
    pub fn refused<F>(&mut self, link: &mut Link<F>, connection: ConnId, channel: &Channel) {
        if self.index.refuse(&mut link.subscriptions, channel) {
            self.broker.directory.forget_refusal(channel, connection);
            link.subscribed -= 1;
            gauge(self.counters, channel.space()).sub(1);
        }
    }

    /// Leaves every channel in the way of an unsubscribe: the client still receives what was
    /// published before. Returns false if a mailbox had no free place; then the caller must try
    /// again.
    pub fn leave_in_order<F>(&mut self, link: &mut Link<F>, subscriber: &Subscriber) -> bool {
        let all = self.index.of(link.subscriptions);
        let channels: Vec<Channel> = all.map(|(channel, _)| channel.clone()).collect();
        channels.iter().all(|channel| self.leave(link, subscriber, channel, None).is_ok())
    }

    /// Leaves every channel, because the connection or its session ends. Until `lingers_until`, in
    /// milliseconds since the node started, the client still counts as a listener.
    pub fn leave_all<F>(
        &mut self,
        link: &mut Link<F>,
        subscriber: &Subscriber,
        lingers_until: Millis,
    ) {
        let first = std::mem::replace(&mut link.subscriptions, index::NONE);
        link.subscribed = 0;
        let mut left = SmallVec::<[Deferred; 1]>::new();
        self.index.forget(first, |channel, counted| {
            let subscriber = counted_as(subscriber, counted);
            left.push(Deferred { channel, subscriber, lingers_until });
        });
        for leave in left {
            gauge(self.counters, leave.channel.space()).sub(1);
            if self.leave_for_good(&leave).is_err() {
                self.counters.leaves_postponed.add(1);
                self.leaves.0.push_back(leave);
            }
        }
    }

    /// Tries again leaves that found a mailbox full, at most as many as a turn takes mail.
    pub fn retry_leaves(&mut self) {
        for _ in 0..self.leaves.0.len().min(TURN_MAIL_MAX) {
            let Some(leave) = self.leaves.0.pop_front() else { return };
            if self.leave_for_good(&leave).is_err() {
                self.leaves.0.push_back(leave);
            }
        }
    }

    /// Leaves a channel. Announcements of leaves take at most half of the mailboxes, so that a few
    /// connections with thousands of channels do not shut out publishers while they leave.
    fn leave_for_good(&mut self, deferred: &Deferred) -> Result<(), Refused> {
        if !self.broker.mailboxes.workers.iter().all(Mailbox::is_half_free) {
            return Err(Refused::Overloaded);
        }
        let leave = Leave {
            channel: &deferred.channel,
            subscriber: &deferred.subscriber,
            lives_on: false,
            presence: self.presence_of(&deferred.channel),
            lingers_until: deferred.lingers_until,
            reply: None,
            announcement: message_id(self.now.wall, self.random),
            now: self.now.wall,
        };
        let announced = self.broker.directory.leave(&self.broker.mailboxes.workers, &leave)?;
        self.count_suppressed(announced);
        Ok(())
    }

    /// Returns the channel's presence mode; `None` if no definition governs the channel any more.
    fn presence_of(&self, channel: &Channel) -> Option<PresenceMode> {
        if channel.space() != Space::Channels {
            return Some(PresenceMode::Off);
        }
        let definitions = self.broker.definitions.load();
        definitions.find(channel.as_str()).map(|definition| definition.options.presence)
    }

    fn count_suppressed(&self, announced: Announced) {
        if announced == Announced::Suppressed {
            self.counters.announcements_suppressed.add(1);
        }
    }
}

/// Returns the subscriber as the directory counts it in one of its channels.
fn counted_as(subscriber: &Subscriber, counted: Counted) -> Subscriber {
    let member = subscriber.member.clone().filter(|_| counted.is_present);
    Subscriber { encoding: counted.encoding, member, ..*subscriber }
}

/// Returns the gauge of subscriptions in a namespace.
fn gauge(counters: &Counters, space: Space) -> &Counter {
    match space {
        Space::Channels => &counters.subscriptions,
        Space::Topics => &counters.topic_subscriptions,
        Space::Resources => &counters.resource_subscriptions,
    }
}
