//! The part of a node in its cluster.

use super::{NodeError, keys};
use crate::background::cluster::control::Settings;
use crate::background::cluster::credentials;
use crate::background::cluster::identity::ClusterId;
use crate::background::cluster::status::{self, Report};
use crate::config::{Config, ConfigError, Fingerprints, cluster, secrets};

/// Reads the state of the configured cluster, and compares its nodes with these settings.
///
/// # Errors
/// Every mistake of the configuration; or if NATS cannot be reached or does not answer.
pub fn cluster_status(config: &Config) -> Result<Report, NodeError> {
    let settings = Settings::of(config, "status")
        .ok_or_else(|| config.mistake("cluster.nats", "is not set: there is no cluster to show"))?;
    ConfigError::all([cluster::check(config), credentials::check_files(config)])?;
    let secrets = secrets::of_cluster(config)?;
    let (trust, _) = keys::trusted(config, &secrets)?;
    let public_keys = trust.keys.public_set();
    let own =
        |cluster: &_| Fingerprints::new(config, &secrets, &public_keys, ClusterId::as_str(cluster));
    Ok(status::report(settings, own)?)
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
