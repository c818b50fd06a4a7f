//! Random test of M2 Realtime: back ends write and delete documents, clients come, go, subscribe
//! again and pause their reading, and the node is killed and stopped. In the end, each client must
//! know the states that the node returns over HTTP.
//!
//! Every run uses the same random numbers. `FANFARE_TEST_SEED` selects others, and a failure shows
//! its seed. The interleaving of threads differs from run to run nevertheless.

mod back_end;
mod client;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::order::join;
use crate::overload::narrow;
use crate::support::{API_KEY, Node, an_hour_from_now, sign, wait_until};
use back_end::BackEnd;
use client::Client;

const SEED: u64 = 7_042;
const CLIENTS: usize = 44;
const BACK_ENDS: usize = 4;
/// The users. A client may also be a service, without a user.
const USERS: [&str; 3] = ["u", "v", "w"];
/// Number of resources of each kind in each scope.
const IDS: usize = 50;
/// The number of these that are used most.
const FEW: usize = 4;
/// Duration of each life of the node.
const LIVES: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(4)];
const CONFLATED: &str = "fanfare_deliveries_conflated_total";
/// How long the node and the test's threads may take to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The scope of resources: project and world in the one organization.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scope {
    project: &'static str,
    world: Option<&'static str>,
}

/// The scopes have no resource in common.
const SCOPES: [Scope; 3] = [
    Scope { project: "p", world: None },
    Scope { project: "p", world: Some("w") },
    Scope { project: "q", world: None },
];
const ORGANIZATION: &str = "o";

impl Scope {
    fn headers(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let project = [("x-m2-organization", ORGANIZATION), ("x-m2-project", self.project)];
        project.into_iter().chain(self.world.map(|world| ("x-m2-world-id", world)))
    }
}

/// A resource. Documents of the kind `liveConfig` are never written: clients subscribe to them in
/// order to find out which messages the node has handled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Resource {
    scope: Scope,
    kind: &'static str,
    number: usize,
}

impl Resource {
    fn id(self) -> String {
        if self.is_private() {
            "private".into()
        } else {
            format!("World:kvstoreClient:{}", self.number)
        }
    }

    fn is_private(self) -> bool {
        (self.kind, self.number) == ("collection", 0)
    }

    fn named(scope: Scope, kind: &str, id: &str) -> Option<Self> {
        let kind = ["kvStore", "collection"].into_iter().find(|known| *known == kind)?;
        let number = match id.rsplit_once(':') {
            Some((_, number)) => number.parse().ok()?,
            None => 0,
        };
        Some(Self { scope, kind, number }).filter(|one| one.id() == id)
    }

    fn all() -> impl Iterator<Item = Self> {
        let kinds = SCOPES
            .into_iter()
            .flat_map(|scope| ["kvStore", "collection"].map(|kind| (scope, kind)));
        kinds.flat_map(|(scope, kind)| (0..IDS).map(move |number| Self { scope, kind, number }))
    }
}

/// Names a document: a resource, and the user whose own document it is; `None` for the shared one.
type Key = (Resource, Option<&'static str>);

/// A source of random numbers.
pub(crate) struct Dice(StdRng);

impl Dice {
    fn new(seed: u64, stream: usize) -> Self {
        Self(StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(stream as u64)))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn resource(&mut self, scope: Scope) -> Resource {
        let kind = self.one_of(&["kvStore", "collection"]);
        let few = self.one_of(&[FEW, IDS]);
        Resource { scope, kind, number: self.below(few) }
    }

    fn user(&mut self) -> Option<&'static str> {
        let number = self.below(USERS.len() + 1);
        USERS.get(number).copied()
    }

    fn pause(&mut self, from_ms: usize, to_ms: usize) -> Duration {
        Duration::from_millis((from_ms + self.below(to_ms - from_ms)) as u64)
    }
}

/// The state that all threads share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Set when the back ends have written enough.
    is_enough: AtomicBool,
    /// Number of messages that clients have received.
    words: AtomicUsize,
    /// The existing documents after the last write.
    truth: OnceLock<HashMap<Key, (String, Value)>>,
    /// The latest version of each document that an answer has named.
    answered: Mutex<HashMap<Key, String>>,
}

impl Shared {
    fn answered(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.answered.lock().expect("nobody panics while it holds the lock")
    }
}

#[test]
fn every_subscriber_ends_with_what_the_documents_are() {
    let seed = std::env::var("FANFARE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    println!("FANFARE_TEST_SEED={seed}");
    let mut node = Node::with(|command| {
        command.args(["--workers", "2"]).env("FANFARE_DRAIN_MS", "300");
    });
    node.let_the_first_end();
    let shared = &Shared::default();
    let [clients, back_ends, last] = [CLIENTS, BACK_ENDS, 1].map(|count| ports(&node, count));
    thread::scope(|scope| {
        let client =
            |(port, number)| scope.spawn(move || Client::new(port, number, seed).live(shared));
        let clients: Vec<_> = clients.into_iter().zip(0..).map(client).collect();
        let back_end =
            |(port, number)| scope.spawn(move || BackEnd::new(port, number, seed).live(shared));
        let back_ends: Vec<_> = back_ends.into_iter().zip(0..).map(back_end).collect();
        live(&mut node, shared);
        shared.is_enough.store(true, Ordering::Relaxed);
        back_ends.into_iter().for_each(join);
        let truth = BackEnd::new(last[0], BACK_ENDS, seed).look_at_all();
        check_answered(&truth, shared);
        shared.truth.set(truth).expect("nobody else says it");
        clients.into_iter().for_each(join);
    });
}

/// Returns the ports for so many clients.
fn ports(node: &Node, count: usize) -> Vec<u16> {
    (0..count).map(|_| node.port()).collect()
}

/// Runs the node's lives, each of which ends in another way. The last one lasts until a client has
/// not kept up, clients have received many messages and many documents were written, so that slow
/// machines do the same work.
fn live(node: &mut Node, shared: &Shared) {
    let (port, mut conflated) = (node.ports()[0], 0);
    for (life, time) in LIVES.into_iter().enumerate() {
        thread::sleep(time);
        conflated += node.metric(CONFLATED);
        match life {
            0 => node.kill(),
            1 => {
                node.signal(Signal::TERM);
                assert!(node.exit_status(PATIENCE).success());
            }
            _ => break,
        }
        node.start_again(port);
    }
    wait_until("somebody does not keep up", || conflated + node.metric(CONFLATED) > 0);
    let is_told = || shared.words.load(Ordering::Relaxed) > 50 * CLIENTS;
    wait_until("clients are told a lot", is_told);
    wait_until("much is written", || shared.answered().len() > 100);
}

/// Checks that no answered write was lost or replaced by an older one.
fn check_answered(truth: &HashMap<Key, (String, Value)>, shared: &Shared) {
    let answered = shared.answered();
    for (key, (version, _)) in truth {
        let latest = answered.get(key);
        assert!(latest.is_none_or(|latest| latest <= version), "{key:?}: {version}, {latest:?}");
    }
}

/// Clients whose sockets were full read on: they receive the updates that they missed although
/// nothing else happens on the node.
#[test]
fn who_reads_on_is_told_at_once_what_it_missed() {
    const BULK: usize = 256 * 1024;
    const WRITES: usize = 60;
    let node = Node::with(|command| {
        // The node sends no pings meanwhile either.
        command.args(["--workers", "2"]).env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "300000");
    });
    let scope = SCOPES[0];
    let resources: Vec<_> =
        (1..=6).map(|number| Resource { scope, kind: "kvStore", number }).collect();
    // One on each worker, because new connections go to the worker with the fewest.
    let mut clients = [(); 2].map(|()| Client::over(narrow(node.port()), scope, None));
    for client in &mut clients {
        resources.iter().for_each(|resource| client.subscribe(*resource));
        client.pass_fence();
    }
    let mut back_end = BackEnd::new(node.port(), 0, SEED);
    for round in 0..WRITES {
        for resource in &resources {
            back_end.put((*resource, None), &json!({ "round": round, "fill": "x".repeat(BULK) }));
        }
    }
    wait_until("the clients are not sent everything", || node.metric(CONFLATED) > 0);
    let truth = back_end.look_at(resources.iter().map(|resource| (*resource, None)));
    clients.iter_mut().for_each(|client| client.converge(&truth));
}

/// Returns the credential of a user, or of a service.
fn credential(user: Option<&str>) -> (&'static str, String) {
    match user {
        None => ("x-api-key", API_KEY.to_owned()),
        Some(user) => {
            let claims = json!({
                "user_id": user,
                "organization_id": ORGANIZATION,
                "exp": an_hour_from_now(),
            });
            ("authorization", format!("Bearer {}", sign(&claims)))
        }
    }
}
