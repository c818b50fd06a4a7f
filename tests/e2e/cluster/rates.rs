//! Rates that hold over all nodes of a cluster.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fleet::{Envs, Fleet};
use crate::forge::app::{call, invocation, place};
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node};

const RATE: u32 = 100;
const TIME: Duration = Duration::from_secs(4);
/// Publications that a publisher sends without waiting for an answer.
const BREATH: usize = 4;
/// The pause after them. Each publisher alone is far above the rate.
const PAUSE: Duration = Duration::from_millis(5);

const LIMITED: Envs = &[("FANFARE_FORGE_RATE_LIMIT", "100")];
const REFUSED: &str = "fanfare_refusals_total{reason=\"rate_limited\"}";

/// What became of publications.
#[derive(Default)]
struct Outcome {
    /// When each one that was accepted was sent.
    accepted: Vec<Duration>,
    refused: u64,
}

impl Outcome {
    /// Checks that these were accepted at the rate, after the tokens of the first second.
    fn check(&self) {
        let within = |from: u64, to: u64| {
            let seconds = from..to;
            self.accepted.iter().filter(|at| seconds.contains(&at.as_secs())).count()
        };
        let seconds: Vec<_> = (0..TIME.as_secs()).map(|at| within(at, at + 1)).collect();
        println!("accepted in each second: {seconds:?}, refused {}", self.refused);
        let part = |count: usize, seconds: f64| count as f64 / (f64::from(RATE) * seconds);
        let first = part(seconds[0], 1.0);
        assert!(seconds.iter().all(|one| part(*one, 1.0) <= 2.1), "at most a bucket: {seconds:?}");
        let duration = TIME.as_secs_f64();
        // On a busy machine, the publishers may take longer than a second to empty the bucket, and
        // then be too slow to use the rate.
        if first < 1.8 {
            let count = within(0, TIME.as_secs());
            return assert!(part(count, duration + 1.0) <= 1.1, "{seconds:?}");
        }
        let count = within(1, TIME.as_secs());
        assert!((0.9..=1.1).contains(&part(count, duration - 1.0)), "{seconds:?}");
    }
}

/// Publishes on these nodes at once, each as `publish` does from a start until an end.
fn flood(nodes: &[Node], publish: impl Fn(&Node, Instant) -> Outcome + Sync) -> Outcome {
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> =
            nodes.iter().map(|node| scope.spawn(|| publish(node, start))).collect();
        let mut all = Outcome::default();
        for one in threads {
            let Outcome { accepted, refused } = one.join().expect("its thread has no fault");
            all.accepted.extend(accepted);
            all.refused += refused;
        }
        all
    })
}

/// Publishes on a channel as the client of a socket.
fn over_a_socket(node: &Node, start: Instant, channel: &str) -> Outcome {
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(channel);
    let publication = json!({ "channel": channel, "event": "tick", "payload": 1 });
    let mut outcome = Outcome::default();
    while start.elapsed() < TIME {
        let at = start.elapsed();
        for _ in 0..BREATH {
            socket.ask("REALTIME_PUBLISH", &publication);
        }
        socket.flush();
        let mut answered = 0;
        while answered < BREATH {
            let Heard::Ack(_, answer) = socket.hear() else { continue };
            answered += 1;
            if answer["ok"] == true {
                outcome.accepted.push(at);
            } else {
                assert_eq!(answer["error"]["code"], "RATE_LIMITED", "{answer}");
                outcome.refused += 1;
            }
        }
        thread::sleep(PAUSE);
    }
    outcome
}

/// Publishes for an installation over HTTP.
fn for_an_installation(node: &Node, start: Instant) -> Outcome {
    let (header, body) = (invocation(&place()), json!({ "name": "room", "payload": "x" }));
    let mut outcome = Outcome::default();
    while start.elapsed() < TIME {
        let at = start.elapsed();
        match call(node, "publish", &header, &body).status {
            200 => outcome.accepted.push(at),
            429 => outcome.refused += 1,
            other => panic!("{other}"),
        }
    }
    outcome
}

fn refused(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.metric(REFUSED)).sum()
}

#[test]
fn the_rate_of_a_channel_holds_over_all_nodes_and_one_alone_has_all_of_it() {
    let fleet = Fleet::start(3);
    fleet.define(&json!({ "pattern": "talk:*", "presence": "off", "rateLimit": RATE }));
    let all = flood(&fleet.nodes, |node, start| over_a_socket(node, start, "talk:all"));
    all.check();
    assert_eq!(refused(&fleet.nodes), all.refused);
    let alone = flood(&fleet.nodes[1..2], |node, start| over_a_socket(node, start, "talk:alone"));
    alone.check();
    assert_eq!(refused(&fleet.nodes), all.refused + alone.refused);
}

#[test]
fn the_rate_of_an_installation_holds_over_all_nodes_and_one_alone_has_all_of_it() {
    let fleet = Fleet::with(3, LIMITED);
    let all = flood(&fleet.nodes, for_an_installation);
    all.check();
    assert_eq!(refused(&fleet.nodes), all.refused);
    // The bucket is full again only a second after its last token.
    thread::sleep(Duration::from_millis(1_100));
    let alone = flood(&fleet.nodes[1..2], for_an_installation);
    alone.check();
    assert_eq!(refused(&fleet.nodes), all.refused + alone.refused);
}
