//! The status of the service, and failures: a stopping node, a broken store, a busy worker.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::app::{call, frame, path, place, put, service, write_request};
use super::handshakes::upgrade;
use super::listener::Listener;
use crate::order::join;
use crate::support::{API_KEY, Node, wait_until};
use crate::tcp::{Tcp, request};

const STATUS: &str = "/api/realtime/status";
const KEY: (&str, &str) = ("kvStore", "k");
const PATIENCE: Duration = Duration::from_secs(60);

fn status(node: &Node) -> (u16, Value) {
    let response = node.request("GET", STATUS, &[], b"");
    (response.status, response.json())
}

fn connect(node: &Node) -> Tcp {
    Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into())
}

#[test]
fn anybody_may_ask_how_the_service_is() {
    let node = Node::start();
    for path in [STATUS, "/api/realtime/status/", "/api/realtime/status?x=1"] {
        let response = node.request("GET", path, &[], b"");
        assert_eq!((response.status, response.line()), (200, r#"{"status":"ok"}"#), "{path}");
    }
    let mut head = connect(&node);
    head.send(request(&[&format!("HEAD {STATUS} HTTP/1.1")], ""));
    assert_eq!(head.response_to("HEAD").status, 200);
}

#[test]
fn a_store_that_somebody_else_has_locked_is_named() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    put(&node, &place(), KEY, &json!({ "data": "before" }));
    listener.subscribe(KEY.0, KEY.1);
    let store = node.share_database();
    store.execute_batch("BEGIN IMMEDIATE").expect("nobody else has it");
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            let body = r#"{"data":"meanwhile"}"#;
            call(&node, ("PUT", &path(KEY.0, KEY.1)), &service(place()), body)
        });
        wait_until("the store is found locked", || status(&node).0 == 503);
        let (_, told) = status(&node);
        assert_eq!(told["status"], "unavailable", "{told}");
        let problems = told["problems"].as_array().expect("they are a list");
        assert!(problems[0].as_str().is_some_and(|one| one.starts_with("the store ")), "{told}");
        store.execute_batch("COMMIT").expect("it can be let go");
        // The request waits for the store for a while and is then refused, which may happen on a
        // slow machine.
        let late = join(late);
        match late.status {
            503 => assert_eq!(late.header("retry-after"), Some("1"), "{}", late.text()),
            status => assert_eq!(status, 200, "{}", late.text()),
        }
        if late.status == 200 {
            let version = late.json()["version"].as_str().expect("it is text").to_owned();
            assert_eq!(listener.hear(), frame(None, KEY, "\"meanwhile\"", &version));
        }
    });
    wait_until("the store works again", || status(&node) == (200, json!({ "status": "ok" })));
    let version = put(&node, &place(), KEY, &json!({ "data": "after" }));
    assert_eq!(listener.hear(), frame(None, KEY, "\"after\"", &version));
}

#[test]
fn where_the_store_cannot_be_read_a_subscriber_is_told_so() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let version = put(&node, &place(), KEY, &json!({ "data": 1 }));
    let store = node.share_database();
    store.execute_batch("ALTER TABLE documents RENAME TO elsewhere").expect("it is renamed");
    assert_eq!(listener.subscribe(KEY.0, KEY.1), r#"{"error":"Resource unavailable"}"#);
    for (method, body) in [("GET", ""), ("PUT", r#"{"data":2}"#), ("DELETE", "")] {
        let response = call(&node, (method, &path(KEY.0, KEY.1)), &service(place()), body);
        assert_eq!(response.status, 500, "{method}: {}", response.text());
        assert_eq!(response.json()["error"], "INTERNAL_ERROR");
    }
    store.execute_batch("ALTER TABLE elsewhere RENAME TO documents").expect("it is renamed");
    let mut other = Listener::connect(&node, &service(place()));
    for listener in [&mut listener, &mut other] {
        assert_eq!(listener.subscribe(KEY.0, KEY.1), frame(None, KEY, "1", &version));
    }
    let version = put(&node, &place(), KEY, &json!({ "data": 2 }));
    for listener in [&mut listener, &mut other] {
        assert_eq!(listener.hear(), frame(None, KEY, "2", &version), "it was subscribed all along");
    }
}

#[test]
fn a_node_that_stops_lets_everybody_go_and_keeps_what_it_answered() {
    const LISTENERS: usize = 12;
    let mut node = Node::with_env(&[("FANFARE_DRAIN_MS", "800")]);
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let mut listener = Listener::connect(&node, &service(place()));
            listener.subscribe_early(KEY.0, KEY.1);
            listener
        })
        .collect();
    let (mut asking, mut late) = (connect(&node), connect(&node));
    for tcp in [&mut asking, &mut late] {
        tcp.send(request(&[&format!("GET {STATUS} HTTP/1.1")], ""));
        assert_eq!(tcp.response().header("connection"), Some("keep-alive"));
    }
    let lines = format!("x-m2-organization: o\r\nx-m2-project: p\r\nx-api-key: {API_KEY}");
    let mut writers: Vec<_> = (0..4).map(|_| connect(&node)).collect();
    let versions: Vec<String> = thread::scope(|scope| {
        let ears: Vec<_> = listeners
            .into_iter()
            .map(|listener| scope.spawn(move || hear_to_the_end(listener)))
            .collect();
        let writers: Vec<_> =
            writers.iter_mut().map(|tcp| scope.spawn(|| write_to_the_end(tcp))).collect();
        wait_until("much is written", || {
            node.metric("fanfare_publications_total{api=\"m2\",source=\"http\"}") > 50
        });
        node.begin_to_stop(Signal::TERM);
        asking.send(request(&[&format!("GET {STATUS} HTTP/1.1")], ""));
        let told = asking.response();
        assert_eq!((told.status, told.json()), (503, json!({ "status": "draining" })));
        late.send(upgrade("/api/realtime/", &lines));
        let refused = late.response();
        assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("DRAINING")));
        for ear in ears {
            let (heard, code) = join(ear);
            assert_eq!(code, Some(1001));
            assert!(heard.is_sorted_by(|one, next| one < next) && heard.len() > 40);
        }
        writers.into_iter().flat_map(join).collect()
    });
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    node.start_again(node.port());
    let found = call(&node, ("GET", &path(KEY.0, KEY.1)), &service(place()), "").json();
    let latest = versions.iter().max().expect("some are written");
    assert!(found["version"].as_str() >= Some(latest), "{found}: {latest} was answered");
    let mut again = Listener::connect(&node, &service(place()));
    assert!(again.subscribe(KEY.0, KEY.1).contains(found["version"].as_str().expect("it is text")));
}

/// Returns the versions that are received, and the close code.
fn hear_to_the_end(mut listener: Listener) -> (Vec<String>, Option<u16>) {
    let mut versions = Vec::new();
    loop {
        match listener.hear_or_end() {
            Ok(text) => {
                let document: Value = serde_json::from_str(&text).expect("it is JSON");
                versions.push(document["version"].as_str().expect("it is text").to_owned());
            }
            Err(code) => return (versions, code),
        }
    }
}

/// Writes until the end, and returns the versions that were answered.
fn write_to_the_end(tcp: &mut Tcp) -> Vec<String> {
    let mut versions = Vec::new();
    for number in 0.. {
        let sent = tcp.send(write_request(&place(), KEY, "", &json!(number)));
        let Some(answer) = sent.then(|| tcp.try_response("PUT", PATIENCE)).flatten() else { break };
        // At the very end the store is being flushed. It then refuses writes, with 503.
        if answer.status == 503 {
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        versions.push(answer.json()["version"].as_str().expect("it is text").to_owned());
    }
    versions
}
