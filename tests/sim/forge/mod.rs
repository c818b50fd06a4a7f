//! Simulation of Forge Realtime. Clients in one context subscribe with and without tokens that
//! expire, request replay, publish, disconnect and connect again. A model that sees every call
//! predicts what each of them hears.

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
/// Two channels, each of which is one topic with a token and another one without.
const TOPICS: usize = 4;

/// A step of a simulation.
#[derive(Clone, Debug)]
enum Step {
    /// A back end publishes `times` events.
    Publish {
        topic: usize,
        is_large: bool,
        times: usize,
    },
    /// A client publishes an event.
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
    /// A connection ends. If `is_said`, the client sends a close frame first.
    Close {
        place: Place,
        is_said: bool,
    },
    /// A client reads `bytes` more bytes, or all if it is `None`.
    Read {
        place: Place,
        bytes: Option<usize>,
    },
    /// The clock advances. If `is_swept`, expired events are dropped.
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

/// The replay that a subscriber requests.
#[derive(Clone, Copy, Default, Debug)]
struct Replay {
    seconds: u32,
    /// The event that it received last, counted back from the latest one.
    after: Option<usize>,
}

/// The parameters of a world.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Places of each kind in each mailbox.
    places: usize,
    /// How many bytes a new client reads; `None` if it reads all.
    reads: Option<usize>,
    replay_seconds: u32,
    /// How many milliseconds a subscriber whose connection was lost counts as present.
    linger: u64,
    slow_consumer: SlowConsumer,
    /// Whether a subscription ends when its token expires.
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

/// Runs a world, and returns the state that its threads would share.
fn run((steps, terms): (Vec<Step>, Terms)) -> Arc<Shared> {
    let mut world = World::new(terms);
    world.run(&steps);
    world.node.hub.clone()
}

fn terms(pace: Pace) -> impl Strategy<Value = Terms> {
    let places = if pace == Pace::Slow { 10..60usize } else { 1..20 };
    // No conflation: events have no name, so no event replaces an earlier one.
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

/// A topic that requires a token.
const WITH_TOKEN: usize = 1;

#[test]
fn a_subscription_that_could_not_be_left_ends_with_its_token() {
    let subscribe = Step::Subscribe { place: (0, 0), topic: WITH_TOKEN, replay: Replay::default() };
    // While the activation waits, the mailbox has no place for the deactivation.
    world(1).run(&[subscribe, Step::Unsubscribe { place: (0, 0), topic: WITH_TOKEN }]);
}

#[test]
fn a_subscriber_whose_tokens_expire_one_after_the_other_is_told_of_the_last_end() {
    let subscribe = Step::Subscribe { place: (0, 0), topic: WITH_TOKEN, replay: Replay::default() };
    let expire = [
        Step::Pass { millis: 2_100, is_swept: false },
        // The turn takes no mail, so that the subscription ends before its mail is taken.
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
