//! JSON Web Tokens: compact JWS (RFC 7515 section 3.1) with the claims that matter here (RFC 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::AuthError;
use super::keys::{KeyAlgorithm, KeyError, Keys};
use crate::limits::JWT_SECRET_BYTES_MIN;
use crate::message::{Credential, Role};

/// Seconds by which an issuer's clock may be ahead of ours before its fresh tokens are refused.
/// Expiry gets no such grace: a token is worth nothing from the second that it names.
const NOT_BEFORE_LEEWAY_S: u64 = 5;

/// Judges a token at `now_s` seconds since the epoch. The caller bounds the token's length.
pub(super) fn verify(keys: &Keys, token: &str, now_s: u64) -> Result<Credential, AuthError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Token)?;
    let (header, claims) = signed.split_once('.').ok_or(AuthError::Token)?;
    let header: Header = part(header)?;
    // An extension that must be understood is by definition not understood (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(AuthError::Token);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| AuthError::Token)?;
    if !is_signed(keys, &header, &Signed { message: signed.as_bytes(), signature }) {
        return Err(AuthError::Token);
    }
    part::<Claims>(claims)?.credential(now_s)
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

/// Makes a token signed with HS256. Fails where the secret is too short for the node to accept.
pub fn sign_user(secret: &str, claims: &UserClaims<'_>) -> Result<String, KeyError> {
    if secret.len() < JWT_SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort { bytes: secret.len() });
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    let claims = serde_json::to_vec(claims).expect("strings and a number are always JSON");
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &key)
        .and_then(|signer| Ok(signer.try_sign(signed.as_bytes())?))
        .expect("HMAC takes any key and any message");
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

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
    sub: Value,
    #[serde(default)]
    role: Value,
    #[serde(default)]
    email: Value,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
}

impl Claims {
    fn credential(self, now_s: u64) -> Result<Credential, AuthError> {
        let expires_at = self.exp.map(|exp| expiry(&exp)).transpose()?;
        if expires_at.is_some_and(|expires_at| now_s >= expires_at) {
            return Err(AuthError::Token);
        }
        if let Some(not_before) = self.nbf {
            let not_before = not_before.as_f64().ok_or(AuthError::Token)?;
            if not_before > now_s.saturating_add(NOT_BEFORE_LEEWAY_S) as f64 {
                return Err(AuthError::Token);
            }
        }
        // A role of the wrong type must not fall back to one that is allowed something.
        let role = match self.role {
            Value::Null => Role::Authenticated,
            Value::String(name) => Role::named(&name),
            _ => return Err(AuthError::Token),
        };
        let id = match self.sub {
            Value::String(id) if !id.is_empty() => id.into_boxed_str(),
            _ => return Err(AuthError::Subject),
        };
        let email = match self.email {
            Value::String(email) => Some(email.into_boxed_str()),
            _ => None,
        };
        Ok(Credential { id, email, role, is_user: true, expires_at })
    }
}

/// The first whole second at which the token is no longer valid: NumericDate may have a fraction
/// (RFC 7519 section 2), `now` has none.
fn expiry(exp: &Value) -> Result<u64, AuthError> {
    if let Some(seconds) = exp.as_u64() {
        return Ok(seconds);
    }
    // Conversion saturates: what lies before the epoch has expired, what is huge never does.
    exp.as_f64().map(|seconds| seconds.ceil() as u64).ok_or(AuthError::Token)
}

/// Keeps an explicit null apart from an absent claim: it is no date.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Decodes one part of a token, which must be a JSON object: serde would take an array for a
/// structure, too.
fn part<T: DeserializeOwned>(encoded: &str) -> Result<T, AuthError> {
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| AuthError::Token)?;
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(AuthError::Token);
    }
    serde_json::from_slice(&json).map_err(|_| AuthError::Token)
}

/// HS256 is checked with the secret and nothing else, so that no public key can ever serve as an
/// HMAC secret; the other algorithms with the keys that are pinned to them.
fn is_signed(keys: &Keys, header: &Header, signed: &Signed<'_>) -> bool {
    if header.alg == "HS256" {
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
