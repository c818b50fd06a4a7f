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
    /// Share with the cluster what was set on this node alone
    Import(Import),
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

#[derive(Args)]
#[command(
    after_help = "Reads the channel definitions, the policies and the retention of history that
were set on a node before it joined a cluster, in its data directory, and
compares them with what the nodes of the cluster share. Without --apply it
changes nothing. What the nodes have already is never changed: a conflict is
listed with what the nodes have, and stays. If a node has other secrets, so that
this one could not join, --apply is refused before anything is changed.

Example:
  fanfare cluster import --config fanfare.toml --data-dir data
  fanfare cluster import --config fanfare.toml --data-dir data --apply

Exit codes: 0 nothing is in conflict, 2 wrong usage or configuration,
1 something is in conflict, secrets differ, or any other failure"
)]
struct Import {
    #[command(flatten)]
    node: Whereabouts,
    /// Add what is missing
    #[arg(long)]
    apply: bool,
}

pub(super) fn run(Cluster { command }: Cluster) -> Result<(), Failure> {
    let load = |place| load(Settings { place, listen: None, workers: None, conformance: false });
    let (text, is_well) = match command {
        Command::Status(Status { node: place }) => {
            let report = node::cluster_status(&load(place)?)?;
            (report.text, report.is_healthy)
        }
        Command::Import(Import { node: place, apply }) => {
            let imported = node::cluster_import(&load(place)?, apply)?;
            (imported.text, imported.is_whole)
        }
    };
    super::print(&text)?;
    if is_well { Ok(()) } else { Err(Failure::Unhealthy) }
}
