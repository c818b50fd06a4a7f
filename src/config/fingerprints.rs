//! Keyed fingerprints of what all nodes of a cluster must have the same.

use std::collections::BTreeMap;

use super::keys::KEYS;
use super::secrets::{Origin, Secrets, hexadecimal, mac};
use super::{Config, Secret};

/// What the key of fingerprints is derived for. The cluster's id follows.
const FINGERPRINT: &str = "fanfare cluster fingerprint v1 ";
/// Bytes of a fingerprint, which is written as twice as many hexadecimal digits.
const FINGERPRINT_BYTES: usize = 16;
/// The name of the set of public keys among fingerprints.
const PUBLIC_KEYS: &str = "auth.public_keys_file or auth.jwks_file";
/// The secret that fingerprints are keyed with.
const COMPARES: &str = "auth.jwt_secret";
/// What stands for the fingerprint of a secret that is derived from `auth.jwt_secret`.
const DERIVED: &str = "derived";

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
    /// The same, each keyed with its own secret, so that they can be compared if `auth.jwt_secret`
    /// differs. A secret that follows from `auth.jwt_secret` has none. Earlier builds lack them.
    #[serde(default)]
    pub alone: BTreeMap<String, String>,
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
        let [api_key, anon_key, _, webhook_secret] = secrets.origins;
        let derived = [("auth.api_key", api_key), ("auth.anon_key", anon_key)];
        let derived = derived.into_iter().chain([("webhooks.secret", webhook_secret)]);
        let derived = derived.filter(|(_, origin)| *origin == Origin::Derived);
        let derived: Vec<_> = derived.map(|(name, _)| name).collect();
        let alone = all.map(|(name, secret)| {
            let bytes = mac(secret.as_bytes(), &[FINGERPRINT, cluster, "\0", name]);
            let own = hexadecimal(&bytes[..FINGERPRINT_BYTES]);
            (name.to_owned(), if derived.contains(&name) { DERIVED.to_owned() } else { own })
        });
        let secrets = all.map(|(name, secret)| {
            let bytes = mac(&key, &[name, "\0", secret]);
            (name.to_owned(), hexadecimal(&bytes[..FINGERPRINT_BYTES]))
        });
        let noticed = KEYS.iter().filter(|key| is_noticed(key.name) && !key.is_secret());
        let settings = noticed.map(|key| (key.name.to_owned(), key.shown(config)));
        Self { secrets: secrets.into(), alone: alone.into(), settings: settings.collect() }
    }

    /// Returns the configuration keys of all secrets that differ. If `auth.jwt_secret` does, it is
    /// the first, and secrets that both nodes derive from it are left out. What only one of the two
    /// nodes knows is not compared: it may be of another release.
    pub fn differing_secrets(&self, other: &Self) -> Vec<&str> {
        let keyed = differing(&self.secrets, &other.secrets);
        if !keyed.contains(&COMPARES) {
            return keyed;
        }
        let alone = differing(&self.alone, &other.alone);
        let others = alone.into_iter().filter(|key| *key != COMPARES);
        std::iter::once(COMPARES).chain(others).collect()
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
    let others = [
        "auth.audiences",
        "auth.close_expired",
        "auth.issuers",
        "auth.jwks_url",
        "cluster.polling",
        "cors.allowed_origins",
        "recovery.window_ms",
    ];
    is_of("forge") || is_of("m2") || others.contains(&key)
}
