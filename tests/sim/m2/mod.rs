//! Simulation of M2 Realtime. Documents are written and deleted at random, while clients connect,
//! disconnect, subscribe again and stop reading, mailboxes fill up, the store answers late and the
//! node restarts. A model of the store and of its only writer predicts what each client must know.
//!
//! Tests plant faults in the model, and between the model and the workers. Each must be found.

mod client;
mod resource;
mod start;
mod station;
mod store;
mod word;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::WORKERS;
use crate::worlds::Pace;
use start::Start;
use world::World;

const CLIENTS: usize = 12;
const SCOPES: usize = 4;
/// Resources of each scope.
const NUMBERS: usize = 75;
/// The length of the longest document's data.
const BYTES_MAX: usize = 3_000_000;

/// A step of a simulation.
#[derive(Clone)]
enum Step {
    Subscribe {
        client: usize,
        number: usize,
    },
    Unsubscribe {
        client: usize,
        number: usize,
    },
    /// A client connects again, for the same party or for another scope and user.
    Reconnect {
        client: usize,
        party: Option<(usize, Option<usize>)>,
    },
    /// A back end writes a document `times` times, or deletes it if `bytes` is `None`. It is a
    /// shared document if `owner` is `None`.
    Write {
        resource: (usize, usize),
        owner: Option<usize>,
        bytes: Option<usize>,
        version: Given,
        times: usize,
    },
    /// The writer commits waiting writes, unless it has other work under way.
    Commit,
    /// The writer begins to answer queued loads, unless it has other work under way.
    Load {
        is_readable: bool,
    },
    /// The writer takes `steps` steps of its work under way: fan-out or answers.
    GoOn {
        steps: usize,
    },
    /// A worker takes a turn with at most `mail` pieces of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
    /// A client reads `bytes` more bytes, or all if it is `None`.
    Read {
        client: usize,
        bytes: Option<usize>,
    },
    Pass {
        millis: u64,
    },
    Restart,
}

/// Writes one line, also for `{:#?}`, because a failed test lists many steps.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribe { client, number } => {
                write!(f, "client {client} subscribes to {number}")
            }
            Self::Unsubscribe { client, number } => write!(f, "client {client} leaves {number}"),
            Self::Reconnect { client, party } => write!(f, "client {client} comes anew, {party:?}"),
            Self::Write { resource: (scope, number), owner, bytes, version, times } => {
                write!(f, "{number} of scope {scope} and user {owner:?} gets {bytes:?} bytes, ")?;
                write!(f, "version {version:?}, {times} times")
            }
            Self::Commit => f.write_str("the writer commits"),
            Self::Load { is_readable } => write!(f, "the writer loads, {is_readable}"),
            Self::GoOn { steps } => write!(f, "the writer takes {steps} steps"),
            Self::Turn { worker, mail } => write!(f, "worker {worker} takes {mail} pieces of mail"),
            Self::Read { client, bytes } => write!(f, "client {client} reads {bytes:?} bytes"),
            Self::Pass { millis } => write!(f, "{millis} ms pass"),
            Self::Restart => f.write_str("the node restarts"),
        }
    }
}

/// The version that a writer gives, in milliseconds behind or ahead of now.
#[derive(Clone, Copy, Debug)]
enum Given {
    None,
    Behind(u64),
    Ahead(u64),
}

/// The parameters of a world.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Places of each kind in each mailbox.
    slots: usize,
    notify_deletes: bool,
    /// The number of clients that take part in steps.
    crowd: usize,
    /// How many bytes a new client reads; `None` if it reads all.
    reads: Option<usize>,
    /// Whether ballast leaves the directory little room for documents.
    has_ballast: bool,
    planted: Planted,
}

/// A fault that the model makes on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Planted {
    Nothing,
    /// A subscriber receives the version before the last write.
    SnapshotAfterUpdate,
    /// The store is read between a commit and its fan-out.
    LoadBeforeFanOut,
    /// The store is read when the client subscribes, but the worker receives the subscribe later.
    LostBetween,
    /// Stale documents are forgotten as soon as their client can take all its frames.
    StaleForgotten,
    /// Stale documents are kept after their subscription has ended.
    StaleOutlives,
    /// Stale documents lose the count of the subscribes that they must answer.
    UnansweredForgotten,
    /// Every document is published as a shared one.
    AudienceIgnored,
    /// Scopes of the same organization are taken for the same scope.
    ScopeCut,
}

/// A property of what a client receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Each document is in the client's scope, and none is another user's own.
    Scope,
    /// Each message is about a resource that the client is subscribed to.
    Subscribed,
    /// The version of a document never goes back.
    Forward,
    /// No version comes twice, unless the client has subscribed again.
    Once,
    /// Every subscribe is answered, and at most once by the warning that there is no document.
    Answered,
    /// The last version that each client received is that of the store.
    LastWord,
}

/// A broken rule, and the text that shows it.
#[derive(Debug)]
struct Wrong {
    rule: Rule,
    what: String,
}

impl Wrong {
    fn new(rule: Rule, what: String) -> Self {
        Self { rule, what }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// Generates numbers of resources: mostly the first few, so that steps concern the same ones.
fn number() -> impl Strategy<Value = usize> {
    prop_oneof![9 => 0..3usize, 1 => 0..NUMBERS]
}

fn scope() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 0..SCOPES]
}

/// Generates lengths of turns: mostly short, so that other steps come between.
fn some() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 1..6usize, 1 => 6..100usize]
}

fn write() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        3 => Just((Some(100), 1)),
        3 => (50_000..300_000usize).prop_map(|bytes| (Some(bytes), 1)),
        2 => Just((None, 1)),
        1 => (60..120usize).prop_map(|times| (Some(100), times)),
        1 => (2..6usize).prop_map(|times| (Some(300_000), times)),
    ];
    let version = prop_oneof![
        6 => Just(Given::None),
        1 => (0..500u64).prop_map(Given::Behind),
        1 => (0..500u64).prop_map(Given::Ahead),
    ];
    let owner = prop_oneof![2 => Just(None), 1 => (0..2usize).prop_map(Some)];
    ((scope(), number()), owner, size, version).prop_map(
        |(resource, owner, (bytes, times), version)| Step::Write {
            resource,
            owner,
            bytes,
            version,
            times,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..CLIENTS, number());
    let party = (scope(), prop::option::of(0..2usize));
    let bytes = prop_oneof![
        3 => Just(Some(0)),
        2 => (1..600_000usize).prop_map(Some),
        1 => Just(None),
    ];
    let is_readable = prop::bool::weighted(0.98);
    prop_oneof![
        80 => write(),
        60 => place().prop_map(|(client, number)| Step::Subscribe { client, number }),
        30 => place().prop_map(|(client, number)| Step::Unsubscribe { client, number }),
        8 => (0..CLIENTS, prop::option::of(party))
            .prop_map(|(client, party)| Step::Reconnect { client, party }),
        40 => Just(Step::Commit),
        40 => is_readable.prop_map(|is_readable| Step::Load { is_readable }),
        60 => some().prop_map(|steps| Step::GoOn { steps }),
        90 => (0..WORKERS, some()).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
        40 => (0..CLIENTS, bytes).prop_map(|(client, bytes)| Step::Read { client, bytes }),
        10 => (1..100u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Restart),
    ]
}

/// Generates steps of clients that do not keep up with a few large documents.
fn slow_step() -> impl Strategy<Value = Step> {
    let place = || (0..8usize, 0..3usize);
    let size = prop_oneof![
        4 => (1..5usize).prop_map(|times| (Some(300_000), times)),
        1 => (1..8usize).prop_map(|times| (Some(BYTES_MAX), times)),
        1 => Just((Some(100), 1)),
        3 => Just((None, 1)),
    ];
    let owner = prop_oneof![3 => Just(None), 1 => (0..2usize).prop_map(Some)];
    let write =
        ((Just(0), 0..3usize), owner, size).prop_map(|(resource, owner, (bytes, times))| {
            Step::Write { resource, owner, bytes, version: Given::None, times }
        });
    let bytes = prop_oneof![
        3 => Just(Some(0)),
        3 => (1..600_000usize).prop_map(Some),
        1 => Just(None),
    ];
    let is_readable = prop::bool::weighted(0.9);
    prop_oneof![
        60 => write,
        60 => place().prop_map(|(client, number)| Step::Subscribe { client, number }),
        10 => place().prop_map(|(client, number)| Step::Unsubscribe { client, number }),
        2 => (0..8usize).prop_map(|client| Step::Reconnect { client, party: None }),
        40 => Just(Step::Commit),
        20 => is_readable.prop_map(|is_readable| Step::Load { is_readable }),
        60 => some().prop_map(|steps| Step::GoOn { steps }),
        60 => (0..WORKERS, some()).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
        15 => (0..8usize, bytes).prop_map(|(client, bytes)| Step::Read { client, bytes }),
    ]
}

fn steps(pace: Pace) -> BoxedStrategy<Vec<Step>> {
    match pace {
        Pace::Mixed => prop::collection::vec(step(), 1..400).boxed(),
        Pace::Slow => prop::collection::vec(slow_step(), 1..150).boxed(),
    }
}

fn terms(pace: Pace, planted: Planted) -> impl Strategy<Value = Terms> {
    let reads = prop_oneof![
        if pace == Pace::Slow { 0 } else { 2 } => Just(None),
        1 => Just(Some(0)),
        1 => (0..600_000usize).prop_map(Some),
    ];
    let (crowd, tells_deletions) = match pace {
        Pace::Mixed => (1..=CLIENTS, 0.8),
        Pace::Slow => (1..=8, 0.3),
    };
    let (ballast, deletes) = (prop::bool::weighted(0.3), prop::bool::weighted(tells_deletions));
    let terms = (2..100usize, crowd, reads, deletes, ballast);
    terms.prop_map(move |(slots, crowd, reads, notify_deletes, has_ballast)| Terms {
        slots,
        notify_deletes,
        crowd,
        reads,
        has_ballast,
        planted,
    })
}

/// Runs the runner's number of worlds, or until one breaks `rule`, or any rule if it is `None`.
/// Returns that world with the steps that the fault needs; `None` if no world breaks the rule.
fn search(
    runner: &mut TestRunner,
    pace: Pace,
    planted: Planted,
    rule: Option<Rule>,
) -> Option<Found> {
    let is_it = |wrong: &Wrong| rule.is_none_or(|rule| rule == wrong.rule);
    let found =
        runner.run(&(steps(pace), terms(pace, planted)), |(steps, terms)| {
            match World::new(terms, &Start::new(terms)).run(&steps) {
                Err(wrong) if is_it(&wrong) => Err(TestCaseError::fail(wrong.to_string())),
                _ => Ok(()),
            }
        });
    let (mut steps, terms) = match found {
        Ok(()) => return None,
        Err(TestError::Fail(_, failed)) => failed,
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    };
    // Remove each step that the fault does not need, and begin anew after each removal, because an
    // earlier step may have become unnecessary.
    let mut at = 0;
    while at < steps.len() {
        let step = steps.remove(at);
        match World::new(terms, &Start::new(terms)).run(&steps) {
            Err(wrong) if is_it(&wrong) => at = 0,
            _ => {
                steps.insert(at, step);
                at += 1;
            }
        }
    }
    let wrong = World::new(terms, &Start::new(terms)).run(&steps).err();
    Some(Found { wrong, steps, terms })
}

/// A world that breaks a rule.
#[derive(Debug)]
#[allow(dead_code, reason = "it is for people to read")]
struct Found {
    /// The broken rule; `None` if the shortened world breaks none.
    wrong: Option<Wrong>,
    steps: Vec<Step>,
    terms: Terms,
}

fn config(cases: u32) -> Config {
    Config { failure_persistence: None, max_shrink_iters: 1_024, ..Config::with_cases(cases) }
}

/// Returns a runner that generates the same worlds in each run.
fn runner(cases: u32) -> TestRunner {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config(cases), rng)
}

/// Checks that a planted fault breaks this rule, and that at most 24 steps show it.
fn check_found(pace: Pace, planted: Planted, rule: Rule) {
    let found = search(&mut runner(2_000), pace, planted, Some(rule));
    let Some(found) = found else { panic!("{planted:?} is not found") };
    assert!(found.steps.len() <= 24, "it takes many steps: {found:#?}");
}

#[test]
fn each_subscriber_ends_with_what_the_store_has() {
    let found = search(&mut TestRunner::new(config(500)), Pace::Mixed, Planted::Nothing, None);
    assert!(found.is_none(), "{found:#?}");
}

#[test]
fn each_slow_subscriber_ends_with_what_the_store_has() {
    let found = search(&mut TestRunner::new(config(500)), Pace::Slow, Planted::Nothing, None);
    assert!(found.is_none(), "{found:#?}");
}

/// Returns the step that writes a shared document in scope 0, or deletes it if `bytes` is `None`.
fn write_to(number: usize, bytes: Option<usize>, times: usize) -> Step {
    Step::Write { resource: (0, number), owner: None, bytes, version: Given::None, times }
}

#[test]
fn a_subscriber_is_answered_whose_first_document_went_stale_and_then_away() {
    let terms = Terms {
        slots: 6,
        notify_deletes: false,
        crowd: 5,
        reads: Some(0),
        has_ballast: false,
        planted: Planted::Nothing,
    };
    let bulk = Some(300_000);
    let steps = [
        write_to(0, bulk, 2),
        Step::Subscribe { client: 4, number: 2 },
        Step::Commit,
        write_to(2, bulk, 3),
        Step::Subscribe { client: 0, number: 0 },
        Step::GoOn { steps: 3 },
        Step::Commit,
        Step::GoOn { steps: 3 },
        Step::Turn { worker: 1, mail: 2 },
        write_to(0, None, 1),
        Step::Subscribe { client: 4, number: 0 },
        Step::Turn { worker: 1, mail: 6 },
    ];
    let done = World::new(terms, &Start::new(terms)).run(&steps);
    assert!(done.is_ok(), "{done:?}");
    let faulty = Terms { planted: Planted::UnansweredForgotten, ..terms };
    let done = World::new(faulty, &Start::new(faulty)).run(&steps);
    assert!(done.is_err_and(|wrong| wrong.rule == Rule::Answered), "these steps show the fault");
}

#[test]
fn a_subscriber_with_a_document_of_its_own_is_not_told_that_there_is_none() {
    let terms = Terms {
        slots: 4,
        notify_deletes: false,
        crowd: 1,
        reads: Some(0),
        has_ballast: false,
        planted: Planted::Nothing,
    };
    let own = Step::Write {
        resource: (0, 0),
        owner: Some(0),
        bytes: Some(300_000),
        version: Given::None,
        times: 1,
    };
    let steps = [
        write_to(0, Some(300_000), 3),
        Step::Subscribe { client: 0, number: 0 },
        Step::Commit,
        Step::GoOn { steps: 3 },
        Step::Subscribe { client: 0, number: 0 },
        Step::Turn { worker: 0, mail: 2 },
        Step::Load { is_readable: true },
        write_to(0, None, 1),
        Step::Turn { worker: 0, mail: 3 },
        Step::GoOn { steps: 3 },
        own,
    ];
    let done = World::new(terms, &Start::new(terms)).run(&steps);
    assert!(done.is_ok(), "{done:?}");
}

/// Runs 200 worlds, the same in each run. Panics if one of these things happens fewer than 20 times
/// in all of them.
fn check_meets(pace: Pace, all: &[&str]) {
    let tally = RefCell::new(BTreeMap::new());
    let worlds = (steps(pace), terms(pace, Planted::Nothing));
    let done = runner(200).run(&worlds, |(steps, terms)| {
        let start = Start::new(terms);
        let mut world = World::new(terms, &start);
        let done = world.run(&steps);
        for (what, count) in world.common.tally.take() {
            *tally.borrow_mut().entry(what).or_insert(0) += count;
        }
        done.map_err(|wrong| TestCaseError::fail(wrong.to_string()))
    });
    assert!(done.is_ok(), "{done:?}");
    let tally = tally.into_inner();
    for what in all {
        assert!(tally.get(what).is_some_and(|count| *count >= 20), "{what}: {tally:#?}");
    }
}

#[test]
fn all_that_can_meet_meets() {
    let all = ["answer", "busy", "conflated", "known", "missing", "not found", "not joined"];
    let more = ["not retained", "outdated answer", "owed", "paid", "restart", "stale", "written"];
    check_meets(Pace::Mixed, &[&all[..], &more[..], &["known to be absent"][..]].concat());
}

#[test]
fn all_that_can_meet_slow_clients_meets_them() {
    let all = ["answer", "answered by what is owed", "full", "known", "known to be absent"];
    let more = ["not found", "outdated answer", "owed", "paid", "told again"];
    check_meets(Pace::Slow, &[&all[..], &more[..]].concat());
}

#[test]
fn a_snapshot_that_comes_after_an_update_is_found() {
    check_found(Pace::Mixed, Planted::SnapshotAfterUpdate, Rule::Forward);
}

#[test]
fn a_document_that_is_read_before_its_fan_out_is_found() {
    check_found(Pace::Mixed, Planted::LoadBeforeFanOut, Rule::Once);
}

#[test]
fn an_update_that_is_lost_before_the_subscription_is_found() {
    check_found(Pace::Mixed, Planted::LostBetween, Rule::LastWord);
}

#[test]
fn stale_documents_that_are_not_read_again_are_found() {
    check_found(Pace::Mixed, Planted::StaleForgotten, Rule::LastWord);
}

#[test]
fn stale_documents_of_an_ended_subscription_are_found() {
    check_found(Pace::Mixed, Planted::StaleOutlives, Rule::Subscribed);
}

#[test]
fn a_subscribe_that_what_is_owed_does_not_answer_is_found() {
    check_found(Pace::Slow, Planted::UnansweredForgotten, Rule::Answered);
}

#[test]
fn another_users_document_is_found() {
    check_found(Pace::Mixed, Planted::AudienceIgnored, Rule::Scope);
}

#[test]
fn scopes_that_are_taken_for_each_other_are_found() {
    check_found(Pace::Mixed, Planted::ScopeCut, Rule::Scope);
}
