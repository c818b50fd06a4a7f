//! What it costs when all clients of a killed node return at once.

use std::thread;
use std::time::Instant;

use serde_json::json;

use super::client::Client;
use super::crowd::{Crew, wait_for_clients};
use super::stage::{Ending, Stage};
use super::{NODES, print, quantiles, setting};
use crate::cluster::costs::Usage;
use crate::cluster::fleet::Fleet;
use crate::support::{Node, wait_until};

/// Publications a second, few beside the returns.
const RATE: f64 = 20.0;
const SHARED: &str = "fanfare_cluster_sessions_total{outcome=\"shared\"}";

#[test]
#[ignore = "measures for tuning.md, with a release build in FANFARE_TEST_BINARY"]
fn clients_of_a_killed_node_return_at_once() {
    let clients = setting("FANFARE_TEST_ROLLING_CLIENTS", 5_000);
    let mut fleet = Fleet::with(NODES, &[("FANFARE_RECOVERY_WINDOW_MS", "120000")]);
    fleet.define(&json!({ "pattern": "rolling:*", "presence": "off" }));
    let stage = Stage::new(fleet.nodes.iter().map(Node::port).collect(), clients);
    let (tally, publishers) = thread::scope(|scope| {
        let _ending = Ending(&stage);
        let all = (0..clients).map(|number| Client::new(number, 0)).collect();
        let crew = Crew::start(scope, &stage, all, RATE);
        wait_until("all sessions are shared", || fleet.nodes[0].metric(SHARED) >= clients as u64);
        stage.ends(0);
        let before = Usage::of(&fleet.nodes[1..], &fleet.nats);
        fleet.nodes[0].kill();
        let killed = Instant::now();
        wait_until("all have noticed", || stage.is_left(0));
        wait_for_clients(&stage);
        let back = killed.elapsed();
        let used = Usage::of(&fleet.nodes[1..], &fleet.nats).since(&before);
        println!("{clients} clients were back after {:.2} s; {}", back.as_secs_f64(), {
            used.for_each(clients, "client")
        });
        crew.finish(&stage)
    });
    print(&tally, &publishers);
    println!("a client was away {}", quantiles(tally.absences.clone()));
    assert!(tally.faults.is_empty(), "{:#?}", tally.faults);
}
