//! Authentication of clients and administrators by keys and tokens.
//!
//! This room is pure: the caller reads the clock and the key files. [`Keys`] holds the keys that
//! the node trusts, and all threads share it. Each thread has an [`Authenticator`], which caches
//! the tokens that the thread has verified. Interfaces whose tokens say more than a user's identity
//! verify them in their own rooms, with functions of this room.

use std::sync::Arc;

use crate::limits::TOKEN_CACHE_MAX;
use crate::message::{Credential, Role};

mod audience;
pub(crate) mod cache;
mod jwks;
pub(crate) mod keys;
mod pem;
mod problem;
mod public_key;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod token;
pub(crate) mod value;

pub use audience::Audience;
pub use jwks::count as jwk_count;
pub use keys::{Accepted, KeyError, Keys, PUBLIC_KEYS_MAX, UnknownKey};
pub use problem::TokenProblem;
pub use token::{SignError, UserClaims, sign_user};

use cache::{Proof, TokenCache};

/// Why a client may not connect. The client is at fault in every case. The text is the documented
/// message of CONNECT_ERROR; [`AuthError::code`] and [`AuthError::why`] tell more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// `apiKey` is set and is not the API key.
    #[error("Invalid API key")]
    ApiKey,
    /// The token begins with `anon_` and is not the anon key.
    #[error("Invalid anon key")]
    AnonKey,
    /// The client sent neither a key nor a token.
    #[error("No authentication provided")]
    Nothing,
    /// The token is not valid, for this reason.
    #[error("Invalid token")]
    Token(TokenProblem),
    /// The token is valid, but its `sub` is missing, empty or neither a string nor a number.
    #[error("Invalid token subject")]
    Subject,
    /// The credential is an administrator's and counts only beside a certificate of the client.
    #[error("This credential needs a client certificate")]
    Certificate,
}

impl AuthError {
    /// Returns the code that tells clients the reason apart.
    pub fn code(self) -> &'static str {
        match self {
            Self::ApiKey => "API_KEY_INVALID",
            Self::AnonKey => "ANON_KEY_INVALID",
            Self::Nothing => "CREDENTIAL_MISSING",
            Self::Token(problem) => problem.code(),
            Self::Subject => TokenProblem::Subject.code(),
            Self::Certificate => "CERTIFICATE_MISSING",
        }
    }

    /// Returns the reason for people and logs. It repeats no credential.
    pub fn why(self) -> &'static str {
        match self {
            Self::ApiKey => "the API key is not that of this node",
            Self::AnonKey => "the anon key is not that of this node",
            Self::Nothing => "neither a key nor a token was sent",
            Self::Token(problem) => problem.text(),
            Self::Subject => TokenProblem::Subject.text(),
            Self::Certificate => {
                "the credential counts only beside a client certificate, and none was shown"
            }
        }
    }
}

/// Why an HTTP request may not administer the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdminError {
    /// The request has neither a key nor a bearer token.
    #[error("No admin token provided")]
    Nothing,
    /// The bearer token is not valid, for this reason.
    #[error("Invalid token")]
    Token(TokenProblem),
    /// The bearer token is valid, but its role is not `project_admin`.
    #[error("Admin access required")]
    NotAdmin,
    /// The key in the bearer token or in `X-API-Key` is not the API key.
    #[error("Invalid API key")]
    ApiKey,
}

impl AdminError {
    /// Returns the status code of the response: 401 or 403.
    pub fn status(self) -> u16 {
        match self {
            Self::Nothing | Self::Token(_) | Self::ApiKey => 401,
            Self::NotAdmin => 403,
        }
    }

    /// Returns the `error` code in the body of the response.
    pub fn error(self) -> &'static str {
        match self {
            Self::Nothing => "AUTH_INVALID_CREDENTIALS",
            Self::Token(_) | Self::NotAdmin => "AUTH_UNAUTHORIZED",
            Self::ApiKey => "AUTH_INVALID_API_KEY",
        }
    }

    /// Returns the reason for people and logs. It repeats no credential.
    pub fn why(self) -> &'static str {
        match self {
            Self::Nothing => AuthError::Nothing.why(),
            Self::Token(problem) => problem.text(),
            Self::NotAdmin => "the token is not an administrator's",
            Self::ApiKey => AuthError::ApiKey.why(),
        }
    }

    /// Returns the `nextActions` in the body of the response, which say what to send.
    pub fn next_actions(self) -> &'static str {
        match self {
            Self::Nothing => {
                "Send the API key in X-API-Key, or the JWT of an administrator as Authorization: \
                 Bearer."
            }
            Self::Token(_) => {
                "Send a JWT that this node trusts and that has not expired, or the API key in \
                 X-API-Key."
            }
            Self::NotAdmin => {
                "Send the JWT of an administrator, whose role is project_admin, or the API key in \
                 X-API-Key."
            }
            Self::ApiKey => {
                "Send the API key of this node; fanfare keys prints it on the machine of the node."
            }
        }
    }
}

/// One thread's authentication of callers, with a cache of the tokens that it has verified.
#[derive(Debug)]
pub struct Authenticator {
    keys: Arc<Keys>,
    verified: TokenCache<Arc<Credential>>,
    api: Arc<Credential>,
    anonymous: Arc<Credential>,
}

impl Authenticator {
    /// Creates an authenticator with an empty cache. New keys need a new authenticator, because the
    /// cache would still accept tokens of the old keys.
    pub fn new(keys: Arc<Keys>) -> Self {
        Self {
            keys,
            verified: TokenCache::new(TOKEN_CACHE_MAX),
            api: Arc::new(key_holder("api-key", Role::ProjectAdmin)),
            anonymous: Arc::new(key_holder("anonymous", Role::Anon)),
        }
    }

    /// Verifies a JWT at `now_s` seconds since the epoch. All clients that present the same token
    /// to this thread share one credential.
    pub fn verify(&mut self, token: &str, now_s: u64) -> Result<Arc<Credential>, AuthError> {
        let too_long = AuthError::Token(TokenProblem::Malformed);
        self.verified.proof(token, now_s, too_long, || {
            let credential = token::verify(&self.keys, token, now_s)?;
            let expires_at = credential.expires_at;
            Ok(Proof { of: Arc::new(credential), expires_at })
        })
    }

    /// Checks the `Authorization` and `X-API-Key` headers of an administrative request at `now_s`
    /// seconds since the epoch. A bearer token that begins with `ik_` decides alone, and without
    /// one a non-empty `X-API-Key` does.
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
        let credential = self.verify(token, now_s).map_err(|error| match error {
            AuthError::Token(problem) => AdminError::Token(problem),
            _ => AdminError::Token(TokenProblem::Subject),
        })?;
        match credential.role {
            Role::ProjectAdmin => Ok(()),
            _ => Err(AdminError::NotAdmin),
        }
    }

    /// Authenticates a client that presents `key` as the API key.
    pub(crate) fn api_key(&self, key: &str) -> Result<Arc<Credential>, AuthError> {
        if self.keys.is_api_key(key) { Ok(Arc::clone(&self.api)) } else { Err(AuthError::ApiKey) }
    }

    /// Authenticates a client that presents a JWT or the anon key, at `now_s` seconds since the
    /// epoch.
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

/// Returns the credential of a key. It is not a user's, so each connection with the key is a member
/// of its own.
fn key_holder(id: &str, role: Role) -> Credential {
    Credential { id: id.into(), email: None, role, is_user: false, expires_at: None }
}

/// Returns the token of `Authorization: Bearer <token>` (RFC 6750 section 2.1), or `None` for
/// another scheme or an empty token. The scheme's case does not matter (RFC 9110 section 11.1).
pub fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
