//! An invocation that is registered on one node is good on all of them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::fleet::{Fleet, LISTENING, health};
use crate::forge::app::{Outcome, refused_at_head};
use crate::forge::invocations::{admin, register, registration, use_it};
use crate::support::{Node, wait_until};

const UNCONFIRMED: &str = "fanfare-unconfirmed";

/// Registers an invocation that all nodes confirm.
fn register_on(node: &Node, id: &str, ttl_s: u32) {
    let body = registration(json!({ "ttlSeconds": ttl_s })).to_string();
    let response = admin(node, "PUT", id, &body);
    assert_eq!((response.status, response.header(UNCONFIRMED)), (201, None), "{}", response.text());
}

/// Revokes an invocation. Returns the status of the answer, which no node fails to confirm.
fn revoke_on(node: &Node, id: &str) -> u16 {
    let response = admin(node, "DELETE", id, "");
    assert_eq!(response.header(UNCONFIRMED), None, "{}", response.text());
    response.status
}

#[test]
fn an_invocation_is_good_on_all_nodes_until_it_is_revoked_on_one() {
    let fleet = Fleet::start(3);
    let unknown = || refused_at_head("UNKNOWN_INVOCATION");
    for round in 0..20 {
        let id = format!("call.{round}*");
        let [registers, revokes] = [round % 3, (round + 1) % 3].map(|at| &fleet.nodes[at]);
        register_on(registers, &id, 60);
        for node in &fleet.nodes {
            assert_eq!(use_it(node, &id), Outcome::Done, "{id}");
        }
        assert_eq!(revoke_on(revokes, &id), 204);
        for node in &fleet.nodes {
            assert_eq!(use_it(node, &id), unknown(), "{id}");
        }
        assert_eq!(revoke_on(registers, &id), 404);
    }
    // The same id once more, in another place.
    register_on(&fleet.nodes[2], "call.0*", 60);
    let body = registration(json!({ "ui": false })).to_string();
    assert_eq!(admin(&fleet.nodes[1], "PUT", "call.0*", &body).status, 201);
    for node in &fleet.nodes {
        assert!(matches!(use_it(node, "call.0*"), Outcome::Refused { status: 403, .. }));
    }
}

#[test]
fn an_invocation_expires_on_all_nodes() {
    let fleet = Fleet::start(2);
    let [one, two] = [0, 1].map(|at| &fleet.nodes[at]);
    register_on(one, "long", 900);
    let start = Instant::now();
    register_on(one, "short", 4);
    assert_eq!(use_it(two, "short"), Outcome::Done);
    wait_until("it has expired", || use_it(two, "short") != Outcome::Done);
    assert!(start.elapsed() >= Duration::from_millis(3_900), "{:?}", start.elapsed());
    assert_eq!(use_it(two, "short"), refused_at_head("UNKNOWN_INVOCATION"));
    assert_eq!(revoke_on(two, "short"), 404);
    assert_eq!(use_it(two, "long"), Outcome::Done);
}

#[test]
fn a_node_that_starts_later_knows_what_is_registered() {
    let mut fleet = Fleet::start(2);
    fleet.nodes[1].kill();
    for (id, ttl) in [("stays", 300), ("goes", 300)] {
        register(&fleet.nodes[0], id, json!({ "ttlSeconds": ttl }));
    }
    assert_eq!(admin(&fleet.nodes[0], "DELETE", "goes", "").status, 204);
    fleet.nodes[1].restart();
    wait_until("it serves", || health(&fleet.nodes[1]) == (200, json!("ok")));
    // In the first second of its line, a node may not know that no node has subscribers.
    std::thread::sleep(LISTENING);
    assert_eq!(use_it(&fleet.nodes[1], "stays"), Outcome::Done);
    assert_eq!(use_it(&fleet.nodes[1], "goes"), refused_at_head("UNKNOWN_INVOCATION"));
    assert_eq!(revoke_on(&fleet.nodes[1], "stays"), 204);
    assert_eq!(use_it(&fleet.nodes[0], "stays"), refused_at_head("UNKNOWN_INVOCATION"));
}

#[test]
fn a_node_that_does_not_confirm_an_invocation_is_named() {
    let fleet = Fleet::start(3);
    let still = &fleet.nodes[2];
    still.signal(Signal::STOP);
    let response = admin(&fleet.nodes[0], "PUT", "call", &registration(json!({})).to_string());
    still.signal(Signal::CONT);
    assert_eq!((response.status, response.header(UNCONFIRMED)), (201, Some("n3")));
    assert_eq!(use_it(&fleet.nodes[1], "call"), Outcome::Done);
    wait_until("it follows", || use_it(still, "call") == Outcome::Done);
}

#[test]
fn without_nats_invocations_are_refused_and_those_that_are_known_stay() {
    let mut fleet = Fleet::start(2);
    register_on(&fleet.nodes[0], "before", 300);
    fleet.nats.kill();
    wait_until("health says it", || health(&fleet.nodes[1]).1 != "ok");
    let body = registration(json!({})).to_string();
    for (method, body) in [("PUT", &*body), ("DELETE", "")] {
        let response = admin(&fleet.nodes[1], method, "before", body);
        assert_eq!(response.status, 503, "{}", response.text());
        let code = response.json()["error"].clone();
        assert!(code.as_str().is_some_and(|code| code.starts_with("BACKPLANE_")), "{code}");
    }
    // NATS has lost all of it: the nodes have not.
    fleet.nats.start_again(false);
    fleet.wait_until_healthy();
    wait_until("invocations are taken again", || {
        admin(&fleet.nodes[1], "PUT", "after", &body).status == 201
    });
    for node in &fleet.nodes {
        wait_until("it is known", || use_it(node, "after") == Outcome::Done);
        assert_eq!(use_it(node, "before"), Outcome::Done);
    }
    wait_until("it is revoked", || admin(&fleet.nodes[1], "DELETE", "before", "").status == 204);
    for node in &fleet.nodes {
        wait_until("none knows it", || use_it(node, "before") != Outcome::Done);
    }
}
