//! Newer credentials on open connections, and expiring tokens.

use std::time::Duration;

use crate::support::Node;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_live_connection_takes_newer_credentials_of_its_own_identity() {
    Node::start().run_script("credential.mjs", &["refresh"], &[], LIMIT);
}

#[test]
fn a_connection_ends_with_its_token_where_the_node_is_told_so() {
    let node = Node::with(|command| {
        command.env("FANFARE_CLOSE_EXPIRED", "true");
    });
    node.run_script("credential.mjs", &["expire"], &[], LIMIT);
    assert_eq!(node.metric("fanfare_connections_closed_total{reason=\"expired\"}"), 1);
}
