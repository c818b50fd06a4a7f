//! Clients that close their sending side behind their request, and still read.

use std::time::Duration;

use super::{assert_refusal, define, definition};
use crate::node;
use crate::support::{ANON_KEY, API_KEY};
use crate::tcp::{PATIENCE, Response, Tcp, call, request};

/// Sends bytes, closes the sending side and returns the response.
fn answer(bytes: impl AsRef<[u8]>) -> Response {
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(bytes);
    tcp.finish();
    tcp.response()
}

#[test]
fn a_whole_request_is_answered() {
    assert_eq!(answer(request(&["GET /api/health HTTP/1.1"], "")).status, 200);
    let body = definition("half-closed");
    let bytes = define(&[&format!("Content-Length: {}", body.len())]) + &body;
    assert_eq!(answer(bytes).status, 201);
}

#[test]
fn a_request_that_ends_early_is_refused() {
    let head = "GET /api/health HTTP/1.1\r\nHost: a\r\n";
    for bytes in ["G".to_owned(), head.to_owned(), define(&["Content-Length: 5"]) + "{}"] {
        let refused = answer(&bytes);
        assert_refusal(&refused, 400, "INVALID_INPUT");
        assert_eq!(refused.json()["message"], "Bad request: it ends before it is complete");
    }
    // A client that sends nothing is not answered.
    let mut silent = Tcp::connect(node::plain());
    silent.finish();
    assert!(silent.try_response("GET", PATIENCE).is_none());
}

#[test]
fn a_stream_is_answered_with_what_its_channel_keeps_or_refused() {
    let key = format!("X-API-Key: {API_KEY}");
    let made = r#"{"pattern":"half-kept","replaySeconds":60}"#;
    let post = |path: &str, body: &str| {
        call(node::plain(), &[&format!("POST {path} HTTP/1.1"), &key], body).status
    };
    assert_eq!(post("/api/realtime/channels", made), 201);
    let message = r#"{"channel":"half-kept","event":"e","payload":{"n":1}}"#;
    let ask = |channel: &str| {
        let path = format!("/api/realtime/events?channel={channel}&token={ANON_KEY}");
        answer(request(&[&format!("GET {path} HTTP/1.1")], ""))
    };
    // The channel keeps a message only from its first subscriber on.
    assert_eq!(ask("half-kept").status, 200);
    assert_eq!(post("/api/realtime/messages", message), 201);
    let stream = ask("half-kept");
    assert_eq!(stream.status, 200);
    let text = stream.text();
    assert!(text.contains("event: realtime:subscribed") && text.contains("\"n\":1"), "{text}");
    assert_refusal(&ask("half-unknown"), 403, "REALTIME_UNAUTHORIZED");
    let unauthorized =
        answer(request(&["GET /api/realtime/events?channel=half-kept HTTP/1.1"], ""));
    assert_refusal(&unauthorized, 401, "AUTH_INVALID_CREDENTIALS");
}

#[test]
fn a_poll_is_answered_and_ends_its_session() {
    let opened = call(node::calm(), &["GET /engine.io/?EIO=4&transport=polling HTTP/1.1"], "");
    let opened: serde_json::Value = serde_json::from_str(&opened.text()[1..]).expect("it is JSON");
    let sid = opened["sid"].as_str().expect("a session has an id");
    let target = format!("/engine.io/?EIO=4&transport=polling&sid={sid}");
    let mut tcp = Tcp::connect(node::calm());
    tcp.send(request(&[&format!("POST {target} HTTP/1.1")], "4hello"));
    tcp.finish();
    assert_eq!(tcp.response().text(), "ok", "the session goes on");
    let poll = request(&[&format!("GET {target} HTTP/1.1")], "");
    let mut tcp = Tcp::connect(node::calm());
    tcp.send(&poll);
    assert_eq!(tcp.response().text(), "4hello");
    tcp.send(&poll);
    assert!(tcp.is_silent_for(Duration::from_millis(200)), "the poll waits");
    tcp.finish();
    assert_eq!(tcp.response().text(), "1", "it is told that the session has ended");
    assert_eq!(call(node::calm(), &[&format!("GET {target} HTTP/1.1")], "").status, 400);
}
