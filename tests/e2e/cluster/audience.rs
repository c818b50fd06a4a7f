//! The subscribers that a publication has reached, on all nodes.

use serde_json::{Value, json};

use super::fleet::{Fleet, PATIENT, try_publish};
use crate::forge::app::{invocation, place, publish};
use crate::forge::listener::Listener;
use crate::socket::Socket;
use crate::support::{ANON_KEY, Node, wait_until};

/// Publishes an event of Forge and returns its id; `None` if nobody listens anywhere.
fn tell(node: &Node, payload: &str) -> Option<String> {
    let body = json!({ "name": "room", "payload": payload });
    let result = publish(node, "publish", &invocation(&place()), &body);
    result["eventId"].as_str().map(str::to_owned)
}

#[test]
fn an_audience_counts_the_subscribers_of_all_nodes() {
    let fleet = Fleet::with(3, PATIENT);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let audience = |fleet: &Fleet| {
        let (status, receipt) = try_publish(&fleet.nodes[0], "orders", &json!({}));
        assert_eq!(status, 201, "{receipt}");
        receipt["audience"].clone()
    };
    let expected = |total: usize, nodes: usize| json!({ "total": total, "websocket": total, "polling": 0, "sse": 0, "nodes": nodes });
    assert_eq!(audience(&fleet), expected(0, 0));
    let mut sockets = Vec::new();
    for (number, node) in fleet.nodes.iter().enumerate() {
        let mut socket = Socket::connect(node.port(), ANON_KEY);
        socket.subscribe("orders");
        sockets.push(socket);
        assert_eq!(audience(&fleet), expected(number + 1, number + 1));
    }
    drop(sockets.pop());
    wait_until("its leave is counted", || fleet.nodes[2].metric("fanfare_subscriptions") == 0);
    let left = audience(&fleet);
    assert_eq!((&left["total"], left.get("unknown")), (&json!(2), None), "{left}");
}

#[test]
fn an_event_is_null_exactly_if_nobody_listens_on_any_node() {
    let fleet = Fleet::start(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    for round in 0..5 {
        assert_eq!(tell(first, "nobody"), None, "round {round}");
        let mut listener = Listener::connect(second, &place());
        listener.subscribe("room", &Value::Null);
        let payload = format!("round {round}");
        let id = tell(first, &payload);
        assert!(id.is_some(), "round {round}: it was acknowledged before");
        let event = listener.hear();
        assert_eq!(
            (event["eventId"].as_str(), &event["payload"]),
            (id.as_deref(), &json!(payload))
        );
        let answer = listener.ask(json!({ "type": "unsubscribe", "topic": event["topic"] }));
        assert_eq!(answer["type"], "unsubscribed", "{answer}");
        wait_until("its claim has ended", || tell(first, "left").is_none());
    }
}

#[test]
fn a_listener_whose_connection_was_lost_counts_for_a_while() {
    let fleet = Fleet::start(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut listener = Listener::connect(second, &place());
    listener.subscribe("room", &Value::Null);
    drop(listener);
    let subscriptions = "fanfare_subscriptions{api=\"forge\"}";
    wait_until("its end is noticed", || second.metric(subscriptions) == 0);
    let id = tell(first, "while it was away");
    assert!(id.is_some(), "it may come back");
    let mut again = Listener::connect(second, &place());
    again.subscribe("room", &json!({ "options": { "replaySeconds": 60 } }));
    let event = again.hear();
    assert_eq!(event["eventId"].as_str(), id.as_deref());
    assert!(event["replay"].is_number(), "it is from before: {event}");
}
