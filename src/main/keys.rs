//! `fanfare keys`: the keys of a node, for a shell.

use clap::Args;
use fanfare::config::secrets;

use super::{Failure, Settings, Whereabouts, load};

#[derive(Args)]
#[command(
    after_help = "Prints assignments for a shell and nothing else. The keys are FANFARE_API_KEY
and FANFARE_ANON_KEY, or those that a node has kept in its data directory since
its first start. The holder of the API key administers the node.

Example:
  eval \"$(fanfare keys)\"

Exit codes: 0 good, 2 wrong usage or configuration, or no keys yet,
1 any other failure"
)]
pub(super) struct Keys {
    #[command(flatten)]
    node: Whereabouts,
}

/// Prints `API_KEY='…'` and `ANON_KEY='…'`. Keys have no character that a shell would expand.
pub(super) fn print(Keys { node }: Keys) -> Result<(), Failure> {
    let settings = Settings { place: node, listen: None, workers: None, conformance: false };
    let (api_key, anon_key) = secrets::client_keys(&load(settings)?)?;
    super::print(&format!("API_KEY='{}'\nANON_KEY='{}'\n", api_key.expose(), anon_key.expose()))
}
