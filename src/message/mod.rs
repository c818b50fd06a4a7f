//! The nouns that all threads and rooms share: channels, publications, commands, replies,
//! documents.
//!
//! No type here acts. The interfaces and the broker meet only in these types, so that the broker
//! knows no protocol.

mod captured;
mod credential;
mod definition;
mod document;
mod event_name;
mod history;
mod invocation;
mod mark;
mod member;
mod ordered;
mod payload;
mod peer;
mod policy;
mod publication;
mod refused;
mod repeat;
mod reply;
mod shared_session;
mod subscription;
mod taking;
mod tidings;
mod time;
pub mod webhook_url;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

pub use captured::{CaptureCondition, Captured, CapturedRow, Skipped};
pub use credential::{Credential, Role, Sender};
pub use definition::{
    Change, ChannelChange, ChannelDefinition, ChannelOptions, ChannelOrder, OptionsChange,
    PresenceMode, Retain, SlowConsumer,
};
pub use document::{Decided, Document, DocumentKey, DocumentWrite, Found, Load};
pub use event_name::{event_name_problem, reserved_event_names};
pub use history::{
    Attempt, Durability, MessageName, MessageQuery, Position, Record, Stats, StatsQuery,
    StoredMessage, StreamPlace,
};
pub use invocation::Invocation;
pub use mark::{Mark, MarkPlace, Replays};
pub use member::{Member, MemberId, SOCKET_ID_BYTES, SocketKey, socket_id};
pub use ordered::{Behind, Landed, Ordered, Settled, Spread};
pub use payload::payload_problem;
pub use peer::{Network, Peer};
pub use policy::{
    Action, Judgement, Permissions, Policy, PolicyCommand, Question, RuleVersions, Verdict,
};
pub use publication::{Content, Delivery, FrameBytes, Publication};
pub use refused::Refused;
pub use repeat::{GIVEN_ID_BYTES, RepeatKey, given_id};
pub use reply::{Refusal, Reply};
pub use shared_session::{
    NotShared, NotTaken, SessionTold, SessionWish, SessionWord, SharedChannel, SharedSession,
    TakenSession,
};
pub use subscription::{AckId, Activation, Deactivation, Replay, ReplayWish, Retained, Snapshot};
pub use taking::Taking;
pub use tidings::{Heard, Left, News, NodeLife, Outgoing, Tidings, bytes_of, digest};
pub use time::{Now, iso_millis, push_iso_millis};

/// Milliseconds, since the Unix epoch or since the node started. Clocks are read by the runtime and
/// passed in.
pub type Millis = u64;

/// Nanoseconds since the node started.
pub type Nanos = u64;

/// A namespace of channels. Equal names in two namespaces are different channels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Channels that administrators define by patterns.
    Channels,
    /// Topics, named by a keyed hash of their scope.
    Topics,
    /// Resources, named by their scope, kind and id.
    Resources,
}

/// A channel: its name, and the namespace of that name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    space: Space,
    name: Arc<str>,
}

impl Channel {
    /// Creates the channel of a topic from the topic's id.
    pub fn topic(id: &str) -> Self {
        Self { space: Space::Topics, name: id.into() }
    }

    /// Creates the channel of a resource from the channel's name: its scope, its kind and its id.
    pub fn resource(name: &str) -> Self {
        Self { space: Space::Resources, name: name.into() }
    }

    /// Returns the namespace of the name.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Returns the name: as clients write it (`order:123`), or the id of a topic.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the encodings that subscribers of the channel can ask for.
    pub fn encodings(&self) -> &'static [Encoding] {
        match self.space {
            Space::Channels => &[Encoding::Documented, Encoding::Sdk, Encoding::EventStream],
            Space::Topics => &[Encoding::Topic],
            Space::Resources => &[Encoding::Resource],
        }
    }
}

/// Creates a channel that definitions allow.
impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self { space: Space::Channels, name: name.into() }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A worker thread, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// Returns the index into tables with an entry for each worker.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Names a connection by its worker, slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Its place in the worker's table.
    pub slot: u32,
    /// Counts the reuses of the slot, so that late mail for a closed connection does not reach the
    /// next one.
    pub generation: u32,
}

/// The secret part of an Engine.IO session id: 72 random bits.
pub type SessionKey = [u8; 9];

/// Names an Engine.IO session to its client. Knowing it proves that a request belongs to the
/// session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionId {
    /// The worker that owns the session.
    pub worker: WorkerId,
    /// Its place in the worker's table.
    pub slot: u32,
    /// The secret part, 72 random bits.
    pub key: SessionKey,
}

/// Stands for a node of a cluster in the ids of its sessions: the beginning of a hash of its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeTag(pub [u8; 4]);

/// The secret part of a private session id.
pub type RecoveryKey = [u8; 15];

/// Names a session to its client beyond the life of a connection (Socket.IO's `pid`). Knowing it
/// proves that the client had the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrivateId {
    /// The worker whose resume log holds what the client missed.
    pub worker: WorkerId,
    /// Tells this start of the node from all others.
    pub start: u64,
    /// The secret part, which proves that the client had the session.
    pub key: RecoveryKey,
}

/// The place of a publication in its channel: 1, 2, 3, … while the channel has a subscriber or
/// keeps something for later ones.
pub type Offset = u64;

/// Names one publication in acknowledgements, in frames and in history.
pub type MessageId = Uuid;

/// How bytes reach a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// HTTP long-polling of Engine.IO.
    Polling,
    /// WebSocket, after an upgrade of HTTP/1.1 (RFC 6455).
    WebSocket,
    /// A response of Server-Sent Events, which is called `sse` in metrics and answers.
    EventStream,
}

/// The number of subscribers that a publication was posted to, by transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// The number of subscribers on WebSocket.
    pub websocket: u32,
    /// Subscribers on HTTP long-polling.
    pub polling: u32,
    /// Subscribers on streams of Server-Sent Events.
    pub sse: u32,
}

impl Audience {
    /// Returns the number of subscribers on any transport.
    pub fn total(self) -> u32 {
        self.websocket + self.polling + self.sse
    }
}

/// A form of frames. Subscribers with the same encoding receive the same bytes, so that a
/// publication is encoded once for each encoding in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// Messages as the public documentation shows them: `{channel,messageId,…,payload}`.
    Documented,
    /// Messages as the SDK reads them: the payload's own keys and `meta`.
    Sdk,
    /// Events of a topic: `{type,topic,eventId,eventTimestamp,payload}`.
    Topic,
    /// Documents of a resource: `{userId,resource,data,version}`.
    Resource,
    /// Messages of a channel as blocks of Server-Sent Events.
    EventStream,
}

impl Encoding {
    /// The number of encodings.
    pub const COUNT: usize = 5;
    /// All encodings, in the order of [`Encoding::index`].
    pub const ALL: [Self; Self::COUNT] =
        [Self::Documented, Self::Sdk, Self::Topic, Self::Resource, Self::EventStream];
    /// The largest number of encodings that one [`Space`] has.
    pub const PER_SPACE: usize = 3;

    /// Returns the index into tables of all encodings.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns the index into the tables of one channel: the place among its space's encodings.
    pub const fn place(self) -> usize {
        match self {
            Self::Documented | Self::Topic | Self::Resource => 0,
            Self::Sdk => 1,
            Self::EventStream => 2,
        }
    }
}

/// A set of [`Encoding`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Encodings(u8);

impl Encodings {
    /// Adds an encoding. It may be in the set already.
    pub fn insert(&mut self, encoding: Encoding) {
        self.0 |= 1 << encoding.index();
    }

    /// Iterates over the encodings in the set.
    pub fn iter(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |encoding| self.0 & (1 << encoding.index()) != 0)
    }
}
