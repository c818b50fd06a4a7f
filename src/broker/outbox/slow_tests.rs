//! Consumers that do not keep up, and what the options of their channels demand then.

mod consumer;

use proptest::prelude::*;

use super::*;
use crate::message::Channel;
use consumer::{BYTES, Consumer, Item, delivery, own};

#[derive(Clone, Debug)]
enum Step {
    Own(usize),
    Publish(&'static str, &'static str, usize),
    Take(usize),
    Conflate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![1..2_000_usize, 200_000..1_000_000_usize];
    let channel = prop::sample::select(vec!["o1", "o2", "l1", "l2", "c"]);
    let event = prop::sample::select(vec!["a", "b", "c"]);
    let take = prop_oneof![1..3_000_usize, 1..5_000_000_usize];
    let step = prop_oneof![
        1 => length().prop_map(Step::Own),
        12 => (channel, event, length()).prop_map(|(c, e, l)| Step::Publish(c, e, l)),
        1 => take.prop_map(Step::Take),
        1 => Just(Step::Conflate),
    ];
    prop::collection::vec(step, 1..250)
}

/// The gap notices of many channels take space in the outbox themselves.
#[test]
fn room_for_a_frame_is_not_taken_by_the_notices_of_what_made_it() {
    const CHANNELS: u64 = 400;
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    let mut push = |item| assert!(outbox.push(item, OUTBOX_BYTES_MAX, &mut spares).is_ok());
    for round in 0..2 {
        for channel in 0..CHANNELS {
            push(delivery(round * CHANNELS + channel, &format!("l{channel}"), "e", 1));
        }
    }
    let least = OUTBOX_BYTES_MAX / OUTBOX_FREE_DIVISOR;
    let mut left = OUTBOX_BYTES_MAX - least - CHANNELS as usize;
    while left > 0 {
        let length = left.min(BYTES.len());
        push(own(0, length));
        left -= length;
    }
    let before = outbox.len();
    // The least that must be free is free once the older half is gone, but not with its notices.
    assert_eq!(outbox.shed(&own(1, BYTES.len()), OUTBOX_BYTES_MAX), None);
    assert_eq!(outbox.len(), before);
    let lost = outbox.shed(&own(1, 1), OUTBOX_BYTES_MAX).expect("a short one has room besides");
    assert_eq!((lost.conflated, lost.notices), (CHANNELS, CHANNELS));
    assert!(outbox.push(own(1, 1), OUTBOX_BYTES_MAX, &mut spares).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_lost_is_told_of_and_the_rest_keeps_its_order(steps in steps()) {
        let mut consumer = Consumer::default();
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Own(length) => consumer.push(own(number, length)),
                Step::Publish(channel, event, length) => {
                    consumer.push(delivery(number, channel, event, length));
                }
                Step::Take(bytes) => consumer.take(bytes),
                Step::Conflate => consumer.conflate(),
            }
            consumer.check();
            if consumer.is_closed {
                break;
            }
        }
    }
}

#[test]
fn half_is_free_after_the_oldest_went() {
    let mut consumer = Consumer::default();
    for number in 0..=OUTBOX_FRAMES_MAX as u64 {
        consumer.push(delivery(number, "o", "e", 100));
    }
    let half = OUTBOX_FRAMES_MAX as u64 / 2;
    assert_eq!(consumer.lost, Lost { oldest: half, conflated: 0, notices: 1 });
    let waiting = consumer.waiting();
    assert_eq!(waiting[0].gap(), Some((&Channel::from("o"), half)));
    assert_eq!(waiting[1].number(), Some(half));
    assert_eq!(waiting.last().and_then(Item::number), Some(2 * half));
    consumer.check();
}

#[test]
fn what_comes_makes_the_same_outdated() {
    let mut consumer = Consumer::default();
    for number in 0..16 {
        let event = if number == 0 { "first" } else { "e" };
        consumer.push(delivery(number, "l", event, 1_000_000));
    }
    consumer.push(delivery(16, "l", "first", 1_000_000));
    let waiting = consumer.waiting();
    assert_eq!(waiting[0].gap(), Some((&Channel::from("l"), 15)));
    let numbers: Vec<_> = waiting.iter().filter_map(Item::number).collect();
    assert_eq!(numbers, [15, 16]);
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 15, notices: 1 });
}

#[test]
fn an_outbox_full_of_what_must_stay_is_full() {
    let mut consumer = Consumer::default();
    let least = OUTBOX_FRAMES_MAX / OUTBOX_FREE_DIVISOR;
    for number in 0..OUTBOX_FRAMES_MAX as u64 {
        let channel = if number < least as u64 { "o" } else { "c" };
        consumer.push(delivery(number, channel, "e", 100));
    }
    consumer.push(own(1_000_000, 100));
    assert!(!consumer.is_closed, "a sixteenth may go");
    consumer.check();
    // The notice and the answer have taken two of the places.
    for number in 0..least as u64 - 2 {
        consumer.push(own(2_000_000 + number, 100));
    }
    assert!(!consumer.is_closed);
    consumer.push(delivery(3_000_000, "o", "e", 100));
    assert!(consumer.is_closed);
}

#[test]
fn a_frame_that_is_on_its_way_stays() {
    let mut consumer = Consumer::default();
    consumer.push(delivery(0, "l", "e", 1_000));
    consumer.take(1);
    consumer.push(delivery(1, "l", "e", 1_000));
    consumer.push(delivery(2, "l", "e", 1_000));
    consumer.conflate();
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 1, notices: 1 });
    assert_eq!(consumer.waiting()[0].number(), Some(0));
    consumer.check();
    // The notice is partly sent now, so the next loss has a notice of its own.
    consumer.take(1_000);
    consumer.push(delivery(3, "l", "e", 1_000));
    consumer.push(delivery(4, "l", "e", 1_000));
    consumer.conflate();
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 3, notices: 2 });
    let gaps: Vec<_> = consumer.waiting().iter().filter_map(|one| Some(one.gap()?.1)).collect();
    assert_eq!(gaps, [1, 2]);
    consumer.check();
}

#[test]
fn a_blocked_consumer_of_the_latest_holds_few_at_little_cost() {
    const PUBLICATIONS: u64 = 100_000;
    let mut consumer = Consumer::default();
    let events: Vec<String> = (0..50).map(|number| format!("e{number}")).collect();
    let mut looked = 0;
    for number in 0..PUBLICATIONS {
        let item = delivery(number, "l", &events[number as usize % events.len()], 100);
        consumer
            .outbox
            .push(item, OUTBOX_BYTES_MAX, &mut consumer.spares)
            .expect("far below the bounds");
        if consumer.outbox.is_crowded() {
            looked += consumer.outbox.len();
            consumer.lost.add(consumer.outbox.conflate());
        }
        assert!(consumer.outbox.len() <= 2 * (events.len() + 1) + 1, "{}", consumer.outbox.len());
    }
    assert!(looked as u64 <= 3 * PUBLICATIONS, "{looked} frames were looked at");
    assert_eq!(consumer.lost.notices, 1);
    let gap = consumer.waiting()[0].gap().map(|gap| gap.1);
    assert_eq!(gap, Some(consumer.lost.conflated));
    assert_eq!(consumer.outbox.len() as u64 - 1 + consumer.lost.conflated, PUBLICATIONS);
}

#[test]
fn who_reads_again_is_crowded_early_again() {
    let mut consumer = Consumer::default();
    for number in 0..1_000 {
        consumer.push(delivery(number, "l", &number.to_string(), 100));
    }
    consumer.conflate();
    assert!(!consumer.outbox.is_crowded());
    consumer.take(100 * 990);
    for number in 1_000..1_055 {
        assert!(!consumer.outbox.is_crowded());
        consumer.push(delivery(number, "l", "same", 100));
    }
    assert!(consumer.outbox.is_crowded());
}
