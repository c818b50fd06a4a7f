//! `GET /api/health`: "ok" only if the store and all workers answer; otherwise it names those that
//! do not.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, Node, http, wait_until};
use crate::tcp::{self, Tcp};

const HEALTH: &str = "/api/health";
const LIVE: &str = "/api/health/live";
const CHANNELS: &str = "/api/realtime/channels";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_node_that_works_is_well() {
    let node = Node::start();
    let (status, health) = check(&node);
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert_eq!(health["service"], "fanfare");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health.get("problems").is_none(), "{health}");
}

#[test]
fn a_store_that_somebody_else_has_locked_is_named() {
    let node = Node::start();
    node.create_channel("before");
    let store = Connection::open(node.data_dir().join("fanfare.db")).expect("it can be shared");
    store.execute_batch("BEGIN IMMEDIATE").expect("nobody else has it");
    thread::scope(|scope| {
        let port = node.port();
        let created = scope.spawn(move || {
            let body = json!({ "pattern": "meanwhile" }).to_string();
            http::request(port, "POST", CHANNELS, &[("x-api-key", API_KEY)], body.as_bytes()).status
        });
        wait_until("the store is found locked", || check(&node).0 == 503);
        let (status, health) = check(&node);
        assert_eq!((status, &health["status"]), (503, &json!("failing")));
        assert_eq!(problems(&health).len(), 1, "{health}");
        assert!(problems(&health)[0].starts_with("the store "), "{health}");
        assert_eq!(node.request("GET", LIVE, &[], b"").status, 200, "a restart would not help");
        // A publish that does not need the store is accepted.
        let note = json!({ "channel": "before", "event": "note", "payload": {} });
        let unkept = "/api/realtime/messages?durability=memory";
        assert_eq!(node.admin("POST", unkept, &note).0, 201);

        store.execute_batch("COMMIT").expect("it can be let go");
        // The request waits for the store for a while and is then refused, which may happen on a
        // slow machine.
        let created = created.join().expect("it is answered");
        assert!(created == 201 || created == 503, "{created}");
    });
    wait_until("the store works again", || check(&node).0 == 200);
    node.create_channel("after");
}

#[test]
fn a_worker_that_stands_still_is_named() {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]).env("FANFARE_ACCEPTOR_THREADS", "1");
    });
    assert_eq!(check(&node).0, 200);
    let freezer = node.spawn_script("freeze.py", &[&node.pid().to_string(), "worker-1"], &[]);
    if freezer.next_line(PATIENCE) == "denied" {
        return eprintln!("not tested: this system does not let a thread be held still");
    }
    wait_until("somebody is missed", || check(&node).0 == 503);
    let (status, health) = check(&node);
    assert_eq!((status, &health["status"]), (503, &json!("failing")));
    assert!(problems(&health).iter().any(|problem| problem.starts_with("worker 1 ")), "{health}");
    assert!(!health.to_string().contains("worker 0"), "{health}");
    assert!(node.metric("fanfare_worker_queue_depth") > 0, "the questions wait for it");

    freezer.succeed(PATIENCE);
    wait_until("the worker answers again", || check(&node).0 == 200);
    wait_until("nothing waits", || node.metric("fanfare_worker_queue_depth") == 0);
}

#[test]
fn a_node_that_stops_says_so_to_whoever_is_connected() {
    let node = Node::with(|command| {
        command.env("FANFARE_DRAIN_MS", "20000");
    });
    // The last of these is closed at the end of the window, so the node keeps running until then.
    let _kept = [(); 8].map(|()| Socket::connect(node.port(), ANON_KEY));
    let connect = || Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    let (mut asking, mut counting) = (connect(), connect());
    let ask = |tcp: &mut Tcp, path: &str| {
        tcp.send(tcp::request(&[&format!("GET {path} HTTP/1.1")], ""));
        tcp.response()
    };
    assert_eq!(ask(&mut asking, HEALTH).header("connection"), Some("keep-alive"));
    assert_eq!(ask(&mut counting, "/metrics").header("connection"), Some("keep-alive"));
    node.begin_to_stop(Signal::TERM);

    let answer = ask(&mut asking, HEALTH);
    let health = answer.json();
    assert_eq!((answer.status, &health["status"]), (503, &json!("draining")), "{health}");
    assert!(health.get("problems").is_none(), "{health}");
    let metrics = ask(&mut counting, "/metrics");
    assert!(metrics.text().contains("\nfanfare_draining 1\n"));
    // A monitoring client could not connect again, so its connection is kept; all others are
    // closed.
    for answer in [answer, metrics] {
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(ask(&mut asking, HEALTH).status, 503);
    let live = ask(&mut asking, LIVE);
    assert_eq!((live.status, live.header("connection")), (200, Some("keep-alive")));
    assert_eq!(ask(&mut asking, "/api/nothing").header("connection"), Some("close"));
    assert!(asking.ends_within(tcp::PATIENCE), "the connection ends");
}

fn check(node: &Node) -> (u16, Value) {
    let response = node.request("GET", HEALTH, &[], b"");
    (response.status, response.json())
}

fn problems(health: &Value) -> Vec<&str> {
    let problems = health["problems"].as_array().into_iter().flatten();
    problems.map(|problem| problem.as_str().expect("a problem is text")).collect()
}
