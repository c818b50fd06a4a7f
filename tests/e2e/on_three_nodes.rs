//! Runs the other tests again, on three nodes instead of one.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::alone;
use crate::support::nats::{Nats, Three};
use crate::support::trio::{SERVERS, STARTS};

/// Texts, separated by commas, of which the names of the tests must contain one, for a run by hand.
const ONLY: &str = "FANFARE_TEST_ONLY";

/// What differs most in a cluster. Stock clients are not among it, because `cluster::clients` runs
/// them on three nodes anyway.
const CHOSEN: &[&str] = &[
    "events::resuming::",
    "forge::invocations::",
    "forge::messages::",
    "forge::payloads::",
    "forge::realtime_tokens::",
    "forge::replay::",
    "forge::scope::",
    "m2::data::",
    "m2::documents::",
    "m2::messages::",
    "m2::scope::",
    "m2::updates::",
    "m2_model::",
    "named::",
    "options::",
    "order::",
    "payloads::",
    "policies::",
    "publish::",
];

#[test]
#[ignore = "it runs the other tests again"]
fn with_one_server() {
    let nats = Nats::one();
    run(&nats.url(), |_| true);
}

#[test]
#[ignore = "it runs the other tests again"]
fn with_three_servers() {
    let nats = Three::start();
    run(&nats.servers.each_ref().map(Nats::url).join(","), |_| true);
}

#[test]
#[ignore = "it runs other tests again"]
fn a_chosen_part_with_one_server() {
    let nats = Nats::one();
    run(&nats.url(), |test| CHOSEN.iter().any(|name| alone::is_of(test, name)));
}

/// Runs these tests on three nodes that share the servers, and says which are left out.
fn run(servers: &str, is_chosen: impl Fn(&str) -> bool) {
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut chosen = alone::all_tests();
    chosen.retain(|name| is_chosen(name) && only.split(',').any(|text| name.contains(text)));
    let left_out = alone::leave_out(&mut chosen, alone::reason);
    let count: usize = left_out.values().sum();
    println!("{} tests run on three nodes; {count} are of one node alone:", chosen.len());
    left_out.iter().for_each(|(reason, count)| println!("{count:5}  {reason}"));
    let starts = NamedTempFile::new().expect("a file of the test");
    let mut command = again(&chosen);
    command.env(SERVERS, servers).env(STARTS, starts.path());
    if servers.contains(',') {
        // Each publication is work for nine processes.
        command.arg("--test-threads=2");
    }
    let status = command.status().expect("it starts");
    assert!(status.success(), "{status}");
    let started = fs::read_to_string(starts.path()).expect("names are text");
    let started: BTreeSet<_> = started.lines().collect();
    // With one thread, libtest runs tests on its main thread.
    if !started.contains("main") {
        chosen.retain(|name| !started.contains(name.as_str()));
        assert!(chosen.is_empty(), "these start no node and belong in alone.rs: {chosen:#?}");
    }
}

/// Returns a command that runs these tests.
pub(crate) fn again(tests: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the system knows it"));
    command.arg("--exact").args(tests);
    command
}

#[test]
fn every_chosen_name_is_that_of_a_test_on_three_nodes() {
    let tests = alone::all_tests();
    for name in CHOSEN {
        let mut of = tests.iter().filter(|test| alone::is_of(test, name));
        assert!(of.any(|test| alone::reason(test).is_none()), "{name} names no such test");
    }
}
