//! `fanfare postgres`: the database that the settings name.

use clap::{Args, Subcommand};
use fanfare::node::{self, Change, Wish};

use super::{Failure, Settings, Whereabouts, load};

#[derive(Args)]
pub(super) struct Postgres {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make what is missing in the database
    Install(Install),
    /// Show what the database has, and which node publishes its rows
    Status(Status),
    /// Remove what install has made
    Uninstall(Uninstall),
}

#[derive(Args)]
#[command(after_help = "Makes the schema realtime, so that rows of the database are events: its
tables, publish, watch and unwatch, and a trigger. What exists is kept as it is,
whoever made it, but for a column that says which rows were published. Rows that
exist count as published. All in one transaction; a second time changes nothing.

Example:
  fanfare postgres install --config fanfare.toml

Exit codes: 0 nothing is missing now, 2 wrong usage or configuration,
1 any other failure: then nothing was changed")]
struct Install {
    #[command(flatten)]
    node: Whereabouts,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[command(after_help = "Takes the settings of a node and changes nothing.

Example:
  fanfare postgres status --config fanfare.toml

Exit codes: 0 nothing is missing, 2 wrong usage or configuration,
1 something is missing, or any other failure")]
struct Status {
    #[command(flatten)]
    node: Whereabouts,
}

#[derive(Args)]
#[command(after_help = "Removes what install has recorded as its own, and nothing that others have
made. A table with rows stays, unless --drop-data is given.

Example:
  fanfare postgres uninstall --config fanfare.toml --dry-run

Exit codes: 0 it is removed, 2 wrong usage or configuration,
1 any other failure: then nothing was changed")]
struct Uninstall {
    #[command(flatten)]
    node: Whereabouts,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove tables with their rows
    #[arg(long)]
    drop_data: bool,
}

pub(super) fn run(Postgres { command }: Postgres) -> Result<(), Failure> {
    let change = |is_dry: bool| if is_dry { Change::Shown } else { Change::Made };
    let (place, wish) = match command {
        Command::Install(Install { node, dry_run }) => (node, Wish::Install(change(dry_run))),
        Command::Status(Status { node }) => (node, Wish::Status),
        Command::Uninstall(Uninstall { node, dry_run, drop_data }) => {
            (node, Wish::Uninstall { change: change(dry_run), drops_data: drop_data })
        }
    };
    let config = load(Settings { place, listen: None, workers: None, conformance: false })?;
    let report = node::postgres(&config, wish)?;
    super::print(&report.text)?;
    if report.is_well { Ok(()) } else { Err(Failure::Unhealthy) }
}
