//! The tests that concern one node alone, so that they do not run on three.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Names of tests or of their modules, each with the reason.
pub(crate) const ALONE: &[(&str, &str)] = &[
    ("::every_case_has_its_test", LISTS),
    ("admin_listen::", "looks into one node's listeners"),
    ("alone::", LISTS),
    ("cluster::", "starts nodes of a cluster of its own"),
    ("command_line::", COMMAND_LINE),
    ("containers::", COMMAND_LINE),
    ("descriptors::", RESOURCES),
    ("disk::", STORE),
    ("drain::", ENDS),
    ("driver::", "looks into one node's interface to the kernel"),
    ("durability::", STORE),
    ("encrypted::", "looks into one node's listeners"),
    ("events::clients::browser::a_page_continues_after_a_cut", EMPTY),
    ("events::drain::", ENDS),
    ("events::resuming::a_client_that_has_received_no_message_continues_too", EMPTY),
    ("events::resuming::a_gap_is_told_after_a_restart_and_for_other_texts", ENDS),
    (
        "events::resuming::recovery_keeps_nothing_for_a_channel_whose_streams_have_ended_long_ago",
        KEEPS_MORE,
    ),
    ("first_start::", COMMAND_LINE),
    ("forge::bounds::what_a_mailbox_has_no_room_for_is_refused_whole", RESOURCES),
    ("forge::clients::cut_off::a_page_that_gets_no_context_is_told_once", EMPTY),
    ("forge::clients::cut_off::a_page_whose_context_is_refused_is_told_once", EMPTY),
    ("forge::clients::cut_off::a_replay_cut_short_is_asked_for_again", EMPTY),
    ("forge::clients::limited::subscriptions_that_were_there_come_back_as_the_limit_allows", EMPTY),
    ("forge::clients::subscribers_are_told_of_a_node_that_died", ENDS),
    ("forge::clients::subscribers_outlive_a_restart", ENDS),
    ("forge::liveness::a_node_that_stops_lets_its_clients_go_with_1001", ENDS),
    ("health::", "looks into one node's health"),
    ("history::history_outlives_the_node", ENDS),
    ("issuer::", "looks into one node's keys"),
    ("killed::", ENDS),
    ("limits::commands::", "counts what one node has refused"),
    ("limits::handshakes::", "looks into one node's listeners"),
    ("log::", LOG),
    ("m2::data::data_is_not_touched", ENDS),
    ("m2::data::documents_and_their_versions_outlive_a_restart", ENDS),
    ("m2::ending::", ENDS),
    ("m2::killed::", ENDS),
    ("m2::overload::where_a_worker_has_no_room_a_write_is_refused_whole", RESOURCES),
    ("m2::readers::only_on_loopback_nobody_is_asked", COMMAND_LINE),
    ("m2::scope::who_comes_later_is_told_exactly_those_of_its_place", ENDS),
    ("memory::", RESOURCES),
    ("metrics::", "counts one node's metrics exactly"),
    (
        "named::a_message_that_is_published_again_is_heard_kept_and_called_once",
        "counts the ids that one node keeps, which a cluster leaves to NATS",
    ),
    ("on_three_nodes::", LISTS),
    ("options::presence::whoever_came_under_another_mode_leaves_as_it_came", MOVES),
    ("options::rate::the_clients_of_a_channel_together_are_held_to_its_rate", BURST),
    ("options::replay::a_replay_for_which_there_is_no_room_is_cut_and_says_so", RESOURCES),
    ("options::replay::what_is_too_old_is_gone", KEEPS_MORE),
    ("options::slow::who_loses_the_oldest_is_told_how_many", EXACT),
    ("options::slow::who_wants_the_latest_gets_little_else", EXACT),
    ("overload::a_full_mailbox_refuses_whole_and_keeps_the_order", RESOURCES),
    ("payloads::a_small_payload_keeps_no_large_buffer_alive", RESOURCES),
    ("payloads::they_reach_subscribers_webhooks_history_and_later_subscribers_unchanged", STORE),
    (
        "policies::a_verdict_is_asked_for_once_and_a_failure_allows_nothing",
        "counts one node's cache",
    ),
    ("policies::the_documented_policies_are_set_read_and_kept", ENDS),
    ("postgres::", "starts nodes and databases of its own"),
    ("proxies::announced::", "looks into one node's log and metrics"),
    ("proxies::in_front::", "runs a proxy in front of one node"),
    ("reload::", ENDS),
    ("restart::", ENDS),
    ("scrape::", "looks into the format of one node's metrics"),
    ("signals::", ENDS),
    ("supervisor::", ENDS),
    ("unsupported::another_path_is_named_in_the_answer_and_the_log", LOG),
    ("unsupported::jsonp_is_refused_in_a_script_that_its_client_can_run", LOG),
    ("unsupported::old_versions_and_other_transports_are_named_in_the_answer_and_the_log", LOG),
    ("webhooks::a_node_that_stops_lets_calls_end", ENDS),
    (
        "webhooks::a_target_that_does_not_answer_delays_nobody_else",
        "counts calls that are under way at once, of which each node has its own",
    ),
    ("webhooks::history_and_metrics_say_what_each_target_did", LOG),
    ("webhooks::what_is_not_public_is_not_called_unless_that_is_allowed", ENDS),
];

const BURST: &str = "a burst at one of three nodes has a third of the bucket";
const COMMAND_LINE: &str = "runs the command line, or looks into one node's files";
const EMPTY: &str = "resumes in a channel without messages, where a cluster tells a gap";
const ENDS: &str = "ends one node, reloads it, or starts it again";
const EXACT: &str = "counts each delivery of a flood, in which a busy cluster may tell a gap";
const KEEPS_MORE: &str = "is about what is forgotten, which NATS keeps for longer";
const LISTS: &str = "starts no node, or only to list cases";
const LOG: &str = "looks into one node's log";
const MOVES: &str = "moves a member between nodes, which may tell it to leave and to join";
const RESOURCES: &str = "is about the memory, mailboxes or descriptors of one node";
const STORE: &str = "looks into one node's store";

/// Returns the names of all tests of this binary that are not ignored.
pub(crate) fn all_tests() -> Vec<String> {
    let list = |args: &[&str]| {
        let own = std::env::current_exe().expect("the system knows it");
        let output = Command::new(own).arg("--list").args(args).output().expect("it starts");
        let text = String::from_utf8(output.stdout).expect("names are text");
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let ignored: BTreeSet<_> = list(&["--ignored"]).into_iter().collect();
    list(&[]).into_iter().filter(|name| !ignored.contains(name)).collect()
}

/// Returns why a test concerns one node alone; `None` if it does not.
pub(crate) fn reason(test: &str) -> Option<&'static str> {
    ALONE.iter().find(|(name, _)| is_of(test, name)).map(|(_, reason)| *reason)
}

/// Leaves out the tests that there is a reason for. Returns the reasons, each with the number of its
/// tests.
pub(crate) fn leave_out(
    tests: &mut Vec<String>,
    reason: impl Fn(&str) -> Option<&'static str>,
) -> BTreeMap<&'static str, usize> {
    let mut left_out = BTreeMap::new();
    tests.retain(|name| match reason(name) {
        Some(reason) => {
            *left_out.entry(reason).or_default() += 1;
            false
        }
        None => true,
    });
    left_out
}

/// Returns whether a test has this name. A name that ends in `::` is that of a module, and one that
/// begins with `::` is in any module.
pub(crate) fn is_of(test: &str, name: &str) -> bool {
    match (name.starts_with("::"), name.ends_with("::")) {
        (true, _) => test.ends_with(name),
        (_, true) => test.starts_with(name),
        _ => test == name,
    }
}

#[test]
fn every_name_is_that_of_a_test_and_no_test_is_named_twice() {
    let tests = all_tests();
    for (name, _) in ALONE {
        assert!(tests.iter().any(|test| is_of(test, name)), "{name} names no test");
    }
    for test in &tests {
        let names = ALONE.iter().filter(|(name, _)| !name.starts_with("::") && is_of(test, name));
        assert!(names.count() <= 1, "{test} is named twice");
    }
    assert!(ALONE.is_sorted(), "they are in order");
    let alone = tests.iter().filter(|test| reason(test).is_some()).count();
    println!("{alone} of {} tests are of one node alone", tests.len());
}
