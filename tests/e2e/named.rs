//! Publications that their publishers have named, and publish again under the same id.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::forge::app::{invocation, place, publish};
use crate::forge::listener::Listener;
use crate::socket::{Heard, Socket};
use crate::support::target::{Reaction, Target};
use crate::support::{ANON_KEY, Node, user_token};

const PUBLISH: &str = "realtime:publish";

fn new_id() -> String {
    Uuid::from_u128(rand::random()).to_string()
}

/// Returns a publication with this id.
fn named(id: &str, payload: &Value) -> Value {
    json!({ "channel": "orders", "event": "tick", "payload": payload, "messageId": id })
}

/// Publishes over HTTP and returns the answer.
fn publish_named(node: &Node, id: &str, payload: &Value) -> Value {
    let (status, answer) = node.admin("POST", "/api/realtime/messages", &named(id, payload));
    assert_eq!(status, 201, "{answer}");
    answer
}

/// Publishes over a socket and returns the answer.
fn speak(socket: &mut Socket, publication: &Value) -> Value {
    let asked = socket.ask(PUBLISH, publication);
    socket.flush();
    loop {
        match socket.hear() {
            Heard::Ack(number, answer) if number == asked => return answer,
            Heard::Event(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Defines the channel, with these webhooks.
fn define(node: &Node, urls: &[String]) {
    let definition = json!({ "pattern": "orders", "presence": "off", "webhookUrls": urls });
    let (status, answer) = node.admin("POST", "/api/realtime/channels", &definition);
    assert_eq!(status, 201, "{answer}");
}

fn hear(socket: &mut Socket) -> (String, Value) {
    match socket.hear() {
        Heard::Event(event) => (event.id.to_string(), event.parts().1["payload"].clone()),
        heard => panic!("unexpected: {heard:?}"),
    }
}

#[test]
fn a_message_that_is_published_again_is_heard_kept_and_called_once() {
    let node = Node::with_env(&[("FANFARE_WEBHOOKS_ALLOW_PRIVATE", "true")]);
    let target = Target::always(Reaction::Status(200));
    define(&node, &[target.url()]);
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe("orders");
    let id = new_id();
    let first = publish_named(&node, &id, &json!({ "n": 1 }));
    assert_eq!((&first["messageId"], &first["audience"]["total"]), (&json!(id), &json!(1)));
    let again = publish_named(&node, &id, &json!({ "n": 1 }));
    let same = ["messageId", "audience", "durability"];
    assert_eq!(same.map(|name| &first[name]), same.map(|name| &again[name]));
    let last = new_id();
    publish_named(&node, &last, &json!({ "n": 2 }));
    assert_eq!(hear(&mut socket), (id.clone(), json!({ "n": 1 })));
    assert_eq!(hear(&mut socket), (last.clone(), json!({ "n": 2 })));
    let (_, kept) = node.admin("GET", "/api/realtime/messages", &json!(null));
    let ids: Vec<_> =
        kept.as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [json!(last), json!(id)]);
    let called =
        [target.next(), target.next()].map(|call| call.header("x-insforge-message-id").to_owned());
    assert_eq!(called, [id, last]);
    assert_eq!(node.metric("fanfare_named_publications"), 2);
}

#[test]
fn an_id_is_its_publishers_own() {
    let node = Node::start();
    define(&node, &[]);
    let subscribed = |user: &str| {
        let mut socket = Socket::connect(node.port(), &user_token(user));
        socket.subscribe("orders");
        socket
    };
    let mut witness = subscribed("eve");
    let id = new_id();
    // The last one of these is a repetition: the same user, on another connection.
    for user in ["bob", "ann", "ann"] {
        let answer = speak(&mut subscribed(user), &named(&id, &json!(user)));
        assert_eq!(answer, json!({ "ok": true, "messageId": id }));
    }
    publish_named(&node, &id, &json!("back end"));
    publish_named(&node, &new_id(), &json!("last"));
    for payload in ["bob", "ann", "back end", "last"] {
        assert_eq!(hear(&mut witness).1, json!(payload));
    }
    let (_, kept) = node.admin("GET", "/api/realtime/messages", &json!(null));
    assert_eq!(kept.as_array().expect("a list").len(), 4, "each is kept, under whatever id");
}

#[test]
fn what_is_not_an_id_is_refused() {
    let node = Node::start();
    define(&node, &[]);
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe("orders");
    for id in [json!("x"), json!(7), json!("00000000-0000-0000-0000-000000000000")] {
        let publication =
            json!({ "channel": "orders", "event": "tick", "payload": 1, "messageId": id });
        let (status, answer) = node.admin("POST", "/api/realtime/messages", &publication);
        let message = answer["message"].as_str().expect("a text");
        assert!(status == 400 && message.starts_with("messageId: Expected"), "{answer}");
        let answer = speak(&mut socket, &publication);
        assert_eq!(answer["error"]["code"], "INVALID_INPUT", "{answer}");
    }
    let absent = json!({ "channel": "orders", "event": "tick", "payload": 1, "messageId": null });
    assert_eq!(speak(&mut socket, &absent)["ok"], true);
    assert_eq!(node.metric("fanfare_named_publications"), 0);
}

#[test]
fn an_event_that_is_published_again_is_heard_once() {
    let node = Node::start();
    let [first, second, third] = [0; 3].map(|_| new_id());
    let tell = |id: &str| {
        let body = json!({ "name": "room", "payload": "p", "eventId": id });
        publish(&node, "publish", &invocation(&place()), &body)["eventId"].clone()
    };
    assert_eq!(tell(&first), json!(null), "without a listener nothing is published");
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &Value::Null);
    let ids = [&first, &first, &second].map(|id| tell(id));
    assert_eq!(ids, [&first, &first, &second].map(|id| json!(id)));
    let heard = [listener.hear(), listener.hear()].map(|event| event["eventId"].clone());
    assert_eq!(heard, [&first, &second].map(|id| json!(id)));
    let mut speaker = Listener::connect(&node, &place());
    let own = json!({ "type": "publish", "channel": "room", "payload": "p", "eventId": third });
    for _ in 0..2 {
        assert_eq!(speaker.ask(own.clone())["eventId"], json!(third));
    }
    assert_eq!(listener.hear()["eventId"], json!(third));
    listener.hear_nothing();
    let wrong = json!({ "type": "publish", "channel": "room", "payload": "p", "eventId": "x" });
    assert_eq!(speaker.ask(wrong)["error"]["code"], "INVALID_INPUT");
}
