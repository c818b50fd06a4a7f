//! Requests of long-polling clients that reach another node than that of their session.

mod client;
mod ends;
mod moves;

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Broker, Envs, Fleet};
use super::sessions::publish;
use crate::cases::LIMIT;
use crate::order::Ending;
use crate::support::Node;
use crate::support::nats::Nats;
use crate::support::script::Script;
use client::{Hopper, UNKNOWN, is_unknown};

const PATIENCE: Duration = Duration::from_secs(240);
const PASSED: &str = "fanfare_cluster_polls_total{side=\"passed\"}";
const ANSWERED: &str = "fanfare_cluster_polls_total{side=\"answered\"}";
const LOST: &str = "fanfare_cluster_polls_lost_total";

const PASSING: Envs = &[("FANFARE_CLUSTER_POLLING", "pass")];
/// Heartbeats are rare, so that a poll that is answered has packets.
const RECOVERING: Envs = &[
    ("FANFARE_CLUSTER_POLLING", "pass"),
    ("FANFARE_RECOVERY_WINDOW_MS", "120000"),
    ("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "60000"),
    ("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "20000"),
];

/// The channels of the tests.
const CHANNELS: [&str; 3] = ["a:1", "a:2", "b"];

fn fleet(nodes: usize) -> Fleet {
    let fleet = Fleet::with(nodes, RECOVERING);
    fleet.define(&json!({ "pattern": "b", "presence": "off" }));
    fleet
}

/// Starts what sends each request to the next node. Returns its URL.
fn balancer<B: Broker>(fleet: &Fleet<B>) -> (Script, String) {
    let urls: Vec<_> = fleet.nodes.iter().map(Node::url).collect();
    let envs = [("FANFARE_URLS", &*urls.join(","))];
    let running = fleet.nodes[0].spawn_script("balancer.mjs", &[], &envs);
    let url = running.next_line(PATIENCE);
    (running, url)
}

/// Checks that requests were passed on, and that none was lost.
fn check_passed<B: Broker>(fleet: &Fleet<B>) {
    let counts = [PASSED, ANSWERED, LOST]
        .map(|name| fleet.nodes.iter().map(|node| node.metric(name)).sum::<u64>());
    assert!(counts[0] > 20 && counts[1] > 20, "{counts:?}");
    assert_eq!(counts[2], 0, "no answer is lost");
}

#[test]
fn stock_clients_whose_requests_take_the_nodes_in_turn_notice_nothing() {
    let fleet = Fleet::with(3, PASSING);
    let (_balancer, url) = balancer(&fleet);
    let listed = fleet.run_script("socketio_client.mjs", &[], &[]);
    let cases: Vec<_> = listed.lines().collect();
    let envs = [("FANFARE_URLS", &*url), ("FANFARE_TRANSPORTS", "polling,default")];
    let running = Script::spawn(&url, "socketio_client.mjs", &cases, &envs);
    running.succeed(LIMIT * u32::try_from(2 * cases.len()).expect("there are few"));
    check_passed(&fleet);
}

#[test]
fn three_brokers_pass_them_on_as_well() {
    let fleet = Fleet::on_three(3, PASSING);
    let (_balancer, url) = balancer(&fleet);
    let cases = [
        "both_dialects_live_on_one_connection",
        "payloads_of_every_kind_arrive",
        "two_publishers_are_heard_in_one_order",
        "binary_that_is_too_large_is_refused_and_the_client_stays",
        "disconnecting_leaves_and_connecting_starts_anew",
    ];
    let envs = [("FANFARE_URLS", &*url), ("FANFARE_TRANSPORTS", "polling")];
    Script::spawn(&url, "socketio_client.mjs", &cases, &envs).succeed(LIMIT * 5);
    check_passed(&fleet);
}

#[test]
fn python_clients_whose_requests_take_the_nodes_in_turn_notice_nothing() {
    let fleet = Fleet::with(3, PASSING);
    let (_balancer, url) = balancer(&fleet);
    let cases = ["a_client_subscribes_publishes_and_receives", "a_wrong_token_is_refused"];
    let envs = [("FANFARE_URLS", &*url), ("FANFARE_TRANSPORTS", "polling")];
    Script::spawn(&url, "python_client.py", &cases, &envs).succeed(4 * LIMIT);
    let passed: u64 = fleet.nodes.iter().map(|node| node.metric(PASSED)).sum();
    assert!(passed > 0);
}

#[test]
fn clients_that_are_cut_off_at_any_node_miss_nothing() {
    let fleet = Fleet::with(3, RECOVERING);
    fleet.define(&json!({ "pattern": "a:*" }));
    fleet.define(&json!({ "pattern": "b" }));
    let (_balancer, url) = balancer(&fleet);
    let clients = ["polling"; 4];
    let channels = CHANNELS.join(",");
    let args = [&["12", "0", &*channels][..], &clients].concat();
    let behind: Vec<_> = fleet.nodes.iter().map(Node::url).collect();
    let envs = [("FANFARE_URLS", &*url), ("FANFARE_BEHIND", &*behind.join(","))];
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
        for channel in CHANNELS {
            assert_eq!(client["heard"][channel], json!(all), "{channel}");
        }
        let recovered = client["recovered"].as_array().expect("a list");
        assert!(recovered.iter().all(|one| *one == json!(true)), "{recovered:?}");
    }
    running.succeed(PATIENCE);
    let passed: u64 = fleet.nodes.iter().map(|node| node.metric(PASSED)).sum();
    assert!(passed > 20, "{passed}");
}

#[test]
fn by_default_another_node_refuses_them() {
    let fleet = Fleet::start(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let hopper = Hopper::open(first);
    assert_eq!(hopper.session().len(), 20);
    for response in [hopper.get(second), hopper.post(second, "3")] {
        assert_eq!((response.status, response.text()), (400, UNKNOWN));
    }
    assert_eq!(hopper.post(first, "3").status, 200, "its own node still has it");
    assert_eq!(second.metric(PASSED), 0);
}

#[test]
fn each_client_has_its_session_at_every_node() {
    let fleet = fleet(3);
    let [first, second, third] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let (one, other) = (Hopper::open(first), Hopper::open(second));
    assert_eq!(one.session().len(), 26);
    one.subscribe((second, third), "b");
    other.subscribe((third, first), "b");
    let event = json!({ "channel": "b", "event": "tick", "payload": { "n": 1 } });
    let asked = one.post(third, &format!("421{}", json!(["REALTIME_PUBLISH", event])));
    assert_eq!((asked.status, asked.text()), (200, "ok"));
    one.hear(second, "\"tick\"");
    assert!(one.hear(third, "431[{").contains("\"ok\":true"));
    other.hear(first, "\"tick\"");
}

#[test]
fn long_payloads_travel_in_both_directions() {
    let fleet = fleet(3);
    let [first, second, third] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let hopper = Hopper::open(first);
    hopper.subscribe((second, third), "b");
    for (bytes, at) in [(700_000, second), (900_000, third)] {
        let text = "x".repeat(bytes);
        let event = json!({ "channel": "b", "event": "long", "payload": { "text": text } });
        let sent = hopper.post(at, &format!("422{}", json!(["REALTIME_PUBLISH", event])));
        assert_eq!((sent.status, sent.text()), (200, "ok"));
        let heard = hopper.hear(third, "\"long\"");
        assert!(heard.contains(&text), "it comes whole: {} bytes", heard.len());
        assert!(hopper.hear(second, "432[").contains("\"ok\":true"));
    }
    let long = hopper.post(second, &"4".repeat(1_000_001));
    assert_eq!(long.status, 413, "no node takes more from a client");
    assert_eq!(hopper.post(second, "3").status, 200, "the session goes on");
}

#[test]
fn what_is_no_session_is_refused_as_at_its_own_node() {
    let fleet = fleet(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let hopper = Hopper::open(first);
    // A second poll while one waits breaks the protocol, at whatever node it comes.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| hopper.get(second));
        hopper.wait_for_poll(first);
        let refused = hopper.get(second);
        assert_eq!((refused.status, refused.json()["code"].clone()), (400, json!(3)));
        assert_eq!(waiting.join().expect("it is answered").text(), "1");
    });
    assert!(is_unknown(&hopper.get(second)), "it has ended");
    assert!(is_unknown(&hopper.post(second, "3")));
    let mistaken = Hopper::open(first);
    let response = mistaken.post(second, "9");
    assert_eq!((response.status, response.json()["code"].clone()), (400, json!(3)));
    // A node that does not run, a worker that the node does not have, and ids of other lengths.
    let id = mistaken.session();
    let altered = [
        format!("{}AAAAAA", &id[..20]),
        format!("{}{}", "-Q", &id[2..]),
        id[..20].to_owned(),
        format!("{id}AA"),
    ];
    for session in altered {
        let hopper = Hopper::named(&session);
        for response in [hopper.get(second), hopper.post(second, "3")] {
            assert!(is_unknown(&response), "{session}: {response:?}");
        }
    }
}

#[test]
fn a_websocket_is_refused_at_another_node_and_the_client_goes_on_polling() {
    let fleet = fleet(2);
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let hopper = Hopper::open(first);
    let (status, text) = hopper.offer_websocket(second);
    assert_eq!((status, &*text), (400, "Session ID unknown"));
    hopper.subscribe((second, first), "b");
}

#[test]
fn the_documented_permissions_are_enough() {
    let page = include_str!("../../../../src/background/cluster/README.md");
    let [publish, subscribe] = ["publish:", "subscribe:"].map(|side| {
        let mut lines = page.lines().map(str::trim);
        lines.find(|line| line.starts_with(side)).expect("the page has it")
    });
    let permissions = format!("permissions {{ {publish}\n{subscribe} }}");
    let user = format!("{{ user: fanfare, password: secret, {permissions} }}");
    let nats = Nats::with(&format!("authorization {{ users: [ {user} ] }}"));
    let fleet = Fleet::over(nats, 2, |_, command| {
        command.envs(RECOVERING.iter().copied());
        command.env("FANFARE_CLUSTER_USER", "fanfare");
        command.env("FANFARE_CLUSTER_PASSWORD", "secret");
    });
    fleet.define(&json!({ "pattern": "b", "presence": "off" }));
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let hopper = Hopper::open(first);
    hopper.subscribe((second, second), "b");
    first.publish("b", "tick", &json!({ "text": "x".repeat(700_000) }));
    hopper.hear(second, "\"tick\"");
    let violations = fleet.nats.output();
    assert!(!violations.contains("Violation"), "{violations}");
}
