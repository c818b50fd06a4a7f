//! Nodes that are restarted one after the other, as an upgrade does, under clients and publishers.
//! Clients go on at other nodes, and must hear each publication that was acknowledged once and in
//! order, or be told that they have not recovered. `FANFARE_TEST_ROLLINGS` says how many times all
//! nodes are restarted, and `FANFARE_TEST_ROLLING_CLIENTS` under how many clients; with
//! `--nocapture` the figures are shown.

mod client;
mod crowd;
mod killed;
mod line;
mod publisher;
mod stage;
mod tally;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::fleet::{Fleet, health};
use crate::support::{Node, wait_until};
use client::Client;
use crowd::{Crew, wait_for_clients};
use publisher::Publisher;
use stage::{Ending, Stage};
use tally::Tally;

const NODES: usize = 3;
/// Each client subscribes to two of them.
const CHANNELS: usize = 40;
const PUBLISHERS: usize = 8;
/// Publications a second, of all publishers together.
const RATE: f64 = 200.0;
/// How long nodes and clients may take for what they do at once.
const PATIENCE: Duration = Duration::from_secs(60);

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

#[test]
fn nothing_is_lost_while_nodes_are_restarted_one_after_the_other() {
    let clients = setting("FANFARE_TEST_ROLLING_CLIENTS", 60);
    let rounds = setting("FANFARE_TEST_ROLLINGS", 1);
    // Some 200 connections are closed in a second.
    let drain_ms = (1_000 + 5 * clients).to_string();
    let mut fleet = Fleet::each(NODES, move |_, command| {
        command.env("FANFARE_DRAIN_MS", &drain_ms);
        command.env("FANFARE_RECOVERY_WINDOW_MS", "120000");
    });
    fleet.define(&json!({ "pattern": "rolling:*", "presence": "off" }));
    let stage = Stage::new(fleet.nodes.iter().map(Node::port).collect(), clients);
    let (tally, publishers, restarts) = thread::scope(|scope| {
        let _ending = Ending(&stage);
        let clients = (0..clients).map(|number| Client::new(number, number % NODES)).collect();
        let crew = Crew::start(scope, &stage, clients, RATE);
        let mut restarts = Vec::new();
        for round in 1..=rounds {
            restarts.extend((0..NODES).map(|at| restart(&mut fleet, &stage, at)));
            println!("round {round} of {rounds} is over");
        }
        let (tally, publishers) = crew.finish(&stage);
        (tally, publishers, restarts)
    });
    print(&tally, &publishers);
    print_restarts(&tally, &restarts);
    check(&tally, clients, rounds);
}

/// Stops a node, waits until its clients are back at the others, and starts it again.
fn restart(fleet: &mut Fleet, stage: &Stage, at: usize) -> Restart {
    stage.ends(at);
    let began = Instant::now();
    let node = &mut fleet.nodes[at];
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(2 * PATIENCE).code(), Some(0));
    let drained = began.elapsed();
    let ended = Instant::now();
    wait_until("its clients have noticed", || stage.is_left(at));
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
