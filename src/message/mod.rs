//! The vocabulary: what the threads, the protocols and the engine say to each other.
//!
//! Nothing here does anything. `protocol` and `engine` meet only in these types, so a protocol can
//! be added without the engine noticing.

mod event_name;
mod time;

use std::fmt;
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

pub use event_name::event_name_problem;
pub use time::iso_millis;

/// Milliseconds since the Unix epoch. Clocks are read at the edge and passed in.
pub type Millis = u64;

/// The concrete name of a channel, as clients say it (`order:123`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// What runs over an Engine.IO session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum App {
    /// InsForge Realtime over Socket.IO.
    Insforge,
    /// The events that Socket.IO conformance suites expect.
    SocketIoConformance,
    /// Echo of message packets, as Engine.IO conformance suites expect.
    EngineIoConformance,
}

/// Position of a publication in its channel: 1, 2, 3, … for as long as anybody is subscribed.
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
}

impl Group {
    /// How many there are.
    pub const COUNT: usize = 2;
    /// All of them, in index order.
    pub const ALL: [Self; Self::COUNT] = [Self::InsforgeDocumented, Self::InsforgeSdk];

    /// As an index into per-group tables.
    pub fn index(self) -> usize {
        self as usize
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

/// What a client may do, from its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Holder of the API key or an admin token.
    ProjectAdmin,
    /// A signed-in user.
    Authenticated,
    /// Holder of the anon key.
    Anon,
    /// A role the node does not know: may connect, may do nothing.
    Unknown(Box<str>),
}

impl Role {
    /// The role that a token's `role` claim names.
    pub fn named(name: &str) -> Self {
        match name {
            "project_admin" => Self::ProjectAdmin,
            "authenticated" => Self::Authenticated,
            "anon" => Self::Anon,
            other => Self::Unknown(other.into()),
        }
    }

    /// Whether subscribe and publish are open to it while no policy says otherwise.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// Who a connection speaks for, settled when it connects. Shared by all connections that present
/// the same token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `api-key`, `anonymous`, or the token's subject.
    pub id: Box<str>,
    /// The token's e-mail address, where it has one.
    pub email: Option<Box<str>>,
    /// What it may do.
    pub role: Role,
    /// True for token holders, who are one member however many connections they have; false for
    /// key holders, of whom each connection is a member of its own.
    pub is_user: bool,
    /// When the token expires, in seconds since the epoch; `None` for keys.
    pub expires_at: Option<u64>,
}

/// Who sent a publication, as subscribers are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The backend: HTTP publishes, API keys, admin tokens.
    System,
    /// A client, with its id where its role is `authenticated`.
    User(Option<Box<str>>),
}

impl Credential {
    /// How publications of this credential are signed (contract section 1.4).
    pub fn sender(&self) -> Sender {
        match self.role {
            Role::ProjectAdmin => Sender::System,
            Role::Authenticated => Sender::User(Some(self.id.clone())),
            _ => Sender::User(None),
        }
    }
}

/// Someone present in a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// True for a signed-in user, false for an anonymous connection.
    pub is_user: bool,
    /// The user's id, or the socket id of an anonymous connection.
    pub presence_id: Box<str>,
    /// When the first of its connections joined.
    pub joined_at: Millis,
}

/// A channel definition, as administrators keep it: names that match its pattern may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelDefinition {
    /// Its id.
    pub id: Uuid,
    /// A name, or a pattern in which `*` and `%` stand for any run of characters.
    pub pattern: String,
    /// For people.
    pub description: Option<String>,
    /// Where publications are posted.
    pub webhook_urls: Option<Vec<String>>,
    /// A disabled definition matches nothing.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// What an update says of a field that may be without a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// The field was not mentioned.
    Unchanged,
    /// It was `null`.
    Cleared,
    /// It has a new value.
    Set(T),
}

impl<T> Change<T> {
    /// The field after the change.
    pub fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Unchanged => before,
            Self::Cleared => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// A change to a channel. One without any field is legal, and still counts as an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelChange {
    /// The new pattern, `None` to keep it.
    pub pattern: Option<String>,
    /// What becomes of the description.
    pub description: Change<String>,
    /// What becomes of the webhook URLs.
    pub webhook_urls: Change<Vec<String>>,
    /// Whether it is to be enabled, `None` to keep it.
    pub enabled: Option<bool>,
}

impl ChannelChange {
    /// The definition after the change, made now.
    pub fn apply(self, before: &ChannelDefinition, now: Millis) -> ChannelDefinition {
        ChannelDefinition {
            id: before.id,
            pattern: self.pattern.unwrap_or_else(|| before.pattern.clone()),
            description: self.description.or(before.description.clone()),
            webhook_urls: self.webhook_urls.or(before.webhook_urls.clone()),
            enabled: self.enabled.unwrap_or(before.enabled),
            created_at: before.created_at,
            updated_at: now,
        }
    }
}

/// What a publication says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A message under an event name. The payload is the JSON text as it came.
    Message {
        /// Event name.
        event: Box<str>,
        /// JSON text, unchanged.
        payload: Box<str>,
        /// Who sent it.
        sender: Sender,
    },
    /// A member appeared.
    Joined(Arc<Member>),
    /// A member's last connection left.
    Left(Arc<Member>),
}

/// A frame's bytes, shared by everybody who gets them.
pub type FrameBytes = Arc<[u8]>;

/// One thing that all subscribers of a channel must learn, with its frames.
#[derive(Debug)]
pub struct Publication {
    /// Its id.
    pub id: MessageId,
    /// Where it goes.
    pub channel: Channel,
    /// When it was accepted.
    pub at: Millis,
    /// What it says.
    pub content: Content,
    /// The connection that is not told: the one whose own joining is announced.
    pub except: Option<ConnId>,
    frames: [OnceLock<FrameBytes>; Group::COUNT],
}

impl Publication {
    /// A publication without frames yet.
    pub fn new(id: MessageId, channel: Channel, at: Millis, content: Content) -> Self {
        Self { id, channel, at, content, except: None, frames: Default::default() }
    }

    /// The same, kept from one connection.
    pub fn except(mut self, connection: ConnId) -> Self {
        self.except = Some(connection);
        self
    }

    /// The frame for `group`, made by `encode` where nobody has made it yet. Two threads that miss
    /// it at once both encode and one result is kept: nobody waits for another's encoding.
    pub fn frame(
        &self,
        group: Group,
        encode: impl FnOnce(&Self, Group) -> FrameBytes,
    ) -> FrameBytes {
        let slot = &self.frames[group.index()];
        if let Some(frame) = slot.get() {
            return frame.clone();
        }
        let frame = encode(self, group);
        // A loser of the race keeps its own copy: the bytes are the same.
        let _ = slot.set(frame.clone());
        frame
    }
}

/// A publication with its place in the channel, on its way to one worker's subscribers.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub publication: Arc<Publication>,
    /// Its place in the channel; announcements of presence share the place of the publication
    /// before them.
    pub offset: Offset,
}

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
    pub group: Group,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// Who was there at that moment.
    pub presence: Arc<Snapshot>,
    /// How many were there, counted even where the snapshot is cut.
    pub present: usize,
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

/// What a client asks for, whatever its protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Hear what is published on a channel, in the frames of a group.
    Subscribe {
        /// Where.
        channel: Channel,
        /// Which frames.
        group: Group,
    },
    /// Hear no more of it.
    Unsubscribe {
        /// Where.
        channel: Channel,
    },
    /// Tell everybody on a channel.
    Publish {
        /// Where.
        channel: Channel,
        /// Under which event name.
        event: Box<str>,
        /// JSON text.
        payload: Box<str>,
    },
}

/// Why a command was not carried out, in the terms of the contract's error codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The command's own fault; the text says what is wrong.
    Invalid(&'static str),
    /// No enabled definition, or a role that may not: subscribing.
    SubscribeUnauthorized,
    /// No enabled definition, or a role that may not: publishing.
    PublishUnauthorized,
    /// Publishing takes a subscription.
    NotSubscribed,
    /// The node has no room at the moment; the same command may work a second later.
    Overloaded,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Subscribed, with who is there.
    Subscribed {
        /// Where.
        channel: Channel,
        /// Who, perhaps cut.
        presence: Arc<Snapshot>,
        /// How many.
        present: usize,
    },
    /// Unsubscribed.
    Unsubscribed,
    /// Published under this id.
    Published(MessageId),
    /// Not carried out.
    Refused {
        /// The channel that the command named, where it named one.
        channel: Option<Channel>,
        /// Why.
        refusal: Refusal,
    },
}
