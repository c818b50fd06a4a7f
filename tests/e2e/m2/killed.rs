//! Kept promises of a node that is killed while documents are written and subscribed to.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::app::{call, path, place, put, service, write_request};
use super::listener::Listener;
use crate::order::{Ending, join};
use crate::support::Node;
use crate::tcp::Tcp;

/// How often the node is killed.
const KILLS: usize = 2;
/// Number of writers; two for each resource.
const WRITERS: usize = 8;
const RESOURCES: usize = WRITERS / 2;
/// How long the disk may take, which other processes may use, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The latest known version of each resource, and its data if known.
type Latest = HashMap<String, (String, Option<Value>)>;

fn id(number: usize) -> String {
    format!("doc:{}", number % RESOURCES)
}

/// Returns the document as the node returns it now.
fn look(node: &Node, id: &str) -> Value {
    let response = call(node, ("GET", &path("kvStore", id)), &service(place()), "");
    assert_eq!(response.status, 200, "{id}: {}", response.text());
    response.json()
}

/// Records a version if it is later than the known one.
fn note(latest: &mut Latest, id: &str, version: &str, data: Option<&Value>) {
    let known = latest.entry(id.to_owned()).or_default();
    if known.0.as_str() < version {
        *known = (version.to_owned(), data.cloned());
    }
}

#[test]
fn what_was_answered_or_heard_outlives_a_kill() {
    let mut node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let mut latest = Latest::new();
    for kill in 0..KILLS {
        let (written, heard) = live(&mut node, 60 + 100 * kill);
        node.start_again(node.port());
        node.check_database();
        for (id, version, data) in &written {
            note(&mut latest, id, version, Some(data));
        }
        for (id, version) in &heard {
            note(&mut latest, id, version, None);
        }
        assert_eq!(latest.len(), RESOURCES, "everybody wrote");
        for (id, (version, data)) in &mut latest {
            let found = look(&node, id);
            let now = found["version"].as_str().expect("a version is text");
            assert!(now >= version.as_str(), "{id}: {now}, and {version} was told of");
            if let Some(data) = data.as_ref().filter(|_| now == version) {
                assert_eq!(found["data"], *data, "{id}");
            }
            let next = put(&node, &place(), ("kvStore", id), &json!({ "data": "after" }));
            assert!(next.as_str() > now, "{id}: {next} after {now}");
            (*version, *data) = (next, Some(json!("after")));
        }
    }
}

/// One life of the node.
#[derive(Default)]
struct Life {
    answered: AtomicUsize,
    is_over: AtomicBool,
}

/// Id, version and data of all answered writes; id and version of all received documents.
type Told = (Vec<(String, String, Value)>, Vec<(String, String)>);

/// Runs all writers and listeners, and kills the node after `enough` answers.
fn live(node: &mut Node, enough: usize) -> Told {
    let life = Life::default();
    let mut listener = Listener::connect(node, &service(place()));
    for number in 0..RESOURCES {
        listener.subscribe("kvStore", &id(number));
    }
    let port = node.port();
    thread::scope(|scope| {
        let _ending = Ending(&life.is_over);
        let ear = scope.spawn(|| listen(listener));
        let life = &life;
        let writers: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || write(port, number, life))).collect();
        let end = Instant::now() + PATIENCE;
        while life.answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < end, "fewer than {enough} are answered");
            thread::yield_now();
        }
        // Kills right after an answer: a write that was answered too early would be lost now.
        life.is_over.store(true, Ordering::Relaxed);
        node.kill();
        let written = writers.into_iter().flat_map(join).collect();
        (written, join(ear))
    })
}

/// Returns all received documents. Checks that the versions of each resource rise.
fn listen(mut listener: Listener) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    let mut last: HashMap<String, String> = HashMap::new();
    while let Ok(text) = listener.hear_or_end() {
        let document: Value = serde_json::from_str(&text).expect("it is JSON");
        let id = document["resource"]["id"].as_str().expect("an id is text").to_owned();
        let version = document["version"].as_str().expect("a version is text").to_owned();
        let before = last.insert(id.clone(), version.clone());
        assert!(before.as_ref() < Some(&version), "{id}: {version} after {before:?}");
        heard.push((id, version));
    }
    heard
}

/// Writes until the connection ends. Every second write of a resource waits for the disk.
fn write(port: u16, writer: usize, life: &Life) -> Vec<(String, String, Value)> {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
    let (id, query) = (id(writer), if writer < RESOURCES { "" } else { "?durability=synced" });
    let mut written: Vec<(String, String, Value)> = Vec::new();
    for number in 0.. {
        let data = json!({ "writer": writer, "number": number });
        let sent = tcp.send(write_request(&place(), ("kvStore", &id), query, &data));
        let Some(answer) = sent.then(|| tcp.try_response("PUT", PATIENCE)).flatten() else { break };
        assert_eq!(answer.status, 200, "{}", answer.text());
        let version = answer.json()["version"].as_str().expect("a version is text").to_owned();
        assert!(written.last().is_none_or(|last| last.1 < version), "{version}");
        written.push((id.clone(), version, data));
        life.answered.fetch_add(1, Ordering::Relaxed);
    }
    assert!(life.is_over.load(Ordering::Relaxed), "the node answers while it lives");
    written
}
