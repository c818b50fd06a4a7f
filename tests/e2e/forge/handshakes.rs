//! The handshake: subprotocols and credentials.

use std::net::Ipv4Addr;

use serde_json::json;

use super::app::{invocation, keys, place, publish, soon};
use super::listener::Listener;
use crate::support::{Node, sign};
use crate::tcp::{Response, Tcp, request};

const PROTOCOL: &str = "sec-websocket-protocol";
/// The request line and headers of an upgrade.
const UPGRADE: [&str; 5] = [
    "GET /forge/realtime/v1/ws HTTP/1.1",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Returns the answer to a handshake with these additional lines.
fn handshake(node: &Node, lines: &[&str]) -> Response {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(request(&[&UPGRADE, lines].concat(), ""));
    tcp.response()
}

#[test]
fn the_subprotocol_is_echoed_or_none_was_offered() {
    let node = Node::start();
    let ours = Some("forge-realtime.v1");
    let table: [(&[&str], u16, Option<&str>); 13] = [
        (&[], 101, None),
        (&["Sec-WebSocket-Protocol: forge-realtime.v1"], 101, ours),
        (&["sec-websocket-protocol: forge-realtime.v1, chat"], 101, ours),
        (&["Sec-WebSocket-Protocol: chat,forge-realtime.v1"], 101, ours),
        (&["Sec-WebSocket-Protocol: chat , forge-realtime.v2,forge-realtime.v1"], 101, ours),
        (&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: forge-realtime.v1"], 101, ours),
        (&["Sec-WebSocket-Protocol: chat"], 400, None),
        (&["Sec-WebSocket-Protocol: chat, superchat"], 400, None),
        (&["Sec-WebSocket-Protocol: forge-realtime"], 400, None),
        (&["Sec-WebSocket-Protocol: forge-realtime.v2"], 400, None),
        (&["Sec-WebSocket-Protocol: Forge-Realtime.v1"], 400, None),
        (&["Sec-WebSocket-Protocol: forge-realtime.v1.1"], 400, None),
        (&["Sec-WebSocket-Protocol: xforge-realtime.v1"], 400, None),
    ];
    for (lines, status, echoed) in table {
        let response = handshake(&node, lines);
        assert_eq!((response.status, response.header(PROTOCOL)), (status, echoed), "{lines:?}");
    }
    let offer = (PROTOCOL, "chat, forge-realtime.v1");
    let mut listener =
        Listener::dial_with(node.port(), &[offer]).expect("a client that checks takes the echo");
    listener.prove(&sign(&place()));
}

#[test]
fn a_context_is_proved_at_the_handshake_or_nothing_is_opened() {
    let node = Node::start();
    let token = sign(&place());
    let invocation_token = &invocation(&place())["Forge as=app,id=".len()..];
    let expired = {
        let mut place = place();
        place["exp"] = json!(soon() - 601);
        sign(&place)
    };
    let table: [(&[String], u16); 12] = [
        (&[format!("Authorization: Bearer {token}")], 101),
        (&[format!("authorization: bearer {token}")], 101),
        (&[format!("Authorization: Bearer {expired}")], 401),
        (&[format!("Authorization: Bearer {invocation_token}")], 401),
        (&[format!("Authorization: Bearer x{token}")], 401),
        (&["Authorization: Bearer nonsense".to_owned()], 401),
        (&["Authorization: Bearer ".to_owned()], 401),
        (&["Authorization: Bearer".to_owned()], 401),
        (&["Authorization:".to_owned()], 401),
        (&[format!("Authorization: {token}")], 401),
        (&[format!("Authorization: Basic {token}")], 401),
        (
            &[
                format!("Authorization: Bearer {token}"),
                "Authorization: Bearer nonsense".to_owned(),
            ],
            401,
        ),
    ];
    for (lines, status) in table {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let response = handshake(&node, &lines);
        assert_eq!(response.status, status, "{lines:?}");
        if status == 401 {
            assert_eq!(response.json()["statusCode"], 401, "{}", response.text());
        }
    }
    assert_eq!(node.metric("fanfare_connections_opened_total"), 2);
}

#[test]
fn who_is_known_from_the_handshake_is_welcomed_at_once() {
    let node = Node::start();
    let bearer = format!("Bearer {}", sign(&place()));
    let headers = [("authorization", bearer.as_str())];
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut listener = Listener::dial_with(node.port(), &headers).expect("it is let in");
        let welcome = listener.hear();
        assert_eq!(
            keys(&welcome),
            ["connectionId", "expiresAt", "node", "replaySeconds", "type"],
            "{welcome}"
        );
        assert_eq!(welcome["type"], "connected");
        assert!(welcome["expiresAt"].as_u64().is_some_and(|at| at.abs_diff(soon()) < 30));
        names.push(welcome["connectionId"].clone());
        let topic = listener.subscribe("room", &json!({}));
        let body = json!({ "name": "room", "payload": "x" });
        publish(&node, "publish", &invocation(&place()), &body);
        assert_eq!(listener.hear()["topic"], topic);
        // A client may renew its proof as others do, and keeps its connection id.
        let answer = listener.ask(json!({ "type": "connect", "contextToken": sign(&place()) }));
        assert_eq!(
            (&answer["type"], &answer["connectionId"]),
            (&json!("connected"), &names[names.len() - 1])
        );
    }
    assert_ne!(names[0], names[1], "each connection has a name of its own");
}

#[test]
fn what_is_no_handshake_opens_nothing() {
    let node = Node::start();
    let plain = node.request("GET", "/forge/realtime/v1/ws", &[], b"");
    assert_eq!(plain.status, 400, "{}", plain.text());
    for method in ["POST", "HEAD", "PUT"] {
        let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        tcp.send(request(&[&format!("{method} /forge/realtime/v1/ws HTTP/1.1")], ""));
        let answer = tcp.response_to(method);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
    }
    assert_eq!(node.metric("fanfare_connections_opened_total"), 0);
}
