//! What closes a client's transport.

/// The client broke the rules of a protocol: its transport is closed, and the client may come
/// again. The text says which rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);
