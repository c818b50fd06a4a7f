//! The nouns of M2's room: resources, their scopes, and the parties that subscribe.

use std::fmt;
use std::sync::Arc;

use super::limits::{NAME_BYTES_MAX, RESOURCE_BYTES_MAX};
use crate::message::Channel;

/// The kind of a resource.
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
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::KvStore, Self::Collection, Self::LiveConfig];

    /// Returns the name that clients write in `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::KvStore => "kvStore",
            Self::Collection => "collection",
            Self::LiveConfig => "liveConfig",
        }
    }

    /// Returns the kind of that name; `None` for other names. Case matters.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns whether the resource with this id has a document for each user, and no shared one.
    pub fn is_private(self, id: &str) -> bool {
        self == Self::Collection && id == "private"
    }
}

/// Returns what is wrong with the id of a resource; `None` if it is valid. Ids are compared byte
/// for byte.
pub fn resource_id_problem(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        return Some("the id of a resource must not be empty");
    }
    (id.len() > RESOURCE_BYTES_MAX).then_some("the id of a resource has at most 512 bytes")
}

const _: () = assert!(RESOURCE_BYTES_MAX == 512, "the message above names the bound");

/// Returns what is wrong with the name of an organization, project, world, launch context or user;
/// `None` if it is valid or empty.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Some("it has more than 255 bytes");
    }
    name.contains(char::is_control).then_some("it has control characters")
}

const _: () = assert!(NAME_BYTES_MAX == 255, "the message above names the bound");

/// The scope of resources. Each resource is in one scope: a project does not inherit the documents
/// of its organization.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// The organization; never empty.
    pub organization: Box<str>,
    /// The project; empty if the scope has none.
    pub project: Box<str>,
    /// The launch context; empty if the scope has none.
    pub launch_context: Box<str>,
    /// The world; empty if the scope has none.
    pub world: Box<str>,
}

/// Writes the prefix of the scope's channels, which is unique: names are escaped and end with a
/// slash.
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

/// The user and the scope of a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// The [`Scope`], written as the prefix of its channels.
    pub scope: Box<str>,
    /// The user; `None` for a service, or for a client without a token if none is required.
    pub user: Option<Arc<str>>,
    /// When the token expires, in seconds since the epoch; `None` for never.
    pub expires_at: Option<u64>,
}

/// Returns the channel of a resource. `scope` is a [`Scope`], written as the prefix of its
/// channels.
pub fn channel_of(scope: &str, kind: ResourceKind, id: &str) -> Channel {
    Channel::resource(&[scope, kind.name(), "/", id].concat())
}

/// Returns the kind and the id of the resource whose channel this is; `None` for other channels.
pub fn resource_of(channel: &Channel) -> Option<(ResourceKind, &str)> {
    // Behind organization, project, launch context and world, whose slashes are escaped.
    let mut parts = channel.as_str().splitn(6, '/').skip(4);
    Some((ResourceKind::named(parts.next()?)?, parts.next()?))
}
