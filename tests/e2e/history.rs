//! History over REST: listing, counting, retention and removal.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::order::Ending;
use crate::support::{API_KEY, Node, wait_until};

const CHANNELS: &str = "/api/realtime/channels";
const CONFIG: &str = "/api/realtime/config";
const MESSAGES: &str = "/api/realtime/messages";
const STATS: &str = "/api/realtime/messages/stats";
/// Number of concurrent publishers, and of publications that each sends before it waits for
/// answers.
const PUBLISHERS: usize = 3;
const PIPELINED: usize = 32;
/// The numbers of an empty result.
const NOTHING: [u64; 0] = [];

/// A node with two definitions, and the messages published under each.
struct Archive {
    node: Node,
    orders: String,
    chat: String,
    /// Ids of the messages, newest first.
    ids: Vec<String>,
}

impl Archive {
    fn new() -> Self {
        let node = Node::start();
        let orders = text(&node.create_channel("order:*")["id"]);
        let chat = text(&node.create_channel("chat:*")["id"]);
        let mut ids = Vec::new();
        let said = [
            ("order:1", "order.created"),
            ("chat:1", "message"),
            ("order:2", "order.created"),
            ("order:1", "order.updated"),
            ("chat:1", "order.created"),
        ];
        for (number, (channel, event)) in said.into_iter().enumerate() {
            let receipt = node.publish(channel, event, &json!({ "number": number }));
            ids.insert(0, text(&receipt["messageId"]));
        }
        Self { node, orders, chat, ids }
    }

    /// Returns the numbers of the messages that a query returns, in the given order.
    fn numbers(&self, query: &str) -> Vec<u64> {
        let (status, page) = get(&self.node, &format!("{MESSAGES}?{query}"));
        assert_eq!(status, 200, "{query}: {page}");
        let page = page.as_array().expect("a page is an array");
        page.iter().map(|message| message["payload"]["number"].as_u64().expect("ours")).collect()
    }
}

fn get(node: &Node, path: &str) -> (u16, Value) {
    node.admin("GET", path, &Value::Null)
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a text").to_owned()
}

#[test]
fn what_was_published_is_listed_the_newest_first() {
    let archive = Archive::new();
    let (orders, chat, ids) = (&archive.orders, &archive.chat, &archive.ids);
    assert_eq!(archive.numbers(""), [4, 3, 2, 1, 0]);
    assert_eq!(archive.numbers(&format!("channelId={orders}")), [3, 2, 0]);
    assert_eq!(archive.numbers("eventName=order.created"), [4, 2, 0]);
    assert_eq!(archive.numbers(&format!("channelId={chat}&eventName=order.created")), [4]);
    assert_eq!(archive.numbers("eventName="), [4, 3, 2, 1, 0]);
    assert_eq!(archive.numbers("eventName=order"), NOTHING);
    assert_eq!(archive.numbers("limit=2"), [4, 3]);
    assert_eq!(archive.numbers("limit=2&offset=1"), [3, 2]);
    assert_eq!(archive.numbers("offset=5"), NOTHING);
    assert_eq!(archive.numbers(&format!("limit=2&before={}", ids[1])), [2, 1]);
    let both = format!("eventName=order.created&channelId={orders}&before={}", ids[2]);
    assert_eq!(archive.numbers(&both), [0]);
    assert_eq!(archive.numbers(&format!("before={}", ids[4])), NOTHING);
}

#[test]
fn a_message_is_shown_whole_and_its_payload_as_it_came() {
    let node = Node::start();
    let channel = node.create_channel("order:*");
    let payload = r#"{"orderId" : "\u00fc", "n": 1.50, "n": 1.50}"#;
    let body = format!(r#"{{"channel":"order:1","event":"e","payload":{payload}}}"#);
    let headers = [("x-api-key", API_KEY)];
    let receipt = node.request("POST", MESSAGES, &headers, body.as_bytes()).json();
    let page = node.request("GET", MESSAGES, &headers, b"");
    assert!(page.text().contains(&format!(r#""payload":{payload},"#)), "{}", page.text());
    let expected = json!([{
        "id": receipt["messageId"],
        "eventName": "e",
        "channelId": channel["id"],
        "channelName": "order:1",
        "payload": { "orderId": "ü", "n": 1.5 },
        "senderType": "system",
        "senderId": null,
        "wsAudienceCount": 0,
        "whAudienceCount": 0,
        "whDeliveredCount": 0,
        "createdAt": receipt["timestamp"],
    }]);
    assert_eq!(page.json(), expected);
}

#[test]
fn messages_are_counted() {
    let archive = Archive::new();
    let (status, stats) = get(&archive.node, STATS);
    assert_eq!(status, 200);
    let expected = json!({
        "totalMessages": 5,
        "whDeliveryRate": 0,
        "topEvents": [
            { "eventName": "order.created", "count": 3 },
            { "eventName": "message", "count": 1 },
            { "eventName": "order.updated", "count": 1 },
        ],
        "retentionDays": null,
    });
    assert_eq!(stats, expected);
    let (_, stats) = get(&archive.node, &format!("{STATS}?channelId={}", archive.chat));
    assert_eq!(stats["totalMessages"], 2);

    let (_, page) = get(&archive.node, MESSAGES);
    for (at, newer) in (0..5).rev().zip(1..) {
        let since = text(&page[5 - newer]["createdAt"]);
        let (_, stats) = get(&archive.node, &format!("{STATS}?since={since}"));
        let count = page.as_array().expect("a page").iter();
        let count = count.filter(|message| text(&message["createdAt"]) >= since).count();
        assert_eq!(stats["totalMessages"], count, "since message {at}");
    }
    let (_, stats) = get(&archive.node, &format!("{STATS}?since=2999-01-01"));
    assert_eq!((&stats["totalMessages"], &stats["topEvents"]), (&json!(0), &json!([])));
}

#[test]
fn messages_of_a_definition_that_was_removed_stay_and_are_nobodys() {
    let archive = Archive::new();
    let (node, orders) = (&archive.node, &archive.orders);
    let (status, _) = node.admin("DELETE", &format!("{CHANNELS}/{orders}"), &Value::Null);
    assert_eq!(status, 200);
    assert_eq!(archive.numbers(""), [4, 3, 2, 1, 0]);
    assert_eq!(archive.numbers(&format!("channelId={orders}")), NOTHING);
    let (_, page) = get(node, MESSAGES);
    let chat = json!(archive.chat);
    let of = page.as_array().expect("a page").iter().map(|message| message["channelId"].clone());
    let none = Value::Null;
    assert_eq!(of.collect::<Vec<_>>(), [&chat, &none, &none, &chat, &none].map(Clone::clone));
    let (_, stats) = get(node, &format!("{STATS}?channelId={orders}"));
    assert_eq!(stats["totalMessages"], 0);
}

#[test]
fn history_is_cleared() {
    let archive = Archive::new();
    let cleared = |deleted: u64| (200, json!({ "deleted": deleted }));
    assert_eq!(archive.node.admin("DELETE", MESSAGES, &Value::Null), cleared(5));
    assert_eq!(archive.numbers(""), NOTHING);
    assert_eq!(archive.node.admin("DELETE", MESSAGES, &Value::Null), cleared(0));
    archive.node.publish("chat:1", "message", &json!({ "number": 7 }));
    assert_eq!(archive.numbers(""), [7]);
}

/// Requests to empty history and for health are answered although publications never stop.
#[test]
fn history_is_emptied_while_publications_keep_coming() {
    let node = Node::start();
    node.create_channel("orders");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Ending(&is_over);
        for _ in 0..PUBLISHERS {
            scope.spawn(|| publish_without_rest(node.port(), &is_over));
        }
        wait_until("there is much to remove", || node.metric("fanfare_history_kept_total") > 1_000);
        let (status, answer) = node.admin("DELETE", MESSAGES, &Value::Null);
        assert_eq!(status, 200, "{answer}");
        assert!(answer["deleted"].as_u64() >= Some(1_000), "{answer}");
        assert_eq!(node.admin("GET", "/api/health", &Value::Null).0, 200);
    });
}

/// Publishes on one connection, many at a time, until told to stop.
fn publish_without_rest(port: u16, is_over: &AtomicBool) {
    let body = json!({ "channel": "orders", "event": "tick", "payload": {} }).to_string();
    let length = body.len();
    let request = format!(
        "POST {MESSAGES}?durability=memory HTTP/1.1\r\nHost: node\r\nX-API-Key: {API_KEY}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let many = request.repeat(PIPELINED);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(many.as_bytes()).expect("the node reads on");
        let (mut heard, mut answers) = (String::new(), 0);
        while answers < PIPELINED {
            let mut part = [0; 16_384];
            let length = stream.read(&mut part).expect("the node answers");
            assert!(length > 0, "the node does not close");
            heard.push_str(std::str::from_utf8(&part[..length]).expect("answers are text"));
            answers = heard.matches("\"messageId\"").count();
        }
    }
}

#[test]
fn history_outlives_the_node() {
    let mut archive = Archive::new();
    let set = json!({ "retentionDays": 30 });
    assert_eq!(archive.node.admin("PATCH", CONFIG, &set).0, 200);
    archive.node.restart();
    assert_eq!(archive.numbers(""), [4, 3, 2, 1, 0]);
    assert_eq!(get(&archive.node, CONFIG), (200, json!({ "retentionDays": 30 })));
}

#[test]
fn retention_is_set_and_shown() {
    let node = Node::start();
    assert_eq!(get(&node, CONFIG), (200, json!({ "retentionDays": null })));
    let updated = json!({ "message": "Retention config updated successfully" });
    for days in [json!(30), Value::Null, json!(1)] {
        let set = node.admin("PATCH", CONFIG, &json!({ "retentionDays": days }));
        assert_eq!(set, (200, updated.clone()));
        assert_eq!(get(&node, CONFIG), (200, json!({ "retentionDays": days })));
        assert_eq!(get(&node, STATS).1["retentionDays"], days);
    }
}

#[test]
fn mistakes_are_named() {
    let node = Node::start();
    let table = [
        ("GET", "messages?limit=0", "limit: expected a whole number from 1 to 1000"),
        ("GET", "messages?limit=1001", "limit: expected a whole number from 1 to 1000"),
        ("GET", "messages?limit=abc", "limit: expected a whole number from 1 to 1000"),
        ("GET", "messages?limit=1.5", "limit: expected a whole number from 1 to 1000"),
        ("GET", "messages?offset=-1", "offset: expected a whole number from 0"),
        ("GET", "messages?channelId=x", "channelId: Invalid uuid"),
        (
            "GET",
            "messages?offset=x&channelId=x",
            "channelId: Invalid uuid, offset: expected a whole number from 0",
        ),
        ("GET", "messages?before=660e8400-e29b-41d4-a716-446655440000", "before: Unknown message"),
        ("GET", "messages/stats?since=x", "since: Invalid date"),
        ("GET", "messages/stats?since=", "since: Invalid date"),
        ("GET", "messages/stats?since=1700000000000", "since: Invalid date"),
        ("GET", "messages/stats?channelId=x", "channelId: Invalid uuid"),
        ("PATCH", "config", "retentionDays: Required"),
    ];
    for (method, path, message) in table {
        let body = if method == "PATCH" { json!({}) } else { Value::Null };
        let (status, refusal) = node.admin(method, &format!("/api/realtime/{path}"), &body);
        assert_eq!(status, 400, "{path}: {refusal}");
        assert_eq!(
            (&refusal["error"], &refusal["message"], &refusal["statusCode"]),
            (&json!("INVALID_INPUT"), &json!(message), &json!(400))
        );
    }
    for days in [json!(0), json!(1.5), json!("30")] {
        let (status, refusal) = node.admin("PATCH", CONFIG, &json!({ "retentionDays": days }));
        let message = "retentionDays: expected a whole number from 1 to 36500, or null";
        assert_eq!((status, &refusal["message"]), (400, &json!(message)), "{days}");
    }
}

#[test]
fn history_is_for_administrators() {
    let node = Node::start();
    let calls = [
        ("GET", MESSAGES),
        ("GET", "/api/realtime/messages?limit=0"),
        ("DELETE", MESSAGES),
        ("GET", STATS),
        ("GET", CONFIG),
        ("PATCH", CONFIG),
        ("GET", "/api/metadata/realtime"),
    ];
    for (method, path) in calls {
        let refusal = node.request(method, path, &[], b"");
        assert_eq!(refusal.status, 401, "{method} {path}");
        assert_eq!(refusal.json()["error"], "AUTH_INVALID_CREDENTIALS", "{method} {path}");
    }
}

#[test]
fn what_is_set_up_is_told_in_one_answer() {
    let node = Node::start();
    let channel = node.create_channel("orders");
    let (status, metadata) = get(&node, "/api/metadata/realtime");
    assert_eq!(status, 200);
    assert_eq!(metadata["channels"], json!([channel]));
    for side in ["subscribe", "publish"] {
        assert!(metadata["permissions"][side]["policies"].is_array(), "{metadata}");
    }
}
