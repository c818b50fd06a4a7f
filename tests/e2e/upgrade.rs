//! Fresh clients that change from long-polling to WebSocket under load.

use std::time::Duration;

use crate::support::Node;

/// How many clients upgrade, unless `FANFARE_TEST_UPGRADES` says otherwise.
const UPGRADES: &str = "1000";

#[test]
fn clients_upgrade_without_a_gap_a_repeat_or_a_flapping_member() {
    let count = std::env::var("FANFARE_TEST_UPGRADES").unwrap_or_else(|_| UPGRADES.into());
    let node = Node::start();
    node.run_script("upgrade.mjs", &[], &[("COUNT", &count)], Duration::from_secs(310));
}
