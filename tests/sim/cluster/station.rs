//! A node with its subscribers and its publishers, around the real decisions of
//! `fanfare::cluster`: what its threads and its connections do, without threads and connections.

use std::collections::{BTreeMap, BTreeSet};

use fanfare::cluster::Cluster;
use fanfare::cluster::ack::Ack;
use fanfare::cluster::attach::Want;
use fanfare::cluster::audience::Total;
use fanfare::cluster::events::{Action, Event, Moment, Publish as Wanted, Published};
use fanfare::cluster::name::{ChannelHash, Incarnation, NodeName, Place, Seq, Stream};
use fanfare::cluster::wire::{Body, Claim, Counted, Message, Origin};
use fanfare::message::{Audience, Channel, Millis};

use super::clockwork::Way;
use super::frames::{Call, Down, Item, Payload, Publish, Read, Subject, Topic, Up};
use super::jetstream::MAX_AGE_MS;
use super::servers::State;
use super::world::World;
use crate::histories::{Answer, Fact};

pub(super) const CHANNELS: usize = 4;

/// Publications on the first channels are dropped if no node has a subscriber.
pub(super) fn needs_listener(channel: usize) -> bool {
    channel < CHANNELS / 2
}

pub(super) fn channel(number: usize) -> Channel {
    let name = format!("{number}");
    if needs_listener(number) { Channel::topic(&name) } else { Channel::from(&*name) }
}

fn number(channel: &Channel) -> usize {
    channel.as_str().parse().expect("names are numbers")
}

/// A node.
pub(super) struct Station {
    /// The number of its name.
    pub(super) node: usize,
    pub(super) origin: Origin,
    pub(super) cluster: Cluster,
    pub(super) state: State,
    /// Counts its starts.
    pub(super) start: u32,
    /// What has come while its process stood still.
    held: Vec<Result<Call, (u64, Down)>>,
    /// When it was started, and what its wall clock adds to the world's.
    born: Millis,
    wall: Millis,
    pub(super) line: Option<u64>,
    is_away: bool,
    out: Vec<(u64, Up)>,
    wake: Option<Millis>,
    pub(super) mirror: Consumer,
    desks: [Desk; CHANNELS],
    /// The number of the last epoch of the stream of publications that began since the start.
    epoch: u64,
    order: Order,
    /// Attempts without an answer.
    pending: BTreeSet<u64>,
}

/// What clients of a node remember of the stream: the places that it calls in order.
#[derive(Default)]
struct Order {
    highest: Seq,
    remembered: Seq,
}

impl Order {
    /// Checks that a client that comes back behind such a place has received nothing from behind
    /// it. Returns whether it lacks this message, whose loss the node had not noticed yet.
    fn deliver(&mut self, seq: Seq, is_in_order: bool) -> bool {
        let Self { highest, remembered } = *self;
        if is_in_order {
            assert!(seq > highest, "{seq} is called in order, and {highest} came before it");
            self.remembered = seq;
        }
        self.highest = highest.max(seq);
        seq < remembered
    }
}

/// The consumer of a node's mirror.
#[derive(Default)]
pub(super) struct Consumer {
    pub(super) number: u64,
    /// The server that sends, and up to where it has.
    pub(super) server: Option<usize>,
    pub(super) sent: Seq,
    /// Up to where it has come.
    pub(super) received: Seq,
    pub(super) is_asked: bool,
}

/// What a node's directory has of a channel.
#[derive(Default)]
struct Desk {
    subscribers: BTreeSet<u64>,
    /// Those whose subscribe is not acknowledged yet.
    waiting: BTreeSet<u64>,
    is_attached: bool,
    /// Everything up to here was delivered or was there before the node attached.
    position: Seq,
    /// How many subscribers each publication was delivered to.
    counts: BTreeMap<Seq, u32>,
}

/// An attempt to publish.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) channel: usize,
    pub(super) patience: Millis,
    pub(super) audience: Option<Millis>,
}

impl Station {
    pub(super) fn new(node: usize, wall: Millis) -> Self {
        let name = NodeName::read(&format!("n{node}")).expect("it is a name");
        let origin = Origin { node: name, incarnation: Incarnation(0) };
        Self {
            node,
            cluster: Cluster::new(origin.clone(), 0),
            origin,
            state: State::Down,
            start: 0,
            held: Vec::new(),
            born: 0,
            wall,
            line: None,
            is_away: false,
            out: Vec::new(),
            wake: None,
            mirror: Consumer::default(),
            desks: Default::default(),
            epoch: 0,
            order: Order::default(),
            pending: BTreeSet::new(),
        }
    }

    pub(super) fn is_serving(&self, now: Millis) -> bool {
        self.state == State::Up && self.cluster.condition(now - self.born).is_serving()
    }

    /// Returns why the node is not at rest; `None` if it is.
    pub(super) fn unrest(&self, now: Millis) -> Option<String> {
        let condition = self.cluster.condition(now - self.born);
        let is_healthy = condition == fanfare::cluster::health::Condition::Healthy;
        let waits = self.desks.iter().any(|desk| !desk.waiting.is_empty());
        let is_idle = self.pending.is_empty() && !waits;
        (!is_healthy || !is_idle)
            .then(|| format!("{condition}, {:?} unanswered, waiting: {waits}", self.pending))
    }

    pub(super) fn subscribers(&self, channel: usize) -> Vec<u64> {
        self.desks[channel]
            .subscribers
            .iter()
            .chain(&self.desks[channel].waiting)
            .copied()
            .collect()
    }
}

// The node's process.
impl World {
    /// Lets something happen to a node, now or when its process goes on.
    pub(super) fn call(&mut self, at: usize, start: u32, call: Call) {
        let station = &mut self.stations[at];
        if station.start != start {
            return;
        }
        match (station.state, &call) {
            (_, Call::Start | Call::GoOn | Call::Kill(_)) | (State::Up, _) => {}
            (State::Stopped, _) => return station.held.push(Ok(call)),
            (State::Down, _) => return,
        }
        match call {
            Call::Wake(time) => {
                if station.wake == Some(time) {
                    station.wake = None;
                    self.tell(at, Event::Tick);
                }
            }
            Call::Flush(line) => self.flush(at, line),
            Call::Connect => self.connect(at),
            Call::Break(line) => self.break_line(at, line),
            Call::Tell(event) => self.tell(at, *event),
            Call::Ask(read, tries) => self.read(at, read, tries),
            Call::Mirror(number, event) => {
                if station.mirror.number == number {
                    if let Event::Mirrored(seq, _) = &*event {
                        station.mirror.received = *seq;
                    }
                    self.tell(at, *event);
                }
            }
            Call::Consume(is_new) => self.consume(at, is_new),
            Call::Question(to, token, hash, seq) => self.question(at, (to, token), hash, seq),
            Call::Publish(token) => self.publish(at, token),
            Call::Start => self.start(at),
            Call::GoOn => self.go_on(at),
            Call::Kill(again) => self.kill(at, again),
        }
    }

    /// Sends a call to a node, unless its process ends before.
    pub(super) fn later(&mut self, at: usize, delay: Millis, call: Call) {
        let start = self.stations[at].start;
        self.clock.after(delay, Item::Station(at, start, call));
    }

    /// Tells a node's decisions what happened, and carries out what they ask for.
    pub(super) fn tell(&mut self, at: usize, event: Event) {
        let random =
            u128::from(self.clock.dice.number()) << 64 | u128::from(self.clock.dice.number());
        let station = &mut self.stations[at];
        let was_tick = event == Event::Tick;
        let now = self.clock.now;
        let moment = Moment { now: now - station.born, wall: now + station.wall, random };
        self.trace(at, || format!("{event:?}"));
        let actions = self.stations[at].cluster.handle(event, moment);
        for action in actions {
            self.trace(at, || format!("  -> {action:?}"));
            self.act(at, action);
        }
        let station = &mut self.stations[at];
        let Some(due) = station.cluster.due() else { return };
        let due = (station.born + due).max(now + u64::from(was_tick));
        if station.wake.is_none_or(|wake| due < wake) {
            station.wake = Some(due);
            self.later(at, due - now, Call::Wake(due));
        }
    }

    fn start(&mut self, at: usize) {
        if self.stations[at].state != State::Down {
            return;
        }
        self.revision += 1;
        let incarnation = Incarnation(self.clock.dice.number());
        let now = self.clock.now;
        let station = &mut self.stations[at];
        station.origin.incarnation = incarnation;
        station.cluster = Cluster::new(station.origin.clone(), self.revision);
        (station.state, station.born, station.wake) = (State::Up, now, None);
        (station.mirror, station.epoch) = (Consumer::default(), 0);
        self.tell(at, Event::Joined(Ok(())));
        self.connect(at);
        self.consume(at, true);
    }

    /// Ends a node's process.
    pub(super) fn kill(&mut self, at: usize, again: Option<Millis>) {
        self.go_away(at);
        let station = &mut self.stations[at];
        (station.state, station.start) = (State::Down, station.start + 1);
        station.held.clear();
        station.out.clear();
        let gone = std::mem::take(&mut station.desks);
        let pending = std::mem::take(&mut station.pending);
        if let Some(line) = station.line.take() {
            self.clock.after(1, Item::Forget(line));
        }
        for subscriber in gone.into_iter().flat_map(|desk| desk.subscribers) {
            self.note(Fact::Left { subscriber });
        }
        for attempt in pending {
            self.note(Fact::Answered { attempt, answer: Answer::Unknown });
        }
        if let Some(delay) = again {
            self.later(at, delay, Call::Start);
        }
    }

    pub(super) fn stop(&mut self, at: usize) {
        self.stations[at].state = State::Stopped;
        self.note(Fact::Away { node: self.stations[at].node as u64 });
    }

    /// Lets a stopped process go on: it reads what has come and looks at the clock, in either
    /// order.
    fn go_on(&mut self, at: usize) {
        if self.stations[at].state != State::Stopped {
            return;
        }
        self.stations[at].state = State::Up;
        if !self.stations[at].is_away {
            self.note(Fact::Back { node: self.stations[at].node as u64 });
        }
        if self.clock.dice.has_luck(50) {
            self.tell(at, Event::Tick);
        }
        let start = self.stations[at].start;
        for held in std::mem::take(&mut self.stations[at].held) {
            match held {
                Ok(call) => self.call(at, start, call),
                Err((line, down)) => self.down(at, line, down),
            }
        }
    }

    /// Notes that a node does not hear the others.
    fn go_away(&mut self, at: usize) {
        if !std::mem::replace(&mut self.stations[at].is_away, true) {
            self.note(Fact::Away { node: self.stations[at].node as u64 });
        }
    }
}

// The node's connections.
impl World {
    fn connect(&mut self, at: usize) {
        let station = &self.stations[at];
        if station.line.is_some() {
            return;
        }
        let server = self.clock.dice.below(self.servers.all.len());
        if !self.servers.is_running(server) {
            let delay = self.clock.dice.from(100, 1_000);
            return self.later(at, delay, Call::Connect);
        }
        let client = (at, station.start);
        let line = self.servers.connect(server, client, &mut self.clock);
        self.stations[at].line = Some(line);
        if std::mem::take(&mut self.stations[at].is_away) {
            self.note(Fact::Back { node: self.stations[at].node as u64 });
        }
        let [order, claims] = self.register;
        self.tell(at, Event::LineUp(order, claims));
    }

    pub(super) fn break_line(&mut self, at: usize, line: u64) {
        if self.stations[at].line != Some(line) {
            return;
        }
        self.stations[at].line = None;
        self.stations[at].out.clear();
        self.go_away(at);
        // What is on the way may still arrive.
        let delay = self.clock.dice.from(0, 20);
        self.clock.after(delay, Item::Forget(line));
        self.tell(at, Event::LineDown);
        let delay = self.clock.dice.from(10, 400);
        self.later(at, delay, Call::Connect);
    }

    /// Takes what came over a node's line.
    pub(super) fn down(&mut self, at: usize, line: u64, down: Down) {
        let station = &mut self.stations[at];
        if station.line != Some(line) {
            return;
        }
        if station.state == State::Stopped {
            return station.held.push(Err((line, down)));
        }
        match down {
            Down::Live(topic, entry) => {
                let channel = match topic {
                    Topic::Channel(hash) => Some(hash),
                    _ => None,
                };
                let message = self.message(&entry, entry.last);
                self.tell(at, Event::Live(channel, Box::new(message)));
            }
            Down::Answer(number, ack) => {
                self.look(&ack);
                self.tell(at, Event::Answered(number, ack));
            }
            Down::Count(token, counted) => self.tell(at, Event::Counted(token, counted)),
            Down::Closed => self.break_line(at, line),
        }
    }

    fn look(&mut self, ack: &Ack) {
        let (name, is) = match ack {
            Ack::Stored { duplicate: true, .. } => ("duplicates", true),
            Ack::Refused(fanfare::cluster::ack::Refusal::Overloaded) => ("overloads", true),
            Ack::Refused(fanfare::cluster::ack::Refusal::Moved(_)) => ("moved", true),
            _ => ("", false),
        };
        if is {
            self.count(name);
        }
    }

    fn flush(&mut self, at: usize, line: u64) {
        let station = &mut self.stations[at];
        if station.line != Some(line) {
            return;
        }
        let out = std::mem::take(&mut station.out);
        if let Some(written) = out.iter().map(|(flight, _)| *flight).max().filter(|one| *one > 0) {
            self.tell(at, Event::Written(written));
        }
        for (_, up) in out {
            let delay = self.clock.dice.from(0, 2);
            self.clock.along(Way::Up(line), delay, Item::Up(line, up));
        }
    }

    /// Lets a node send something. `flight` is the message's number; 0 without one.
    fn send(&mut self, at: usize, flight: u64, up: Up) {
        let station = &mut self.stations[at];
        let Some(line) = station.line else { return };
        if station.out.is_empty() {
            let delay = self.clock.dice.from(0, 1);
            self.later(at, delay, Call::Flush(line));
        }
        self.stations[at].out.push((flight, up));
    }

    /// Sends a message to a stream, which takes it if the last one of its subject is the expected
    /// one.
    fn send_publish(
        &mut self,
        at: usize,
        flight: u64,
        what: (Subject, Payload),
        expected: Option<Seq>,
    ) {
        let (subject, payload) = what;
        let stream = match subject {
            Subject::Claim(..) | Subject::Barrier(_) => Stream::Claims,
            _ => Stream::Order,
        };
        let publish = self.made(at, flight, (stream, subject, payload));
        self.send(at, flight, Up::Publish(Box::new(Publish { expected, ..publish })));
    }

    fn made(&self, at: usize, flight: u64, what: (Stream, Subject, Payload)) -> Publish {
        let (stream, subject, payload) = what;
        let is_end = matches!(payload, Payload::Claim(Claim { listens: false, .. }));
        let ttl = if is_end { MAX_AGE_MS } else { 0 };
        let from = self.stations[at].origin.clone();
        let reply = (self.stations[at].line.unwrap_or(0), flight);
        let (expected, id, ask) = (None, None, None);
        Publish { stream, subject, from, expected, id, ttl, payload, ask, reply }
    }
}

// What the node's decisions ask for.
impl World {
    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Subscribe(hash, sid) => self.send(at, 0, Up::Subscribe(sid, hash)),
            Action::Unsubscribe(sid) => self.send(at, 0, Up::Unsubscribe(sid)),
            Action::Claim(..)
            | Action::EndClaim(..)
            | Action::Beat(..)
            | Action::Barrier(_)
            | Action::WriteAnchor(..)
            | Action::Send(..) => self.act_on_streams(at, action),
            Action::ReadAnchor(stream) => self.ask(at, Read::Anchor(stream)),
            Action::ReadHole(after, most) => self.ask(at, Read::Hole(after, most)),
            Action::ReadChannel(hash, missing) => self.ask(at, Read::Channel(hash, missing)),
            Action::ReadLatest(channels) => self.ask(at, Read::Latest(channels)),
            Action::Remember(stream, anchor) => {
                let one = &mut self.register[usize::from(stream == Stream::Claims)];
                if one.is_none_or(|known| known.number < anchor.number) {
                    *one = Some(anchor);
                }
            }
            Action::Published(token, published) => self.published(at, token, published),
            Action::Audience(total) => self.counted(&total),
            Action::Ask(question) => self.ask_node(at, question),
            // The stations have no members.
            Action::Ended(..) => {}
            Action::Seed(channel, up_to, _) => {
                let delay = if self.clock.dice.has_luck(95) { 50 } else { 7_000 };
                let delay = self.clock.dice.from(0, delay);
                self.later(at, delay, Call::Tell(Box::new(Event::Seeded(channel, up_to))));
            }
            Action::Reconnect(_) => {
                self.count("deaf");
                if let Some(line) = self.stations[at].line {
                    self.later(at, 0, Call::Break(line));
                }
            }
            Action::RegisterAgain => {
                self.count("registered again");
                self.later(at, 0, Call::Kill(Some(1)));
            }
            Action::EpochChanged(stream, number) => self.epoch_changed(at, stream, number),
            Action::Skipped(channel, skip) => panic!("skipped on {channel:?}: {skip:?}"),
            Action::Attached(..) | Action::Failed(_) | Action::Detached(_) => {
                self.changed(at, action);
            }
            Action::Deliver(channel, message, is_in_order) => {
                if self.stations[at].order.deliver(message.stamp.seq, is_in_order) {
                    self.count("late");
                }
                self.deliver(at, &channel, &message);
            }
            Action::Gap(channel) => {
                self.count("gaps");
                for subscriber in self.stations[at].desks[number(&channel)].subscribers.clone() {
                    self.note(Fact::Gap { subscriber });
                }
            }
        }
    }

    /// Sends a message to one of the streams.
    fn act_on_streams(&mut self, at: usize, action: Action) {
        let Origin { node: name, incarnation } = self.stations[at].origin.clone();
        match action {
            Action::Claim(flight, hash, listens, expected) => {
                let payload = Payload::Claim(Claim { incarnation, listens });
                let what = (Subject::Claim(hash, name), payload);
                self.send_publish(at, flight, what, Some(expected));
            }
            Action::EndClaim(flight, held) => {
                self.count("claims ended");
                let Place::Channel(hash) = held.place else { return };
                let Origin { node, incarnation } = held.origin;
                let payload = Payload::Claim(Claim { incarnation, listens: false });
                let what = (Subject::Claim(hash, node), payload);
                self.send_publish(at, flight, what, Some(held.seq));
            }
            Action::Beat(flight, beat) => {
                let what = (Subject::Beat(name), Payload::Beat(beat));
                self.send_publish(at, flight, what, None);
            }
            Action::Barrier(flight) => {
                self.send_publish(at, flight, (Subject::Barrier(name), Payload::Barrier), None);
            }
            Action::WriteAnchor(flight, stream, anchor, expected) => {
                let what = (stream, Subject::Anchor, Payload::Anchor(anchor));
                let publish = Publish { expected: Some(expected), ..self.made(at, flight, what) };
                self.send(at, flight, Up::Publish(Box::new(publish)));
            }
            Action::Send(token, flight, asks) => {
                let Attempt { id, channel, .. } = self.attempts[&token];
                let subject = Subject::Channel(ChannelHash::of(&self::channel(channel)));
                let what = (Stream::Order, subject, Payload::Publication(channel, id));
                let (id, ask) = (Some(id), asks.then_some(token));
                let publish = Publish { id, ask, ..self.made(at, flight, what) };
                self.send(at, flight, Up::Publish(Box::new(publish)));
            }
            other => unreachable!("not for a stream: {other:?}"),
        }
    }

    fn epoch_changed(&mut self, at: usize, stream: Stream, number: u64) {
        self.count(if stream == Stream::Order { "epochs" } else { "epochs of claims" });
        if stream == Stream::Order {
            self.stations[at].epoch = number;
            self.stations[at].order = Order::default();
            for desk in &mut self.stations[at].desks {
                desk.position = 0;
                desk.counts.clear();
            }
        }
    }

    /// A node is attached to a channel, could not attach, or is no longer attached.
    fn changed(&mut self, at: usize, action: Action) {
        let node = self.stations[at].node as u64;
        match action {
            Action::Attached(channel, from) => {
                let channel = number(&channel);
                let desk = &mut self.stations[at].desks[channel];
                (desk.is_attached, desk.position) = (true, from);
                let new = std::mem::take(&mut desk.waiting);
                desk.subscribers.extend(&new);
                for subscriber in new {
                    self.count("joins");
                    self.note(Fact::Joined { subscriber, node, channel: channel as u64 });
                }
            }
            Action::Failed(channel) | Action::Detached(channel) => {
                let desk = &mut self.stations[at].desks[number(&channel)];
                assert!(desk.subscribers.is_empty(), "a channel with subscribers is let go");
                *desk = Desk::default();
            }
            _ => {}
        }
    }

    fn deliver(&mut self, at: usize, channel: &Channel, message: &Message) {
        let Ok(Body::Publication(published)) = &message.body else { return };
        let seq = message.stamp.seq;
        let id = u64::try_from(published.id.as_u128()).expect("ids are small");
        let place = self.servers.places.get(&(seq, id)).copied();
        let desk = &mut self.stations[at].desks[number(channel)];
        let count = u32::try_from(desk.subscribers.len()).unwrap_or(u32::MAX);
        desk.position = seq;
        desk.counts.insert(seq, count);
        for subscriber in desk.subscribers.clone() {
            self.count("heard");
            self.note(Fact::Heard { subscriber, id, place });
        }
        if let Some((to, token)) = message.ask.as_deref().and_then(|ask| ask.split_once('.')) {
            let both = to.parse().ok().zip(token.parse().ok());
            let (to, token) = both.expect("it is written so");
            self.answer_count(at, (to, token), seq, count);
        }
    }

    fn answer_count(&mut self, at: usize, (to, token): (u64, u64), seq: Seq, websocket: u32) {
        let audience = Audience { websocket, ..Audience::default() };
        let from = self.stations[at].origin.clone();
        self.send(at, 0, Up::Count(to, token, Counted { from, seq, audience }));
    }

    /// Another node asks directly about a publication.
    fn question(&mut self, at: usize, to: (u64, u64), hash: ChannelHash, seq: Seq) {
        let found = (0..CHANNELS).find(|one| ChannelHash::of(&channel(*one)) == hash);
        let desk = &self.stations[at].desks[found.expect("it is one of the channels")];
        let count = match desk.counts.get(&seq) {
            Some(count) => *count,
            None if desk.is_attached && desk.position < seq => return,
            None => 0,
        };
        self.answer_count(at, to, seq, count);
    }

    fn ask_node(&mut self, at: usize, question: fanfare::cluster::audience::Question) {
        self.count("questions");
        let Some(line) = self.stations[at].line else { return };
        let hash = ChannelHash::of(&channel(self.attempts[&question.number].channel));
        // A place means nothing to a node that knows another epoch.
        let epoch = self.stations[at].epoch;
        let is_asked = |one: &Station| {
            one.origin.node == question.node && one.line.is_some() && one.epoch == epoch
        };
        let to = self.stations.iter().position(is_asked);
        if let Some(to) = to {
            let delay = self.clock.dice.from(1, 8);
            self.later(to, delay, Call::Question(line, question.number, hash, question.seq));
        }
    }
}

// The node's clients.
impl World {
    pub(super) fn join(&mut self, at: usize, number: usize) {
        if !self.stations[at].is_serving(self.clock.now) {
            return;
        }
        self.subscribers += 1;
        let subscriber = self.subscribers;
        let node = self.stations[at].node as u64;
        let desk = &mut self.stations[at].desks[number];
        let is_first = desk.waiting.is_empty() && desk.subscribers.is_empty();
        if desk.is_attached && !is_first {
            desk.subscribers.insert(subscriber);
            return self.note(Fact::Joined { subscriber, node, channel: number as u64 });
        }
        desk.waiting.insert(subscriber);
        if is_first {
            let needs_seed = !needs_listener(number) && self.clock.dice.has_luck(50);
            let needs_listener = needs_listener(number);
            let want = Want { channel: channel(number), needs_seed, needs_listener };
            self.tell(at, Event::Want(want));
        }
    }

    pub(super) fn leave(&mut self, at: usize, number: usize, subscriber: u64) {
        if self.stations[at].state != State::Up {
            return;
        }
        let desk = &mut self.stations[at].desks[number];
        let was_acknowledged = desk.subscribers.remove(&subscriber);
        desk.waiting.remove(&subscriber);
        let is_last = desk.subscribers.is_empty() && desk.waiting.is_empty();
        if is_last {
            desk.is_attached = false;
        }
        if was_acknowledged {
            self.note(Fact::Left { subscriber });
        }
        if is_last {
            self.tell(at, Event::LetGo(channel(number)));
        }
    }

    /// Lets a node publish, for the first time or again with an id that is known.
    pub(super) fn publish(&mut self, at: usize, token: u64) {
        let Attempt { id, channel, patience, audience } = self.attempts[&token].clone();
        let node = self.stations[at].node as u64;
        self.note(Fact::Asked { attempt: token, id, channel: channel as u64, node });
        self.stations[at].pending.insert(token);
        let publish = Wanted {
            token,
            channel: ChannelHash::of(&self::channel(channel)),
            patterns: Vec::new(),
            bytes: 100,
            patience,
            needs_listener: needs_listener(channel),
            audience,
        };
        self.tell(at, Event::Publish(publish));
    }

    fn published(&mut self, at: usize, token: u64, published: Published) {
        let attempt = self.attempts[&token].clone();
        let stored = |world: &Self, seq| {
            let place = world.servers.places.get(&(seq, attempt.id)).copied();
            assert!(place.is_some(), "acknowledged and never stored: {attempt:?}");
            Answer::Stored { place }
        };
        let answer = match published {
            Published::Stored { seq, .. } => stored(self, seq),
            Published::NotHeard => Answer::NotHeard,
            Published::Unproven | Published::Refused(_) => Answer::Refused,
            Published::Unknown => Answer::Unknown,
            Published::Late(seq) => {
                self.count("late");
                stored(self, seq)
            }
        };
        self.count(match (answer, published) {
            (Answer::Stored { .. }, _) => "stored",
            (Answer::NotHeard, _) => "null",
            (_, Published::Unproven) => "unproven",
            (Answer::Refused, _) => "refused",
            (Answer::Unknown, _) => "unknown",
        });
        self.stations[at].pending.remove(&token);
        self.note(Fact::Answered { attempt: token, answer });
        if answer == Answer::Unknown && self.clock.dice.has_luck(70) {
            let delay = self.clock.dice.from(50, 5_000);
            self.count("repeated");
            self.attempt_later(delay, attempt);
        }
    }

    fn counted(&mut self, total: &Total) {
        let Total { number: attempt, audience, nodes, unknown, is_named, .. } = total;
        self.count(if *is_named && unknown.is_empty() { "audiences" } else { "audiences in part" });
        let node = |name: &NodeName| name.as_str()[1..].parse().expect("names have numbers");
        let unknown = unknown.iter().map(node).collect();
        let (attempt, total, nodes) = (*attempt, u64::from(audience.websocket), *nodes as u64);
        let is_named = *is_named;
        self.note(Fact::Counted { attempt, total, nodes, unknown, is_named });
    }
}
