//! JSON Web Tokens: compact JWS (RFC 7515 section 3.1) with the claims that matter here (RFC 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::AuthError;
use super::keys::{KeyError, Keys};
use super::value::Plain;
use crate::limits::JWT_SECRET_BYTES_MIN;
use crate::message::{Credential, Role};

/// Seconds by which an issuer's clock may be ahead of ours before its fresh tokens are refused.
/// Expiry gets no such grace: a token is worth nothing from the second that it names.
const NOT_BEFORE_LEEWAY_S: u64 = 5;

/// Judges a user's token at `now_s` seconds since the epoch. The caller bounds the token's length.
pub(super) fn verify(keys: &Keys, token: &str, now_s: u64) -> Result<Credential, AuthError> {
    let claims = claims(keys, token).and_then(|json| object::<Claims>(&json));
    let claims = claims.ok_or(AuthError::Token)?;
    // A token with a purpose of its own does not say who its holder is.
    if keys.reserves(&claims.aud.0) {
        return Err(AuthError::Token);
    }
    claims.credential(now_s)
}

/// Returns what a token says, in JSON, if one of the keys that the node trusts has signed it.
///
/// HS256 is checked with the secret and nothing else, so that no public key can ever serve as an
/// HMAC secret. Every other algorithm is checked with the public keys that are pinned to it.
pub(crate) fn claims(keys: &Keys, token: &str) -> Option<Vec<u8>> {
    let jws = Jws::parse(token)?;
    let is_signed = match jws.algorithm {
        Algorithm::HS256 => jws.is_signed_by(keys.secret()),
        algorithm => {
            keys.candidates(algorithm, jws.kid.as_deref()).any(|key| jws.is_signed_by(key))
        }
    };
    if is_signed { jws.claims() } else { None }
}

/// Returns what a token says, in JSON, if it is signed with HS256 and this key.
pub(crate) fn claims_by(key: &DecodingKey, token: &str) -> Option<Vec<u8>> {
    let jws = Jws::parse(token)?;
    if jws.algorithm == Algorithm::HS256 && jws.is_signed_by(key) { jws.claims() } else { None }
}

/// Makes a token signed with HS256.
pub(crate) fn sign(key: &EncodingKey, claims: &impl Serialize) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, key)
        .expect("the key is a secret, and claims are members with names")
}

/// Why a token for trying things out is not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// The secret is too short.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The node would refuse it for another reason.
    #[error("{0}")]
    Claims(&'static str),
}

/// A token signed with HS256 and a secret that a node would accept.
pub(crate) fn sign_with_secret(secret: &str, claims: &impl Serialize) -> Result<String, KeyError> {
    if secret.len() < JWT_SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort { bytes: secret.len() });
    }
    Ok(sign(&EncodingKey::from_secret(secret.as_bytes()), claims))
}

/// What is wrong with the dates of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DateError {
    /// One of them is no date.
    Malformed,
    /// `exp` has come.
    Expired,
    /// `nbf` has not.
    Early,
}

/// Checks `exp` and `nbf` at `now_s` seconds since the epoch. Returns the first whole second at
/// which the token is no longer valid, where it names one.
pub(crate) fn expiry(
    exp: Option<&Plain>,
    nbf: Option<&Plain>,
    now_s: u64,
) -> Result<Option<u64>, DateError> {
    let expires_at = exp.map(|Plain(exp)| first_second_after(exp)).transpose()?;
    if expires_at.is_some_and(|expires_at| now_s >= expires_at) {
        return Err(DateError::Expired);
    }
    if let Some(Plain(not_before)) = nbf {
        let not_before = not_before.as_f64().ok_or(DateError::Malformed)?;
        if not_before > now_s.saturating_add(NOT_BEFORE_LEEWAY_S) as f64 {
            return Err(DateError::Early);
        }
    }
    Ok(expires_at)
}

/// Reads a JSON object: serde would take an array for a structure, too.
pub(crate) fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Keeps an explicit null apart from an absent claim: it is no date, and no list.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The claims of a token that `fanfare token` makes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct UserClaims<'a> {
    /// Who the holder is.
    pub sub: &'a str,
    /// `authenticated` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a str>,
    /// The holder's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    /// When it expires, in seconds since the epoch; never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}

/// Makes a user's token. Fails where the secret is too short for the node to accept.
pub fn sign_user(secret: &str, claims: &UserClaims<'_>) -> Result<String, KeyError> {
    sign_with_secret(secret, claims)
}

/// A compact JWS, taken apart but not verified.
///
/// The node takes it apart itself and leaves the signature to `jsonwebtoken`, because that crate's
/// `decode` ignores `crit`, reads the clock, and reports some malformed claims as malformed JSON,
/// although clients are told which of the two it is.
struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    /// What is signed: header and claims.
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct JwsHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

impl<'a> Jws<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let JwsHeader { alg, kid, crit } = object(&URL_SAFE_NO_PAD.decode(header).ok()?)?;
        // The node understands no extension, so one that must be understood is refused (RFC 7515,
        // section 4.1.11).
        if crit.is_some() {
            return None;
        }
        Some(Self { algorithm: alg.parse().ok()?, kid, message, claims, signature })
    }

    fn is_signed_by(&self, key: &DecodingKey) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm)
            .unwrap_or(false)
    }

    fn claims(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.claims).ok()
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Plain,
    #[serde(default)]
    role: Plain,
    #[serde(default)]
    email: Plain,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Plain>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Plain>,
    #[serde(default)]
    aud: Plain,
}

impl Claims {
    fn credential(self, now_s: u64) -> Result<Credential, AuthError> {
        let expires_at =
            expiry(self.exp.as_ref(), self.nbf.as_ref(), now_s).map_err(|_| AuthError::Token)?;
        // A role of the wrong type must not fall back to one that is allowed something.
        let role = match self.role.0 {
            Value::Null => Role::Authenticated,
            Value::String(name) => Role::named(&name),
            _ => return Err(AuthError::Token),
        };
        let id = match self.sub.0 {
            Value::String(id) if !id.is_empty() => id.into_boxed_str(),
            _ => return Err(AuthError::Subject),
        };
        let email = match self.email.0 {
            Value::String(email) => Some(email.into_boxed_str()),
            _ => None,
        };
        Ok(Credential { id, email, role, is_user: true, expires_at })
    }
}

/// NumericDate may have a fraction (RFC 7519 section 2), `now` has none.
fn first_second_after(exp: &Value) -> Result<u64, DateError> {
    if let Some(seconds) = exp.as_u64() {
        return Ok(seconds);
    }
    // Conversion saturates: what lies before the epoch has expired, what is huge never does.
    exp.as_f64().map(|seconds| seconds.ceil() as u64).ok_or(DateError::Malformed)
}
