//! What nodes of a cluster tell each other of calls that a platform registers.

use super::Millis;

/// A call that a platform has registered or revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation {
    /// Chosen by the platform; a later registration of the same id replaces this one.
    pub id: Box<str>,
    /// When it expires, in milliseconds since the epoch. A revocation has the time of what it
    /// revokes.
    pub expires: Millis,
    /// The description that the platform gave; `None` if the call is revoked.
    pub description: Option<Box<str>>,
}
