//! Slow clients, and thousands of connections without a request.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{define, definition, health};
use crate::node::{self, BODY_TIMEOUT_MS, HEAD_TIMEOUT_MS, IDLE_TIMEOUT_MS};
use crate::support::Node;
use crate::tcp::{PATIENCE, Tcp};

const HEAD_TIMEOUT: Duration = Duration::from_millis(HEAD_TIMEOUT_MS);
const BODY_TIMEOUT: Duration = Duration::from_millis(BODY_TIMEOUT_MS);
const IDLE_TIMEOUT: Duration = Duration::from_millis(IDLE_TIMEOUT_MS);
/// How late an event may be on a busy machine.
const LATE: Duration = Duration::from_secs(8);

/// Number of simultaneous connections without a request.
const HALF_OPEN: usize = 2_000;
/// How many more descriptors than at its start a node may have in the end.
const DESCRIPTORS_SLACK: usize = 16;

/// Checks that the node ends the connection after `timeout`. If it answers before, the answer must
/// be 408.
fn assert_given_up(tcp: &mut Tcp, since: Instant, timeout: Duration) {
    if let Some(response) = tcp.try_response("GET", PATIENCE) {
        assert_eq!(response.status, 408);
    }
    assert!(tcp.ends_within(PATIENCE), "the connection is ended");
    let took = since.elapsed();
    assert!(took > timeout.mul_f32(0.8), "ended after {took:?}");
    assert!(took < timeout + LATE, "ended after {took:?}");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    for start in ["", "G", "GET /api/health HTTP/1.1\r\nHost: no"] {
        println!("{start:?}");
        let mut tcp = Tcp::connect(node::plain());
        let since = Instant::now();
        tcp.send(start);
        assert_given_up(&mut tcp, since, HEAD_TIMEOUT);
    }
}

#[test]
fn a_head_that_drips_is_not_waited_for() {
    let mut tcp = Tcp::connect(node::plain());
    let since = Instant::now();
    for byte in health().chunks(1) {
        if !tcp.send(byte) || !tcp.is_silent_for(HEAD_TIMEOUT / 5) {
            break;
        }
    }
    assert_given_up(&mut tcp, since, HEAD_TIMEOUT);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    for start in ["", r#"{"pattern":"#] {
        println!("{start:?}");
        let mut tcp = Tcp::connect(node::plain());
        let since = Instant::now();
        tcp.send(define(&["Content-Length: 100"]) + start);
        assert_given_up(&mut tcp, since, BODY_TIMEOUT);
    }
}

#[test]
fn a_body_that_comes_in_time_is_waited_for() {
    let body = definition("http-slow-body");
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(define(&[&format!("Content-Length: {}", body.len())]));
    // Longer than the limit for a head, which no longer counts: the head is complete.
    for part in body.as_bytes().chunks(body.len().div_ceil(4)) {
        assert!(tcp.is_silent_for(BODY_TIMEOUT / 8));
        tcp.send(part);
    }
    assert_eq!(tcp.response().status, 201);
}

#[test]
fn a_connection_that_asks_nothing_more_is_ended() {
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(health());
    assert_eq!(tcp.response().status, 200);
    let since = Instant::now();
    // Longer than the limit for a head, which does not count yet: no byte of one has come.
    assert!(tcp.is_silent_for(HEAD_TIMEOUT + HEAD_TIMEOUT / 2));
    tcp.send(health());
    assert_eq!(tcp.response().status, 200);
    assert!(since.elapsed() < IDLE_TIMEOUT);
    let since = Instant::now();
    assert_given_up(&mut tcp, since, IDLE_TIMEOUT);
}

#[test]
fn a_client_that_hangs_up_early_is_forgotten() {
    for _ in 0..100 {
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(define(&["Content-Length: 100"]) + "{");
        drop(tcp);
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(health());
        drop(tcp);
    }
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(health());
    tcp.finish();
    assert_eq!(tcp.response().status, 200, "half a goodbye still wants its answer");
}

#[test]
fn thousands_of_half_open_connections_stop_nobody_and_leave_nothing() {
    raise_descriptor_limit();
    let node = Node::with(node::configure_plain);
    let addr = ([127, 0, 0, 1], node.port()).into();
    let mut client = Tcp::connect(addr);
    let mut ask = || {
        let since = Instant::now();
        client.send(health());
        assert_eq!(client.response().status, 200);
        since.elapsed()
    };
    ask();
    let before = descriptors(node.pid());
    let beginnings = ["", "G", "GET /api/health HTTP/1.1\r\nHost: no", "POST / HTTP/1.1\r\n"];
    let mut half_open = Vec::with_capacity(HALF_OPEN);
    for at in 0..HALF_OPEN {
        let mut tcp = Tcp::connect(addr);
        tcp.send(beginnings[at % beginnings.len()]);
        half_open.push(tcp);
        if at % 100 == 0 {
            let took = ask();
            assert!(took < LATE, "with {at} connections half open an answer took {took:?}");
        }
    }
    for tcp in &mut half_open {
        assert!(tcp.ends_within(PATIENCE), "every one of them is ended");
    }
    // On a new connection, because the idle one was ended with the others.
    let mut client = Tcp::connect(addr);
    client.send(health());
    assert_eq!(client.response().status, 200);
    // The clients' ends are still open, so the node must have closed its ends.
    let since = Instant::now();
    while descriptors(node.pid()) > before + DESCRIPTORS_SLACK {
        assert!(since.elapsed() < PATIENCE, "{} descriptors stay open", descriptors(node.pid()));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the node runs");
    open.count()
}

/// Raises the limit of descriptors for this process and its node as far as the system allows.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let enough = HALF_OPEN as u64 + 500;
    assert!(maximum.is_none_or(|maximum| maximum >= enough), "{enough} descriptors are needed");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("within the maximum");
}
