//! Calls beyond the bounds, and calls that are left when the node stops.

use super::*;
use crate::limits::{WEBHOOK_TARGET_CONCURRENT_MAX, WEBHOOK_TARGET_QUEUE_MAX};

#[test]
fn a_target_that_does_not_answer_holds_up_nobody_else() {
    let (dead, alive) = (Receiver::always(Answer::Silence), Receiver::always(Answer::Status(200)));
    let bench = Bench::new(settings());
    for _ in 0..200 {
        bench.webhooks.offer(call(&[&dead.url()]));
    }
    let begun = Instant::now();
    assert!(bench.carry(call(&[&dead.url(), &alive.url()])));
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    wait_until("as many are under way as may", || {
        dead.connections() == WEBHOOK_TARGET_CONCURRENT_MAX
    });
    assert_eq!(bench.counters.webhook_waiting.get(), 201);
    let (counters, told) = bench.stop(Duration::ZERO);
    assert_eq!(dead.connections(), WEBHOOK_TARGET_CONCURRENT_MAX);
    assert_eq!((counters.webhook_dropped_stopped.get(), told.try_iter().count()), (201, 201));
}

#[test]
fn a_call_between_two_attempts_holds_no_place() {
    let receiver = Receiver::start(|before| {
        Answer::Status(if before < WEBHOOK_TARGET_CONCURRENT_MAX { 500 } else { 200 })
    });
    let bench = Bench::new(Settings { retry: PATIENCE * 4, ..settings() });
    for _ in 0..WEBHOOK_TARGET_CONCURRENT_MAX {
        bench.webhooks.offer(call(&[&receiver.url()]));
        receiver.request();
    }
    assert!(bench.carry(call(&[&receiver.url()])));
}

#[test]
fn too_many_calls_for_a_target_are_dropped() {
    let (dead, alive) = (Receiver::always(Answer::Silence), Receiver::always(Answer::Status(200)));
    let bench = Bench::new(settings());
    let url = dead.url();
    for _ in 0..WEBHOOK_TARGET_QUEUE_MAX {
        bench.webhooks.offer(call(&[&url]));
    }
    assert!(!bench.carry(call(&[&url])));
    assert_eq!(bench.counters.webhook_dropped_target_queue.get(), 1);
    assert_eq!(bench.outcomes(), [0, 0, 0, 1]);
    assert!(bench.carry(call(&[&alive.url()])), "another target has room");
}

#[test]
fn drops_of_those_who_offer_are_counted_by_the_thread() {
    let dead = Receiver::always(Answer::Silence);
    let bench = Bench::new(settings());
    let megabyte = format!("\"{}\"", "x".repeat(1_000_000 - 2));
    let url = dead.url();
    let fits = WEBHOOK_WAITING_BYTES_MAX / megabyte.len();
    for _ in 0..fits {
        bench.webhooks.offer(call_with(&megabyte, &[&url]));
    }
    assert!(!bench.carry(call_with(&megabyte, &[&url])));
    wait_until("it is counted", || bench.counters.webhook_dropped_bytes.get() == 1);
    assert_eq!(bench.outcomes(), [0, 0, 0, 1]);
}

#[test]
fn who_stops_waits_for_what_is_under_way() {
    let receiver = Receiver::always(Answer::Late(Duration::from_millis(300)));
    let bench = Bench::new(settings());
    for _ in 0..2 * WEBHOOK_TARGET_CONCURRENT_MAX {
        bench.webhooks.offer(call(&[&receiver.url()]));
    }
    let begun = Instant::now();
    let (counters, told) = bench.stop(PATIENCE);
    assert!(begun.elapsed() < PATIENCE, "it waits no longer than it must");
    assert_eq!(outcomes(&counters), [16, 0, 0, 0]);
    assert_eq!(told.try_iter().filter(|settled| settled.delivered).count(), 16);
}

#[test]
fn who_stops_waits_no_longer_than_so() {
    let receiver = Receiver::always(Answer::Silence);
    let bench = Bench::new(settings());
    for _ in 0..2 * WEBHOOK_TARGET_CONCURRENT_MAX {
        bench.webhooks.offer(call(&[&receiver.url()]));
    }
    receiver.request();
    let intake = bench.webhooks.intake();
    let begun = Instant::now();
    let (counters, told) = bench.stop(Duration::from_millis(200));
    assert!((Duration::from_millis(200)..PATIENCE / 4).contains(&begun.elapsed()));
    assert_eq!(outcomes(&counters), [0, 0, 0, 16]);
    assert_eq!(counters.webhook_dropped_stopped.get(), 16);
    assert_eq!(told.try_iter().filter(|settled| !settled.delivered).count(), 16);
    // A call that is offered after the end is reported as not delivered.
    intake.offer(call(&[&receiver.url()]));
    assert_eq!(told.try_iter().filter(|settled| !settled.delivered).count(), 1);
}

#[test]
fn a_stop_is_the_last_chance_of_what_waits_to_be_repeated() {
    let receiver = Receiver::start(|before| Answer::Status(if before == 0 { 503 } else { 200 }));
    let gone = Receiver::always(Answer::Status(503));
    let bench = Bench::new(Settings { retry: PATIENCE * 4, ..settings() });
    bench.webhooks.offer(call(&[&receiver.url(), &gone.url()]));
    receiver.request();
    gone.request();
    let begun = Instant::now();
    let (counters, _) = bench.stop(PATIENCE);
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(counters.webhook_attempts.get(), 4);
    assert_eq!(outcomes(&counters), [1, 1, 0, 0]);
}
