//! How a subscription begins and ends, and what a new subscriber receives.

use std::sync::{Arc, OnceLock};

use super::{Channel, ConnId, Encoding, Member, MessageId, Publication};

/// A client's number for the acknowledgement that it waits for.
pub type AckId = u64;

/// Members of a channel as a subscriber is told, shared by all who are told the same.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In order of first joining, cut at
    /// [`PRESENCE_MEMBERS_MAX`](crate::limits::PRESENCE_MEMBERS_MAX).
    pub members: Vec<Arc<Member>>,
    json: OnceLock<Box<str>>,
}

impl Snapshot {
    /// Of these members.
    pub fn new(members: Vec<Arc<Member>>) -> Self {
        Self { members, json: OnceLock::new() }
    }

    /// The members as JSON, made once by `encode`.
    pub fn json(&self, encode: impl FnOnce(&[Arc<Member>]) -> String) -> &str {
        self.json.get_or_init(|| encode(&self.members).into())
    }
}

/// A subscription becomes real: posted to its own worker, so that it takes its place among the
/// publications of the channel.
#[derive(Debug)]
pub struct Activation {
    /// Whose.
    pub connection: ConnId,
    /// Where.
    pub channel: Channel,
    /// Which frames it gets from here on.
    pub encoding: Encoding,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// The connection was subscribed already, perhaps with other frames.
    pub is_again: bool,
    /// The subscription was there before the connection was cut; it hears the channel again once
    /// it has been given what it missed.
    pub comes_back: bool,
    /// Who was there at that moment.
    pub presence: Arc<Snapshot>,
    /// How many were there, counted even where the snapshot is cut.
    pub present: usize,
    /// What the channel kept of what the subscriber asked for.
    pub replay: Replay,
    /// The channel's retained value, if it keeps its last publication.
    pub retained: Retained,
}

/// The retained value of a channel that keeps its last publication ([`Retain::Last`]).
///
/// [`Retain::Last`]: super::Retain::Last
#[derive(Clone, Debug, Default)]
pub enum Retained {
    /// The directory does not know the value; the store does.
    #[default]
    Unknown,
    /// The channel has no value.
    Absent,
    /// The value.
    Value(Arc<Publication>),
}

/// What a channel kept for who subscribes: all of it is from before that moment.
#[derive(Debug, Default)]
pub struct Replay {
    /// What was asked for, the oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// Whether some of it may be missing, because it was let go of before its time.
    pub has_gap: bool,
    /// The newest publication that the channel keeps, asked for or not.
    pub last: Option<MessageId>,
}

/// What a subscriber asks for of what was before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplayWish {
    /// Of so many last seconds; 0 for nothing.
    pub seconds: u32,
    /// Only what came after this one, as long as the channel still has it.
    pub after: Option<MessageId>,
}

/// A subscription ends, at this place among the publications of the channel.
#[derive(Debug)]
pub struct Deactivation {
    /// Whose.
    pub connection: ConnId,
    /// Where.
    pub channel: Channel,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
}
