//! HTTP/1.1 over bare TCP, on a node in normal mode (RFC 9110, RFC 9112).

mod half_closed;
mod headers;
mod malformed;
mod pipelined;
mod slow;

use serde_json::json;

use crate::frames::upgrade;
use crate::node;
use crate::support::{ANON_KEY, API_KEY};
use crate::tcp::{Response, Tcp, call, request};

/// Longest body that a request may have.
const BODY_BYTES_MAX: usize = 1_000_000;

fn authorization() -> String {
    format!("Authorization: Bearer {API_KEY}")
}

/// Returns the head of a request to define a channel; the caller decides about the body.
fn define(extra: &[&str]) -> String {
    let mut head = vec!["POST /api/realtime/channels HTTP/1.1", "Host: node"];
    let authorization = authorization();
    head.extend([authorization.as_str(), "Content-Type: application/json"]);
    head.extend(extra);
    head.join("\r\n") + "\r\n\r\n"
}

fn definition(pattern: &str) -> String {
    json!({ "pattern": pattern }).to_string()
}

fn health() -> Vec<u8> {
    request(&["GET /api/health HTTP/1.1"], "")
}

/// Checks an error in the format of all routes: code, message and status.
fn assert_refusal(response: &Response, status: u16, error: &str) {
    assert_eq!(response.status, status, "{response:?}");
    let body = response.json();
    assert_eq!((&body["error"], &body["statusCode"]), (&json!(error), &json!(status)));
    assert!(body["message"].is_string(), "{body}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{content_type:?}");
}

#[test]
fn unknown_paths_are_not_found() {
    for path in ["//", "/nothing", "/api", "/api/realtime/x", "/api/realtime/nothing?x=1", "/%00"] {
        for method in ["GET", "POST", "DELETE"] {
            let response = call(node::plain(), &[&format!("{method} {path} HTTP/1.1")], "");
            assert_refusal(&response, 404, "NOT_FOUND");
            // The query, which may hold a token, is left out.
            let path = path.split('?').next().expect("there is a first part");
            let message = format!("Endpoint {path} not found");
            assert_eq!(response.json()["message"], message);
        }
    }
}

#[test]
fn the_conformance_routes_are_not_served() {
    let response = call(node::plain(), &["GET /engine.io/?EIO=4&transport=polling HTTP/1.1"], "");
    assert_refusal(&response, 404, "NOT_FOUND");
    let response = call(node::plain(), &["GET /_test/echo HTTP/1.1"], "");
    assert_refusal(&response, 404, "NOT_FOUND");
}

#[test]
fn methods_that_a_path_does_not_know_are_refused_with_those_it_does() {
    let cases = [
        ("POST", "/", ["GET", "HEAD"].as_slice()),
        ("POST", "/api/health", &["GET", "HEAD"]),
        ("BREW", "/api/health", &["GET", "HEAD"]),
        ("get", "/api/health", &["GET", "HEAD"]),
        ("PATCH", "/api/realtime/channels", &["GET", "HEAD", "POST"]),
        ("PUT", "/api/realtime/messages", &["GET", "HEAD", "POST", "DELETE"]),
    ];
    for (method, path, expected) in cases {
        let line = format!("{method} {path} HTTP/1.1");
        let response = call(node::plain(), &[&line, &authorization()], "");
        assert_refusal(&response, 405, "METHOD_NOT_ALLOWED");
        let allow = response.header("allow").expect("the answer says which");
        let allow: Vec<_> = allow.split(',').map(str::trim).collect();
        assert!(expected.iter().all(|method| allow.contains(method)), "{line}: {allow:?}");
        assert!(!allow.contains(&method), "{line}: {allow:?}");
    }
}

#[test]
fn unknown_methods_are_named_as_they_were_sent() {
    let long = "M".repeat(200);
    for (method, shown) in [("BREW", "BREW"), ("get", "get"), (&long, &*("M".repeat(32) + "…"))] {
        let response = call(node::plain(), &[&format!("{method} /api/health HTTP/1.1")], "");
        assert_refusal(&response, 405, "METHOD_NOT_ALLOWED");
        let message = format!("Method {shown} is not allowed for /api/health");
        assert_eq!(response.json()["message"], message);
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_refused_by_name() {
    let key = authorization();
    let scope = ["x-m2-organization: o", "x-m2-project: p"];
    let token = format!("token={ANON_KEY}");
    let cases = [
        (format!("/api/realtime/events?channel=%ff&{token}"), "channel: it is not UTF-8"),
        (
            format!("/api/realtime/events?channel=a&lastEventId=%ff&{token}"),
            "lastEventId: it is not UTF-8",
        ),
        ("/api/realtime/events?channel=a&token=%ff".into(), "token: it is not UTF-8"),
        ("/api/realtime/messages?eventName=%ff".into(), "eventName: it is not UTF-8"),
        ("/api/realtime/messages?before=%ff".into(), "before: it is not UTF-8"),
        (
            "/api/realtime/messages?limit=%ff".into(),
            "limit: expected a whole number from 1 to 1000",
        ),
        ("/api/realtime/messages/stats?since=%ff".into(), "since: Invalid date"),
        ("/api/realtime/resources/liveConfig/%ff".into(), "id: it is not UTF-8"),
        ("/api/realtime/resources/liveConfig/a?userId=%ff".into(), "userId: it is not UTF-8"),
    ];
    for (target, message) in cases {
        let line = format!("GET {target} HTTP/1.1");
        let takes_key = !target.contains("/events");
        let credential = if takes_key { key.as_str() } else { "X: y" };
        let response = call(node::plain(), &[&line, credential, scope[0], scope[1]], "");
        assert_refusal(&response, 400, "INVALID_INPUT");
        assert_eq!(response.json()["message"], message, "{target}");
    }
    let response =
        call(node::plain(), &["DELETE /admin/v1/invocations/%ff HTTP/1.1", &authorization()], "");
    assert_refusal(&response, 400, "INVALID_INPUT");
    let line = "GET /socket.io/?EIO=4&transport=polling&sid=%ff HTTP/1.1";
    assert_eq!(call(node::plain(), &[line], "").json()["message"], "Session ID unknown");
}

#[test]
fn a_request_may_have_a_hundred_headers() {
    let ask = |headers: usize| {
        let lines: String = (1..headers).map(|at| format!("X-{at}: y\r\n")).collect();
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(format!("GET /api/health HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        tcp.response()
    };
    assert_eq!(ask(100).status, 200);
    assert_refusal(&ask(101), 431, "HEADERS_TOO_LARGE");
}

#[test]
fn what_http_has_and_the_node_has_not_is_told_by_name() {
    let ask = |text: &str| {
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(text);
        tcp.response()
    };
    let version = ask("GET / HTTP/3.0\r\nHost: a\r\n\r\n");
    assert_refusal(&version, 505, "HTTP_VERSION_NOT_SUPPORTED");
    let coding = ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n");
    assert_refusal(&coding, 501, "NOT_IMPLEMENTED");
}

#[test]
fn conformance_is_not_served_through_a_proxy() {
    let echo = String::from_utf8(upgrade("/_test/echo")).expect("a head is text");
    let polling = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1";
    for header in ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "Via: 1.1 a"] {
        let mut tcp = Tcp::connect(node::calm());
        tcp.send(echo.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n")));
        assert_eq!(tcp.response().status, 404, "{header}");
        assert_eq!(call(node::calm(), &[polling, header], "").status, 404, "{header}");
    }
    assert_eq!(call(node::calm(), &[polling], "").status, 200);
}

#[test]
fn head_is_answered_without_a_body() {
    let mut tcp = Tcp::connect(node::plain());
    for (path, part) in [("/api/health", "\"status\":\"ok\""), ("/", "Fanfare ")] {
        tcp.send(request(&[&format!("HEAD {path} HTTP/1.1")], ""));
        tcp.send(request(&[&format!("GET {path} HTTP/1.1")], ""));
        let head = tcp.response_to("HEAD");
        let get = tcp.response();
        assert_eq!((head.status, get.status), (200, 200));
        assert_eq!(head.header("content-type"), get.header("content-type"));
        // The length may be left out, but not be wrong (RFC 9110 section 9.3.2).
        let length = head.header("content-length");
        assert!(length.is_none() || length == get.header("content-length"), "{length:?}");
        assert!(get.text().contains(part), "{}", get.text());
    }
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let mut tcp = Tcp::connect(node::plain());
    let path = |at| format!("/nothing/{at}");
    let requests = (0..50).map(|at| match at % 3 {
        // This request takes longer than the others, because the node asks the store, and must not
        // be overtaken.
        0 => [define(&["Content-Length: 2"]).as_bytes(), b"{}"].concat(),
        1 => health(),
        _ => request(&[&format!("GET {} HTTP/1.1", path(at))], ""),
    });
    tcp.send(requests.collect::<Vec<_>>().concat());
    for at in 0..50 {
        let response = tcp.response();
        match at % 3 {
            0 => assert_refusal(&response, 400, "INVALID_INPUT"),
            1 => assert_eq!(response.json()["status"], "ok"),
            _ => {
                let message = format!("Endpoint {} not found", path(at));
                assert_eq!(response.json()["message"], message);
            }
        }
    }
}

#[test]
fn a_body_may_come_in_pieces() {
    let pattern = "http-in-pieces";
    let body = definition(pattern);
    let bytes = define(&[&format!("Content-Length: {}", body.len())]) + &body;
    let mut tcp = Tcp::connect(node::plain());
    tcp.send_chopped(bytes.as_bytes(), 7);
    let response = tcp.response();
    assert_eq!((response.status, &response.json()["pattern"]), (201, &json!(pattern)));
}

#[test]
fn a_body_may_come_in_chunks() {
    let pattern = "http-in-chunks";
    let body = definition(pattern);
    let (start, rest) = body.split_at(9);
    let chunks =
        format!("9;a=b\r\n{start}\r\n{:X}\r\n{rest}\r\n0\r\nTrailer: x\r\n\r\n", rest.len());
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(define(&["Transfer-Encoding: chunked"]) + &chunks);
    tcp.send(health());
    let response = tcp.response();
    assert_eq!((response.status, &response.json()["pattern"]), (201, &json!(pattern)));
    assert_eq!(tcp.response().json()["status"], "ok");
}

#[test]
fn who_expects_to_be_told_is_told_to_continue() {
    let body = definition("http-expect");
    let length = format!("Content-Length: {}", body.len());
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(define(&[&length, "Expect: 100-continue"]));
    assert_eq!(tcp.response().status, 100);
    tcp.send(&body);
    assert_eq!(tcp.response().status, 201);
    tcp.send(health());
    assert_eq!(tcp.response().status, 200);
}

#[test]
fn expectations_that_cannot_be_met_are_refused() {
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(define(&["Content-Length: 2", "Expect: 200-maybe"]));
    assert_eq!(tcp.response().status, 417);
    let mut tcp = Tcp::connect(node::plain());
    let length = format!("Content-Length: {}", BODY_BYTES_MAX + 1);
    tcp.send(define(&[&length, "Expect: 100-continue"]));
    assert_eq!(tcp.response().status, 413, "no invitation to send what is too long");
}

#[test]
fn bodies_have_a_bound() {
    let length = format!("Content-Length: {}", BODY_BYTES_MAX + 1);
    let mut announced = Tcp::connect(node::plain());
    announced.send(define(&[&length]));
    assert_refusal(&announced.response(), 413, "PAYLOAD_TOO_LARGE");
    assert!(announced.ends_within(crate::tcp::PATIENCE));

    let mut sent = Tcp::connect(node::plain());
    sent.send(define(&[&length]) + &"x".repeat(BODY_BYTES_MAX + 1));
    assert_eq!(sent.response().status, 413);

    let mut chunked = Tcp::connect(node::plain());
    chunked.send(define(&["Transfer-Encoding: chunked"]));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..=BODY_BYTES_MAX / 0x1_0000 {
        chunked.send(&chunk);
    }
    assert_eq!(chunked.response().status, 413);

    // A body of the longest length is read, and refused for its content.
    let mut longest = Tcp::connect(node::plain());
    let length = format!("Content-Length: {BODY_BYTES_MAX}");
    longest.send(define(&[&length]) + &"x".repeat(BODY_BYTES_MAX));
    assert_refusal(&longest.response(), 400, "INVALID_INPUT");
}

#[test]
fn connections_last_as_long_as_both_sides_wish() {
    // The version, the client's `Connection` header, and whether another request is possible.
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.0", "", false),
    ];
    for (version, header, lasts) in cases {
        println!("HTTP/{version} {header}");
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(format!("GET /api/health HTTP/{version}\r\nHost: node\r\n{header}\r\n"));
        let response = tcp.response();
        assert_eq!(response.status, 200);
        if lasts {
            tcp.send(health());
            assert_eq!(tcp.response().status, 200);
        } else {
            // HTTP/1.0 closes by default; with 1.1 the node must announce it.
            let announced = response.header("connection").is_some_and(|value| value == "close");
            assert!(announced || version == "1.0");
            assert!(tcp.ends_within(crate::tcp::PATIENCE));
        }
    }
}
