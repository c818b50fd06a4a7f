//! The kernel interface for sockets, io_uring or epoll, and the node's report of it.

use std::process::Command;

use serde_json::json;

use crate::ear::{CHANNEL, Ear, TICK};
use crate::support::{ANON_KEY, Node, remove_settings, repository};

/// Subscribers whose frames are sent together.
const SUBSCRIBERS: usize = 20;
/// Large publications, of which no socket takes all before its client reads.
const LARGE: usize = 12;

#[test]
fn a_forced_epoll_driver_is_named() {
    let node = Node::with(|command| {
        command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    });
    assert!(node.output().contains("epoll"), "{}", node.output());
}

#[test]
fn a_kernel_that_denies_io_uring_is_served_by_epoll() {
    let node = Node::without_uring();
    assert!(node.output().contains("epoll"), "{}", node.output());
    assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
}

#[test]
fn a_node_whose_rings_do_not_fit_into_locked_memory_does_without() {
    if std::env::var("FANFARE_TEST_DENY_URING").is_ok_and(|wish| wish == "1") {
        return;
    }
    let short = Node::with_locked_memory(1024 * 1024, "8");
    let said = short.output();
    assert!(said.contains("epoll (no memory for the rings of 8 threads: "), "{said}");
    assert!(said.contains("raise the limit on locked memory)"), "{said}");
    assert_eq!(short.request("GET", "/api/health", &[], b"").status, 200);

    // The default limit of Linux.
    let enough = Node::with_locked_memory(8 * 1024 * 1024, "8");
    assert!(enough.output().contains(" on io_uring, listening"), "{}", enough.output());
    assert_eq!(enough.request("GET", "/api/health", &[], b"").status, 200);
}

/// A container's filter may deny only a part of io_uring.
#[test]
fn a_kernel_that_denies_a_part_of_io_uring_is_served_by_epoll() {
    for call in ["setup", "enter", "register"] {
        let node = Node::without_uring_call(call);
        let said = node.output();
        let reason = format!("epoll (io_uring is denied: io_uring_{call}: Operation not permitted");
        assert!(said.contains(&reason), "{said}");
        assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200, "{call}");
        node.create_channel(CHANNEL);
        let mut ear = Ear::over_websocket(node.port(), ANON_KEY);
        node.publish(CHANNEL, TICK, &json!({}));
        ear.hear(1);
    }
}

#[test]
fn frames_arrive_whole_however_they_are_sent() {
    let is_denied = std::env::var("FANFARE_TEST_DENY_URING").is_ok_and(|wish| wish == "1");
    let backends: &[_] = match is_denied {
        true => &[("direct", "0")],
        false => &[("ring", "0"), ("ring", "16384"), ("direct", "0")],
    };
    for &(backend, zerocopy) in backends {
        let node = Node::with(move |command| {
            command.env("FANFARE_IO_BACKEND", backend).env("FANFARE_WORKERS", "1");
            command.env("FANFARE_IO_ZEROCOPY_BYTES", zerocopy);
        });
        let metrics = node.request("GET", "/metrics", &[], b"");
        let said = format!("fanfare_sends_info{{backend=\"{backend}\",");
        assert!(String::from_utf8_lossy(&metrics.body).contains(&said), "{backend}");
        node.create_channel(CHANNEL);
        let ear = |_| Ear::over_websocket(node.port(), ANON_KEY);
        let mut ears: Vec<_> = (0..SUBSCRIBERS).map(ear).collect();
        node.publish(CHANNEL, TICK, &json!({}));
        ears.iter_mut().for_each(|ear| ear.hear(1));
        let (sends, frames) =
            (node.metric("fanfare_sends_total"), node.metric("fanfare_frames_sent_total"));
        for _ in 0..LARGE {
            node.publish(CHANNEL, TICK, &json!({ "text": "x".repeat(200_000) }));
        }
        ears.iter_mut().for_each(|ear| ear.hear(1 + LARGE));
        let frames = node.metric("fanfare_frames_sent_total") - frames;
        assert!(frames >= (SUBSCRIBERS * LARGE) as u64, "{backend}: {frames} frames");
        let sends = node.metric("fanfare_sends_total") - sends;
        assert!(sends > SUBSCRIBERS as u64, "{backend}: short sends go on");
        // The worker counts what was given back in its next turn.
        node.publish(CHANNEL, TICK, &json!({}));
        ears.iter_mut().for_each(|ear| ear.hear(2 + LARGE));
        let lent = ["spared", "copied"]
            .map(|outcome| format!("fanfare_zerocopy_sends_total{{outcome=\"{outcome}\"}}"))
            .map(|name| node.metric(&name));
        assert_eq!(lent[0] + lent[1] > 0, zerocopy != "0", "{backend}: {lent:?}");
    }
}

#[test]
fn a_node_that_cannot_have_the_ring_it_was_told_to_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    remove_settings(&mut command);
    let output = command
        .arg(repository("tests/support/deny_uring.py"))
        .args([env!("CARGO_BIN_EXE_fanfare"), "serve"])
        .env("FANFARE_IO_BACKEND", "ring")
        .env("FANFARE_LISTEN", "127.0.0.1:0")
        .env("FANFARE_DATA_DIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`io.backend` = \"ring\" cannot be had here"), "{said}");
    assert!(said.contains("set it to \"auto\""), "{said}");
}
