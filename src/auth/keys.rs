//! The keys that the node trusts: the two keys, the secret, and the public keys of token issuers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::TokenProblem;
use super::audience::{Audience, Reserved};
use super::public_key::PublicKey;
pub use super::public_key::{KeyError, PUBLIC_KEYS_MAX};
use super::{jwks, pem};
use crate::limits::JWT_SECRET_BYTES_MIN;

/// The first characters of every API key.
pub(crate) const API_KEY_PREFIX: &str = "ik_";
/// The first characters of every anon key.
pub(super) const ANON_KEY_PREFIX: &str = "anon_";

/// Every key that the node trusts. Complete it first, then share it: nothing changes it later.
#[derive(Debug)]
pub struct Keys {
    /// The present one first, then those before it.
    api_keys: Vec<SecretDigest>,
    anon_keys: Vec<SecretDigest>,
    accepted: Accepted,
    secret: DecodingKey,
    derives: Hmac<Sha256>,
    reserved: Reserved,
    public: Vec<PublicKey>,
    /// Those that an issuer's address has answered. They are not in [`Self::public_set`], because
    /// nodes fetch them at different times.
    fetched: Vec<PublicKey>,
    unknown: Option<Arc<UnknownKey>>,
}

/// Whether a token named a key that the node does not know. It is shared with what fetches keys.
#[derive(Default, Debug)]
pub struct UnknownKey(AtomicBool);

impl UnknownKey {
    /// Returns whether such a token has come since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Keys {
    /// Trusts the API key (`ik_…`), the anon key (`anon_…`) and the secret of HS256 tokens. A token
    /// whose `aud` names one of the `reserved` purposes is not a user's token.
    pub fn new(
        api_key: &str,
        anon_key: &str,
        jwt_secret: &str,
        reserved: &'static [Audience],
    ) -> Result<Self, KeyError> {
        if !api_key.starts_with(API_KEY_PREFIX) {
            return Err(KeyError::ApiKey);
        }
        if !anon_key.starts_with(ANON_KEY_PREFIX) {
            return Err(KeyError::AnonKey);
        }
        if jwt_secret.len() < JWT_SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort { bytes: jwt_secret.len() });
        }
        Ok(Self {
            api_keys: vec![SecretDigest::new(api_key)],
            anon_keys: vec![SecretDigest::new(anon_key)],
            accepted: Accepted::default(),
            secret: DecodingKey::from_secret(jwt_secret.as_bytes()),
            derives: hmac(jwt_secret.as_bytes()),
            reserved: Reserved(reserved),
            public: Vec::new(),
            fetched: Vec::new(),
            unknown: None,
        })
    }

    /// Trusts also keys that these replaced, for as long as callers still have them.
    ///
    /// # Errors
    /// [`KeyError::ApiKey`] or [`KeyError::AnonKey`] if one has not the prefix of its kind.
    pub fn add_previous(&mut self, api_keys: &[&str], anon_keys: &[&str]) -> Result<(), KeyError> {
        if !api_keys.iter().all(|key| key.starts_with(API_KEY_PREFIX)) {
            return Err(KeyError::ApiKey);
        }
        if !anon_keys.iter().all(|key| key.starts_with(ANON_KEY_PREFIX)) {
            return Err(KeyError::AnonKey);
        }
        self.api_keys.extend(api_keys.iter().map(|key| SecretDigest::new(key)));
        self.anon_keys.extend(anon_keys.iter().map(|key| SecretDigest::new(key)));
        Ok(())
    }

    /// Takes users' tokens only of these issuers and purposes from now on.
    pub fn accept_only(&mut self, accepted: Accepted) {
        self.accepted = accepted;
    }

    /// Returns whose tokens are taken, and for which purposes.
    pub(super) fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Trusts every key of a PEM bundle (RFC 7468), each for the algorithm of its type: RSA for
    /// RS256, P-256 for ES256, Ed25519 for EdDSA. `kid` is the id of all of them; keys without one
    /// are tried for tokens whose `kid` no key has. Returns how many keys there were; at an error
    /// none of them is trusted.
    pub fn add_pem(&mut self, kid: Option<&str>, text: &str) -> Result<usize, KeyError> {
        let mut keys = pem::parse(text)?;
        for key in &mut keys {
            key.kid = kid.map(Into::into);
        }
        self.add(keys)
    }

    /// Trusts the keys of a JWK set (RFC 7517) that are for signatures and of a kind known here;
    /// others are passed over, as its section 5 asks, as long as one is left. Private and symmetric
    /// keys are errors: they do not belong in such a file. Returns how many keys are trusted now
    /// that were not before; at an error none of them is.
    pub fn add_jwks(&mut self, json: &str) -> Result<usize, KeyError> {
        self.add(jwks::parse(json)?)
    }

    /// Trusts the keys of a JWK set that an issuer's address has answered, if there is one, and
    /// tells `unknown` of tokens of other keys. The errors are those of [`Self::add_jwks`].
    pub fn follow(&mut self, json: Option<&str>, unknown: Arc<UnknownKey>) -> Result<(), KeyError> {
        self.unknown = Some(unknown);
        let fetched = json.map(jwks::parse).transpose()?.unwrap_or_default();
        if self.public.len() + fetched.len() > PUBLIC_KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        self.fetched = fetched;
        Ok(())
    }

    /// Notes that no key has signed a token that names the key `kid`, unless the node has it.
    pub(super) fn note_unsigned(&self, kid: &str) {
        let mut all = self.public.iter().chain(&self.fetched);
        if let Some(unknown) = &self.unknown
            && !all.any(|key| key.kid.as_deref() == Some(kid))
        {
            unknown.0.store(true, Ordering::Relaxed);
        }
    }

    fn add(&mut self, keys: Vec<PublicKey>) -> Result<usize, KeyError> {
        if self.public.len() + keys.len() > PUBLIC_KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let added = keys.len();
        self.public.extend(keys);
        Ok(added)
    }

    /// Whether this is the API key, or one before it.
    pub(crate) fn is_api_key(&self, candidate: &str) -> bool {
        any_matches(&self.api_keys, candidate)
    }

    /// Whether this is the anon key, or one before it.
    pub(super) fn is_anon_key(&self, candidate: &str) -> bool {
        any_matches(&self.anon_keys, candidate)
    }

    /// The secret of HS256 tokens.
    pub(super) fn secret(&self) -> &DecodingKey {
        &self.secret
    }

    /// Returns a key for one purpose, derived from the secret of HS256 tokens. It is the same on
    /// all nodes with the same secret. It reveals neither the secret nor keys for other purposes.
    ///
    /// `purpose` must contain a blank: what is signed with the secret itself is `header.claims`,
    /// which never does, so that no token's signature is a derived key.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        debug_assert!(purpose.contains(' '), "a purpose must not look like a token");
        self.derives.clone().chain_update(purpose).finalize().into_bytes().into()
    }

    /// Returns the public keys as one text, which is the same on nodes that trust the same ones,
    /// whatever files they are in and in which order.
    pub fn public_set(&self) -> String {
        let mut all: Vec<_> = self.public.iter().map(PublicKey::identity).collect();
        all.sort();
        all.dedup();
        all.join("\n")
    }

    /// Returns the reserved purpose that `aud` names, if it names exactly one.
    pub(crate) fn audience_of(&self, aud: &Value) -> Option<Audience> {
        self.reserved.of(aud)
    }

    /// Returns whether `aud` names a reserved purpose, whatever else it holds.
    pub(crate) fn reserves(&self, aud: &Value) -> bool {
        self.reserved.is_named_in(aud)
    }

    /// Returns the public keys of this algorithm that may have signed a token with this `kid`: the
    /// keys with the same `kid` or, if no key has it, those without a `kid`. For a token without a
    /// `kid`, returns all keys of the algorithm.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        let all = move || self.public.iter().chain(&self.fetched);
        let pinned = move || all().filter(move |key| key.algorithm() == algorithm);
        let wanted = kid.filter(|kid| pinned().any(|key| key.kid.as_deref() == Some(kid)));
        pinned()
            .filter(move |key| kid.is_none() || key.kid.as_deref() == wanted)
            .map(|key| &key.key)
    }
}

/// Whose tokens are taken as those of users, and for which purposes.
#[derive(Clone, Default, Debug)]
pub struct Accepted {
    /// The issuers (`iss`) whose tokens the node takes; empty for all.
    pub issuers: Vec<String>,
    /// The purposes (`aud`) of which the node asks one of a token; empty for none.
    pub audiences: Vec<String>,
}

impl Accepted {
    /// Checks the `iss` and the `aud` of a token. The second may be a list.
    pub(super) fn check(&self, iss: &Value, aud: &Value) -> Result<(), TokenProblem> {
        let Self { issuers, audiences } = self;
        if !issuers.is_empty() && !has(issuers, iss) {
            return Err(TokenProblem::Issuer);
        }
        let aud = aud.as_array().map_or(std::slice::from_ref(aud), Vec::as_slice);
        if !audiences.is_empty() && !aud.iter().any(|one| has(audiences, one)) {
            return Err(TokenProblem::Audience);
        }
        Ok(())
    }
}

fn has(all: &[String], text: &Value) -> bool {
    text.as_str().is_some_and(|text| all.iter().any(|one| one == text))
}

/// Compares with all keys, also behind one that matches.
fn any_matches(keys: &[SecretDigest], candidate: &str) -> bool {
    keys.iter().fold(false, |found, key| found | key.matches(candidate))
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// SHA-256 of a token or key.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// A key that is only ever compared: hashes of both sides are, all bytes of them, so that the time
/// taken tells nothing about how much of a guess was right. A wrong length needs no hash: it is
/// public.
#[derive(Clone)]
pub(crate) struct SecretDigest {
    bytes: usize,
    digest: [u8; 32],
}

impl SecretDigest {
    pub(crate) fn new(secret: &str) -> Self {
        Self { bytes: secret.len(), digest: digest(secret) }
    }

    pub(crate) fn matches(&self, candidate: &str) -> bool {
        if candidate.len() != self.bytes {
            return false;
        }
        let candidate = digest(candidate);
        self.digest.iter().zip(candidate).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[masked]")
    }
}
