//! Publications of which it is not known whether they were published, published again.

use serde_json::{Value, json};
use uuid::Uuid;

use super::fleet::{Fleet, try_publish};
use crate::forge::app::{invocation, place, publish};
use crate::forge::listener::Listener;
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node, wait_until};

/// Publishes under this id. Returns the status and the answer.
fn publish_named(node: &Node, id: &Value, payload: &Value) -> (u16, Value) {
    let publication =
        json!({ "channel": "orders", "event": "tick", "payload": payload, "messageId": id });
    node.admin("POST", "/api/realtime/messages", &publication)
}

fn hear(socket: &mut Socket) -> (String, Value) {
    let event = socket.hear_event();
    (event.id.to_string(), event.parts().1["payload"].clone())
}

#[test]
fn an_unknown_publication_that_is_published_again_is_heard_once() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let [here, there] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut socket = Socket::connect(there.port(), ANON_KEY);
    socket.subscribe("orders");
    fleet.nats.freeze();
    // The server has it in its socket, and stores it when it goes on.
    let (status, unknown) = try_publish(here, "orders", &json!({ "n": 1 }));
    assert_eq!((status, &unknown["error"]), (503, &json!("BACKPLANE_UNKNOWN")), "{unknown}");
    let id = unknown["messageId"].clone();
    fleet.nats.thaw();
    fleet.wait_until_healthy();
    for node in [here, there, here] {
        let mut answer = Value::Null;
        // The nodes may have to agree on one more epoch.
        wait_until("it is accepted", || {
            let (status, told) = publish_named(node, &id, &json!({ "n": 1 }));
            answer = told;
            status == 201
        });
        assert_eq!((&answer["messageId"], &answer["durability"]), (&id, &json!("stored")));
        let (_, kept) = node.admin("GET", "/api/realtime/messages", &json!(null));
        assert_eq!(kept.as_array().map(Vec::len), Some(1), "{kept}");
        assert_eq!(kept[0]["id"], id);
    }
    let (status, last) = try_publish(there, "orders", &json!({ "n": 2 }));
    assert_eq!(status, 201, "{last}");
    assert_eq!(hear(&mut socket), (id.as_str().expect("a text").to_owned(), json!({ "n": 1 })));
    assert_eq!(hear(&mut socket).1, json!({ "n": 2 }));
    let repeated = "fanfare_cluster_publications_total{outcome=\"duplicate\"}";
    assert!(there.metric(repeated) > 0);
}

#[test]
fn an_id_that_another_publisher_has_used_suppresses_nothing() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders", "presence": "off" }));
    let mut socket = Socket::connect(fleet.nodes[1].port(), ANON_KEY);
    socket.subscribe("orders");
    let id = json!(Uuid::from_u128(rand::random()).to_string());
    let own = json!({ "channel": "orders", "event": "tick", "payload": "own", "messageId": id });
    socket.ask("realtime:publish", &own);
    socket.flush();
    let mut left = 2;
    while left > 0 {
        left -= usize::from(matches!(socket.hear(), Heard::Ack(..) | Heard::Event(_)));
    }
    for _ in 0..2 {
        assert_eq!(publish_named(&fleet.nodes[0], &id, &json!("back end")).0, 201);
    }
    assert_eq!(publish_named(&fleet.nodes[0], &json!(null), &json!("last")).0, 201);
    assert_eq!(hear(&mut socket).1, json!("back end"));
    assert_eq!(hear(&mut socket).1, json!("last"));
}

#[test]
fn an_event_that_is_published_again_on_another_node_is_heard_once() {
    let fleet = Fleet::start(2);
    let mut listener = Listener::connect(&fleet.nodes[1], &place());
    listener.subscribe("room", &Value::Null);
    let id = json!(Uuid::from_u128(rand::random()).to_string());
    let tell = |node: &Node, id: &Value| {
        let body = json!({ "name": "room", "payload": "p", "eventId": id });
        publish(node, "publish", &invocation(&place()), &body)["eventId"].clone()
    };
    for node in [0, 1, 0] {
        assert_eq!(tell(&fleet.nodes[node], &id), id);
    }
    let last = tell(&fleet.nodes[0], &json!(null));
    assert_eq!(
        [listener.hear(), listener.hear()].map(|event| event["eventId"].clone()),
        [id, last]
    );
}
