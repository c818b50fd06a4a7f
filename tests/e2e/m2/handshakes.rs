//! Handshakes with scope and credential in headers.

use std::net::Ipv4Addr;

use serde_json::json;

use super::app::{call, path, place};
use super::listener::Listener;
use crate::support::{API_KEY, Node};
use crate::tcp::{Response, Tcp, request};

/// The headers that every client must send.
const PLACE: &str = "x-m2-organization: o\r\nx-m2-project: p";

/// Returns a node that requires no credential.
pub(crate) fn open() -> Node {
    Node::with_env(&[("FANFARE_M2_REQUIRE_AUTH", "false")])
}

/// Returns the answer to a WebSocket handshake with these header lines.
pub(crate) fn shake(node: &Node, lines: &str) -> Response {
    shake_at(node, "/api/realtime/", lines)
}

fn shake_at(node: &Node, path: &str, lines: &str) -> Response {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(upgrade(path, lines));
    tcp.response()
}

/// Returns a request for a WebSocket with these header lines.
pub(crate) fn upgrade(path: &str, lines: &str) -> Vec<u8> {
    let target = format!("GET {path} HTTP/1.1");
    let upgrade = [
        &target,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let lines = lines.split("\r\n").filter(|line| !line.is_empty());
    let head: Vec<&str> = upgrade.into_iter().chain(lines).collect();
    request(&head, "")
}

/// Returns the message of a refusal with 400; `None` if the client is accepted.
pub(crate) fn mistake(response: &Response) -> Option<String> {
    if response.status == 101 {
        return None;
    }
    let body = response.json();
    let message = body["message"].as_str().expect("there is a message").to_owned();
    let expected = json!({ "error": "INVALID_INPUT", "message": message, "statusCode": 400 });
    assert_eq!((response.status, body), (400, expected));
    Some(message)
}

/// Tries each set of lines, which must be accepted, or refused with a message that begins like
/// this.
fn check(node: &Node, table: &[(&str, Option<&str>)]) {
    for (lines, expected) in table {
        let told = mistake(&shake(node, lines));
        assert_eq!(told.is_none(), expected.is_none(), "{lines:?}: {told:?}");
        let named = told.unwrap_or_default();
        assert!(named.starts_with(expected.unwrap_or_default()), "{lines:?}: {named}");
        // The same holds over HTTP.
        let headers = lines.split("\r\n").filter_map(|line| line.split_once(':'));
        let headers: Vec<_> = headers.chain([("x-api-key", API_KEY)]).collect();
        let response = node.request("GET", &path("kvStore", "k"), &headers, b"");
        let status = if expected.is_some() { 400 } else { 404 };
        assert_eq!(response.status, status, "{lines:?}: {}", response.text());
    }
}

#[test]
fn there_are_two_paths_and_they_take_nothing_but_a_websocket() {
    let node = open();
    for path in ["/api/realtime/", "/api/realtime", "/api/realtime/?x=1"] {
        assert_eq!(shake_at(&node, path, PLACE).status, 101, "{path}");
    }
    for path in ["/api/realtime//", "/api/realtime/x", "/api/Realtime/"] {
        assert_eq!(shake_at(&node, path, PLACE).status, 404, "{path}");
    }
    let plain = call(&node, ("GET", "/api/realtime/"), &place(), "");
    assert!((400..500).contains(&plain.status), "{}", plain.text());
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = call(&node, (method, "/api/realtime/"), &place(), "");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")), "{method}");
    }
    assert_eq!(node.metric("fanfare_connections_opened_total"), 3);
}

#[test]
fn an_organization_is_named_once_in_either_spelling() {
    let node = open();
    check(
        &node,
        &[
            (PLACE, None),
            ("x-m2-organization-id: o\r\nx-m2-project-id: p", None),
            ("x-m2-organization: o\r\nx-m2-project-id: p", None),
            ("X-M2-Organization: o\r\nX-M2-PROJECT-ID: p", None),
            ("x-m2-organization: o\r\nx-m2-organization-id: o\r\nx-m2-project: p", None),
            ("x-m2-organization:\r\nx-m2-organization-id: o\r\nx-m2-project: p", None),
            ("x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-user: u\r\nx-m2-else: v", None),
            (
                "x-m2-organization: o\r\nx-m2-organization-id: O\r\nx-m2-project: p",
                Some("x-m2-organization and x-m2-organization-id have different values"),
            ),
            (
                "x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-project-id: q",
                Some("x-m2-project and x-m2-project-id have different values"),
            ),
            (
                "x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-world: w\r\nx-m2-world-id: v",
                Some("x-m2-world and x-m2-world-id have different values"),
            ),
            (
                "x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-launch-context: l\r\n\
                 x-m2-launch-context-id: m",
                Some("x-m2-launch-context and x-m2-launch-context-id have different values"),
            ),
            (
                "x-m2-organization: o\r\nx-m2-organization: o\r\nx-m2-project: p",
                Some("x-m2-organization is sent more than once"),
            ),
            (
                "x-m2-organization: o\r\nx-m2-project-id: p\r\nx-m2-project-id:",
                Some("x-m2-project-id is sent more than once"),
            ),
        ],
    );
    for name in ["authorization", "x-api-key"] {
        let twice = format!("{PLACE}\r\n{name}: {API_KEY}\r\n{name}: {API_KEY}");
        let told = mistake(&shake(&node, &twice)).expect("it is refused");
        assert!(told.starts_with(&format!("{name} is sent more than once")), "{told}");
    }
}

#[test]
fn a_place_is_whole() {
    let organization = Some("x-m2-organization is missing");
    let world = Some("x-m2-world is within a project");
    let launch = Some("x-m2-launch-context is within a project");
    let table = [
        ("", organization),
        ("x-m2-project: p", organization),
        ("x-m2-organization:\r\nx-m2-project: p", organization),
        ("x-m2-project: p\r\nx-m2-world: w", organization),
        ("x-m2-organization: o\r\nx-m2-world: w", world),
        ("x-m2-organization: o\r\nx-m2-project:\r\nx-m2-world-id: w", world),
        ("x-m2-organization: o\r\nx-m2-launch-context: l", launch),
        ("x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-world: w", None),
        ("x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-launch-context: l", None),
        ("x-m2-organization: o\r\nx-m2-project: p\r\nx-m2-launch-context:\r\nx-m2-world:", None),
    ];
    let alone = ["x-m2-organization: o", "x-m2-organization: o\r\nx-m2-project:"];
    let strict = open();
    check(&strict, &table);
    check(&strict, &alone.map(|lines| (lines, Some("x-m2-project is missing"))));
    let lenient = Node::with_env(&[
        ("FANFARE_M2_REQUIRE_AUTH", "false"),
        ("FANFARE_M2_REQUIRE_PROJECT", "false"),
    ]);
    check(&lenient, &table);
    check(&lenient, &alone.map(|lines| (lines, None)));
}

#[test]
fn a_name_is_not_too_long_and_has_no_control_characters() {
    let node = open();
    let longest = "é".repeat(127) + "x";
    let with = |name: &str, value: &str| {
        let lines = ["x-m2-organization", "x-m2-project", "x-m2-world", "x-m2-launch-context"];
        let line = |one: &&str| match name.strip_suffix("-id").unwrap_or(name) == *one {
            true => format!("{name}: {value}"),
            false => format!("{one}: a"),
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\r\n")
    };
    for name in ["x-m2-organization", "x-m2-project-id", "x-m2-world", "x-m2-launch-context-id"] {
        check(&node, &[(&with(name, &longest), None), (&with(name, "a/b c%\u{1f600}"), None)]);
        for bad in [format!("{longest}x"), "a\tb".to_owned(), "a\u{85}b".to_owned()] {
            let told = format!("{name} cannot be used: it has ");
            check(&node, &[(&with(name, &bad), Some(&told))]);
        }
    }
}

#[test]
fn a_request_that_a_proxy_has_passed_on_needs_a_credential() {
    let node = Node::with_env(&[("FANFARE_M2_REQUIRE_AUTH", "false")]);
    let look = |more: &[(&'static str, String)]| {
        let headers = [place(), more.to_vec()].concat();
        call(&node, ("GET", &path("liveConfig", "a")), &headers, "").status
    };
    let connect = |more: &[(&'static str, String)]| {
        Listener::try_connect(&node, &[place(), more.to_vec()].concat()).map(drop)
    };
    assert_eq!((look(&[]), connect(&[])), (404, Ok(())));
    for name in ["forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host"] {
        let through = (name, "192.0.2.1".to_owned());
        let alone = std::slice::from_ref(&through);
        assert_eq!(look(alone), 401, "{name}");
        let refusal = connect(alone).expect_err("it is refused");
        assert!(refusal.starts_with("401 "), "{name}: {refusal}");
        let key = ("x-api-key", API_KEY.to_owned());
        assert_eq!(look(&[through, key]), 404, "{name}");
    }
}
