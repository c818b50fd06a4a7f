//! The keys that a node trusts.

use std::sync::Arc;

use super::{NodeError, tls};
use crate::auth::{Accepted, KeyError, Keys};
use crate::background::cluster::credentials;
use crate::background::issuer::Fetched;
use crate::background::postgres;
use crate::config::client_files::client_files;
use crate::config::public_keys::{self, PublicKeysFile};
use crate::config::secrets::{self, Secrets};
use crate::config::{self, Config, ConfigError, Secret};
use crate::interface::authenticators::{AUDIENCES, Trust};
use crate::interface::m2::access::Terms;
use crate::limits::JWT_SECRET_BYTES_MIN;

/// Checks all that a start takes from the configuration, and changes nothing.
///
/// # Errors
/// Every mistake that would keep a node with this configuration from starting.
pub fn check(config: &Config) -> Result<(), NodeError> {
    // Before the first start there are no secrets, and the files of public keys need none.
    let mut keys = Keys::new("ik_", "anon_", &"-".repeat(JWT_SECRET_BYTES_MIN), &AUDIENCES)?;
    Ok(ConfigError::all([
        secrets::inspect(config),
        config::cluster::check(config),
        credentials::check_files(config),
        postgres::check(config),
        trust_issuers(&mut keys, config).map(drop),
        client_files(config).map(drop),
        tls::check(config),
    ])?)
}

/// The files of public keys as they were read: that of PEM, and the JWK set.
pub(super) type Issuers = [Option<PublicKeysFile>; 2];

/// Returns what callers are authenticated with, and the files that public keys were read from.
/// `fetched` are the keys of an issuer with an address.
pub(super) fn trusted(
    config: &Config,
    secrets: &Secrets,
    fetched: Option<&Fetched>,
) -> Result<(Trust, Issuers), NodeError> {
    let mut keys = Keys::new(
        secrets.api_key.expose(),
        secrets.anon_key.expose(),
        secrets.jwt_secret.expose(),
        &AUDIENCES,
    )?;
    let auth = &config.auth;
    keys.add_previous(&exposed(&auth.previous_api_keys), &exposed(&auth.previous_anon_keys))?;
    let issuers = auth.issuers.clone().unwrap_or_default();
    let audiences = auth.audiences.clone().unwrap_or_default();
    keys.accept_only(Accepted { issuers, audiences });
    let issuers = trust_issuers(&mut keys, config)?;
    if let Some(Fetched { set, unknown }) = fetched {
        let set = set.load();
        keys.follow(set.as_ref().map(|set| set.as_str()), unknown.clone())?;
    }
    let config::M2 { require_auth, api_key, .. } = &config.m2;
    let m2 = Terms::new(*require_auth, api_key.as_ref().map(Secret::expose));
    let token_lifetime_s = config.forge.token_lifetime_s;
    let origins = config.cors.allowed_origins.clone().map(Arc::new);
    Ok((Trust { keys: Arc::new(keys), token_lifetime_s, m2, origins }, issuers))
}

fn exposed(secrets: &Option<Vec<Secret>>) -> Vec<&str> {
    secrets.iter().flatten().map(Secret::expose).collect()
}

/// Adds the public keys of token issuers.
fn trust_issuers(keys: &mut Keys, config: &Config) -> Result<Issuers, ConfigError> {
    let files = [public_keys::public_keys_file(config), public_keys::jwks_file(config)];
    let add: [AddKeys; 2] = [|keys, pem| keys.add_pem(None, pem), Keys::add_jwks];
    let added = files.iter().zip(add).map(|(file, add)| match file {
        Ok(None) => Ok(()),
        Ok(Some(file)) => {
            add(keys, &file.text).map(drop).map_err(|error| file.error(config, error))
        }
        Err(error) => Err(error.clone()),
    });
    ConfigError::all(added)?;
    Ok(files.map(|file| file.ok().flatten()))
}

/// Adds the keys in a text. Returns how many there are.
type AddKeys = fn(&mut Keys, &str) -> Result<usize, KeyError>;
