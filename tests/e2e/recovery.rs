//! Clients whose connection is cut, and that recover the events that they missed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::order::Ending;
use crate::support::{Node, wait_until};

/// How often each client is cut, unless `FANFARE_TEST_CUTS` says otherwise.
const CUTS: &str = "25";
const PATIENCE: Duration = Duration::from_secs(120);
/// Additional time for each cut.
const PATIENCE_EACH: Duration = Duration::from_secs(5);
const CHANNELS: [&str; 3] = ["a:1", "a:2", "b"];

fn node(window_ms: u64) -> Node {
    let node = Node::with(move |command| {
        command.env("FANFARE_RECOVERY_WINDOW_MS", window_ms.to_string());
        // If a stock client is cut during its upgrade to WebSocket, it has stopped polling and
        // notices the cut only by the heartbeat.
        command.env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "1000");
        command.env("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "1000");
        // At this level, the log says why a client is not recovered.
        command.env("FANFARE_LOG", "debug");
        command.args(["--workers", "2"]);
    });
    node.create_channel("a:*");
    node.create_channel("b");
    node
}

/// Publishes numbers on all channels until told to stop, and then the end. Returns how many.
fn publish(node: &Node, is_over: &AtomicBool) -> u64 {
    let mut last = 0;
    while !is_over.load(Ordering::Relaxed) {
        last += 1;
        for channel in CHANNELS {
            node.publish(channel, "n", &json!({ "n": last }));
        }
        thread::sleep(Duration::from_millis(5));
    }
    for channel in CHANNELS {
        node.publish(channel, "end", &json!({}));
    }
    last
}

/// Cuts clients while the test publishes. Returns how many numbers were published, and each
/// client's record.
fn cut(node: &Node, args: &[&str], envs: &[(&str, &str)]) -> (u64, Vec<Value>) {
    let clients = node.spawn_script("recovery.mjs", args, envs);
    clients.wait_for("ready", PATIENCE);
    let is_over = AtomicBool::new(false);
    let count = args.len() - 3;
    let cuts: u32 = args[0].parse().expect("a number");
    let patience = PATIENCE + cuts * PATIENCE_EACH;
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(node, &is_over));
        let stop = Ending(&is_over);
        clients.wait_for("cut", patience);
        drop(stop);
        publisher.join().expect("everything is accepted")
    });
    let told = (0..count).map(|_| {
        serde_json::from_str(&clients.next_line(PATIENCE)).expect("a line for each client")
    });
    let told = told.collect();
    clients.succeed(PATIENCE);
    (published, told)
}

#[test]
fn whoever_is_cut_misses_nothing() {
    let node = node(60_000);
    let cuts = std::env::var("FANFARE_TEST_CUTS").unwrap_or_else(|_| CUTS.to_owned());
    let channels = CHANNELS.join(",");
    let clients = ["websocket", "default", "polling", "websocket"];
    let args = [&[cuts.as_str(), "0", &channels][..], &clients].concat();
    let (published, told) = cut(&node, &args, &[("FIRST_CUT_WITHOUT_EVENTS", "1")]);
    let all: Vec<u64> = (1..=published).collect();
    for client in told {
        let name = &client["transports"];
        for channel in CHANNELS {
            assert_eq!(client["heard"][channel], json!(all), "{name} on {channel}");
        }
        let recovered = client["recovered"].as_array().expect("a list");
        assert!(recovered.iter().all(|one| *one == json!(true)), "{name}: {recovered:?}");
        assert!(recovered.len() as u64 >= cuts.parse::<u64>().expect("a number"), "{name}");
        assert_eq!(client["sameId"], json!(true), "{name}");
    }
    assert!(node.metric("fanfare_recovered_publications_total") > 0);
    wait_until("nothing is queued", || node.metric("fanfare_deliveries_queued") == 0);
}

#[test]
fn who_was_away_for_longer_than_the_log_is_told_so() {
    let node = node(300);
    let channels = CHANNELS.join(",");
    let args = ["2", "1500", &channels, "websocket"];
    let clients = node.spawn_script("recovery.mjs", &args, &[]);
    clients.wait_for("ready", PATIENCE);
    clients.wait_for("cut", PATIENCE);
    drop(clients);
    assert_eq!(node.metric("fanfare_recoveries_total{outcome=\"recovered\"}"), 0);
    assert!(node.metric("fanfare_recoveries_total{outcome=\"refused\"}") >= 2);
}

#[test]
fn what_was_missed_is_what_came_while_the_channel_was_heard() {
    for case in ["again", "between"] {
        node(60_000).run_script("recovery_raw.mjs", &[case], &[], PATIENCE);
    }
}
