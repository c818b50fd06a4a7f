use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::ack::{Ack, Refusal};
use super::super::attach::Want;
use super::super::events::{Mirrored, Published};
use super::super::limits::{ANCHOR_RETRY_MS, BEAT_MS, DEAD_MS};
use super::super::name::{Incarnation, NodeName};
use super::super::wire::{self, Anchor, Body, Claim, Stamp};
use super::*;
use crate::message::{Channel, Content};

const CHANNELS: usize = 3;

fn channel(number: usize) -> Channel {
    Channel::topic(&format!("t{number}"))
}

fn hash(number: usize) -> ChannelHash {
    ChannelHash::of(&channel(number))
}

fn origin(node: usize) -> Origin {
    let name = NodeName::read(&format!("n{node}")).unwrap();
    Origin { node: name, incarnation: Incarnation(1) }
}

/// A stream of JetStream: subjects are texts, and sequences have no gap.
struct Js<T> {
    /// Counts how often it has lost everything.
    life: u64,
    messages: Vec<(Seq, Seq, String, T)>,
    last: BTreeMap<String, Seq>,
    next: Seq,
}

impl<T: Clone> Js<T> {
    fn new() -> Self {
        Self { life: 0, messages: Vec::new(), last: BTreeMap::new(), next: 0 }
    }

    /// Stores a message if the last one of its subject is the expected one.
    fn store(&mut self, subject: &str, expected: Option<Seq>, message: T) -> Ack {
        let last = self.last.get(subject).copied().unwrap_or(0);
        if expected.is_some_and(|expected| expected != last) {
            return Ack::Refused(Refusal::Moved(last));
        }
        self.next += 1;
        self.last.insert(subject.to_owned(), self.next);
        self.messages.push((self.next, last, subject.to_owned(), message));
        Ack::Stored { seq: self.next, duplicate: false }
    }

    /// Forgets everything; sequences begin again.
    fn lose_all(&mut self) {
        *self = Self { life: self.life + 1, ..Self::new() };
    }

    /// Loses everything behind a place; the sequences behind it are given away again.
    fn lose_behind(&mut self, seq: Seq) {
        self.messages.retain(|one| one.0 <= seq);
        self.next = seq;
        self.last = self.messages.iter().map(|one| (one.2.clone(), one.0)).collect();
    }

    fn last_of(&self, subject: &str) -> Option<(Seq, T)> {
        let found = self.messages.iter().rev().find(|one| one.2 == subject);
        found.map(|one| (one.0, one.3.clone()))
    }
}

/// A node with its line to the servers.
struct Node {
    cluster: Cluster,
    is_up: bool,
    /// What the node has sent, and no server has carried out.
    line: VecDeque<Action>,
    subscribed: BTreeMap<u64, ChannelHash>,
    /// What servers have sent, and the node has not read.
    live: VecDeque<Event>,
    answers: VecDeque<Event>,
    /// The life of the stream of claims that the mirror's consumer reads, and how far it has come.
    mirrored: (u64, usize),
    /// Channels whose subscribe was acknowledged, with the place.
    acknowledged: BTreeMap<usize, Seq>,
    /// What subscribers of each channel were given since: messages, and 0 for a gap.
    heard: BTreeMap<usize, Vec<Seq>>,
    published: BTreeMap<u64, Vec<Published>>,
}

struct World {
    nodes: Vec<Node>,
    order: Js<(Origin, Body)>,
    claims: Js<Mirrored>,
    at: Moment,
    tokens: BTreeMap<u64, (usize, BTreeSet<usize>)>,
}

impl World {
    fn new(nodes: usize) -> Self {
        let node = |number| {
            let mut cluster = Cluster::new(origin(number), number as u64);
            cluster.handle(Event::Joined(Ok(())), Moment::default());
            Node {
                cluster,
                is_up: false,
                line: VecDeque::new(),
                subscribed: BTreeMap::new(),
                live: VecDeque::new(),
                answers: VecDeque::new(),
                mirrored: (0, 0),
                acknowledged: BTreeMap::new(),
                heard: BTreeMap::new(),
                published: BTreeMap::new(),
            }
        };
        let nodes = (0..nodes).map(node).collect();
        let (order, claims, tokens) = (Js::new(), Js::new(), BTreeMap::new());
        let mut world = Self { nodes, order, claims, at: Moment::default(), tokens };
        world.settle();
        world
    }

    fn number(channel: &Channel) -> usize {
        channel.as_str()[1..].parse().unwrap()
    }

    fn tell(&mut self, node: usize, event: Event) {
        self.at.random += 1;
        let actions = self.nodes[node].cluster.handle(event, self.at);
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, number: usize, action: Action) {
        let node = &mut self.nodes[number];
        match action {
            Action::Attached(channel, from) => {
                let channel = Self::number(&channel);
                node.acknowledged.entry(channel).or_insert(from);
                node.heard.entry(channel).or_default();
            }
            Action::Failed(channel) | Action::Detached(channel) => {
                node.acknowledged.remove(&Self::number(&channel));
                node.heard.remove(&Self::number(&channel));
            }
            Action::Deliver(channel, message, _) => {
                if let Some(heard) = node.heard.get_mut(&Self::number(&channel)) {
                    heard.push(message.stamp.seq);
                }
            }
            Action::Gap(channel) => {
                if let Some(heard) = node.heard.get_mut(&Self::number(&channel)) {
                    heard.push(0);
                }
            }
            Action::Published(token, published) => {
                node.published.entry(token).or_default().push(published);
            }
            Action::Ended(..) => {}
            Action::Seed(channel, up_to, _) => {
                node.answers.push_back(Event::Seeded(channel, up_to));
            }
            Action::ReadAnchor(stream) => {
                let found = self.anchor(stream);
                self.nodes[number].answers.push_back(Event::AnchorRead(stream, found));
            }
            Action::ReadHole(after, most) => {
                let found = self.order.messages.iter().filter(|one| one.0 > after).take(most);
                let found = found.map(|one| (hash_of(&one.2), message(one))).collect();
                node.answers.push_back(Event::HoleRead(found));
            }
            Action::ReadChannel(hash, missing) => {
                let is_in = |seq| missing.after < seq && seq < missing.before;
                let all = self.order.messages.iter();
                let found = all.filter(|one| is_in(one.0) && one.2 == hash.to_string());
                let found = found.map(message).collect();
                node.answers.push_back(Event::ChannelRead(hash, missing, found, 1));
            }
            action if node.is_up => node.line.push_back(action),
            _ => {}
        }
    }

    fn anchor(&self, stream: Stream) -> Option<(Anchor, Seq)> {
        match stream {
            Stream::Order => match self.order.last_of("_ep")? {
                (seq, (_, Body::Anchor(anchor))) => Some((anchor, seq)),
                _ => None,
            },
            Stream::Claims => match self.claims.last_of("_ep")? {
                (seq, Mirrored::Anchor(anchor)) => Some((anchor, seq)),
                _ => None,
            },
        }
    }

    /// Lets a server carry out what a node sent next.
    fn serve(&mut self, number: usize) {
        let Some(action) = self.nodes[number].line.pop_front() else { return };
        let (from, node) = (origin(number), &mut self.nodes[number]);
        let name = from.node.clone();
        let (flight, ack) = match action {
            Action::Subscribe(hash, sid) => {
                node.subscribed.insert(sid, hash);
                return;
            }
            Action::Unsubscribe(sid) => {
                node.subscribed.remove(&sid);
                return;
            }
            Action::Beat(flight, beat) => {
                let body = (from, Body::Beat(beat));
                (flight, self.publish(&format!("_hb.{name}"), None, body))
            }
            Action::Send(token, flight, _) => {
                let (channel, _) = self.tokens[&token];
                let content = Content::Event { payload: ByteString::from("\"\"") };
                let id = Uuid::from_u128(token.into());
                let channel = self::channel(channel);
                let subject = ChannelHash::of(&channel).to_string();
                let published = wire::Published { channel, id, at: 0, content };
                (flight, self.publish(&subject, None, (from, Body::Publication(published))))
            }
            Action::WriteAnchor(flight, Stream::Order, anchor, expected) => {
                (flight, self.publish("_ep", Some(expected), (from, Body::Anchor(anchor))))
            }
            Action::WriteAnchor(flight, Stream::Claims, anchor, expected) => {
                (flight, self.claims.store("_ep", Some(expected), Mirrored::Anchor(anchor)))
            }
            Action::Barrier(flight) => {
                (flight, self.claims.store(&format!("_bar.{name}"), None, Mirrored::Other))
            }
            Action::Claim(flight, hash, listens, expected) => {
                let claim = Claim { incarnation: from.incarnation, listens };
                let message = Mirrored::Claim(Place::Channel(hash), name.clone(), claim);
                (flight, self.claims.store(&format!("{hash}.{name}"), Some(expected), message))
            }
            Action::EndClaim(flight, held) => {
                let Origin { node, incarnation } = held.origin;
                let claim = Claim { incarnation, listens: false };
                let Place::Channel(hash) = held.place else { return };
                let subject = format!("{hash}.{node}");
                let message = Mirrored::Claim(held.place, node, claim);
                (flight, self.claims.store(&subject, Some(held.seq), message))
            }
            _ => return,
        };
        let node = &mut self.nodes[number];
        node.answers.push_back(Event::Written(flight));
        node.answers.push_back(Event::Answered(flight, ack));
    }

    /// Stores a message, and sends it to each node that is subscribed.
    fn publish(&mut self, subject: &str, expected: Option<Seq>, body: (Origin, Body)) -> Ack {
        let ack = self.order.store(subject, expected, body);
        if matches!(ack, Ack::Refused(_)) {
            return ack;
        }
        let hash = hash_of(subject);
        let stored = self.order.messages.last().unwrap();
        for node in self.nodes.iter_mut().filter(|node| node.is_up) {
            let is_subscribed =
                hash.is_none_or(|hash| node.subscribed.values().any(|one| *one == hash));
            if is_subscribed {
                node.live.push_back(Event::Live(hash, Box::new(message(stored))));
            }
        }
        ack
    }

    fn mirror(&mut self, number: usize, count: usize) {
        if self.nodes[number].mirrored.0 != self.claims.life {
            self.nodes[number].mirrored = (self.claims.life, 0);
            self.tell(number, Event::MirrorBegins);
        }
        for _ in 0..count {
            let at = self.nodes[number].mirrored.1;
            let Some((seq, _, _, message)) = self.claims.messages.get(at).cloned() else { return };
            self.nodes[number].mirrored.1 += 1;
            self.tell(number, Event::Mirrored(seq, message));
        }
    }

    fn line(&mut self, number: usize, is_up: bool) {
        let node = &mut self.nodes[number];
        if node.is_up == is_up {
            return;
        }
        node.is_up = is_up;
        node.line.clear();
        node.live.clear();
        node.subscribed.clear();
        let is_answer = |event: &Event| matches!(event, Event::Answered(..) | Event::Written(_));
        node.answers.retain(|event| !is_answer(event));
        self.tell(number, if is_up { Event::LineUp(None, None) } else { Event::LineDown });
    }

    fn read(&mut self, number: usize, is_answer: bool) {
        let node = &mut self.nodes[number];
        let queue = if is_answer { &mut node.answers } else { &mut node.live };
        if let Some(event) = queue.pop_front() {
            self.tell(number, event);
        }
    }

    fn publication(&mut self, node: usize, channel: usize, needs_listener: bool) -> u64 {
        let token = self.tokens.len() as u64 + 1;
        // The nodes that had subscribers when the publication arrived, and keep them until later.
        let listeners = self.nodes.iter().enumerate();
        let listeners = listeners.filter(|(_, node)| node.acknowledged.contains_key(&channel));
        let listeners = listeners.map(|(number, _)| number).collect();
        self.tokens.insert(token, (channel, listeners));
        let (channel, patterns) = (hash(channel), Vec::new());
        let (bytes, patience) = (10, 1_000);
        let publish =
            Publish { token, channel, patterns, bytes, patience, needs_listener, audience: None };
        self.tell(node, Event::Publish(publish));
        token
    }

    fn want(&mut self, node: usize, number: usize) {
        let want = Want { channel: channel(number), needs_seed: false, needs_listener: true };
        self.tell(node, Event::Want(want));
    }

    fn let_go(&mut self, node: usize, number: usize) {
        // Its subscribers have left: nothing of them is looked at any more.
        for (channel, listeners) in self.tokens.values_mut() {
            if *channel == number {
                listeners.remove(&node);
            }
        }
        self.nodes[node].acknowledged.remove(&number);
        self.nodes[node].heard.remove(&number);
        self.tell(node, Event::LetGo(channel(number)));
    }

    fn later(&mut self, by: Millis) {
        self.at.now += by;
        self.at.wall += by;
        for number in 0..self.nodes.len() {
            self.tell(number, Event::Tick);
        }
    }

    /// Carries out everything until nothing is left to do, for some seconds.
    fn settle(&mut self) {
        for number in 0..self.nodes.len() {
            self.line(number, true);
        }
        for _ in 0..40 {
            for number in 0..self.nodes.len() {
                for _ in 0..60 {
                    self.serve(number);
                    self.read(number, false);
                    self.read(number, true);
                }
                self.mirror(number, 100);
            }
            self.later(BEAT_MS / 5);
        }
    }

    /// Checks what subscribers of acknowledged channels have heard: everything behind the place at
    /// which the node attached, or, behind a gap, everything from some message on.
    fn check(&self) -> Result<(), TestCaseError> {
        for node in &self.nodes {
            for (channel, from) in &node.acknowledged {
                let subject = hash(*channel).to_string();
                let all = self.order.messages.iter().filter(|one| one.2 == subject);
                let mut all: Vec<_> = all.map(|one| one.0).collect();
                let mut lives = node.heard[channel].split(|seq| *seq == 0);
                let last = lives.next_back().unwrap_or_default();
                if lives.next().is_some() {
                    all.drain(..all.len() - last.len().min(all.len()));
                } else {
                    all.retain(|seq| seq > from);
                }
                prop_assert_eq!(last, &all, "heard: {:?}", node.heard[channel]);
            }
        }
        Ok(())
    }

    fn outcome(&self, node: usize, token: u64) -> Option<Published> {
        self.nodes[node].published.get(&token).and_then(|all| all.first().copied())
    }
}

fn hash_of(subject: &str) -> Option<ChannelHash> {
    ChannelHash::read(subject)
}

fn message((seq, last, _, (from, body)): &(Seq, Seq, String, (Origin, Body))) -> Message {
    // No two messages were stored at the same time.
    let at = match body {
        Body::Publication(published) => published.id.as_u128() as u64,
        Body::Tidings(told) => told.tidings.at,
        Body::Beat(beat) => 1_000 + beat.number,
        Body::Anchor(anchor) => anchor.nonce as u64,
    };
    let stamp = Stamp { seq: *seq, last: *last, at };
    let (from, body) = (Some(from.clone()), Ok(body.clone()));
    Message { stamp, from, ask: None, trace: None, body }
}

#[test]
fn what_one_node_publishes_is_heard_on_both_in_one_order() {
    let mut world = World::new(2);
    for node in [0, 1] {
        world.want(node, 0);
        assert_eq!(world.nodes[node].cluster.condition(world.at.now), Condition::Healthy);
    }
    world.settle();
    assert_eq!(world.nodes[0].acknowledged.len() + world.nodes[1].acknowledged.len(), 2);
    let tokens = [0, 1, 0].map(|node| (node, world.publication(node, 0, true)));
    world.settle();
    world.check().unwrap();
    assert_eq!(world.nodes[0].heard[&0].len(), 3);
    assert_eq!(world.nodes[0].heard, world.nodes[1].heard);
    for (node, token) in tokens {
        assert!(matches!(world.outcome(node, token), Some(Published::Stored { .. })));
    }
}

#[test]
fn what_is_published_right_behind_a_subscribe_is_heard() {
    for needs_listener in [false, true] {
        let mut world = World::new(1);
        world.want(0, 0);
        let token = world.publication(0, 0, needs_listener);
        world.settle();
        let Some(Published::Stored { seq, .. }) = world.outcome(0, token) else {
            panic!("{:?}", world.outcome(0, token));
        };
        assert_eq!(world.nodes[0].heard[&0], [seq]);
    }
}

#[test]
fn not_heard_is_said_only_after_a_barrier() {
    let mut world = World::new(2);
    let token = world.publication(0, 0, true);
    assert_eq!(world.outcome(0, token), None);
    world.settle();
    assert_eq!(world.outcome(0, token), Some(Published::NotHeard));
    // The other node attaches, and the mirror of the first does not know it yet.
    world.want(1, 0);
    while world.nodes[1].acknowledged.is_empty() {
        world.later(1);
        (0..9).for_each(|_| world.serve(1));
        (0..9).for_each(|_| world.read(1, true));
        (0..9).for_each(|_| world.read(1, false));
    }
    let token = world.publication(0, 0, true);
    assert_eq!(world.outcome(0, token), None);
    world.settle();
    assert!(matches!(world.outcome(0, token), Some(Published::Stored { .. })));
    world.check().unwrap();
    assert_eq!(world.nodes[1].heard[&0].len(), 1);
}

#[test]
fn not_heard_is_unproven_while_claims_are_made_anew() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    world.claims.lose_all();
    world.mirror(0, 0);
    // The first node goes on alone; the other one does not claim again yet. The second publication
    // comes when the new epoch of the claims has begun.
    for _ in 0..2 {
        let token = world.publication(0, 0, true);
        for _ in 0..25 {
            (0..9).for_each(|_| world.serve(0));
            (0..9).for_each(|_| world.read(0, true));
            (0..9).for_each(|_| world.read(0, false));
            world.mirror(0, 9);
            world.at.now += 50;
            world.tell(0, Event::Tick);
        }
        assert_eq!(world.outcome(0, token), Some(Published::Unproven));
    }
    assert!(world.nodes[0].cluster.claims.epoch.is_settled());
    world.settle();
    world.settle();
    let token = world.publication(0, 0, true);
    world.settle();
    assert!(matches!(world.outcome(0, token), Some(Published::Stored { .. })));
}

#[test]
fn a_claim_that_was_made_anew_behind_a_barrier_is_not_passed_over() {
    let mut world = World::new(2);
    world.line(0, false);
    world.want(1, 0);
    world.later(1);
    (0..4).for_each(|_| world.serve(1));
    (0..2).for_each(|_| world.read(1, false));
    // The claim is acknowledged, and lost before the mirror has it.
    world.claims.lose_all();
    (0..4).for_each(|_| world.read(1, true));
    assert!(world.nodes[1].acknowledged.contains_key(&0));
    world.mirror(1, 1);
    // The second one waits for a barrier behind which the claim is made anew.
    let tokens = [world.publication(1, 0, true), world.publication(1, 0, true)];
    world.serve(1);
    world.settle();
    for token in tokens {
        assert_eq!(world.outcome(1, token), Some(Published::Unproven));
    }
}

#[test]
fn not_heard_is_unproven_until_others_had_time_to_be_heard() {
    let mut world = World::new(2);
    world.line(0, false);
    world.line(0, true);
    for _ in 0..9 {
        world.serve(0);
        world.read(0, true);
        world.read(0, false);
    }
    let token = world.publication(0, 0, true);
    while world.outcome(0, token).is_none() {
        world.mirror(0, 9);
        (0..9).for_each(|_| world.serve(0));
        (0..9).for_each(|_| world.read(0, true));
        world.later(10);
    }
    assert_eq!(world.outcome(0, token), Some(Published::Unproven));
    world.settle();
    let token = world.publication(0, 0, true);
    world.settle();
    assert_eq!(world.outcome(0, token), Some(Published::NotHeard));
}

#[test]
fn a_node_without_a_line_refuses_and_reads_what_it_missed() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    world.line(1, false);
    let token = world.publication(1, 0, false);
    let refused = Published::Refused(Refusal::Unavailable);
    assert_eq!(world.outcome(1, token), Some(refused));
    for _ in 0..3 {
        world.publication(0, 0, false);
    }
    (0..9).for_each(|_| world.serve(0));
    assert!(world.nodes[1].heard[&0].is_empty());
    world.settle();
    assert_eq!(world.nodes[1].heard[&0].len(), 3, "in order and without a gap");
    world.check().unwrap();
    let condition = world.nodes[1].cluster.condition(world.at.now);
    assert_eq!(condition, Condition::Healthy);
}

#[test]
fn a_stream_without_a_leader_refuses_until_it_has_one() {
    let mut world = World::new(1);
    let beat = |world: &mut World| {
        world.later(BEAT_MS);
        match world.nodes[0].line.pop_front() {
            Some(Action::Beat(flight, _)) => flight,
            other => panic!("{other:?}"),
        }
    };
    let flight = beat(&mut world);
    world.tell(0, Event::Answered(flight, Ack::Refused(Refusal::Unavailable)));
    let condition = world.nodes[0].cluster.condition(world.at.now);
    assert_eq!(condition, Condition::NoLeader(Stream::Order));
    let token = world.publication(0, 0, false);
    let refused = Published::Refused(Refusal::Unavailable);
    assert_eq!(world.outcome(0, token), Some(refused));
    world.settle();
    assert_eq!(world.nodes[0].cluster.condition(world.at.now), Condition::Healthy);
}

#[test]
fn a_line_to_a_server_without_the_stream_serves_nothing() {
    let mut world = World::new(1);
    let condition = |world: &World| world.nodes[0].cluster.condition(world.at.now);
    let answered = world.nodes[0].cluster.pulse.answered(Side::Publishing).unwrap();
    for _ in 0..3 {
        world.line(0, false);
        world.at.now += 1_000;
        assert_eq!(condition(&world), Condition::NoAnswer(world.at.now - answered));
        world.line(0, true);
        world.at.now += 1_000;
        assert_eq!(condition(&world), Condition::NoAnswer(world.at.now - answered));
    }
    let token = world.publication(0, 0, false);
    assert_eq!(world.outcome(0, token), Some(Published::Refused(Refusal::Unavailable)));
    world.settle();
    assert_eq!(condition(&world), Condition::Healthy);
}

#[test]
fn a_stream_that_has_lost_everything_begins_a_new_epoch() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    world.publication(0, 0, false);
    world.settle();
    world.order.lose_all();
    world.publication(0, 0, false);
    for _ in 0..ANCHOR_RETRY_MS / BEAT_MS + 2 {
        world.settle();
    }
    assert!(world.nodes[1].heard[&0].contains(&0), "a gap is told");
    let epoch = world.nodes[0].cluster.order.epoch.number();
    assert_eq!(epoch, 2);
    assert_eq!(world.nodes[1].cluster.order.epoch.number(), epoch);
    world.publication(0, 0, false);
    world.settle();
    let last = *world.nodes[1].heard[&0].last().unwrap();
    assert_eq!(world.order.last_of(&hash(0).to_string()).unwrap().0, last);
}

#[test]
fn a_lost_tail_over_which_others_have_written_is_noticed() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    world.publication(0, 0, false);
    world.settle();
    let lost = *world.nodes[1].heard[&0].last().unwrap();
    let end = world.order.next;
    for node in [0, 1] {
        world.line(node, false);
    }
    world.order.lose_behind(lost - 1);
    // When the nodes come back, no sequence tells them that anything is missing.
    for number in 0.. {
        let beat = Beat { number: 1_000_000 + number, ..Beat::default() };
        world.order.store("_hb.n7", None, (origin(7), Body::Beat(beat)));
        if world.order.next > end + 10 {
            break;
        }
    }
    world.settle();
    assert_eq!(world.nodes[1].heard[&0].last(), Some(&0), "a gap is told");
    assert_eq!(world.nodes[1].cluster.order.epoch.number(), 2);
}

#[test]
fn nothing_is_delivered_from_a_hole_of_another_life_of_the_stream() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    for _ in 0..3 {
        world.publication(0, 0, false);
    }
    world.settle();
    let before = world.nodes[1].heard[&0].clone();
    let subject = hash(0).to_string();
    let old = world.order.last_of(&subject).unwrap().1;
    world.line(1, false);
    // An old stream comes back: it has an old message where the new one has none.
    let echo = world.nodes[1].cluster.hole.whole().max(world.order.next);
    world.order.lose_behind(echo - 1);
    world.order.store(&subject, None, old.clone());
    world.order.store(&subject, None, old);
    for _ in 0..ANCHOR_RETRY_MS / BEAT_MS + 2 {
        world.settle();
    }
    let heard = &world.nodes[1].heard[&0];
    assert_eq!(heard.strip_prefix(&before[..]), Some(&[0][..]), "a gap and nothing else");
}

#[test]
fn a_claim_that_the_stream_has_lost_in_silence_is_made_anew() {
    let mut world = World::new(2);
    world.want(1, 0);
    world.settle();
    let claim = format!("{}.n1", hash(0));
    let seq = world.claims.last_of(&claim).unwrap().0;
    // Other messages are in its place, so that no acknowledgement runs back.
    for one in world.claims.messages.iter_mut().filter(|one| one.0 == seq) {
        *one = (seq, 0, "_bar.n7".into(), Mirrored::Other);
    }
    world.claims.last.remove(&claim);
    // The stream has another leader: the mirrors begin again.
    world.claims.life += 1;
    for _ in 0..ANCHOR_RETRY_MS / BEAT_MS + 2 {
        world.settle();
    }
    assert!(world.claims.last_of(&claim).is_some());
    assert!(world.nodes[1].heard[&0].contains(&0), "publishers were told that it does not listen");
    assert_eq!(world.nodes[0].cluster.claims.epoch.number(), 2);
    let token = world.publication(0, 0, true);
    world.settle();
    assert!(matches!(world.outcome(0, token), Some(Published::Stored { .. })));
}

#[test]
fn the_claims_of_a_dead_node_are_ended() {
    let mut world = World::new(3);
    world.want(2, 0);
    world.settle();
    let token = world.publication(0, 0, true);
    world.settle();
    assert!(matches!(world.outcome(0, token), Some(Published::Stored { .. })));
    world.nodes[2].is_up = false;
    world.nodes[2].line.clear();
    let mut rounds = 0;
    while rounds * BEAT_MS < 2 * DEAD_MS {
        for node in [0, 1] {
            (0..20).for_each(|_| world.serve(node));
            (0..20).for_each(|_| world.read(node, true));
            (0..20).for_each(|_| world.read(node, false));
            world.mirror(node, 20);
        }
        world.at.now += BEAT_MS;
        (0..2).for_each(|node| world.tell(node, Event::Tick));
        rounds += 1;
    }
    assert!(world.nodes[1].cluster.mirror.is_empty());
    // It was only stopped: it sees that its claim was ended, tells a gap, and claims again.
    world.nodes[2].is_up = true;
    world.tell(2, Event::LineDown);
    world.tell(2, Event::LineUp(None, None));
    world.settle();
    world.settle();
    assert!(world.nodes[2].heard[&0].contains(&0));
    assert_eq!(world.nodes[1].cluster.mirror.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Want(usize, usize),
    LetGo(usize, usize),
    Publish(usize, usize, bool),
    Serve(usize, usize),
    Live(usize, usize),
    Answer(usize, usize),
    Mirror(usize, usize),
    Later(Millis),
    Line(usize, bool),
    /// Live messages do not reach the node, because the stream has another leader.
    Leader(usize),
    /// A stream loses everything.
    Lose(Stream),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..2_usize;
    let few = || 1..6_usize;
    let step = prop_oneof![
        3 => (node(), 0..CHANNELS).prop_map(|(node, one)| Step::Want(node, one)),
        1 => (node(), 0..CHANNELS).prop_map(|(node, one)| Step::LetGo(node, one)),
        6 => (node(), 0..CHANNELS, any::<bool>())
            .prop_map(|(node, one, needs)| Step::Publish(node, one, needs)),
        8 => (node(), few()).prop_map(|(node, count)| Step::Serve(node, count)),
        8 => (node(), few()).prop_map(|(node, count)| Step::Live(node, count)),
        8 => (node(), few()).prop_map(|(node, count)| Step::Answer(node, count)),
        6 => (node(), few()).prop_map(|(node, count)| Step::Mirror(node, count)),
        5 => (1..400_u64).prop_map(Step::Later),
        2 => (node(), any::<bool>()).prop_map(|(node, is_up)| Step::Line(node, is_up)),
        1 => node().prop_map(Step::Leader),
        1 => prop_oneof![Just(Stream::Order), Just(Stream::Claims)].prop_map(Step::Lose),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn acknowledged_subscribers_hear_everything_or_a_gap(steps in steps()) {
        let mut world = World::new(2);
        for step in steps {
            match step {
                Step::Want(node, channel) => world.want(node, channel),
                Step::LetGo(node, channel) => world.let_go(node, channel),
                Step::Publish(node, channel, needs) => {
                    world.publication(node, channel, needs);
                }
                Step::Serve(node, count) => (0..count).for_each(|_| world.serve(node)),
                Step::Live(node, count) => (0..count).for_each(|_| world.read(node, false)),
                Step::Answer(node, count) => (0..count).for_each(|_| world.read(node, true)),
                Step::Mirror(node, count) => world.mirror(node, count),
                Step::Later(by) => world.later(by),
                Step::Line(node, is_up) => world.line(node, is_up),
                Step::Leader(node) => {
                    let is_ours = |one: &Event| !matches!(one, Event::Live(Some(_), _));
                    world.nodes[node].live.retain(is_ours);
                    world.tell(node, Event::LeaderChanged);
                }
                Step::Lose(Stream::Order) => world.order.lose_all(),
                Step::Lose(Stream::Claims) => world.claims.lose_all(),
                Step::Settle => world.settle(),
            }
            for node in &world.nodes {
                for heard in node.heard.values() {
                    let mut lives = heard.split(|seq| *seq == 0);
                    let is_in_order = lives.all(|all| all.is_sorted_by(|one, next| one < next));
                    prop_assert!(is_in_order, "{heard:?}");
                }
            }
        }
        world.settle();
        world.settle();
        world.check()?;
        for (token, (_, listeners)) in &world.tokens {
            for node in &world.nodes {
                let Some(outcomes) = node.published.get(token) else { continue };
                let is_end = |one: &&Published| !matches!(one, Published::Late(_));
                prop_assert_eq!(outcomes.iter().filter(is_end).count(), 1, "{:?}", outcomes);
                let is_heard = !listeners.is_empty();
                prop_assert!(!is_heard || outcomes[0] != Published::NotHeard);
            }
            prop_assert!(world.nodes.iter().any(|node| node.published.contains_key(token)));
        }
    }
}
