//! What a client is told, in messages of M2 and in marks between them.
//!
//! The messages do not say which subscription they belong to, nor what a warning or an error is
//! about. Marks say so: pings that the client sends right before or behind an event, whose pongs
//! stand among its frames where the event does.

use serde_json::Value;

use super::NUMBERS;
use super::resource::{Resource, User};

/// What a client is told.
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
    /// A subscription begins, or is asked for again.
    Began {
        resource: Resource,
        is_again: bool,
    },
    /// A subscription ends.
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
    /// Something about a resource which the next mark names.
    Nameless(fn(Resource) -> Word),
    /// A request was not carried out.
    Refused,
}

impl Said {
    /// Reads a message. The middle of a long one may be missing: its data goes on and on.
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

/// Reads a document: its author's name says what it is.
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

/// What stands between messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Began {
        resource: Resource,
        is_again: bool,
    },
    Ended(Resource),
    /// What was said and named no resource was about this one.
    About(Resource),
    /// There is nothing to say.
    Nudge,
}

impl Mark {
    /// The payload of a ping.
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

    /// Reads the payload of a pong, for a client in this scope.
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
