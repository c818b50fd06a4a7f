//! News that a client hears: messages of M2, and marks between them.
//!
//! The messages do not name the subscription that they belong to, nor the resource of a warning or
//! an error. Marks do: the client sends a ping right before or after an event, and the pong has the
//! place of the event among its frames.

use serde_json::Value;

use super::NUMBERS;
use super::resource::{Resource, User};

/// A piece of news for a client.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Document {
        resource: Resource,
        audience: Option<User>,
        version: u64,
        exists: bool,
    },
    NotFound(Resource),
    Unavailable(Resource),
    /// A subscription begins, or is requested again.
    Began {
        resource: Resource,
        is_again: bool,
    },
    Ended(Resource),
}

impl Word {
    pub(super) fn resource(&self) -> Resource {
        match self {
            Self::Document { resource, .. }
            | Self::Began { resource, .. }
            | Self::NotFound(resource)
            | Self::Unavailable(resource)
            | Self::Ended(resource) => *resource,
        }
    }
}

/// A message of M2.
pub(super) enum Said {
    Document(Word),
    /// A warning or an error about the resource that the next mark names.
    Nameless(fn(Resource) -> Word),
    /// The error that a request was refused.
    Refused,
}

impl Said {
    /// Parses a message. The middle of a long one may be missing, because its data is one repeated
    /// character.
    pub(super) fn read(text: &str) -> Self {
        let message: Value = serde_json::from_str(text).expect("it is JSON");
        match (message["warning"].as_str(), message["error"].as_str()) {
            (Some("resource_not_found"), None) => Self::Nameless(Word::NotFound),
            (None, Some("Resource unavailable")) => Self::Nameless(Word::Unavailable),
            (None, Some("Overloaded")) => Self::Refused,
            (None, None) => Self::Document(document(&message)),
            _ => panic!("nobody says this: {text}"),
        }
    }
}

/// Returns a document, which the author's id of the message names.
fn document(message: &Value) -> Word {
    let author = message["userId"].as_str().expect("every document has an author");
    let mut parts = author.split('/');
    let mut number = || parts.next()?.parse().ok();
    let resource = number().zip(number()).map(|(scope, number)| Resource { scope, number });
    let resource = resource.expect("it names scope and number");
    let (kind, id) = resource.parts();
    assert_eq!(message["resource"]["type"], kind.name(), "{author}");
    assert_eq!(message["resource"]["id"], id, "{author}");
    let audience = parts.next().filter(|user| !user.is_empty()).map(User::from);
    let version = message["version"].as_str().and_then(|version| version.parse().ok());
    let version: jiff::Timestamp = version.expect("it is a date");
    let version = u64::try_from(version.as_millisecond()).expect("it is after 1970");
    Word::Document { resource, audience, version, exists: !message["data"].is_null() }
}

/// A mark between messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Began {
        resource: Resource,
        is_again: bool,
    },
    Ended(Resource),
    /// The nameless messages since the last such mark are about this resource.
    About(Resource),
    /// A mark without news.
    Nudge,
}

impl Mark {
    /// Returns the payload of the mark's ping.
    pub(super) fn payload(self) -> [u8; 2] {
        let (kind, resource) = match self {
            Self::Began { resource, is_again: false } => (b'b', resource),
            Self::Began { resource, is_again: true } => (b'a', resource),
            Self::Ended(resource) => (b'e', resource),
            Self::About(resource) => (b'r', resource),
            Self::Nudge => (b'n', Resource { scope: 0, number: 0 }),
        };
        [kind, u8::try_from(resource.number).expect("there are few")]
    }

    /// Parses the payload of a pong, for a client in this scope.
    pub(super) fn read(payload: &[u8], scope: usize) -> Self {
        let &[kind, number] = payload else { panic!("no mark is like this: {payload:?}") };
        let resource = Resource { scope, number: number.into() };
        assert!(resource.number < NUMBERS, "it was made of a resource");
        match kind {
            b'b' => Self::Began { resource, is_again: false },
            b'a' => Self::Began { resource, is_again: true },
            b'e' => Self::Ended(resource),
            b'r' => Self::About(resource),
            _ => Self::Nudge,
        }
    }
}
