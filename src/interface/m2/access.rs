//! Decides by the headers of a request whether a caller may read or write M2's documents.
//!
//! A reader presents a token of the organization, or a key. A writer presents the node's API key,
//! an administrator's token, or a token with the audience of writers; no other claim of a reader's
//! token makes its holder a writer. All presented credentials must be valid, even if one would do.

mod error;
mod holder;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::auth::cache::{Proof, TokenCache};
use crate::auth::keys::{API_KEY_PREFIX, SecretDigest};
use crate::auth::{Audience, Keys, bearer_token};
use crate::limits::TOKEN_CACHE_MAX;
pub use error::M2Error;
use error::{API_KEY, MALFORMED, NOTHING, READS, SCHEME};
use holder::{Holder, judge};
pub use sign::{NewToken, sign_token};

/// The audience of tokens that permit writing the documents of an organization.
pub const WRITERS: Audience = Audience::new("m2-writer");

/// The operator's settings for readers.
#[derive(Clone, Debug)]
pub struct Terms {
    require_auth: bool,
    api_key: Option<SecretDigest>,
}

impl Terms {
    /// Creates the settings: whether readers must present a credential, and a key that permits only
    /// reading, if there is one.
    pub fn new(require_auth: bool, api_key: Option<&str>) -> Self {
        Self { require_auth, api_key: api_key.map(SecretDigest::new) }
    }
}

/// A caller that may read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reader {
    /// The user; `None` for the holder of a key, or if no credential is required and none is
    /// presented.
    pub user: Option<Arc<str>>,
    /// When the token expires, in seconds since the epoch; `None` for never.
    pub expires_at: Option<u64>,
}

impl Reader {
    /// The reader without a user.
    const SERVICE: Self = Self { user: None, expires_at: None };
}

/// The authenticator of readers and writers on one thread. It caches verified tokens.
#[derive(Debug)]
pub struct M2Auth {
    keys: Arc<Keys>,
    terms: Terms,
    holders: TokenCache<Arc<Holder>>,
}

impl M2Auth {
    /// Creates an authenticator with an empty cache. If the keys change, a new one is needed.
    pub fn new(keys: Arc<Keys>, terms: Terms) -> Self {
        Self { keys, terms, holders: TokenCache::new(TOKEN_CACHE_MAX) }
    }

    /// Authenticates a reader of an organization's documents by the values of `Authorization` and
    /// `x-api-key`, at `now_s` seconds since the epoch. If both a key and a token are presented,
    /// the reader is the token's user.
    ///
    /// # Errors
    /// [`M2Error`] if the caller may not read.
    pub fn reader(
        &mut self,
        authorization: Option<&str>,
        api_key: Option<&str>,
        organization: &str,
        now_s: u64,
    ) -> Result<Reader, M2Error> {
        let shown = self.shown(authorization, api_key, now_s)?;
        match shown.holder {
            Some(holder) => holder.reader(organization),
            None if shown.has_key() || !self.terms.require_auth => Ok(Reader::SERVICE),
            None => Err(NOTHING),
        }
    }

    /// Authenticates a writer of an organization's documents by the values of `Authorization` and
    /// `x-api-key`, at `now_s` seconds since the epoch. One credential that permits writing is
    /// enough.
    ///
    /// # Errors
    /// [`M2Error`] if the caller may not write.
    pub fn writer(
        &mut self,
        authorization: Option<&str>,
        api_key: Option<&str>,
        organization: &str,
        now_s: u64,
    ) -> Result<(), M2Error> {
        let shown = self.shown(authorization, api_key, now_s)?;
        if shown.keys.contains(&Some(Key::Api)) {
            return Ok(());
        }
        match shown.holder {
            Some(holder) => holder.writes(organization),
            None if shown.has_key() => Err(READS),
            None => Err(NOTHING),
        }
    }

    fn shown(
        &mut self,
        authorization: Option<&str>,
        api_key: Option<&str>,
        now_s: u64,
    ) -> Result<Shown, M2Error> {
        let key = api_key.map(|key| self.key(key).ok_or(API_KEY)).transpose()?;
        let Some(header) = authorization else {
            return Ok(Shown { holder: None, keys: [key, None] });
        };
        let token = bearer_token(header).ok_or(SCHEME)?;
        if let Some(bearer) = self.key(token) {
            return Ok(Shown { holder: None, keys: [key, Some(bearer)] });
        }
        if token.starts_with(API_KEY_PREFIX) {
            return Err(API_KEY);
        }
        let holder = self.holders.proof(token, now_s, MALFORMED, || {
            let (holder, expires_at) = judge(&self.keys, token, now_s)?;
            Ok(Proof { of: Arc::new(holder), expires_at })
        })?;
        Ok(Shown { holder: Some(holder), keys: [key, None] })
    }

    fn key(&self, candidate: &str) -> Option<Key> {
        let is_readers = |key: &SecretDigest| key.matches(candidate);
        if self.keys.is_api_key(candidate) {
            return Some(Key::Api);
        }
        self.terms.api_key.as_ref().is_some_and(is_readers).then_some(Key::Readers)
    }
}

/// The credentials that a caller has presented, all of them valid.
struct Shown {
    holder: Option<Arc<Holder>>,
    /// The keys in `x-api-key` and in `Authorization`.
    keys: [Option<Key>; 2],
}

impl Shown {
    fn has_key(&self) -> bool {
        self.keys.iter().any(Option::is_some)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    /// The API key of the node.
    Api,
    /// The key that permits only reading.
    Readers,
}
