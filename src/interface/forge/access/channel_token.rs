//! Realtime tokens. A node signs them for an app's back end, which passes them to clients. A token
//! permits subscribing to one channel or publishing on it; subscriber and publisher must have equal
//! claims.

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

/// The purpose for which the key of realtime tokens is derived from the node's secret.
const PURPOSE: &str = "fanfare forge: realtime tokens, 1";

/// The node's key for realtime tokens. No other issuer can sign them.
pub(super) struct ChannelTokenKey {
    keys: Arc<Keys>,
    pub(super) signs: EncodingKey,
    verifies: DecodingKey,
}

impl ChannelTokenKey {
    /// Derives the key from the node's secret, so nodes with the same secret have the same key.
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

/// An action that a realtime token may permit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Permission {
    /// Subscribing to the channel.
    Subscribe,
    /// Publishing on the channel.
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

    /// Returns the permission of that name; `None` for other names.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Subscribe, Self::Publish].into_iter().find(|permission| permission.name() == name)
    }
}

/// The request that a token is presented for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted<'a> {
    /// The name of the channel.
    pub channel: &'a str,
    /// The installation of the caller.
    pub installation: &'a str,
    /// The permission that the request needs.
    pub permission: Permission,
}

/// The claims and the expiry of a verified token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The claims as canonical JSON, which are part of the topic.
    pub claims: Box<str>,
    /// When the token expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// The content of a token to sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewToken<'a> {
    /// The installation of the back end that requests the token.
    pub installation: &'a str,
    /// The name of the channel, which must be valid.
    pub channel: &'a str,
    /// The claims that subscriber and publisher must have in common: the JSON text of an object.
    pub claims: &'a str,
    /// The permissions; `None` for all, an empty list for none.
    pub permissions: Option<&'a [Permission]>,
}

/// A signed realtime token and its expiry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The token, a JWT.
    pub token: String,
    /// When the token expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// Why claims cannot be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimsError {
    /// The claims are longer than [`CLAIMS_BYTES_MAX`], as given or in canonical form.
    #[error("claims must have at most {CLAIMS_BYTES_MAX} bytes of JSON")]
    TooLong,
    /// The claims are not a JSON object, or contain a number beyond the range of a double.
    #[error("claims must be a JSON object")]
    NotAnObject,
}

/// The payload of a token to sign.
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
    /// Parsed separately, because nested in the payload they would exceed the depth that was
    /// allowed when they were signed.
    claims: Box<RawValue>,
}

/// Signs a token that is valid for `lifetime_s` seconds.
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

/// Verifies a token. If several errors apply, the first in the order of [`TokenError`] is returned.
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

/// Returns claims in canonical form. Both the given and the canonical length are bounded, because
/// numbers can be longer in canonical form (`1e20`).
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

/// Returns the names of permissions, sorted and without repetitions.
fn names(permissions: &[Permission]) -> Vec<&'static str> {
    let mut permissions = permissions.to_vec();
    permissions.sort_unstable();
    permissions.dedup();
    permissions.into_iter().map(Permission::name).collect()
}
