//! The purposes of Forge's tokens, as their `aud` names them.

use crate::auth::Audience;

/// Proves where a subscriber is.
pub const CONTEXT: Audience = Audience::new("realtime");
/// Proves where a publisher was invoked.
pub const INVOCATION: Audience = Audience::new("realtime-invocation");
/// Proves that a caller is the back end of an installation.
pub const SERVICE: Audience = Audience::new("realtime-service");
/// Opens one channel with claims of its own. Only the node itself signs such tokens.
pub const CHANNEL: Audience = Audience::new("realtime-channel");
