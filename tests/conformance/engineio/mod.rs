//! Engine.IO protocol 4 at `/engine.io/`, which echoes every message packet.
//!
//! Covers the cases of the protocol's public suite (handshake, messages, heartbeat, close, upgrade)
//! and what stock clients rely on besides.

mod heartbeat;
mod polling;
mod upgrade;
mod websocket;

use serde_json::json;

use crate::frames::Peer;
use crate::node::{self, PING_INTERVAL_MS, PING_TIMEOUT_MS};
use crate::session::{Endpoint, assert_detailed_error, assert_error, open_packet};
use crate::tcp::{Response, call};

/// The node with heartbeats of 25 s, which are rarer than tests are long.
fn calm() -> Endpoint {
    Endpoint { addr: node::calm(), path: "/engine.io/" }
}

/// The node with pings every 300 ms.
fn brisk() -> Endpoint {
    Endpoint { addr: node::brisk(), path: "/engine.io/" }
}

/// What the refusal of another protocol version than 4 says besides.
const VERSION_DETAILS: &str = "EIO must be 4: use socket.io-client 3 or 4, or another client of \
                               Socket.IO protocol 5";

fn ask(method: &str, query: &str) -> Response {
    call(calm().addr, &[&format!("{method} /engine.io/{query} HTTP/1.1")], "")
}

#[test]
fn a_session_opens_over_polling() {
    let response = ask("GET", "?EIO=4&transport=polling&t=abc123");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let open = open_packet(response.text());
    assert_eq!(open["upgrades"], json!(["websocket"]));
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(20_000)));
}

#[test]
fn a_session_opens_over_websocket() {
    let mut peer = Peer::open(brisk().addr, &brisk().target("transport=websocket"));
    let open = open_packet(&peer.hear().text());
    assert_eq!(open["upgrades"], json!([]));
    assert_eq!(
        (&open["pingInterval"], &open["pingTimeout"]),
        (&json!(PING_INTERVAL_MS), &json!(PING_TIMEOUT_MS))
    );
}

#[test]
fn every_session_has_an_id_of_its_own() {
    let mut sids: Vec<_> = (0..50).map(|_| calm().open_polling().sid).collect();
    sids.sort();
    sids.dedup();
    assert_eq!(sids.len(), 50);
}

/// What a WebSocket without the headers of an upgrade is told.
const UPGRADE_DETAILS: &str = "A WebSocket needs the headers Connection: Upgrade and Upgrade: \
                               websocket; if the client sends them, a proxy has removed them";

#[test]
fn requests_that_open_nothing_are_told_why() {
    const UNKNOWN_TRANSPORT: (u32, &str) = (0, "Transport unknown");
    const UNKNOWN_SID: (u32, &str) = (1, "Session ID unknown");
    const BAD_METHOD: (u32, &str) = (2, "Bad handshake method");
    const BAD_REQUEST: (u32, &str) = (3, "Bad request");
    const BAD_VERSION: (u32, &str) = (5, "Unsupported protocol version");
    let long = format!("?EIO=4&transport=polling&sid={}", "x".repeat(2000));
    let cases = [
        ("GET", "", UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4", UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4&transport=", UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4&transport=abc", UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4&transport=constructor", UNKNOWN_TRANSPORT),
        ("GET", "?transport=polling", BAD_VERSION),
        ("GET", "?EIO=abc&transport=polling", BAD_VERSION),
        ("GET", "?EIO=3&transport=polling", BAD_VERSION),
        ("GET", "?EIO=5&transport=polling", BAD_VERSION),
        ("POST", "?EIO=4&transport=polling", BAD_METHOD),
        ("PUT", "?EIO=4&transport=polling", BAD_METHOD),
        ("DELETE", "?EIO=4&transport=polling", BAD_METHOD),
        ("GET", "?EIO=4&transport=websocket", BAD_REQUEST),
        ("GET", "?EIO=4&transport=polling&sid=nobody", UNKNOWN_SID),
        ("POST", "?EIO=4&transport=polling&sid=nobody", UNKNOWN_SID),
        ("GET", "?EIO=4&transport=polling&sid=%00%ff%zz", UNKNOWN_SID),
        ("GET", "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", UNKNOWN_SID),
        ("GET", "?EIO=4&transport=polling&sid=____________________", UNKNOWN_SID),
        ("GET", &long, UNKNOWN_SID),
    ];
    for (method, query, (code, message)) in cases {
        println!("{method} {query}");
        let details = match code {
            0 => Some("The transports are polling and websocket"),
            3 => Some(UPGRADE_DETAILS),
            5 => Some(VERSION_DETAILS),
            _ => None,
        };
        assert_detailed_error(&ask(method, query), code, message, details);
    }
}

#[test]
fn upgrades_that_open_nothing_are_told_why_in_plain_text() {
    let transport = "Transport unknown. The transports are polling and websocket";
    let version = format!("Unsupported protocol version. {VERSION_DETAILS}");
    let cases = [
        ("?EIO=4", transport),
        ("?EIO=4&transport=abc", transport),
        ("?transport=websocket", &version),
        ("?EIO=abc&transport=websocket", &version),
        ("?EIO=4&transport=websocket&sid=nobody", "Session ID unknown"),
    ];
    for (query, message) in cases {
        let Err(response) = Peer::try_open(calm().addr, &format!("/engine.io/{query}")) else {
            panic!("{query} was upgraded");
        };
        assert_eq!((response.status, response.text()), (400, message), "{query}");
        assert_eq!(response.header("content-type"), Some("text/html"), "{query}");
    }
}

#[test]
fn a_session_of_another_node_is_unknown() {
    let elsewhere = brisk().open_polling().sid;
    let query = format!("?EIO=4&transport=polling&sid={elsewhere}");
    assert_error(&ask("GET", &query), 1, "Session ID unknown");
    assert_error(&ask("POST", &query), 1, "Session ID unknown");
}

#[test]
fn other_origins_may_read_answers_but_not_caches() {
    let origin = "Origin: https://app.example";
    let line = format!("GET {} HTTP/1.1", calm().target("transport=polling"));
    let allowed = |response: &Response, what: &str| {
        let allow = response.header("access-control-allow-origin");
        assert_eq!(allow, Some("https://app.example"), "{what}");
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{what}");
        let vary = response.header("vary").unwrap_or_default();
        assert!(vary.contains("Origin"), "{what}: vary is {vary:?}");
    };
    allowed(&call(calm().addr, &[&line, origin], ""), "open");
    let session = calm().open_polling();
    let post = format!("POST {} HTTP/1.1", session.target("polling"));
    allowed(&call(calm().addr, &[&post, origin], "4hello"), "post");
    let poll = format!("GET {} HTTP/1.1", session.target("polling"));
    allowed(&call(calm().addr, &[&poll, origin], ""), "poll");
    let line = "GET /engine.io/?EIO=4&transport=polling&sid=nobody HTTP/1.1";
    allowed(&call(calm().addr, &[line, origin], ""), "error");
    let plain = ask("GET", "?EIO=4&transport=polling");
    assert_eq!(plain.header("access-control-allow-origin"), None, "nobody asked");
}

#[test]
fn preflights_are_answered() {
    let line = format!("OPTIONS {} HTTP/1.1", calm().target("transport=polling"));
    let head = [
        &line,
        "Origin: https://app.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: x-custom",
    ];
    let response = call(calm().addr, &head, "");
    assert_eq!(response.status, 204);
    let expected = [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,HEAD,PUT,PATCH,POST,DELETE"),
        ("access-control-allow-headers", "x-custom"),
        ("vary", "Origin, Access-Control-Request-Headers"),
    ];
    for (name, value) in expected {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
}
