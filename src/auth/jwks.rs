//! The parser of JSON Web Key sets (RFC 7517), as token issuers publish them.
//!
//! The node parses them itself, because `jsonwebtoken::jwk` does not notice that a key is private,
//! on another curve or of the wrong length, and does not report which member of a key is at fault.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use super::public_key::{KeyError, PublicKey};

/// Returns all keys of a set that can verify tokens, in order. Passes over keys for other purposes,
/// but fails on private, symmetric, malformed and ambiguous keys, and if no key is left.
pub(super) fn parse(json: &str) -> Result<Vec<PublicKey>, KeyError> {
    let set: Set = serde_json::from_str(json).map_err(|error| KeyError::Jwks(explained(&error)))?;
    let mut keys: Vec<PublicKey> = Vec::new();
    let mut passed_over = None;
    for (index, jwk) in set.keys.into_iter().enumerate() {
        let fail = |reason, kid: Option<&str>| KeyError::Jwk { name: name(index, kid), reason };
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| {
            fail("not an object, or a member that must be a string is not one", None)
        })?;
        match jwk.read() {
            Verdict::Use(key) if keys.iter().any(|other| is_ambiguous(other, &key)) => {
                return Err(fail("a key before it has the same `kid`", jwk.kid.as_deref()));
            }
            Verdict::Use(key) => keys.push(key),
            Verdict::Pass(reason) => {
                passed_over.get_or_insert_with(|| fail(reason, jwk.kid.as_deref()));
            }
            Verdict::Refuse(reason) => return Err(fail(reason, jwk.kid.as_deref())),
        }
    }
    if keys.is_empty() {
        return Err(passed_over.unwrap_or_else(|| KeyError::Jwks("it has no keys".into())));
    }
    Ok(keys)
}

/// Returns how many keys of a set can verify tokens.
///
/// # Errors
/// Those of [`Keys::add_jwks`](super::Keys::add_jwks).
pub fn count(json: &str) -> Result<usize, KeyError> {
    parse(json).map(|keys| keys.len())
}

/// Returns whether a token's `kid` cannot distinguish two keys. RFC 7517 section 4.5 asks issuers
/// for distinct ids, but lets keys of different types share one.
fn is_ambiguous(one: &PublicKey, other: &PublicKey) -> bool {
    one.kid.is_some() && one.kid == other.kid && one.algorithm() == other.algorithm()
}

/// Returns the parser's message, or another one if it would quote the file, which may be secret.
fn explained(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => {
            let (line, column) = (error.line(), error.column());
            format!("expected an object with an array `keys` at line {line} column {column}")
        }
        _ => error.to_string(),
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members of a key that the node reads, for all types of keys.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part of a key. The node only checks that it is absent.
    d: Option<Value>,
}

enum Verdict {
    Use(PublicKey),
    /// The key has another purpose, which a set may contain.
    Pass(&'static str),
    /// The key is a mistake in the file.
    Refuse(&'static str),
}

impl Jwk {
    fn read(&self) -> Verdict {
        if self.kty == "oct" {
            return Verdict::Refuse("a symmetric key does not belong among public keys");
        }
        if self.d.is_some() {
            return Verdict::Refuse("a private key; remove `d` and the other private members");
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Verdict::Pass("its `use` is not `sig`");
        }
        type KeyOf = fn(&Jwk) -> Result<PublicKey, &'static str>;
        let (algorithm, key): (_, KeyOf) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                (Algorithm::RS256, |jwk| PublicKey::rsa(&bytes(&jwk.n)?, &bytes(&jwk.e)?))
            }
            ("EC", Some("P-256")) => {
                (Algorithm::ES256, |jwk| PublicKey::p256(&bytes(&jwk.x)?, &bytes(&jwk.y)?))
            }
            ("OKP", Some("Ed25519")) => {
                (Algorithm::EdDSA, |jwk| PublicKey::ed25519(&bytes(&jwk.x)?))
            }
            _ => return Verdict::Pass("not an RSA, P-256 or Ed25519 key"),
        };
        // A key may name its only algorithm: an RSA key for PS256 does not verify RS256.
        if self.alg.as_deref().is_some_and(|alg| alg.parse().ok() != Some(algorithm)) {
            return Verdict::Pass("its `alg` is not RS256, ES256 or EdDSA, or not for its type");
        }
        match key(self) {
            Ok(mut key) => {
                key.kid = self.kid.as_deref().map(Into::into);
                Verdict::Use(key)
            }
            Err(reason) => Verdict::Refuse(reason),
        }
    }
}

fn bytes(member: &Option<String>) -> Result<Vec<u8>, &'static str> {
    let text = member.as_ref().ok_or("a member that this type of key requires is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member is not base64url without padding")
}

fn name(index: usize, kid: Option<&str>) -> String {
    match kid {
        Some(kid) => format!("keys[{index}] (`{kid}`)"),
        None => format!("keys[{index}]"),
    }
}
