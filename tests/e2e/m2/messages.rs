//! Messages of clients: valid ones are carried out, others are answered, and other clients notice
//! nothing.

use serde_json::{Value, json};

use super::app::{INVALID, delete, frame, place, put, service, warning};
use super::listener::{Listener, message};
use crate::support::Node;
use crate::support::exposition::Exposition;

const KEY: (&str, &str) = ("kvStore", "World:kvstoreClient:testKey");

fn subscribe_to(resource: &Value) -> String {
    json!({ "action": "subscribe", "resource": resource }).to_string()
}

/// Returns texts that are not valid messages.
fn nonsense() -> Vec<String> {
    let action = |action: Value| {
        json!({ "action": action, "resource": { "type": "kvStore", "id": "k" } }).to_string()
    };
    let mut table: Vec<String> = [
        "",
        " ",
        "{",
        "}",
        "null",
        "true",
        "7",
        "[]",
        "\"subscribe\"",
        "{}",
        "subscribe",
        "{'action':'subscribe'}",
        r#"{"action":"subscribe"}"#,
        r#"{"resource":{"type":"kvStore","id":"k"}}"#,
        r#"[{"action":"subscribe","resource":{"type":"kvStore","id":"k"}}]"#,
        r#"{"action":"subscribe","resource":{"type":"kvStore","id":"k"}"#,
        r#"{"action":"subscribe","resource":{"type":"kvStore","id":"k"}}}"#,
        r#"{"action":"subscribe","resource":{"type":"kvStore","id":"k",}}"#,
        r#"{"action":"subscribe","resource":{"type":"kvStore","id":"\ud800"}}"#,
        "{\"action\":\"subscribe\",\"resource\":{\"type\":\"kvStore\",\"id\":\"a\nb\"}}",
        r#"{"Action":"subscribe","Resource":{"type":"kvStore","id":"k"}}"#,
        // An earlier format, with all members at the top level.
        r#"{"action":"subscribe","type":"kvStore","id":"k"}"#,
    ]
    .map(str::to_owned)
    .into();
    let actions = [
        json!(null),
        json!(1),
        json!(""),
        json!("Subscribe"),
        json!("SUBSCRIBE"),
        json!(" subscribe"),
        json!("publish"),
        json!("ping"),
        json!(["subscribe"]),
        json!({ "subscribe": true }),
    ];
    table.extend(actions.map(action));
    let resources = [
        json!(null),
        json!("kvStore"),
        json!(7),
        json!([{ "type": "kvStore", "id": "k" }]),
        json!({}),
        json!({ "type": "kvStore" }),
        json!({ "id": "k" }),
        json!({ "type": "KVStore", "id": "k" }),
        json!({ "type": "kvstore", "id": "k" }),
        json!({ "type": "Collection", "id": "k" }),
        json!({ "type": "collections", "id": "k" }),
        json!({ "type": "liveconfig", "id": "k" }),
        json!({ "type": "", "id": "k" }),
        json!({ "type": null, "id": "k" }),
        json!({ "type": ["kvStore"], "id": "k" }),
        json!({ "type": "kvStore", "id": "" }),
        json!({ "type": "kvStore", "id": null }),
        json!({ "type": "kvStore", "id": 7 }),
        json!({ "type": "kvStore", "id": ["k"] }),
        json!({ "type": "kvStore", "id": { "id": "k" } }),
        json!({ "type": "kvStore", "Id": "k" }),
    ];
    table.extend(resources.iter().map(subscribe_to));
    table
}

#[test]
fn what_makes_no_sense_is_answered_and_harms_nobody() {
    let node = Node::start();
    let mut quiet = Listener::connect(&node, &service(place()));
    let mut noisy = Listener::connect(&node, &service(place()));
    for listener in [&mut quiet, &mut noisy] {
        listener.subscribe_early(KEY.0, KEY.1);
    }
    let table = nonsense();
    for text in &table {
        noisy.say(text);
        assert_eq!(noisy.hear(), INVALID, "{text}");
    }
    for bytes in [&b""[..], b"x", b"\xff\xfe", message("subscribe", "kvStore", "b").as_bytes()] {
        noisy.say_binary(bytes);
        assert_eq!(noisy.hear(), INVALID, "binary");
    }
    let version = put(&node, &place(), KEY, &json!({ "data": 1 }));
    for listener in [&mut quiet, &mut noisy] {
        assert_eq!(listener.hear(), frame(None, KEY, "1", &version), "nobody is gone");
    }
    let counted = node.scrape();
    let invalid = counted.value("fanfare_refusals_total", &[("reason", "invalid")]);
    assert_eq!(invalid, (table.len() + 4) as f64);
    assert_eq!(counted.sum("fanfare_connections_closed_total"), 0.0);
    assert_eq!(counted.value("fanfare_subscriptions", &[("api", "m2")]), 2.0);
}

#[test]
fn what_makes_sense_is_understood_however_it_is_written() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let game = ("liveConfig", "game");
    for text in [
        r#"{"action":"subscribe","resource":{"type":"liveConfig","id":"game"}}"#,
        " \r\n{\t\"resource\" : { \"id\":\"game\",\"type\":\"liveConfig\" } ,\
         \"action\":\"subscribe\"}\n",
        r#"{"action":"sub\u0073cribe","resource":{"type":"live\u0043onfig","id":"\u0067ame"}}"#,
        r#"{"id":1,"action":"subscribe","x":[{"y":null}],
            "resource":{"z":123456789012345678901234567890,"type":"liveConfig","id":"game"}}"#,
    ] {
        listener.say(text);
        assert_eq!(listener.hear(), warning("liveConfig"), "{text}");
    }
    let version = put(&node, &place(), game, &json!({ "data": {} }));
    assert_eq!(listener.hear(), frame(None, game, "{}", &version));
    listener.is_answered();
}

#[test]
fn an_id_is_any_text_that_is_not_too_long() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let longest = "é".repeat(256);
    let ids = ["a/b c", "%41", "...", "é\u{1f600}", "World:kvstoreClient:a:b", " ", &longest];
    let percent = |id: &str| id.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for id in ids {
        listener.subscribe_early("kvStore", id);
        let version = put(&node, &place(), ("kvStore", &percent(id)), &json!({ "data": id }));
        let data = json!(id).to_string();
        assert_eq!(listener.hear(), frame(None, ("kvStore", id), &data, &version));
    }
    let too_long = format!("{longest}x");
    for action in ["subscribe", "unsubscribe"] {
        listener.say(&message(action, "kvStore", &too_long));
        assert_eq!(listener.hear(), r#"{"error":"Resource id too long"}"#);
    }
    listener.say(&message("subscribe", "nothing", &too_long));
    assert_eq!(listener.hear(), INVALID);
    assert_eq!(node.metric("fanfare_subscriptions"), ids.len() as u64);
}

#[test]
fn who_unsubscribes_hears_nothing_more_and_is_told_nothing() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let (first, second) = (("collection", "public"), ("collection", "other"));
    for (kind, id) in [first, second] {
        listener.subscribe_early(kind, id);
    }
    listener.unsubscribe(first.0, first.1);
    // A resource that does not exist, and one that is no longer subscribed to.
    for (kind, id) in [first, ("kvStore", "nothing"), ("liveConfig", "public")] {
        listener.unsubscribe(kind, id);
    }
    for number in 0..3 {
        put(&node, &place(), first, &json!({ "data": number }));
        let version = put(&node, &place(), second, &json!({ "data": number }));
        assert_eq!(listener.hear(), frame(None, second, &number.to_string(), &version));
    }
    assert_eq!(node.metric("fanfare_subscriptions"), 1);
    let version = delete(&node, &place(), first, "");
    let heard = listener.subscribe(first.0, first.1);
    // In a cluster, the deletion may come to the node behind the subscription, and answers it.
    let is_deletion = heard == frame(None, first, "null", &version);
    assert!(heard == warning(first.0) || (node.is_three() && is_deletion), "{heard}");
}

#[test]
fn a_connection_has_so_many_subscriptions_and_no_more() {
    let node = Node::with_env(&[("FANFARE_M2_SUBSCRIPTIONS", "3")]);
    let mut listener = Listener::connect(&node, &service(place()));
    for id in ["a", "b", "c"] {
        listener.subscribe_early("kvStore", id);
    }
    for _ in 0..2 {
        let refused = listener.subscribe("kvStore", "d");
        assert_eq!(refused, r#"{"error":"Too many subscriptions"}"#);
    }
    listener.subscribe_early("kvStore", "a");
    listener.unsubscribe("kvStore", "b");
    listener.subscribe_early("kvStore", "d");
    let mut other = Listener::connect(&node, &service(place()));
    for id in ["a", "b", "c"] {
        other.subscribe_early("kvStore", id);
    }
    let version = put(&node, &place(), ("kvStore", "d"), &json!({ "data": "x" }));
    assert_eq!(listener.hear(), frame(None, ("kvStore", "d"), "\"x\"", &version));
    other.is_answered();
    let refused = |counted: &Exposition| {
        counted.value("fanfare_refusals_total", &[("reason", "too_many_subscriptions")])
    };
    assert_eq!(refused(&node.scrape()), 2.0);
}
