//! The kernel interface for sockets, io_uring or epoll, and the node's report of it.

use crate::support::Node;

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
