//! What a node of a cluster measures.

use serde_json::json;

use super::fleet::{Fleet, try_publish};
use crate::socket::Socket;
use crate::support::{ANON_KEY, Node, wait_until};

#[test]
fn metrics_tell_a_nodes_part_in_its_cluster() {
    let mut fleet = Fleet::start(3);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let mut socket = Socket::connect(fleet.nodes[1].port(), ANON_KEY);
    socket.subscribe("orders");
    assert_eq!(try_publish(&fleet.nodes[0], "orders", &json!({})).0, 201);
    // It would be refused if it broke the format.
    assert_eq!(fleet.nodes[0].scrape().plain("fanfare_cluster_serving"), 1.0);
    let metric = |node: &Node, name: &str| node.metric(&format!("fanfare_cluster_{name}"));
    let is = |node: &Node, name: &str, expected: u64| {
        wait_until(&format!("{name} is {expected}"), || metric(node, name) == expected);
    };
    for (at, node) in fleet.nodes.iter().enumerate() {
        is(node, "nodes", 3);
        is(node, "claims", 1);
        is(node, "in_flight_bytes", 0);
        is(node, "lag_messages", 0);
        is(node, "channels", u64::from(at == 1));
        assert!(metric(node, "epoch") > 0);
        // Both processes have the same clock.
        assert_eq!(metric(node, "clock_offset_seconds"), 0);
    }
    fleet.nodes[2].kill();
    is(&fleet.nodes[0], "nodes", 2);
    fleet.nats.kill();
    is(&fleet.nodes[0], "nodes", 1);
    is(&fleet.nodes[0], "serving", 0);
    wait_until("the silence grows", || metric(&fleet.nodes[0], "silence_seconds") >= 3);
}
