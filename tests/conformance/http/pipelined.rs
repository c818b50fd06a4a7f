//! Requests that are sent without waiting for the responses before them.

use std::thread;

use serde_json::{Value, json};

use super::{authorization, define, definition};
use crate::node;
use crate::tcp::{PATIENCE, Response, Tcp, request};

/// Requests of one batch.
const BATCH: usize = 60;

fn publish(channel: &str, payload: &Value, level: &str) -> Vec<u8> {
    let body = json!({ "channel": channel, "event": "e", "payload": payload }).to_string();
    let line = format!("POST /api/realtime/messages?durability={level} HTTP/1.1");
    request(&[&line, &authorization()], body)
}

/// Returns a connection on which a channel was defined, and the id of the definition.
fn connect(channel: &str) -> (Tcp, String) {
    let mut tcp = Tcp::connect(node::plain());
    let body = definition(channel);
    tcp.send(define(&[&format!("Content-Length: {}", body.len())]) + &body);
    let defined = tcp.response();
    assert_eq!(defined.status, 201);
    let id = defined.json()["id"].as_str().expect("it has an id").to_owned();
    (tcp, id)
}

fn id(response: &Response) -> String {
    response.json()["messageId"].as_str().expect("it is published").to_owned()
}

#[test]
fn errors_between_them_are_answered_in_their_place() {
    let (mut tcp, _) = connect("errors-between");
    let ok = |level| publish("errors-between", &json!(1), level);
    let one = [
        (ok("memory"), 201),
        (publish("errors-undefined", &json!(1), "memory"), 404),
        (ok("stored"), 201),
        (request(&["POST /api/realtime/messages HTTP/1.1", &authorization()], "{"), 400),
        (request(&["POST /api/realtime/messages HTTP/1.1"], "{}"), 401),
        (ok("memory"), 201),
        (request(&["GET /api/health HTTP/1.1"], ""), 200),
        (request(&["OPTIONS /api/realtime/messages HTTP/1.1"], ""), 204),
        (publish("errors-between", &json!("x".repeat(30_000)), "synced"), 201),
        (request(&["GET /nothing HTTP/1.1"], ""), 404),
    ];
    let all: Vec<_> = one.iter().cycle().take(BATCH).collect();
    let bytes: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    tcp.send(&bytes);
    for (at, (_, status)) in all.iter().enumerate() {
        assert_eq!(tcp.response().status, *status, "{at}");
    }
}

#[test]
fn what_breaks_the_grammar_ends_the_connection_after_the_responses_before_it() {
    for (broken, status) in [
        ("GET /api/health HTTP/1.1\r\n\r\n", 400),
        ("GET /api/health HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("POST /api/realtime/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
    ] {
        let (mut tcp, _) = connect(&format!("broken-{status}-{}", broken.len()));
        let health = request(&["GET /api/health HTTP/1.1"], "");
        tcp.send([&health, &health, broken.as_bytes(), &health].concat());
        let statuses = [(); 3].map(|()| tcp.response().status);
        assert_eq!(statuses, [200, 200, status], "{broken:?}");
        assert!(tcp.try_response("GET", PATIENCE).is_none(), "{broken:?}: nothing follows");
    }
}

#[test]
fn requests_that_arrive_in_pieces_are_answered_as_whole_ones() {
    let long = "x".repeat(3_000);
    for chop in [1, 7, 97, 1_000, 16_383, 16_384, 16_385, 70_000] {
        let channel = format!("pieces-{chop}");
        let (mut tcp, definition) = connect(&channel);
        let count = if chop < 90 { 4 } else { BATCH };
        let payload = |at: usize| json!({ "at": at, "text": long });
        let bytes: Vec<u8> =
            (0..count).flat_map(|at| publish(&channel, &payload(at), "memory")).collect();
        tcp.send_chopped(&bytes, chop);
        let ids: Vec<_> = (0..count).map(|_| id(&tcp.response())).collect();
        tcp.send(publish(&channel, &payload(count), "stored"));
        let last = id(&tcp.response());
        let query = format!("channelId={definition}&limit={}", count + 1);
        let line = format!("GET /api/realtime/messages?{query} HTTP/1.1");
        tcp.send(request(&[&line, &authorization()], ""));
        let kept = tcp.response().json();
        let kept = kept.as_array().expect("a list");
        assert_eq!(kept.len(), count + 1, "{chop}");
        let names: Vec<_> = ids.iter().chain([&last]).rev().collect();
        for (at, (message, id)) in kept.iter().zip(names).enumerate() {
            assert_eq!(message["id"], **id, "{chop}");
            assert_eq!(message["payload"], payload(count - at), "{chop}");
        }
    }
}

#[test]
fn a_client_that_does_not_read_gets_all_responses_later_and_in_order() {
    let mut tcp = Tcp::connect(node::plain());
    let count = 20_000;
    let bytes: Vec<u8> =
        (0..count).flat_map(|at| request(&[&format!("GET /nothing/{at} HTTP/1.1")], "")).collect();
    let mut sender = tcp.another();
    let sending = thread::spawn(move || sender.send(&bytes));
    thread::sleep(std::time::Duration::from_millis(300));
    for at in 0..count {
        let response = tcp.response();
        let message = format!("Endpoint /nothing/{at} not found");
        assert_eq!((response.status, &response.json()["message"]), (404, &json!(message)));
    }
    assert!(sending.join().expect("it ends"));
}
