//! Clients that compress messages (permessage-deflate), alone and beside others.

use crate::cases::{LIMIT, cases};
use crate::support::Node;

/// Returns a node that compresses messages of any length.
fn eager() -> Node {
    Node::with_env(&[
        ("FANFARE_WEBSOCKET_COMPRESSION", "on"),
        ("FANFARE_WEBSOCKET_COMPRESSION_BYTES", "1"),
        ("FANFARE_M2_REQUIRE_AUTH", "false"),
    ])
}

fn compressing() -> Node {
    Node::with_env(&[("FANFARE_WEBSOCKET_COMPRESSION", "on"), ("FANFARE_WORKERS", "2")])
}

const SENT: &str = r#"{direction="sent"}"#;
const RECEIVED: &str = r#"{direction="received"}"#;

mod mixed {
    use super::*;

    cases! { "deflate.mjs", compressing, &[], [
        a_mixed_audience_hears_the_same_in_the_same_order,
        a_client_that_upgrades_from_long_polling_compresses_from_then_on,
        retained_publications_are_compressed_for_those_who_compress,
        subscribers_of_forge_hear_the_same,
        subscribers_of_m2_hear_the_same,
        long_messages_that_are_short_on_the_wire_leave_others_their_turn,
        blocks_without_content_cost_others_no_time,
        a_bomb_is_refused,
    ] }
}

#[test]
fn a_client_in_python_hears_compressed_documents() {
    let node = compressing();
    node.run_script("deflate.py", &[], &[], LIMIT);
    // Each version that two clients receive is compressed once.
    assert_eq!(node.metric(&format!("fanfare_compression_messages_total{SENT}")), 20);
    assert!(node.metric(&format!("fanfare_compression_messages_total{RECEIVED}")) >= 2);
}

#[test]
fn a_publication_is_compressed_once_for_all_workers_and_receivers() {
    let node = compressing();
    let case = ["a_mixed_audience_hears_the_same_in_the_same_order"];
    node.run_script("deflate.mjs", &case, &[], LIMIT);
    let messages = node.metric(&format!("fanfare_compression_messages_total{SENT}"));
    // Of 60 publications, two fifths are shorter than the threshold.
    assert_eq!(messages, 36);
    let bytes = |form| {
        let labels = format!(r#"{{direction="sent",form="{form}"}}"#);
        node.metric(&format!("fanfare_compression_bytes_total{labels}"))
    };
    assert!(bytes("plain") > 10 * bytes("compressed"), "{}", bytes("compressed"));
}

#[test]
fn without_the_setting_nothing_is_compressed() {
    let node = Node::start();
    let case = ["a_mixed_audience_hears_the_same_in_the_same_order"];
    node.run_script("deflate.mjs", &case, &[("COMPRESSION", "off")], LIMIT);
    assert_eq!(node.metric("fanfare_compression_messages_total"), 0);
}

/// Runs all cases of a program, whose clients offer compression by themselves.
fn all_cases(program: &str, envs: &[(&str, &str)]) {
    let node = eager();
    let listed = node.run_script(program, &[], &[], LIMIT);
    let cases: Vec<_> = listed.lines().collect();
    node.run_script(program, &cases, envs, 4 * LIMIT);
    assert!(node.metric(&format!("fanfare_compression_messages_total{SENT}")) > 0);
}

#[test]
fn every_case_of_the_module_of_forge_holds_with_compression() {
    all_cases("forge_client.mjs", &[]);
}

#[test]
fn every_case_of_a_native_client_of_m2_holds_with_compression() {
    all_cases("m2_native.mjs", &[]);
}

#[test]
fn every_case_of_the_sdk_holds_with_compression() {
    all_cases("sdk.mjs", &[]);
}
