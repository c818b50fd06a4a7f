//! What the directory is asked, and what it answers.

use crate::broker::presence::MemberKey;
use crate::message::{
    AckId, Audience, Channel, ChannelOptions, ConnId, Encoding, MessageId, Millis, Offset,
    PresenceMode, ReplayWish, Transport,
};

/// A connection in a channel, as the directory counts it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The connection.
    pub connection: ConnId,
    /// Its frames.
    pub encoding: Encoding,
    /// Its transport.
    pub transport: Transport,
    /// As whom it is present, unless it does not count.
    pub member: Option<MemberKey>,
}

/// A wish to subscribe.
#[derive(Debug)]
pub struct Join<'a> {
    /// Where.
    pub channel: &'a Channel,
    /// Who.
    pub subscriber: &'a Subscriber,
    /// The encoding under which the connection is subscribed already, where it is: then only its
    /// frames change and it is acknowledged again.
    pub already: Option<Encoding>,
    /// How the channel behaves.
    pub options: ChannelOptions,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// Whether it comes back to a subscription that it had before its connection was cut.
    pub comes_back: bool,
    /// What it asks for of what was before.
    pub replay: ReplayWish,
    /// The id of the announcement that may follow.
    pub announcement: MessageId,
    /// Now.
    pub now: Millis,
    /// Now, on the clock by which publications are accepted.
    pub clock: Millis,
}

/// A wish to hear no more.
#[derive(Debug)]
pub struct Leave<'a> {
    /// Where.
    pub channel: &'a Channel,
    /// Who.
    pub subscriber: &'a Subscriber,
    /// Whether the connection lives on, and so must be told where its subscription ended.
    pub lives_on: bool,
    /// What the channel tells of presence; none where no definition governs it any more.
    pub presence: Option<PresenceMode>,
    /// Until when it counts as somebody who listens, on the clock by which publications are
    /// accepted; 0 for no longer.
    pub lingers_until: Millis,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// The id of the announcement that may follow.
    pub announcement: MessageId,
    /// Now.
    pub now: Millis,
}

/// What the others in the channel were told of a join or leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// What there was to tell, or nothing because no member came or went.
    Yes,
    /// Nothing, because too many are present for announcements.
    Suppressed,
}

impl Announced {
    pub(super) fn of(mode: PresenceMode, member_changed: bool, announced: bool) -> Self {
        let is_due = mode == PresenceMode::Full && member_changed;
        if is_due && !announced { Self::Suppressed } else { Self::Yes }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Published {
    /// Its place in the channel; 0 where nobody is subscribed and nothing is kept.
    pub offset: Offset,
    /// Whom it was posted to.
    pub audience: Audience,
}
