//! Channels and clients that outlive a killed node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Node;

const CHANNELS: &str = "/api/realtime/channels";

#[test]
fn channels_survive() {
    let mut node = Node::start();
    let kept = node.create_channel("kept:*");
    let changed = node.create_channel("changed");
    let deleted = node.create_channel("deleted");
    let change = json!({
        "description": "Kept across restarts",
        "webhookUrls": ["https://example.com/webhook"],
        "enabled": false,
    });
    let (status, changed) = node.admin("PUT", &path_of(&changed), &change);
    assert_eq!(status, 200, "{changed}");
    let (status, _) = node.admin("DELETE", &path_of(&deleted), &Value::Null);
    assert_eq!(status, 200);

    let pid = node.pid();
    node.restart();
    assert_ne!(node.pid(), pid);

    // The newest channel comes first.
    let (status, listed) = node.admin("GET", CHANNELS, &Value::Null);
    assert_eq!((status, listed), (200, json!([changed, kept])));
    assert_eq!(node.admin("GET", &path_of(&kept), &Value::Null), (200, kept));
    assert_eq!(node.admin("GET", &path_of(&deleted), &Value::Null).0, 404);
    node.publish("kept:1", "note", &json!({}));
}

#[test]
fn clients_come_back_and_hear_the_next_publication() {
    let mut node = Node::start();
    let clients = node.spawn_script("reconnect.mjs", &[], &[]);
    clients.wait_for("ready", Duration::from_secs(60));
    node.restart();
    clients.succeed(Duration::from_secs(90));
}

fn path_of(channel: &Value) -> String {
    format!("{CHANNELS}/{}", channel["id"].as_str().expect("a channel has an id"))
}
