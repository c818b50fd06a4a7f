//! Keyed fingerprints of what all nodes of a cluster must have the same.

use std::collections::BTreeMap;

use super::keys::KEYS;
use super::secrets::{Secrets, hexadecimal, mac};
use super::{Config, Secret};

/// What the key of fingerprints is derived for. The cluster's id follows.
const FINGERPRINT: &str = "fanfare cluster fingerprint v1 ";
/// Bytes of a fingerprint, which is written as twice as many hexadecimal digits.
const FINGERPRINT_BYTES: usize = 16;
/// The name of the set of public keys among fingerprints.
const PUBLIC_KEYS: &str = "auth.public_keys_file or auth.jwks_file";
/// The secret by which all others can be compared.
const COMPARES: &str = "auth.jwt_secret";

/// What a node is set up with, as it is in effect. A reload replaces it.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The settings.
    pub config: Config,
    /// What it authenticates clients and signs webhooks by.
    pub secrets: Secrets,
    /// The set of public keys that it trusts, as a text that is the same for the same keys.
    pub public_keys: String,
}

/// What nodes of a cluster compare, in a form that reveals no secret: each node publishes its own
/// to the others.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Fingerprints {
    /// Keyed fingerprints of what must be the same, by the configuration keys.
    pub secrets: BTreeMap<String, String>,
    /// Values of settings that clients can notice, by their keys. None is secret.
    pub settings: BTreeMap<String, String>,
}

impl Fingerprints {
    /// Returns the fingerprints of a node in the cluster with this id.
    pub fn new(effective: &Effective, cluster: &str) -> Self {
        let Effective { config, secrets, public_keys } = effective;
        let key = mac(secrets.jwt_secret.expose().as_bytes(), &[FINGERPRINT, cluster]);
        let readers = config.m2.api_key.as_ref().map_or("", Secret::expose);
        let all = [
            ("auth.api_key", secrets.api_key.expose()),
            ("auth.anon_key", secrets.anon_key.expose()),
            (COMPARES, secrets.jwt_secret.expose()),
            ("webhooks.secret", secrets.webhook_secret.expose()),
            ("m2.api_key", readers),
            (PUBLIC_KEYS, public_keys),
        ];
        let secrets = all.map(|(name, secret)| {
            let bytes = mac(&key, &[name, "\0", secret]);
            (name.to_owned(), hexadecimal(&bytes[..FINGERPRINT_BYTES]))
        });
        let noticed = KEYS.iter().filter(|key| is_noticed(key.name) && !key.is_secret());
        let settings = noticed.map(|key| (key.name.to_owned(), key.shown(config)));
        Self { secrets: secrets.into(), settings: settings.collect() }
    }

    /// Returns the configuration key of a secret that differs; `None` if none does. If
    /// `auth.jwt_secret` does, the others cannot be compared. What only one of the two nodes knows
    /// is not compared: it may be of another release.
    pub fn differing_secret(&self, other: &Self) -> Option<&str> {
        let differing = differing(&self.secrets, &other.secrets);
        let first = differing.iter().find(|key| **key == COMPARES).or(differing.first());
        first.copied()
    }

    /// Returns the keys of settings that differ.
    pub fn differing_settings(&self, other: &Self) -> Vec<&str> {
        differing(&self.settings, &other.settings)
    }
}

fn differing<'a>(
    one: &'a BTreeMap<String, String>,
    other: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    let differs = |key: &String, value: &String| other.get(key).is_some_and(|one| one != value);
    one.iter().filter(|(key, value)| differs(key, value)).map(|(key, _)| key.as_str()).collect()
}

/// Returns whether clients of several nodes can notice that this setting differs.
fn is_noticed(key: &str) -> bool {
    let is_of = |section: &str| key.split_once('.').is_some_and(|(name, _)| name == section);
    is_of("forge") || is_of("m2") || matches!(key, "recovery.window_ms" | "auth.close_expired")
}
