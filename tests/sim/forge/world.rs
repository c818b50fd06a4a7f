//! Workers with their clients and publishers, and the model of what each client hears.

use std::collections::VecDeque;
use std::sync::Arc;

use fanfare::interface::forge::access::{ForgeAuth, NewToken, Reach, Topic};
use fanfare::interface::forge::nouns::Context;
use fanfare::interface::forge::publish::{Event, publish_event};
use fanfare::interface::{Session, forge};
use fanfare::message::{Channel, MessageId, SlowConsumer};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::client::{Asked, Client, Seen};
use super::{CONNECTIONS, Replay, Step, TOPICS, Terms};
use crate::frames::{CLOSE, Line, TEXT};
use crate::node::{Node, keys};
use crate::stream::Due;
use crate::turns::{Desk, Seat as Seated, Stage, Turns, desks, ghosts};
use crate::window::Window;
use crate::worlds::{Place, at, fill, places};

/// Seconds from a token's issue to its expiry.
const TOKEN_S: u64 = 2;
/// Milliseconds within which a subscription with an expired token ends if mailboxes have places.
const NOTICE_MS: u64 = 100;
const INSTALLATION: &str = "installation";
const PAYLOAD_BYTES_MAX: usize = 1_000;

pub(super) struct World {
    pub(super) node: Node,
    terms: Terms,
    /// The source of the keys of sessions.
    random: StdRng,
    auth: ForgeAuth,
    context: Arc<Context>,
    topics: [Channel; TOPICS],
    ids: [String; TOPICS],
    windows: [Window; TOPICS],
    /// The events that back ends published, by topic.
    told: [Vec<u64>; TOPICS],
    /// The latest time at which a topic may have a subscriber that is not connected.
    lingers: [u64; TOPICS],
    desks: Vec<Desk<Seat>>,
    /// Milliseconds, by both clocks.
    now: u64,
    published: u64,
    asked: u64,
    calls: u64,
}

pub(super) struct Seat {
    line: Line,
    client: Client,
    /// The topics whose audience includes the client.
    counted: [bool; TOPICS],
    /// Changes of its subscriptions whose mail is in the mailbox, by topic.
    pending: [VecDeque<Pending>; TOPICS],
    /// Subscriptions that end with their token, in the order of their subscribes.
    endings: Vec<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Begins,
    Ends,
    /// The subscription ends with its token.
    Expires,
}

struct Ending {
    topic: usize,
    expires_at: u64,
    is_over: bool,
}

/// Returns the name of a topic's channel, and whether the topic requires a token.
fn channel(topic: usize) -> (&'static str, bool) {
    (["a", "b"][topic / 2], topic % 2 == 1)
}

/// Returns the payload of an event, as JSON text.
fn payload(number: u64, is_large: bool) -> String {
    format!(r#""{number}:{}""#, fill(is_large))
}

impl Seated for Seat {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

impl World {
    pub(super) fn new(terms: Terms) -> Self {
        let node = Node::new(terms.places, |config| {
            config.forge.replay_seconds = terms.replay_seconds;
            config.forge.linger_ms = terms.linger;
            config.forge.rate_limit = 0;
            config.forge.enforce_token_expiry = terms.enforces_expiry;
            config.forge.payload_bytes = PAYLOAD_BYTES_MAX;
            config.forge.slow_consumer = terms.slow_consumer;
        });
        let context = Context {
            installation: INSTALLATION.into(),
            account: None,
            place: r#"{"ctx":{},"module":"m"}"#.into(),
            entities: Box::default(),
            reads_global: None,
            is_ui: true,
            expires_at: 1_000_000,
        };
        let auth = ForgeAuth::new(keys(), TOKEN_S);
        let topic = |number: usize| {
            let (channel, takes_token) = channel(number);
            let claims = takes_token.then_some("{}");
            let reach = Reach::Place(&context);
            let topic = auth.topic(&Topic { installation: INSTALLATION, channel, reach, claims });
            topic.expect("no entity is asked for")
        };
        let topics: [Channel; TOPICS] = std::array::from_fn(topic);
        let now = 1_000;
        let desks = desks(&node, now);
        let ids = topics.clone().map(|topic| topic.as_str().to_owned());
        let mut world = Self {
            node,
            terms,
            random: StdRng::seed_from_u64(0),
            auth,
            context: Arc::new(context),
            topics,
            ids,
            windows: Default::default(),
            told: Default::default(),
            lingers: [0; TOPICS],
            desks,
            now,
            published: 0,
            asked: 0,
            calls: 0,
        };
        for (worker, _) in places(CONNECTIONS) {
            let seat = world.seat(worker);
            world.desks[worker].seats.push(seat);
        }
        world
    }

    /// Runs these steps, and checks that each client has heard what it should.
    pub(super) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.node.check_places();
        }
        self.check();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { topic, is_large, times } => {
                (0..times).for_each(|_| self.publish(topic, is_large));
            }
            Step::Say { place: (worker, slot), topic } => self.say(worker, slot, topic),
            Step::Subscribe { place: (worker, slot), topic, replay } => {
                self.subscribe(worker, slot, topic, replay);
            }
            Step::Unsubscribe { place: (worker, slot), topic } => {
                self.unsubscribe(worker, slot, topic);
            }
            Step::Close { place, is_said } => self.close(place, is_said),
            Step::Read { place, bytes } => self.read(place, bytes),
            Step::Pass { millis, is_swept } => self.pass(millis, is_swept),
            Step::Turn { worker, mail } => self.turn(worker, mail),
        }
    }

    /// Returns a token for a topic, as a member of a request's options; empty if it requires none.
    fn token(&self, topic: usize) -> String {
        let (channel, takes_token) = channel(topic);
        if !takes_token {
            return String::new();
        }
        let installation = INSTALLATION;
        let new = NewToken { installation, channel, claims: "{}", permissions: None };
        let signed = self.auth.sign(&new, self.now / 1_000).expect("the claims are an object");
        format!(r#","token":"{}""#, signed.token)
    }
}

/// Publications of back ends and clients, and the number of their listeners.
impl World {
    /// Publishes an event as a back end.
    pub(super) fn publish(&mut self, topic: usize, is_large: bool) {
        self.published += 1;
        let payload = payload(self.published, is_large);
        let id = MessageId::from_u128(self.published.into());
        let before = self.node.all_waiting();
        let channel = self.topics[topic].clone();
        let shared = &self.node.hub.interfaces;
        let event = Event { id, payload: payload.as_str().into(), repeat: None };
        match publish_event(shared, &channel, &event, at(self.now)) {
            Ok(Some(_)) => {
                self.told[topic].push(self.published);
                self.heard(topic, payload.len());
            }
            Ok(None) => self.unheard(topic),
            Err(_) => assert_eq!(before, self.node.all_waiting(), "refused whole"),
        }
    }

    /// Publishes an event as a client.
    fn say(&mut self, worker: usize, slot: usize, topic: usize) {
        self.published += 1;
        self.asked += 1;
        let (id, payload) = (self.asked, payload(self.published, false));
        let ((channel, _), token) = (channel(topic), self.token(topic));
        let request = format!(
            r#"{{"type":"publish","id":{id},"channel":"{channel}","options":{{"x":0{token}}},"payload":{payload}}}"#
        );
        let counters = self.node.hub.metrics.thread(worker);
        let (heard, unheard) = (counters.events_socket.get(), counters.events_unheard.get());
        self.send(worker, slot, &request);
        let (is_heard, is_unheard) =
            (counters.events_socket.get() > heard, counters.events_unheard.get() > unheard);
        let asked = match is_heard || is_unheard {
            true => Asked::Publish { is_heard },
            false => Asked::Refused,
        };
        self.desks[worker].seats[slot].client.asks(id, asked);
        if is_heard {
            self.heard(topic, payload.len());
        } else if is_unheard {
            self.unheard(topic);
        }
        self.settle_call();
    }

    /// Expects the event that was just published at all clients in the topic's audience.
    fn heard(&mut self, topic: usize, bytes: usize) {
        let may_linger = ghosts(&self.desks, topic) > 0 || self.now < self.lingers[topic];
        assert!(self.counted(topic) > 0 || may_linger, "an event needs a listener");
        if self.terms.replay_seconds > 0 {
            self.windows[topic].push(self.published, bytes, self.now, self.terms.replay_seconds);
        }
        let may_be_lost = self.terms.slow_consumer != SlowConsumer::Close;
        let (heard, call) = (Seen::Event(self.published), self.calls);
        let seats = self.desks.iter_mut().flat_map(|desk| &mut desk.seats);
        for Seat { client, .. } in seats.filter(|seat| seat.counted[topic]) {
            client.streams.expect(topic, Due { heard: heard.clone(), may_be_lost, call });
        }
    }

    fn unheard(&self, topic: usize) {
        assert_eq!(self.counted(topic), 0, "whoever is counted is a listener");
    }

    fn counted(&self, topic: usize) -> usize {
        let seats = self.desks.iter().flat_map(|desk| &desk.seats);
        seats.filter(|seat| seat.counted[topic]).count()
    }
}

/// Requests of clients on their WebSockets.
impl World {
    fn send(&mut self, worker: usize, slot: usize, request: &str) {
        let Desk { worker, seats, .. } = &mut self.desks[worker];
        worker.at(at(self.now));
        seats[slot].line.send(worker, TEXT, request.as_bytes());
    }

    pub(super) fn subscribe(&mut self, worker: usize, slot: usize, topic: usize, replay: Replay) {
        self.asked += 1;
        let (id, (channel, takes_token)) = (self.asked, channel(topic));
        let token = self.token(topic);
        let after = replay.after.and_then(|back| self.told[topic].iter().rev().nth(back).copied());
        let named = after.map(|after| MessageId::from_u128(after.into()));
        let named = named.map_or(String::new(), |named| format!(r#","after":"{named}""#));
        let options = format!(r#"{{"replaySeconds":{}{named}{token}}}"#, replay.seconds);
        let request = format!(
            r#"{{"type":"subscribe","id":{id},"channel":"{channel}","options":{options}}}"#
        );
        let before = self.node.waiting(self.desks[worker].id);
        self.send(worker, slot, &request);
        let is_accepted = self.node.waiting(self.desks[worker].id) > before;
        let (now, call) = (self.now, self.calls);
        let Seat { client, counted, pending, endings, .. } = &mut self.desks[worker].seats[slot];
        let asked = if is_accepted { Asked::Subscribe(topic) } else { Asked::Refused };
        client.asks(id, asked);
        if is_accepted {
            counted[topic] = true;
            pending[topic].push_back(Pending::Begins);
            if takes_token && self.terms.enforces_expiry {
                forget_ending(endings, client, topic);
                let expires_at = now / 1_000 + TOKEN_S;
                endings.push(Ending { topic, expires_at, is_over: false });
            }
            let window = &self.windows[topic];
            let seconds = replay.seconds.min(self.terms.replay_seconds);
            let subscribed = Seen::Subscribed { id, keeps_any: !window.is_empty() };
            let is_missing = |after| seconds > 0 && window.has_gap(after, now);
            let missing = after.is_some_and(is_missing).then_some(Seen::Missing);
            let told = [subscribed].into_iter().chain(missing).map(|heard| (heard, false));
            let replayed = window.replay(seconds, after, now).into_iter();
            let replayed = replayed.map(|number| (Seen::Replayed { number, id }, true));
            for (heard, may_be_lost) in told.chain(replayed) {
                client.streams.expect(topic, Due { heard, may_be_lost, call });
            }
        }
        self.settle_call();
    }

    fn unsubscribe(&mut self, worker: usize, slot: usize, topic: usize) {
        self.asked += 1;
        let id = self.asked;
        let name = &self.ids[topic];
        let request = format!(r#"{{"type":"unsubscribe","id":{id},"topic":"{name}"}}"#);
        let before = self.node.waiting(self.desks[worker].id);
        self.send(worker, slot, &request);
        let is_posted = self.node.waiting(self.desks[worker].id) > before;
        let Seat { client, counted, pending, endings, .. } = &mut self.desks[worker].seats[slot];
        // If no subscription exists or is under way, the answer needs no mail.
        if is_posted || !counted[topic] && pending[topic].is_empty() {
            client.asks(id, Asked::Unsubscribe(topic));
            forget_ending(endings, client, topic);
            counted[topic] = false;
            pending[topic].extend(is_posted.then_some(Pending::Ends));
            let heard = Seen::Unsubscribed { id };
            client.streams.expect(topic, Due { heard, may_be_lost: false, call: self.calls });
        } else {
            client.asks(id, Asked::Refused);
        }
        self.settle_call();
    }

    fn seat(&mut self, worker: usize) -> Seat {
        let Desk { id, worker, .. } = &mut self.desks[worker];
        let (context, now) = (Some(self.context.clone()), at(self.now));
        let timings = &self.node.hub.interfaces.timings;
        let session = forge::Session::new(context, now, timings, &mut self.random);
        let connection = self.node.open(worker, *id, Session::Forge(session));
        Seat {
            line: Line::new(connection, self.terms.reads),
            client: Client::default(),
            counted: [false; TOPICS],
            pending: Default::default(),
            endings: Vec::new(),
        }
    }
}

/// Forgets that a subscription ends with its token, because a subscribe brings another token or an
/// unsubscribe ends it. If the end is under way, its client is not notified.
fn forget_ending(endings: &mut Vec<Ending>, client: &mut Client, topic: usize) {
    for _ in endings.extract_if(.., |one| one.topic == topic).filter(|one| one.is_over) {
        client.streams.expect_no_more(topic, &Seen::Expired);
    }
}

impl Turns for World {
    type Seat = Seat;

    const GOODBYE: (u8, &'static [u8]) = (CLOSE, &[]);

    fn stage(&mut self) -> Stage<'_, Seat> {
        Stage { node: &self.node, desks: &mut self.desks, now: &mut self.now }
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.windows.iter_mut()
    }

    fn comes_up(&mut self, (worker, slot): Place, channel: &Channel) {
        let topic = self.topics.iter().position(|topic| topic == channel);
        let topic = topic.expect("there is no other");
        let Seat { pending, endings, .. } = &mut self.desks[worker].seats[slot];
        // An end with later mail behind it belongs to an earlier token, and was forgotten.
        let is_end = pending[topic].pop_front() == Some(Pending::Expires);
        if is_end && pending[topic].is_empty() {
            endings.retain(|one| one.topic != topic || !one.is_over);
        }
    }

    fn hear(&mut self, worker: usize) {
        for Seat { line, client, .. } in &mut self.desks[worker].seats {
            line.heard().into_iter().for_each(|frame| client.take(&self.ids, frame));
        }
        self.end_subscriptions(worker);
    }

    /// Replaces the connections that have ended.
    fn settle_call(&mut self) {
        self.desks.iter_mut().for_each(|desk| desk.worker.reap());
        for (worker, slot) in places(CONNECTIONS) {
            let Desk { worker: there, seats, .. } = &mut self.desks[worker];
            let Seat { line, client, counted, .. } = &seats[slot];
            if let Some(link) = there.link(line.id) {
                let all = counted.iter().filter(|is_counted| **is_counted).count();
                assert_eq!(usize::from(link.subscribed), all, "node and model agree");
                continue;
            }
            client.streams.check_so_far();
            let counted = *counted;
            for topic in (0..TOPICS).filter(|topic| counted[*topic]) {
                self.desks[worker].haunt(topic);
                let until = self.now + self.terms.linger;
                self.lingers[topic] = self.lingers[topic].max(until);
            }
            self.desks[worker].seats[slot] = self.seat(worker);
        }
        self.calls += 1;
    }
}

impl World {
    /// Finds the subscriptions that the worker has ended because their tokens expired.
    fn end_subscriptions(&mut self, worker: usize) {
        let Desk { worker: there, seats, .. } = &mut self.desks[worker];
        for Seat { line, client, counted, pending, endings } in seats {
            let Some(link) = there.link(line.id) else { continue };
            let all = counted.iter().filter(|is_counted| **is_counted).count();
            let ended = all - usize::from(link.subscribed);
            let is_due = |one: &&mut Ending| !one.is_over && one.expires_at <= self.now / 1_000;
            let mut due = endings.iter_mut().filter(is_due);
            for _ in 0..ended {
                let ending = due.next().expect("no other subscription ends by itself");
                ending.is_over = true;
                counted[ending.topic] = false;
                pending[ending.topic].push_back(Pending::Expires);
                let due = Due { heard: Seen::Expired, may_be_lost: false, call: self.calls };
                client.streams.expect(ending.topic, due);
            }
        }
    }

    /// Comes to rest, and checks that each client has heard exactly what the calls promised.
    pub(super) fn check(&mut self) {
        self.settle();
        self.check_clients();
        self.pass(1_000 * TOKEN_S, false);
        for _ in 0..CONNECTIONS * TOPICS {
            // An end that finds no place is tried again later.
            self.pass(NOTICE_MS, false);
            self.settle();
        }
        self.check_clients();
        let seats = self.desks.iter().flat_map(|desk| &desk.seats);
        let is_ended = |seat: &Seat| seat.endings.is_empty();
        assert!(seats.into_iter().all(is_ended), "no subscription outlives its token");
        self.check_end();
    }

    fn check_clients(&self) {
        for Seat { line, client, endings, counted, .. } in
            self.desks.iter().flat_map(|desk| &desk.seats)
        {
            assert!(line.is_between_frames(), "the last frame is whole");
            client.check();
            let is_enforced = self.terms.enforces_expiry;
            let ends = |topic: usize| endings.iter().any(|one| one.topic == topic);
            let mut with_token = (0..TOPICS).filter(|topic| channel(*topic).1 && counted[*topic]);
            assert!(with_token.all(|topic| !is_enforced || ends(topic)), "each has a token");
        }
    }
}
