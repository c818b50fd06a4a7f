//! One order for all subscribers: each receives an unbroken part of the same order, which begins
//! with its acknowledgement and ends with its leave.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::member::Member;
use crate::publisher::{Caller, Report};
use crate::support::{ANON_KEY, Node, user_token};
use crate::witness::{END, Order, Witness};

const CHANNEL: &str = "race";
const WORKERS: usize = 2;
/// About 40 on each worker, because new connections go to the worker with the fewest.
const CHURNERS: u64 = 40 * WORKERS as u64;
/// How long they come and go, and how many times at most.
const CHURN: Duration = Duration::from_secs(3);
const ROUNDS_MAX: u64 = 100;
/// Much longer than a subscriber can be without events while publishers publish.
const QUIET_MAX: Duration = Duration::from_secs(5);

#[test]
fn all_hear_one_order_from_their_acknowledgement_to_their_leave() {
    let node = Node::with(|command| {
        command.args(["--workers", &WORKERS.to_string()]);
    });
    node.create_channel(CHANNEL);
    let token = user_token("witness");
    let ports: Vec<_> = node.ports().repeat(WORKERS);
    let subscribe = |port: &u16| Witness::subscribe(*port, CHANNEL, &token);
    let mut witnesses: Vec<_> = ports.iter().map(subscribe).collect();
    let homes: BTreeSet<_> =
        ports.iter().zip(&witnesses).map(|(port, one)| (port, one.home())).collect();
    assert_eq!(homes.len(), witnesses.len(), "there is one on each worker");

    let is_over = AtomicBool::new(false);
    let (heard, reports) = thread::scope(|scope| {
        let witnesses: Vec<_> =
            witnesses.iter_mut().map(|witness| scope.spawn(|| witness.listen())).collect();
        let reports = run(scope, &node, &is_over);
        node.publish(CHANNEL, END, &json!({}));
        (witnesses.into_iter().map(join).collect::<Vec<_>>(), reports)
    });

    let orders: Vec<_> = heard.iter().map(|events| Order::of(events)).collect();
    for (order, other) in orders.iter().zip(orders.iter().cycle().skip(1)) {
        order.check_rest(other.ids());
        other.check_rest(order.ids());
    }
    orders[0].check(&reports);
    let stays = reports.iter().map(|report| report.stays.len()).sum::<usize>();
    let publications = orders[0].publications();
    assert!(stays > reports.len(), "{stays} stays");
    assert!(publications > 100, "{publications} publications");
}

/// Runs all participants and returns their reports.
fn run<'scope>(
    scope: &'scope Scope<'scope, '_>,
    node: &'scope Node,
    is_over: &'scope AtomicBool,
) -> Vec<Report> {
    // The publishers end when this is dropped.
    let ending = Ending(is_over);
    let callers = (0..3).map(|number| scope.spawn(move || call(node.port(), number, is_over)));
    let callers: Vec<_> = callers.collect();
    let speakers = (3..5).map(|number| scope.spawn(move || speak(node.port(), number, is_over)));
    let speakers: Vec<_> = speakers.collect();
    let churners = (5..5 + CHURNERS).map(|number| scope.spawn(move || churn(node.port(), number)));
    let churners: Vec<_> = churners.collect();
    let pollers = (200..202).map(|number| scope.spawn(move || poll(node.port(), number)));
    let pollers: Vec<_> = pollers.collect();
    let mut reports: Vec<_> = churners.into_iter().chain(pollers).map(join).collect();
    drop(ending);
    reports.extend(callers.into_iter().chain(speakers).map(join));
    reports
}

/// Sets the flag when it is dropped, also if the test fails.
pub(crate) struct Ending<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes over HTTP, one at a time or several without waiting.
fn call(port: u16, number: u64, is_over: &AtomicBool) -> Report {
    let mut caller = Caller::new(port, CHANNEL, number);
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        caller.publish(1 + round % 4);
        thread::sleep(Duration::from_millis(10));
    }
    caller.report
}

/// Publishes from a subscribed socket, which receives everything.
fn speak(port: u16, number: u64, is_over: &AtomicBool) -> Report {
    let mut member = Member::connect(port, CHANNEL, ANON_KEY, number);
    member.enter();
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        member.publish(1 + round % 4);
        member.listen(usize::MAX, Duration::from_millis(10));
    }
    member.leave();
    member.report
}

/// Subscribes and leaves again and again, in different ways. Half of the clients are the same user,
/// whose coming and leaving are announced once. Those of the others are announced each time, which
/// shows their exact place in the order.
fn churn(port: u16, number: u64) -> Report {
    let token = if number.is_multiple_of(2) { ANON_KEY.into() } else { user_token("crew") };
    let mut member = Member::connect(port, CHANNEL, &token, number);
    let end = Instant::now() + CHURN;
    for round in 0..ROUNDS_MAX {
        if Instant::now() > end {
            break;
        }
        member.enter();
        let patience = (number * 7 + round * 5) % 40;
        match (number / 2 % 4, round % 3) {
            (0, _) => member.listen(1_000, CHURN / 2),
            (1, 2) => {
                member.listen(patience as usize, QUIET_MAX);
                member.vanish();
                continue;
            }
            (2, 2) => {
                member.listen(patience as usize, QUIET_MAX);
                member.reenter();
                continue;
            }
            _ => member.listen(patience as usize, QUIET_MAX),
        }
        member.leave();
    }
    member.report
}

/// Subscribes and leaves on long-polling.
fn poll(port: u16, number: u64) -> Report {
    let mut member = Member::connect(port, CHANNEL, ANON_KEY, number).over_polling();
    let end = Instant::now() + CHURN;
    for round in 0..ROUNDS_MAX {
        if Instant::now() > end {
            break;
        }
        member.enter();
        member.listen((round * 11 % 40) as usize, QUIET_MAX);
        member.leave();
    }
    member.report
}

/// Returns the result of a thread. If the thread panicked, panics with the same message.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
