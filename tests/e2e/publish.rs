//! Publishing over HTTP: the receipt, the counts, and channels that no definition matches.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, Node};

const MESSAGES: &str = "/api/realtime/messages";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_receipt_names_message_time_and_audience_by_transport() {
    let node = Node::start();
    node.create_channel("orders");
    let transports = ["polling", "websocket", "websocket"];
    let subscribers =
        node.spawn_script("listen.mjs", &[&["orders"][..], &transports].concat(), &[]);
    subscribers.wait_for("ready", PATIENCE);

    let receipt = node.publish("orders", "INSERT", &json!({ "id": 1 }));
    assert_eq!(
        node.audience(&receipt),
        json!({ "total": 3, "websocket": 2, "polling": 1, "sse": 0 })
    );
    assert_iso_millis(&receipt["timestamp"]);

    let message = json!({
        "channel": "orders",
        "messageId": receipt["messageId"],
        "senderType": "system",
        "senderId": null,
        "payload": { "id": 1 },
    });
    let mut heard: Vec<Value> = transports
        .iter()
        .map(|_| serde_json::from_str(&subscribers.next_line(PATIENCE)).expect("a line is JSON"))
        .collect();
    heard.sort_by_key(|line| line[0].to_string());
    assert_eq!(heard, transports.map(|transport| json!([transport, "INSERT", message])));
    subscribers.succeed(PATIENCE);
}

#[test]
fn nobody_listening_is_an_audience_of_none() {
    let node = Node::start();
    node.create_channel("orders");
    let first = node.publish("orders", "INSERT", &json!({}));
    assert_eq!(
        node.audience(&first),
        json!({ "total": 0, "websocket": 0, "polling": 0, "sse": 0 })
    );
    let second = node.publish("orders", "INSERT", &json!({}));
    assert_ne!(first["messageId"], second["messageId"]);
}

#[test]
fn what_was_published_and_delivered_is_counted() {
    let node = Node::start();
    node.create_channel("orders");
    let subscribers = node.spawn_script("listen.mjs", &["orders", "polling", "websocket"], &[]);
    subscribers.wait_for("ready", PATIENCE);
    wait_for_metric(&node, "fanfare_connections", 2);
    wait_for_metric(&node, "fanfare_subscriptions", 2);

    for id in 0..5 {
        node.publish("orders", "INSERT", &json!({ "id": id }));
    }
    for _ in 0..10 {
        subscribers.next_line(PATIENCE);
    }
    wait_for_metric(&node, "fanfare_publications_total", 5);
    wait_for_metric(&node, "fanfare_deliveries_total", 10);
    assert_eq!(node.metric("fanfare_deliveries_matched_total"), 10);
    wait_for_metric(&node, "fanfare_deliveries_queued", 0);

    subscribers.succeed(PATIENCE);
    wait_for_metric(&node, "fanfare_subscriptions", 0);
}

#[test]
fn a_name_that_no_enabled_channel_matches_is_not_found() {
    let node = Node::start();
    let channel = node.create_channel("off");
    let path = format!("/api/realtime/channels/{}", channel["id"].as_str().expect("an id"));
    assert_eq!(node.admin("PUT", &path, &json!({ "enabled": false })).0, 200);
    for name in ["undefined", "off"] {
        let publication = json!({ "channel": name, "event": "note", "payload": {} });
        let not_found =
            json!({ "error": "NOT_FOUND", "message": "Channel not found", "statusCode": 404 });
        assert_eq!(node.admin("POST", MESSAGES, &publication), (404, not_found));
    }
}

/// Checks the format of `2024-01-15T10:30:00.000Z`.
fn assert_iso_millis(time: &Value) {
    let text = time.as_str().unwrap_or_default();
    let shape = text.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
}

/// Waits for a count. Workers count in their own time and notice closed sockets late.
fn wait_for_metric(node: &Node, name: &str, expected: u64) {
    let end = Instant::now() + PATIENCE;
    while node.metric(name) != expected {
        assert!(Instant::now() < end, "{name} is {}, not {expected}", node.metric(name));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_batch_is_published_in_its_order_and_each_part_has_its_answer() {
    let node = Node::start();
    node.create_channel("orders");
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe("orders");
    let part = |n: usize| json!({ "channel": "orders", "event": "tick", "payload": { "n": n } });
    let batch: Vec<_> = (0..100).map(part).collect();
    let (status, answers) = post(&node, &json!(batch));
    assert_eq!((status, answers.len()), (201, 100));
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!((&answer["status"], &answer["durability"]), (&json!(201), &json!("stored")));
        let (name, heard) = socket.hear_event().parts();
        assert_eq!(name, "tick");
        assert_eq!(
            (&heard["payload"]["n"], &heard["messageId"]),
            (&json!(n), &answer["messageId"])
        );
    }

    // What is wrong with one part concerns no other.
    let id = &answers[0]["messageId"];
    let mut again = part(0);
    again["messageId"] = json!("018f2d3c-0000-7000-8000-000000000001");
    let mixed =
        json!([again, part(1), 5, { "channel": "none", "event": "a", "payload": 1 }, again]);
    let (status, answers) = post(&node, &mixed);
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64()).collect();
    assert_eq!((status, statuses), (207, [201, 201, 400, 404, 201].map(Some).to_vec()));
    // One that is published again is not heard again.
    assert_eq!(answers[0]["messageId"], answers[4]["messageId"]);
    assert_ne!(&answers[1]["messageId"], id);
    assert_eq!(answers[3]["error"], "NOT_FOUND");

    let too_many: Vec<_> = (0..101).map(part).collect();
    for refused in [json!([]), json!(too_many)] {
        let answer = node.request("POST", MESSAGES, &[API_HEADER], refused.to_string().as_bytes());
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("Expected 1 to 100 publications"), "{}", answer.text());
    }
}

const API_HEADER: (&str, &str) = ("x-api-key", API_KEY);

/// Publishes a batch. Returns the status and the answers.
fn post(node: &Node, batch: &Value) -> (u16, Vec<Value>) {
    let answer = node.request("POST", MESSAGES, &[API_HEADER], batch.to_string().as_bytes());
    let status = answer.status;
    match answer.json() {
        Value::Array(answers) => (status, answers),
        other => panic!("{status}: {other}"),
    }
}
