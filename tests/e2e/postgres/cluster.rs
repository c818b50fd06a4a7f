//! A cluster of which one node publishes the rows.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{hear_numbers, installed, listen, publish};
use crate::cluster::fleet::Fleet;
use crate::support::{Node, wait_until};

/// The time within which another node takes over.
const TAKEOVER: Duration = Duration::from_secs(3);

fn captures(node: &Node) -> bool {
    node.metric("fanfare_postgres_capturing") == 1
}

fn many(from: u64) -> String {
    (from..from + 100).map(|number| publish("orders", number)).collect()
}

#[test]
fn one_node_publishes_for_all_and_another_takes_over_when_it_dies_or_hangs() {
    let postgres = installed();
    let url = postgres.url();
    let mut fleet = Fleet::each(3, move |_, command| {
        command.env("FANFARE_POSTGRES_URL", &url);
    });
    fleet.define(&json!({ "pattern": "orders" }));
    wait_until("a node captures", || fleet.nodes.iter().any(captures));
    let capturing = fleet.nodes.iter().position(captures).expect("a node captures");
    let mut dying = fleet.nodes.remove(capturing);
    assert!(!fleet.nodes.iter().any(captures), "one of them captures");
    let mut streams: Vec<_> = fleet.nodes.iter().map(|node| listen(node, &["orders"])).collect();
    postgres.sql(&many(0));
    for stream in &mut streams {
        assert_eq!(hear_numbers(stream, 100), (0..100).collect::<Vec<_>>());
    }

    dying.kill();
    let died = Instant::now();
    postgres.sql(&many(100));
    for stream in &mut streams {
        assert_eq!(hear_numbers(stream, 100), (100..200).collect::<Vec<_>>());
    }
    assert!(died.elapsed() < TAKEOVER, "{:?}", died.elapsed());

    wait_until("one took over", || fleet.nodes.iter().any(captures));
    let hanging = fleet.nodes.iter().position(captures).expect("one took over");
    fleet.nodes[hanging].signal(Signal::STOP);
    let hung = Instant::now();
    postgres.sql(&many(200));
    assert_eq!(hear_numbers(&mut streams[1 - hanging], 100), (200..300).collect::<Vec<_>>());
    assert!(hung.elapsed() < TAKEOVER, "{:?}", hung.elapsed());

    // The node that hung leaves the rows to the other one, and its clients hear them once.
    fleet.nodes[hanging].signal(Signal::CONT);
    postgres.sql(&many(300));
    assert_eq!(hear_numbers(&mut streams[1 - hanging], 100), (300..400).collect::<Vec<_>>());
}
