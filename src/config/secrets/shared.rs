//! Secrets of a cluster: all nodes must have the same, so that none is random.

use hmac::{Hmac, KeyInit as _, Mac};
use sha2::Sha256;

use super::super::Secret;

/// What the secrets of a cluster are derived for. Versions of this text are versions of secrets.
const DERIVED: &str = "fanfare cluster v1 ";

/// Returns the secret of a configuration key on all nodes with this `jwt_secret` on which it is
/// neither configured nor in `keys.toml`.
pub(super) fn derived(jwt_secret: &Secret, key: &str, prefix: &str) -> Secret {
    let bytes = mac(jwt_secret.expose().as_bytes(), &[DERIVED, key]);
    Secret::from(&*format!("{prefix}{}", hexadecimal(&bytes)))
}

/// Returns the HMAC-SHA256 of the parts, one behind the other.
pub(in crate::config) fn mac(key: &[u8], parts: &[&str]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().fold(mac, Mac::chain_update).finalize().into_bytes().into()
}

/// Returns bytes as hexadecimal digits.
pub(in crate::config) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
