//! Public keys of token issuers, and the errors of keys that the node cannot trust.

use std::ops::RangeInclusive;

use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest as _, Sha256};

use crate::limits::JWT_SECRET_BYTES_MIN;

/// Most public keys that a node trusts. A token without `kid` is checked against every key of its
/// algorithm, so this bounds the cost of a forged token. The node does not start with more.
pub const PUBLIC_KEYS_MAX: usize = 32;

/// Length of an RSA modulus in bytes: 2,048 to 8,192 bits. The minimum is that of RFC 7518 section
/// 3.3, the maximum that of the cryptography library.
const RSA_MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;

/// Why a key of the configuration cannot be trusted. The operator is at fault. The texts never
/// contain a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The API key lacks the prefix that distinguishes it from a JWT in an `Authorization` header.
    #[error("the API key must begin with `ik_`")]
    ApiKey,
    /// The anon key lacks the prefix that distinguishes it from a JWT.
    #[error("the anon key must begin with `anon_`")]
    AnonKey,
    /// The JWT secret is shorter than [`JWT_SECRET_BYTES_MIN`].
    #[error("the JWT secret has {bytes} bytes; HS256 needs at least {JWT_SECRET_BYTES_MIN}")]
    SecretTooShort {
        /// The secret's length in bytes.
        bytes: usize,
    },
    /// A block of a PEM bundle is not a public key.
    #[error("line {line}: {reason}")]
    Pem {
        /// The line of the block's BEGIN, counted from 1.
        line: usize,
        /// The block's fault, without its content.
        reason: &'static str,
    },
    /// The text has no PEM block.
    #[error("no PEM block found: expected `-----BEGIN PUBLIC KEY-----`")]
    PemEmpty,
    /// The text is not a JWK set (RFC 7517 section 5), or the set has no keys.
    #[error("not a JWK set: {0}")]
    Jwks(String),
    /// A key of a JWK set is refused, or no key of the set can verify tokens.
    #[error("{name}: {reason}")]
    Jwk {
        /// The key's index in the set, and its `kid` if it has one.
        name: String,
        /// The key's fault, without its content.
        reason: &'static str,
    },
    /// The node would trust more than [`PUBLIC_KEYS_MAX`] public keys.
    #[error("more than {PUBLIC_KEYS_MAX} public keys")]
    TooMany,
}

/// A token issuer's public key, which verifies one algorithm only.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    pub(super) kid: Option<Box<str>>,
    /// RS256, ES256 or EdDSA.
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// SHA-256 of the key's numbers, by which keys are compared.
    digest: [u8; 32],
}

impl PublicKey {
    /// Creates an RSA key from its modulus and exponent, big-endian.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let modulus = without_leading_zeros(modulus);
        let exponent = without_leading_zeros(exponent);
        if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
            return Err("the RSA modulus must have 2048 to 8192 bits");
        }
        if matches!(exponent, [] | [1]) {
            return Err("the RSA exponent is too small");
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self::new(Algorithm::RS256, key, &[modulus, exponent]))
    }

    /// Creates a P-256 key from the coordinates of its point, 32 bytes each. Does not check that
    /// the point is on the curve.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Result<Self, &'static str> {
        if x.len() != 32 || y.len() != 32 {
            return Err("the coordinates of a P-256 point must have 32 bytes each");
        }
        let key = DecodingKey::from_ec_der(&[&[4], x, y].concat());
        Ok(Self::new(Algorithm::ES256, key, &[x, y]))
    }

    /// Creates an Ed25519 key from its 32 bytes.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() != 32 {
            return Err("an Ed25519 key must have 32 bytes");
        }
        let key = DecodingKey::from_ed_der(bytes);
        Ok(Self::new(Algorithm::EdDSA, key, &[bytes]))
    }

    fn new(algorithm: Algorithm, key: DecodingKey, numbers: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for number in numbers {
            digest.update((number.len() as u64).to_be_bytes());
            digest.update(number);
        }
        Self { kid: None, algorithm, key, digest: digest.finalize().into() }
    }

    /// Returns a text that is equal for keys that verify the same tokens, and for no others.
    pub(super) fn identity(&self) -> String {
        let digest: String = self.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let kid = self.kid.as_ref().map(|kid| format!("{kid:?}")).unwrap_or_default();
        format!("{:?} {digest} {kid}", self.algorithm)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
