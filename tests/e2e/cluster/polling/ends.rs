//! Polls whose client, node or broker ends before they are answered: what the client has not
//! received is never lost in silence.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::client::{Hopper, WAITING, is_unknown, offset};
use super::{LOST, fleet};
use crate::cluster::fleet::health;
use crate::support::{Node, wait_until};

/// Sessions on long-polling that a node has.
const POLLINGS: &str = "fanfare_connections{api=\"insforge\",transport=\"polling\"}";
/// Longer than a node that was killed counts as alive.
const SILENCE: Duration = Duration::from_secs(20);

fn tick(node: &Node, number: u64) {
    node.publish("b", "tick", &json!({ "n": number }));
}

#[test]
fn a_client_whose_node_is_killed_is_told_and_goes_on_at_another_one() {
    let mut fleet = fleet(3);
    let hopper = Hopper::open(&fleet.nodes[0]);
    hopper.subscribe((&fleet.nodes[1], &fleet.nodes[2]), "b");
    tick(&fleet.nodes[1], 1);
    let came = offset(&hopper.hear(&fleet.nodes[1], "\"tick\""));
    // What others know of the session.
    let shared = "fanfare_cluster_sessions_total{outcome=\"shared\"}";
    wait_until("the session is shared", || fleet.nodes[0].metric(shared) > 0);
    let mut waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nodes[0].kill();
    assert!(is_unknown(&hopper.post(&fleet.nodes[2], "3")), "nobody answers for it");
    assert!(is_unknown(&hopper.get(&fleet.nodes[2])));
    tick(&fleet.nodes[2], 2);
    let told = waiting.try_response("GET", SILENCE).expect("it is told when the node is silent");
    assert_eq!((told.status, told.text()), (400, super::UNKNOWN));
    let (again, is_resumed) = hopper.come_back(&fleet.nodes[2], &came);
    assert!(is_resumed);
    assert!(again.hear(&fleet.nodes[1], "\"tick\"").contains("\"n\":2"));
}

#[test]
fn packets_for_a_node_that_was_killed_end_the_session() {
    let mut fleet = fleet(3);
    let hopper = Hopper::open(&fleet.nodes[0]);
    hopper.subscribe((&fleet.nodes[1], &fleet.nodes[1]), "b");
    tick(&fleet.nodes[2], 1);
    let came = offset(&hopper.hear(&fleet.nodes[1], "\"tick\""));
    let _waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nodes[1].kill();
    let owner = &fleet.nodes[0];
    tick(owner, 2);
    wait_until("the answer is noticed as lost", || owner.metric(LOST) == 1);
    wait_until("the session has ended", || owner.metric(POLLINGS) == 0);
    assert!(is_unknown(&hopper.get(owner)));
    let (again, is_resumed) = hopper.come_back(&fleet.nodes[2], &came);
    assert!(is_resumed);
    assert!(again.hear(owner, "\"tick\"").contains("\"n\":2"));
}

#[test]
fn a_session_whose_client_waits_at_a_node_that_was_killed_ends() {
    let mut fleet = fleet(2);
    let hopper = Hopper::open(&fleet.nodes[0]);
    let _waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nodes[1].kill();
    let owner = &fleet.nodes[0];
    wait_until("the session has ended", || owner.metric(POLLINGS) == 0);
    wait_until("its poll is answered", || owner.metric(WAITING) == 0);
}

#[test]
fn a_session_ends_with_a_client_that_leaves_while_its_poll_waits() {
    let fleet = fleet(2);
    let [owner, other] = [&fleet.nodes[0], &fleet.nodes[1]];
    for is_half_closed in [false, true] {
        let hopper = Hopper::open(owner);
        let mut waiting = hopper.begin_to_poll(other);
        hopper.wait_for_poll(owner);
        if is_half_closed {
            waiting.finish();
            assert_eq!(waiting.response().text(), "1", "it may still read");
        } else {
            drop(waiting);
        }
        wait_until("the session has ended", || owner.metric(POLLINGS) == 0);
        wait_until("its poll is answered", || owner.metric(WAITING) == 0);
        assert!(is_unknown(&hopper.get(other)));
    }
    assert_eq!(other.metric("fanfare_http_requests"), 1, "only that which asks for metrics");
}

#[test]
fn a_node_that_stops_lets_its_polls_go_on_at_others() {
    let mut fleet = fleet(3);
    let hopper = Hopper::open(&fleet.nodes[0]);
    hopper.subscribe((&fleet.nodes[1], &fleet.nodes[1]), "b");
    let mut waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nodes[1].signal(Signal::TERM);
    let released = waiting.response();
    assert_eq!((released.status, released.text()), (200, "6"));
    assert!(waiting.ends_within(Duration::from_secs(5)), "the next one goes elsewhere");
    assert!(fleet.nodes[1].exit_status(Duration::from_secs(20)).success());
    let output = fleet.nodes[1].output();
    assert!(!output.contains("did not end in time"), "{output}");
    tick(&fleet.nodes[2], 1);
    assert!(hopper.hear(&fleet.nodes[2], "\"tick\"").contains("\"n\":1"), "its session goes on");
}

#[test]
fn a_node_that_stops_ends_its_sessions_at_others() {
    let mut fleet = fleet(2);
    let hopper = Hopper::open(&fleet.nodes[0]);
    hopper.subscribe((&fleet.nodes[1], &fleet.nodes[1]), "b");
    let mut waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nodes[0].signal(Signal::TERM);
    let ended = waiting.response();
    assert_eq!((ended.status, ended.text()), (200, "1"));
    assert!(fleet.nodes[0].exit_status(Duration::from_secs(20)).success());
    let output = fleet.nodes[0].output();
    assert!(!output.contains("did not end in time"), "{output}");
    assert!(is_unknown(&hopper.get(&fleet.nodes[1])));
}

#[test]
fn without_its_broker_a_request_is_refused_and_a_poll_that_waits_ends_its_session() {
    let mut fleet = fleet(2);
    let hopper = Hopper::open(&fleet.nodes[0]);
    let mut waiting = hopper.begin_to_poll(&fleet.nodes[1]);
    hopper.wait_for_poll(&fleet.nodes[0]);
    fleet.nats.kill();
    let [owner, other] = [&fleet.nodes[0], &fleet.nodes[1]];
    // Until the node has noticed, it may not be known what becomes of a request.
    wait_until("the request is refused for now", || {
        let refused = hopper.post(other, "3");
        let is_temporary = refused.status == 503 && refused.header("retry-after").is_some();
        assert!(is_temporary || is_unknown(&refused), "{refused:?}");
        is_temporary
    });
    assert_eq!(hopper.post(owner, "3").status, 200, "its own node needs no broker for it");
    fleet.nats.start_again(true);
    let told = waiting.try_response("GET", SILENCE).expect("it is told when NATS is back");
    assert_eq!((told.status, told.text()), (400, super::UNKNOWN));
    let [owner, other] = [&fleet.nodes[0], &fleet.nodes[1]];
    wait_until("the session has ended", || owner.metric(POLLINGS) == 0);
    wait_until("the nodes serve", || fleet.nodes.iter().all(|node| health(node).0 == 200));
    let hopper = Hopper::open(owner);
    wait_until("requests are passed on again", || hopper.post(other, "3").status == 200);
}
