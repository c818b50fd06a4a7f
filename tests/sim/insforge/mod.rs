//! Simulation of InsForge Realtime. Clients join, leave and publish at random, while mailboxes fill
//! up, clients stop reading and options of channels change. A model that sees every call predicts
//! what each subscriber hears.

mod client;
mod resume;
mod room;
mod world;

use std::sync::Arc;

use fanfare::mailbox::Mail;
use fanfare::message::{ChannelOptions, Encoding, PresenceMode, Retain, SlowConsumer};
use fanfare::runtime::shared::Shared;
use proptest::prelude::*;

use crate::WORKERS;
use crate::tally::{Count, check_meets};
use crate::turns::Turns as _;
use crate::worlds::{Pace, Place, config, reads, reads_more};
use world::{World, number};

const CONNECTIONS: usize = 4;
const CHANNELS: usize = 2;

/// A step of a simulation.
#[derive(Clone, Debug)]
enum Step {
    /// A back end publishes `times` messages.
    Publish {
        channel: usize,
        event: usize,
        is_large: bool,
        times: usize,
    },
    /// A client publishes a message.
    Say {
        place: Place,
        channel: usize,
        event: usize,
    },
    Join {
        place: Place,
        channel: usize,
        encoding: Encoding,
    },
    Leave {
        place: Place,
        channel: usize,
    },
    /// A client leaves the namespace and enters it again, on the same connection.
    Disconnect {
        place: Place,
    },
    /// A connection ends. If `is_said`, the client sends a close packet first.
    Close {
        place: Place,
        is_said: bool,
    },
    /// An administrator changes the options of a channel.
    Define {
        channel: usize,
        options: ChannelOptions,
    },
    /// A client reads `bytes` more bytes, or all if it is `None`.
    Read {
        place: Place,
        bytes: Option<usize>,
    },
    /// The clock advances. If `is_swept`, expired publications are dropped.
    Pass {
        millis: u64,
        is_swept: bool,
    },
    /// A worker takes a turn with at most `mail` pieces of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
}

/// The parameters of a world.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Places of each kind in each mailbox.
    places: usize,
    /// How many bytes a new client reads; `None` if it reads all.
    reads: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..WORKERS, 0..CONNECTIONS);
    let encoding = prop_oneof![Just(Encoding::Documented), Just(Encoding::Sdk)];
    let size = prop_oneof![
        24 => Just((false, 1)),
        1 => (40..120usize).prop_map(|times| (false, times)),
        1 => (1..10usize).prop_map(|times| (true, times)),
    ];
    prop_oneof![
        12 => (0..CHANNELS, 0..3usize, size).prop_map(|(channel, event, (is_large, times))| {
            Step::Publish { channel, event, is_large, times }
        }),
        4 => (place(), 0..CHANNELS, 0..3usize)
            .prop_map(|(place, channel, event)| Step::Say { place, channel, event }),
        8 => (place(), 0..CHANNELS, encoding)
            .prop_map(|(place, channel, encoding)| Step::Join { place, channel, encoding }),
        2 => (place(), 0..CHANNELS).prop_map(|(place, channel)| Step::Leave { place, channel }),
        1 => place().prop_map(|place| Step::Disconnect { place }),
        2 => (place(), any::<bool>())
            .prop_map(|(place, is_said)| Step::Close { place, is_said }),
        2 => (0..CHANNELS, options())
            .prop_map(|(channel, options)| Step::Define { channel, options }),
        3 => (place(), reads_more()).prop_map(|(place, bytes)| Step::Read { place, bytes }),
        2 => (1..2_000u64, any::<bool>())
            .prop_map(|(millis, is_swept)| Step::Pass { millis, is_swept }),
        16 => (0..WORKERS, 1..6usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ]
}

/// Generates steps of a few clients that do not keep up with large publications.
fn slow_step() -> impl Strategy<Value = Step> {
    let place = || (0..WORKERS, 0..2usize);
    let size = prop_oneof![
        4 => Just((false, 1)),
        1 => (40..120usize).prop_map(|times| (false, times)),
        1 => (4..10usize).prop_map(|times| (true, times)),
    ];
    prop_oneof![
        12 => (0..CHANNELS, 0..3usize, size).prop_map(|(channel, event, (is_large, times))| {
            Step::Publish { channel, event, is_large, times }
        }),
        6 => (place(), 0..CHANNELS).prop_map(|(place, channel)| {
            Step::Join { place, channel, encoding: Encoding::Sdk }
        }),
        1 => (place(), 0..CHANNELS).prop_map(|(place, channel)| Step::Leave { place, channel }),
        2 => (0..CHANNELS, options())
            .prop_map(|(channel, options)| Step::Define { channel, options }),
        2 => (place(), 0..9_000_000usize)
            .prop_map(|(place, bytes)| Step::Read { place, bytes: Some(bytes) }),
        16 => (0..WORKERS, 10..100usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ]
}

fn steps(pace: Pace) -> BoxedStrategy<Vec<Step>> {
    match pace {
        Pace::Mixed => prop::collection::vec(step(), 1..300).boxed(),
        Pace::Slow => prop::collection::vec(slow_step(), 1..80).boxed(),
    }
}

fn options() -> impl Strategy<Value = ChannelOptions> {
    let presence = prop::sample::select(PresenceMode::ALL.to_vec());
    let verdict = prop::sample::select(SlowConsumer::ALL.to_vec());
    (presence, verdict, 0..4u32).prop_map(|(presence, slow_consumer, seconds)| ChannelOptions {
        presence,
        slow_consumer,
        retain: Retain::window(seconds),
        ..ChannelOptions::default()
    })
}

fn terms(pace: Pace) -> impl Strategy<Value = Terms> {
    let places = match pace {
        Pace::Mixed => 1..12usize,
        Pace::Slow => 10..100,
    };
    (places, reads(pace)).prop_map(|(places, reads)| Terms { places, reads })
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn each_subscriber_hears_one_order_from_its_acknowledgement_to_its_leave(
        steps in steps(Pace::Mixed),
        terms in terms(Pace::Mixed),
    ) {
        run((steps, terms));
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn each_slow_subscriber_hears_one_order_or_is_told_of_gaps(
        steps in steps(Pace::Slow),
        terms in terms(Pace::Slow),
    ) {
        run((steps, terms));
    }
}

/// Runs a world, and returns the state that its threads would share.
fn run((steps, terms): (Vec<Step>, Terms)) -> Arc<Shared> {
    let mut world = World::new(terms);
    world.run(&steps);
    world.node.hub.clone()
}

#[test]
fn all_that_can_meet_meets() {
    let counts: [Count; 4] = [
        ("announced", |one| &one.announcements),
        ("postponed", |one| &one.leaves_postponed),
        ("refused", |one| &one.refused_overloaded),
        ("replayed", |one| &one.replayed),
    ];
    check_meets(50, (steps(Pace::Mixed), terms(Pace::Mixed)), run, &counts);
}

#[test]
fn all_that_can_meet_slow_clients_meets_them() {
    let counts: [Count; 5] = [
        ("closed", |one| &one.closed_slow_consumer),
        ("conflated", |one| &one.conflated),
        ("dropped", |one| &one.dropped_oldest),
        ("gaps", |one| &one.gaps),
        ("replayed in part", |one| &one.dropped_replay),
    ];
    check_meets(50, (steps(Pace::Slow), terms(Pace::Slow)), run, &counts);
}

fn joined(slow_consumer: SlowConsumer) -> World {
    let mut world = World::new(Terms { places: 8, reads: None });
    let options = ChannelOptions { slow_consumer, ..ChannelOptions::default() };
    world.define_as(0, options);
    world.join(0, 0, 0, Encoding::Sdk);
    world.publish(0, 0, false);
    world
}

/// The check fails if a delivery overtakes the activation in front of it.
#[test]
#[should_panic(expected = "left")]
fn a_publication_that_overtakes_its_subscribers_acknowledgement_is_found() {
    let mut world = joined(SlowConsumer::Close);
    let [activation, delivery] = world.node.mail(0).try_into().expect("there are two");
    world.take(0, delivery);
    world.take(0, activation);
    world.check();
}

/// The check fails if a publication is lost without a gap notice.
#[test]
#[should_panic(expected = "left: what is missing is told of")]
fn a_publication_that_is_lost_in_silence_is_found() {
    let mut world = joined(SlowConsumer::DropOldest);
    let [activation, _lost] = world.node.mail(0).try_into().expect("there are two");
    world.take(0, activation);
    world.check();
}

/// The check fails if a publication comes twice.
#[test]
#[should_panic(expected = "left: unexpected")]
fn a_publication_that_comes_twice_is_found() {
    let mut world = joined(SlowConsumer::DropOldest);
    let [activation, delivery] = world.node.mail(0).try_into().expect("there are two");
    let Mail::Deliver(again) = &delivery else { panic!("it is a publication: {delivery:?}") };
    let again = Mail::Deliver(again.clone());
    [activation, delivery, again].into_iter().for_each(|mail| world.take(0, mail));
    world.check();
}
