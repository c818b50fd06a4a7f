//! What the nodes of a cluster tell each other of the members of a channel.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::{Channel, Member, MemberId, MessageId, Millis};

/// One start of a node of a cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeLife {
    /// The node's name in its cluster.
    pub node: Arc<str>,
    /// Tells this start of the node from others.
    pub start: u64,
}

/// What a node tells of its own members of a channel, or of a node that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tidings {
    /// Counts what the node tells of the channel. The upper half is another one each time that the
    /// node begins to count; 0 if it is not counted.
    pub number: u64,
    /// The id from which those of the announcements are made.
    pub id: MessageId,
    /// The time at which the node told it, in milliseconds since the epoch.
    pub at: Millis,
    /// The [`digest`] of the node's members after joins or leaves; `None` for other news.
    pub digest: Option<u64>,
    /// What the node tells.
    pub news: News,
}

/// The content of [`Tidings`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// These are members by connections of the node now.
    Joined(Vec<Member>),
    /// These are not members by connections of the node any more.
    Left(Vec<Member>),
    /// These are all members by connections of the node.
    List {
        /// The place of this part among `parts`, from 0.
        part: u32,
        /// The number of parts that make the list.
        parts: u32,
        /// The members of this part.
        members: Vec<Member>,
    },
    /// This start of a node has ended, and with it the connections of its members.
    Gone(NodeLife),
}

/// Tidings that a node has to send.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// What the node tells, in order.
    pub tidings: Vec<Tidings>,
    /// Whether the other nodes must be asked for their lists.
    pub wants_lists: bool,
}

/// What tidings met on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Whether a worker is behind on the channel.
    pub is_behind: bool,
    /// Whether tidings before these are missing, so that the node must be asked for its list.
    pub is_doubtful: bool,
    /// The number of joins and leaves that were not announced, because the channel has too many
    /// members.
    pub suppressed: u64,
}

/// A channel on which a start of a node has members.
pub type Left = (Channel, NodeLife);

/// The lower half of [`Tidings::number`].
const COUNT: u64 = u32::MAX as u64;

impl Tidings {
    /// Creates the tidings with this number among those that are told at this time. `id` is the
    /// same for all of them.
    pub fn new(number: u64, id: MessageId, at: Millis, news: News) -> Self {
        let id = MessageId::from_u128(id.as_u128() ^ u128::from(number & COUNT));
        Self { number, id, at, digest: None, news }
    }

    /// Returns the number before the first one of a node that begins to count for this time.
    pub fn beginning(times: u32) -> u64 {
        u64::from(times) << 32
    }

    /// Returns whether the node has begun to count with these tidings, so that it had no members
    /// before.
    pub fn is_first(&self) -> bool {
        self.number & COUNT == 1
    }

    /// Returns the id of the announcement about a member. All nodes make the same one.
    pub fn announcement(&self, member: &MemberId) -> MessageId {
        // The bits that say which kind of id it is stay.
        MessageId::from_u128(self.id.as_u128() ^ u128::from(digest(member) >> 2))
    }

    /// Returns about how many bytes these tidings take in memory.
    pub fn bytes(&self) -> usize {
        match &self.news {
            News::Joined(members) | News::Left(members) | News::List { members, .. } => {
                members.iter().map(bytes_of).sum()
            }
            News::Gone(_) => 0,
        }
    }
}

/// Returns the part of a member in the digest of a list, which is the exclusive or of all parts.
/// All nodes compute the same one.
pub fn digest(member: &MemberId) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(member)
}

/// Returns about how many bytes a member takes in a message.
pub fn bytes_of(member: &Member) -> usize {
    const OVERHEAD: usize = 64;
    match &member.id {
        MemberId::User(credential) => credential.id.len() + OVERHEAD,
        MemberId::Connection(_) => OVERHEAD,
    }
}
