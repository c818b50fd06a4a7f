//! Workers, and clients that lose their connections and connect again to any worker.

use std::collections::VecDeque;
use std::convert::Infallible;

use fanfare::config::Recovery;
use fanfare::interface::{Session, insforge};
use fanfare::mailbox::Mail;
use fanfare::message::{ChannelOptions, ConnId, WorkerId};
use fanfare::runtime::Worker;
use fanfare::runtime::transmit::one_by_one;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::super::CHANNELS;
use super::super::world::{define, publish};
use super::client::Client;
use super::stream::Stream;
use super::{CLIENTS, Command, Step, Terms};
use crate::WORKERS;
use crate::frames::{Line, TEXT};
use crate::node::Node;
use crate::worlds::{at, come_to_rest};

/// The size of a worker's resume log. A long world publishes more.
const LOG_BYTES: usize = 100_000;

pub(super) struct World {
    pub(super) node: Node,
    terms: Terms,
    workers: Vec<Worker>,
    pub(super) clients: Vec<Client>,
    /// The clients whose sessions are in a worker's mailbox, in order, by worker.
    moving: [VecDeque<usize>; WORKERS],
    /// Ended connections whose workers have not noticed it, each with its worker.
    unnoticed: Vec<(usize, ConnId)>,
    published: u64,
    asked: u64,
    /// Milliseconds, by both clocks.
    now: u64,
    /// The source of the keys of sessions.
    random: StdRng,
}

impl World {
    pub(super) fn new(terms: Terms) -> Self {
        let recovery = Recovery { window_ms: terms.window, log_bytes: LOG_BYTES };
        let node = Node::new(terms.places, |config| config.recovery = recovery);
        define(&node.hub.interfaces, [ChannelOptions::default(); CHANNELS]);
        let now = 1_000;
        let workers = (0..WORKERS).map(|worker| node.worker(id(worker), at(now))).collect();
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        let (moving, unnoticed) = (Default::default(), Vec::new());
        let (published, asked) = (0, 0);
        let random = StdRng::seed_from_u64(0);
        Self { node, terms, workers, clients, moving, unnoticed, published, asked, now, random }
    }

    /// Runs these steps, and checks that each client has heard what it should.
    pub(super) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.node.check_places();
        }
        self.check();
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { channel, times } => (0..times).for_each(|_| self.publish(channel)),
            Step::Command { client, channel, command } => self.command(client, channel, command),
            Step::Cut { client, is_noticed } => self.cut(client, is_noticed),
            Step::Connect { client, worker } => self.connect(client, worker),
            Step::Read { client } => self.clients[client].read(),
            Step::Pass { millis } => self.now += millis,
            Step::Turn { worker, mail } => self.turn(worker, mail),
        }
    }

    fn publish(&mut self, channel: usize) {
        self.published += 1;
        let payload = format!(r#"{{"n":{}}}"#, self.published);
        let (now, options) = (at(self.now), ChannelOptions::default());
        let event = (channel, "e", payload);
        if publish(&self.node.hub.interfaces, self.published, event, options, now).is_err() {
            return;
        }
        for Client { streams, .. } in &mut self.clients {
            streams[channel].publish(self.published);
        }
    }

    /// Lets a client with a session join or leave a channel.
    fn command(&mut self, client: usize, channel: usize, command: Command) {
        let Client { line: Some((worker, line)), has_entered: true, .. } = &self.clients[client]
        else {
            return;
        };
        self.asked += 1;
        let (ack, id) = (self.asked, id(*worker));
        let name = match command {
            Command::Join => "realtime:subscribe",
            Command::Leave => "realtime:unsubscribe",
        };
        let packet = format!(r#"42{ack}["{name}",{{"channel":"channel:{channel}"}}]"#);
        let before = self.node.waiting(id);
        line.send(&mut self.workers[*worker], TEXT, packet.as_bytes());
        if self.node.waiting(id) == before {
            // The command was refused, or there was nothing to leave.
            return;
        }
        let client = &mut self.clients[client];
        client.asks(ack, channel);
        match command {
            Command::Join => client.streams[channel].joins(ack, self.published),
            Command::Leave => client.streams[channel].leaves(ack, self.published),
        }
    }
}

/// How connections begin, and how they are cut.
impl World {
    /// Ends a connection, and loses the frames on it.
    fn cut(&mut self, client: usize, is_noticed: bool) {
        let Some((worker, line)) = self.clients[client].cut() else { return };
        match is_noticed {
            true => self.notice(worker, line.id),
            false => self.unnoticed.push((worker, line.id)),
        }
    }

    /// Lets a worker notice that a connection has ended, unless it is migrating to another worker.
    fn notice(&mut self, worker: usize, id: ConnId) {
        if self.workers[worker].link(id).is_some() {
            self.workers[worker].ended(id.slot);
        }
    }

    fn connect(&mut self, client: usize, worker: usize) {
        let is_moving = self.moving.iter().any(|moving| moving.contains(&client));
        if self.clients[client].line.is_some() || is_moving {
            return;
        }
        let there = &mut self.workers[worker];
        there.at(at(self.now));
        let (app, timings) = (insforge::App::Insforge, &self.node.hub.interfaces.timings);
        let session = insforge::Session::websocket(app, at(self.now), timings, &mut self.random);
        let connection = self.node.open(there, id(worker), Session::Insforge(session));
        let connect = self.clients[client].connect();
        self.clients[client].line = Some((worker, Line::new(connection, None)));
        // The outbox must be empty before the session can migrate to another worker.
        self.turn(worker, 0);
        let before = self.node.all_waiting();
        let Some((_, line)) = &self.clients[client].line else { return };
        line.send(&mut self.workers[worker], TEXT, connect.as_bytes());
        self.workers[worker].reap();
        if self.workers[worker].link(connection).is_none() {
            let home =
                self.node.all_waiting().iter().zip(&before).position(|(now, before)| now > before);
            self.moving[home.expect("its session has left for another worker")].push_back(client);
        }
    }
}

/// Turns of the workers, and sessions that arrive at them.
impl World {
    fn turn(&mut self, worker: usize, mail: usize) {
        self.workers[worker].at(at(self.now));
        for _ in 0..mail {
            let Some(mail) = self.node.take(id(worker)) else { break };
            self.take(worker, mail);
        }
        self.workers[worker].catch_up();
        let Self { workers, clients, .. } = self;
        workers[worker].end_turn(&mut one_by_one(|id, _, slices| {
            match clients.iter_mut().find(|client| client.is_at(worker, id)) {
                Some(Client { line: Some((_, line)), .. }) => line.take(slices),
                // A connection whose end the worker has not noticed.
                _ => Ok(slices.iter().map(|slice| slice.len()).sum()),
            }
        }));
    }

    /// Hands a worker a piece of mail.
    pub(super) fn take(&mut self, worker: usize, mail: Mail) {
        let is_arrival = matches!(mail, Mail::Arrive);
        let there = &mut self.workers[worker];
        let before: Vec<ConnId> = there.ids().collect();
        there.take(mail);
        there.reap();
        if is_arrival {
            let new = there.ids().find(|id| !before.contains(id));
            self.arrived(worker, new.expect("a session keeps its socket"));
        }
    }

    fn arrived(&mut self, worker: usize, id: ConnId) {
        let client = self.moving[worker].pop_front().expect("nobody else arrives");
        match &mut self.clients[client].line {
            Some((at, line)) => (*at, line.id) = (worker, id),
            // The client was cut while the session migrated.
            None => self.workers[worker].ended(id.slot),
        }
    }

    fn settle(&mut self) {
        let Ok(()) = come_to_rest(|| {
            (0..WORKERS).for_each(|worker| self.turn(worker, usize::MAX));
            self.clients.iter_mut().for_each(Client::read);
            Ok::<_, Infallible>(self.node.is_idle())
        });
    }

    /// Connects all clients, and checks that they have heard what was published while they were
    /// subscribed.
    pub(super) fn check(&mut self) {
        self.settle();
        for client in 0..CLIENTS {
            self.connect(client, client % WORKERS);
        }
        self.settle();
        for Client { line, has_entered, streams, .. } in &self.clients {
            assert!(has_entered, "every CONNECT is answered");
            streams.iter().for_each(Stream::check);
            let (worker, line) = line.as_ref().expect("each has a connection");
            let link = self.workers[*worker].link(line.id).expect("its worker has it, too");
            let joined = streams.iter().filter(|stream| stream.is_joined).count();
            assert_eq!(usize::from(link.subscribed), joined, "node and model agree");
        }
        (0..CLIENTS).for_each(|client| self.cut(client, true));
        let unnoticed = std::mem::take(&mut self.unnoticed);
        unnoticed.into_iter().for_each(|(worker, id)| self.notice(worker, id));
        self.now += self.terms.window + 1;
        self.settle();
        let is_vacant = self.workers.iter().all(Worker::is_vacant);
        assert!(is_vacant, "nothing is left of those who are gone");
        let directory = &self.node.hub.interfaces.broker.directory;
        assert_eq!(directory.channels(), 0, "no session is waited for");
        self.node.check_sums();
    }
}

fn id(worker: usize) -> WorkerId {
    WorkerId(u8::try_from(worker).expect("there are few"))
}
