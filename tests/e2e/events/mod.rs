//! Server-Sent Events: what streams receive, which requests are refused, and what a reconnecting
//! client receives.

mod clients;
mod drain;
mod refused;
pub(crate) mod resuming;
mod slow;
pub(crate) mod stream;

use std::time::Duration;

use serde_json::{Value, json};

use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node, user_token, wait_until};
use stream::Stream;

/// Defines a channel that keeps its messages for so many seconds.
fn keep(node: &Node, pattern: &str, seconds: u32) {
    let definition = json!({ "pattern": pattern, "replaySeconds": seconds });
    let (status, body) = node.admin("POST", "/api/realtime/channels", &definition);
    assert_eq!(status, 201, "{body}");
}

fn publish(node: &Node, channel: &str, number: u64) -> Value {
    node.publish(channel, "tick", &json!({ "n": number }))
}

#[test]
fn a_stream_has_the_documented_messages_and_says_what_it_is() {
    let node = Node::start();
    node.create_channel("orders");
    let mut stream = Stream::open(&node, &["orders"], ANON_KEY);
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-store"));
    assert_eq!(stream.header("content-length"), None);
    let begun = stream.begin(1);
    assert_eq!(begun[0].data["channel"], "orders");
    assert_eq!(begun[0].data["presence"]["members"].as_array().map(Vec::len), Some(1));
    let receipt = publish(&node, "orders", 7);
    assert_eq!(
        node.audience(&receipt),
        json!({"total": 1, "websocket": 0, "polling": 0, "sse": 1})
    );
    let event = stream.hear();
    assert_eq!(event.name, "tick");
    let id = &receipt["messageId"];
    let expected = json!({
        "channel": "orders", "messageId": id, "senderType": "system", "senderId": null,
        "payload": { "n": 7 },
    });
    assert_eq!(event.data, expected);
    assert!(!event.id.is_empty());
    let labels = [("api", "insforge"), ("transport", "sse")];
    assert_eq!(node.scrape().value("fanfare_connections", &labels), 1.0);
    stream.cut();
    wait_until("the stream is uncounted", || node.metric("fanfare_subscriptions") == 0);
}

#[test]
fn line_breaks_in_a_payload_stay_in_their_event() {
    let node = Node::start();
    node.create_channel("orders");
    let mut stream = Stream::open(&node, &["orders"], ANON_KEY);
    stream.begin(1);
    let key = format!("Bearer {}", crate::support::API_KEY);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let body =
        b"{\"channel\":\"orders\",\"event\":\"e\",\"payload\":{\n\"a\":\r\n\"x\\ny\",\r\"b\":[]}}";
    let answer = node.request("POST", "/api/realtime/messages", &headers, body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(stream.hear().data["payload"], json!({ "a": "x\ny", "b": [] }));
}

#[test]
fn publishers_cannot_imitate_the_events_of_the_node() {
    let node = Node::start();
    node.create_channel("orders");
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe("orders");
    for event in ["gap", "realtime:subscribed", "presence:join", "presence:leave"] {
        let message = json!({ "channel": "orders", "event": event, "payload": {} });
        let (status, body) = node.admin("POST", "/api/realtime/messages", &message);
        assert_eq!((status, &body["error"]), (400, &json!("INVALID_INPUT")), "{event}");
        socket.ask("REALTIME_PUBLISH", &message);
        socket.flush();
        let Heard::Ack(_, answer) = socket.hear() else { panic!("{event} is not answered") };
        assert_eq!(answer["error"]["code"], "INVALID_INPUT", "{event}");
    }
}

#[test]
fn several_channels_share_a_stream_each_in_its_order() {
    let node = Node::start();
    node.create_channel("orders");
    node.create_channel("chat:*");
    let channels = ["orders", "chat:1", "chat%3A2", "orders"];
    let mut stream = Stream::open(&node, &channels, ANON_KEY);
    stream.begin(3);
    for number in 0..50 {
        publish(&node, "orders", number);
        publish(&node, "chat:2", number);
    }
    let heard: Vec<_> = (0..100).map(|_| stream.hear()).collect();
    for channel in ["orders", "chat:2"] {
        let numbers = heard.iter().filter(|event| event.data["channel"] == channel);
        let numbers: Vec<_> = numbers.map(|event| event.data["payload"]["n"].clone()).collect();
        assert_eq!(numbers, (0..50).map(Value::from).collect::<Vec<_>>(), "{channel}");
    }
}

#[test]
fn presence_counts_a_stream_like_a_socket() {
    let node = Node::start();
    node.create_channel("room");
    let mut socket = Socket::connect(node.port(), &user_token("ann"));
    socket.subscribe("room");
    let mut stream = Stream::open(&node, &["room"], &user_token("bob"));
    let begun = stream.begin(1);
    let members = begun.last().map(|event| event.data["presence"]["members"].clone());
    let members = members.and_then(|members| members.as_array().cloned()).expect("members");
    let names: Vec<_> = members.iter().map(|member| member["presenceId"].clone()).collect();
    assert_eq!(names, ["ann", "bob"]);
    drop(socket);
    let left = stream.hear();
    assert_eq!(
        (left.name.as_str(), &left.data["member"]["presenceId"]),
        ("presence:leave", &json!("ann"))
    );
}

#[test]
fn comments_keep_an_idle_stream_alive() {
    let node = Node::with_env(&[("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "300")]);
    node.create_channel("orders");
    let mut stream = Stream::open(&node, &["orders"], ANON_KEY);
    stream.begin(1);
    std::thread::sleep(Duration::from_millis(1_200));
    publish(&node, "orders", 1);
    stream.hear();
    assert!(stream.comments >= 2, "{}", stream.comments);
}
