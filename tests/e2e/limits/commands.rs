//! The limits of subscriptions, names, payloads, publications and sessions on long-polling. In each
//! interface a client is served exactly at the limit; one beyond it is refused with the interface's
//! own error and counted, and others notice nothing.

use std::time::Instant;

use serde_json::{Value, json};

use super::{HEALTH, UPGRADE, WEBSOCKET, ask, connect, due, refusals, send};
use crate::forge;
use crate::m2;
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, API_KEY, Node, an_hour_from_now, sign, wait_until};
use crate::tcp::PATIENCE;

const PUBLISH: &str = "REALTIME_PUBLISH";
const SUBSCRIBE: &str = "REALTIME_SUBSCRIBE";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// The longest name that [`small`] allows, and one that is too long.
const NAME: &str = "sixteen-bytes-ok";
const LONG_NAME: &str = "seventeen-bytes-x";

/// Starts a node where a connection may have two subscriptions, a name 16 bytes and a payload 64.
fn small() -> Node {
    let node = Node::with_env(&[
        ("FANFARE_LIMITS_SUBSCRIPTIONS_PER_CONNECTION", "2"),
        ("FANFARE_LIMITS_CHANNEL_BYTES", "16"),
        ("FANFARE_LIMITS_PAYLOAD_BYTES", "64"),
    ]);
    node.create_channel("%");
    node
}

/// Returns the JSON text of a string of so many bytes, with its quotes.
fn payload(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

/// Sends a command and returns its answer.
fn command(socket: &mut Socket, event: &str, argument: &Value) -> Value {
    let asked = socket.ask(event, argument);
    socket.flush();
    loop {
        match socket.hear() {
            Heard::Ack(number, answer) if number == asked => return answer,
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

fn message(channel: &str, payload: &Value) -> Value {
    json!({ "channel": channel, "event": "tick", "payload": payload })
}

fn socket_io_subscriptions(node: &Node) -> Value {
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    ["a", "b", "a"].iter().for_each(|channel| socket.subscribe(channel));
    let refused = command(&mut socket, SUBSCRIBE, &json!({ "channel": "c" }));
    assert_eq!(
        command(&mut socket, "REALTIME_UNSUBSCRIBE", &json!({ "channel": "a" }))["ok"],
        true
    );
    socket.subscribe("c");
    refused["error"]["code"].clone()
}

fn socket_io_name(node: &Node) -> Value {
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(NAME);
    command(&mut socket, SUBSCRIBE, &json!({ "channel": LONG_NAME }))
}

fn socket_io_payload(node: &Node) -> Value {
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe("a");
    let published = command(&mut socket, PUBLISH, &message("a", &payload(64)));
    assert_eq!(published["ok"], true, "{published}");
    command(&mut socket, PUBLISH, &message("a", &payload(65)))
}

fn polling_payload(node: &Node) -> Value {
    let mut socket = Socket::connect_polling(node.port(), ANON_KEY);
    socket.subscribe("a");
    let published = command(&mut socket, PUBLISH, &message("a", &payload(64)));
    assert_eq!(published["ok"], true, "{published}");
    command(&mut socket, PUBLISH, &message("a", &payload(65)))
}

/// Publishes over REST. Returns status, error and message.
fn rest(node: &Node, body: &Value) -> Value {
    let (path, headers) = ("/api/realtime/messages", [("x-api-key", API_KEY)]);
    let answer = node.request("POST", path, &headers, body.to_string().as_bytes());
    let told = answer.json();
    json!([answer.status, told["error"], told["message"]])
}

fn rest_name(node: &Node) -> Value {
    assert_eq!(rest(node, &message(NAME, &payload(2)))[0], 201);
    rest(node, &message(LONG_NAME, &payload(2)))
}

fn rest_payload(node: &Node) -> Value {
    assert_eq!(rest(node, &message("a", &payload(64)))[0], 201);
    rest(node, &message("a", &payload(65)))
}

/// Opens a stream of these channels. Returns status and message of the refusal; `null` if it opens.
fn stream(node: &Node, channels: &[&str]) -> Value {
    let named: Vec<_> = channels.iter().map(|channel| format!("&channel={channel}")).collect();
    let line = format!("GET /api/realtime/events?token={ANON_KEY}{}", named.concat());
    let mut tcp = connect(node);
    tcp.send(crate::tcp::request(&[&format!("{line} HTTP/1.1")], ""));
    let deadline = Instant::now() + PATIENCE;
    assert!(tcp.has(12, deadline), "an answer begins");
    if tcp.unread().starts_with(b"HTTP/1.1 200") {
        return Value::Null;
    }
    let refused = tcp.response();
    json!([refused.status, refused.json()["message"]])
}

fn stream_channels(node: &Node) -> Value {
    assert_eq!(stream(node, &["a", "b", "a"]), Value::Null);
    stream(node, &["a", "b", "c"])
}

fn stream_name(node: &Node) -> Value {
    assert_eq!(stream(node, &[NAME]), Value::Null);
    stream(node, &[LONG_NAME])
}

fn forge_listener(node: &Node) -> forge::listener::Listener {
    forge::listener::Listener::connect(node, &forge::app::place())
}

fn forge_subscriptions(node: &Node) -> Value {
    let mut listener = forge_listener(node);
    ["a", "b", "a"].iter().for_each(|channel| drop(listener.subscribe(channel, &Value::Null)));
    listener.try_subscribe("c", &Value::Null)["error"]["code"].clone()
}

fn forge_name(node: &Node) -> Value {
    let mut listener = forge_listener(node);
    listener.subscribe(NAME, &Value::Null);
    listener.try_subscribe(LONG_NAME, &Value::Null)["error"].clone()
}

fn forge_payload(node: &Node) -> Value {
    let mut listener = forge_listener(node);
    listener.subscribe("a", &Value::Null);
    let mut publish = |bytes| {
        let payload = "x".repeat(bytes);
        listener.say(json!({ "type": "publish", "channel": "a", "payload": payload }));
        loop {
            let answer = listener.hear();
            if answer["type"] != "event" {
                return answer;
            }
        }
    };
    assert_eq!(publish(64)["type"], "published");
    publish(65)["error"]["code"].clone()
}

/// Publishes over Forge's HTTP. Returns the status, and the detail of the refusal.
fn forge_call(node: &Node, name: &str, bytes: usize) -> Value {
    let body = json!({ "name": name, "payload": "x".repeat(bytes) });
    let answer =
        forge::app::call(node, "publish", &forge::app::invocation(&forge::app::place()), &body);
    json!([answer.status, answer.json()["errors"][0]["detail"]])
}

fn forge_call_name(node: &Node) -> Value {
    assert_eq!(forge_call(node, NAME, 1)[0], 200);
    forge_call(node, LONG_NAME, 1)
}

fn forge_call_payload(node: &Node) -> Value {
    assert_eq!(forge_call(node, "a", 64)[0], 200);
    forge_call(node, "a", 65)
}

fn m2_listener(node: &Node) -> m2::listener::Listener {
    m2::listener::Listener::connect(node, &m2::app::user(m2::app::place(), "u"))
}

fn m2_subscriptions(node: &Node) -> Value {
    let mut listener = m2_listener(node);
    ["a", "b", "a"].iter().for_each(|id| listener.subscribe_early("kvStore", id));
    listener.subscribe("kvStore", "c").parse().expect("it is JSON")
}

fn m2_name(node: &Node) -> Value {
    let mut listener = m2_listener(node);
    listener.subscribe_early("kvStore", NAME);
    listener.subscribe("kvStore", LONG_NAME).parse().expect("it is JSON")
}

/// Writes a document. Returns status and message.
fn m2_write(node: &Node, id: &str, data: &Value) -> Value {
    let (path, headers) = (m2::app::path("kvStore", id), m2::app::service(m2::app::place()));
    let answer =
        m2::app::call(node, ("PUT", &path), &headers, &json!({ "data": data }).to_string());
    json!([answer.status, answer.json()["message"]])
}

fn m2_write_name(node: &Node) -> Value {
    assert_eq!(m2_write(node, NAME, &payload(2))[0], 200);
    m2_write(node, LONG_NAME, &payload(2))
}

fn m2_write_data(node: &Node) -> Value {
    assert_eq!(m2_write(node, "a", &payload(64))[0], 200);
    m2_write(node, "a", &payload(65))
}

/// What is done exactly at a limit and then one beyond it, what the refusal is, and what counts it.
type Case = (fn(&Node) -> Value, fn() -> Value, &'static str);

const CASES: [Case; 16] = [
    (socket_io_subscriptions, || json!("TOO_MANY_SUBSCRIPTIONS"), "too_many_subscriptions"),
    (
        socket_io_name,
        || socket_io_refusal("INVALID_INPUT", "channel: longer than 16 bytes"),
        "invalid",
    ),
    (socket_io_payload, long_payload, "too_large"),
    (polling_payload, long_payload, "too_large"),
    (
        rest_name,
        || json!([400, "INVALID_INPUT", "channel: String must contain at most 16 byte(s)"]),
        "invalid",
    ),
    (
        rest_payload,
        || json!([413, "PAYLOAD_TOO_LARGE", "payload: longer than 64 bytes"]),
        "too_large",
    ),
    (stream_channels, || json!([400, "channel: a stream has at most 2 channels"]), "invalid"),
    (stream_name, || json!([400, "channel: longer than 16 bytes"]), "invalid"),
    (forge_subscriptions, || json!("TOO_MANY_SUBSCRIPTIONS"), "too_many_subscriptions"),
    (
        forge_name,
        || {
            let message = "channel: String must contain at most 16 byte(s)";
            json!({ "message": message, "code": "INVALID_INPUT" })
        },
        "invalid",
    ),
    (forge_payload, || json!("PAYLOAD_TOO_LARGE"), "too_large"),
    (forge_call_name, || json!([400, "name: String must contain at most 16 byte(s)"]), "invalid"),
    (
        forge_call_payload,
        || json!([413, "payload: String must contain at most 64 byte(s)"]),
        "too_large",
    ),
    (m2_subscriptions, || json!({ "error": "Too many subscriptions" }), "too_many_subscriptions"),
    (m2_name, || json!({ "error": "Resource id too long" }), "invalid"),
    (m2_write_data, || json!([413, "data: longer than 64 bytes"]), "too_large"),
];

fn socket_io_refusal(code: &str, message: &str) -> Value {
    json!({ "ok": false, "error": { "code": code, "message": message } })
}

fn long_payload() -> Value {
    let mut refusal = socket_io_refusal("PAYLOAD_TOO_LARGE", "payload: longer than 64 bytes");
    refusal["channel"] = json!("a");
    refusal
}

#[test]
fn exactly_at_a_limit_all_are_served_and_beyond_it_refused() {
    let node = small();
    let mut witness = Socket::connect(node.port(), ANON_KEY);
    witness.subscribe("witness");
    for (number, (run, expected, reason)) in CASES.into_iter().enumerate() {
        let before = refusals(&node, reason);
        assert_eq!(run(&node), expected(), "case {number}");
        assert_eq!(refusals(&node, reason), before + 1.0, "case {number}, {reason}");
        node.publish("witness", "tick", &json!(number));
        assert_eq!(witness.hear_event().parts().1["payload"], number, "others notice nothing");
    }
    let refused = json!([400, "id: the id of a resource has at most 16 bytes"]);
    assert_eq!(m2_write_name(&node), refused);
}

#[test]
fn without_limits_all_is_as_before() {
    let node = Node::start();
    node.create_channel("%");
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    let longest = "n".repeat(512);
    socket.subscribe(&longest);
    let long = "n".repeat(513);
    let refused = command(&mut socket, SUBSCRIBE, &json!({ "channel": long }));
    assert_eq!(refused, socket_io_refusal("INVALID_INPUT", "channel: longer than 512 bytes"));
    let most: Vec<_> =
        (0..100).map(|_| message(&longest, &json!({ "x": "y".repeat(900) }))).collect();
    most.iter().for_each(|one| assert_eq!(command(&mut socket, PUBLISH, one)["ok"], true));
    let large = json!({ "x": "y".repeat(990_000) });
    assert_eq!(rest(&node, &message(&longest, &large))[0], 201);
}

/// Starts a node where a connection may publish five times in a second.
fn rated() -> Node {
    let node = Node::with_env(&[("FANFARE_LIMITS_PUBLISHES_PER_SECOND_PER_CONNECTION", "5")]);
    node.create_channel("%");
    node
}

/// Publishes until that is refused, which must be as late as the rate says. Returns the refusal.
fn exhaust(mut publish: impl FnMut() -> Result<(), Value>) -> Value {
    let began = Instant::now();
    for served in 0.. {
        if let Err(refused) = publish() {
            assert!(served >= 5, "only {served} were served");
            return refused;
        }
        let due = due(5, began);
        assert!(served <= due, "{served} are served, where {due} may be");
    }
    unreachable!("one is refused")
}

fn publish_once(socket: &mut Socket) -> Result<(), Value> {
    let answer = command(socket, PUBLISH, &message("a", &json!(1)));
    if answer["ok"] == true { Ok(()) } else { Err(answer) }
}

#[test]
fn a_connection_that_publishes_too_often_is_refused_and_no_other() {
    let node = rated();
    let sockets =
        [Socket::connect, Socket::connect_polling].map(|open| open(node.port(), ANON_KEY));
    for mut socket in sockets {
        socket.subscribe("a");
        let refused = exhaust(|| publish_once(&mut socket));
        let error = &refused["error"];
        assert_eq!((&error["code"], &refused["channel"]), (&json!("RATE_LIMITED"), &json!("a")));
        assert_eq!(error["message"], "The publish rate of this connection is exceeded");
        // Other commands have no rate.
        (0..20).for_each(|_| socket.subscribe("b"));
        wait_until("it may publish again", || publish_once(&mut socket).is_ok());
    }
    let counted = refusals(&node, "connection_rate");
    assert!(counted >= 2.0);
    let claims = json!({ "sub": "a", "role": "project_admin", "exp": an_hour_from_now() });
    let mut back_end = Socket::connect(node.port(), &sign(&claims));
    back_end.subscribe("a");
    (0..50).for_each(|_| {
        assert_eq!(publish_once(&mut back_end), Ok(()), "administrators have no rate");
    });
    (0..20).for_each(|_| assert_eq!(rest(&node, &message("a", &json!(1)))[0], 201));
    assert_eq!(refusals(&node, "connection_rate"), counted);
    assert_eq!(refusals(&node, "rate_limited"), 0.0, "that is the rate of channels");
}

#[test]
fn a_connection_of_forge_that_publishes_too_often_is_refused_and_no_other() {
    let node = rated();
    let mut listeners = [(); 2].map(|()| forge_listener(&node));
    for listener in &mut listeners {
        let refused = exhaust(|| {
            let answer = listener.ask(json!({ "type": "publish", "channel": "a", "payload": "x" }));
            if answer["type"] == "published" { Ok(()) } else { Err(answer) }
        });
        let limited = "RATE_LIMIT_EXCEEDED";
        assert_eq!(refused["error"], json!({ "message": limited, "code": limited }));
    }
    assert!(refusals(&node, "connection_rate") >= 2.0);
    // Calls over HTTP have the rate of the installation, which is not set.
    (0..20).for_each(|_| assert_eq!(forge_call(&node, "a", 1)[0], 200));
    listeners[0].prove(&sign(&forge::app::place()));
}

#[test]
fn a_node_has_so_many_sessions_on_long_polling() {
    let node = Node::with_env(&[("FANFARE_LIMITS_POLLING_SESSIONS", "3")]);
    let open = || ask(&node, &format!("GET {POLLING}"), &[]);
    let opened = [(); 3].map(|()| open());
    assert!(opened.iter().all(|answer| answer.status == 200));
    let refused = open();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"], "OVERLOADED");
    assert_eq!(
        refused.json()["message"],
        "The node has as many sessions on long-polling as it may have"
    );
    assert_eq!(refusals(&node, "polling_sessions"), 1.0);
    assert_eq!(ask(&node, UPGRADE, &WEBSOCKET).status, 101, "WebSockets have no such limit");
    assert_eq!(ask(&node, HEALTH, &[]).status, 200);
    let first: Value = serde_json::from_str(&opened[0].text()[1..]).expect("it opens");
    let target = format!("POST {POLLING}&sid={}", first["sid"].as_str().expect("it has an id"));
    assert_eq!(send(&mut connect(&node), &target, &[], "1").status, 200, "it closes");
    wait_until("there is a place again", || open().status == 200);
    assert_eq!(open().status, 503);
}
