//! The part of a node in its cluster.

use crate::background::cluster::credentials::{Credentials, CredentialsError, Tls};
use crate::config::{Config, ConfigError};

use super::NodeError;

/// Checks the files that the settings of the cluster name, and opens no connection.
///
/// # Errors
/// Every file that cannot be used.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if !config.is_clustered() {
        return Ok(());
    }
    let cluster = &config.cluster;
    let mistake = |key: &'static str, error: CredentialsError| {
        config.mistake(key, format!("cannot be used: {error}"))
    };
    // Whether the system's authorities are needed is not known before a server was asked.
    let files = [
        ("cluster.tls_ca_file", cluster.tls_ca_file.is_some()),
        ("cluster.tls_cert_file", cluster.tls_cert_file.is_some()),
    ];
    let tls = match files.into_iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Tls::of(cluster).client().map(drop).map_err(|error| mistake(key, error)),
        None => Ok(()),
    };
    let credentials = Credentials::of(cluster).check();
    let credentials = credentials.map_err(|error| mistake("cluster.credentials_file", error));
    ConfigError::all([credentials, tls])
}

/// Refuses to serve as a node of a cluster.
///
/// # Errors
/// If a cluster is configured.
pub fn refuse_cluster(config: &Config) -> Result<(), NodeError> {
    if !config.is_clustered() {
        return Ok(());
    }
    let reason = "is set, and this release does not serve in a cluster yet: it only checks the \
                  settings (`fanfare check`) and shows the cluster (`fanfare cluster status`)";
    Err(config.mistake("cluster.nats", reason).into())
}
