//! The time before a drain: the health of the node says that it drains, and the node still serves.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::ear::{CHANNEL, Poller, TICK};
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node, user_token, wait_until};
use crate::tcp::{self, Tcp};

const HEALTH: &str = "/api/health";
const LIVE: &str = "/api/health/live";
const SOON: Duration = Duration::from_secs(10);
/// A delay that no test waits for.
const LONG_MS: u64 = 600_000;

/// Starts a node with this delay, which then closes its connections over `window_ms`.
fn delaying(delay_ms: u64, window_ms: u64) -> Node {
    let node = Node::with(move |command| {
        command.env("FANFARE_DRAIN_DELAY_MS", delay_ms.to_string());
        command.env("FANFARE_DRAIN_MS", window_ms.to_string());
    });
    node.create_channel(CHANNEL);
    node
}

/// Returns the status of the node's health, and its word for it.
fn health(node: &Node) -> (u16, String) {
    let response = node.request("GET", HEALTH, &[], b"");
    let word = response.json()["status"].as_str().expect("it is a text").to_owned();
    (response.status, word)
}

/// Tells a node to stop, and waits until its health says so.
fn announce(node: &Node) {
    assert_eq!(health(node), (200, "ok".to_owned()));
    node.signal(Signal::TERM);
    wait_until("the health says that the node drains", || health(node) == (503, "draining".into()));
}

fn check_hears(socket: &mut Socket) {
    loop {
        match socket.hear() {
            Heard::Event(event) if event.is_named(TICK) => return,
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

#[test]
fn new_clients_are_served_until_the_delay_is_cut_short() {
    let mut node = delaying(LONG_MS, 200);
    let mut old = Socket::connect(node.port(), ANON_KEY);
    old.subscribe(CHANNEL);
    announce(&node);
    assert_eq!(node.metric("fanfare_draining"), 1);

    let mut new = Socket::connect(node.port(), ANON_KEY);
    new.subscribe(CHANNEL);
    let mut poller = Poller::subscribe(node.port(), &user_token("poller"));
    let receipt = node.publish(CHANNEL, TICK, &json!({}));
    assert_eq!(receipt["audience"]["total"], 3);
    check_hears(&mut old);
    check_hears(&mut new);
    poller.hear(1);
    let live = node.request("GET", LIVE, &[], b"");
    assert_eq!((live.status, &live.json()["status"]), (200, &json!("live")));
    // No answer tells its client to close the connection.
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(tcp::request(&["GET /api/nothing HTTP/1.1"], ""));
    assert_eq!(tcp.response().header("connection"), Some("keep-alive"));

    node.signal(Signal::TERM);
    for mut socket in [old, new] {
        while !matches!(socket.hear(), Heard::End) {}
    }
    while poller.poll() != ["1"] {
        poller.reconnect(node.port());
    }
    assert_eq!(node.exit_status(SOON).code(), Some(0));
    assert!(node.output().contains("cut short"));
}

#[test]
fn a_delay_ends_by_itself() {
    const DELAY: Duration = Duration::from_millis(1_500);
    let delay_ms = u64::try_from(DELAY.as_millis()).expect("it fits");
    let mut node = delaying(delay_ms, 0);
    let began = Instant::now();
    node.signal(Signal::INT);
    assert_eq!(node.exit_status(SOON).code(), Some(0));
    assert!(began.elapsed() >= DELAY, "it had {:?}", began.elapsed());
    assert!(!node.output().contains("cut short"));
}

#[test]
fn a_signal_after_the_delay_ends_the_node_at_once() {
    let mut node = delaying(LONG_MS, LONG_MS);
    let _kept = [(); 16].map(|()| Socket::connect(node.port(), ANON_KEY));
    announce(&node);
    assert!(node.lets_in());
    node.begin_to_stop(Signal::TERM);
    assert!(node.runs(), "the last connections are to be closed later");
    node.signal(Signal::INT);
    assert_eq!(node.exit_status(SOON).code(), Some(130));
}
