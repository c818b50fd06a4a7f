use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::message::WorkerId;

const NODES: usize = 3;
const MEMBERS: usize = 4;
const FULL: PresenceMode = PresenceMode::Full;

fn member(number: usize) -> MemberId {
    MemberId::user(&format!("u{number}"))
}

fn name(id: &MemberId) -> String {
    id.text(&mut [0; 20]).to_owned()
}

/// A subscriber and the members that it has been told of.
struct Observer {
    connection: ConnId,
    member: usize,
    seen: BTreeSet<String>,
}

struct Node {
    life: NodeLife,
    own: Presence,
    roster: Roster,
    /// How much of the stream it has taken.
    at: usize,
    observers: Vec<Observer>,
    /// Everything that it has announced, with the place in the stream.
    announced: Vec<(usize, bool, String)>,
}

/// The nodes of a cluster and the stream of one channel.
struct World {
    nodes: Vec<Node>,
    stream: Vec<(NodeLife, Tidings)>,
    count: u32,
    /// How often a node asked because it had doubts.
    doubts: usize,
}

impl Node {
    fn new(number: usize, start: u32, at: usize) -> Self {
        let life = NodeLife { node: format!("n{number}").into(), start: start.into() };
        let roster = Roster::new(Tidings::beginning(start), false);
        let own = Presence::default();
        Self { life, own, roster, at, observers: Vec::new(), announced: Vec::new() }
    }

    fn take(&mut self, applied: &Applied) {
        for one in &applied.announcements {
            let name = name(&one.member.id);
            self.announced.push((self.at, one.is_join, name.clone()));
            for observer in &mut self.observers {
                let is_change = match (one.except == Some(observer.connection), one.is_join) {
                    (true, _) => true,
                    (false, true) => observer.seen.insert(name.clone()),
                    (false, false) => observer.seen.remove(&name),
                };
                assert!(is_change, "{name} was told twice to {:?}", observer.connection);
            }
        }
    }

    fn view(&mut self) -> BTreeSet<String> {
        let (snapshot, count) = self.roster.view(FULL, None);
        let names: BTreeSet<_> = snapshot.members.iter().map(|one| name(&one.id)).collect();
        assert_eq!(names.len(), count);
        names
    }
}

impl World {
    fn new() -> Self {
        let nodes = (0..NODES).map(|number| Node::new(number, 1, 0)).collect();
        Self { nodes, stream: Vec::new(), count: 1, doubts: 0 }
    }

    fn join(&mut self, number: usize, who: usize) {
        self.count += 1;
        let node = &mut self.nodes[number];
        let connection = ConnId { worker: WorkerId(0), slot: self.count, generation: 0 };
        let id = member(who);
        if let Some(member) = node.own.join(&id, 1) {
            node.roster.join(member, connection);
        }
        let (snapshot, _) = node.roster.view(FULL, Some((Some(&id), connection)));
        let seen = snapshot.members.iter().map(|one| name(&one.id)).collect();
        node.observers.push(Observer { connection, member: who, seen });
    }

    fn leave_by(&mut self, number: usize, which: Index) {
        if self.nodes[number].observers.is_empty() {
            return;
        }
        self.leave_at(number, which.index(self.nodes[number].observers.len()));
    }

    fn leave_at(&mut self, number: usize, at: usize) {
        let node = &mut self.nodes[number];
        let observer = node.observers.swap_remove(at);
        if let Some(member) = node.own.leave(&member(observer.member)) {
            node.roster.leave(member);
        }
    }

    fn send(&mut self, number: usize, is_lost: bool) {
        let node = &mut self.nodes[number];
        let tidings = node.roster.take(&node.own, 1, MessageId::nil());
        if is_lost {
            node.roster.tell_list();
        } else {
            self.stream.extend(tidings.into_iter().map(|one| (node.life.clone(), one)));
        }
    }

    /// Asks a node for its list.
    fn ask(&mut self, number: usize, other: usize) {
        let lists = self.nodes[other].roster.list(&self.nodes[other].own, 1, MessageId::nil());
        let life = self.nodes[other].life.clone();
        let node = &mut self.nodes[number];
        for list in lists {
            let applied = node.roster.apply(&life, &list, FULL);
            node.take(&applied);
        }
        node.roster.sort();
    }

    fn ask_all(&mut self, number: usize) {
        (0..NODES).filter(|other| *other != number).for_each(|other| self.ask(number, other));
    }

    fn hear(&mut self, number: usize, is_lost: bool) {
        let node = &mut self.nodes[number];
        let Some((from, tidings)) = self.stream.get(node.at).cloned() else { return };
        node.at += 1;
        if is_lost {
            node.roster.tell_list();
            self.ask_all(number);
            return;
        }
        let applied = node.roster.apply(&from, &tidings, FULL);
        node.take(&applied);
        if tidings.news == News::Gone(node.life.clone()) {
            node.roster.tell_list();
        }
        let other = self.nodes.iter().position(|one| one.life == from);
        if let Some(other) = other.filter(|other| applied.is_doubtful && *other != number) {
            self.doubts += 1;
            self.ask(number, other);
        }
    }

    /// Tells that a node has ended, rightly if it starts again.
    fn gone(&mut self, number: usize, starts_again: bool) {
        let life = self.nodes[number].life.clone();
        let other = self.nodes[(number + 1) % NODES].life.clone();
        let tidings = Tidings::new(0, MessageId::nil(), 1, News::Gone(life));
        self.stream.push((other, tidings));
        if starts_again {
            self.count += 1;
            self.nodes[number] = Node::new(number, self.count, self.stream.len());
            self.ask_all(number);
        }
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            (0..NODES).for_each(|number| self.send(number, false));
            for number in 0..NODES {
                while self.nodes[number].at < self.stream.len() {
                    self.hear(number, false);
                }
            }
        }
    }

    fn check(&mut self) {
        let all = self.nodes.iter().flat_map(|node| node.own.members());
        let all: BTreeSet<_> = all.map(|member| name(&member.id)).collect();
        for node in &mut self.nodes {
            assert_eq!(node.view(), all, "{:?}", node.life);
            for observer in &node.observers {
                assert_eq!(observer.seen, all, "{:?} {:?}", node.life, observer.connection);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, usize),
    Leave(usize, Index),
    Send(usize, bool),
    Hear(usize, bool),
    Gone(usize, bool),
}

fn steps(has_faults: bool) -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..NODES;
    let lost = move || prop::bool::weighted(if has_faults { 0.15 } else { 0.0 });
    let step = prop_oneof![
        4 => (node(), 0..MEMBERS).prop_map(|(node, who)| Step::Join(node, who)),
        4 => (node(), any::<Index>()).prop_map(|(node, which)| Step::Leave(node, which)),
        6 => (node(), lost()).prop_map(|(node, lost)| Step::Send(node, lost)),
        9 => (node(), lost()).prop_map(|(node, lost)| Step::Hear(node, lost)),
        u32::from(has_faults) => (node(), any::<bool>())
            .prop_map(|(node, again)| Step::Gone(node, again)),
    ];
    prop::collection::vec(step, 0..120)
}

fn run(steps: Vec<Step>) -> World {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Join(node, who) => world.join(node, who),
            Step::Leave(node, which) => world.leave_by(node, which),
            Step::Send(node, is_lost) => world.send(node, is_lost),
            Step::Hear(node, is_lost) => world.hear(node, is_lost),
            Step::Gone(node, starts_again) => world.gone(node, starts_again),
        }
    }
    world.settle();
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn all_nodes_converge_and_no_subscriber_is_told_twice(steps in steps(true)) {
        run(steps);
    }

    #[test]
    fn all_nodes_announce_the_same_at_the_same_places(steps in steps(false)) {
        let world = run(steps);
        prop_assert_eq!(world.doubts, 0);
        for node in &world.nodes {
            prop_assert_eq!(&node.announced, &world.nodes[0].announced);
        }
    }
}

#[test]
fn a_user_on_two_nodes_is_one_member() {
    let mut world = World::new();
    world.join(0, 0);
    world.settle();
    world.join(1, 0);
    world.settle();
    assert_eq!(world.nodes[2].announced, [(1, true, "u0".to_owned())]);
    let (_, count) = world.nodes[2].roster.view(PresenceMode::Count, None);
    assert_eq!(count, 1);
    world.leave_at(0, 0);
    world.settle();
    assert_eq!(world.nodes[2].announced.len(), 1);
    world.leave_at(1, 0);
    world.settle();
    assert_eq!(world.nodes[2].announced[1..], [(4, false, "u0".to_owned())]);
}

#[test]
fn a_list_of_many_parts_is_taken_whole() {
    let mut own = Presence::default();
    for number in 0..10_000_usize {
        own.join(&member(number), 1);
    }
    let mut roster = Roster::new(0, true);
    let parts = roster.take(&own, 1, MessageId::nil());
    assert!(parts.len() > 1, "{} parts", parts.len());
    let life = NodeLife { node: "n1".into(), start: 1 };
    let mut other = Roster::new(0, false);
    for (at, part) in parts.iter().enumerate() {
        assert_eq!(other.view(FULL, None).1, 0, "before part {at}");
        let applied = other.apply(&life, part, FULL);
        let is_last = at + 1 == parts.len();
        assert_eq!(applied.announcements.len(), if is_last { PRESENCE_MEMBERS_MAX } else { 0 });
        assert_eq!(applied.suppressed, if is_last { 10_000 - 256 } else { 0 });
    }
    assert_eq!(other.view(FULL, None).1, 10_000);
}

#[test]
fn many_changes_become_a_list() {
    let (mut own, mut roster) = (Presence::default(), Roster::new(0, false));
    let connection = ConnId { worker: WorkerId(0), slot: 0, generation: 0 };
    for number in 0..=PRESENCE_CHANGES_MAX {
        let member = own.join(&member(number), 1).expect("a new one");
        roster.join(member, connection);
    }
    let told = roster.take(&own, 1, MessageId::nil());
    assert!(matches!(&told[0].news, News::List { members, .. } if members.len() > 1_024));
    assert!(!roster.has_news());
}

#[test]
fn a_silent_node_makes_the_snapshot_partial() {
    let mut roster = Roster::new(0, false);
    roster.set_partial(true);
    assert!(roster.view(FULL, None).0.is_partial);
    roster.set_partial(false);
    assert!(!roster.view(FULL, None).0.is_partial);
}
