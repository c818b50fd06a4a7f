//! Public keys of token issuers, and why a key is not one of them.

use std::ops::RangeInclusive;

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::limits::JWT_SECRET_BYTES_MIN;

/// Public keys that a node may trust. A token that names none is checked against each of its
/// algorithm, so this bounds what a stranger's token can cost. More are refused at start.
pub const PUBLIC_KEYS_MAX: usize = 32;

/// Length of an RSA modulus in bytes: 2,048 to 8,192 bits, the least of RFC 7518 section 3.3 and
/// the most that verification takes.
const RSA_MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;

/// Why a key cannot be trusted: the operator's fault, found at start. Texts never hold a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Without its prefix it could never be recognised in an `Authorization` header.
    #[error("the API key must begin with `ik_`")]
    ApiKey,
    /// Without its prefix it could never be told from a JWT.
    #[error("the anon key must begin with `anon_`")]
    AnonKey,
    /// See [`JWT_SECRET_BYTES_MIN`].
    #[error("the JWT secret has {bytes} bytes; HS256 needs at least {JWT_SECRET_BYTES_MIN}")]
    SecretTooShort {
        /// Its length.
        bytes: usize,
    },
    /// One block of a PEM bundle.
    #[error("line {line}: {reason}")]
    Pem {
        /// Where the block begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Text without a single PEM block.
    #[error("no PEM block found: expected `-----BEGIN PUBLIC KEY-----`")]
    PemEmpty,
    /// Text that is not a JWK set (RFC 7517 section 5).
    #[error("not a JWK set: {0}")]
    Jwks(String),
    /// One key of a JWK set.
    #[error("{name}: {reason}")]
    Jwk {
        /// Its place in the set and its id, if it has one.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// See [`PUBLIC_KEYS_MAX`].
    #[error("more than {PUBLIC_KEYS_MAX} public keys")]
    TooMany,
}

/// A token issuer's public key, good for one algorithm only.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    pub(super) kid: Option<Box<str>>,
    /// RS256, ES256 or EdDSA.
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl PublicKey {
    /// An RSA key from its modulus and exponent, big-endian.
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
        Ok(Self { kid: None, algorithm: Algorithm::RS256, key })
    }

    /// A P-256 key from the coordinates of its point.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Result<Self, &'static str> {
        if x.len() != 32 || y.len() != 32 {
            return Err("the coordinates of a P-256 point must have 32 bytes each");
        }
        let key = DecodingKey::from_ec_der(&[&[4], x, y].concat());
        Ok(Self { kid: None, algorithm: Algorithm::ES256, key })
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(key: &[u8]) -> Result<Self, &'static str> {
        if key.len() != 32 {
            return Err("an Ed25519 key must have 32 bytes");
        }
        let key = DecodingKey::from_ed_der(key);
        Ok(Self { kid: None, algorithm: Algorithm::EdDSA, key })
    }

    /// What it verifies.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
