//! Separation of documents: every spot in the table subscribes, documents are written in all spots,
//! and each must receive exactly its own documents, at once and as the state for later subscribers.

use serde_json::{Value, json};

use super::app::{Headers, frame, put, service, user};
use super::listener::{Listener, message};
use crate::support::Node;

/// A place where a document is written and a client subscribes.
#[derive(Clone)]
struct Spot {
    name: &'static str,
    /// Organization, project, launch context and world.
    place: [&'static str; 4],
    resource: (&'static str, &'static str),
    /// The subscribed user; `None` for a service.
    user: Option<&'static str>,
    /// Whether the document is for this user only.
    is_own: bool,
}

/// Returns a spot with a shared document of the first place, and a service as subscriber.
fn spot(name: &'static str) -> Spot {
    let (place, resource) = (["o", "p", "", ""], ("kvStore", "a"));
    Spot { name, place, resource, user: None, is_own: false }
}

impl Spot {
    fn at(self, place: [&'static str; 4]) -> Self {
        Self { place, ..self }
    }

    fn of(self, resource: (&'static str, &'static str)) -> Self {
        Self { resource, ..self }
    }

    fn heard_by(self, user: &'static str) -> Self {
        Self { user: Some(user), ..self }
    }

    fn own(self, user: &'static str) -> Self {
        Self { is_own: true, ..self.heard_by(user) }
    }

    fn headers(&self) -> Headers {
        let names = ["x-m2-organization", "x-m2-project", "x-m2-launch-context", "x-m2-world"];
        let there = names.into_iter().zip(self.place).filter(|(_, value)| !value.is_empty());
        there.map(|(name, value)| (name, value.to_owned())).collect()
    }

    fn listen(&self, node: &Node) -> Listener {
        let headers = match self.user {
            Some(name) => user(self.headers(), name),
            None => service(self.headers()),
        };
        Listener::connect(node, &headers)
    }

    fn body(&self, what: &str) -> Value {
        let data = format!("{} of {}", what, self.name);
        match self.is_own {
            true => json!({ "userId": self.user, "audience": "user", "data": data }),
            false => json!({ "data": data }),
        }
    }

    /// Writes the document of this spot, and returns the frame that subscribers receive.
    fn write(&self, node: &Node, what: &str) -> String {
        let body = self.body(what);
        let (kind, id) = self.resource;
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let version = put(node, &self.headers(), (kind, &encoded), &body);
        let user = self.user.filter(|_| self.is_own);
        frame(user, self.resource, &body["data"].to_string(), &version)
    }

    /// Whether both spots write the same document.
    fn is_of_the_same(&self, other: &Self) -> bool {
        let audience = |spot: &Self| spot.user.filter(|_| spot.is_own);
        let is_there = self.place == other.place && self.resource == other.resource;
        is_there && audience(self) == audience(other)
    }

    /// Whether the subscriber of this spot receives the document of the other.
    fn hears(&self, other: &Self) -> bool {
        let is_same = self.place == other.place && self.resource == other.resource;
        is_same && (!other.is_own || self.user == other.user)
    }
}

fn spots() -> Vec<Spot> {
    let private = ("collection", "private");
    vec![
        spot("the first"),
        spot("another user of the first").heard_by("alice"),
        spot("another organization").at(["O", "p", "", ""]),
        spot("no project").at(["o", "", "", ""]),
        spot("another project").at(["o", "q", "", ""]),
        spot("a launch context").at(["o", "p", "l", ""]),
        spot("another launch context").at(["o", "p", "m", ""]),
        spot("a world").at(["o", "p", "", "w"]),
        spot("another world").at(["o", "p", "", "v"]),
        spot("a world named like the launch context").at(["o", "p", "", "l"]),
        spot("a world of a launch context").at(["o", "p", "l", "w"]),
        spot("a project with slashes").at(["o", "p/q", "", ""]),
        spot("the same, cut elsewhere").at(["o/p", "q", "", ""]),
        spot("the same, encoded").at(["o", "p%2Fq", "", ""]),
        spot("slashes that look like a place").at(["o", "p//", "", ""]),
        spot("an organization in two").at(["p", "o", "", ""]),
        spot("another type").of(("collection", "a")),
        spot("yet another type").of(("liveConfig", "a")),
        spot("another id").of(("kvStore", "b")),
        spot("an id in another case").of(("kvStore", "A")),
        spot("an id that is longer").of(("kvStore", "a/")),
        spot("an id that names a type").of(("kvStore", "kvStore/a")),
        spot("an id with a blank").of(("kvStore", "a ")),
        spot("a user's own").own("alice"),
        spot("another user's own").own("bob"),
        spot("a user in another case").own("Alice"),
        spot("a user's own in a world").at(["o", "p", "", "w"]).own("alice"),
        spot("a user's own elsewhere").at(["O", "p", "", ""]).own("alice"),
        spot("a private collection").of(private).own("alice"),
        spot("another private collection").of(private).own("bob"),
        spot("a private one elsewhere").of(private).at(["o", "q", "", ""]).own("alice"),
        spot("what is named private and is not").of(("kvStore", "private")),
        spot("a private one in capitals").of(("collection", "Private")),
    ]
}

/// Starts a node that does not require a project.
fn start() -> Node {
    Node::with_env(&[("FANFARE_M2_REQUIRE_PROJECT", "false")])
}

#[test]
fn everybody_hears_exactly_those_of_its_place() {
    let (node, spots) = (start(), spots());
    let mut listeners: Vec<_> = spots.iter().map(|spot| spot.listen(&node)).collect();
    for (spot, listener) in spots.iter().zip(&mut listeners) {
        listener.subscribe_early(spot.resource.0, spot.resource.1);
    }
    let mut told: Vec<Vec<String>> = vec![Vec::new(); spots.len()];
    for what in ["the first", "the second", "the last"] {
        for written in &spots {
            let frame = written.write(&node, what);
            let hears = spots.iter().zip(&mut told).filter(|(spot, _)| spot.hears(written));
            hears.for_each(|(_, told)| told.push(frame.clone()));
        }
    }
    for ((spot, listener), told) in spots.iter().zip(&mut listeners).zip(&told) {
        let heard: Vec<_> = told.iter().map(|_| listener.hear()).collect();
        assert_eq!(&heard, told, "what is heard by {}", spot.name);
        assert!(told.len() >= 3, "{} hears its own", spot.name);
    }
    assert!(spots.len() * spots.len() > 900, "pairs");
}

/// Tests both sources of states: documents that the node caches because of a subscriber, and the
/// store.
#[test]
fn who_comes_later_is_told_exactly_those_of_its_place() {
    let (mut node, spots) = (start(), spots());
    let before: Vec<_> = spots
        .iter()
        .step_by(2)
        .map(|spot| {
            let mut listener = spot.listen(&node);
            listener.subscribe_early(spot.resource.0, spot.resource.1);
            listener
        })
        .collect();
    for spot in &spots {
        spot.write(&node, "an earlier one");
    }
    // Two spots may write the same document: then the later write counts.
    let mut current: Vec<(&Spot, String)> = Vec::new();
    for spot in &spots {
        current.retain(|(other, _)| !spot.is_of_the_same(other));
        current.push((spot, spot.write(&node, "the current one")));
    }
    check_states(&node, &spots, &current);
    drop(before);
    node.restart();
    check_states(&node, &spots, &current);
}

fn check_states(node: &Node, spots: &[Spot], current: &[(&Spot, String)]) {
    for spot in spots {
        let mut listener = spot.listen(node);
        let states = current.iter().filter(|(written, _)| spot.hears(written));
        let mut expected: Vec<_> = states.map(|(_, frame)| frame.clone()).collect();
        listener.say(&message("subscribe", spot.resource.0, spot.resource.1));
        let mut told: Vec<_> = expected.iter().map(|_| listener.hear()).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "what {} is told", spot.name);
        // The store answers in order, so a wrong state would come before this.
        listener.subscribe_early("kvStore", "nothing is there");
    }
}
