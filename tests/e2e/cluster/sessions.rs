//! Clients of Socket.IO that go on at another node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use rustix::process::Signal;

use super::fleet::{Fleet, health};
use crate::order::Ending;
use crate::socket::{Came, Heard, Socket};
use crate::support::{Node, user_token, wait_until};

const PATIENCE: Duration = Duration::from_secs(240);
const CHANNELS: [&str; 3] = ["a:1", "a:2", "b"];
/// Long enough for a busy machine, whose clients must find the time to answer heartbeats.
const RECOVERING: &[(&str, &str)] = &[
    ("FANFARE_RECOVERY_WINDOW_MS", "120000"),
    ("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "5000"),
    ("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "5000"),
    ("FANFARE_LOG", "debug"),
];

/// Publishes numbers on all channels, on the nodes in turn, until told to stop, and then the end.
/// Returns how many.
pub(super) fn publish(nodes: &[Node], is_over: &AtomicBool) -> usize {
    let mut last = 0;
    while !is_over.load(Ordering::Relaxed) {
        last += 1;
        for channel in CHANNELS {
            publish_patiently(&nodes[last % nodes.len()], channel, last);
        }
        thread::sleep(Duration::from_millis(5));
    }
    for channel in CHANNELS {
        nodes[0].publish(channel, "end", &json!({}));
    }
    last
}

/// Publishes a number. A cluster on a busy machine may refuse it for a moment.
fn publish_patiently(node: &Node, channel: &str, number: usize) {
    let publication = json!({ "channel": channel, "event": "n", "payload": { "n": number } });
    wait_until("the publication is accepted", || {
        match node.admin("POST", "/api/realtime/messages", &publication) {
            (201, _) => true,
            (503, _) => false,
            (status, body) => panic!("{status}: {body}"),
        }
    });
}

#[test]
fn clients_that_take_the_nodes_in_turn_miss_nothing() {
    let fleet = Fleet::with(3, RECOVERING);
    fleet.define(&json!({ "pattern": "a:*" }));
    fleet.define(&json!({ "pattern": "b" }));
    let urls: Vec<_> = fleet.nodes.iter().map(Node::url).collect();
    let cuts = std::env::var("FANFARE_TEST_CUTS").unwrap_or_else(|_| "12".to_owned());
    let channels = CHANNELS.join(",");
    let clients = ["websocket", "default", "polling", "websocket"];
    let args = [&[&*cuts, "0", &channels][..], &clients].concat();
    let envs = [("FANFARE_URLS", &*urls.join(","))];
    let running = fleet.nodes[0].spawn_script("recovery.mjs", &args, &envs);
    running.wait_for("ready", PATIENCE);
    let is_over = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&fleet.nodes, &is_over));
        let stop = Ending(&is_over);
        running.wait_for("cut", PATIENCE);
        drop(stop);
        publisher.join().expect("everything is accepted")
    });
    let all: Vec<_> = (1..=published).collect();
    for _ in clients {
        let client: Value = serde_json::from_str(&running.next_line(PATIENCE)).expect("JSON");
        let name = &client["transports"];
        for channel in CHANNELS {
            assert_eq!(client["heard"][channel], json!(all), "{name} on {channel}");
        }
        let recovered = client["recovered"].as_array().expect("a list");
        assert!(recovered.iter().all(|one| *one == json!(true)), "{name}: {recovered:?}");
        assert_eq!(client["sameId"], json!(true), "{name}");
    }
    running.succeed(PATIENCE);
}

const SHARED: &str = "fanfare_cluster_sessions_total{outcome=\"shared\"}";

/// Starts nodes whose clients may subscribe to `a`, `b` and `c`, and to `local`, which each node
/// orders alone.
fn fleet(nodes: usize) -> Fleet {
    let fleet = Fleet::with(nodes, RECOVERING);
    for channel in ["a", "b", "c"] {
        fleet.define(&json!({ "pattern": channel, "presence": "off" }));
    }
    fleet.define(&json!({ "pattern": "local", "presence": "off", "order": "local" }));
    fleet.define(&json!({ "pattern": "kept", "presence": "off", "replaySeconds": 60 }));
    fleet
}

/// Connects to a node and subscribes, and waits until the other nodes know of it.
fn subscriber(node: &Node, channels: &[&str]) -> Socket {
    let before = node.metric(SHARED);
    let mut socket = Socket::connect(node.port(), &user_token("alice"));
    channels.iter().for_each(|channel| socket.subscribe(channel));
    wait_until("the session is shared", || node.metric(SHARED) > before);
    socket
}

fn tick(node: &Node, channel: &str, number: u64) {
    node.publish(channel, "tick", &json!({ "n": number }));
}

/// Returns the channel and the number of the next message.
fn next(socket: &mut Socket) -> (String, u64) {
    let event = socket.hear_event();
    let parts: Vec<Value> = serde_json::from_str(&event.text()[2..]).expect("it is JSON");
    let channel = parts[1]["channel"].as_str().expect("a channel").to_owned();
    (channel, parts[1]["payload"]["n"].as_u64().expect("a number"))
}

/// Hears these messages and nothing else before the last of them.
fn expect(socket: &mut Socket, all: &[(&str, u64)]) {
    for (channel, number) in all {
        assert_eq!(next(socket), ((*channel).to_owned(), *number));
    }
}

/// Has a client of the first node hear a message of `a`, and cuts it. Returns what it would tell to
/// resume.
fn heard_and_cut(fleet: &Fleet) -> Came {
    let mut socket = subscriber(&fleet.nodes[0], &["a"]);
    tick(&fleet.nodes[1], "a", 1);
    expect(&mut socket, &[("a", 1)]);
    socket.came()
}

fn come_back(node: &Node, came: &Came) -> Socket {
    let (socket, is_resumed) = Socket::come_back(node.port(), came);
    assert!(is_resumed, "the client is recovered");
    socket
}

fn is_refused(node: &Node, came: &Came) -> Socket {
    let (socket, is_resumed) = Socket::come_back(node.port(), came);
    assert!(!is_resumed, "the client is told that it is not recovered");
    socket
}

#[test]
fn a_client_of_a_killed_node_goes_on_at_another_one_in_the_order_of_the_stream() {
    let mut fleet = fleet(3);
    let mut socket = subscriber(&fleet.nodes[0], &["a", "b"]);
    tick(&fleet.nodes[1], "a", 1);
    tick(&fleet.nodes[2], "b", 2);
    expect(&mut socket, &[("a", 1), ("b", 2)]);
    let came = socket.came();
    tick(&fleet.nodes[1], "b", 3);
    fleet.nodes[0].kill();
    tick(&fleet.nodes[2], "a", 4);
    tick(&fleet.nodes[1], "c", 5);
    tick(&fleet.nodes[1], "b", 6);
    drop(socket);
    let mut again = come_back(&fleet.nodes[1], &came);
    expect(&mut again, &[("b", 3), ("a", 4), ("b", 6)]);
    tick(&fleet.nodes[2], "a", 7);
    expect(&mut again, &[("a", 7)]);
    // Its subscriptions are its own again.
    again.subscribe("c");
    tick(&fleet.nodes[2], "c", 8);
    expect(&mut again, &[("c", 8)]);
}

#[test]
fn a_client_of_a_node_that_stops_goes_on_at_another_one() {
    let mut fleet = fleet(2);
    let mut socket = subscriber(&fleet.nodes[0], &["a"]);
    tick(&fleet.nodes[1], "a", 1);
    expect(&mut socket, &[("a", 1)]);
    // Of this change the other node learns only because the node stops.
    socket.subscribe("b");
    fleet.nodes[0].begin_to_stop(Signal::TERM);
    let mut heard = Vec::new();
    let mut number = 1;
    loop {
        number += 1;
        tick(&fleet.nodes[1], "b", number);
        match socket.look() {
            Heard::Event(event) => heard.push(event),
            Heard::End => break,
            Heard::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
    let received = heard.len() as u64;
    let mut again = come_back(&fleet.nodes[1], &socket.came());
    let missed: Vec<_> = (2 + received..=number).map(|number| ("b", number)).collect();
    expect(&mut again, &missed);
    tick(&fleet.nodes[1], "a", 99);
    expect(&mut again, &[("a", 99)]);
    fleet.nodes[0].kill();
}

#[test]
fn a_session_that_changes_is_not_resumed_as_it_was() {
    let mut fleet = fleet(2);
    for round in 0..6 {
        let mut socket = subscriber(&fleet.nodes[0], &["a"]);
        let asked = match round % 2 {
            0 => socket.ask("REALTIME_SUBSCRIBE", &json!({ "channel": "b" })),
            _ => socket.ask("realtime:unsubscribe", &json!({ "channel": "a" })),
        };
        socket.flush();
        assert!(matches!(socket.hear(), Heard::Ack(number, _) if number == asked));
        let came = socket.came();
        fleet.nodes[0].kill();
        tick(&fleet.nodes[1], "a", 1);
        tick(&fleet.nodes[1], "b", 2);
        let (mut again, is_resumed) = Socket::come_back(fleet.nodes[1].port(), &came);
        match (is_resumed, round % 2) {
            (true, 0) => expect(&mut again, &[("a", 1), ("b", 2)]),
            (true, _) => panic!("a session without channels is not shared"),
            (false, _) => assert!(matches!(again.look(), Heard::Nothing)),
        }
        fleet.nodes[0].restart();
        fleet.wait_until_healthy();
    }
}

#[test]
fn a_client_that_returns_to_its_first_node_has_what_it_did_elsewhere() {
    let fleet = fleet(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let socket = subscriber(first, &["a", "b"]);
    let came = socket.came();
    drop(socket);
    let before = second.metric(SHARED);
    let mut there = come_back(second, &came);
    there.subscribe("c");
    let asked = there.ask("realtime:unsubscribe", &json!({ "channel": "b" }));
    there.flush();
    assert!(matches!(there.hear(), Heard::Ack(number, _) if number == asked));
    tick(first, "a", 1);
    expect(&mut there, &[("a", 1)]);
    wait_until("it is shared", || second.metric(SHARED) > before + 1);
    let came = there.came();
    drop(there);
    for (number, channel) in (2..).zip(["b", "c", "a"]) {
        tick(second, channel, number);
    }
    let mut here = come_back(first, &came);
    expect(&mut here, &[("c", 3), ("a", 4)]);
}

#[test]
fn a_connection_whose_client_has_gone_on_elsewhere_ends_with_its_next_change() {
    let fleet = fleet(2);
    let mut stale = subscriber(&fleet.nodes[0], &["a"]);
    let mut again = come_back(&fleet.nodes[1], &stale.came());
    stale.ask("REALTIME_SUBSCRIBE", &json!({ "channel": "b" }));
    stale.flush();
    assert!(matches!(stale.hear(), Heard::End));
    tick(&fleet.nodes[0], "a", 1);
    expect(&mut again, &[("a", 1)]);
    again.subscribe("b");
}

#[test]
fn a_client_may_go_on_at_another_node_right_after_its_first_subscribe() {
    let fleet = fleet(2);
    for _ in 0..5 {
        let mut first = Socket::connect(fleet.nodes[0].port(), &user_token("alice"));
        first.subscribe("a");
        // Its node sees that connection open, as it does between two polls of a client.
        let mut again = come_back(&fleet.nodes[1], &first.came());
        tick(&fleet.nodes[0], "a", 1);
        expect(&mut again, &[("a", 1)]);
    }
}

#[test]
fn a_session_is_resumed_by_its_own_client_alone() {
    let fleet = fleet(2);
    let socket = subscriber(&fleet.nodes[0], &["a"]);
    let came = socket.came();
    drop(socket);
    is_refused(&fleet.nodes[1], &came.of(&user_token("mallory")));
    come_back(&fleet.nodes[1], &came);
}

#[test]
fn what_only_one_node_orders_is_resumed_there_alone() {
    let fleet = fleet(2);
    let mut socket = Socket::connect(fleet.nodes[0].port(), &user_token("alice"));
    socket.subscribe("a");
    socket.subscribe("local");
    tick(&fleet.nodes[0], "local", 1);
    expect(&mut socket, &[("local", 1)]);
    let came = socket.came();
    drop(socket);
    is_refused(&fleet.nodes[1], &came);
    tick(&fleet.nodes[0], "local", 2);
    let mut again = come_back(&fleet.nodes[0], &came);
    expect(&mut again, &[("local", 2)]);
}

#[test]
fn a_client_that_lacks_earlier_publications_is_told_so() {
    let fleet = fleet(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    (1..=3).for_each(|number| tick(second, "kept", number));
    for received in 0..3 {
        let mut socket = Socket::connect(first.port(), &user_token("alice"));
        socket.subscribe("a");
        tick(second, "a", 1);
        expect(&mut socket, &[("a", 1)]);
        let before = first.metric(SHARED);
        socket.subscribe("kept");
        (0..received).for_each(|_| drop(next(&mut socket)));
        let came = socket.came();
        wait_until("it is shared", || first.metric(SHARED) > before);
        drop(socket);
        let mut anew = is_refused(second, &came);
        assert!(matches!(anew.look(), Heard::Nothing));
    }
}

#[test]
fn a_client_that_has_all_earlier_publications_goes_on_elsewhere() {
    let fleet = fleet(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    (1..=3).for_each(|number| tick(second, "kept", number));
    let mut socket = subscriber(first, &["a", "kept"]);
    expect(&mut socket, &[("kept", 1), ("kept", 2), ("kept", 3)]);
    let came = socket.came();
    drop(socket);
    tick(second, "kept", 4);
    tick(second, "a", 5);
    let mut again = come_back(second, &came);
    expect(&mut again, &[("kept", 4), ("a", 5)]);
}

#[test]
fn a_client_may_come_back_to_a_node_that_has_not_joined_yet() {
    let mut fleet = fleet(2);
    let came = heard_and_cut(&fleet);
    fleet.nats.freeze();
    fleet.nodes[0].restart();
    let mut again = thread::scope(|scope| {
        let coming = scope.spawn(|| come_back(&fleet.nodes[0], &came));
        fleet.nats.thaw();
        coming.join().expect("it is recovered once the node has joined")
    });
    tick(&fleet.nodes[1], "a", 2);
    expect(&mut again, &[("a", 2)]);
}

#[test]
fn without_its_broker_no_session_is_resumed() {
    let mut fleet = fleet(2);
    let came = heard_and_cut(&fleet);
    fleet.nats.kill();
    is_refused(&fleet.nodes[0], &came);
    is_refused(&fleet.nodes[1], &came);
    fleet.nats.start_again(true);
    wait_until("the nodes serve", || fleet.nodes.iter().all(|node| health(node).0 == 200));
}
