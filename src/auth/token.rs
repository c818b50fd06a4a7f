//! JSON Web Tokens: compact JWS (RFC 7515 section 3.1) with the claims that the node reads (RFC
//! 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::keys::{KeyError, Keys};
use super::value::Plain;
use super::{AuthError, TokenProblem};
use crate::limits::JWT_SECRET_BYTES_MIN;
use crate::message::{Credential, Role};

/// Seconds by which an issuer's clock may be ahead of the node's before its new tokens are refused.
/// Expiry has no such tolerance: a token is invalid from the second of its `exp`.
const NOT_BEFORE_LEEWAY_S: u64 = 5;
/// The `type` of tokens that only serve to get other tokens.
const REFRESH: &str = "refresh";

/// Verifies a user's token at `now_s` seconds since the epoch. The caller bounds its length.
pub(super) fn verify(keys: &Keys, token: &str, now_s: u64) -> Result<Credential, AuthError> {
    let claims: Claims = trusted(keys, token).map_err(AuthError::Token)?;
    // A token with a purpose of its own does not say who its holder is.
    if keys.reserves(&claims.aud.0) {
        return Err(AuthError::Token(TokenProblem::Audience));
    }
    let provenance = [&claims.kind, &claims.iss, &claims.aud];
    check_provenance(keys, provenance).map_err(AuthError::Token)?;
    claims.credential(now_s)
}

/// Checks the `type`, `iss` and `aud` of a user's token: it is no refresh token, and comes from an
/// issuer and is for a purpose that the node is set to take tokens of.
pub(crate) fn check_provenance(
    keys: &Keys,
    [kind, iss, aud]: [&Plain; 3],
) -> Result<(), TokenProblem> {
    if kind.0 == REFRESH {
        return Err(TokenProblem::Refresh);
    }
    keys.accepted().check(&iss.0, &aud.0)
}

/// Returns the user that a `sub` names. A number is taken as its text, because some issuers number
/// their users.
pub(crate) fn subject(sub: &Plain) -> Option<Box<str>> {
    match &sub.0 {
        Value::String(id) if !id.is_empty() => Some(id.as_str().into()),
        Value::Number(id) => Some(id.to_string().into()),
        _ => None,
    }
}

/// Returns a token's claims if a key that the node trusts has signed it.
///
/// # Errors
/// Those of [`claims`], and [`TokenProblem::Malformed`] if the claims are not such an object.
pub(crate) fn trusted<T: DeserializeOwned>(keys: &Keys, token: &str) -> Result<T, TokenProblem> {
    object(&claims(keys, token)?).ok_or(TokenProblem::Malformed)
}

/// Returns a token's claims, in JSON, if a key that the node trusts has signed it.
///
/// # Errors
/// [`TokenProblem::Malformed`] if the token is not a JWT, otherwise [`TokenProblem::Signature`].
///
/// HS256 is checked with the secret only, so that no public key can serve as an HMAC secret. Every
/// other algorithm is checked with the public keys that are pinned to it.
pub(crate) fn claims(keys: &Keys, token: &str) -> Result<Vec<u8>, TokenProblem> {
    let jws = Jws::parse(token).ok_or(TokenProblem::Malformed)?;
    let is_signed = match jws.algorithm {
        Algorithm::HS256 => jws.is_signed_by(keys.secret()),
        algorithm => {
            keys.candidates(algorithm, jws.kid.as_deref()).any(|key| jws.is_signed_by(key))
        }
    };
    if !is_signed {
        if let Some(kid) = jws.kid.as_deref().filter(|_| jws.algorithm != Algorithm::HS256) {
            keys.note_unsigned(kid);
        }
        return Err(TokenProblem::Signature);
    }
    jws.claims().ok_or(TokenProblem::Malformed)
}

/// Returns a token's claims, in JSON, if it is signed with HS256 and this key.
pub(crate) fn claims_by(key: &DecodingKey, token: &str) -> Option<Vec<u8>> {
    let jws = Jws::parse(token)?;
    if jws.algorithm == Algorithm::HS256 && jws.is_signed_by(key) { jws.claims() } else { None }
}

/// Creates a token signed with HS256.
pub(crate) fn sign(key: &EncodingKey, claims: &impl Serialize) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, key)
        .expect("the key is an HMAC secret, and claims serialize to an object")
}

/// Why `fanfare token` does not create a token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// The secret is too short for HS256.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The node would refuse the token for this reason.
    #[error("{0}")]
    Claims(&'static str),
}

/// Creates a token signed with HS256, or fails if the secret is shorter than
/// [`JWT_SECRET_BYTES_MIN`].
pub(crate) fn sign_with_secret(secret: &str, claims: &impl Serialize) -> Result<String, KeyError> {
    if secret.len() < JWT_SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort { bytes: secret.len() });
    }
    Ok(sign(&EncodingKey::from_secret(secret.as_bytes()), claims))
}

/// Why the dates of a token are not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DateError {
    /// `exp` or `nbf` is not a number.
    Malformed,
    /// The token has expired: the time of `exp` has come.
    Expired,
    /// The token is not valid yet: `nbf` is more than [`NOT_BEFORE_LEEWAY_S`] ahead.
    Early,
}

/// Checks `exp` and `nbf` at `now_s` seconds since the epoch. Returns the first whole second at
/// which the token is no longer valid, or `None` without `exp`.
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

/// Parses a JSON object, or returns `None`. Arrays are refused first, because serde would accept
/// one as a structure.
pub(crate) fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Deserializes a claim that is present, even if it is null. So an explicit null differs from an
/// absent claim and is refused as a date or a list.
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
    /// The user's id, which the node refuses if it is empty.
    pub sub: &'a str,
    /// The user's role; `None` stands for `authenticated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a str>,
    /// The user's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    /// The token's expiry in seconds since the epoch; `None` if it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// All other claims.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Creates a user's token, or fails if the secret is shorter than [`JWT_SECRET_BYTES_MIN`].
pub fn sign_user(secret: &str, claims: &UserClaims<'_>) -> Result<String, KeyError> {
    sign_with_secret(secret, claims)
}

/// A compact JWS, parsed but not verified.
///
/// The node parses it itself and uses `jsonwebtoken` only for signatures. That crate's `decode`
/// ignores `crit`, reads the clock, and reports some malformed claims as malformed JSON, although
/// clients receive different errors for the two.
struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    /// The signed part: header and claims, still encoded.
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
        // The node implements no extensions, so it must refuse a token with critical ones (RFC 7515
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
    #[serde(default)]
    iss: Plain,
    #[serde(default, rename = "type")]
    kind: Plain,
}

impl Claims {
    fn credential(self, now_s: u64) -> Result<Credential, AuthError> {
        let expires_at = expiry(self.exp.as_ref(), self.nbf.as_ref(), now_s)
            .map_err(|error| AuthError::Token(error.into()))?;
        // A role of the wrong type must not fall back to `authenticated`.
        let role = match self.role.0 {
            Value::Null => Role::Authenticated,
            Value::String(name) => Role::named(&name),
            _ => return Err(AuthError::Token(TokenProblem::Malformed)),
        };
        let id = subject(&self.sub).ok_or(AuthError::Subject)?;
        let email = match self.email.0 {
            Value::String(email) => Some(email.into_boxed_str()),
            _ => None,
        };
        Ok(Credential { id, email, role, is_user: true, expires_at })
    }
}

/// Returns the first whole second that is not before `exp`, which may have a fraction (RFC 7519
/// section 2).
fn first_second_after(exp: &Value) -> Result<u64, DateError> {
    if let Some(seconds) = exp.as_u64() {
        return Ok(seconds);
    }
    // The conversion saturates: a date before the epoch has expired, a huge one never expires.
    exp.as_f64().map(|seconds| seconds.ceil() as u64).ok_or(DateError::Malformed)
}
