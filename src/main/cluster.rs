//! `fanfare cluster`: the cluster that the settings name.

use clap::{Args, Subcommand};
use fanfare::node;

use super::{Failure, Settings, Whereabouts, load};

#[derive(Args)]
pub(super) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the nodes, streams and servers of the cluster
    Status(Status),
}

#[derive(Args)]
#[command(after_help = "Takes the settings of a node, connects to its NATS servers, listens to the
nodes for a second, and changes nothing. It also compares the secrets and the
settings that it was given with those of the nodes, by keyed fingerprints.

Example:
  fanfare cluster status --config fanfare.toml

Exit codes: 0 the cluster is healthy, 2 wrong usage or configuration,
1 it is not healthy, or any other failure")]
struct Status {
    #[command(flatten)]
    node: Whereabouts,
}

pub(super) fn run(Cluster { command }: Cluster) -> Result<(), Failure> {
    let Command::Status(Status { node: place }) = command;
    let settings = Settings { place, listen: None, workers: None, conformance: false };
    let report = node::cluster_status(&load(settings)?)?;
    super::print(&report.text)?;
    if report.is_healthy { Ok(()) } else { Err(Failure::Unhealthy) }
}
