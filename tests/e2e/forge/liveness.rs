//! Silent clients, stopping nodes, and counts.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::app::{invocation, place, publish};
use super::listener::Listener;
use crate::support::exposition::Exposition;
use crate::support::{Node, wait_until};

const CLOSED: &str = "fanfare_connections_closed_total";

#[test]
fn who_answers_pings_stays_and_who_does_not_is_closed() {
    let node = Node::with_env(&[
        ("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "200"),
        ("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "1500"),
    ]);
    let mut lively = Listener::connect(&node, &place());
    lively.subscribe("room", &json!({}));
    // It does not answer pings while nothing reads from it.
    let mut silent = Listener::connect(&node, &place());
    silent.subscribe("room", &json!({}));
    let pings = lively.answer_pings(Duration::from_millis(2_500));
    assert!(pings >= 2, "{pings}");
    wait_until("the silent one is closed", || {
        lively.answer_pings(Duration::from_millis(50));
        node.scrape().value(CLOSED, &[("reason", "ping_timeout")]) == 1.0
    });
    assert!(silent.hear_text().is_err(), "it learns that it was closed");
    lively.answer_pings(Duration::from_millis(500));
    let body = json!({ "name": "room", "payload": "x" });
    let result = publish(&node, "publish", &invocation(&place()), &body);
    assert_eq!(lively.hear()["eventId"], result["eventId"]);
    assert_eq!(node.scrape().sum(CLOSED), 1.0);
}

#[test]
fn a_node_that_stops_lets_its_clients_go_with_1001() {
    let mut node = Node::with_env(&[("FANFARE_DRAIN_MS", "300")]);
    let mut clients: Vec<_> = (0..3).map(|_| Listener::connect(&node, &place())).collect();
    clients.push(Listener::dial(node.port()));
    for client in &mut clients[..3] {
        client.subscribe("room", &json!({}));
    }
    let body = json!({ "name": "room", "payload": "the last" });
    let result = publish(&node, "publish", &invocation(&place()), &body);
    node.signal(Signal::TERM);
    for (at, client) in clients.iter_mut().enumerate() {
        if at < 3 {
            assert_eq!(client.hear()["eventId"], result["eventId"], "what was accepted is heard");
        }
        assert_eq!(client.hear_text(), Err(Some(1001)));
    }
    assert_eq!(node.exit_status(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn at_rest_every_count_is_what_clients_saw() {
    let node = Node::start();
    let (header, body) = (invocation(&place()), json!({ "name": "room", "payload": "x" }));
    let tell = |count: usize| {
        (0..count).for_each(|_| _ = publish(&node, "publish", &header, &body));
    };
    tell(3);
    let mut listeners: Vec<_> = (0..4).map(|_| Listener::connect(&node, &place())).collect();
    for (at, listener) in listeners.iter_mut().enumerate() {
        // The last client subscribes to the global channel instead.
        listener.subscribe("room", &json!({ "global": at == 3 }));
    }
    tell(5);
    for _ in 0..2 {
        let answer =
            listeners[3].ask(json!({ "type": "publish", "channel": "room", "payload": "y" }));
        assert!(answer["eventId"].is_string(), "{answer}");
        let answer =
            listeners[3].ask(json!({ "type": "publish", "channel": "other", "payload": "y" }));
        assert!(answer["eventId"].is_null(), "{answer}");
    }
    for listener in &mut listeners[..3] {
        (0..7).for_each(|_| _ = listener.hear());
    }
    let forge = [("api", "forge"), ("transport", "websocket")];
    settle(&node, |now| {
        now.value("fanfare_connections", &forge) == 4.0
            && now.sum("fanfare_connections") == 4.0
            && now.value("fanfare_subscriptions", &[("api", "forge")]) == 4.0
            && are_published(now, 5.0, 2.0, 3.0 + 2.0)
            && are_delivered(now, 3.0 * 7.0)
    });
    drop(listeners.remove(0));
    listeners[0].say_text("nonsense");
    listeners[0].hear();
    settle(&node, |now| {
        now.value("fanfare_connections", &forge) == 3.0
            && now.value("fanfare_subscriptions", &[("api", "forge")]) == 3.0
            && now.value("fanfare_refusals_total", &[("reason", "invalid")]) == 1.0
            && now.sum("fanfare_refusals_total") == 1.0
    });
    tell(1);
    listeners[..2].iter_mut().for_each(|listener| _ = listener.hear());
    drop(listeners);
    settle(&node, |now| {
        now.sum("fanfare_connections") == 0.0
            && now.sum("fanfare_subscriptions") == 0.0
            && now.plain("fanfare_connections_opened_total") == 4.0
            && now.sum(CLOSED) == 4.0
            && are_published(now, 6.0, 2.0, 5.0)
            && are_delivered(now, 3.0 * 7.0 + 2.0)
    });
}

fn are_published(now: &Exposition, http: f64, sockets: f64, unheard: f64) -> bool {
    let published = |source| [("api", "forge"), ("source", source)];
    now.value("fanfare_publications_total", &published("http")) == http
        && now.value("fanfare_publications_total", &published("socket")) == sockets
        && now.sum("fanfare_publications_total") == http + sockets
        && now.plain("fanfare_events_unheard_total") == unheard
}

fn are_delivered(now: &Exposition, delivered: f64) -> bool {
    now.plain("fanfare_deliveries_matched_total") == delivered
        && now.plain("fanfare_deliveries_total") == delivered
        && now.sum("fanfare_deliveries_dropped_total") == 0.0
        && now.plain("fanfare_deliveries_queued") == 0.0
}

/// Checks counts until they are right. Workers count in their own time and notice closed sockets
/// late, so all must be right at one moment, and still be a moment later.
fn settle(node: &Node, is_so: impl Fn(&Exposition) -> bool) {
    wait_until("every count is right", || is_so(&node.scrape()));
    let now = node.scrape();
    assert!(is_so(&now), "it stays so: {now:?}");
}
