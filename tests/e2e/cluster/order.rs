//! One order on all nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Fleet, try_publish};
use crate::events::stream::Stream;
use crate::member::Member;
use crate::order::Ending;
use crate::publisher::{Caller, Report};
use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::{ANON_KEY, Node, user_token};
use crate::witness::{END, Order, Witness};

const CHANNEL: &str = "race";
/// How long publishers publish.
const RACE: Duration = Duration::from_secs(2);

/// Publishes over HTTP until the race is over.
fn call(port: u16, number: u64, is_over: &AtomicBool) -> Report {
    let mut caller = Caller::new(port, CHANNEL, number);
    while !is_over.load(Ordering::Relaxed) {
        caller.publish(4);
    }
    caller.report
}

/// Publishes from a subscribed socket until the race is over.
fn speak(port: u16, number: u64, is_over: &AtomicBool) -> Report {
    let mut member = Member::connect(port, CHANNEL, ANON_KEY, number);
    member.enter();
    while !is_over.load(Ordering::Relaxed) {
        member.publish(4);
        member.listen(usize::MAX, Duration::from_millis(5));
    }
    member.leave();
    member.report
}

#[test]
fn all_nodes_hear_one_order() {
    let fleet = Fleet::start(3);
    fleet.define(&json!({ "pattern": CHANNEL, "presence": "off" }));
    let token = user_token("witness");
    let ports: Vec<_> = fleet.nodes.iter().map(Node::port).collect();
    let mut witnesses: Vec<_> =
        ports.iter().map(|port| Witness::subscribe(*port, CHANNEL, &token)).collect();
    let is_over = AtomicBool::new(false);
    let (heard, reports) = thread::scope(|scope| {
        let witnesses: Vec<_> =
            witnesses.iter_mut().map(|one| scope.spawn(|| one.listen())).collect();
        let ending = Ending(&is_over);
        let is_over = &is_over;
        let each = ports.iter().zip((0..).step_by(10));
        let publishers: Vec<_> = each
            .flat_map(|(&port, number)| {
                [
                    scope.spawn(move || call(port, number, is_over)),
                    scope.spawn(move || speak(port, number + 1, is_over)),
                ]
            })
            .collect();
        thread::sleep(RACE);
        drop(ending);
        let mut reports: Vec<_> =
            publishers.into_iter().map(|one| one.join().expect("it ends")).collect();
        // Nobody's coming is announced on this channel.
        let stays = reports.iter_mut().flat_map(|report| &mut report.stays);
        stays.for_each(|stay| stay.announced = None);
        fleet.nodes[0].publish(CHANNEL, END, &json!({}));
        let heard: Vec<_> = witnesses.into_iter().map(|one| one.join().expect("it ends")).collect();
        (heard, reports)
    });
    let orders: Vec<_> = heard.iter().map(|events| Order::of(events)).collect();
    for order in &orders {
        assert_eq!(order.ids(), orders[0].ids());
        order.check(&reports);
    }
    let publications = orders[0].publications();
    assert!(publications > 100, "{publications} publications");
}

#[test]
fn subscribers_of_every_kind_hear_other_nodes() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders" }));
    let [first, second] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut socket = Socket::connect(second.port(), ANON_KEY);
    socket.subscribe("orders");
    let mut polling = Socket::connect_polling(second.port(), ANON_KEY);
    polling.subscribe("orders");
    let mut stream = Stream::open(second, &["orders"], ANON_KEY);
    stream.begin(1);
    let (status, receipt) = try_publish(first, "orders", &json!({ "n": 1 }));
    assert_eq!(status, 201, "{receipt}");
    let audience = json!({ "total": 3, "websocket": 1, "polling": 1, "sse": 1, "nodes": 1 });
    assert_eq!(receipt["audience"], audience);
    let id = receipt["messageId"].as_str().expect("an id");
    for socket in [&mut socket, &mut polling] {
        let heard = loop {
            match socket.hear() {
                Heard::Event(event) if event.is_named("tick") => break event,
                Heard::Event(_) => {}
                heard => panic!("unexpected: {heard:?}"),
            }
        };
        assert_eq!(heard.id.to_string(), id);
    }
    let event = loop {
        let event = stream.hear();
        if event.name == "tick" {
            break event;
        }
    };
    assert_eq!(event.data["messageId"], id);
}

/// The documented example does not wait for the answer to its subscribe.
#[test]
fn a_client_hears_what_it_publishes_right_behind_its_subscribe() {
    let fleet = Fleet::start(1);
    fleet.define(&json!({ "pattern": "room:*", "presence": "off" }));
    let port = fleet.nodes[0].port();
    let mut sockets = [Socket::connect(port, ANON_KEY), Socket::connect_polling(port, ANON_KEY)];
    for round in 0..100 {
        let socket = &mut sockets[round % 2];
        let channel = format!("room:{round}");
        let asked = socket.ask(SUBSCRIBE, &json!({ "channel": channel }));
        let publication = json!({ "channel": channel, "event": "tick", "payload": round });
        let published = socket.ask("REALTIME_PUBLISH", &publication);
        socket.flush();
        let (mut id, mut heard, mut is_subscribed) = (Value::Null, Value::Null, false);
        while id.is_null() || heard.is_null() {
            match socket.hear() {
                Heard::Ack(number, answer) if number == asked => {
                    assert_eq!(answer["ok"], true, "{answer}");
                    is_subscribed = true;
                }
                Heard::Ack(number, answer) if number == published => {
                    id = answer["messageId"].clone();
                }
                Heard::Event(event) if is_subscribed => heard = json!(event.id.to_string()),
                heard => panic!("round {round}, unexpected: {heard:?}"),
            }
        }
        assert_eq!(heard, id, "round {round}");
    }
}

#[test]
fn a_local_channel_is_heard_on_its_own_node_only() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "here", "order": "local", "presence": "off" }));
    fleet.define(&json!({ "pattern": "everywhere", "presence": "off" }));
    let mut sockets: Vec<_> =
        fleet.nodes.iter().map(|node| Socket::connect(node.port(), ANON_KEY)).collect();
    for socket in &mut sockets {
        socket.subscribe("here");
        socket.subscribe("everywhere");
    }
    let receipt = fleet.nodes[0].publish("here", "tick", &json!({}));
    let audience = json!({ "total": 1, "websocket": 1, "polling": 0, "sse": 0 });
    assert_eq!(receipt["audience"], audience);
    let last = fleet.nodes[0].publish("everywhere", "tick", &json!({}));
    let expected = [vec![&receipt, &last], vec![&last]];
    for (socket, expected) in sockets.iter_mut().zip(expected) {
        for one in expected {
            let Heard::Event(event) = socket.hear() else { panic!("an event") };
            assert_eq!(event.id.to_string(), one["messageId"].as_str().expect("an id"));
        }
    }
}
