//! The words of M2's room: resources, the scopes that they are in, and the parties that listen.

use std::fmt;
use std::sync::Arc;

use super::limits::{NAME_BYTES_MAX, RESOURCE_BYTES_MAX};
use crate::message::Channel;

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
    (id.len() > RESOURCE_BYTES_MAX).then_some("the id of a resource has at most 512 bytes")
}

const _: () = assert!(RESOURCE_BYTES_MAX == 512, "the message above names the bound");

/// What is wrong with the name of an organization, project, world or launch context, or of a user,
/// or `None`.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Some("it has more than 255 bytes");
    }
    name.contains(char::is_control).then_some("it has control characters")
}

const _: () = assert!(NAME_BYTES_MAX == 255, "the message above names the bound");

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

/// Returns the channel of a resource in a [`Scope`] that is written as its channels begin.
pub fn channel_of(scope: &str, kind: ResourceKind, id: &str) -> Channel {
    Channel::resource(&[scope, kind.name(), "/", id].concat())
}

/// Returns the kind and the id of the resource whose channel this is; `None` for other channels.
pub fn resource_of(channel: &Channel) -> Option<(ResourceKind, &str)> {
    // Behind organization, project, launch context and world, none of which has a slash.
    let mut parts = channel.as_str().splitn(6, '/').skip(4);
    Some((ResourceKind::named(parts.next()?)?, parts.next()?))
}
