//! Realtime tokens. The node signs them for an app's back end, which gives them to clients that may
//! subscribe to one channel, or publish on it, with the same claims.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{audience, jcs};
use crate::auth::Keys;
use crate::auth::token;
use crate::auth::value::Plain;
use crate::interface::forge::limits::CLAIMS_BYTES_MAX;
use crate::interface::forge::nouns::TokenError;
use crate::limits::TOKEN_BYTES_MAX;

const ISSUER: &str = "fanfare";

/// What the key of realtime tokens is derived for.
const PURPOSE: &str = "fanfare forge: realtime tokens, 1";

/// The node's own key for realtime tokens. No other issuer signs such tokens.
pub(super) struct ChannelTokenKey {
    keys: Arc<Keys>,
    pub(super) signs: EncodingKey,
    verifies: DecodingKey,
}

impl ChannelTokenKey {
    /// Derives the key, which is the same on all nodes with the same secret.
    pub(super) fn new(keys: Arc<Keys>) -> Self {
        let key = keys.derive(PURPOSE);
        let (signs, verifies) = (EncodingKey::from_secret(&key), DecodingKey::from_secret(&key));
        Self { keys, signs, verifies }
    }
}

impl fmt::Debug for ChannelTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[masked]")
    }
}

/// What a token may be for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Permission {
    /// To subscribe to the channel.
    Subscribe,
    /// To publish on it.
    Publish,
}

impl Permission {
    /// Returns the name that tokens and requests use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }

    /// Finds the permission of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Subscribe, Self::Publish].into_iter().find(|permission| permission.name() == name)
    }
}

/// What a token is presented for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The installation of the caller that presents it.
    pub installation: &'a str,
    /// What the caller wants to do.
    pub permission: Permission,
}

/// What a good token gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Its claims, as canonical JSON: part of the topic.
    pub claims: Box<str>,
    /// When it expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// A token to be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewToken<'a> {
    /// The installation of the back end that asks for it.
    pub installation: &'a str,
    /// The channel that it opens; the caller has checked the name.
    pub channel: &'a str,
    /// What subscriber and publisher must have in common: the JSON text of an object.
    pub claims: &'a str,
    /// What it permits; `None` for everything, an empty list for nothing.
    pub permissions: Option<&'a [Permission]>,
}

/// A token that was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The token.
    pub token: String,
    /// When it expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// Why claims cannot be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimsError {
    /// They are longer than [`CLAIMS_BYTES_MAX`].
    #[error("claims must have at most {CLAIMS_BYTES_MAX} bytes of JSON")]
    TooLong,
    /// They are not an object, not JSON, or hold a number that no double comes near.
    #[error("claims must be a JSON object")]
    NotAnObject,
}

/// Claims as the payload holds them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewPayload<'a> {
    iss: &'static str,
    aud: &'static str,
    iat: u64,
    exp: u64,
    installation_id: &'a str,
    channel: NewChannel<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<&'static str>>,
}

#[derive(Serialize)]
struct NewChannel<'a> {
    name: &'a str,
    claims: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    aud: Plain,
    exp: u64,
    installation_id: Box<str>,
    channel: PayloadChannel,
    #[serde(default, deserialize_with = "token::present")]
    permissions: Option<Vec<Box<str>>>,
}

#[derive(Deserialize)]
struct PayloadChannel {
    name: Box<str>,
    /// Read separately, so that they may be nested as deep as when they were signed.
    claims: Box<RawValue>,
}

/// Signs a token that is good for `lifetime_s` seconds.
pub(super) fn sign(
    key: &ChannelTokenKey,
    new: &NewToken<'_>,
    lifetime_s: u64,
    now_s: u64,
) -> Result<Signed, ClaimsError> {
    let claims = canonical_claims(new.claims)?;
    let claims = RawValue::from_string(claims).expect("canonical JSON is JSON");
    let expires_at = now_s.saturating_add(lifetime_s);
    let payload = NewPayload {
        iss: ISSUER,
        aud: audience::CHANNEL.name(),
        iat: now_s,
        exp: expires_at,
        installation_id: new.installation,
        channel: NewChannel { name: new.channel, claims: &claims },
        permissions: new.permissions.map(names),
    };
    Ok(Signed { token: token::sign(&key.signs, &payload), expires_at })
}

/// Verifies a token. Of several faults the first in the order of [`TokenError`] is returned.
pub(super) fn verify(
    key: &ChannelTokenKey,
    token: &str,
    wanted: &Wanted<'_>,
    now_s: u64,
) -> Result<Grant, TokenError> {
    let (payload, claims) = read(key, token).ok_or(TokenError::Invalid)?;
    if *payload.installation_id != *wanted.installation {
        return Err(TokenError::Invalid);
    }
    if payload.exp <= now_s {
        return Err(TokenError::Expired);
    }
    if *payload.channel.name != *wanted.channel {
        return Err(TokenError::ChannelMismatch);
    }
    let wanted = wanted.permission.name();
    if payload.permissions.is_some_and(|names| !names.iter().any(|name| **name == *wanted)) {
        return Err(TokenError::MissingPermission);
    }
    Ok(Grant { claims, expires_at: payload.exp })
}

fn read(key: &ChannelTokenKey, token: &str) -> Option<(Payload, Box<str>)> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let payload: Payload = token::object(&token::claims_by(&key.verifies, token)?)?;
    if key.keys.audience_of(&payload.aud.0) != Some(audience::CHANNEL) {
        return None;
    }
    let claims = canonical_claims(payload.channel.claims.get()).ok()?;
    Some((payload, claims.into()))
}

/// Returns claims in canonical form. Numbers may be longer in that form (`1e20`), so both lengths
/// are bounded.
fn canonical_claims(json: &str) -> Result<String, ClaimsError> {
    if json.len() > CLAIMS_BYTES_MAX {
        return Err(ClaimsError::TooLong);
    }
    let claims = serde_json::from_str(json).map_err(|_| ClaimsError::NotAnObject);
    let Plain(claims) = claims?;
    if !claims.is_object() {
        return Err(ClaimsError::NotAnObject);
    }
    let claims = jcs::canonical(&claims);
    if claims.len() > CLAIMS_BYTES_MAX { Err(ClaimsError::TooLong) } else { Ok(claims) }
}

/// Returns the names of permissions, each once.
fn names(permissions: &[Permission]) -> Vec<&'static str> {
    let mut permissions = permissions.to_vec();
    permissions.sort_unstable();
    permissions.dedup();
    permissions.into_iter().map(Permission::name).collect()
}
