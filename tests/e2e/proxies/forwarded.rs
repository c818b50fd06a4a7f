//! `proxy.trusted`: whose word about a client's address counts.

use std::net::Ipv4Addr;

use crate::support::{API_KEY, Node, wait_until};
use crate::tcp::{self, Tcp};

const CLIENT: &str = "203.0.113.7";

/// Starts a node that trusts these proxies.
fn behind(proxies: Option<&'static str>) -> Node {
    Node::with(move |command| {
        command.env("FANFARE_LOG", "debug");
        command.envs(proxies.map(|proxies| ("FANFARE_PROXY_TRUSTED", proxies)));
    })
}

/// Sends a call without a credential, with these lines of headers. Returns the status.
fn be_refused(node: &Node, headers: &[&str]) -> u16 {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(tcp::request(&[&["GET /api/realtime/channels HTTP/1.1"], headers].concat(), ""));
    tcp.response().status
}

/// Returns how many refusals of this client are in the log.
fn refusals(node: &Node, client: &str) -> usize {
    let name = format!("client={client}");
    let output = node.output();
    output.lines().filter(|line| line.split(' ').any(|word| word == name)).count()
}

#[test]
fn the_client_is_whom_a_trusted_proxy_names() {
    let node = behind(Some("127.0.0.0/8, 10.0.0.0/8"));
    let cases: [&[&str]; 5] = [
        &["X-Forwarded-For: 203.0.113.7"],
        &["X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.1.1.1"],
        &["Forwarded: for=198.51.100.1", "Forwarded: For=\"203.0.113.7:1234\";proto=https"],
        &["X-Forwarded-For: 203.0.113.7:99", "Forwarded: for=203.0.113.7, for=10.0.0.3"],
        &["x-forwarded-for: 198.51.100.1", "x-forwarded-for: ::ffff:203.0.113.7"],
    ];
    for (number, headers) in (1..).zip(cases) {
        assert_eq!(be_refused(&node, headers), 401, "{headers:?}");
        wait_until("the log names the client", || refusals(&node, CLIENT) == number);
    }
    assert_eq!(be_refused(&node, &["Forwarded: for=\"[2001:db8::9]:80\""]), 401);
    wait_until("the log names it", || refusals(&node, "2001:db8::9") == 1);
    for headers in [&[][..], &["X-Forwarded-For: unknown"], &["Forwarded: for=_secret"]] {
        let before = refusals(&node, "127.0.0.1");
        assert_eq!(be_refused(&node, headers), 401, "{headers:?}");
        wait_until("the proxy counts as the client", || refusals(&node, "127.0.0.1") > before);
    }
    assert!(!node.output().contains("198.51.100"));
}

#[test]
fn forged_headers_of_others_change_nothing() {
    for proxies in [None, Some("10.0.0.0/8, unix, ::1")] {
        let node = behind(proxies);
        let cases: [&[&str]; 5] = [
            &["X-Forwarded-For: 203.0.113.7"],
            &["X-Forwarded-For: 203.0.113.7, 10.0.0.1"],
            &["Forwarded: for=203.0.113.7"],
            &["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.8"],
            &["Forwarded: for=\"", "X-Real-IP: 203.0.113.7"],
        ];
        for (number, headers) in (1..).zip(cases) {
            assert_eq!(be_refused(&node, headers), 401, "{headers:?}");
            wait_until("the peer is named", || refusals(&node, "127.0.0.1") == number);
        }
        assert!(!node.output().contains("203.0.113"), "{}", node.output());
    }
}

#[test]
fn a_proxy_whose_word_is_not_clear_is_refused() {
    let node = behind(Some("127.0.0.1"));
    let key = format!("x-api-key: {API_KEY}");
    let cases: [&[&str]; 3] = [
        &["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.8", &key],
        &["Forwarded: for=\", for=203.0.113.7", &key],
        &["Forwarded: for=203.0.113.7;for=203.0.113.8", &key],
    ];
    for headers in cases {
        assert_eq!(be_refused(&node, headers), 400, "{headers:?}");
    }
    wait_until("the log says why", || node.output().contains("X-Forwarded-For and Forwarded"));
    // The connection and its next request are not affected.
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(tcp::request(&["GET /api/health HTTP/1.1", "Forwarded: for=\""], ""));
    assert_eq!(tcp.response().status, 400);
    tcp.send(tcp::request(&["GET /api/health HTTP/1.1"], ""));
    assert_eq!(tcp.response().status, 200);
}

#[test]
fn nothing_that_a_trusted_proxy_passes_on_is_treated_leniently() {
    let place = ["x-m2-organization: o", "x-m2-project: p"];
    let read = |node: &Node| {
        let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        let line = "GET /api/realtime/resources/collection/c HTTP/1.1";
        tcp.send(tcp::request(&[&[line][..], &place].concat(), ""));
        tcp.response().status
    };
    let lenient = |trusted: &'static str| {
        Node::with(move |command| {
            command.env("FANFARE_M2_REQUIRE_AUTH", "false").env("FANFARE_PROXY_TRUSTED", trusted);
        })
    };
    assert_eq!(read(&lenient("10.0.0.1")), 404, "a direct request needs no credential");
    assert_eq!(read(&lenient("127.0.0.1")), 401);
}
