//! A model of NATS servers: clients with subscriptions, routes between servers, and who hears what.
//!
//! A server sends another one only what that server has asked for, by messages of its own on the
//! same route. Each pair of servers has one route for clients' messages and one for JetStream's, so
//! that neither keeps its order with the other.

use std::collections::BTreeMap;
use std::rc::Rc;

use fanfare::cluster::ack::{Ack, Refusal};
use fanfare::cluster::name::Stream;
use fanfare::message::Millis;

use super::clockwork::{Clockwork, Way};
use super::frames::{
    Account, Call, Down, Frame, Item, Payload, Publish, Reply, Routed, Subject, Topic, Up,
};
use super::jetstream::{Entry, Group, Taken};

/// A cut that is shorter only delays what is sent. A longer one breaks the route.
const ROUTE_PATIENCE_MS: Millis = 2_500;
/// How long a leader without a majority, or one that is silent, stays the leader.
const LEASE_MS: Millis = 7_000;
/// Time between two looks for streams without a leader.
const WATCH_MS: Millis = 250;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Up,
    /// Its process stands still. What is sent to it waits.
    Stopped,
    Down,
}

pub(super) struct Server {
    pub(super) state: State,
    /// Counts its starts.
    pub(super) start: u32,
    held: Vec<Item>,
    /// What other servers have asked for, and for how many of their clients.
    interest: BTreeMap<(usize, Topic), u32>,
    /// What is added to the world's clock, in milliseconds.
    pub(super) clock: Millis,
}

#[derive(Default)]
struct Route {
    /// Since when nothing passes.
    cut: Option<Millis>,
    held: Vec<(Account, Frame)>,
    /// Further delay of each account's messages, in milliseconds.
    slow: BTreeMap<Account, Millis>,
}

/// A client's connection, as its server has it.
pub(super) struct Connection {
    pub(super) station: usize,
    /// The number of the client's start.
    pub(super) start: u32,
    server: usize,
    topics: BTreeMap<u64, Topic>,
}

/// The servers, their routes and their streams.
pub(super) struct Servers {
    pub(super) all: Vec<Server>,
    routes: BTreeMap<(usize, usize), Route>,
    pub(super) connections: BTreeMap<u64, Connection>,
    next: u64,
    pub(super) order: Group,
    pub(super) claims: Group,
    /// Until when some messages are refused because there are too many.
    pub(super) flood: Millis,
    /// The place of each stored publication, by its sequence and its id.
    pub(super) places: BTreeMap<(u64, u64), u64>,
}

impl Servers {
    pub(super) fn new(count: usize, clock: &mut Clockwork) -> Self {
        let server = |_| Server {
            state: State::Up,
            start: 1,
            held: Vec::new(),
            interest: BTreeMap::new(),
            clock: 1_700_000_000_000 + clock.dice.from(0, 240_000),
        };
        let all: Vec<_> = (0..count).map(server).collect();
        let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
        let routes = pairs.map(|pair| (pair, Route::default())).collect();
        let (order, claims) = (Group::new(Stream::Order, count), Group::new(Stream::Claims, count));
        clock.after(WATCH_MS, Item::Watch);
        let (connections, places) = (BTreeMap::new(), BTreeMap::new());
        Self { all, routes, connections, next: 1, order, claims, flood: 0, places }
    }

    pub(super) fn group(&mut self, stream: Stream) -> &mut Group {
        match stream {
            Stream::Order => &mut self.order,
            Stream::Claims => &mut self.claims,
        }
    }

    pub(super) fn is_running(&self, server: usize) -> bool {
        self.all[server].state == State::Up
    }

    /// Returns whether two servers hear each other.
    pub(super) fn is_linked(&self, one: usize, other: usize) -> bool {
        let is_cut = |pair| self.routes.get(&pair).is_some_and(|route| route.cut.is_some());
        let both = self.is_running(one) && self.is_running(other);
        both && (one == other || !is_cut((one, other)) && !is_cut((other, one)))
    }

    fn has_majority(&self, server: usize) -> bool {
        let count = self.all.len();
        let near = (0..count).filter(|other| self.is_linked(server, *other)).count();
        near > count / 2
    }

    /// Returns the leader of a stream if a majority follows it.
    pub(super) fn ruler(&self, stream: Stream) -> Option<usize> {
        let group = if stream == Stream::Order { &self.order } else { &self.claims };
        group.leader.filter(|leader| self.has_majority(*leader))
    }

    /// Connects a client to a server. Returns the number of the connection.
    pub(super) fn connect(
        &mut self,
        server: usize,
        (station, start): (usize, u32),
        clock: &mut Clockwork,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let topics = BTreeMap::new();
        self.connections.insert(number, Connection { station, start, server, topics });
        let delay = clock.dice.from(0, 2);
        clock.along(Way::Up(number), delay, Item::Up(number, Up::Hello));
        number
    }

    /// Takes what a client sent.
    pub(super) fn up(&mut self, number: u64, frame: Up, clock: &mut Clockwork) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let server = connection.server;
        match self.all[server].state {
            State::Up => {}
            State::Stopped => return self.all[server].held.push(Item::Up(number, frame)),
            State::Down => return,
        }
        match frame {
            Up::Hello => {
                let topics = [Topic::Beats, Topic::Anchor, Topic::Answers(number)];
                let sids = (u64::MAX - 3..).zip(topics);
                connection.topics.extend(sids);
                topics.into_iter().for_each(|topic| self.spread(server, topic, true, clock));
            }
            Up::Subscribe(sid, hash) => {
                let topic = Topic::Channel(hash);
                connection.topics.insert(sid, topic);
                self.spread(server, topic, true, clock);
            }
            Up::Unsubscribe(sid) => {
                if let Some(topic) = connection.topics.remove(&sid) {
                    self.spread(server, topic, false, clock);
                }
            }
            Up::Publish(publish) => self.ingest(server, *publish, clock),
            Up::Count(to, token, counted) => {
                self.send_down(server, to, Down::Count(token, counted), clock);
            }
        }
    }

    /// Tells the other servers that a client has subscribed, or has ended that.
    fn spread(&mut self, server: usize, topic: Topic, is_new: bool, clock: &mut Clockwork) {
        for other in (0..self.all.len()).filter(|other| *other != server) {
            self.send((server, other), Account::Clients, Frame::Interest(topic, is_new), clock);
        }
    }

    /// Sends something to another server.
    fn send(&mut self, way: (usize, usize), account: Account, frame: Frame, clock: &mut Clockwork) {
        let (from, to) = way;
        let starts = (self.all[from].start, self.all[to].start);
        let slow = self.routes.get(&(from, to)).and_then(|route| route.slow.get(&account));
        let delay = clock.dice.from(0, 2) + slow.copied().unwrap_or(0);
        let item = Item::Route(Routed { way, starts, account, frame });
        clock.along(Way::Route(from, to, account), delay, item);
    }

    /// Takes what another server sent.
    pub(super) fn route(&mut self, routed: Routed, clock: &mut Clockwork) {
        let Routed { way, starts, account, .. } = routed;
        let (from, to) = way;
        if starts != (self.all[from].start, self.all[to].start) {
            return;
        }
        if let Some(route) = self.routes.get_mut(&way).filter(|route| route.cut.is_some()) {
            return route.held.push((account, routed.frame));
        }
        match self.all[to].state {
            State::Up => {}
            State::Stopped => {
                return self.all[to].held.push(Item::Route(routed));
            }
            State::Down => return,
        }
        match routed.frame {
            Frame::Interest(topic, is_new) => {
                let count = self.all[to].interest.entry((from, topic)).or_default();
                *count = if is_new { *count + 1 } else { count.saturating_sub(1) };
            }
            Frame::Publish(publish) => self.ingest(to, *publish, clock),
            Frame::Live(topic, entry) => self.deliver(to, topic, &entry, clock),
            Frame::Down(number, down) => self.send_down(to, number, down, clock),
            Frame::Append(stream, term, count) => {
                let group = self.group(stream);
                if group.term == term && group.leader == Some(from) {
                    let has = group.follow(to, count);
                    let has = Frame::Has(stream, term, has);
                    self.send((to, from), Account::System, has, clock);
                }
            }
            Frame::Has(stream, term, count) => {
                let group = self.group(stream);
                if group.term == term && group.leader == Some(to) {
                    self.advance(stream, from, count, clock);
                }
            }
            Frame::Commit(stream, term, count) => {
                let group = self.group(stream);
                if group.term == term {
                    group.committed(to, count);
                }
            }
        }
    }

    /// Takes a message to a stream: passes it on to the leader, or is the leader.
    fn ingest(&mut self, server: usize, publish: Publish, clock: &mut Clockwork) {
        let stream = publish.stream;
        let Some(leader) = self.group(stream).leader else {
            let refused = Ack::Refused(Refusal::Unavailable);
            return self.answer(server, publish.reply, refused, clock);
        };
        if leader != server {
            let frame = Frame::Publish(Box::new(publish));
            return self.send((server, leader), Account::Clients, frame, clock);
        }
        if clock.now < self.flood && clock.dice.has_luck(30) {
            let refused = Ack::Refused(Refusal::Overloaded);
            return self.answer(server, publish.reply, refused, clock);
        }
        let wall = clock.now + self.all[server].clock;
        match self.group(stream).propose(&publish, clock.now, wall) {
            Taken::Answer(ack) => self.answer(server, publish.reply, ack, clock),
            Taken::Waits => {}
            Taken::Appended => {
                let group = self.group(stream);
                let (term, count) = (group.term, group.replicas[server].log.len());
                if let Some(entry) = group.replicas[server].log.last()
                    && let Payload::Publication(_, id) = entry.payload
                {
                    let (seq, place) = (entry.seq, entry.place);
                    self.places.insert((seq, id), place);
                }
                for other in (0..self.all.len()).filter(|other| *other != server) {
                    let append = Frame::Append(stream, term, count);
                    self.send((server, other), Account::System, append, clock);
                }
                self.advance(stream, server, count, clock);
            }
        }
    }

    /// Notes at a leader that a server has so many entries, and does what is in force now.
    fn advance(&mut self, stream: Stream, follower: usize, count: usize, clock: &mut Clockwork) {
        let done = self.group(stream).matched(follower, count);
        let group = self.group(stream);
        let Some(leader) = group.leader else { return };
        let (term, applied) = (group.term, group.replicas[leader].applied);
        for other in (0..self.all.len()).filter(|other| *other != leader) {
            let is_news = other == follower || !done.is_empty();
            if is_news {
                let commit = Frame::Commit(stream, term, applied);
                self.send((leader, other), Account::System, commit, clock);
            }
        }
        for (entry, replies) in done {
            let is_sent_on = stream == Stream::Order;
            let is_live_first = clock.dice.has_luck(50);
            if is_sent_on && is_live_first {
                self.republish(leader, &entry, clock);
            }
            for (reply, duplicate) in replies {
                self.answer(leader, reply, Ack::Stored { seq: entry.seq, duplicate }, clock);
            }
            if is_sent_on && !is_live_first {
                self.republish(leader, &entry, clock);
            }
        }
    }

    /// Sends a stored message to all that have subscribed, as far as the leader's server knows.
    fn republish(&mut self, leader: usize, entry: &Rc<Entry>, clock: &mut Clockwork) {
        let topic = match &entry.subject {
            Subject::Channel(hash) => Topic::Channel(*hash),
            Subject::Beat(_) => Topic::Beats,
            Subject::Anchor => Topic::Anchor,
            Subject::Claim(..) | Subject::Barrier(_) => return,
        };
        self.deliver(leader, topic, entry, clock);
        for other in (0..self.all.len()).filter(|other| *other != leader) {
            let count = self.all[leader].interest.get(&(other, topic)).copied();
            if count.unwrap_or(0) > 0 {
                let live = Frame::Live(topic, entry.clone());
                self.send((leader, other), Account::Clients, live, clock);
            }
        }
    }

    /// Sends a live message to a server's own clients that have subscribed.
    fn deliver(&mut self, server: usize, topic: Topic, entry: &Rc<Entry>, clock: &mut Clockwork) {
        for (number, one) in &self.connections {
            if one.server != server || !one.topics.values().any(|one| *one == topic) {
                continue;
            }
            let times = if clock.dice.has_luck(1) { 2 } else { 1 };
            for _ in 0..times {
                let delay = clock.dice.from(0, 2);
                let down = Item::Down(*number, Down::Live(topic, entry.clone()));
                clock.along(Way::Down(*number), delay, down);
            }
        }
    }

    /// Answers a client's message, perhaps a little later.
    fn answer(&mut self, server: usize, reply: Reply, ack: Ack, clock: &mut Clockwork) {
        let is_late = clock.dice.has_luck(10);
        let delay = if is_late { clock.dice.from(1, 40) } else { 0 };
        match delay {
            0 => self.answer_now(server, reply, ack, clock),
            delay => clock.after(delay, Item::Answer(server, reply, ack)),
        }
    }

    pub(super) fn answer_now(
        &mut self,
        server: usize,
        (number, flight): Reply,
        ack: Ack,
        clock: &mut Clockwork,
    ) {
        if self.is_running(server) {
            self.send_down(server, number, Down::Answer(flight, ack), clock);
        }
    }

    /// Sends something to the client with this connection, over its server.
    fn send_down(&mut self, server: usize, number: u64, down: Down, clock: &mut Clockwork) {
        let Some(to) = self.connections.get(&number).map(|one| one.server) else { return };
        if to == server {
            let delay = clock.dice.from(0, 2);
            return clock.along(Way::Down(number), delay, Item::Down(number, down));
        }
        let is_known = self.all[server].interest.get(&(to, Topic::Answers(number))).copied();
        if is_known.unwrap_or(0) > 0 {
            self.send((server, to), Account::Clients, Frame::Down(number, down), clock);
        }
    }

    /// Forgets a connection that its client has left.
    pub(super) fn forget(&mut self, number: u64, clock: &mut Clockwork) {
        let Some(connection) = self.connections.get(&number) else { return };
        let server = connection.server;
        match self.all[server].state {
            State::Up => {}
            State::Stopped => return self.all[server].held.push(Item::Forget(number)),
            State::Down => {}
        }
        let Some(gone) = self.connections.remove(&number) else { return };
        if self.is_running(server) {
            gone.topics.into_values().for_each(|topic| self.spread(server, topic, false, clock));
        }
    }
}

// What goes wrong.
impl Servers {
    /// Ends a server's process. It loses its last entries, or all.
    pub(super) fn kill(&mut self, server: usize, losses: [usize; 2], clock: &mut Clockwork) {
        let one = &mut self.all[server];
        (one.state, one.start) = (State::Down, one.start + 1);
        one.held.clear();
        one.interest.clear();
        for other in &mut self.all {
            other.interest.retain(|(from, _), _| *from != server);
        }
        let routes = self.routes.iter_mut();
        let own = routes.filter(|((from, to), _)| *from == server || *to == server);
        own.for_each(|(_, route)| route.held.clear());
        for (stream, loss) in [Stream::Order, Stream::Claims].into_iter().zip(losses) {
            let group = self.group(stream);
            group.lose(server, loss);
            if group.leader == Some(server) {
                group.depose(clock.now, &mut clock.dice);
            }
        }
        let gone = |one: &Connection| one.server == server;
        let numbers =
            self.connections.iter().filter(|(_, one)| gone(one)).map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            let (station, start) = {
                let one = &self.connections[&number];
                (one.station, one.start)
            };
            self.connections.remove(&number);
            clock.after(1, Item::Station(station, start, Call::Break(number)));
        }
    }

    /// Starts a server that is down.
    pub(super) fn serve(&mut self, server: usize, clock: &mut Clockwork) {
        if self.all[server].state != State::Down {
            return;
        }
        self.all[server].state = State::Up;
        for other in (0..self.all.len()).filter(|other| *other != server) {
            self.tell_interest(other, server, clock);
        }
    }

    /// Tells a server what all clients of another one have subscribed to.
    fn tell_interest(&mut self, from: usize, to: usize, clock: &mut Clockwork) {
        if !self.is_running(from) {
            return;
        }
        let all = self.connections.values().filter(|one| one.server == from);
        let topics: Vec<_> = all.flat_map(|one| one.topics.values().copied()).collect();
        for topic in topics {
            self.send((from, to), Account::Clients, Frame::Interest(topic, true), clock);
        }
    }

    pub(super) fn stop(&mut self, server: usize) {
        if self.is_running(server) {
            self.all[server].state = State::Stopped;
        }
    }

    /// Lets a stopped server go on: it takes everything that has waited.
    pub(super) fn resume(&mut self, server: usize, clock: &mut Clockwork) {
        if self.all[server].state != State::Stopped {
            return;
        }
        self.all[server].state = State::Up;
        for item in std::mem::take(&mut self.all[server].held) {
            clock.after(0, item);
        }
    }

    /// Lets nothing pass between two servers, in one direction.
    pub(super) fn cut(&mut self, from: usize, to: usize, now: Millis) {
        let route = self.routes.entry((from, to)).or_default();
        route.cut = route.cut.or(Some(now));
    }

    /// Ends a cut. What was sent meanwhile arrives, or is lost after a long time.
    pub(super) fn heal(&mut self, from: usize, to: usize, clock: &mut Clockwork) {
        let Some(route) = self.routes.get_mut(&(from, to)) else { return };
        let held = std::mem::take(&mut route.held);
        let Some(since) = route.cut.take() else { return };
        if clock.now - since < ROUTE_PATIENCE_MS {
            let starts = (self.all[from].start, self.all[to].start);
            for (account, frame) in held {
                let way = (from, to);
                clock.after(0, Item::Route(Routed { way, starts, account, frame }));
            }
            return;
        }
        if self.all[to].state == State::Down {
            return;
        }
        self.all[to].interest.retain(|(one, _), _| *one != from);
        self.tell_interest(from, to, clock);
    }

    pub(super) fn slow(&mut self, from: usize, to: usize, account: Account, delay: Millis) {
        self.routes.entry((from, to)).or_default().slow.insert(account, delay);
    }

    /// Closes a connection from the server's side.
    pub(super) fn close(&mut self, number: u64, clock: &mut Clockwork) {
        clock.along(Way::Down(number), 0, Item::Down(number, Down::Closed));
        self.forget(number, clock);
    }

    /// Lets another server lead a stream, as an operator may ask for. Returns whether it does.
    pub(super) fn transfer(&mut self, stream: Stream, clock: &mut Clockwork) -> bool {
        let Some(leader) = self.ruler(stream) else { return false };
        let group = self.group(stream);
        let applied = group.replicas[leader].applied;
        let all = group.replicas.iter().enumerate();
        let others: Vec<_> = all
            .filter(|(server, one)| *server != leader && one.log.len() >= applied)
            .map(|(server, _)| server)
            .collect();
        let able: Vec<_> = others.into_iter().filter(|one| self.has_majority(*one)).collect();
        let Some(next) = clock.dice.pick(&able) else { return false };
        self.lead(stream, &[next], clock);
        true
    }

    fn lead(&mut self, stream: Stream, voters: &[usize], clock: &mut Clockwork) {
        let (leader, more) = self.group(stream).elect(voters);
        for entry in more {
            // A server that applies a message before it leads does not send it on.
            if stream == Stream::Order && clock.dice.has_luck(50) {
                self.republish(leader, &entry, clock);
            }
        }
    }

    /// Looks for streams without a leader, and for followers that are behind. Returns the
    /// streams that have another leader.
    pub(super) fn watch(&mut self, clock: &mut Clockwork) -> Vec<Stream> {
        clock.after(WATCH_MS, Item::Watch);
        let mut changed = Vec::new();
        for stream in [Stream::Order, Stream::Claims] {
            let has_ruler = self.ruler(stream).is_some();
            let group = self.group(stream);
            match (group.election, has_ruler) {
                (_, true) => group.election = None,
                (None, false) => {
                    let end = clock.now + clock.dice.from(500, 4_500);
                    group.election = Some((clock.now, end));
                }
                (Some((since, end)), false) => {
                    if self.vote(stream, since, end, clock) {
                        changed.push(stream);
                    }
                }
            }
            let group = self.group(stream);
            let (term, Some(leader)) = (group.term, group.leader) else { continue };
            let count = group.replicas[leader].log.len();
            for follower in group.behind() {
                let append = Frame::Append(stream, term, count);
                self.send((leader, follower), Account::System, append, clock);
            }
        }
        changed
    }

    /// Elects a leader if it is time. Returns whether there is one.
    fn vote(&mut self, stream: Stream, since: Millis, end: Millis, clock: &mut Clockwork) -> bool {
        let count = self.all.len();
        let leader = self.group(stream).leader;
        // One server has no one to lose: it leads whenever it runs.
        if count > 1
            && since + LEASE_MS <= clock.now
            && leader.is_some_and(|one| self.is_running(one))
        {
            self.group(stream).leader = None;
        }
        if clock.now < end {
            return false;
        }
        let able: Vec<_> = (0..count).filter(|server| self.has_majority(*server)).collect();
        let Some(candidate) = clock.dice.pick(&able) else { return false };
        let mut voters: Vec<_> = (0..count).filter(|one| self.is_linked(candidate, *one)).collect();
        while voters.len() > count / 2 + 1 {
            let one = clock.dice.below(voters.len());
            voters.remove(one);
        }
        voters.retain(|one| self.has_majority(*one));
        if voters.is_empty() || Some(candidate) == leader && count == 1 {
            return false;
        }
        self.lead(stream, &voters, clock);
        true
    }
}
