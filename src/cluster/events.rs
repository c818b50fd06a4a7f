//! What happens to a node of a cluster, and what it asks for.

use super::ack::{Ack, Refusal};
use super::attach::Want;
use super::audience::{Question, Total};
use super::chain::Missing;
use super::claims::Held;
use super::health::Obstacle;
use super::name::{ChannelHash, Incarnation, NodeName, PatternId, Place, Seq, Stream};
use super::pulse::Side;
use super::wire::{Anchor, Beat, Claim, Counted, Message, Origin, Skip};
use crate::message::{Channel, Millis};

/// The moment of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Milliseconds since the node started.
    pub now: Millis,
    /// Milliseconds of the wall clock, since the epoch.
    pub wall: Millis,
    /// A random number, another one for each event.
    pub random: u128,
}

/// What happens to a node of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The node may join, or may not, for this reason.
    Joined(Result<(), Obstacle>),
    /// The line is up, and subscribed to the subjects of heartbeats, of the anchor, of answers and
    /// of questions, but to no channel. The register remembers these anchors, of the stream of
    /// publications and of the stream of claims.
    LineUp(Option<Anchor>, Option<Anchor>),
    /// The line is down.
    LineDown,
    /// The kernel may have bytes of all messages up to this number.
    Written(u64),
    /// JetStream answered the message with this number.
    Answered(u64, Ack),
    /// A message came live: on this channel, or on a subject of the cluster's own.
    Live(Option<ChannelHash>, Box<Message>),
    /// The mirror's consumer begins again with the first message of its stream. It does so at the
    /// latest when the stream of claims is known to have another leader, because that one may lack
    /// what the mirror has.
    MirrorBegins,
    /// The mirror's consumer has this message.
    Mirrored(Seq, Mirrored),
    /// The stream of publications has another leader.
    LeaderChanged,
    /// A channel has its first subscriber.
    Want(Want),
    /// A channel has lost its last subscriber.
    LetGo(Channel),
    /// A client of this node publishes.
    Publish(Publish),
    /// A node answered about the audience of the publication with this token.
    Counted(u64, Counted),
    /// A stream's anchor was read, by a read that is proven to be up to date.
    AnchorRead(Stream, Option<(Anchor, Seq)>),
    /// The stream's messages behind the place that was asked for, in order, each with the channel
    /// on which it is.
    HoleRead(Vec<(Option<ChannelHash>, Message)>),
    /// The sequences of these channels' latest messages, each `None` if the stream has none, and
    /// that of the stream's oldest message, which was asked for afterwards.
    LatestRead(Vec<(ChannelHash, Option<Seq>)>, Seq),
    /// A channel's messages in this range, in order, and the sequence of the stream's oldest
    /// message, which was asked for afterwards.
    ChannelRead(ChannelHash, Missing, Vec<Message>, Seq),
    /// What a channel kept up to this place was read, or cannot be read.
    Seeded(Channel, Seq),
    /// The members that other nodes have on a channel must be asked for.
    MembersWanted(Channel),
    /// How far the node has certainly received the stream is to be proven anew.
    Prove,
    /// Time has passed.
    Tick,
}

/// A message of the stream of claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mirrored {
    /// A node's claim.
    Claim(Place, NodeName, Claim),
    /// The anchor of the stream.
    Anchor(Anchor),
    /// A barrier, or a message that is not read.
    Other,
}

/// A publication of a client of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Names the publication to the caller.
    pub token: u64,
    /// The channel on which it is published.
    pub channel: ChannelHash,
    /// The patterns of claims that match the channel's name.
    pub patterns: Vec<PatternId>,
    /// The size of its message, in bytes.
    pub bytes: usize,
    /// How long the stream may take to acknowledge it, in milliseconds.
    pub patience: Millis,
    /// Whether it is dropped if no node listens.
    pub needs_listener: bool,
    /// How long the nodes may take to count its audience, in milliseconds; `None` if that is not
    /// wanted.
    pub audience: Option<Millis>,
}

/// The other nodes that claim a channel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claimants {
    /// At most one start of each, but for those that are known to be over.
    pub nodes: Vec<Origin>,
    /// Whether no other node has a claim, for certain.
    pub is_proven: bool,
}

/// What became of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// The stream has it at this place, perhaps since an earlier attempt.
    Stored {
        /// The publication's place in the stream.
        seq: Seq,
        /// Whether the stream had a message with this id before.
        duplicate: bool,
    },
    /// No node listens, for certain. Nothing was published.
    NotHeard,
    /// Whether a node listens cannot be said for certain. Nothing was published.
    Unproven,
    /// Nothing was published, for this reason.
    Refused(Refusal),
    /// It may have been published.
    Unknown,
    /// It had been unknown, and was published at this place.
    Late(Seq),
}

/// What a node of a cluster asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Subscribe on the line to a channel's live messages, under this number.
    Subscribe(ChannelHash, u64),
    /// End the line's subscription with this number.
    Unsubscribe(u64),
    /// Send this node's claim, as the message with this number, if the last one of its subject has
    /// this sequence. The end of a claim expires after a while.
    Claim(u64, ChannelHash, bool, Seq),
    /// End the claim of a start of a node that is over, as the message with this number, if it is
    /// still the last one of its subject.
    EndClaim(u64, Held),
    /// Send a heartbeat, as the message with this number.
    Beat(u64, Beat),
    /// Send a barrier into the stream of claims, as the message with this number.
    Barrier(u64),
    /// Write a stream's anchor, as the message with this number, if the last one has this sequence.
    WriteAnchor(u64, Stream, Anchor, Seq),
    /// Read a stream's anchor, by a read that is proven to be up to date.
    ReadAnchor(Stream),
    /// Keep a stream's anchor in the register, unless that has a later one.
    Remember(Stream, Anchor),
    /// Send the publication with this token, as the message with this number. If the last value is
    /// true, nodes answer with their counts.
    Send(u64, u64, bool),
    /// What became of the publication with this token.
    Published(u64, Published),
    /// The audience of the publication with the token that is its number.
    Audience(Total),
    /// Ask a node directly about a publication.
    Ask(Question),
    /// Ask these nodes for their members of a channel, and answer with [`Event::Seeded`], of this
    /// place.
    Seed(Channel, Seq, Claimants),
    /// All starts of a node but this one have ended, and with them the connections of their
    /// members.
    Ended(NodeName, Option<Incarnation>),
    /// The node is attached: what is up to this place is history.
    Attached(Channel, Seq),
    /// The node could not attach in time.
    Failed(Channel),
    /// The node is no longer attached.
    Detached(Channel),
    /// Deliver a message on a channel. If the last value is true, everything before it in the
    /// stream that concerns the node was delivered before it, and nothing from behind it.
    Deliver(Channel, Box<Message>, bool),
    /// A message of a channel was skipped.
    Skipped(Channel, Skip),
    /// Tell a channel's subscribers that they may have missed messages.
    Gap(Channel),
    /// Read a channel's missing messages.
    ReadChannel(ChannelHash, Missing),
    /// Read the stream's messages behind this place, up to this number of them.
    ReadHole(Seq, usize),
    /// Read the sequences of these channels' latest messages.
    ReadLatest(Vec<ChannelHash>),
    /// Close the line and open it again, because this side of it is deaf.
    Reconnect(Side),
    /// A new epoch of a stream with this number began, because the stream has lost something.
    EpochChanged(Stream, u64),
    /// Register again, under a new incarnation: the other node of the same name is gone.
    RegisterAgain,
}
