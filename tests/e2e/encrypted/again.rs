//! Runs the other tests again, with nodes that encrypt. Stock clients encrypt themselves; tests
//! that know nothing of TLS reach the nodes through a way that encrypts for them.

use crate::alone::{all_tests, is_of, leave_out};
use crate::on_three_nodes;
use crate::support::encrypted::ENCRYPTED;

/// What differs most with TLS: clients of every kind, long and many payloads, slow clients, and
/// connections that move.
const CHOSEN: &[&str] = &[
    "clients::",
    "events::clients::",
    "events::slow::",
    "forge::clients::",
    "m2::clients::",
    "memory::a_crowd_that_does_not_read_costs_those_that_read_nothing",
    "order::",
    "overload::",
    "payloads::",
    "recovery::",
    "upgrade::",
];

/// Names of tests or of their modules that do not run with TLS, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("cluster::", "starts nodes of a cluster of its own"),
    ("command_line::", "starts the program itself"),
    ("drain::", PORT),
    ("drain_delay::a_signal_after_the_delay_ends_the_node_at_once", PORT),
    ("driver::", "counts sends of frames that are not copied, which sealed ones are"),
    ("encrypted::", "is about TLS already"),
    ("first_start::", "starts the program itself"),
    ("health::a_node_that_stops_says_so_to_whoever_is_connected", PORT),
    (
        "limits::an_address_has_so_many_connections_of_its_own",
        "connects from another address, on which the way does not listen",
    ),
    ("m2::ending::", PORT),
    ("metrics::bytes_and_frames_are_those_that_a_client_read_and_wrote", "counts bytes exactly"),
    ("on_three_nodes::", "starts nodes of a cluster of its own"),
    (
        "recovery::what_was_missed_is_what_came_while_the_channel_was_heard",
        "resets its client's socket, which Node.js does not do with TLS",
    ),
    ("webhooks::a_node_that_stops_lets_calls_end", PORT),
];
const PORT: &str = "waits until the node's port is closed, which that of the way is not";

/// Runs these tests with TLS, and says which are left out.
fn run(is_chosen: impl Fn(&str) -> bool) {
    let mut chosen = all_tests();
    chosen.retain(|name| is_chosen(name));
    let reason = |test: &str| LEFT_OUT.iter().find(|(name, _)| is_of(test, name));
    let left_out = leave_out(&mut chosen, |test| reason(test).map(|(_, reason)| *reason));
    println!("{} tests run with TLS; left out are:", chosen.len());
    left_out.iter().for_each(|(reason, count)| println!("{count:5}  {reason}"));
    let mut command = on_three_nodes::again(&chosen);
    let status = command.env(ENCRYPTED, "1").status().expect("it starts");
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "it runs other tests again"]
fn a_chosen_part() {
    run(|test| CHOSEN.iter().any(|name| is_of(test, name)));
}

#[test]
#[ignore = "it runs the other tests again"]
fn everything() {
    run(|_| true);
}

#[test]
fn every_name_is_that_of_a_test() {
    let tests = all_tests();
    for name in CHOSEN.iter().chain(LEFT_OUT.iter().map(|(name, _)| name)) {
        assert!(tests.iter().any(|test| is_of(test, name)), "{name} names no test");
    }
}
