//! Nodes that stop while they have told the others only a part of what they know of a session.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::order::Ending;
use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::nats::Nats;
use crate::support::proxy::{Proxy, Way};
use crate::support::{Node, user_token, wait_until};

/// How long a word to NATS is under way, and its answer as well.
const DELAY: Duration = Duration::from_millis(300);
const STOP: Duration = Duration::from_secs(30);
const SHARED: &str = "fanfare_cluster_sessions_total{outcome=\"shared\"}";

/// Two nodes, of which the first reaches NATS through a proxy.
struct Scene {
    fleet: Fleet,
    way: Proxy,
}

impl Scene {
    fn start() -> Self {
        let nats = Nats::one();
        let way = Proxy::to(nats.port());
        let port = way.port();
        let fleet = Fleet::over(nats, 2, move |at, command| {
            command.env("FANFARE_RECOVERY_WINDOW_MS", "120000");
            command.env("FANFARE_CLUSTER_AUDIENCE_MS", "1000");
            if at == 0 {
                command.env("FANFARE_CLUSTER_NATS", format!("nats://127.0.0.1:{port}"));
            }
        });
        for channel in ["a", "b"] {
            fleet.define(&json!({ "pattern": channel, "presence": "off" }));
        }
        Self { fleet, way }
    }

    fn slow_down(&self) {
        self.way.delay(Way::ToServer, DELAY);
        self.way.delay(Way::ToClient, DELAY);
    }

    fn ends(&mut self) {
        let status = self.fleet.nodes[0].exit_status(STOP);
        assert!(status.success(), "{status}");
    }

    /// Publishes at the other node, and checks that the client resumes there and receives it.
    fn goes_on(&self, socket: &Socket) {
        let other = &self.fleet.nodes[1];
        other.publish("a", "tick", &json!({ "n": 2 }));
        let (mut again, is_resumed) = Socket::come_back(other.port(), &socket.came());
        assert!(is_resumed, "the client is recovered");
        assert_eq!(number(&mut again), 2);
    }
}

/// Returns the number of the next publication.
fn number(socket: &mut Socket) -> u64 {
    let event = socket.hear_event();
    let parts: Vec<Value> = serde_json::from_str(&event.text()[2..]).expect("it is JSON");
    parts[1]["payload"]["n"].as_u64().expect("a number")
}

/// Connects to a node, and returns when the other nodes know that the client hears these channels,
/// and the client has received a publication on `a`.
fn subscriber(node: &Node, channels: &[&str]) -> Socket {
    let before = node.metric(SHARED);
    let mut socket = Socket::connect(node.port(), &user_token("alice"));
    channels.iter().for_each(|channel| socket.subscribe(channel));
    node.publish("a", "tick", &json!({ "n": 1 }));
    assert_eq!(number(&mut socket), 1);
    wait_until("the session is shared", || node.metric(SHARED) > before);
    socket
}

/// Asks to subscribe to `b`. Of that the other nodes must hear first.
fn begin_to_change(node: &Node, socket: &mut Socket) {
    socket.ask(SUBSCRIBE, &json!({ "channel": "b" }));
    socket.flush();
    wait_until("the word is under way", || node.metric("fanfare_commands_waiting") == 1);
}

#[test]
fn a_client_of_a_node_that_stops_while_it_says_that_the_session_changes_goes_on() {
    let mut scene = Scene::start();
    let mut socket = subscriber(&scene.fleet.nodes[0], &["a"]);
    scene.slow_down();
    begin_to_change(&scene.fleet.nodes[0], &mut socket);
    scene.fleet.nodes[0].signal(Signal::TERM);
    match socket.hear() {
        // The node that stops lets no client subscribe.
        Heard::Ack(_, answer) if answer["ok"] == false => {
            assert!(matches!(socket.hear(), Heard::End));
        }
        Heard::End => {}
        heard => panic!("unexpected: {heard:?}"),
    }
    scene.goes_on(&socket);
    scene.ends();
}

#[test]
fn a_client_that_is_cut_off_a_node_that_stops_then_goes_on() {
    let mut scene = Scene::start();
    let mut socket = subscriber(&scene.fleet.nodes[0], &["a"]);
    scene.slow_down();
    begin_to_change(&scene.fleet.nodes[0], &mut socket);
    let came = socket.came();
    drop(socket);
    let node = &scene.fleet.nodes[0];
    wait_until("its connection has ended", || node.metric("fanfare_commands_waiting") == 0);
    node.signal(Signal::TERM);
    scene.ends();
    let other = &scene.fleet.nodes[1];
    other.publish("a", "tick", &json!({ "n": 2 }));
    let (mut again, is_resumed) = Socket::come_back(other.port(), &came);
    assert!(is_resumed, "the client is recovered");
    assert_eq!(number(&mut again), 2);
}

#[test]
fn what_a_client_ends_while_its_node_stops_has_ended() {
    let mut scene = Scene::start();
    let mut socket = subscriber(&scene.fleet.nodes[0], &["a", "b"]);
    scene.slow_down();
    let asked = socket.ask("realtime:unsubscribe", &json!({ "channel": "b" }));
    socket.flush();
    let node = &scene.fleet.nodes[0];
    wait_until("the word is under way", || node.metric("fanfare_commands_waiting") == 1);
    node.signal(Signal::TERM);
    let is_done = matches!(socket.hear(), Heard::Ack(number, _) if number == asked);
    scene.fleet.nodes[1].publish("b", "tick", &json!({ "n": 0 }));
    if is_done {
        scene.goes_on(&socket);
    }
    scene.ends();
}

/// Channels that each client hears, clients, and publishers that share the channels.
const CHANNELS: usize = 64;
const CLIENTS: usize = 16;
const PUBLISHERS: usize = 4;

/// Publishes numbers on a part of the channels until told to stop, and once more on each. Returns
/// the last numbers.
fn publish(node: &Node, part: usize, is_over: &AtomicBool) -> Vec<(String, u64)> {
    let channels = (part..CHANNELS).step_by(PUBLISHERS);
    let mut last: Vec<_> = channels.map(|number| (format!("many:{number}"), 0)).collect();
    loop {
        let is_last = is_over.load(SeqCst);
        for (channel, number) in &mut last {
            *number += 1;
            node.publish(channel, "tick", &json!({ "n": *number }));
        }
        if is_last {
            return last;
        }
    }
}

/// What a client has heard last on each channel, and what is missing or doubled.
#[derive(Default)]
struct Record {
    last: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl Record {
    fn note(&mut self, text: &str) {
        let parts: Vec<Value> = serde_json::from_str(&text[2..]).expect("it is JSON");
        let channel = parts[1]["channel"].as_str().expect("a channel").to_owned();
        let number = parts[1]["payload"]["n"].as_u64().expect("a number");
        if let Some(before) = self.last.insert(channel.clone(), number)
            && before + 1 != number
        {
            self.faults.push(format!("{number} behind {before} on {channel}"));
        }
    }
}

#[test]
fn clients_of_many_channels_miss_nothing_when_their_node_stops() {
    const ENVS: &[(&str, &str)] =
        &[("FANFARE_RECOVERY_WINDOW_MS", "120000"), ("FANFARE_DRAIN_MS", "200")];
    let fleet = Fleet::with(2, ENVS);
    fleet.define(&json!({ "pattern": "many:*", "presence": "off" }));
    let [stopping, other] = [&fleet.nodes[0], &fleet.nodes[1]];
    let sockets = (0..CLIENTS).map(|_| {
        let mut socket = Socket::connect(stopping.port(), &user_token("alice"));
        (0..CHANNELS).for_each(|number| socket.subscribe(&format!("many:{number}")));
        (socket, Record::default())
    });
    let mut clients: Vec<_> = sockets.collect();
    let known = || stopping.metric(SHARED) >= CLIENTS as u64;
    wait_until("the sessions are shared", known);
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = Ending(is_over);
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|part| scope.spawn(move || publish(other, part, is_over)))
            .collect();
        let ready: Vec<_> = clients.iter_mut().map(|(socket, _)| socket.hear_event()).collect();
        clients.iter_mut().zip(ready).for_each(|((_, heard), event)| heard.note(event.text()));
        stopping.signal(Signal::TERM);
        for (socket, heard) in &mut clients {
            loop {
                match socket.hear() {
                    Heard::Event(event) => heard.note(event.text()),
                    Heard::End => break,
                    heard => panic!("unexpected: {heard:?}"),
                }
            }
        }
        drop(stop);
        let last = publishers.into_iter().flat_map(|one| one.join().expect("all is accepted"));
        let last: BTreeMap<_, _> = last.collect();
        for (socket, heard) in &mut clients {
            let (mut again, is_resumed) = Socket::come_back(other.port(), &socket.came());
            assert!(is_resumed, "the client is recovered");
            while heard.last != last && heard.faults.is_empty() {
                heard.note(again.hear_event().text());
            }
        }
    });
    let faults: Vec<_> = clients.iter().flat_map(|(_, heard)| &heard.faults).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
