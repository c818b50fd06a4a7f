//! Definitions that change the order of a channel while it has subscribers.

use serde_json::{Value, json};

use super::fleet::{Fleet, PATIENT, try_publish};
use crate::socket::{Heard, Socket};
use crate::support::ANON_KEY;

/// Sets the order of the only channel.
fn set_order(fleet: &Fleet, order: &str) {
    let node = &fleet.nodes[0];
    let (_, all) = node.admin("GET", "/api/realtime/channels", &Value::Null);
    let path = format!("/api/realtime/channels/{}", all[0]["id"].as_str().expect("an id"));
    let (status, answer) = node.admin("PUT", &path, &json!({ "order": order }));
    assert_eq!(status, 200, "{answer}");
}

fn hear(socket: &mut Socket) -> Value {
    socket.hear_event().parts().1["payload"].clone()
}

#[test]
fn subscribers_hear_all_nodes_once_their_channel_is_the_clusters() {
    let fleet = Fleet::with(2, PATIENT);
    fleet.define(&json!({ "pattern": "orders", "presence": "off", "order": "local" }));
    let [here, there] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut socket = Socket::connect(there.port(), ANON_KEY);
    socket.subscribe("orders");
    assert_eq!(try_publish(here, "orders", &json!("elsewhere")).0, 201);
    assert_eq!(try_publish(there, "orders", &json!("local")).0, 201);
    assert_eq!(hear(&mut socket), json!("local"));
    set_order(&fleet, "cluster");
    match socket.hear() {
        Heard::Error(gap) => assert_eq!(
            (&gap["code"], &gap["channel"], &gap["count"]),
            (&json!("REALTIME_GAP"), &json!("orders"), &Value::Null)
        ),
        heard => panic!("unexpected: {heard:?}"),
    }
    for (node, payload) in [(here, "one"), (there, "two"), (here, "three")] {
        let (status, receipt) = try_publish(node, "orders", &json!(payload));
        assert_eq!((status, &receipt["audience"]["total"]), (201, &json!(1)), "{receipt}");
        assert_eq!(hear(&mut socket), json!(payload));
    }
    set_order(&fleet, "local");
    assert_eq!(try_publish(here, "orders", &json!("elsewhere")).0, 201);
    assert_eq!(try_publish(there, "orders", &json!("local")).0, 201);
    assert_eq!(hear(&mut socket), json!("local"));
}
