//! Streams that do not read: their channels decide what becomes of them.

use serde_json::json;

use super::stream::Stream;
use crate::support::{ANON_KEY, Node, wait_until};

/// Publishes more than an outbox and the kernel's buffers hold.
fn flood(node: &Node, channel: &str, count: u64) {
    let filler = "x".repeat(900_000);
    for number in 0..count {
        node.publish(channel, "tick", &json!({ "n": number, "filler": filler }));
    }
}

#[test]
fn a_stream_that_does_not_read_is_closed() {
    let node = Node::start();
    node.create_channel("orders");
    let mut stream = Stream::open(&node, &["orders"], ANON_KEY);
    stream.begin(1);
    flood(&node, "orders", 40);
    wait_until("the stream is closed", || node.metric("fanfare_subscriptions") == 0);
}

#[test]
fn a_stream_that_may_lose_messages_is_told_how_many() {
    for channels in [&["orders"][..], &["orders", "others"]] {
        let node = Node::start();
        for pattern in ["orders", "others"] {
            let definition = json!({ "pattern": pattern, "slowConsumer": "drop_oldest" });
            assert_eq!(node.admin("POST", "/api/realtime/channels", &definition).0, 201);
        }
        let mut stream = Stream::open(&node, channels, ANON_KEY);
        stream.begin(channels.len());
        let count = 60;
        flood(&node, "orders", count);
        let (mut heard, mut lost, mut next) = (0, 0, 0);
        while heard + lost < count {
            let event = stream.hear();
            match event.name.as_str() {
                "gap" => {
                    let skipped = event.data["count"].as_u64().expect("it is known how many");
                    (lost, next) = (lost + skipped, next + skipped);
                }
                _ => {
                    assert_eq!(event.data["payload"]["n"], next);
                    (heard, next) = (heard + 1, next + 1);
                }
            }
        }
        assert!(lost > 0);
    }
}
