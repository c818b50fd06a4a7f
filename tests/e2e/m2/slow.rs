//! Clients that do not read for a while: they end with the latest state of each document, receive
//! nothing older after it, and delay no other client.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::app::{INVALID, delete, frame, place, put, service, user, warning};
use super::listener::{Listener, message};
use crate::options::settled;
use crate::overload::narrow;
use crate::support::{Node, wait_until};

/// Number of resources, each with a shared document and one of the user's own.
const RESOURCES: usize = 10;
/// Number of writes of each document: about 15 MB, more than all buffers on the way to a client
/// hold.
const ROUNDS: usize = 15;
/// Bytes of a document.
const BULK: usize = 50 * 1024;
const USER: &str = "slow";
const MATCHED: &str = "fanfare_deliveries_matched_total";

/// A document: the id of its resource, and whether it is the user's own.
type Name = (String, bool);

/// A client that does not read, and two that do.
struct Scene {
    node: Node,
    idle: Listener,
    /// A client of the same user, which reads.
    same: Listener,
    /// A client that receives only the shared documents.
    other: Listener,
    /// The latest frame of each document.
    latest: HashMap<Name, String>,
    /// Number of deliveries to all three clients, had all of them read.
    due: u64,
}

fn id(number: usize) -> String {
    format!("doc:{number}")
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    /// Sets up the scene on a node with these variables.
    fn with(variables: &'static [(&str, &str)]) -> Self {
        let node = Node::with(|command| {
            command.args(["--workers", "2"]).envs(variables.iter().copied());
        });
        let idle = Listener::over(narrow(node.port()), &user(place(), USER));
        let same = Listener::connect(&node, &user(place(), USER));
        let other = Listener::connect(&node, &service(place()));
        let mut scene = Self { node, idle, same, other, latest: HashMap::new(), due: 0 };
        for listener in [&mut scene.idle, &mut scene.same, &mut scene.other] {
            (0..RESOURCES).for_each(|number| listener.subscribe_early("liveConfig", &id(number)));
        }
        scene
    }

    /// Writes or deletes a document. The clients that read must receive it at once.
    fn write(&mut self, name: &Name, data: Option<Value>) {
        let (id, is_own) = name;
        let (resource, author) = (("liveConfig", id.as_str()), is_own.then_some(USER));
        let mut body = json!({});
        if *is_own {
            body = json!({ "userId": USER, "audience": "user" });
        }
        let (version, data) = match data {
            None => (delete(&self.node, &place(), resource, &body.to_string()), Value::Null),
            Some(data) => {
                body["data"] = data.clone();
                (put(&self.node, &place(), resource, &body), data)
            }
        };
        let frame = frame(author, resource, &data.to_string(), &version);
        assert!(self.same.hear() == frame, "who reads hears everything at once");
        if !is_own {
            assert!(self.other.hear() == frame, "who reads hears everything at once");
        }
        self.due += if *is_own { 2 } else { 3 };
        self.latest.insert(name.clone(), frame);
    }

    fn write_rounds(&mut self, rounds: usize) {
        let bulk = "x".repeat(BULK);
        for round in 0..rounds {
            for number in 0..2 * RESOURCES {
                let name = (id(number / 2), number.is_multiple_of(2));
                self.write(&name, Some(json!({ "round": round, "fill": bulk })));
            }
        }
    }

    /// Has the idle client read until it knows the latest state of all documents. Returns the
    /// frames.
    fn read_again(&mut self) -> Vec<String> {
        let mut versions: HashMap<Name, String> = HashMap::new();
        let (mut left, mut told) = (self.latest.len(), Vec::new());
        while left > 0 {
            let text = self.idle.hear();
            let (name, version) = name_and_version(&text);
            let before = versions.insert(name.clone(), version.clone());
            assert!(before.as_ref() < Some(&version), "{name:?}: {version} after {before:?}");
            left -= usize::from(self.latest.get(&name) == Some(&text));
            told.push(text);
        }
        told
    }

    /// Writes one more document, and checks that all clients receive only that.
    fn check_rest(&mut self) {
        let name = (id(0), false);
        self.write(&name, Some(json!("the end")));
        assert_eq!(self.idle.hear(), self.latest[&name]);
        for listener in [&mut self.idle, &mut self.same, &mut self.other] {
            listener.is_answered();
        }
    }
}

fn name_and_version(text: &str) -> (Name, String) {
    let document: Value = serde_json::from_str(text).expect("it is JSON");
    let of = |value: &Value| value.as_str().expect("it is text").to_owned();
    let name = (of(&document["resource"]["id"]), document["userId"] == USER);
    (name, of(&document["version"]))
}

#[test]
fn who_does_not_read_ends_with_the_latest_of_each() {
    let mut scene = Scene::new();
    scene.write_rounds(ROUNDS);
    // One document is deleted in the end, and another one deleted and written again.
    scene.write(&(id(1), false), None);
    scene.write(&(id(2), true), None);
    scene.write(&(id(2), true), Some(json!("again")));
    let all = 2 * RESOURCES * ROUNDS + 3;
    let told = scene.read_again().len();
    assert!(told < all, "{told} of {all}");
    scene.check_rest();
    let sums = settled(&scene.node);
    let plain = |name| sums.plain(name);
    let conflated = plain("fanfare_deliveries_conflated_total");
    assert!(conflated > 0.0, "{told} of {all} were told");
    assert_eq!(sums.sum("fanfare_deliveries_dropped_total"), 0.0);
    assert_eq!(sums.sum("fanfare_connections_closed_total"), 0.0);
    assert!(plain(MATCHED) >= scene.due as f64, "{} of {}", plain(MATCHED), scene.due);
    // The clients that read received all that was due to them, and the third the frames that it was
    // sent.
    let to_others = scene.due as usize - all - 1;
    assert_eq!(plain("fanfare_deliveries_total") as usize, to_others + told + 1);
}

#[test]
fn who_falls_behind_again_and_again_loses_no_document() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.write_rounds(ROUNDS / 2);
        scene.read_again();
    }
    scene.check_rest();
    let sums = settled(&scene.node);
    assert!(sums.plain("fanfare_deliveries_conflated_total") > 0.0);
    assert_eq!(sums.sum("fanfare_connections_closed_total"), 0.0);
}

#[test]
fn who_is_owed_a_document_that_went_in_silence_is_not_told_either() {
    let mut scene = Scene::with(&[("FANFARE_M2_NOTIFY_DELETES", "false")]);
    scene.write_rounds(ROUNDS);
    let gone = (id(RESOURCES - 1), false);
    delete(&scene.node, &place(), ("liveConfig", &gone.0), "{}");
    scene.latest.remove(&gone);
    let told = scene.read_again();
    assert!(told.iter().all(|text| !text.contains(r#""data":null"#)));
    scene.check_rest();
}

#[test]
fn a_stale_subscription_to_a_silently_deleted_document_is_answered() {
    let mut scene = Scene::with(&[("FANFARE_M2_NOTIFY_DELETES", "false")]);
    let late = ("kvStore", "late");
    // The node caches the document, because there is a subscriber.
    scene.other.subscribe_early(late.0, late.1);
    let data = json!("x".repeat(2 * BULK));
    let version = put(&scene.node, &place(), late, &json!({ "data": data }));
    assert_eq!(scene.other.hear(), frame(None, late, &data.to_string(), &version));
    scene.write_rounds(ROUNDS);
    for _ in 0..2 {
        scene.idle.say(&message("subscribe", late.0, late.1));
    }
    // The node reads the client's messages, and answers when the client reads.
    scene.idle.say("nonsense");
    let invalid = "fanfare_refusals_total{reason=\"invalid\"}";
    wait_until("they are read", || scene.node.metric(invalid) == 1);
    delete(&scene.node, &place(), late, "{}");
    let mut rest: HashSet<String> = scene.latest.values().cloned().collect();
    let (mut missing, mut is_refused) = (2, false);
    while missing > 0 || !is_refused || !rest.is_empty() {
        let text = scene.idle.hear();
        assert!(!text.contains("late"), "it had no room for the document");
        rest.remove(&text);
        missing -= i32::from(text == warning("kvStore"));
        is_refused |= text == INVALID;
    }
    assert_eq!(missing, 0, "each subscribe has one answer");
    scene.check_rest();
}

#[test]
fn who_unsubscribes_meanwhile_is_owed_nothing() {
    let mut scene = Scene::new();
    scene.write_rounds(ROUNDS);
    // The node reads the client's messages, and answers when the client reads.
    let gone = [id(3), id(4)];
    for id in &gone {
        scene.idle.say(&message("unsubscribe", "liveConfig", id));
    }
    scene.idle.say("nonsense");
    let invalid = "fanfare_refusals_total{reason=\"invalid\"}";
    wait_until("they are read", || scene.node.metric(invalid) == 1);
    let rest = (0..RESOURCES).map(id).filter(|id| !gone.contains(id));
    let names: Vec<Name> = rest.flat_map(|id| [(id.clone(), false), (id, true)]).collect();
    for id in &gone {
        for is_own in [false, true] {
            scene.write(&(id.clone(), is_own), Some(json!("unheard")));
        }
    }
    let mut missing = names.len();
    let mut is_answered = false;
    while missing > 0 || !is_answered {
        let text = scene.idle.hear();
        if text == INVALID {
            is_answered = true;
            continue;
        }
        let (name, _) = name_and_version(&text);
        assert!(!is_answered || !gone.contains(&name.0), "{name:?} behind the answer");
        missing -= usize::from(names.contains(&name) && scene.latest[&name] == text);
    }
    scene.check_rest();
    assert_eq!(settled(&scene.node).sum("fanfare_connections_closed_total"), 0.0);
}

#[test]
fn who_leaves_without_reading_is_counted() {
    let mut scene = Scene::new();
    scene.write_rounds(ROUNDS);
    let Scene { node, idle, same, other, .. } = scene;
    drop((idle, same, other));
    // Deliveries may add up while the node has yet to notice that a client has left.
    wait_until("the node notices all ends", || node.metric("fanfare_connections") == 0);
    let sums = settled(&node);
    assert!(sums.value("fanfare_deliveries_dropped_total", &[("reason", "closed")]) > 0.0);
    assert_eq!(sums.sum("fanfare_connections"), 0.0);
    assert_eq!(sums.sum("fanfare_subscriptions"), 0.0);
}
