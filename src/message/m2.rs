//! What M2 Realtime is about: documents, each the latest state of a resource.

use std::fmt;
use std::sync::Arc;

use super::{Channel, ConnId, Millis};
use crate::limits::{M2_HEADER_BYTES_MAX, M2_RESOURCE_BYTES_MAX};

/// The kinds of resources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResourceKind {
    /// An item of the key-value store.
    KvStore,
    /// A collection of objects.
    Collection,
    /// A document of live configuration.
    LiveConfig,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KvStore, Self::Collection, Self::LiveConfig];

    /// As clients write it in `type`; case matters.
    pub fn name(self) -> &'static str {
        match self {
            Self::KvStore => "kvStore",
            Self::Collection => "collection",
            Self::LiveConfig => "liveConfig",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a resource has a document for each user and none for all.
    pub fn is_private(self, id: &str) -> bool {
        self == Self::Collection && id == "private"
    }
}

/// What is wrong with the id of a resource, or `None`. Any other text is one, byte for byte.
pub fn resource_id_problem(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        return Some("the id of a resource must not be empty");
    }
    (id.len() > M2_RESOURCE_BYTES_MAX).then_some("the id of a resource has at most 512 bytes")
}

const _: () = assert!(M2_RESOURCE_BYTES_MAX == 512, "the message above names the bound");

/// What is wrong with the name of an organization, project, world or launch context, or of a user,
/// or `None`.
pub fn m2_name_problem(name: &str) -> Option<&'static str> {
    if name.len() > M2_HEADER_BYTES_MAX {
        return Some("it has more than 255 bytes");
    }
    name.contains(char::is_control).then_some("it has control characters")
}

const _: () = assert!(M2_HEADER_BYTES_MAX == 255, "the message above names the bound");

/// Where resources are. What is under one scope is not under any other: a parent's documents are
/// not its children's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// Never empty.
    pub organization: Box<str>,
    /// Empty where there is none.
    pub project: Box<str>,
    /// Empty where there is none.
    pub launch_context: Box<str>,
    /// Empty where there is none.
    pub world: Box<str>,
}

/// What the channels of a scope's resources begin with. No two scopes have the same.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.organization, &self.project, &self.launch_context, &self.world] {
            for c in part.chars() {
                match c {
                    '/' => f.write_str("%2F")?,
                    '%' => f.write_str("%25")?,
                    c => write!(f, "{c}")?,
                }
            }
            f.write_str("/")?;
        }
        Ok(())
    }
}

/// On whose behalf a connection listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// A [`Scope`], as its channels begin.
    pub scope: Box<str>,
    /// The user; none for a service, or where nobody is asked.
    pub user: Option<Arc<str>>,
    /// When its token expires, in seconds since the epoch.
    pub expires_at: Option<u64>,
}

/// Names a document: its resource, and whose it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DocumentKey {
    /// The channel of the resource.
    pub resource: Channel,
    /// The only user who is told of it; everybody, where there is none.
    pub audience: Option<Arc<str>>,
}

/// The state of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Which.
    pub key: DocumentKey,
    /// Its owner or author, as the writer says.
    pub user_id: Option<Box<str>>,
    /// JSON text, unchanged; none once it is deleted.
    pub data: Option<Box<str>>,
    /// When it was written, and later than the version before it.
    pub version: Millis,
}

/// A document is to be written, or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentWrite {
    /// Which.
    pub key: DocumentKey,
    /// Its owner or author.
    pub user_id: Option<Box<str>>,
    /// JSON text; none to delete it.
    pub data: Option<Box<str>>,
    /// Its version, where the writer gives one: then it is dropped unless it is the latest.
    pub version: Option<Millis>,
}

impl DocumentWrite {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let audience = self.key.audience.as_ref().map_or(0, |user| user.len());
        let said = [&self.user_id, &self.data].map(|text| text.as_ref().map_or(0, |it| it.len()));
        self.key.resource.as_str().len() + audience + said.iter().sum::<usize>()
    }
}

/// The documents of a resource that a subscriber is told of. Of each, what the store remembers: one
/// that was deleted, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// The one for everybody.
    pub shared: Option<T>,
    /// The user's own.
    pub personal: Option<T>,
}

/// Nothing, whatever it would be.
impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { shared: None, personal: None }
    }
}

impl<T> Found<T> {
    /// The same in another form.
    pub fn map<U>(self, form: impl Fn(T) -> U) -> Found<U> {
        Found { shared: self.shared.map(&form), personal: self.personal.map(&form) }
    }
}

/// The current documents of a resource are to be read for a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// Who subscribed.
    pub connection: ConnId,
    /// To what.
    pub resource: Channel,
    /// Tells this question from others of the same worker.
    pub question: u64,
    /// Whether the document for everybody is wanted.
    pub shared: bool,
    /// Whose own document is wanted.
    pub user: Option<Arc<str>>,
}
