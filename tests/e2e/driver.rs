//! The kernel interface for sockets, io_uring or epoll, and the node's report of it.

use serde_json::json;

use crate::ear::{CHANNEL, Ear, TICK};
use crate::support::{ANON_KEY, Node};

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
