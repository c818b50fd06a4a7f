//! Beginnings and ends of subscriptions, and the publications that a new subscriber receives.

use std::sync::{Arc, OnceLock};

use super::{Channel, ConnId, Encoding, MarkPlace, Member, MessageId, Offset, Publication};

/// The number by which a client recognises the acknowledgement of its command.
pub type AckId = u64;

/// The members of a channel at one moment, shared by all subscribers that receive the same list.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The members in order of first joining, cut at
    /// [`PRESENCE_MEMBERS_MAX`](crate::limits::PRESENCE_MEMBERS_MAX).
    pub members: Vec<Member>,
    /// Whether a node of the cluster has not told its members.
    pub is_partial: bool,
    json: OnceLock<Box<str>>,
}

impl Snapshot {
    /// Creates a snapshot without its JSON.
    pub fn new(members: Vec<Member>) -> Self {
        Self { members, is_partial: false, json: OnceLock::new() }
    }

    /// Returns the members as JSON, made by `encode` at the first call.
    pub fn json(&self, encode: impl FnOnce(&[Member]) -> String) -> &str {
        self.json.get_or_init(|| encode(&self.members).into())
    }
}

/// The beginning of a subscription. It is posted to the subscriber's worker, so that it has its
/// place among the publications of the channel.
#[derive(Debug)]
pub struct Activation {
    /// The connection of the subscriber.
    pub connection: ConnId,
    /// The channel that it subscribes to.
    pub channel: Channel,
    /// The encoding of the frames that the subscriber receives from here on.
    pub encoding: Encoding,
    /// The acknowledgement that the client waits for.
    pub reply: Option<AckId>,
    /// Whether the connection was subscribed already, perhaps in another encoding.
    pub is_again: bool,
    /// Whether the subscription existed before the connection was cut. Then the subscriber hears
    /// the channel again once it has received what it missed.
    pub comes_back: bool,
    /// The place in the cluster's stream up to which the subscriber receives nothing of the channel
    /// but what it asked for; `None` if the stream does not order the channel.
    pub place: Option<MarkPlace>,
    /// The members of the channel at that moment.
    pub presence: Arc<Snapshot>,
    /// The number of members, counted even if the snapshot is cut.
    pub present: usize,
    /// The publications of the channel's window that the subscriber asked for.
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
    /// The last publication, which is the value.
    Value(Arc<Publication>),
}

/// The publications of a channel's window for a new subscriber. All were published before the
/// subscriber joined.
#[derive(Debug, Default)]
pub struct Replay {
    /// The requested publications, the oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// Whether some of them may be missing because they were dropped early.
    pub has_gap: bool,
    /// The newest publication in the window, requested or not. For a stream it may also be the end
    /// of the channel's log.
    pub last: Option<MessageId>,
    /// Whether the channel knows the publication that [`ReplayWish::after`] names, or all behind
    /// [`ReplayWish::behind`], and `publications` are all that came after it.
    pub is_whole: bool,
}

/// The earlier publications that a subscriber asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplayWish {
    /// Those of this many last seconds; 0 for none.
    pub seconds: u32,
    /// Only those after this one, if the channel still knows it.
    pub after: Option<MessageId>,
    /// Instead, all that the cluster's stream has behind this place, for a session that is resumed.
    pub behind: Option<Offset>,
}

/// The end of a subscription, at this place among the publications of the channel.
#[derive(Debug)]
pub struct Deactivation {
    /// The connection of the subscriber.
    pub connection: ConnId,
    /// The channel that it leaves.
    pub channel: Channel,
    /// The acknowledgement that the client waits for.
    pub reply: Option<AckId>,
}
