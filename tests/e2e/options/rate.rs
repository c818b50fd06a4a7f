//! `rateLimit`: how often clients may publish on a channel.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Client, PUBLISH, define, redefine};
use crate::socket::Heard;
use crate::support::{Node, user_token};

const RATE: u64 = 20;
/// Number of publications sent without waiting.
const BREATH: usize = 60;

/// Publishes `BREATH` times without waiting, and returns how many were accepted.
fn publish(client: &mut Client, channel: &str) -> u64 {
    let publication = json!({ "channel": channel, "event": "tick", "payload": 1 });
    let asked = [(); BREATH].map(|()| client.socket.ask(PUBLISH, &publication));
    client.socket.flush();
    let (mut accepted, mut answered) = (0, 0);
    while answered < asked.len() {
        let Heard::Ack(_, answer) = client.socket.hear() else { continue };
        answered += 1;
        if answer["ok"] == true {
            accepted += 1;
            continue;
        }
        assert_eq!(answer["error"]["code"], "RATE_LIMITED", "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
        assert_eq!(answer["channel"], channel);
    }
    accepted
}

/// Returns the most publications that the bucket allows between that moment and now.
fn most(since: Instant) -> u64 {
    RATE + (since.elapsed().as_secs_f64() * RATE as f64) as u64 + 1
}

#[test]
fn the_clients_of_a_channel_together_are_held_to_its_rate() {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let id = define(&node, &json!({ "pattern": "talk:*", "rateLimit": RATE }));
    let mut clients = ["ada", "bob"].map(|name| Client::connect(&node, &user_token(name)));
    for client in &mut clients {
        client.subscribe("talk:1");
        client.subscribe("talk:2");
    }
    let start = Instant::now();
    let accepted: u64 = clients.iter_mut().map(|client| publish(client, "talk:1")).sum();
    assert!(accepted >= RATE && accepted <= most(start), "{accepted} in {:?}", start.elapsed());
    let refused = 2 * BREATH as u64 - accepted;
    assert_eq!(node.metric("fanfare_refusals_total{reason=\"rate_limited\"}"), refused);
    assert_eq!(node.metric("fanfare_publications_total"), accepted, "nobody heard the others");

    // Each channel has its own limit, and publishing over HTTP has none.
    assert!(publish(&mut clients[0], "talk:2") >= RATE);
    for _ in 0..2 * RATE {
        node.publish("talk:1", "tick", &json!(1));
    }

    std::thread::sleep(Duration::from_millis(600));
    let start = Instant::now();
    let again = publish(&mut clients[1], "talk:1");
    assert!(again >= RATE / 2 && again <= most(start), "half of it is there again: {again}");

    redefine(&node, &id, &json!({ "rateLimit": null }));
    assert_eq!(publish(&mut clients[0], "talk:1"), BREATH as u64, "as often as they like");
}

#[test]
fn coming_anew_makes_nobody_faster() {
    let node = Node::start();
    define(&node, &json!({ "pattern": "talk", "rateLimit": 2 }));
    let mut client = Client::connect(&node, &user_token("ada"));
    let (start, mut accepted) = (Instant::now(), 0);
    for _ in 0..5 {
        client.subscribe("talk");
        accepted += publish(&mut client, "talk");
        client.unsubscribe("talk");
    }
    let most = 2 + (start.elapsed().as_secs_f64() * 2.0) as u64 + 1;
    assert!((2..=most).contains(&accepted), "{accepted} in {:?}", start.elapsed());
}
