//! The members of a channel on all nodes.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::fleet::{Fleet, try_publish};
use crate::socket::{Event, Heard, SUBSCRIBE, Socket};
use crate::support::{Node, user_token};

const ROOM: &str = "room";
const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take until the members of a node that is killed have left.
const KILLED: Duration = Duration::from_secs(5);

/// A subscriber that knows the members from its snapshot and from the news behind that.
struct Watcher {
    socket: Socket,
    /// The presence in the answer to its subscribe.
    snapshot: Value,
    members: BTreeSet<String>,
    /// Joins, leaves and publications, in order.
    log: Vec<String>,
}

impl Watcher {
    fn subscribe(node: &Node, user: &str) -> Self {
        let socket = Socket::connect(node.port(), &user_token(user));
        let (snapshot, members, log) = (Value::Null, BTreeSet::new(), Vec::new());
        let mut watcher = Self { socket, snapshot, members, log };
        let answer = watcher.ask(SUBSCRIBE);
        assert_eq!(answer["ok"], true, "{answer}");
        watcher.snapshot = answer["presence"].clone();
        let members = watcher.snapshot["members"].as_array().expect("a list");
        watcher.members = members.iter().map(name).collect();
        assert_eq!(watcher.members.len(), members.len(), "each is named once: {answer}");
        watcher
    }

    fn ask(&mut self, command: &str) -> Value {
        let asked = self.socket.ask(command, &json!({ "channel": ROOM }));
        self.socket.flush();
        loop {
            match self.socket.hear() {
                Heard::Ack(number, answer) if number == asked => return answer,
                Heard::Event(event) => self.note(&event),
                heard => panic!("unexpected: {heard:?}"),
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let (event, body) = event.parts();
        let who = || name(&body["member"]);
        match &*event {
            "presence:join" => assert!(self.members.insert(who()), "told twice: {body}"),
            "presence:leave" => assert!(self.members.remove(&who()), "not there: {body}"),
            "tick" => return self.log.push(body["payload"].to_string()),
            other => panic!("{other}: {body}"),
        }
        self.log.push(format!("{event} {} {}", who(), body["meta"]["messageId"]));
    }

    /// Listens until `is_so`. Returns how long that took.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}, {:?}", self.members, self.log);
            match self.socket.look() {
                Heard::Event(event) => self.note(&event),
                Heard::Nothing => {}
                heard => panic!("unexpected: {heard:?}"),
            }
        }
        start.elapsed()
    }

    /// Listens until these are the members.
    fn until_members(&mut self, expected: &[&str]) -> Duration {
        let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
        self.until("the members", |one| one.members == expected)
    }

    fn until_heard(&mut self, payload: &Value) {
        let payload = payload.to_string();
        self.until("a publication", |one| one.log.contains(&payload));
    }

    fn unsubscribe(&mut self) {
        assert_eq!(self.ask(UNSUBSCRIBE), json!({ "ok": true }));
    }
}

fn name(member: &Value) -> String {
    member["presenceId"].as_str().expect("a member has an id").to_owned()
}

fn start(count: usize, presence: &str) -> Fleet {
    let fleet = Fleet::start(count);
    fleet.define(&json!({ "pattern": ROOM, "presence": presence }));
    fleet
}

/// Publishes on a node, and waits until all have heard it, and so everything before it.
fn mark(node: &Node, watchers: &mut [&mut Watcher], payload: &Value) {
    let (status, receipt) = try_publish(node, ROOM, payload);
    assert_eq!(status, 201, "{receipt}");
    watchers.iter_mut().for_each(|one| one.until_heard(payload));
}

#[test]
fn snapshots_and_news_tell_of_members_on_all_nodes() {
    let fleet = start(3, "full");
    let [one, two, three] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let mut ada = Watcher::subscribe(one, "ada");
    assert_eq!(ada.members.len(), 1, "{}", ada.snapshot);
    let mut bob = Watcher::subscribe(two, "bob");
    ada.until_members(&["ada", "bob"]);
    bob.until_members(&["ada", "bob"]);
    // Its node begins to hear the channel with it.
    let cyd = Watcher::subscribe(three, "cyd");
    assert_eq!(cyd.members.len(), 3, "{}", cyd.snapshot);
    assert_eq!(cyd.snapshot.get("truncated"), None);
    for watcher in [&mut ada, &mut bob] {
        watcher.until_members(&["ada", "bob", "cyd"]);
    }
    // A second connection of a user makes no member, and its end no leave.
    let mut again = Watcher::subscribe(one, "bob");
    assert_eq!(again.members.len(), 3, "{}", again.snapshot);
    mark(two, &mut [&mut ada, &mut bob, &mut again], &json!("a second bob"));
    bob.unsubscribe();
    mark(one, &mut [&mut ada, &mut again], &json!("the first one has left"));
    assert!(ada.members.contains("bob") && again.members.contains("bob"));
    again.unsubscribe();
    ada.until_members(&["ada", "cyd"]);
    // A connection that is closed leaves as well.
    drop(cyd);
    ada.until_members(&["ada"]);
    mark(three, &mut [&mut ada], &json!("the end"));
    let news = ada.log.iter().filter(|one| one.starts_with("presence")).count();
    assert_eq!(news, 4, "{:?}", ada.log);
}

#[test]
fn all_nodes_hear_joins_and_leaves_at_the_same_places_among_publications() {
    let fleet = start(3, "full");
    let mut watchers: Vec<_> = fleet
        .nodes
        .iter()
        .enumerate()
        .map(|(number, node)| Watcher::subscribe(node, &format!("watcher{number}")))
        .collect();
    let all = ["watcher0", "watcher1", "watcher2"];
    for watcher in &mut watchers {
        watcher.until_members(&all);
    }
    let begun = json!("begin");
    mark(&fleet.nodes[0], &mut watchers.iter_mut().collect::<Vec<_>>(), &begun);
    thread::scope(|scope| {
        for (number, node) in fleet.nodes.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..40 {
                    // The same users come and go on all nodes.
                    let mut guest = Watcher::subscribe(node, &format!("guest{}", round % 3));
                    guest.unsubscribe();
                }
            });
            scope.spawn(move || {
                for round in 0..40 {
                    let payload = json!(format!("{number} {round}"));
                    assert_eq!(try_publish(node, ROOM, &payload).0, 201);
                }
            });
        }
        for watcher in &mut watchers {
            scope.spawn(|| watcher.until("publications", |one| one.log.len() > 150));
        }
    });
    let end = json!("end");
    mark(&fleet.nodes[1], &mut watchers.iter_mut().collect::<Vec<_>>(), &end);
    for watcher in &mut watchers {
        watcher.until_members(&all);
    }
    let logs: Vec<_> = watchers.iter().map(|one| between(&one.log, &begun, &end)).collect();
    assert_eq!(logs[1], logs[0]);
    assert_eq!(logs[2], logs[0]);
    let news = logs[0].iter().filter(|one| one.starts_with("presence")).count();
    assert!(news >= 20, "{news} joins and leaves");
    println!("{news} joins and leaves among {} events, in one order", logs[0].len());
}

/// Returns what was heard between two publications.
fn between<'l>(log: &'l [String], begin: &Value, end: &Value) -> &'l [String] {
    let place = |payload: &Value| {
        let payload = payload.to_string();
        log.iter().position(|one| *one == payload).expect("it was heard")
    };
    &log[place(begin) + 1..place(end)]
}

#[test]
fn the_members_of_a_killed_node_leave() {
    let mut fleet = start(3, "full");
    let [one, two, three] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let mut watchers = [Watcher::subscribe(one, "ada"), Watcher::subscribe(two, "bob")];
    let lost = ["cyd", "dan", "bob"].map(|user| Watcher::subscribe(three, user));
    for watcher in &mut watchers {
        watcher.until_members(&["ada", "bob", "cyd", "dan"]);
    }
    let killed = Instant::now();
    fleet.nodes[2].kill();
    drop(lost);
    for watcher in &mut watchers {
        watcher.until_members(&["ada", "bob"]);
        let took = killed.elapsed();
        println!("the members of a killed node have left after {took:?}");
        assert!(took < KILLED, "{took:?}");
    }
    let end = json!("end");
    let [ada, bob] = &mut watchers;
    mark(&fleet.nodes[0], &mut [ada, bob], &end);
    assert_eq!(
        watchers[0].log[watchers[0].log.len() - 3..],
        watchers[1].log[watchers[1].log.len() - 3..]
    );
    // Who attaches afterwards does not see them.
    fleet.nodes[2].restart();
    fleet.wait_until_healthy();
    let mut eve = Watcher::subscribe(&fleet.nodes[2], "eve");
    eve.until_members(&["ada", "bob", "eve"]);
    for watcher in &mut watchers {
        watcher.until_members(&["ada", "bob", "eve"]);
    }
}

#[test]
fn the_members_of_a_node_that_is_started_again_leave() {
    let mut fleet = start(2, "full");
    let mut ada = Watcher::subscribe(&fleet.nodes[0], "ada");
    let bob = Watcher::subscribe(&fleet.nodes[1], "bob");
    ada.until_members(&["ada", "bob"]);
    fleet.nodes[1].kill();
    let killed = Instant::now();
    fleet.nodes[1].restart();
    drop(bob);
    ada.until_members(&["ada"]);
    let took = killed.elapsed();
    println!("the members of a node that was started again have left after {took:?}");
    assert!(took < KILLED, "{took:?}");
    fleet.wait_until_healthy();
    let mut cyd = Watcher::subscribe(&fleet.nodes[1], "cyd");
    cyd.until_members(&["ada", "cyd"]);
    ada.until_members(&["ada", "cyd"]);
}

#[test]
fn the_members_of_a_node_that_drains_leave() {
    let mut fleet = start(2, "full");
    let mut ada = Watcher::subscribe(&fleet.nodes[0], "ada");
    let bob = Watcher::subscribe(&fleet.nodes[1], "bob");
    ada.until_members(&["ada", "bob"]);
    let stopped = Instant::now();
    fleet.nodes[1].signal(Signal::TERM);
    ada.until_members(&["ada"]);
    println!("the members of a node that drains have left after {:?}", stopped.elapsed());
    assert_eq!(fleet.nodes[1].exit_status(PATIENCE).code(), Some(0));
    drop(bob);
    mark(&fleet.nodes[0], &mut [&mut ada], &json!("end"));
    assert_eq!(ada.members.len(), 1);
}

#[test]
fn a_node_that_was_silent_is_repaired() {
    let fleet = start(3, "full");
    let [one, two, three] = [&fleet.nodes[0], &fleet.nodes[1], &fleet.nodes[2]];
    let mut ada = Watcher::subscribe(one, "ada");
    let mut bob = Watcher::subscribe(two, "bob");
    ada.until_members(&["ada", "bob"]);
    bob.until_members(&["ada", "bob"]);
    two.signal(Signal::STOP);
    let begun = Instant::now();
    let mut cyd = Watcher::subscribe(three, "cyd");
    let took = begun.elapsed();
    println!("a snapshot without a silent node took {took:?}: {}", cyd.snapshot);
    assert_eq!(cyd.snapshot["truncated"], true);
    assert!(took < Duration::from_secs(2), "{took:?}");
    ada.until_members(&["ada", "cyd"]);
    two.signal(Signal::CONT);
    for watcher in [&mut ada, &mut bob, &mut cyd] {
        watcher.until_members(&["ada", "bob", "cyd"]);
    }
    mark(two, &mut [&mut ada, &mut bob, &mut cyd], &json!("end"));
    let mut dan = Watcher::subscribe(three, "dan");
    dan.until_members(&["ada", "bob", "cyd", "dan"]);
}

#[test]
fn counted_members_are_counted_once_on_all_nodes() {
    let fleet = start(2, "count");
    let count = |node: &Node, user: &str, expected: u64| {
        let start = Instant::now();
        loop {
            let mut one = Watcher::subscribe(node, user);
            let snapshot = one.snapshot.clone();
            one.unsubscribe();
            if snapshot == json!({ "members": [], "count": expected, "truncated": true }) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{expected}: {snapshot}");
        }
    };
    let [one, two] = [&fleet.nodes[0], &fleet.nodes[1]];
    let ada = Watcher::subscribe(one, "ada");
    count(two, "bob", 2);
    let bobs = [one, two].map(|node| Watcher::subscribe(node, "bob"));
    count(one, "cyd", 3);
    count(two, "cyd", 3);
    drop(bobs);
    count(one, "cyd", 2);
    count(two, "cyd", 2);
    assert!(ada.log.is_empty(), "nothing is announced");
}

#[test]
fn a_local_channel_has_the_members_of_its_own_node() {
    let fleet = Fleet::start(2);
    fleet.define(&json!({ "pattern": ROOM, "order": "local" }));
    let [one, two] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut ada = Watcher::subscribe(one, "ada");
    let bob = Watcher::subscribe(two, "bob");
    assert_eq!(bob.members.len(), 1, "{}", bob.snapshot);
    let _cyd = Watcher::subscribe(one, "cyd");
    ada.until_members(&["ada", "cyd"]);
}

#[test]
fn a_channel_that_begins_to_show_its_members_shows_those_of_all_nodes() {
    let fleet = start(2, "off");
    let [one, two] = [&fleet.nodes[0], &fleet.nodes[1]];
    let mut ada = Watcher::subscribe(one, "ada");
    let mut bob = Watcher::subscribe(two, "bob");
    assert_eq!(ada.members.len(), 0);
    let (_, all) = one.admin("GET", "/api/realtime/channels", &Value::Null);
    let path = format!("/api/realtime/channels/{}", all[0]["id"].as_str().expect("an id"));
    let (status, answer) = one.admin("PUT", &path, &json!({ "presence": "full" }));
    assert_eq!(status, 200, "{answer}");
    // Who came before is not shown, as on one node, and hears of the others.
    let mut cyd = Watcher::subscribe(one, "cyd");
    for watcher in [&mut ada, &mut bob, &mut cyd] {
        watcher.until_members(&["cyd"]);
    }
    let mut dan = Watcher::subscribe(two, "dan");
    for watcher in [&mut ada, &mut bob, &mut cyd, &mut dan] {
        watcher.until_members(&["cyd", "dan"]);
    }
}
