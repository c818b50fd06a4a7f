//! No update is lost between a subscriber's initial state and the updates that follow, and no older
//! one comes after a newer one, whether the state comes from the cache or from the store.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::app::{Headers, place, put, service, user, warning, write_request};
use super::listener::{Listener, message};
use crate::order::join;
use crate::support::{Node, trio};
use crate::tcp::{PATIENCE, Tcp};

/// Number of subscribers that come and go while documents are written.
const CHURNERS: usize = 6;
/// Number of writes of each document.
const WRITES: usize = 400;
/// Number of updates after which a subscriber leaves.
const STAY: usize = 3;
const USER: &str = "u";
const PRIVATE: (&str, &str) = ("collection", "private");
/// A resource that is never written.
const OTHER: (&str, &str) = ("liveConfig", "other");

/// All versions of a document, in the order in which they were given.
struct Written {
    versions: Vec<String>,
}

impl Written {
    /// Checks that the received versions are an unbroken part of these. Subscribers of three nodes
    /// may miss some in between.
    fn check(&self, heard: &[String]) {
        if trio::is_wished() {
            let mut later = self.versions.iter();
            return assert!(heard.iter().all(|one| later.any(|other| other == one)), "{heard:?}");
        }
        let Some(first) = heard.first() else { return };
        let from = self.versions.iter().position(|version| version == first);
        let from = from.unwrap_or_else(|| panic!("{first} was not written"));
        let due = self.versions.get(from..from + heard.len());
        assert_eq!(due, Some(heard), "from {from} on");
    }
}

/// Writes a document `WRITES` times and counts the writes in `done`.
fn write(port: u16, resource: (&str, &str), done: &AtomicUsize) -> Written {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
    let mut versions = Vec::new();
    for number in 0..WRITES {
        tcp.send(write_request(&place(), resource, "", &json!(number)));
        let answer = tcp.try_response("PUT", PATIENCE).expect("it is answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let version = answer.json()["version"].as_str().expect("a version is text").to_owned();
        versions.push(version);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Written { versions }
}

fn version(text: &str) -> String {
    let document: Value = serde_json::from_str(text).expect("it is JSON");
    document["version"].as_str().unwrap_or_else(|| panic!("a document: {text}")).to_owned()
}

/// Subscribes and leaves, on one connection or on new ones, until all is written. Returns the
/// versions that were received in each stay.
fn come_and_go(
    node: &Node,
    (headers, (kind, id)): (&Headers, (&str, &str)),
    is_faithful: bool,
    done: &AtomicUsize,
) -> Vec<Vec<String>> {
    let is_over = || done.load(Ordering::Relaxed) >= WRITES - STAY - 1;
    let (mut stays, mut kept) = (Vec::new(), None::<Listener>);
    while !is_over() {
        let mut listener = kept.take().unwrap_or_else(|| Listener::connect(node, headers));
        listener.say(&message("subscribe", kind, id));
        let mut heard = Vec::new();
        while heard.len() < STAY && !is_over() {
            let text = listener.hear();
            // The first subscribers get a warning, because there is no document yet.
            if !(heard.is_empty() && text == warning(kind)) {
                heard.push(version(&text));
            }
        }
        if is_faithful {
            listener.say(&message("unsubscribe", kind, id));
            heard.extend(rest(&mut listener, kind));
            kept = Some(listener);
        }
        stays.push(heard);
    }
    stays
}

/// Returns what is received until an unsubscribe has taken effect, which is when a later subscribe
/// is answered.
fn rest(listener: &mut Listener, kind: &str) -> Vec<String> {
    listener.say(&message("subscribe", OTHER.0, OTHER.1));
    let mut heard = Vec::new();
    loop {
        let text = listener.hear();
        if text == warning(OTHER.0) {
            return heard;
        }
        if text != warning(kind) {
            heard.push(version(&text));
        }
    }
}

/// Runs all subscribers during the writes, and returns the writes.
fn race(
    node: &Node,
    (headers, resource): (&Headers, (&str, &str)),
    write: impl FnOnce(&AtomicUsize) -> Written + Send,
) -> Written {
    let done = AtomicUsize::new(0);
    let (written, stays) = thread::scope(|scope| {
        let done = &done;
        let writer = scope.spawn(move || write(done));
        let churners: Vec<_> = (0..CHURNERS)
            .map(|number| {
                let is_faithful = number.is_multiple_of(2);
                scope.spawn(move || come_and_go(node, (headers, resource), is_faithful, done))
            })
            .collect();
        let stays: Vec<_> = churners.into_iter().flat_map(join).collect();
        (join(writer), stays)
    });
    stays.iter().for_each(|heard| written.check(heard));
    assert!(stays.len() > 2 * CHURNERS, "{} stays", stays.len());
    let mut last = Listener::connect(node, headers);
    assert_eq!(Some(&version(&last.subscribe(resource.0, resource.1))), written.versions.last());
    written
}

fn on_two_workers() -> Node {
    Node::with(|command| {
        command.args(["--workers", "2"]);
    })
}

#[test]
fn who_comes_while_others_are_there_misses_nothing() {
    let (node, headers, resource) = (on_two_workers(), service(place()), ("kvStore", "known"));
    let mut witness = Listener::connect(&node, &headers);
    witness.subscribe_early(resource.0, resource.1);
    let port = node.port();
    let written = race(&node, (&headers, resource), |done| write(port, resource, done));
    let mut heard = Vec::new();
    while heard.last() != written.versions.last() {
        heard.push(version(&witness.hear()));
    }
    written.check(&heard);
    assert!(node.is_three() || heard.len() == WRITES, "who stays hears everything");
    witness.is_answered();
}

#[test]
fn who_comes_where_nobody_was_misses_nothing() {
    let node = on_two_workers();
    let port = node.port();
    for (headers, id) in [(service(place()), "a"), (user(place(), USER), "b")] {
        let resource = ("kvStore", id);
        race(&node, (&headers, resource), |done| write(port, resource, done));
    }
}

/// A user's own documents are always read from the store, and have their own fan-out.
#[test]
fn a_user_that_comes_misses_nothing_of_its_own() {
    let (node, headers, resource) = (on_two_workers(), user(place(), USER), PRIVATE);
    race(&node, (&headers, resource), |done| {
        let body = json!({ "userId": USER, "data": 1 });
        let one = |_| {
            let version = put(&node, &place(), resource, &body);
            done.fetch_add(1, Ordering::Relaxed);
            version
        };
        Written { versions: (0..WRITES).map(one).collect() }
    });
}
