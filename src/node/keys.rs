//! The keys that a node trusts.

use super::NodeError;
use crate::auth::{KeyError, Keys};
use crate::config::public_keys::{self, PublicKeysFile};
use crate::config::secrets::{self, Secrets};
use crate::config::{Config, ConfigError};
use crate::interface::authenticators::AUDIENCES;
use crate::limits::JWT_SECRET_BYTES_MIN;

/// Checks all that a start takes from the configuration, and changes nothing.
///
/// # Errors
/// Every mistake that would keep a node with this configuration from starting.
pub fn check(config: &Config) -> Result<(), NodeError> {
    // Before the first start there are no secrets, and the files of public keys need none.
    let mut keys = Keys::new("ik_", "anon_", &"-".repeat(JWT_SECRET_BYTES_MIN), &AUDIENCES)?;
    Ok(ConfigError::all([secrets::inspect(config), trust_issuers(&mut keys, config)])?)
}

/// Returns every key that the node trusts.
pub(super) fn trusted(config: &Config, secrets: &Secrets) -> Result<Keys, NodeError> {
    let mut keys = Keys::new(
        secrets.api_key.expose(),
        secrets.anon_key.expose(),
        secrets.jwt_secret.expose(),
        &AUDIENCES,
    )?;
    trust_issuers(&mut keys, config)?;
    Ok(keys)
}

/// Adds the public keys of token issuers.
fn trust_issuers(keys: &mut Keys, config: &Config) -> Result<(), ConfigError> {
    let mut trust = |file: Result<Option<PublicKeysFile>, _>, add: AddKeys| {
        let Some(file) = file? else { return Ok(()) };
        add(keys, &file.text).map(drop).map_err(|error| file.error(config, error))
    };
    ConfigError::all([
        trust(public_keys::public_keys_file(config), |keys, pem| keys.add_pem(None, pem)),
        trust(public_keys::jwks_file(config), Keys::add_jwks),
    ])
}

/// Adds the keys in a text. Returns how many there are.
type AddKeys = fn(&mut Keys, &str) -> Result<usize, KeyError>;
