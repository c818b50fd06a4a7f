//! Keys and tokens: who a caller is, and whether it administers the node.
//!
//! All of this is pure: the caller reads the clock and the key files. [`Keys`] is what the node
//! trusts, shared by all threads. [`Authenticator`] is one thread's view of it, with the tokens
//! that the thread has already verified. Interfaces whose tokens say more than who a user is verify
//! them in their own rooms, with the parts that are here.

use std::sync::Arc;

use crate::limits::TOKEN_CACHE_MAX;
use crate::message::{Credential, Role};

mod audience;
pub(crate) mod cache;
mod jwks;
pub(crate) mod keys;
mod pem;
mod public_key;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod token;
pub(crate) mod value;

pub use audience::Audience;
pub use keys::{KeyError, Keys, PUBLIC_KEYS_MAX};
pub use token::{SignError, UserClaims, sign_user};

use cache::{Proof, TokenCache};

/// Why a client may not connect: its own fault in every case. The text is what it is told in
/// CONNECT_ERROR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// `apiKey` is given and is not the API key.
    #[error("Invalid API key")]
    ApiKey,
    /// The token looks like an anon key and is not the anon key.
    #[error("Invalid anon key")]
    AnonKey,
    /// Neither key nor token.
    #[error("No authentication provided")]
    Nothing,
    /// Malformed, unsigned, wrongly signed, expired or not yet valid.
    #[error("Invalid token")]
    Token,
    /// A good token that does not say who its holder is.
    #[error("Invalid token subject")]
    Subject,
}

/// Why an HTTP request may not administer the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdminError {
    /// Neither key nor bearer token.
    #[error("No admin token provided")]
    Nothing,
    /// A bearer token that does not verify.
    #[error("Invalid token")]
    Token,
    /// A good token of somebody who is no administrator.
    #[error("Admin access required")]
    NotAdmin,
    /// Not the API key.
    #[error("Invalid API key")]
    ApiKey,
}

impl AdminError {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Nothing | Self::Token | Self::ApiKey => 401,
            Self::NotAdmin => 403,
        }
    }

    /// The `error` code of the body.
    pub fn error(self) -> &'static str {
        match self {
            Self::Nothing => "AUTH_INVALID_CREDENTIALS",
            Self::Token | Self::NotAdmin => "AUTH_UNAUTHORIZED",
            Self::ApiKey => "AUTH_INVALID_API_KEY",
        }
    }

    /// The `nextActions` of the body, where it has one.
    pub fn next_actions(self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("Check the token is valid or login to get a new token."),
            Self::Token => None,
            Self::NotAdmin => {
                Some("Check the admin token is valid or login as admin to get a new token.")
            }
            Self::ApiKey => Some("Check the API key is valid or generate a new API key."),
        }
    }
}

/// Decides for one thread who a caller is, and remembers the tokens that it has verified.
#[derive(Debug)]
pub struct Authenticator {
    keys: Arc<Keys>,
    verified: TokenCache<Arc<Credential>>,
    api: Arc<Credential>,
    anonymous: Arc<Credential>,
}

impl Authenticator {
    /// Starts with nothing remembered. New keys need a new authenticator, so that no token outlives
    /// the key that signed it.
    pub fn new(keys: Arc<Keys>) -> Self {
        Self {
            keys,
            verified: TokenCache::new(TOKEN_CACHE_MAX),
            api: Arc::new(key_holder("api-key", Role::ProjectAdmin)),
            anonymous: Arc::new(key_holder("anonymous", Role::Anon)),
        }
    }

    /// Judges a JWT at `now_s` seconds since the epoch. The credential is shared by everybody who
    /// presents the same token to this thread.
    pub fn verify(&mut self, token: &str, now_s: u64) -> Result<Arc<Credential>, AuthError> {
        self.verified.proof(token, now_s, AuthError::Token, || {
            let credential = token::verify(&self.keys, token, now_s)?;
            let expires_at = credential.expires_at;
            Ok(Proof { of: Arc::new(credential), expires_at })
        })
    }

    /// Judges the `Authorization` and `X-API-Key` headers of an administrative request at `now_s`
    /// seconds since the epoch. A bearer that begins with `ik_`, else a non-empty `X-API-Key`,
    /// decides alone.
    pub fn admin(
        &mut self,
        authorization: Option<&str>,
        x_api_key: Option<&str>,
        now_s: u64,
    ) -> Result<(), AdminError> {
        let bearer = authorization.and_then(bearer_token);
        let api_key = bearer.filter(|token| token.starts_with(keys::API_KEY_PREFIX));
        if let Some(key) = api_key.or(x_api_key.filter(|key| !key.is_empty())) {
            return if self.keys.is_api_key(key) { Ok(()) } else { Err(AdminError::ApiKey) };
        }
        let token = bearer.ok_or(AdminError::Nothing)?;
        let credential = self.verify(token, now_s).map_err(|_| AdminError::Token)?;
        match credential.role {
            Role::ProjectAdmin => Ok(()),
            _ => Err(AdminError::NotAdmin),
        }
    }

    /// Authenticates the holder of the API key.
    pub(crate) fn api_key(&self, key: &str) -> Result<Arc<Credential>, AuthError> {
        if self.keys.is_api_key(key) { Ok(Arc::clone(&self.api)) } else { Err(AuthError::ApiKey) }
    }

    /// Authenticates the holder of a JWT or of the anon key, at `now_s` seconds since the epoch.
    pub(crate) fn token(&mut self, token: &str, now_s: u64) -> Result<Arc<Credential>, AuthError> {
        if !token.starts_with(keys::ANON_KEY_PREFIX) {
            return self.verify(token, now_s);
        }
        if self.keys.is_anon_key(token) {
            return Ok(Arc::clone(&self.anonymous));
        }
        Err(AuthError::AnonKey)
    }
}

/// Key holders are nobody in particular: each of their connections is a member of its own.
fn key_holder(id: &str, role: Role) -> Credential {
    Credential { id: id.into(), email: None, role, is_user: false, expires_at: None }
}

/// The token of `Authorization: Bearer <token>` (RFC 6750 section 2.1); the scheme's case does not
/// matter (RFC 9110 section 11.1). An empty token is none.
pub fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
