//! Simulation of clients of InsForge Realtime that lose their connections and resume their
//! sessions: at the session's worker, or at another one, which forwards them. A client that resumes
//! hears each publication once and in order, also those of the time without a connection.

mod client;
mod stream;
mod world;

use std::sync::Arc;

use fanfare::mailbox::Mail;
use fanfare::runtime::shared::Shared;
use proptest::prelude::*;

use super::CHANNELS;
use crate::WORKERS;
use crate::tally::{Count, check_meets};
use crate::worlds::config;
use world::World;

const CLIENTS: usize = 5;

/// A step of a simulation.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        channel: usize,
        times: usize,
    },
    /// A client joins or leaves a channel.
    Command {
        client: usize,
        channel: usize,
        command: Command,
    },
    /// A connection ends, and the frames on it are lost. Its worker notices only if `is_noticed`.
    Cut {
        client: usize,
        is_noticed: bool,
    },
    /// A client without a connection connects, and resumes its session if it has one.
    Connect {
        client: usize,
        worker: usize,
    },
    /// A client handles the frames that have arrived.
    Read {
        client: usize,
    },
    Pass {
        millis: u64,
    },
    /// A worker takes a turn with at most `mail` pieces of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Join,
    Leave,
}

/// The parameters of a world.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Places of each kind in each mailbox.
    places: usize,
    /// How many milliseconds a session can be resumed.
    window: u64,
}

/// Generates steps. The weight of publishing is `publishes`, that of all other steps 48.
fn step(publishes: u32) -> impl Strategy<Value = Step> {
    let command = prop_oneof![3 => Just(Command::Join), 1 => Just(Command::Leave)];
    let times = prop_oneof![6 => Just(1), 1 => 2..60usize];
    prop_oneof![
        publishes => (0..CHANNELS, times)
            .prop_map(|(channel, times)| Step::Publish { channel, times }),
        8 => (0..CLIENTS, 0..CHANNELS, command)
            .prop_map(|(client, channel, command)| Step::Command { client, channel, command }),
        4 => (0..CLIENTS, any::<bool>())
            .prop_map(|(client, is_noticed)| Step::Cut { client, is_noticed }),
        8 => (0..CLIENTS, 0..WORKERS)
            .prop_map(|(client, worker)| Step::Connect { client, worker }),
        10 => (0..CLIENTS).prop_map(|client| Step::Read { client }),
        2 => (1..300u64).prop_map(|millis| Step::Pass { millis }),
        16 => (0..WORKERS, 0..12usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ]
}

fn worlds() -> impl Strategy<Value = (Vec<Step>, Terms)> {
    let places = prop_oneof![2..6usize, 6..40usize];
    let terms = (places, 100..2_000u64).prop_map(|(places, window)| Terms { places, window });
    let steps = |publishes| prop::collection::vec(step(publishes), 1..250);
    (prop_oneof![steps(10), steps(2)], terms)
}

/// Runs a world, and returns the state that its threads would share.
fn run((steps, terms): (Vec<Step>, Terms)) -> Arc<Shared> {
    let mut world = World::new(terms);
    world.run(&steps);
    world.node.hub.clone()
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn each_client_that_resumes_hears_what_it_missed(world in worlds()) {
        run(world);
    }
}

#[test]
fn all_that_can_meet_meets() {
    let counts: [Count; 4] = [
        ("recovered", |one| &one.recovered),
        ("recovered publications", |one| &one.recovered_publications),
        ("not recovered", |one| &one.not_recovered),
        ("refused", |one| &one.refused_overloaded),
    ];
    check_meets(50, worlds(), run, &counts);
}

const CLIENT: usize = 0;
const CHANNEL: usize = 0;
const PUBLISH: Step = Step::Publish { channel: CHANNEL, times: 1 };

/// Returns a world whose client 0 is subscribed to channel 0 at worker 0 and has received a
/// publication.
fn subscribed() -> World {
    let mut world = World::new(Terms { places: 8, window: 1_000 });
    let (client, channel, turn) = (CLIENT, CHANNEL, Step::Turn { worker: 0, mail: 8 });
    let join = Step::Command { client, channel, command: Command::Join };
    let entered = [Step::Connect { client, worker: 0 }, turn.clone(), Step::Read { client }];
    let subscribed = [join, PUBLISH, turn, Step::Read { client }];
    entered.iter().chain(&subscribed).for_each(|step| world.step(step));
    world
}

#[test]
fn a_client_resumes_at_the_worker_that_knows_its_session() {
    let mut world = subscribed();
    let cut = [PUBLISH, Step::Cut { client: CLIENT, is_noticed: false }, PUBLISH];
    let back = [Step::Connect { client: CLIENT, worker: 1 }, PUBLISH];
    world.run(&[&cut[..], &back].concat());
    assert_eq!(world.node.hub.metrics.sum(|one| &one.recovered), 1);
    assert_eq!(world.clients[CLIENT].streams[CHANNEL].heard, [1, 2, 3, 4]);
}

#[test]
fn a_client_that_was_cut_while_it_joined_a_channel_again_hears_what_came_after_that() {
    let (client, channel) = (CLIENT, CHANNEL);
    let turn = || Step::Turn { worker: 0, mail: 8 };
    let command = |command| Step::Command { client, channel, command };
    let left = [PUBLISH, turn(), command(Command::Leave), turn()];
    // The activation is still in the mailbox when the connection ends.
    let cut = [command(Command::Join), Step::Cut { client, is_noticed: true }, PUBLISH];
    let mut world = subscribed();
    world.run(&[&left[..], &cut].concat());
    assert_eq!(world.node.hub.metrics.sum(|one| &one.recovered), 1);
    assert_eq!(world.clients[CLIENT].streams[CHANNEL].heard, [1, 2, 3]);
}

#[test]
fn a_client_that_was_cut_while_it_left_a_channel_hears_nothing_of_what_came_after_that() {
    let (client, other, channel) = (CLIENT, CLIENT + 1, CHANNEL);
    let turn = || Step::Turn { worker: 0, mail: 8 };
    let read = || Step::Read { client };
    let command = |client, command| Step::Command { client, channel, command };
    let connect = |client| [Step::Connect { client, worker: 0 }, turn(), Step::Read { client }];
    let cut = || Step::Cut { client, is_noticed: true };
    let joined = [command(other, Command::Join), command(client, Command::Join), turn(), read()];
    // The deactivation is still in the mailbox when the connection ends. The publication after that
    // is for the other client.
    let left = [command(client, Command::Leave), cut(), PUBLISH, turn()];
    let again = [command(client, Command::Join), turn(), read(), PUBLISH, turn(), cut()];
    let [client, other] = [connect(client), connect(other)];
    let mut world = World::new(Terms { places: 20, window: 1_000 });
    world.run(&[&other[..], &client, &joined, &left, &client, &again].concat());
    assert_eq!(world.node.hub.metrics.sum(|one| &one.recovered), 2);
    assert_eq!(world.clients[CLIENT].streams[CHANNEL].heard, [2]);
}

/// Cuts the client, publishes, and connects the client to its worker again. Returns the mail that
/// this posted.
fn resuming(world: &mut World) -> Vec<Mail> {
    let cut = [Step::Cut { client: CLIENT, is_noticed: true }, PUBLISH];
    cut.iter().for_each(|step| world.step(step));
    world.step(&Step::Connect { client: CLIENT, worker: 0 });
    world.node.mail(0)
}

/// Returns a copy of the mail that delivers the missed publication.
fn missed(mail: &[Mail]) -> Mail {
    let missed = mail.iter().find_map(|mail| match mail {
        Mail::Deliver(one) if one.publication.is_recoverable => Some(one.clone()),
        _ => None,
    });
    Mail::Deliver(missed.expect("it was published"))
}

/// The check fails if the log lacks a publication.
#[test]
#[should_panic(expected = "all of it is heard")]
fn a_missed_publication_that_is_not_in_the_log_is_found() {
    let mut world = subscribed();
    let mut mail = resuming(&mut world);
    mail.retain(|mail| !matches!(mail, Mail::Deliver(one) if one.publication.is_recoverable));
    mail.into_iter().for_each(|mail| world.take(0, mail));
    world.check();
}

/// The check fails if a publication comes from the log and from the mailbox.
#[test]
#[should_panic(expected = "each once, in order")]
fn a_missed_publication_that_comes_twice_is_found() {
    let mut world = subscribed();
    let mut mail = resuming(&mut world);
    mail.push(missed(&mail));
    mail.into_iter().for_each(|mail| world.take(0, mail));
    world.check();
}
