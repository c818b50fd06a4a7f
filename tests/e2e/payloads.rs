//! Payloads of all lengths arrive byte for byte, whether they are slices of what was received or
//! copies, and small ones keep no large buffer alive.

use serde_json::{Value, json};

use crate::ear::{CHANNEL, TICK};
use crate::forge::app as forge;
use crate::forge::listener::Listener as ForgeListener;
use crate::m2::app as m2;
use crate::m2::listener::Listener as M2Listener;
use crate::socket::{Heard, Socket};
use crate::support::target::{Reaction, Target};
use crate::support::{ANON_KEY, API_KEY, Node, wait_until};

const SECRET: &str = "whsec_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Short; a slice of a request that arrives at once; longer than one read; many reads.
const LENGTHS: [usize; 4] = [50, 6_000, 40_000, 400_000];

/// Returns an object of about so many bytes that would change if it were parsed and written again.
fn payload(length: usize) -> String {
    let text = r#"\u00e9\/ é😀 "#.repeat(length / 20);
    format!(r#"{{ "b" : 1.0 , "a":[ 1e400,-0 ],"text":"{text}" }}"#)
}

fn publish(node: &Node, payload: &str, more: &str) {
    let body = format!(r#"{{{more}"channel":"{CHANNEL}","event":"{TICK}","payload": {payload} }}"#);
    let headers = [("x-api-key", API_KEY)];
    let answer = node.request("POST", "/api/realtime/messages", &headers, body.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn hear(socket: &mut Socket) -> String {
    loop {
        if let Heard::Event(event) = socket.hear()
            && event.is_named(TICK)
        {
            return event.text().to_owned();
        }
    }
}

fn start() -> (Node, Target) {
    let node = Node::with_env(&[
        ("FANFARE_WEBHOOKS_SECRET", SECRET),
        ("FANFARE_WEBHOOKS_ALLOW_PRIVATE", "true"),
    ]);
    let target = Target::always(Reaction::Status(200));
    let definition =
        json!({ "pattern": CHANNEL, "webhookUrls": [target.url()], "replaySeconds": 600 });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &definition).0, 201);
    (node, target)
}

#[test]
fn they_reach_subscribers_webhooks_history_and_later_subscribers_unchanged() {
    let (node, target) = start();
    let mut early = Socket::connect(node.port(), ANON_KEY);
    early.subscribe(CHANNEL);
    for length in LENGTHS {
        let payload = payload(length);
        publish(&node, &payload, "");
        assert!(hear(&mut early).contains(&payload), "{length}");
        assert!(target.next().body == payload.as_bytes(), "{length}");
    }
    let kept = node.share_database();
    let mut query = kept.prepare("SELECT payload FROM messages ORDER BY position").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let texts: Vec<_> = rows.map(Result::unwrap).collect();
    assert!(texts == LENGTHS.map(payload), "history has them as they were sent");

    let mut late = Socket::connect(node.port(), ANON_KEY);
    late.subscribe(CHANNEL);
    for length in LENGTHS {
        assert!(hear(&mut late).contains(&payload(length)), "{length}");
    }
    assert_eq!(node.metric("fanfare_payloads_total{kept=\"slice\"}"), 3);
    assert_eq!(node.metric("fanfare_payloads_total{kept=\"copy\"}"), 1);
}

#[test]
fn those_of_sockets_reach_subscribers_unchanged() {
    let (node, target) = start();
    let [mut websocket, mut polling] =
        [Socket::connect(node.port(), ANON_KEY), Socket::connect_polling(node.port(), ANON_KEY)];
    for socket in [&mut websocket, &mut polling] {
        socket.subscribe(CHANNEL);
    }
    for length in LENGTHS {
        for publishes_by_polling in [false, true] {
            let payload = json!({ "text": "é😀\n".repeat(length / 9), "n": length });
            let argument = json!({ "channel": CHANNEL, "event": TICK, "payload": payload });
            let publisher = if publishes_by_polling { &mut polling } else { &mut websocket };
            publisher.ask("REALTIME_PUBLISH", &argument);
            publisher.flush();
            let text = payload.to_string();
            assert!(hear(&mut websocket).contains(&text), "{length} {publishes_by_polling}");
            assert!(hear(&mut polling).contains(&text), "{length} {publishes_by_polling}");
            assert!(target.next().body == text.as_bytes(), "{length} {publishes_by_polling}");
        }
    }
    assert!(node.metric("fanfare_payloads_total{kept=\"slice\"}") >= 2, "the longest");
}

#[test]
fn those_of_forge_and_m2_arrive_unchanged() {
    let node = Node::start();
    let mut listener = ForgeListener::connect(&node, &forge::place());
    listener.subscribe("room", &json!({}));
    let token = forge::invocation(&forge::place());
    for length in [50, 6_000, 20_000] {
        let payload = format!(r#""{}""#, r#"\u00e9\/ é😀 "#.repeat(length / 20));
        let body = format!(r#"{{"payload": {payload} ,"name":"room"}}"#);
        let answer = forge::raw_call(&node, "publish", &[(forge::PROXY, &token)], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let heard = listener.hear_text().expect("it stays open");
        assert!(heard.contains(&format!(r#""payload":{payload}"#)), "{length}");
        let message =
            format!(r#"{{"type":"publish","id":7,"channel":"room","payload": {payload}}}"#);
        listener.say_text(&message);
        let heard = [(); 2].map(|()| listener.hear_text().expect("it stays open"));
        let payload = format!(r#""payload":{payload}"#);
        assert!(heard.iter().any(|text| text.contains(&payload)), "{length}");
    }

    let mut listener = M2Listener::connect(&node, &m2::service(m2::place()));
    for (id, length) in ["a", "b", "c", "d"].into_iter().zip(LENGTHS) {
        let data = payload(length);
        listener.subscribe_early("liveConfig", id);
        m2::put_text(&node, &m2::place(), ("liveConfig", id), &format!(r#"{{"data": {data} }}"#));
        assert!(listener.hear().contains(&data), "{length}");
        let path = m2::path("liveConfig", id);
        let found = m2::call(&node, ("GET", &path), &m2::service(m2::place()), "");
        assert!(found.text().contains(&data), "{length}");
    }
}

#[test]
fn a_small_payload_keeps_no_large_buffer_alive() {
    let (node, _target) = start();
    let mut early = Socket::connect(node.port(), ANON_KEY);
    early.subscribe(CHANNEL);
    let held = || node.metric("fanfare_payload_buffer_bytes");
    let padding = format!(r#""x":"{}","#, "x".repeat(400_000));
    for length in [50, 6_000, 100_000] {
        publish(&node, &payload(length), &padding);
        hear(&mut early);
    }
    assert_eq!(held(), 0, "they are copied out of their requests");
    let large = payload(300_000);
    publish(&node, &large, "");
    hear(&mut early);
    let large = large.len() as u64;
    assert!((large..=2 * large).contains(&held()), "{} for {large}", held());
    // It lies in the window. As it leaves, so does its buffer.
    for _ in 0..4 {
        publish(&node, &payload(300_000), "");
        hear(&mut early);
    }
    let window = 1024 * 1024;
    wait_until("what left the window is freed", || held() <= 2 * window);
    let copies: Value = json!(node.metric("fanfare_payloads_total{kept=\"copy\"}"));
    assert_eq!(copies, 3);
}
