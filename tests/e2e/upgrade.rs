//! Fresh clients that upgrade from long-polling to WebSocket under load.

use std::time::Duration;

use crate::support::Node;

/// Number of clients that upgrade, unless `FANFARE_TEST_UPGRADES` says otherwise.
const UPGRADES: &str = "1000";

#[test]
fn clients_upgrade_without_a_gap_a_repeat_or_a_flapping_member() {
    let count = std::env::var("FANFARE_TEST_UPGRADES").unwrap_or_else(|_| UPGRADES.into());
    let number: u64 = count.parse().expect("FANFARE_TEST_UPGRADES is a number");
    let seconds = 300 + number / 2;
    let envs = [("COUNT", count.as_str()), ("SECONDS", &seconds.to_string())];
    Node::start().run_script("upgrade.mjs", &[], &envs, Duration::from_secs(seconds + 10));
}
