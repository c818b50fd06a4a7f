//! Forge Realtime: several workers with their connections, as they run in a node, without threads
//! and sockets. Clients of one place subscribe, with tokens that expire and without, ask for what
//! was before, publish, go and come back; a model that sees every call knows what each must have
//! heard.

mod client;
mod world;

use std::sync::Arc;

use fanfare::mailbox::Mail;
use fanfare::message::SlowConsumer;
use fanfare::runtime::shared::Shared;
use proptest::prelude::*;

use crate::WORKERS;
use crate::tally::{Count, check_meets};
use crate::turns::Turns as _;
use crate::worlds::{Pace, Place, config, reads, reads_more};
use world::World;

const CONNECTIONS: usize = 3;
/// Two channels, each of which is another for those who show a token.
const TOPICS: usize = 4;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A back end publishes, so many times.
    Publish {
        topic: usize,
        is_large: bool,
        times: usize,
    },
    /// A client publishes.
    Say {
        place: Place,
        topic: usize,
    },
    Subscribe {
        place: Place,
        topic: usize,
        replay: Replay,
    },
    Unsubscribe {
        place: Place,
        topic: usize,
    },
    /// A connection ends, and the client says so or not.
    Close {
        place: Place,
        is_said: bool,
    },
    /// A client reads so many bytes more and no others, or all there are.
    Read {
        place: Place,
        bytes: Option<usize>,
    },
    /// Time passes, and what is kept no longer may be swept out.
    Pass {
        millis: u64,
        is_swept: bool,
    },
    /// A worker takes a turn, with so much of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
}

/// What a subscriber asks for of what was before.
#[derive(Clone, Copy, Default, Debug)]
struct Replay {
    seconds: u32,
    /// The event that it knows, counted from the latest.
    after: Option<usize>,
}

/// What a world goes by.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Places of each mailbox, of each kind.
    places: usize,
    /// Bytes that a client reads that has just come; all there are, if nothing is said.
    reads: Option<usize>,
    replay_seconds: u32,
    /// For how many milliseconds a client that was cut counts as listening.
    linger: u64,
    slow_consumer: SlowConsumer,
    /// Whether a subscription ends with its token.
    enforces_expiry: bool,
}

fn step(pace: Pace) -> impl Strategy<Value = Step> {
    let (crowd, large) = match pace {
        Pace::Mixed => (CONNECTIONS, 1),
        Pace::Slow => (1, 8),
    };
    let place = || (0..WORKERS, 0..crowd);
    let topic = move || if pace == Pace::Slow { 0..2usize } else { 0..TOPICS };
    let size = prop_oneof![
        20 => Just((false, 1)),
        1 => (40..120usize).prop_map(|times| (false, times)),
        large => (1..10usize).prop_map(|times| (true, times)),
    ];
    let replay = (0..5u32, prop::option::of(0..4usize))
        .prop_map(|(seconds, after)| Replay { seconds, after });
    prop_oneof![
        12 => (topic(), size)
            .prop_map(|(topic, (is_large, times))| Step::Publish { topic, is_large, times }),
        4 => (place(), topic()).prop_map(|(place, topic)| Step::Say { place, topic }),
        10 => (place(), topic(), replay)
            .prop_map(|(place, topic, replay)| Step::Subscribe { place, topic, replay }),
        4 => (place(), topic()).prop_map(|(place, topic)| Step::Unsubscribe { place, topic }),
        1 => (place(), any::<bool>())
            .prop_map(|(place, is_said)| Step::Close { place, is_said }),
        3 => (place(), reads_more()).prop_map(|(place, bytes)| Step::Read { place, bytes }),
        3 => (1..1_500u64, any::<bool>())
            .prop_map(|(millis, is_swept)| Step::Pass { millis, is_swept }),
        16 => (0..WORKERS, 0..8usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ]
}

fn worlds(pace: Pace) -> impl Strategy<Value = (Vec<Step>, Terms)> {
    let steps = if pace == Pace::Slow { 1..60 } else { 1..200 };
    (prop::collection::vec(step(pace), steps), terms(pace))
}

/// Runs a world. Returns what its threads would share.
fn run((steps, terms): (Vec<Step>, Terms)) -> Arc<Shared> {
    let mut world = World::new(terms);
    world.run(&steps);
    world.node.hub.clone()
}

fn terms(pace: Pace) -> impl Strategy<Value = Terms> {
    let places = if pace == Pace::Slow { 10..60usize } else { 1..20 };
    // Events have no name by which a later one makes up for an earlier one.
    let slow_consumer = prop_oneof![Just(SlowConsumer::Close), Just(SlowConsumer::DropOldest)];
    let enforces_expiry = prop::bool::weighted(0.8);
    (places, reads(pace), 0..4u32, 0..2_000u64, slow_consumer, enforces_expiry).prop_map(
        |(places, reads, replay_seconds, linger, slow_consumer, enforces_expiry)| Terms {
            places,
            reads,
            replay_seconds,
            linger,
            slow_consumer,
            enforces_expiry,
        },
    )
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn each_subscriber_hears_each_event_once(world in worlds(Pace::Mixed)) {
        run(world);
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn each_slow_subscriber_hears_each_event_once_or_is_told_of_gaps(world in worlds(Pace::Slow)) {
        run(world);
    }
}

#[test]
fn all_that_can_meet_meets() {
    let counts: [Count; 6] = [
        ("heard", |one| &one.events_socket),
        ("unheard", |one| &one.events_unheard),
        ("postponed", |one| &one.leaves_postponed),
        ("refused", |one| &one.refused_overloaded),
        ("replayed", |one| &one.replayed),
        ("gaps", |one| &one.gaps),
    ];
    check_meets(50, worlds(Pace::Mixed), run, &counts);
}

#[test]
fn all_that_can_meet_slow_clients_meets_them() {
    let counts: [Count; 4] = [
        ("closed", |one| &one.closed_slow_consumer),
        ("dropped", |one| &one.dropped_oldest),
        ("gaps", |one| &one.gaps),
        ("replayed in part", |one| &one.dropped_replay),
    ];
    check_meets(50, worlds(Pace::Slow), run, &counts);
}

fn world(places: usize) -> World {
    World::new(Terms {
        places,
        reads: None,
        replay_seconds: 2,
        linger: 0,
        slow_consumer: SlowConsumer::DropOldest,
        enforces_expiry: true,
    })
}

/// A topic that takes a token.
const WITH_TOKEN: usize = 1;

#[test]
fn a_subscription_that_could_not_be_left_ends_with_its_token() {
    let subscribe = Step::Subscribe { place: (0, 0), topic: WITH_TOKEN, replay: Replay::default() };
    // There is no room for the end of the subscription in front of its beginning.
    world(1).run(&[subscribe, Step::Unsubscribe { place: (0, 0), topic: WITH_TOKEN }]);
}

#[test]
fn a_subscriber_whose_tokens_expire_one_after_the_other_is_told_of_the_last_end() {
    let subscribe = Step::Subscribe { place: (0, 0), topic: WITH_TOKEN, replay: Replay::default() };
    let expire = [
        Step::Pass { millis: 2_100, is_swept: false },
        // In front of which all mail waits.
        Step::Turn { worker: 0, mail: 0 },
    ];
    let twice = [[subscribe.clone()].as_slice(), &expire, &[subscribe], &expire].concat();
    world(8).run(&twice);
}

fn subscribed() -> World {
    let mut world = world(8);
    world.subscribe(0, 0, 0, Replay::default());
    world.publish(0, false);
    world
}

#[test]
#[should_panic(expected = "left: what is missing is told of")]
fn an_event_that_is_lost_in_silence_is_found() {
    let mut world = subscribed();
    let [activation, _lost] = world.node.mail(0).try_into().expect("there are two");
    world.take(0, activation);
    world.check();
}

#[test]
#[should_panic(expected = "left: unexpected")]
fn an_event_that_comes_twice_is_found() {
    let mut world = subscribed();
    let [activation, delivery] = world.node.mail(0).try_into().expect("there are two");
    let Mail::Deliver(again) = &delivery else { panic!("it is an event: {delivery:?}") };
    let again = Mail::Deliver(again.clone());
    [activation, delivery, again].into_iter().for_each(|mail| world.take(0, mail));
    world.check();
}
