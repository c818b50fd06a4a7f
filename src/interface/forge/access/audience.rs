//! The audiences of Forge's tokens: each value of `aud` has one purpose.

use crate::auth::Audience;

/// Context tokens, which prove the context of a subscriber.
pub const CONTEXT: Audience = Audience::new("realtime");
/// Invocation tokens, which prove the context in which a back end was invoked.
pub const INVOCATION: Audience = Audience::new("realtime-invocation");
/// Service tokens, which prove that a caller is the back end of an installation.
pub const SERVICE: Audience = Audience::new("realtime-service");
/// Realtime tokens, which give access to one channel with certain claims. Only nodes sign them.
pub const CHANNEL: Audience = Audience::new("realtime-channel");
