//! Behaviour at the limits: a full mailbox, and clients that do not read.

use std::net::Ipv4Addr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::app::{PROXY, invocation, place, publish};
use super::listener::Listener;
use crate::overload::narrow;
use crate::support::{Node, sign, wait_until};
use crate::tcp::{Tcp, request};

/// Bytes of an event, and the number of events that fill an outbox.
const BULK: usize = 200 * 1024;
const BULKS: usize = 160;

fn with(envs: &'static [(&str, &str)]) -> Node {
    Node::with(move |command: &mut Command| {
        command.args(["--workers", "1"]).envs(envs.iter().copied());
    })
}

/// Publishes numbered events until the outbox of a client that does not read is full. Returns a
/// client that reads, and that one.
fn fill(node: &Node) -> (Listener, Listener) {
    let mut reader = Listener::connect(node, &place());
    let mut idle = Listener::dial_over(narrow(node.port()), &[]).expect("it is let in");
    idle.prove(&sign(&place()));
    let topics = [&mut reader, &mut idle].map(|one| one.subscribe("room", &json!({})));
    assert_eq!(topics[0], topics[1]);
    let (header, bulk) = (invocation(&place()), "x".repeat(BULK));
    for number in 0..BULKS {
        let body = json!({ "name": "room", "payload": format!("{number} {bulk}") });
        let result = publish(node, "publish", &header, &body);
        assert_eq!(reader.hear()["eventId"], result["eventId"], "who reads misses nothing");
    }
    (reader, idle)
}

fn number(event: &Value) -> usize {
    let payload = event["payload"].as_str().expect("a payload is text");
    payload.split(' ').next().and_then(|number| number.parse().ok()).expect("it has a number")
}

#[test]
fn who_does_not_read_loses_the_oldest_events_and_is_told_so() {
    let node = with(&[("FANFARE_FORGE_SLOW_CONSUMER", "drop_oldest")]);
    let (mut reader, mut idle) = fill(&node);
    let topic = reader.subscribe("room", &json!({}));
    let (mut heard, mut gaps) = (Vec::new(), Vec::new());
    while heard.last() != Some(&(BULKS - 1)) {
        let said = idle.hear();
        if said["type"] == "event" {
            heard.push(number(&said));
            continue;
        }
        let message = said["error"]["message"].as_str().unwrap_or_default();
        let error = json!({ "message": message, "code": "GAP" });
        assert_eq!(said, json!({ "type": "subscription_error", "topic": topic, "error": error }));
        assert!(!message.is_empty());
        gaps.push(heard.len());
    }
    assert!(heard.is_sorted_by(|one, next| one < next), "{heard:?}");
    assert!(heard.len() < BULKS && !gaps.is_empty(), "{} {gaps:?}", heard.len());
    // There is a notice in every place where events are missing, and in no other.
    let missing = |at: usize| heard[at] != at.checked_sub(1).map_or(0, |before| heard[before] + 1);
    let holes: Vec<_> = (0..heard.len()).filter(|at| missing(*at)).collect();
    assert_eq!(gaps, holes, "{heard:?}");
    let body = json!({ "name": "room", "payload": format!("{BULKS} ") });
    publish(&node, "publish", &invocation(&place()), &body);
    for listener in [&mut reader, &mut idle] {
        assert_eq!(number(&listener.hear()), BULKS, "both are there still");
    }
    let lost = (BULKS - heard.len()) as f64;
    let total = (2 * BULKS + 2) as f64;
    wait_until("all is counted", || {
        let now = node.scrape();
        let dropped = [("reason", "drop_oldest")];
        now.plain("fanfare_deliveries_matched_total") == total
            && now.plain("fanfare_deliveries_total") == total - lost
            && now.value("fanfare_deliveries_dropped_total", &dropped) == lost
            && now.plain("fanfare_deliveries_queued") == 0.0
            && now.plain("fanfare_gaps_total") == gaps.len() as f64
    });
}

#[test]
fn who_does_not_read_is_closed_where_nothing_else_was_wished() {
    let node = with(&[]);
    let (_reader, mut idle) = fill(&node);
    let mut heard = Vec::new();
    while let Ok(text) = idle.hear_text() {
        heard.push(number(&serde_json::from_str(&text).expect("it is JSON")));
    }
    assert!(heard.len() < BULKS && heard.iter().copied().eq(0..heard.len()), "{heard:?}");
    let now = node.scrape();
    let closed = [("reason", "slow_consumer")];
    assert_eq!(now.value("fanfare_connections_closed_total", &closed), 1.0);
    let matched = now.plain("fanfare_deliveries_matched_total");
    let delivered = now.plain("fanfare_deliveries_total");
    assert_eq!(matched, delivered + now.sum("fanfare_deliveries_dropped_total"));
}

/// While the node is stopped, requests accumulate and are then read in one turn. The mailbox has
/// room for only one.
#[test]
fn what_a_mailbox_has_no_room_for_is_refused_whole() {
    const CALLERS: usize = 20;
    let node = with(&[("FANFARE_MAILBOX_PUBLICATIONS", "1")]);
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({}));
    let mut publisher = Listener::connect(&node, &place());
    let (header, body) = (invocation(&place()), json!({ "name": "room", "payload": "x" }));
    let path = "POST /forge/realtime/v1/publish HTTP/1.1";
    let call = request(&[path, &format!("{PROXY}: {header}")], body.to_string());
    let mut callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
            tcp.send(request(&["HEAD /forge/realtime/v1/client.js HTTP/1.1"], ""));
            assert_eq!(tcp.response_to("HEAD").status, 200);
            tcp
        })
        .collect();

    node.signal(Signal::STOP);
    callers.iter_mut().for_each(|tcp| assert!(tcp.send(&call)));
    let message = json!({ "type": "publish", "channel": "room", "payload": "x" });
    let asked: Vec<_> = (0..CALLERS).map(|_| publisher.say(message.clone())).collect();
    node.signal(Signal::CONT);

    let (mut accepted, mut refused) = (Vec::new(), [0, 0]);
    for tcp in &mut callers {
        let response = tcp.response();
        let (status, result) = (response.status, response.json());
        if status == 200 {
            accepted.push(result["eventId"].clone());
            continue;
        }
        let error = &result["errors"][0];
        assert_eq!((status, response.header("retry-after")), (503, Some("1")), "{result}");
        assert_eq!(error["message"], "Error publishing event to channel", "{result}");
        assert_eq!((&error["status"], &result["eventId"]), (&json!(503), &Value::Null));
        assert_eq!(response.header("forge-proxy-error"), None);
        refused[0] += 1;
    }
    for id in asked {
        let answer = publisher.hear();
        assert_eq!(answer["id"], id);
        if answer["type"] == "published" {
            accepted.push(answer["eventId"].clone());
            continue;
        }
        assert_eq!(answer["error"]["code"], "OVERLOADED", "{answer}");
        refused[1] += 1;
    }
    assert!(refused.iter().all(|count| *count > 0) && accepted.len() > 1, "{refused:?}");
    let mut heard: Vec<_> = accepted.iter().map(|_| listener.hear()["eventId"].clone()).collect();
    listener.hear_nothing();
    for list in [&mut heard, &mut accepted] {
        list.sort_by_key(Value::to_string);
    }
    assert_eq!(heard, accepted, "what was refused was heard by nobody");
    let overloaded = "fanfare_refusals_total{reason=\"overloaded\"}";
    assert_eq!(node.metric(overloaded), refused.iter().sum::<u64>());
}
