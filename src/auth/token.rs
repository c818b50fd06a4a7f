//! JSON Web Tokens: compact JWS (RFC 7515 section 3.1) with the claims that matter here (RFC 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::keys::{KeyAlgorithm, KeyError, Keys};
use super::value::Plain;
use super::{Audience, AuthError};
use crate::limits::JWT_SECRET_BYTES_MIN;
use crate::message::{Credential, Role};

/// Seconds by which an issuer's clock may be ahead of ours before its fresh tokens are refused.
/// Expiry gets no such grace: a token is worth nothing from the second that it names.
const NOT_BEFORE_LEEWAY_S: u64 = 5;

/// Judges a user's token at `now_s` seconds since the epoch. The caller bounds the token's length.
pub(super) fn verify(keys: &Keys, token: &str, now_s: u64) -> Result<Credential, AuthError> {
    let claims = claims(keys, token).and_then(|json| object::<Claims>(&json));
    claims.ok_or(AuthError::Token)?.credential(now_s)
}

/// What a token says, in JSON, if anybody whom the node trusts has signed it.
pub(super) fn claims(keys: &Keys, token: &str) -> Option<Vec<u8>> {
    claims_where(token, |header, signed| is_signed(keys, header, signed))
}

/// What a token says, in JSON, if it is signed with HS256 and this key.
pub(super) fn claims_by(key: &DecodingKey, token: &str) -> Option<Vec<u8>> {
    claims_where(token, |header, signed| {
        header.alg == HS256 && check(Algorithm::HS256, key, signed)
    })
}

/// A token signed with HS256.
pub(super) fn sign(key: &EncodingKey, claims: &impl Serialize) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    let claims = serde_json::to_vec(claims).expect("claims are members with names");
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, key)
        .and_then(|signer| Ok(signer.try_sign(signed.as_bytes())?))
        .expect("HMAC takes any key and any message");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token signed with HS256 and a secret that a node would accept.
pub(super) fn sign_with_secret(secret: &str, claims: &impl Serialize) -> Result<String, KeyError> {
    if secret.len() < JWT_SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort { bytes: secret.len() });
    }
    Ok(sign(&EncodingKey::from_secret(secret.as_bytes()), claims))
}

/// What is wrong with the dates of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DateError {
    /// One of them is no date.
    Malformed,
    /// `exp` has come.
    Expired,
    /// `nbf` has not.
    Early,
}

/// Checks `exp` and `nbf` at `now_s` seconds since the epoch. Returns the first whole second at
/// which the token is no longer valid, where it names one.
pub(super) fn expiry(
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
pub(super) fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Keeps an explicit null apart from an absent claim: it is no date, and no list.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
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

const HS256: &str = "HS256";

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

/// What a signature is checked against.
struct Signed<'a> {
    message: &'a [u8],
    signature: Vec<u8>,
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
        // What proves where somebody is, or what it may do, does not say who somebody is.
        if Audience::is_named_in(&self.aud.0) {
            return Err(AuthError::Token);
        }
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

fn claims_where(
    token: &str,
    is_signed: impl FnOnce(&Header, &Signed<'_>) -> bool,
) -> Option<Vec<u8>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = object(&URL_SAFE_NO_PAD.decode(header).ok()?)?;
    // An extension that must be understood is by definition not understood (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !is_signed(&header, &Signed { message: signed.as_bytes(), signature }) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(claims).ok()
}

/// HS256 is checked with the secret and nothing else, so that no public key can ever serve as an
/// HMAC secret; the other algorithms with the keys that are pinned to them.
fn is_signed(keys: &Keys, header: &Header, signed: &Signed<'_>) -> bool {
    if header.alg == HS256 {
        return check(Algorithm::HS256, keys.secret(), signed);
    }
    let Some(algorithm) = KeyAlgorithm::named(&header.alg) else {
        return false;
    };
    keys.candidates(algorithm, header.kid.as_deref())
        .any(|key| check(algorithm.into(), key, signed))
}

/// The provider is named here instead of being looked up in the crate's process-wide default,
/// which panics unless exactly one back-end is compiled in.
fn check(algorithm: Algorithm, key: &DecodingKey, signed: &Signed<'_>) -> bool {
    (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
        .is_ok_and(|verifier| verifier.verify(signed.message, &signed.signature).is_ok())
}
