//! A full mailbox of a worker: a write is refused as a whole before it is done, and every write
//! that is done reaches all subscribers.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::app::{call, frame, path, place, put, service, write_request};
use super::listener::Listener;
use crate::order::join;
use crate::support::{Node, wait_until};
use crate::tcp::Tcp;

const KEY: (&str, &str) = ("kvStore", "k");
const OVERLOADED: &str = "fanfare_refusals_total{reason=\"overloaded\"}";
const PATIENCE: Duration = Duration::from_secs(30);
/// Number of writers, each with a resource of its own, and of writes that they send without
/// waiting.
const WRITERS: usize = 4;
const BREATH: usize = 100;
/// Number of subscribers of all resources.
const LISTENERS: usize = 6;

fn start() -> Node {
    Node::with(|command| {
        command.args(["--workers", "2"]).env("FANFARE_ACCEPTOR_THREADS", "1");
        command.env("FANFARE_MAILBOX_PUBLICATIONS", "1");
    })
}

#[test]
fn where_a_worker_has_no_room_a_write_is_refused_whole() {
    let node = start();
    // One on each worker, because new connections go to the worker with the fewest.
    let mut listeners = [(); 2].map(|()| Listener::connect(&node, &service(place())));
    for listener in &mut listeners {
        listener.subscribe_early(KEY.0, KEY.1);
    }
    let freezer = node.spawn_script("freeze.py", &[&node.pid().to_string(), "worker-1"], &[]);
    if freezer.next_line(PATIENCE) == "denied" {
        return eprintln!("not tested: this system does not let a thread be held still");
    }
    let version = put(&node, &place(), KEY, &json!({ "data": "waits" }));
    let expected = frame(None, KEY, "\"waits\"", &version);
    for (method, body) in [("PUT", r#"{"data":"refused"}"#), ("DELETE", "")] {
        let response = call(&node, (method, &path(KEY.0, KEY.1)), &service(place()), body);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(response.json()["error"], "OVERLOADED", "{}", response.text());
    }
    let found = call(&node, ("GET", &path(KEY.0, KEY.1)), &service(place()), "");
    assert_eq!(found.line(), expected, "what was refused was not done");
    assert_eq!(node.metric(OVERLOADED), 2);
    freezer.succeed(PATIENCE);
    let mut later = String::new();
    wait_until("there is room again", || {
        let body = r#"{"data":"after"}"#;
        let response = call(&node, ("PUT", &path(KEY.0, KEY.1)), &service(place()), body);
        later = response.json()["version"].as_str().unwrap_or_default().to_owned();
        response.status == 200
    });
    for listener in &mut listeners {
        assert_eq!(listener.hear(), expected);
        assert_eq!(listener.hear(), frame(None, KEY, "\"after\"", &later));
        listener.is_answered();
    }
}

#[test]
fn who_hears_hears_what_was_done_and_nothing_else() {
    let node = start();
    let ids: Vec<String> = (0..WRITERS).map(|number| format!("doc:{number}")).collect();
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let mut listener = Listener::connect(&node, &service(place()));
            ids.iter()
                .chain([&"end".to_owned()])
                .for_each(|id| listener.subscribe_early(KEY.0, id));
            listener
        })
        .collect();
    let port = node.port();
    let (written, heard) = thread::scope(|scope| {
        let ears: Vec<_> = listeners
            .into_iter()
            .map(|listener| scope.spawn(move || hear_to_the_end(listener)))
            .collect();
        let writers: Vec<_> = ids.iter().map(|id| scope.spawn(move || write(port, id))).collect();
        let written: Vec<_> = writers.into_iter().map(join).collect();
        let end = || {
            let body = r#"{"data":"end"}"#;
            call(&node, ("PUT", &path(KEY.0, "end")), &service(place()), body).status == 200
        };
        wait_until("the end is written", end);
        (written, ears.into_iter().map(join).collect::<Vec<_>>())
    });
    for heard in &heard {
        for (id, (done, _)) in ids.iter().zip(&written) {
            let own: Vec<_> =
                heard.iter().filter(|one| one.starts_with(&format!("{id} "))).collect();
            assert_eq!(own, done.iter().collect::<Vec<_>>());
        }
    }
    let refused: usize = written.iter().map(|(_, refused)| refused).sum();
    let done: usize = written.iter().map(|(done, _)| done.len()).sum();
    assert_eq!(done + refused, WRITERS * BREATH);
    assert!(node.metric(OVERLOADED) >= refused as u64, "{refused}");
}

/// Returns everything but the end, as id, data and version.
fn hear_to_the_end(mut listener: Listener) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let document: Value = serde_json::from_str(&listener.hear()).expect("it is JSON");
        let id = document["resource"]["id"].as_str().expect("it is text");
        if id == "end" {
            return heard;
        }
        let version = document["version"].as_str().expect("it is text");
        heard.push(format!("{id} {} {version}", document["data"]));
    }
}

/// Returns the accepted writes in the same form, and the number of refused ones.
fn write(port: u16, id: &str) -> (Vec<String>, usize) {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
    let requests =
        (0..BREATH).flat_map(|number| write_request(&place(), (KEY.0, id), "", &json!(number)));
    tcp.send(requests.collect::<Vec<u8>>());
    let (mut done, mut refused) = (Vec::new(), 0);
    for number in 0..BREATH {
        let answer = tcp.try_response("PUT", PATIENCE).expect("it is answered");
        let body = answer.json();
        if answer.status == 503 {
            assert_eq!(body["error"], "OVERLOADED", "{body}");
            refused += 1;
            continue;
        }
        assert_eq!(answer.status, 200, "{body}");
        done.push(format!("{id} {number} {}", body["version"].as_str().expect("it is text")));
    }
    (done, refused)
}
