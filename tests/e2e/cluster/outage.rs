//! Brokers that are gone, stand still, or come back without what they had.

use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Fleet, health, time_until, try_publish};
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node, wait_until};

fn gap_on(socket: &mut Socket, channel: &str) -> bool {
    loop {
        match socket.hear() {
            Heard::Error(error) => {
                let told = (&error["code"], &error["channel"], &error["count"]);
                return told == (&json!("REALTIME_GAP"), &json!(channel), &Value::Null);
            }
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

/// Returns the id of the next publication. Gaps may be told more than once: for what was lost while
/// the line was down, and for the new epoch.
fn hear(socket: &mut Socket) -> String {
    loop {
        match socket.hear() {
            Heard::Event(event) => return event.id.to_string(),
            Heard::Error(error) if error["code"] == "REALTIME_GAP" => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

/// Publishes until that is accepted, because the nodes may have to agree on one more epoch. Returns
/// the id, and the ids of publications of which it is not known whether they are stored.
fn publish_soon(node: &Node) -> (String, Vec<String>) {
    let (mut last, mut unknown) = (String::new(), Vec::new());
    wait_until("a publication is stored", || {
        let (status, answer) = try_publish(node, "orders", &json!({}));
        let id = answer["messageId"].as_str().map(str::to_owned);
        match id {
            Some(id) if status == 201 => last = id,
            id => unknown.extend(id),
        }
        status == 201
    });
    (last, unknown)
}

#[test]
fn a_server_that_comes_back_without_its_data_costs_a_gap_and_no_lie() {
    let mut fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let mut socket = Socket::connect(fleet.nodes[1].port(), ANON_KEY);
    socket.subscribe("orders");
    let receipt = fleet.nodes[0].publish("orders", "tick", &json!({}));
    assert_eq!(hear(&mut socket), receipt["messageId"]);
    fleet.nats.kill();
    let noticed = time_until("health says it", || health(&fleet.nodes[0]).1 != "ok");
    assert!(noticed < Duration::from_secs(2), "noticed after {noticed:?}");
    let (status, refused) = try_publish(&fleet.nodes[0], "orders", &json!({}));
    assert_eq!((status, &refused["error"]), (503, &json!("BACKPLANE_UNAVAILABLE")));
    assert_eq!(fleet.nodes[0].metric("fanfare_cluster_serving"), 0);
    wait_until("it counts nodes that it hears", || {
        fleet.nodes[0].metric("fanfare_cluster_nodes") == 1
    });
    fleet.nats.start_again(false);
    fleet.wait_until_healthy();
    assert!(gap_on(&mut socket, "orders"));
    let (id, _) = publish_soon(&fleet.nodes[0]);
    assert_eq!(hear(&mut socket), id, "and it goes on");
    for node in &fleet.nodes {
        wait_until("the log says that it is over", || {
            node.output().contains("the cluster: healthy again, after ")
        });
        wait_until("both are counted again", || node.metric("fanfare_cluster_nodes") == 2);
    }
}

#[test]
fn a_server_that_stands_still_leaves_publications_unknown() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let mut socket = Socket::connect(fleet.nodes[1].port(), ANON_KEY);
    socket.subscribe("orders");
    fleet.nats.freeze();
    let (status, answer) = try_publish(&fleet.nodes[0], "orders", &json!({}));
    assert_eq!((status, &answer["error"]), (503, &json!("BACKPLANE_UNKNOWN")), "{answer}");
    let id = answer["messageId"].as_str().expect("an id").to_owned();
    let noticed = time_until("health says it", || health(&fleet.nodes[0]).1 != "ok");
    assert!(noticed < Duration::from_secs(2), "noticed after {noticed:?}");
    fleet.nats.thaw();
    fleet.wait_until_healthy();
    // It may have been stored when the server went on; if so it is heard once.
    let (last, mut unknown) = publish_soon(&fleet.nodes[0]);
    unknown.push(id);
    loop {
        let heard = hear(&mut socket);
        if heard == last {
            break;
        }
        let place = unknown.iter().position(|id| *id == heard);
        unknown.remove(place.expect("it is heard once, and its publisher does not know that"));
    }
}

#[test]
fn a_node_without_a_server_starts_and_serves_once_there_is_one() {
    let mut fleet = Fleet::start(1);
    fleet.nats.kill();
    fleet.nodes[0].restart();
    let (status, word) = health(&fleet.nodes[0]);
    assert_ne!((status, word), (200, json!("ok")));
    wait_until("health says why", || {
        let health = fleet.nodes[0].request("GET", "/api/health", &[], b"");
        health.json().to_string().contains("no NATS server can be used")
    });
    let live = fleet.nodes[0].request("GET", "/api/health/live", &[], b"");
    assert_eq!(live.status, 200, "a restart would not help");
    fleet.nats.start_again(false);
    fleet.wait_until_healthy();
    fleet.define(&json!({ "pattern": "orders" }));
    publish_soon(&fleet.nodes[0]);
}
