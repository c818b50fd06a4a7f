//! Requests to the directory, and its answers.

use crate::mailbox::{Mail, Mailbox, Reservation, Slot, WorkerMailboxes, WorkerSet};
use crate::message::{
    AckId, Audience, Channel, ChannelOptions, ConnId, Deactivation, Encoding, MemberId, MessageId,
    Millis, Offset, PresenceMode, Refused, ReplayWish, Transport,
};

/// A connection in a channel, as the directory counts it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The connection that receives the publications.
    pub connection: ConnId,
    /// The encoding of its frames.
    pub encoding: Encoding,
    /// The transport of the connection, by which the directory counts it.
    pub transport: Transport,
    /// The member that it belongs to; `None` if it does not count for presence.
    pub member: Option<MemberId>,
}

/// A request to subscribe.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// The channel to join.
    pub channel: &'a Channel,
    /// The subscriber that joins.
    pub subscriber: &'a Subscriber,
    /// The encoding under which the connection is already subscribed, if it is. Then only its
    /// encoding changes, and it is acknowledged again.
    pub already: Option<Encoding>,
    /// The options of the definition that governs the channel.
    pub options: ChannelOptions,
    /// The acknowledgement that the client waits for.
    pub reply: Option<AckId>,
    /// Whether the client resumes a subscription that it had before its connection was cut.
    pub comes_back: bool,
    /// The earlier publications that the client asks for.
    pub replay: ReplayWish,
    /// The id of the announcement, if the join is announced.
    pub announcement: MessageId,
    /// The time, in milliseconds since the epoch.
    pub now: Millis,
    /// The time, in milliseconds since the node started: the clock of [`Publication::accepted`].
    ///
    /// [`Publication::accepted`]: crate::message::Publication::accepted
    pub clock: Millis,
}

/// A request to subscribe that is held back.
#[derive(Debug)]
pub(super) struct HeldJoin {
    pub(super) subscriber: Subscriber,
    already: Option<Encoding>,
    options: ChannelOptions,
    pub(super) reply: Option<AckId>,
    comes_back: bool,
    pub(super) replay: ReplayWish,
    announcement: MessageId,
    now: Millis,
    pub(super) clock: Millis,
    /// Whether what is earlier was read since it is held, perhaps from before that.
    pub(super) has_been_read_for: bool,
}

impl HeldJoin {
    pub(super) fn of(join: &Join<'_>) -> Self {
        Self {
            subscriber: join.subscriber.clone(),
            already: join.already,
            options: join.options,
            reply: join.reply,
            comes_back: join.comes_back,
            replay: join.replay,
            announcement: join.announcement,
            now: join.now,
            clock: join.clock,
            has_been_read_for: false,
        }
    }

    pub(super) fn to_join<'a>(&'a self, channel: &'a Channel) -> Join<'a> {
        Join {
            channel,
            subscriber: &self.subscriber,
            already: self.already,
            options: self.options,
            reply: self.reply,
            comes_back: self.comes_back,
            replay: self.replay,
            announcement: self.announcement,
            now: self.now,
            clock: self.clock,
        }
    }
}

/// A request to end a subscription that is held back. Its connection lives.
#[derive(Debug)]
pub(super) struct HeldLeave {
    pub(super) subscriber: Subscriber,
    presence: Option<PresenceMode>,
    lingers_until: Millis,
    pub(super) reply: Option<AckId>,
    announcement: MessageId,
    now: Millis,
}

impl HeldLeave {
    pub(super) fn of(leave: &Leave<'_>) -> Self {
        Self {
            subscriber: leave.subscriber.clone(),
            presence: leave.presence,
            lingers_until: leave.lingers_until,
            reply: leave.reply,
            announcement: leave.announcement,
            now: leave.now,
        }
    }

    pub(super) fn to_leave<'a>(&'a self, channel: &'a Channel) -> Leave<'a> {
        Leave {
            channel,
            subscriber: &self.subscriber,
            lives_on: true,
            presence: self.presence,
            lingers_until: self.lingers_until,
            reply: self.reply,
            announcement: self.announcement,
            now: self.now,
        }
    }
}

/// A request to end a subscription.
#[derive(Debug)]
pub struct Leave<'a> {
    /// The channel to leave.
    pub channel: &'a Channel,
    /// The subscriber that leaves.
    pub subscriber: &'a Subscriber,
    /// Whether the connection stays open, so that it must learn where its subscription ended.
    pub lives_on: bool,
    /// The channel's presence mode; `None` if no definition governs the channel any more.
    pub presence: Option<PresenceMode>,
    /// Until when the client still counts as a listener, or the channel's log outlives a stream, in
    /// milliseconds since the node started; 0 if neither.
    pub lingers_until: Millis,
    /// The acknowledgement that the client waits for.
    pub reply: Option<AckId>,
    /// The id of the announcement, if the leave is announced.
    pub announcement: MessageId,
    /// The time, in milliseconds since the epoch.
    pub now: Millis,
}

impl Leave<'_> {
    /// Reserves the place for the end of the subscription; `None` if the connection need not learn
    /// it.
    pub(super) fn reserve_end<'m>(
        &self,
        mailboxes: &'m WorkerMailboxes,
    ) -> Result<Option<Reservation<'m, Mailbox<Mail>>>, Refused> {
        if !self.lives_on {
            return Ok(None);
        }
        let mailbox = mailboxes.of(self.subscriber.connection.worker);
        mailbox.reserve(Slot::Control).map(Some).ok_or(Refused::Overloaded)
    }

    /// Posts the end of the subscription. Returns the worker to wake.
    pub(super) fn post_end(&self, place: Option<Reservation<'_, Mailbox<Mail>>>) -> WorkerSet {
        let mut posted = WorkerSet::default();
        let connection = self.subscriber.connection;
        if let Some(place) = place {
            let (channel, reply) = (self.channel.clone(), self.reply);
            place.post(Mail::Deactivate(Box::new(Deactivation { connection, channel, reply })));
            posted.insert(connection.worker);
        }
        posted
    }
}

/// Whether a join or leave was announced to the channel's other subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// It was announced, or it did not have to be.
    Yes,
    /// It was not announced, because the channel has too many members for announcements.
    Suppressed,
}

impl Announced {
    pub(super) fn of(mode: PresenceMode, member_changed: bool, announced: bool) -> Self {
        let is_due = mode == PresenceMode::Full && member_changed;
        if is_due && !announced { Self::Suppressed } else { Self::Yes }
    }
}

/// The result of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Published {
    /// The publication's place in the channel; 0 if it has none, because the channel has neither
    /// subscribers nor anything to keep, or because the listener that it needs is missing.
    pub offset: Offset,
    /// The number of subscribers that it was posted to.
    pub audience: Audience,
}
