//! Rounds of every fault that a cluster must survive, under clients that publish and listen. What
//! they saw is judged by the checker of histories. `FANFARE_TEST_ROUNDS` says how many there are of
//! each; with `--nocapture` the figures are shown.

mod client;
mod crew;
mod faults;
mod figures;
mod log;
mod papers;
mod places;
mod publishers;
mod scene;
mod site;
mod stage;
mod subscribers;
mod verdict;
mod watch;

use std::thread;
use std::time::Instant;

use crate::histories::Answer;
use crate::support::Node;
use crew::Crew;
use figures::Figures;
use log::Log;
use papers::Papers;
use publishers::{Caller, publish};
use scene::Scene;
use site::{Site, wait_until};
use stage::{Ending, Stage};
use subscribers::{CHANNELS, attend, roles};
use watch::Watch;

const NODES: [u64; 3] = [1, 2, 3];
/// Publications before a fault, and after it.
const MORE: u64 = 150;

fn number_of_rounds() -> usize {
    let rounds = std::env::var("FANFARE_TEST_ROUNDS").unwrap_or_else(|_| "1".to_owned());
    rounds.parse().expect("FANFARE_TEST_ROUNDS is a number")
}

/// Plays all rounds of a fault on the same nodes.
fn rounds(name: &str, site: fn() -> Site, fault: fn(&mut Scene<'_>)) {
    let rounds = number_of_rounds();
    let mut site = site();
    let mut figures = Vec::new();
    for round in 0..rounds {
        figures.push(play(name, &mut site, fault, (round, rounds)));
        site.is_left();
    }
    figures::print(name, &figures);
}

/// Plays one round and judges it.
fn play(name: &str, site: &mut Site, fault: fn(&mut Scene<'_>), rounds: (usize, usize)) -> Figures {
    let (log, stage, papers) = (Log::default(), Stage::default(), Papers::new());
    let ports: Vec<_> = NODES.into_iter().zip(site.nodes.iter().map(Node::port)).collect();
    let watches: Vec<_> = ports.iter().map(|&(node, port)| Watch::new(node, port)).collect();
    let crew = Crew::new(&ports);
    let (record, converged, (written, wrong)) = thread::scope(|scope| {
        let _ending = Ending(&stage);
        let (log, stage, papers, crew) = (&log, &stage, &papers, &crew);
        for role in ports.iter().flat_map(|&(node, port)| roles(node, port)) {
            scope.spawn(move || attend(log, stage, role));
        }
        watches.iter().for_each(|watch| drop(scope.spawn(|| watch.run(stage))));
        crew.seats().for_each(|seat| _ = scope.spawn(move || crew.attend(stage, seat)));
        let mut authors = Vec::new();
        for (&(node, port), (_, another)) in ports.iter().zip(ports.iter().cycle().skip(1)) {
            scope.spawn(move || papers.read(stage, node, port));
            authors.push(scope.spawn(move || papers.write(stage, port, *another)));
        }
        wait_until("there are subscribers", || log.attended() == NODES.len() * CHANNELS.len());
        let callers = ports.iter().flat_map(|&(node, port)| {
            [[0, 1], [1, 0], [2, 3]].map(|channels| {
                let caller = Caller::new(node, port);
                scope.spawn(move || publish(log, stage, caller, channels))
            })
        });
        let callers: Vec<_> = callers.collect();
        wait_until("all is served", || log.is_served(0, &NODES));
        more(log);
        let mut scene = Scene::new(site, log, (&watches, papers), rounds);
        fault(&mut scene);
        let record = scene.record;
        crew.freeze();
        let converged = crew.converge(is_served_again(log));
        is_well_again(log, &watches);
        stage.quieten();
        callers.into_iter().chain(authors).for_each(|one| one.join().expect("it ends"));
        let settled = papers.settle(&ports);
        end(log, stage, ports[0]);
        (record, converged, settled)
    });
    let mut pages = log.into_pages();
    places::find(&mut pages.history);
    let figures = Figures { converged, written, ..Figures::of(&record, &pages, &watches) };
    let name = format!("{name}, round {}", rounds.0 + 1);
    verdict::check(&name, &pages, &record, (&figures, &wrong));
    figures
}

/// Waits until all nodes serve. Returns when they did.
fn is_served_again(log: &Log) -> Instant {
    let mark = log.mark();
    wait_until("all is served again", || log.is_served(mark, &NODES));
    Instant::now()
}

/// Waits until all nodes say that they serve, and for some more publications.
fn is_well_again(log: &Log, watches: &[Watch]) {
    let now = Instant::now();
    wait_until("all nodes are well", || watches.iter().all(|watch| watch.is_well(now)));
    more(log);
}

/// Waits until some more publications are sent.
fn more(log: &Log) {
    let enough = log.publications() + MORE;
    wait_until("there are more publications", || log.publications() >= enough);
}

/// Lets every subscriber hear a last publication.
fn end(log: &Log, stage: &Stage, (node, port): (u64, u16)) {
    stage.settle();
    wait_until("nobody comes or goes any longer", || stage.is_settled());
    let mut caller = Caller::new(node, port);
    for channel in 0..CHANNELS.len() as u64 {
        wait_until("the last publication is accepted", || {
            match caller.publish(log, channel) {
                Some((id, Answer::Stored { .. } | Answer::NotHeard)) => {
                    stage.ends_with(channel, id);
                }
                _ => return false,
            }
            true
        });
    }
    wait_until("all have heard the last publication", || stage.is_empty());
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_broker_that_is_slow() {
    rounds("broker slow (300 ms each way)", Site::behind_ways, faults::slow);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_broker_that_is_too_slow() {
    rounds("broker too slow (1.5 s each way)", Site::behind_ways, faults::too_slow);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_broker_that_stands_still() {
    rounds("broker stopped for 5 s", Site::plain, faults::frozen);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_broker_that_comes_back_with_its_data() {
    rounds("broker gone for 2.5 s, with its data", Site::with_files, faults::gone);
}

#[test]
fn a_broker_that_comes_back_without_its_data() {
    rounds("broker gone for 2.5 s, without its data", Site::plain, faults::emptied);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_leader_of_three_brokers_that_is_killed() {
    rounds("leader of three brokers killed", Site::on_three, faults::leaderless);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn one_of_three_brokers_that_is_cut_off() {
    rounds("one of three brokers cut off", Site::on_their_own, faults::minority);
}

#[test]
fn a_node_that_is_killed() {
    rounds("node killed", Site::plain, faults::killed);
}

#[test]
fn a_node_that_is_stopped() {
    rounds("node stopped", Site::plain, faults::stopped);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_second_node_of_one_name() {
    rounds("two nodes of one name", Site::plain, faults::namesake);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_node_whose_name_was_taken() {
    rounds("node stopped while another takes its name", Site::plain, faults::displaced);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn a_second_cluster_on_one_prefix() {
    rounds("two clusters on one prefix", Site::plain, faults::strangers);
}

#[test]
#[ignore = "`tests/run long` runs all faults"]
fn clocks_that_are_minutes_apart() {
    rounds("clocks 8 minutes apart", Site::with_clocks, faults::clocks);
}
