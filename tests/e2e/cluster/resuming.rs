//! Subscribers that ask a node for what was published before it heard their channel.

use serde_json::{Value, json};

use super::fleet::{Fleet, PATIENT};
use crate::events::resuming::{CHANNELS, cut_while_writing, has_gap, numbers, read_to};
use crate::events::stream::Stream;
use crate::forge::app::{invocation, place, publish};
use crate::forge::listener::Listener;
use crate::socket::Socket;
use crate::support::{ANON_KEY, Node};

/// Recovery for longer than a test.
const RECOVERING: &[(&str, &str)] = &[("FANFARE_RECOVERY_WINDOW_MS", "600000")];

fn tick(node: &Node, number: u64) {
    node.publish("orders", "tick", &json!({ "n": number }));
}

/// Opens a stream of `orders` on a node, publishes message 1 to it, and cuts it there. Returns the
/// stream's position.
fn cut_behind_one(node: &Node) -> String {
    let mut stream = Stream::open(node, &["orders"], ANON_KEY);
    stream.begin(1);
    tick(node, 1);
    assert_eq!(numbers(&read_to(&mut stream, 1)), [1]);
    stream.cut()
}

#[test]
fn a_stream_goes_on_at_another_node_behind_its_last_event() {
    let fleet = Fleet::with(3, RECOVERING);
    fleet.define(&json!({ "pattern": "orders" }));
    let [first, second, third] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    // A node that hears the channel for a socket, and since it did has kept nothing.
    let mut socket = Socket::connect(third.port(), ANON_KEY);
    socket.subscribe("orders");
    let last = cut_behind_one(first);
    tick(third, 2);
    tick(first, 3);
    for node in [second, third] {
        let mut again = Stream::resume(node, &["orders"], ANON_KEY, &last);
        let heard = read_to(&mut again, 3);
        assert_eq!((numbers(&heard), has_gap(&heard)), (vec![2, 3], false));
        // A second one finds what the first one needed.
        let mut other = Stream::resume(node, &["orders"], ANON_KEY, &last);
        assert_eq!(numbers(&read_to(&mut other, 3)), [2, 3]);
    }
}

#[test]
fn a_stream_that_began_anew_has_not_all_but_a_later_one_may_resume() {
    let fleet = Fleet::with(2, RECOVERING);
    fleet.define(&json!({ "pattern": "orders" }));
    let [here, there] = [&fleet.nodes[0], &fleet.nodes[1]];
    let last = cut_behind_one(here);
    tick(here, 2);
    let mut anew = Stream::open(there, &["orders"], ANON_KEY);
    anew.begin(1);
    tick(here, 3);
    assert_eq!(numbers(&read_to(&mut anew, 3)), [3], "it asked for nothing earlier");
    let mut again = Stream::resume(there, &["orders"], ANON_KEY, &last);
    let heard = read_to(&mut again, 3);
    assert_eq!((numbers(&heard), has_gap(&heard)), (vec![2, 3], false));
}

#[test]
fn a_position_that_the_stream_does_not_have_is_told_as_a_gap() {
    let fleet = Fleet::with(2, RECOVERING);
    fleet.define(&json!({ "pattern": "orders" }));
    let last = cut_behind_one(&fleet.nodes[0]);
    let mut forged = last.clone();
    forged.replace_range(12..16, "AAAA");
    let mut stream = Stream::resume(&fleet.nodes[1], &["orders"], ANON_KEY, &forged);
    let mut heard = stream.begin(1);
    tick(&fleet.nodes[0], 2);
    heard.extend(read_to(&mut stream, 2));
    assert_eq!((numbers(&heard), has_gap(&heard)), (vec![2], true));
}

#[test]
fn nothing_is_lost_or_doubled_over_two_hundred_cuts_between_nodes() {
    let fleet = Fleet::with(3, RECOVERING);
    for channel in CHANNELS {
        fleet.define(&json!({ "pattern": channel }));
    }
    // The position in a channel without messages is that of one node.
    for channel in CHANNELS {
        fleet.nodes[0].publish(channel, "hello", &json!({}));
    }
    let nodes: Vec<_> = fleet.nodes.iter().collect();
    cut_while_writing(&nodes, &CHANNELS);
}

#[test]
fn a_node_replays_what_it_has_not_heard() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": "orders", "replaySeconds": 60, "presence": "off" }));
    let [here, there] = [&fleet.nodes[0], &fleet.nodes[1]];
    (1..=3).for_each(|number| tick(here, number));
    let mut socket = Socket::connect(there.port(), ANON_KEY);
    socket.subscribe("orders");
    assert_eq!([1, 2, 3].map(|_| payload(&mut socket)["n"].clone()), [1, 2, 3]);
    tick(here, 4);
    assert_eq!(payload(&mut socket)["n"], 4);
}

fn payload(socket: &mut Socket) -> Value {
    socket.hear_event().parts().1["payload"].clone()
}

#[test]
fn a_listener_of_forge_goes_on_at_another_node() {
    let envs = [PATIENT, &[("FANFARE_FORGE_REPLAY_SECONDS", "60")]].concat();
    let fleet = Fleet::with(2, Box::leak(envs.into()));
    let [here, there] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut first = Listener::connect(here, &place());
    first.subscribe("room", &Value::Null);
    let events = [1, 2, 3].map(|number| {
        let body = json!({ "name": "room", "payload": number.to_string() });
        publish(there, "publish", &invocation(&place()), &body);
        first.hear()["eventId"].clone()
    });
    let mut second = Listener::connect(there, &place());
    let options = json!({ "replaySeconds": 60, "after": events[0] });
    second.subscribe("room", &json!({ "options": options }));
    assert_eq!([second.hear(), second.hear()].map(|one| one["eventId"].clone()), events[1..]);
}
