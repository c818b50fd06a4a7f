//! Breaches of Engine.IO and Socket.IO by clients.

/// A breach of a protocol by a client. The node closes the client's transport; the client may
/// connect again. The text says which rule was broken, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);
