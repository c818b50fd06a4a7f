//! The settings of a cluster: what they must be together.

use std::path::Path;
use std::time::Duration;

use super::{Cluster, Config, ConfigError, Place, Polling, TlsWish};

impl Config {
    /// Returns whether the node belongs to a cluster.
    pub fn is_clustered(&self) -> bool {
        self.cluster.nats.is_some()
    }

    /// Returns whether long-polling requests are passed on to the nodes of their sessions.
    pub fn passes_polls(&self) -> bool {
        self.is_clustered() && self.cluster.polling == Polling::Pass
    }

    /// Returns the longest time for which the settings let a client ask for what it has missed.
    /// Definitions of channels may ask for a longer one.
    pub fn replay_window(&self) -> Duration {
        let replay = Duration::from_secs(self.forge.replay_seconds.into());
        replay.max(Duration::from_millis(self.recovery.window_ms))
    }

    /// Returns the mistake of this key's value. A key with its default has no place.
    pub fn mistake(&self, key: &'static str, reason: impl std::fmt::Display) -> ConfigError {
        match self.place(key) {
            Place::Default => format!("`{key}` {reason}").into(),
            place => format!("{place}: `{key}` {reason}").into(),
        }
    }
}

impl Cluster {
    /// Returns the keys of the ways to authenticate that are set.
    fn ways(&self) -> Vec<&'static str> {
        let ways = [
            ("cluster.user", self.user.is_some() || self.password.is_some()),
            ("cluster.token", self.token.is_some()),
            ("cluster.credentials_file", self.credentials_file.is_some()),
        ];
        ways.into_iter().filter_map(|(key, is_set)| is_set.then_some(key)).collect()
    }

    /// Returns the files of the node's own certificate and its private key; `None` if it has none.
    pub fn own_certificate(&self) -> Option<(&Path, &Path)> {
        self.tls_cert_file.as_deref().zip(self.tls_key_file.as_deref())
    }
}

/// Checks that the settings of the cluster, if there is one, go together. Opens no file and no
/// connection.
///
/// # Errors
/// Every mistake.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    if !config.is_clustered() {
        return Ok(());
    }
    ConfigError::all([credentials(config), certificate(config), tls(config), exposure(config)])
}

fn credentials(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    if let [first, second, ..] = cluster.ways()[..] {
        let reason = format!("and `{first}` are two ways to authenticate; set one of them");
        // Of a user and its password, one may be missing.
        let second = if second == "cluster.user" { "cluster.password" } else { second };
        return Err(config.mistake(second, reason));
    }
    both(
        config,
        ("cluster.user", cluster.user.is_some()),
        ("cluster.password", cluster.password.is_some()),
    )
}

fn certificate(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    both(
        config,
        ("cluster.tls_cert_file", cluster.tls_cert_file.is_some()),
        ("cluster.tls_key_file", cluster.tls_key_file.is_some()),
    )
}

/// Returns the mistake of two keys of which only one is set.
fn both(
    config: &Config,
    one: (&'static str, bool),
    other: (&'static str, bool),
) -> Result<(), ConfigError> {
    let (set, missing) = match (one.1, other.1) {
        (true, false) => (one.0, other.0),
        (false, true) => (other.0, one.0),
        _ => return Ok(()),
    };
    Err(config.mistake(set, format!("needs `{missing}`, too")))
}

fn tls(config: &Config) -> Result<(), ConfigError> {
    let Cluster { tls, tls_ca_file, tls_cert_file, .. } = &config.cluster;
    if *tls != TlsWish::Off {
        return Ok(());
    }
    let mut servers = config.cluster.nats.iter().flatten();
    if let Some(server) = servers.find(|server| server.tls) {
        return Err(config.mistake("cluster.tls", format!("is off, but {server} needs TLS")));
    }
    let files = [("cluster.tls_ca_file", tls_ca_file), ("cluster.tls_cert_file", tls_cert_file)];
    match files.into_iter().find(|(_, file)| file.is_some()) {
        Some((key, _)) => Err(config.mistake(key, "has no effect while `cluster.tls` is off")),
        None => Ok(()),
    }
}

/// Returns the mistake of a cluster whose messages others could read or forge.
fn exposure(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    let mut servers = cluster.nats.iter().flatten();
    let Some(server) = servers.find(|server| !server.is_loopback()) else { return Ok(()) };
    if cluster.private_network {
        return Ok(());
    }
    let others = || cluster.nats.iter().flatten().filter(|server| !server.is_loopback());
    let has_tls = cluster.tls == TlsWish::On || others().all(|server| server.tls);
    let has_credentials = !cluster.ways().is_empty() || cluster.tls_cert_file.is_some();
    let lacks = match (has_credentials, has_tls) {
        (true, true) => return Ok(()),
        (false, true) => {
            "credentials (`cluster.user`, `cluster.token` or \
                          `cluster.credentials_file`)"
        }
        (true, false) => "TLS (`cluster.tls` = \"on\", or a URL that begins with tls://)",
        (false, false) => "credentials (such as `cluster.user`) and TLS (`cluster.tls` = \"on\")",
    };
    let reason = format!(
        "names {server}, which is not on this machine, without {lacks}; add what is missing, or \
         set `cluster.private_network` to true if only the cluster can reach that network"
    );
    Err(config.mistake("cluster.nats", reason))
}
