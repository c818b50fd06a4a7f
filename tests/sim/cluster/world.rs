//! Nodes and servers, and what happens to them: clients come, go and publish, and parts fail.

use std::collections::{BTreeMap, BTreeSet};

use fanfare::cluster::events::Event;
use fanfare::cluster::name::Stream;
use fanfare::cluster::wire::Anchor;
use fanfare::message::Millis;

use super::clockwork::Clockwork;
use super::frames::{Account, Call, Item};
use super::servers::{Servers, State};
use super::station::{Attempt, CHANNELS, Station, needs_listener};
use crate::histories::{Fact, History, faults};

/// How long the parts may take to come to rest after the last fault.
const REST_MS: Millis = 90_000;
/// How long the nodes must be at rest: longer than it takes to hear of a new leader.
const QUIET_MS: Millis = 6_000;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) servers: usize,
    pub(super) nodes: usize,
    /// For how long clients come and parts fail, in milliseconds.
    pub(super) length: Millis,
    /// How many of a thousand steps are faults.
    pub(super) faults: u64,
    /// Whether servers may lose what they have acknowledged.
    pub(super) loses: bool,
    /// The longest pause between two steps, in milliseconds. In slow worlds many messages are the
    /// last ones of their channels.
    pub(super) pause: Millis,
}

pub(super) struct World {
    pub(super) clock: Clockwork,
    pub(super) servers: Servers,
    pub(super) stations: Vec<Station>,
    /// The anchors that the nodes' register has.
    pub(super) register: [Option<Anchor>; 2],
    pub(super) revision: u64,
    pub(super) attempts: BTreeMap<u64, Attempt>,
    pub(super) subscribers: u64,
    pub(super) consumers: u64,
    pub(super) history: History,
    pub(super) counts: BTreeMap<&'static str, u64>,
    terms: Terms,
    is_over: bool,
    is_traced: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut clock = Clockwork::new(seed);
        let dice = &mut clock.dice;
        let terms = Terms {
            servers: if dice.has_luck(70) { 3 } else { 1 },
            nodes: 2 + dice.below(3),
            length: dice.from(8_000, 30_000),
            faults: dice.pick(&[0, 10, 25, 50]).expect("there are some"),
            loses: dice.has_luck(40),
            pause: dice.pick(&[120, 120, 800]).expect("there are some"),
        };
        Self::with(terms, clock)
    }

    pub(super) fn with(terms: Terms, mut clock: Clockwork) -> Self {
        let mut servers = Servers::new(terms.servers, &mut clock);
        // In some worlds one way is slow all the time.
        if terms.servers > 1 && clock.dice.has_luck(50) {
            let from = 1 + clock.dice.below(terms.servers - 1);
            let slow = clock.dice.from(50, 900);
            servers.slow(from, 0, Account::Clients, slow);
        }
        // Wall clocks are minutes apart.
        let mut station =
            |node| Station::new(node, 1_700_000_000_000 + clock.dice.from(0, 600_000));
        let stations: Vec<_> = (0..terms.nodes).map(&mut station).collect();
        for at in 0..stations.len() {
            let delay = clock.dice.from(0, 300);
            clock.after(delay, Item::Station(at, 0, Call::Start));
        }
        clock.after(1_000, Item::Step);
        Self {
            clock,
            servers,
            stations,
            register: [None; 2],
            revision: 0,
            attempts: BTreeMap::new(),
            subscribers: 0,
            consumers: 0,
            history: Vec::new(),
            counts: BTreeMap::new(),
            terms,
            is_over: false,
            is_traced: std::env::var("FANFARE_SIM_TRACE").is_ok(),
        }
    }

    pub(super) fn note(&mut self, fact: Fact) {
        if self.is_traced {
            println!("{:>6} #{} {fact:?}", self.clock.now, self.history.len());
        }
        self.history.push(fact);
    }

    /// Prints what a node is told and does, if that is asked for.
    pub(super) fn trace(&self, at: usize, text: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>6} [{at}] {}", self.clock.now, text());
        }
    }

    /// Counts what happens, to prove that the worlds cover the rare cases.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Lets clients come and parts fail, then everything heal. Returns what is wrong.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.pass(self.terms.length);
        self.heal();
        self.rest()?;
        // Everything is heard by now. What the next message of its channel would bring to light is
        // too late.
        self.judge()?;
        self.probe();
        self.rest()?;
        self.judge()
    }

    fn judge(&mut self) -> Result<(), String> {
        self.note_losses();
        let faults = faults(&self.history);
        if faults.is_empty() { Ok(()) } else { Err(format!("{faults:?}")) }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, millis: Millis) {
        let until = self.clock.now + millis;
        while let Some(item) = self.clock.next(until) {
            self.happen(item);
            self.feed();
        }
    }

    fn happen(&mut self, item: Item) {
        let Self { servers, clock, .. } = self;
        match item {
            Item::Up(line, up) => servers.up(line, up, clock),
            Item::Down(line, down) => {
                let at = self.stations.iter().position(|one| one.line == Some(line));
                if let Some(at) = at {
                    self.down(at, line, down);
                }
            }
            Item::Route(routed) => servers.route(routed, clock),
            Item::Watch => {
                for stream in servers.watch(clock) {
                    self.tell_leader(stream);
                }
            }
            Item::Answer(server, reply, ack) => servers.answer_now(server, reply, ack, clock),
            Item::Serve(server) => servers.serve(server, clock),
            Item::Resume(server) => servers.resume(server, clock),
            Item::Heal(from, to) => servers.heal(from, to, clock),
            Item::Forget(line) => servers.forget(line, clock),
            Item::Quicken(from, to, account) => servers.slow(from, to, account, 0),
            Item::Station(at, start, call) => self.call(at, start, call),
            Item::Step => self.step(),
        }
    }

    /// The nodes hear of a new leader at once, or when they ask the next time.
    fn tell_leader(&mut self, stream: Stream) {
        self.count("leaders");
        for at in 0..self.stations.len() {
            let is_prompt = self.clock.dice.has_luck(60);
            let delay = if is_prompt {
                self.clock.dice.from(1, 200)
            } else {
                self.clock.dice.from(200, 5_000)
            };
            self.later(
                at,
                delay,
                match stream {
                    Stream::Order => Call::Tell(Box::new(Event::LeaderChanged)),
                    Stream::Claims => Call::Consume(true),
                },
            );
        }
    }

    /// Lets everything work again.
    pub(super) fn heal(&mut self) {
        self.is_over = true;
        for server in 0..self.servers.all.len() {
            self.servers.serve(server, &mut self.clock);
            self.servers.resume(server, &mut self.clock);
            for other in 0..self.servers.all.len() {
                self.servers.heal(server, other, &mut self.clock);
                self.servers.slow(server, other, Account::Clients, 0);
                self.servers.slow(server, other, Account::System, 0);
            }
        }
        for at in 0..self.stations.len() {
            let start = self.stations[at].start;
            match self.stations[at].state {
                State::Up => {}
                State::Stopped => self.call(at, start, Call::GoOn),
                State::Down if at < self.terms.nodes => self.call(at, start, Call::Start),
                State::Down => {}
            }
            if at >= self.terms.nodes && self.stations[at].state == State::Up {
                self.kill(at, None);
            }
        }
    }

    /// Waits until all nodes have been at rest for a while. Returns why they are not, if that takes
    /// too long.
    fn rest(&mut self) -> Result<(), String> {
        let end = self.clock.now + REST_MS;
        let mut quiet = 0;
        while quiet < QUIET_MS {
            self.pass(100);
            let now = self.clock.now;
            let unrest = self.stations[..self.terms.nodes].iter().find_map(|one| one.unrest(now));
            quiet = if unrest.is_some() { 0 } else { quiet + 100 };
            if let Some(unrest) = unrest.filter(|_| now > end) {
                return Err(format!("no rest: {unrest}"));
            }
        }
        Ok(())
    }

    /// Publishes on every node and channel once more, so that everything that is missing shows.
    fn probe(&mut self) {
        for at in 0..self.terms.nodes {
            for channel in 0..CHANNELS {
                let attempt = self.new_attempt(channel);
                self.attempt(at, 0, attempt);
            }
        }
        self.pass(200);
    }

    /// Notes which publications the streams have lost.
    fn note_losses(&mut self) {
        let Some(leader) = self.servers.order.leader else { return };
        let log = &self.servers.order.replicas[leader].log;
        let kept: BTreeSet<_> = log.iter().map(|one| one.place).collect();
        let lost: Vec<_> = self
            .servers
            .places
            .iter()
            .filter(|(_, place)| !kept.contains(place))
            .map(|((_, id), place)| (*id, *place))
            .collect();
        for (id, place) in lost {
            self.count("lost");
            self.note(Fact::Lost { id, place: Some(place) });
        }
    }
}

// Clients.
impl World {
    fn new_attempt(&mut self, channel: usize) -> Attempt {
        let id = self.attempts.len() as u64 + 1;
        let dice = &mut self.clock.dice;
        let patience = if dice.has_luck(80) { 1_000 } else { dice.from(20, 300) };
        let audience = dice.has_luck(40).then_some(50);
        Attempt { id, channel, patience, audience }
    }

    /// Lets a node publish after a while.
    fn attempt(&mut self, at: usize, delay: Millis, attempt: Attempt) {
        let token = self.attempts.len() as u64 + 1;
        self.attempts.insert(token, attempt);
        self.later(at, delay, Call::Publish(token));
    }

    /// Lets any node publish again with the same id.
    pub(super) fn attempt_later(&mut self, delay: Millis, attempt: Attempt) {
        let able = self.running();
        if let Some(at) = self.clock.dice.pick(&able) {
            self.attempt(at, delay, attempt);
        }
    }

    fn running(&self) -> Vec<usize> {
        let all = 0..self.stations.len();
        all.filter(|at| self.stations[*at].state == State::Up).collect()
    }

    fn step(&mut self) {
        if self.is_over {
            return;
        }
        let pause = self.clock.dice.from(1, self.terms.pause);
        self.clock.after(pause, Item::Step);
        if self.clock.dice.number() % 1_000 < self.terms.faults * self.terms.pause / 120 {
            return self.fail();
        }
        let running = self.running();
        let Some(at) = self.clock.dice.pick(&running) else { return };
        let channel = self.clock.dice.below(CHANNELS);
        match self.clock.dice.below(10) {
            0 | 1 => {
                // Few subscribers of what needs them, so that there are often none.
                let is_wanted = !needs_listener(channel) || self.clock.dice.has_luck(60);
                if is_wanted {
                    self.join(at, channel);
                }
            }
            2 | 3 => {
                let all = self.stations[at].subscribers(channel);
                if let Some(one) = self.clock.dice.pick(&all) {
                    self.leave(at, channel, one);
                }
            }
            _ => {
                let times = if self.clock.dice.has_luck(5) { 12 } else { 1 };
                for _ in 0..times {
                    let attempt = self.new_attempt(channel);
                    self.attempt(at, 0, attempt);
                }
            }
        }
    }
}

// Faults.
impl World {
    fn fail(&mut self) {
        let server = self.clock.dice.below(self.servers.all.len());
        let at = self.clock.dice.below(self.terms.nodes);
        match self.clock.dice.below(12) {
            0 => self.fail_server(server),
            1 => self.fail_all(),
            2 => {
                self.count("servers stopped");
                self.servers.stop(server);
                let delay = self.some_time(12_000);
                self.clock.after(delay, Item::Resume(server));
            }
            3 => self.isolate(server),
            4 => self.cut_route(server),
            5 => self.slow_route(server),
            6 => {
                let stream =
                    if self.clock.dice.has_luck(60) { Stream::Order } else { Stream::Claims };
                if self.servers.transfer(stream, &mut self.clock) {
                    self.tell_leader(stream);
                }
            }
            7 => {
                self.count("floods");
                self.servers.flood = self.clock.now + self.clock.dice.from(100, 3_000);
            }
            8 => {
                self.count("nodes killed");
                self.kill_node(at);
            }
            9 => self.stop_node(at),
            10 => self.start_twin(at),
            _ => {
                self.count("lines broken");
                if let Some(line) = self.stations[at].line {
                    match self.clock.dice.has_luck(50) {
                        true => self.servers.close(line, &mut self.clock),
                        false => self.later(at, 0, Call::Break(line)),
                    }
                }
            }
        }
    }

    /// Returns how long a fault lasts: mostly short.
    fn some_time(&mut self, most: Millis) -> Millis {
        let most = if self.clock.dice.has_luck(60) { most / 4 } else { most };
        self.clock.dice.from(100, most)
    }

    fn fail_server(&mut self, server: usize) {
        if self.servers.all[server].state == State::Down {
            return;
        }
        self.count("servers killed");
        let dice = &mut self.clock.dice;
        let losses = [(); 2].map(|()| match (self.terms.loses, dice.below(3)) {
            (false, _) | (_, 0) => 0,
            (_, 1) => dice.below(6),
            _ => usize::MAX,
        });
        self.servers.kill(server, losses, &mut self.clock);
        let delay = self.some_time(8_000);
        self.clock.after(delay, Item::Serve(server));
    }

    fn fail_all(&mut self) {
        for server in 0..self.servers.all.len() {
            self.fail_server(server);
        }
    }

    /// Cuts a server off from all others.
    fn isolate(&mut self, server: usize) {
        self.count("servers isolated");
        let delay = self.some_time(10_000);
        for other in (0..self.servers.all.len()).filter(|other| *other != server) {
            for (from, to) in [(server, other), (other, server)] {
                self.servers.cut(from, to, self.clock.now);
                self.clock.after(delay, Item::Heal(from, to));
            }
        }
    }

    fn cut_route(&mut self, from: usize) {
        let to = self.clock.dice.below(self.servers.all.len());
        if from == to {
            return;
        }
        self.count("routes cut");
        let delay = self.some_time(8_000);
        for (from, to) in [(from, to), (to, from)] {
            self.servers.cut(from, to, self.clock.now);
            self.clock.after(delay, Item::Heal(from, to));
        }
    }

    fn slow_route(&mut self, from: usize) {
        let to = self.clock.dice.below(self.servers.all.len());
        if from == to {
            return;
        }
        self.count("routes slowed");
        let account = if self.clock.dice.has_luck(70) { Account::Clients } else { Account::System };
        let slow = self.clock.dice.from(20, 900);
        self.servers.slow(from, to, account, slow);
        let delay = self.some_time(12_000);
        self.clock.after(delay, Item::Quicken(from, to, account));
    }

    fn kill_node(&mut self, at: usize) {
        if self.stations[at].state != State::Down {
            let delay = self.some_time(20_000);
            self.kill(at, Some(delay));
        }
    }

    fn stop_node(&mut self, at: usize) {
        if self.stations[at].state != State::Up {
            return;
        }
        self.count("nodes stopped");
        self.stop(at);
        let delay = self.some_time(35_000);
        self.later(at, delay, Call::GoOn);
        if let Some(line) = self.stations[at].line
            && self.clock.dice.has_luck(40)
        {
            self.servers.close(line, &mut self.clock);
        }
    }

    /// Starts a second node with the name of another one.
    fn start_twin(&mut self, at: usize) {
        if self.stations.len() > self.terms.nodes {
            return;
        }
        self.count("twins");
        let node = self.stations[at].node;
        self.note(Fact::Away { node: node as u64 });
        let wall = self.clock.dice.from(0, 600_000);
        let twin = self.stations.len();
        self.stations.push(Station::new(node, 1_700_000_000_000 + wall));
        self.later(twin, 0, Call::Start);
        let delay = self.some_time(20_000);
        self.clock.after(delay, Item::Station(twin, 0, Call::Kill(None)));
    }
}
