//! One thread's authenticators of callers, for all interfaces.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::forge::access::{ForgeAuth, audience};
use super::m2::access::{M2Auth, Terms, WRITERS};
use super::refusal_log::RefusalLog;
use crate::auth::{Audience, Authenticator, Keys};
use crate::config::origins::Origins;

/// The `aud` values of tokens that interfaces sign or demand. A token with one of them is refused
/// as a user's token, so this list must be complete.
pub const AUDIENCES: [Audience; 5] =
    [audience::CONTEXT, audience::INVOCATION, audience::SERVICE, audience::CHANNEL, WRITERS];

/// What callers are authenticated with. A reload replaces it whole.
#[derive(Debug)]
pub struct Trust {
    /// The keys that the node trusts.
    pub keys: Arc<Keys>,
    /// The lifetime of the Forge realtime tokens that the node signs, in seconds.
    pub token_lifetime_s: u64,
    /// The settings and the key of M2.
    pub m2: Terms,
    /// The origins whose pages may use the node; `None` if all may.
    pub origins: Option<Arc<Origins>>,
}

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
    /// The origins whose pages may use the node; `None` if all may.
    pub origins: Option<Arc<Origins>>,
    /// The log of callers that the thread has refused.
    pub refusals: RefusalLog,
    /// The trust that the authenticators above were made from.
    made_from: Arc<Trust>,
    /// The trust in effect.
    trust: Cache<Arc<ArcSwap<Trust>>, Arc<Trust>>,
}

impl Authenticators {
    /// Creates authenticators with empty caches, which keep these keys. `token_lifetime_s` is the
    /// lifetime of the Forge realtime tokens that they sign, in seconds.
    pub fn new(keys: Arc<Keys>, token_lifetime_s: u64, m2: Terms) -> Self {
        Self::following(Arc::new(ArcSwap::from_pointee(Trust {
            keys,
            token_lifetime_s,
            m2,
            origins: None,
        })))
    }

    /// Creates authenticators with empty caches, which take a new trust in [`Self::refresh`].
    pub fn following(trust: Arc<ArcSwap<Trust>>) -> Self {
        Self::from_trust(Cache::new(trust))
    }

    fn from_trust(mut trust: Cache<Arc<ArcSwap<Trust>>, Arc<Trust>>) -> Self {
        let made_from = trust.load().clone();
        let Trust { keys, token_lifetime_s, m2, origins } = &*made_from;
        Self {
            users: Authenticator::new(keys.clone()),
            forge: ForgeAuth::new(keys.clone(), *token_lifetime_s),
            m2: M2Auth::new(keys.clone(), m2.clone()),
            origins: origins.clone(),
            refusals: RefusalLog::default(),
            made_from,
            trust,
        }
    }

    /// Takes the trust in effect if it has been replaced. The caches of verified tokens are then
    /// empty, because they hold tokens of removed keys. Otherwise it only compares two pointers.
    pub fn refresh(&mut self) {
        if !Arc::ptr_eq(self.trust.load(), &self.made_from) {
            let refusals = std::mem::take(&mut self.refusals);
            *self = Self { refusals, ..Self::from_trust(self.trust.clone()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{UserClaims, sign_user};

    #[test]
    fn a_verified_token_of_a_removed_key_is_refused_after_a_refresh() {
        let trust = |secret: &str| Trust {
            keys: Arc::new(Keys::new("ik_", "anon_", secret, &AUDIENCES).unwrap()),
            token_lifetime_s: 60,
            m2: Terms::new(true, None),
            origins: None,
        };
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let claims = UserClaims { sub: "u", ..UserClaims::default() };
        let [old_token, new_token] = [&old, &new].map(|key| sign_user(key, &claims).unwrap());
        let shared = Arc::new(ArcSwap::from_pointee(trust(&old)));
        let mut auth = Authenticators::following(shared.clone());
        assert!(auth.users.verify(&old_token, 1).is_ok());
        shared.store(Arc::new(trust(&new)));
        assert!(auth.users.verify(&old_token, 1).is_ok(), "it is not refreshed yet");
        auth.refresh();
        assert!(auth.users.verify(&old_token, 1).is_err());
        let verified = auth.users.verify(&new_token, 1).unwrap();
        auth.refresh();
        let cached = auth.users.verify(&new_token, 1).unwrap();
        assert!(Arc::ptr_eq(&verified, &cached), "nothing was replaced");
    }
}
