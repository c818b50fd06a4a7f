//! Who may read and who may write M2's documents, by the headers of a request.
//!
//! A reader presents a token of the organization, or a key. A writer presents a credential that is
//! more than a reader's: no claim that a platform's tokens happen to have makes a reader a writer.
//! Every credential that is presented must be good, even if one of them would do.

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
use error::{API_KEY, INVALID, NOTHING, READS, SCHEME};
use holder::{Holder, judge};
pub use sign::{NewToken, sign_token};

/// The purpose of tokens that write the documents of an organization.
pub const WRITERS: Audience = Audience::new("m2-writer");

/// What the operator has decided about readers.
#[derive(Clone, Debug)]
pub struct Terms {
    require_auth: bool,
    api_key: Option<SecretDigest>,
}

impl Terms {
    /// Creates the terms: whether readers must present a credential, and a key that is good for
    /// reading alone.
    pub fn new(require_auth: bool, api_key: Option<&str>) -> Self {
        Self { require_auth, api_key: api_key.map(SecretDigest::new) }
    }
}

/// A reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reader {
    /// The user; `None` for a service, or if no credential is required.
    pub user: Option<Arc<str>>,
    /// When its token expires, in seconds since the epoch; `None` for never.
    pub expires_at: Option<u64>,
}

impl Reader {
    /// A reader without a user.
    const SERVICE: Self = Self { user: None, expires_at: None };
}

/// Authenticates readers and writers for one thread, and remembers the tokens that it has verified.
#[derive(Debug)]
pub struct M2Auth {
    keys: Arc<Keys>,
    terms: Terms,
    holders: TokenCache<Arc<Holder>>,
}

impl M2Auth {
    /// Creates an authenticator that remembers nothing yet. New keys need a new one.
    pub fn new(keys: Arc<Keys>, terms: Terms) -> Self {
        Self { keys, terms, holders: TokenCache::new(TOKEN_CACHE_MAX) }
    }

    /// Authenticates a reader of this organization's documents by its headers, at `now_s` seconds
    /// since the epoch. With a key and a token it is the token's user.
    ///
    /// # Errors
    /// If the caller may not read.
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

    /// Authenticates a writer of this organization's documents by its headers, at `now_s` seconds
    /// since the epoch. One credential of a writer is enough.
    ///
    /// # Errors
    /// If the caller may not write.
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
        let holder = self.holders.proof(token, now_s, INVALID, || {
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

/// What a caller has presented, all of it good.
struct Shown {
    holder: Option<Arc<Holder>>,
    /// In `x-api-key` and as the bearer.
    keys: [Option<Key>; 2],
}

impl Shown {
    fn has_key(&self) -> bool {
        self.keys.iter().any(Option::is_some)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    /// The node's.
    Api,
    /// The key of readers.
    Readers,
}
