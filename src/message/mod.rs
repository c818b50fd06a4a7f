//! The vocabulary: what the threads, the protocols and the engine say to each other.
//!
//! Nothing here does anything. `protocol` and `engine` meet only in these types, so a protocol can
//! be added without the engine noticing.

mod command;
mod context;
mod credential;
mod definition;
mod event_name;
mod forge;
mod history;
mod m2;
mod payload;
mod policy;
mod publication;
mod refused;
mod time;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

pub use command::{
    AckId, Activation, Command, Current, Deactivation, Refusal, Replay, ReplayWish, Reply, Snapshot,
};
pub use context::{Context, Entity};
pub use credential::{Credential, Member, Role, Sender};
pub use definition::{
    Change, ChannelChange, ChannelDefinition, ChannelOptions, OptionsChange, PresenceMode,
    SlowConsumer,
};
pub use event_name::event_name_problem;
pub use forge::{OVERRIDES_PROBLEM, TokenError, forge_channel_problem, overrides};
pub use history::{Durability, MessageQuery, Position, Record, Stats, StatsQuery, StoredMessage};
pub use m2::{
    Document, DocumentKey, DocumentWrite, Found, Load, Party, ResourceKind, Scope, m2_name_problem,
    resource_id_problem,
};
pub use payload::payload_problem;
pub use policy::{
    Action, Judgement, Permissions, Policy, PolicyCommand, Question, RuleVersions, Verdict,
};
pub use publication::{Content, Delivery, FrameBytes, Publication};
pub use refused::Refused;
pub use time::{Now, iso_millis};

/// Milliseconds since the Unix epoch. Clocks are read at the edge and passed in.
pub type Millis = u64;

/// Nanoseconds since the node started.
pub type Nanos = u64;

/// A namespace of channels: names in two of them never meet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Channels that administrators define by patterns.
    Channels,
    /// Topics, named by a keyed hash of their scope.
    Topics,
    /// Resources, named by where they are.
    Resources,
}

/// A channel: its name, and the space in which it has that name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    space: Space,
    name: Arc<str>,
}

impl Channel {
    /// The channel of a Forge topic, by the topic's id.
    pub fn topic(id: &str) -> Self {
        Self { space: Space::Topics, name: id.into() }
    }

    /// What stands for an installation where its operations are limited. No topic's id has a colon.
    pub fn installation(id: &str) -> Self {
        Self { space: Space::Topics, name: format!("installation:{id}").into() }
    }

    /// The channel of an M2 resource, in a [`Scope`] as its channels begin.
    pub fn resource(scope: &str, kind: ResourceKind, id: &str) -> Self {
        Self { space: Space::Resources, name: [scope, kind.name(), "/", id].concat().into() }
    }

    /// The channel of an M2 resource, by the name of the channel.
    pub fn resource_named(name: &str) -> Self {
        Self { space: Space::Resources, name: name.into() }
    }

    /// The kind and the id of the M2 resource whose channel it is.
    pub fn resource_parts(&self) -> Option<(ResourceKind, &str)> {
        // Behind organization, project, launch context and world, none of which has a slash.
        let mut parts = self.name.splitn(6, '/').skip(4);
        Some((ResourceKind::named(parts.next()?)?, parts.next()?))
    }

    /// Whose it is.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The name: as clients say it (`order:123`), or the id of a topic.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The groups that its subscribers may be in.
    pub fn groups(&self) -> &'static [Group] {
        match self.space {
            Space::Channels => &[Group::InsforgeDocumented, Group::InsforgeSdk],
            Space::Topics => &[Group::Forge],
            Space::Resources => &[Group::M2],
        }
    }
}

/// A channel of InsForge Realtime.
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
    /// As an index into per-worker tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One connection: where it lives, and which of the slot's lives it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Its place in the worker's table.
    pub slot: u32,
    /// Counts the slot's reuse, so that late mail for a closed connection finds nobody.
    pub generation: u32,
}

/// The secret part of an Engine.IO session id: 72 random bits.
pub type SessionKey = [u8; 9];

/// Names an Engine.IO session to its client: where it lives, and the proof of knowing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionId {
    /// The worker that owns the session.
    pub worker: WorkerId,
    /// Its place in the worker's table.
    pub slot: u32,
    /// What nobody can guess.
    pub key: SessionKey,
}

/// The secret part of a private session id.
pub type RecoveryKey = [u8; 15];

/// Names a session to its client beyond its connection (Socket.IO's `pid`): which worker knows what
/// it has missed, since which start of the node, and the proof of having been it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrivateId {
    /// The worker whose log it is.
    pub worker: WorkerId,
    /// Tells this start of the node from all others.
    pub start: u64,
    /// What nobody can guess.
    pub key: RecoveryKey,
}

/// Position of a publication in its channel: 1, 2, 3, … for as long as anybody is subscribed or
/// something is kept for who will be.
pub type Offset = u64;

/// Names one publication everywhere: acks, frames, history.
pub type MessageId = Uuid;

/// How bytes reach a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

/// Subscribers that a publication matched, by transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// Subscribers on WebSocket.
    pub websocket: u32,
    /// Subscribers on HTTP long-polling.
    pub polling: u32,
}

impl Audience {
    /// All of them.
    pub fn total(self) -> u32 {
        self.websocket + self.polling
    }
}

/// Subscribers whose frames are byte for byte the same: a publication is encoded once per group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Group {
    /// InsForge as its public document shows it: `{channel,messageId,…,payload}`.
    InsforgeDocumented,
    /// InsForge as its SDK reads it: the payload's own keys plus `meta`.
    InsforgeSdk,
    /// Forge: `{type,topic,eventId,eventTimestamp,payload}`.
    Forge,
    /// M2: `{userId,resource,data,version}`.
    M2,
}

impl Group {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them, in index order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::InsforgeDocumented, Self::InsforgeSdk, Self::Forge, Self::M2];
    /// The most that one interface has.
    pub const PER_SPACE: usize = 2;

    /// As an index into tables of all groups.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As an index into a channel's tables: its place among the groups of its interface.
    pub fn place(self) -> usize {
        match self {
            Self::InsforgeDocumented | Self::Forge | Self::M2 => 0,
            Self::InsforgeSdk => 1,
        }
    }
}

/// A set of [`Group`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Groups(u8);

impl Groups {
    /// Adds one.
    pub fn insert(&mut self, group: Group) {
        self.0 |= 1 << group.index();
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(move |group| self.0 & (1 << group.index()) != 0)
    }
}
