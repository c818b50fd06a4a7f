//! Who may read and who may write M2's documents, by the headers of a request.
//!
//! A reader presents a token of the organization, or a key. A writer presents a credential that is
//! more than a reader's: no claim that a platform's tokens happen to have makes a reader a writer.
//! Every credential that is presented must be good, even if one of them would do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::cache::{Proof, TokenCache};
use crate::auth::keys::{API_KEY_PREFIX, SecretDigest};
use crate::auth::token::{self, DateError};
use crate::auth::value::Plain;
use crate::auth::{Audience, Keys, SignError, bearer_token};
use crate::interface::m2::limits::NAME_BYTES_MAX;
use crate::interface::m2::nouns::name_problem;
use crate::limits::TOKEN_CACHE_MAX;
use crate::message::Role;

#[cfg(test)]
mod tests;

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

/// Why a caller may not read or write. It is the caller's fault in every case. The text is for
/// people, and repeats no credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum M2Error {
    /// The caller has not proved who it is.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The caller is known, and may not.
    #[error("{0}")]
    Forbidden(&'static str),
}

impl M2Error {
    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized(_) => 401,
            Self::Forbidden(_) => 403,
        }
    }

    /// Returns the `error` code of the body.
    pub fn error(self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "AUTH_UNAUTHORIZED",
            Self::Forbidden(_) => "FORBIDDEN",
        }
    }
}

const NOTHING: M2Error = M2Error::Unauthorized(
    "there is no credential; send Authorization: Bearer and a token, or x-api-key",
);
const SCHEME: M2Error = M2Error::Unauthorized("Authorization must be Bearer and a token");
const API_KEY: M2Error = M2Error::Unauthorized("the API key is not a good one");
const INVALID: M2Error =
    M2Error::Unauthorized("the token is malformed or its signature is not good");
const OTHER_KIND: M2Error =
    M2Error::Unauthorized("the token is for something else, as its aud says");
const NO_USER: M2Error = M2Error::Unauthorized(
    "the token must have a user_id, or a sub, of 1 to 255 bytes without control characters",
);
const NO_ORGANIZATION: M2Error =
    M2Error::Forbidden("the token names no organization; it must have an organization_id");
const OTHER_ORGANIZATION: M2Error = M2Error::Forbidden(
    "the token's organization_id is another organization than that of x-m2-organization",
);
/// The purpose of tokens that write the documents of an organization.
pub const WRITERS: Audience = Audience::new("m2-writer");
const READS: M2Error = M2Error::Forbidden(
    "this credential only reads; write with the node's API key, or with the token of an \
     administrator or of a writer, whose aud is m2-writer",
);

const _: () = assert!(NAME_BYTES_MAX == 255, "a message above names the bound");

impl From<DateError> for M2Error {
    fn from(error: DateError) -> Self {
        Self::Unauthorized(match error {
            DateError::Malformed => "the token's exp and nbf must be numbers",
            DateError::Expired => "the token has expired",
            DateError::Early => "the token is not valid yet",
        })
    }
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

/// The holder of a good token.
#[derive(Debug)]
struct Holder {
    kind: Kind,
    organization: Option<Box<str>>,
    expires_at: Option<u64>,
}

#[derive(Debug)]
enum Kind {
    /// A user, perhaps an administrator.
    User { id: Arc<str>, is_admin: bool },
    /// A back end that writes, and does nothing else.
    Writer,
}

impl Holder {
    fn reader(&self, organization: &str) -> Result<Reader, M2Error> {
        match &self.kind {
            Kind::Writer => Err(OTHER_KIND),
            Kind::User { id, .. } => {
                self.is_of(organization)?;
                Ok(Reader { user: Some(Arc::clone(id)), expires_at: self.expires_at })
            }
        }
    }

    fn writes(&self, organization: &str) -> Result<(), M2Error> {
        match self.kind {
            Kind::Writer => self.is_of(organization),
            Kind::User { is_admin: true, .. } => Ok(()),
            Kind::User { .. } => Err(READS),
        }
    }

    fn is_of(&self, organization: &str) -> Result<(), M2Error> {
        match &self.organization {
            Some(own) if **own == *organization => Ok(()),
            Some(_) => Err(OTHER_ORGANIZATION),
            None => Err(NO_ORGANIZATION),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    user_id: Plain,
    #[serde(default)]
    sub: Plain,
    #[serde(default)]
    organization_id: Plain,
    #[serde(default)]
    role: Plain,
    #[serde(default, deserialize_with = "token::present")]
    exp: Option<Plain>,
    #[serde(default, deserialize_with = "token::present")]
    nbf: Option<Plain>,
    #[serde(default)]
    aud: Plain,
}

/// Returns the holder of a token, and when the token expires.
fn judge(keys: &Keys, token: &str, now_s: u64) -> Result<(Holder, Option<u64>), M2Error> {
    let claims = token::claims(keys, token).and_then(|json| token::object::<Claims>(&json));
    let claims = claims.ok_or(INVALID)?;
    let is_writers = keys.audience_of(&claims.aud.0) == Some(WRITERS);
    if !is_writers && keys.reserves(&claims.aud.0) {
        return Err(OTHER_KIND);
    }
    let expires_at = token::expiry(claims.exp.as_ref(), claims.nbf.as_ref(), now_s)?;
    let kind = if is_writers { Kind::Writer } else { claims.user()? };
    let organization = claims.organization_id.0.as_str().map(Into::into);
    Ok((Holder { kind, organization, expires_at }, expires_at))
}

impl Claims {
    fn user(&self) -> Result<Kind, M2Error> {
        let id = if self.user_id.0.is_null() { &self.sub.0 } else { &self.user_id.0 };
        let id = name(id).ok_or(NO_USER)?;
        // As everywhere else an administrator has a subject, and its role is a name.
        let is_admin = name(&self.sub.0).is_some()
            && self.role.0.as_str().is_some_and(|role| Role::named(role) == Role::ProjectAdmin);
        Ok(Kind::User { id: id.into(), is_admin })
    }
}

/// Returns a text that can be the name of a user.
fn name(value: &Value) -> Option<&str> {
    value.as_str().filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name_problem(name).is_none()
}

/// A token for trying things out. In production a platform signs such tokens with its own key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewToken<'a> {
    /// The user that reads with it; `None` for a writer's token.
    pub user: Option<&'a str>,
    /// The organization.
    pub organization: &'a str,
    /// When it is made, in seconds since the epoch.
    pub issued_at: u64,
    /// When it expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// Makes a token signed with HS256 that the node accepts.
///
/// # Errors
/// If the node would refuse it.
pub fn sign_token(secret: &str, new: &NewToken<'_>) -> Result<String, SignError> {
    #[derive(Serialize)]
    struct NewClaims<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'static str>,
        iat: u64,
        exp: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<&'a str>,
        organization_id: &'a str,
    }
    let NewToken { user, organization, issued_at, expires_at } = *new;
    if !user.is_none_or(is_name) {
        return Err(SignError::Claims(
            "a user has 1 to 255 bytes, no control characters among them",
        ));
    }
    if !is_name(organization) {
        return Err(SignError::Claims(
            "an organization has 1 to 255 bytes, no control characters among them",
        ));
    }
    let aud = if user.is_some() { None } else { Some(WRITERS.name()) };
    let claims = NewClaims {
        aud,
        iat: issued_at,
        exp: expires_at,
        user_id: user,
        organization_id: organization,
    };
    Ok(token::sign_with_secret(secret, &claims)?)
}
