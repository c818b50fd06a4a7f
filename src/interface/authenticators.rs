//! One thread's authenticators of callers, for all interfaces.

use std::sync::Arc;

use super::forge::access::{ForgeAuth, audience};
use super::m2::access::{M2Auth, Terms, WRITERS};
use crate::auth::{Audience, Authenticator, Keys};

/// The `aud` values of tokens that interfaces sign or demand. A token with one of them is refused
/// as a user's token, so this list must be complete.
pub const AUDIENCES: [Audience; 5] =
    [audience::CONTEXT, audience::INVOCATION, audience::SERVICE, audience::CHANNEL, WRITERS];

/// One thread's view of the keys that the node trusts, with a cache of the tokens that it has
/// verified.
#[derive(Debug)]
pub struct Authenticators {
    /// Authenticates clients of InsForge, and administrators.
    pub users: Authenticator,
    /// Authenticates callers of Forge.
    pub forge: ForgeAuth,
    /// Authenticates readers and writers of M2.
    pub m2: M2Auth,
}

impl Authenticators {
    /// Creates authenticators with empty caches. `token_lifetime_s` is the lifetime of the Forge
    /// realtime tokens that they sign, in seconds.
    pub fn new(keys: Arc<Keys>, token_lifetime_s: u64, m2: Terms) -> Self {
        let forge = ForgeAuth::new(keys.clone(), token_lifetime_s);
        let m2 = M2Auth::new(keys.clone(), m2);
        Self { users: Authenticator::new(keys), forge, m2 }
    }
}
