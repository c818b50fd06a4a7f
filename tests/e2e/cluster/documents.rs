//! Documents of M2 on several nodes: one order of versions, whatever node writes and reads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Broker, Fleet, health};
use crate::m2::app::{
    call, delete, frame, path, place, put, put_text, service, user, warning, written,
};
use crate::m2::documents::{HOUR_MS, at, date, refusal};
use crate::m2::listener::Listener;
use crate::order::join;
use crate::support::nats::Nats;
use crate::support::{Node, Response, wait_until};

const KEY: (&str, &str) = ("kvStore", "World:kvstoreClient:testKey");
const PRIVATE: (&str, &str) = ("collection", "private");
/// Writes of each node that writes beside the others.
const WRITES: usize = 30;

fn get(node: &Node, resource: (&str, &str)) -> String {
    let response = at("GET", resource, "", "", node);
    assert_eq!(response.status, 200, "{}", response.text());
    response.line().to_owned()
}

fn version(text: &str) -> String {
    let document: Value = serde_json::from_str(text).expect("it is JSON");
    document["version"].as_str().unwrap_or_else(|| panic!("a document: {text}")).to_owned()
}

/// Writes with this version, and returns the answer.
fn try_put(node: &Node, resource: (&str, &str), data: u32, version: &str) -> Response {
    let body = json!({ "data": data, "version": version }).to_string();
    at("PUT", resource, "", &body, node)
}

/// Returns the version in the answer to a write that came too late.
fn current(response: &Response) -> String {
    let body = response.json();
    assert_eq!((response.status, &body["error"]), (409, &json!("STALE_VERSION")), "{body}");
    body["version"].as_str().expect("a version is text").to_owned()
}

fn rises(versions: &[String]) -> bool {
    versions.is_sorted_by(|one, next| one < next)
}

/// Returns the versions that a listener hears up to this one.
fn hear_until(listener: &mut Listener, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|version: &String| version != last) {
        heard.push(version(&listener.hear()));
    }
    heard
}

/// Returns a subscriber of the document on every node.
fn listen(nodes: &[Node]) -> Vec<Listener> {
    let subscribe = |node| {
        let mut listener = Listener::connect(node, &service(place()));
        listener.subscribe_early(KEY.0, KEY.1);
        listener
    };
    nodes.iter().map(subscribe).collect()
}

/// Lets every node write the same document, and checks what subscribers of every node hear.
fn write_beside_each_other<B: Broker + Sync>(fleet: &Fleet<B>) {
    let nodes = &fleet.nodes;
    let mut listeners = listen(nodes);
    let written: Vec<Vec<String>> = thread::scope(|scope| {
        let writers: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    let write = |number| put(node, &place(), KEY, &json!({ "data": number }));
                    (0..WRITES).map(write).collect()
                })
            })
            .collect();
        writers.into_iter().map(join).collect()
    });
    assert!(written.iter().all(|versions| rises(versions)), "each writer's versions rise");
    let all: BTreeSet<_> = written.iter().flatten().cloned().collect();
    assert_eq!(all.len(), nodes.len() * WRITES, "no version is given twice");
    let last = all.last().expect("there are some");
    for (node, listener) in nodes.iter().zip(&mut listeners) {
        assert_eq!(&version(&get(node, KEY)), last);
        let heard = hear_until(listener, last);
        assert!(rises(&heard), "{heard:?}");
        assert!(heard.iter().all(|version| all.contains(version)), "{heard:?}");
        listener.is_answered();
    }
}

#[test]
fn versions_rise_for_all_whatever_node_writes() {
    write_beside_each_other(&Fleet::start(3));
}

#[test]
fn versions_rise_for_all_on_three_servers() {
    write_beside_each_other(&Fleet::on_three(3, &[]));
}

#[test]
fn a_version_is_given_once_in_the_whole_cluster() {
    let fleet = Fleet::start(3);
    let nodes = &fleet.nodes;
    let ahead = date(HOUR_MS);
    written(&try_put(&nodes[0], KEY, 1, &ahead));
    assert_eq!(current(&try_put(&nodes[1], KEY, 2, &ahead)), ahead);
    assert_eq!(current(&try_put(&nodes[2], KEY, 2, &date(0))), ahead);
    let next = put(&nodes[2], &place(), KEY, &json!({ "data": 3 }));
    assert!(next > ahead, "{next} is later than {ahead}");
    // All at once, one of them wins.
    for round in 0..10 {
        let id = format!("round-{round}");
        let (resource, ahead) = (("liveConfig", id.as_str()), date(HOUR_MS));
        let answers: Vec<_> = thread::scope(|scope| {
            let ahead = &ahead;
            let write = |node| scope.spawn(move || try_put(node, resource, round, ahead));
            let writers: Vec<_> = nodes.iter().map(write).collect();
            writers.into_iter().map(join).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|one| one.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 2), "round {round}");
        assert!(lost.into_iter().all(|answer| current(answer) == ahead));
    }
    assert_eq!(get(&nodes[1], KEY), frame(None, KEY, "3", &next));
    let conflicts = nodes.iter().map(|node| node.metric("fanfare_documents_stale_total"));
    assert_eq!(conflicts.sum::<u64>(), 22);
}

#[test]
fn what_was_answered_is_read_and_heard_first_on_every_node() {
    let fleet = Fleet::start(3);
    let headers = service(place());
    // One node has a subscriber from the beginning, so that it could know the document.
    let mut early = Listener::connect(&fleet.nodes[2], &headers);
    early.subscribe_early(KEY.0, KEY.1);
    for number in 0..30 {
        let writer = &fleet.nodes[number % 3];
        let reader = &fleet.nodes[(number / 3) % 3];
        let version = put(writer, &place(), KEY, &json!({ "data": number }));
        let expected = frame(None, KEY, &number.to_string(), &version);
        if number % 2 == 0 {
            assert_eq!(get(reader, KEY), expected, "read after {number}");
        } else {
            let mut newcomer = Listener::connect(reader, &headers);
            assert_eq!(newcomer.subscribe(KEY.0, KEY.1), expected, "heard after {number}");
        }
        assert_eq!(early.hear(), expected);
    }
}

#[test]
fn many_writers_of_one_document_all_have_their_turn() {
    let fleet = Fleet::start(3);
    let all: Vec<Vec<String>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..12)
            .map(|number| {
                let node = &fleet.nodes[number % 3];
                let write = move |_| put(node, &place(), KEY, &json!({ "data": number }));
                scope.spawn(move || (0..15).map(write).collect())
            })
            .collect();
        writers.into_iter().map(join).collect()
    });
    assert!(all.iter().all(|versions| rises(versions)));
    let distinct: BTreeSet<_> = all.iter().flatten().collect();
    assert_eq!(distinct.len(), 12 * 15);
    let conflicts = |node: &Node| node.metric("fanfare_cluster_document_conflicts_total");
    assert!(fleet.nodes.iter().map(conflicts).sum::<u64>() > 0, "they were in each other's way");
}

/// Writes until `is_over`, on documents of its own and on one that all share, and reads what was
/// answered on another node. Returns the versions of the shared one that were answered.
fn write_through_a_fault(
    [node, other]: [&Node; 2],
    own: &str,
    is_over: &AtomicBool,
) -> Vec<String> {
    let mut answered = Vec::new();
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        for id in [own, KEY.1] {
            let answer = at("PUT", (KEY.0, id), "", &json!({ "data": number }).to_string(), node);
            let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
            match answer.status {
                200 => {
                    let last = written(&answer);
                    let read = at("GET", (KEY.0, id), "", "", other);
                    if read.status == 200 {
                        assert!(version(read.line()) >= last, "{} after {last}", read.line());
                    } else {
                        assert_eq!(read.status, 503, "{}", read.text());
                    }
                    if id == KEY.1 {
                        answered.push(last);
                    }
                }
                503 => assert!(error.starts_with("BACKPLANE") || error == "OVERLOADED", "{error}"),
                status => panic!("{status}: {}", answer.text()),
            }
        }
    }
    answered
}

#[test]
fn no_answered_write_is_lost_with_the_streams_leader() {
    let mut fleet = Fleet::on_three(3, &[]);
    let mut listeners = listen(&fleet.nodes);
    let is_over = AtomicBool::new(false);
    let Fleet { nodes, nats, .. } = &mut fleet;
    let nodes = &*nodes;
    let answered: Vec<Vec<String>> = thread::scope(|scope| {
        let is_over = &is_over;
        let writers: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let (own, both) = (number.to_string(), [node, &nodes[(number + 1) % 3]]);
                scope.spawn(move || write_through_a_fault(both, &own, is_over))
            })
            .collect();
        for server in &mut nats.servers {
            thread::sleep(Duration::from_millis(300));
            server.kill();
            thread::sleep(Duration::from_secs(6));
            server.start_again(true);
            thread::sleep(Duration::from_secs(3));
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().map(join).collect()
    });
    fleet.wait_until_healthy();
    assert!(answered.iter().all(|versions| rises(versions)));
    let all: BTreeSet<_> = answered.iter().flatten().cloned().collect();
    assert_eq!(all.len(), answered.iter().map(Vec::len).sum::<usize>(), "each is given once");
    // The nodes may have to agree on one more epoch of another stream.
    let mut last = String::new();
    wait_until("a document is written", || {
        let answer = at("PUT", KEY, "", r#"{"data":"last"}"#, &fleet.nodes[0]);
        last = if answer.status == 200 { written(&answer) } else { String::new() };
        answer.status == 200
    });
    for node in &fleet.nodes {
        wait_until("it is read", || at("GET", KEY, "", "", node).status == 200);
    }
    assert!(all.last() < Some(&last));
    for (node, listener) in fleet.nodes.iter().zip(&mut listeners) {
        assert_eq!(version(&get(node, KEY)), last);
        let heard = hear_until(listener, &last);
        assert!(rises(&heard), "{heard:?}");
        for own in ["0", "1", "2"] {
            assert_eq!(get(node, (KEY.0, own)), get(&fleet.nodes[0], (KEY.0, own)));
        }
    }
}

#[test]
fn a_deletion_holds_on_every_node_and_later_versions_are_later() {
    let fleet = Fleet::start(3);
    let [one, two, three] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let mut listener = Listener::connect(three, &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    refusal(&at("DELETE", KEY, "", "", two), 404, "NOT_FOUND");
    let ahead = date(HOUR_MS);
    written(&try_put(one, KEY, 1, &ahead));
    assert_eq!(listener.hear(), frame(None, KEY, "1", &ahead));
    let deleted = delete(two, &place(), KEY, "");
    assert!(deleted > ahead);
    assert_eq!(listener.hear(), frame(None, KEY, "null", &deleted));
    for node in [one, two, three] {
        refusal(&at("GET", KEY, "", "", node), 404, "NOT_FOUND");
        refusal(&at("DELETE", KEY, "", "", node), 404, "NOT_FOUND");
        assert_eq!(current(&try_put(node, KEY, 2, &ahead)), deleted);
        assert_eq!(
            Listener::connect(node, &service(place())).subscribe(KEY.0, KEY.1),
            warning(KEY.0)
        );
    }
    let again = put(three, &place(), KEY, &json!({ "data": 3 }));
    assert!(again > deleted);
    assert_eq!(listener.hear(), frame(None, KEY, "3", &again));
    assert_eq!(get(one, KEY), frame(None, KEY, "3", &again));
}

#[test]
fn a_users_own_document_is_the_users_on_every_node() {
    let fleet = Fleet::start(2);
    let [one, two] = [&fleet.nodes[0], &fleet.nodes[1]];
    let [mut alice, mut bob] =
        ["alice", "bob"].map(|name| Listener::connect(two, &user(place(), name)));
    alice.subscribe_early(PRIVATE.0, PRIVATE.1);
    bob.subscribe_early(PRIVATE.0, PRIVATE.1);
    let version = put(one, &place(), PRIVATE, &json!({ "data": 1, "userId": "alice" }));
    let expected = frame(Some("alice"), PRIVATE, "1", &version);
    assert_eq!(alice.hear(), expected);
    bob.is_answered();
    let read = |node, name| {
        let path = format!("{}?audience=user", path(PRIVATE.0, PRIVATE.1));
        call(node, ("GET", &path), &user(place(), name), "")
    };
    for node in [one, two] {
        assert_eq!(read(node, "alice").line(), expected);
        refusal(&read(node, "bob"), 404, "NOT_FOUND");
        let mut later = Listener::connect(node, &user(place(), "alice"));
        assert_eq!(later.subscribe(PRIVATE.0, PRIVATE.1), expected);
    }
    let deleted = delete(two, &place(), PRIVATE, r#"{"userId":"alice"}"#);
    assert_eq!(alice.hear(), frame(Some("alice"), PRIVATE, "null", &deleted));
    refusal(&read(one, "alice"), 404, "NOT_FOUND");
}

#[test]
fn the_longest_document_fits() {
    let fleet = Fleet::start(2);
    let start = r#"{"data":""#;
    let body = format!("{start}{}\"}}", "x".repeat(1_000_000 - start.len() - 2));
    assert_eq!(body.len(), 1_000_000);
    let mut listener = Listener::connect(&fleet.nodes[1], &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let version = put_text(&fleet.nodes[0], &place(), KEY, &body);
    let data = &body[r#"{"data":"#.len()..body.len() - 1];
    let expected = frame(None, KEY, data, &version);
    assert!(listener.hear() == expected && get(&fleet.nodes[1], KEY) == expected);
}

#[test]
fn without_a_broker_nothing_is_stored_and_nothing_unproven_is_read() {
    let mut fleet = Fleet::start(2);
    let mut listener = Listener::connect(&fleet.nodes[1], &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let first = put(&fleet.nodes[0], &place(), KEY, &json!({ "data": 1 }));
    let expected = frame(None, KEY, "1", &first);
    assert_eq!(listener.hear(), expected);
    fleet.nats.kill();
    for node in &fleet.nodes {
        let answer = at("PUT", KEY, "", r#"{"data":2}"#, node);
        let error = answer.json()["error"].clone();
        let is_told = error == "BACKPLANE_UNAVAILABLE" || error == "BACKPLANE_UNKNOWN";
        assert!(answer.status == 503 && is_told, "{error}");
    }
    for node in &fleet.nodes {
        wait_until("it knows that there is no broker", || {
            node.metric("fanfare_cluster_serving") == 0
        });
        for (method, body) in [("PUT", r#"{"data":3}"#), ("DELETE", ""), ("GET", "")] {
            let answer = at(method, KEY, "", body, node);
            refusal(&answer, 503, "BACKPLANE_UNAVAILABLE");
        }
        let mut newcomer = Listener::connect(node, &service(place()));
        let told = newcomer.subscribe(KEY.0, KEY.1);
        assert_eq!(told, r#"{"error":"Resource unavailable"}"#);
    }
    listener.is_answered();
    fleet.nats.start_again(true);
    fleet.wait_until_healthy();
    for node in &fleet.nodes {
        assert_eq!(get(node, KEY), expected, "nothing was stored meanwhile");
    }
    let second = put(&fleet.nodes[0], &place(), KEY, &json!({ "data": 4 }));
    assert!(second > first);
    assert_eq!(listener.hear(), frame(None, KEY, "4", &second));
}

#[test]
fn a_write_that_a_standing_broker_does_not_answer_is_unknown_and_the_same_for_all() {
    let fleet = Fleet::start(2);
    let first = put(&fleet.nodes[0], &place(), KEY, &json!({ "data": 1 }));
    fleet.nats.freeze();
    refusal(&at("PUT", KEY, "", r#"{"data":2}"#, &fleet.nodes[0]), 503, "BACKPLANE_UNKNOWN");
    refusal(&at("GET", KEY, "", "", &fleet.nodes[1]), 503, "BACKPLANE_UNAVAILABLE");
    fleet.nats.thaw();
    fleet.wait_until_healthy();
    let all: Vec<_> = fleet.nodes.iter().map(|node| get(node, KEY)).collect();
    assert_eq!(all[0], all[1]);
    assert!(version(&all[0]) >= first);
    let next = put(&fleet.nodes[1], &place(), KEY, &json!({ "data": 3 }));
    assert!(next > version(&all[0]));
}

#[test]
fn documents_survive_the_restart_of_nodes_and_brokers() {
    let again = "fanfare_cluster_documents_again_total";
    let mut fleet = Fleet::start(2);
    let ahead = date(HOUR_MS);
    written(&try_put(&fleet.nodes[0], KEY, 1, &ahead));
    let gone = ("kvStore", "gone");
    written(&try_put(&fleet.nodes[0], gone, 1, &ahead));
    let deleted = delete(&fleet.nodes[1], &place(), gone, "");
    fleet.nodes[1].kill();
    let while_away = put(&fleet.nodes[0], &place(), KEY, &json!({ "data": 2 }));
    fleet.nats.kill();
    fleet.nats.start_again(true);
    fleet.nodes[1].restart();
    fleet.wait_until_healthy();
    let expected = frame(None, KEY, "2", &while_away);
    for node in &fleet.nodes {
        assert_eq!(get(node, KEY), expected);
        assert_eq!(current(&try_put(node, gone, 2, &ahead)), deleted);
    }
    let times = fleet.nodes.iter().map(|node| node.metric(again));
    assert!(times.eq([1, 0]), "the copy of a node that was away goes on where it was");
}

#[test]
fn a_broker_that_lost_the_documents_is_believed_and_versions_still_rise() {
    let mut fleet = Fleet::start(2);
    let mut listener = Listener::connect(&fleet.nodes[1], &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let ahead = date(HOUR_MS);
    written(&try_put(&fleet.nodes[0], KEY, 1, &ahead));
    assert_eq!(listener.hear(), frame(None, KEY, "1", &ahead));
    fleet.nats.kill();
    fleet.nats.start_again(false);
    fleet.wait_until_healthy();
    wait_until("the document is gone", || at("GET", KEY, "", "", &fleet.nodes[0]).status == 404);
    let next = put(&fleet.nodes[0], &place(), KEY, &json!({ "data": 2 }));
    assert!(next > ahead, "{next} is later than {ahead}");
    assert_eq!(listener.hear(), frame(None, KEY, "2", &next));
}

#[test]
fn documents_that_a_node_had_alone_are_told_and_not_shown() {
    static IS_MEMBER: AtomicBool = AtomicBool::new(false);
    let nats = Nats::one();
    let url = nats.url();
    let mut node = Node::with(move |command| {
        if IS_MEMBER.load(Ordering::Relaxed) {
            command.env("FANFARE_CLUSTER_NATS", &url);
        }
    });
    put(&node, &place(), KEY, &json!({ "data": 1 }));
    IS_MEMBER.store(true, Ordering::Relaxed);
    node.restart();
    wait_until("the node serves", || health(&node) == (200, json!("ok")));
    refusal(&at("GET", KEY, "", "", &node), 404, "NOT_FOUND");
    let told = "documents that this node had before are not those of the cluster own=1";
    assert!(node.output().contains(told), "{}", node.output());
    put(&node, &place(), KEY, &json!({ "data": 2 }));
    IS_MEMBER.store(false, Ordering::Relaxed);
    node.restart();
    assert!(get(&node, KEY).contains(r#""data":1,"#), "it has its own again");
}
