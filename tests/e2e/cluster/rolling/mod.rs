//! Nodes that are restarted one after the other, as an upgrade does, under clients and publishers.
//! Clients go on at other nodes, and must hear each publication that was acknowledged once and in
//! order, or be told that they have not recovered. `FANFARE_TEST_ROLLINGS` says how many times all
//! nodes are restarted, and `FANFARE_TEST_ROLLING_CLIENTS` under how many clients; with
//! `--nocapture` the figures are shown.

mod client;
mod crowd;
mod ear;
mod killed;
mod line;
mod others;
mod poller;
mod publisher;
mod reader;
mod stage;
mod tally;
mod topics;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::fleet::{Broker, Envs, Fleet, health};
use crate::support::{Node, wait_until};
use client::Client;
use crowd::{Crew, wait_for_clients};
use others::Others;
use publisher::Publisher;
use stage::{Ending, Stage};
use tally::Tally;

const NODES: usize = 3;
/// Each client subscribes to two of them.
const CHANNELS: usize = 40;
const PUBLISHERS: usize = 8;
/// Readers of Server-Sent Events, and the channels of each.
const READERS: usize = 6;
const EACH: usize = 4;
/// Clients of Socket.IO on long-polling.
const POLLERS: usize = 6;
/// Channels of Forge, and subscribers of each.
const TOPICS: usize = 2;
const LISTENERS: usize = 3;
/// Publications a second, of all publishers together.
const RATE: f64 = 200.0;
/// How long nodes and clients may take for what they do at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last publications may take to all clients.
const REST: Duration = Duration::from_secs(20);

/// The figures of one restart of one node.
struct Restart {
    /// From the signal until the process has ended.
    drained: Duration,
    /// From then until all clients were back.
    back: Duration,
    /// From the start until the node served.
    served: Duration,
}

fn setting(name: &str, default: usize) -> usize {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_string());
    text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

fn channel(number: usize) -> String {
    format!("rolling:{number}")
}

/// Returns the settings of the nodes. Some 200 connections are closed in a second.
fn settings() -> Envs {
    let drain_ms = (1_000 + 5 * clients()).to_string();
    let envs = [
        ("FANFARE_DRAIN_MS", &*drain_ms.leak()),
        ("FANFARE_RECOVERY_WINDOW_MS", "120000"),
        ("FANFARE_FORGE_REPLAY_SECONDS", "60"),
    ];
    Box::leak(envs.into())
}

fn clients() -> usize {
    setting("FANFARE_TEST_ROLLING_CLIENTS", 60)
}

#[test]
fn nothing_is_lost_while_nodes_are_restarted_one_after_the_other() {
    restart_in_turn(Fleet::with(NODES, settings()));
}

#[test]
#[ignore = "`tests/run long` runs it"]
fn nothing_is_lost_while_nodes_on_three_brokers_are_restarted() {
    restart_in_turn(Fleet::on_three(NODES, settings()));
}

fn restart_in_turn<B: Broker>(mut fleet: Fleet<B>) {
    let (clients, rounds) = (clients(), setting("FANFARE_TEST_ROLLINGS", 1));
    fleet.define(&json!({ "pattern": "rolling:*", "presence": "off" }));
    // The position in a channel without messages is that of one node.
    (0..CHANNELS)
        .for_each(|number| _ = fleet.nodes[0].publish(&channel(number), "hello", &json!({})));
    let all = clients + POLLERS + TOPICS * LISTENERS;
    let stage = &Stage::new(fleet.nodes.iter().map(Node::port).collect(), all);
    let (tally, others, publishers, restarts) = thread::scope(|scope| {
        let _ending = Ending(stage);
        let others = Others::start(scope, stage);
        let clients = (0..clients).map(|number| Client::new(number, number % NODES)).collect();
        let crew = Crew::start(scope, stage, clients, RATE);
        let mut restarts = Vec::new();
        for round in 1..=rounds {
            restarts.extend((0..NODES).map(|at| restart(&mut fleet, stage, at)));
            println!("round {round} of {rounds} is over");
        }
        let (tally, publishers) = crew.finish(stage);
        // A reader that has heard everything by then waits for one more event.
        (0..CHANNELS).for_each(|at| _ = fleet.nodes[0].publish(&channel(at), "bye", &json!({})));
        (tally, others.finish(), publishers, restarts)
    });
    print(&tally, &publishers);
    print_restarts(&tally, &restarts);
    others.print();
    check(&tally, clients, rounds);
    others.check(rounds);
}

/// Stops a node, waits until its clients are back at the others, and starts it again.
fn restart<B>(fleet: &mut Fleet<B>, stage: &Stage, at: usize) -> Restart {
    stage.ends(at);
    let began = Instant::now();
    let node = &mut fleet.nodes[at];
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(2 * PATIENCE).code(), Some(0));
    let drained = began.elapsed();
    let ended = Instant::now();
    while !stage.is_left(at) {
        let lines = stage.lines(at);
        assert!(ended.elapsed() < PATIENCE, "{lines} clients have not noticed the end of {at}");
        thread::sleep(Duration::from_millis(2));
    }
    wait_for_clients(stage);
    let back = ended.elapsed();
    stage.ends(NODES);
    let began = Instant::now();
    node.start_again(stage.ports[at]);
    // It lets clients in before it has joined its cluster, and cannot resume their sessions then.
    wait_until("the node serves", || health(node) == (200, json!("ok")));
    Restart { drained, back, served: began.elapsed() }
}

fn print(tally: &Tally, publishers: &[Publisher]) {
    let sum = |of: fn(&Publisher) -> usize| publishers.iter().map(of).sum::<usize>();
    println!(
        "publications acknowledged {}, refused {}, unknown {}, cut {}, slowest {:.2} s",
        sum(|one| one.acknowledged),
        sum(|one| one.refused),
        sum(|one| one.unknown),
        sum(|one| one.cut),
        publishers.iter().map(|one| one.slowest).max().unwrap_or_default().as_secs_f64(),
    );
    println!(
        "events {}, lost {}, doubled {}, gaps told {}, recovered {}, told that not {}, subscribes \
         refused {}, connections lost at other nodes {}, ends {:?}",
        tally.events,
        tally.lost,
        tally.doubled,
        tally.gaps,
        tally.recovered,
        tally.told,
        tally.refused,
        tally.strays,
        tally.ends,
    );
    tally.faults.iter().for_each(|fault| println!("{fault}"));
}

fn print_restarts(tally: &Tally, restarts: &[Restart]) {
    let spread = |of: fn(&Restart) -> Duration| quantiles(restarts.iter().map(of).collect());
    println!(
        "drained {}; all back after the end {}; served after the start {}; a client was away {}",
        spread(|one| one.drained),
        spread(|one| one.back),
        spread(|one| one.served),
        quantiles(tally.absences.clone()),
    );
}

/// Returns the least, the median, the 99th percentile and the most.
fn quantiles(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let Some(last) = all.len().checked_sub(1) else { return "-".to_owned() };
    let [least, middle, high, most] =
        [0, last / 2, last * 99 / 100, last].map(|place| all[place].as_secs_f64());
    format!("{least:.3}/{middle:.3}/{high:.3}/{most:.3} s")
}

fn check(tally: &Tally, clients: usize, rounds: usize) {
    assert!(tally.faults.is_empty(), "{:#?}", tally.faults);
    // In a round every client loses its node at least once.
    let returns = tally.recovered + tally.told;
    assert!(returns >= clients * rounds, "{returns} returns of {clients} clients");
    // On a busy machine NATS may not answer in time. Clients are told then.
    assert!(tally.recovered > 9 * tally.told, "{} of {returns} are recovered", tally.recovered);
}
