//! The parser of public keys in PEM (RFC 7468), as `openssl pkey -pubout` writes them.
//!
//! The key's type is read from the DER and decides the algorithm; no token can choose another one.
//! The node parses the blocks itself for three reasons: `jsonwebtoken` takes a key on any curve for
//! one on P-256, reads only one block of a bundle, and does not report which block is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

use super::public_key::{KeyError, PublicKey};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The bytes before the 64 bytes of a point in the SubjectPublicKeyInfo of a P-256 key:
/// id-ecPublicKey, prime256v1, bit string, and the 4 of an uncompressed point (RFC 5480).
const P256_PREFIX: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
      \x03\x42\x00\x04";
/// The bytes before the 32 bytes of an Ed25519 key: id-Ed25519, bit string (RFC 8410).
const ED25519_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Returns all keys of a bundle, in order. Text between the blocks is ignored.
pub(super) fn parse(text: &str) -> Result<Vec<PublicKey>, KeyError> {
    let mut keys = Vec::new();
    let mut lines = (1..).zip(text.lines().map(str::trim));
    while let Some((line, text)) = lines.next() {
        let Some(label) = text.strip_prefix(BEGIN) else {
            continue;
        };
        let fail = |reason| KeyError::Pem { line, reason };
        let label = label.strip_suffix(DASHES).ok_or_else(|| fail("malformed BEGIN line"))?;
        check_label(label).map_err(fail)?;
        let body = block_body(&mut lines, label).map_err(fail)?;
        let der = STANDARD.decode(body).map_err(|_| fail("the block is not base64"))?;
        keys.push(public_key(&der).map_err(fail)?);
    }
    if keys.is_empty() { Err(KeyError::PemEmpty) } else { Ok(keys) }
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.ends_with("PRIVATE KEY") {
        return Err("a private key; give the node the public one (`openssl pkey -pubout`)");
    }
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Ok(()),
        "CERTIFICATE" => {
            Err("a certificate; extract its key (`openssl x509 -pubkey -noout -in FILE`)")
        }
        _ => Err("not a `PUBLIC KEY` or `RSA PUBLIC KEY` block"),
    }
}

/// Returns the base64 of a block, and consumes its END line.
fn block_body<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
    label: &str,
) -> Result<String, &'static str> {
    let mut body = String::new();
    for (_, text) in lines {
        if let Some(end) = text.strip_prefix(END) {
            let matches = end.strip_suffix(DASHES) == Some(label);
            return if matches { Ok(body) } else { Err("the labels of BEGIN and END differ") };
        }
        body.push_str(text);
    }
    Err("the block has no END line")
}

fn public_key(der: &[u8]) -> Result<PublicKey, &'static str> {
    if let Some(point) = der.strip_prefix(P256_PREFIX) {
        let (x, y) = point.split_at(point.len().min(32));
        return PublicKey::p256(x, y);
    }
    if let Some(key) = der.strip_prefix(ED25519_PREFIX) {
        return PublicKey::ed25519(key);
    }
    let (modulus, exponent) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
        .map_err(|_| "not an RSA, P-256 or Ed25519 key")?;
    PublicKey::rsa(&modulus, &exponent)
}
