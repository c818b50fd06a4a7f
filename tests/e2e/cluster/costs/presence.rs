//! Members of channels on all nodes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Usage;
use crate::cluster::fleet::Fleet;
use crate::order::join;
use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::nats::resident_bytes;
use crate::support::{Node, user_token};

const MEMBERS: usize = 10_000;
/// Threads that connect members.
const THREADS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a run, because members do not read what they are sent.
const ENVS: &[(&str, &str)] = &[("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "300000")];
/// The user whose client lists the members.
const PROBE: &str = "probe";

/// What one run has measured.
struct Run {
    joined: Duration,
    /// From the last join until all nodes listed all members.
    listed: Duration,
    /// The memory that all nodes took, in bytes.
    bytes: u64,
    used: Usage,
}

fn room(number: usize) -> String {
    format!("room:{number}")
}

/// Subscribes, whatever is announced meanwhile. Returns the presence in the answer.
fn subscribe(socket: &mut Socket, channel: &str) -> Value {
    let asked = socket.ask(SUBSCRIBE, &json!({ "channel": channel }));
    socket.flush();
    loop {
        match socket.hear() {
            Heard::Ack(number, answer) if number == asked => {
                assert_eq!(answer["ok"], true, "{answer}");
                return answer["presence"].clone();
            }
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

/// Connects one in `THREADS` of the members, each to its room, in turn to the nodes.
fn enter(ports: &[u16], rooms: usize, thread: usize) -> Vec<Socket> {
    let members = (thread..MEMBERS).step_by(THREADS);
    let enter = |number: usize| {
        let port = ports[number / rooms % ports.len()];
        let mut socket = Socket::connect(port, &user_token(&format!("user-{number}")));
        subscribe(&mut socket, &room(number % rooms));
        socket
    };
    members.map(enter).collect()
}

/// Returns how many members a node lists in the answer to a subscribe, and in all rooms.
fn listed(port: u16, rooms: usize) -> u64 {
    let mut probe = Socket::connect(port, &user_token(PROBE));
    let count = |number| {
        let presence = subscribe(&mut probe, &room(number));
        let members = presence["members"].as_array().map_or(0, Vec::len) as u64;
        // The probe is a member as well.
        presence["count"].as_u64().unwrap_or(members) - 1
    };
    (0..rooms).map(count).sum()
}

fn run(rooms: usize, presence: &str) -> Run {
    let fleet = Fleet::with(3, ENVS);
    fleet.define(&json!({ "pattern": "room:*", "presence": presence }));
    let ports: Vec<_> = fleet.nodes.iter().map(Node::port).collect();
    let memory = || fleet.nodes.iter().map(|node| resident_bytes(node.pid())).sum::<u64>();
    let (before, usage) = (memory(), Usage::of(&fleet.nodes, &fleet.nats));
    let began = Instant::now();
    let sockets: Vec<_> = thread::scope(|scope| {
        let ports = &ports;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || enter(ports, rooms, thread))).collect();
        threads.into_iter().flat_map(join).collect()
    });
    let joined = began.elapsed();
    let last = Instant::now();
    let is_shown = presence != "off";
    while is_shown && !ports.iter().all(|port| listed(*port, rooms) == MEMBERS as u64) {
        assert!(last.elapsed() < PATIENCE, "not all are listed");
    }
    let listed = last.elapsed();
    let used = Usage::of(&fleet.nodes, &fleet.nats).since(&usage);
    // Digests are compared meanwhile, and lists are told.
    thread::sleep(Duration::from_secs(3));
    let bytes = memory() - before;
    drop(sockets);
    Run { joined, listed, bytes, used }
}

#[test]
#[ignore = "measures for tuning.md, with a release build in FANFARE_TEST_BINARY"]
fn ten_thousand_members_are_listed_by_all_nodes() {
    for rooms in [1, 100] {
        for presence in ["off", "full"] {
            let Run { joined, listed, bytes, used } = run(rooms, presence);
            println!(
                "{MEMBERS} members of {rooms} channels, presence {presence}: joined in {:.2} s, \
                 listed after {:.3} s, {} bytes a member and node, {}",
                joined.as_secs_f64(),
                listed.as_secs_f64(),
                bytes / 3 / MEMBERS as u64,
                used.for_each(MEMBERS, "member"),
            );
        }
    }
}
