//! All that a thread authenticates callers with.

use std::sync::Arc;

use super::forge::access::{ForgeAuth, audience};
use super::m2::access::{M2Auth, Terms, WRITERS};
use crate::auth::{Audience, Authenticator, Keys};

/// The purposes that tokens of the interfaces have. Every token with one of them in its `aud` is
/// refused as a user's token, so the list must be complete.
pub const AUDIENCES: [Audience; 5] =
    [audience::CONTEXT, audience::INVOCATION, audience::SERVICE, audience::CHANNEL, WRITERS];

/// One thread's view of the keys that the node trusts, with the tokens that it has verified.
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
    /// Creates authenticators that have verified nothing yet. Realtime tokens of Forge that they
    /// sign are valid for `token_lifetime_s` seconds.
    pub fn new(keys: Arc<Keys>, token_lifetime_s: u64, m2: Terms) -> Self {
        let forge = ForgeAuth::new(keys.clone(), token_lifetime_s);
        let m2 = M2Auth::new(keys.clone(), m2);
        Self { users: Authenticator::new(keys), forge, m2 }
    }
}
