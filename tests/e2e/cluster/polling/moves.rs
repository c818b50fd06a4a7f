//! Clients that come back at another worker than that of their earlier session.

use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::client::{Hopper, offset};
use crate::cluster::fleet::{Envs, Fleet};
use crate::support::{Node, user_token, wait_until};

const PING_MS: u64 = 400;
const MOVING: Envs = &[
    ("FANFARE_WORKERS", "2"),
    ("FANFARE_RECOVERY_WINDOW_MS", "120000"),
    ("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "400"),
    ("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "20000"),
];
/// Sessions that are opened until one is at the other worker.
const TRIES: usize = 32;

/// Returns the number of the worker that an id of a session begins with.
fn worker(id: &str) -> u8 {
    URL_SAFE_NO_PAD.decode(id).expect("an id is base64")[0]
}

/// Opens sessions at a node until one is at another worker than this one.
fn open_elsewhere(node: &Node, home: u8) -> Hopper {
    let open = (0..TRIES).map(|_| Hopper::opened(node, &user_token("alice")));
    let mut others = Vec::new();
    for hopper in open {
        if worker(hopper.session()) != home {
            return hopper;
        }
        others.push(hopper);
    }
    panic!("{} sessions are all at one worker", others.len());
}

#[test]
fn a_client_that_has_not_fetched_a_heartbeat_recovers_at_any_worker_of_any_node() {
    let fleet = Fleet::with(2, MOVING);
    fleet.define(&json!({ "pattern": "b", "presence": "off" }));
    let [owner, other] = [&fleet.nodes[0], &fleet.nodes[1]];
    let shared = "fanfare_cluster_sessions_total{outcome=\"shared\"}";
    for (number, node) in (1..).zip([owner, other]) {
        let known = owner.metric(shared);
        let first = Hopper::open(owner);
        first.subscribe((owner, owner), "b");
        owner.publish("b", "tick", &json!({ "n": number }));
        let came = offset(&first.hear(owner, "\"tick\""));
        wait_until("the session is shared", || owner.metric(shared) > known);
        assert_eq!(first.post(owner, "1").status, 200, "the client leaves its transport");
        owner.publish("b", "tick", &json!({ "n": 10 * number }));

        let mut again = open_elsewhere(node, worker(first.pid()));
        // No poll waits, so that the heartbeat stays at the node.
        thread::sleep(Duration::from_millis(2 * PING_MS));
        assert!(again.connect(node, Some((first.pid(), &came))), "it is recovered");
        let heartbeats = again.forget("2");
        assert!(heartbeats > 0, "the heartbeat has come with the session");
        let missed = again.hear(node, "\"tick\"");
        assert!(missed.contains(&format!("\"n\":{}", 10 * number)), "{missed}");
        assert_eq!(again.post(node, "3").status, 200, "the heartbeat is answered late");
        assert_eq!(again.post(node, "1").status, 200);
    }
}
