//! A client of Socket.IO on long-polling that goes on at another node when its own ends, and checks
//! what it hears. It has a thread of its own.

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::pair;
use super::ear::{Ear, State};
use super::line::{Said, said};
use super::stage::Stage;
use super::tally::Tally;
use super::{REST, channel};
use crate::socket::{Came, SUBSCRIBE};
use crate::support::user_token;
use crate::tcp::{PATIENCE, Response, Tcp, request};

/// How long a client waits before it tries another node, or repeats what was refused.
const PAUSE: Duration = Duration::from_millis(50);
/// Separates the packets of a payload.
const SEPARATOR: char = '\x1e';

pub(super) struct Poller {
    number: usize,
    node: usize,
    came: Came,
    ears: [Ear; 2],
    asked: u64,
    /// When its session was lost; `None` while it has all its subscriptions.
    away: Option<Instant>,
    tally: Tally,
}

/// A session at one node. Each request has a connection of its own.
struct Session {
    port: u16,
    path: String,
}

impl Session {
    /// Opens a session; `None` if the node lets no client in.
    fn open(port: u16) -> Option<Self> {
        let path = "/socket.io/?EIO=4&transport=polling".to_owned();
        let mut session = Self { port, path };
        let response = session.ask("GET", "").filter(|response| response.status == 200)?;
        let text = response.text().strip_prefix('0').expect("the session opens");
        let opening: Value = serde_json::from_str(text).expect("it is JSON");
        session.path += &format!("&sid={}", opening["sid"].as_str().expect("an id"));
        Some(session)
    }

    fn ask(&self, method: &str, body: &str) -> Option<Response> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        let mut tcp = Tcp::over(stream);
        let line = format!("{method} {} HTTP/1.1", self.path);
        let is_sent = tcp.send(request(&[&line, "Connection: close"], body));
        if is_sent { tcp.try_response(method, PATIENCE) } else { None }
    }

    /// Sends a packet. If it is not taken, the next poll says so.
    fn post(&self, packet: &str) {
        self.ask("POST", packet);
    }
}

impl Poller {
    /// Returns a client that begins at this node.
    pub(super) fn new(number: usize, node: usize) -> Self {
        Self {
            number,
            node,
            came: Came::new(&user_token(&format!("poller-{number}"))),
            ears: pair(number).map(Ear::new),
            asked: 0,
            away: Some(Instant::now()),
            tally: Tally::default(),
        }
    }

    /// Polls at the nodes in turn, until the last publications have come.
    pub(super) fn run(mut self, stage: &Stage) -> Tally {
        let mut end = None;
        while !stage.is_over() {
            self.visit(stage);
            if let Some(last) = stage.last() {
                let end = *end.get_or_insert_with(|| Instant::now() + REST);
                if self.has_all(last) || Instant::now() > end {
                    return self.finish(last);
                }
            }
            self.node = (self.node + 1) % stage.ports.len();
            thread::sleep(PAUSE);
        }
        self.tally
    }

    /// Has a session at its node until that ends, or the last publications have come.
    fn visit(&mut self, stage: &Stage) {
        let Some(session) = Session::open(stage.ports[self.node]) else { return };
        stage.connects(self.node);
        session.post(&self.came.packet());
        if let Err(how) = self.listen(stage, &session) {
            self.tally.ended(how, stage.is_ending(self.node));
            if self.away.is_none() {
                self.away = Some(Instant::now());
                stage.is_away();
            }
        }
        stage.leaves(self.node);
    }

    /// Polls until the last publications have come. The error is how the session ended before.
    fn listen(&mut self, stage: &Stage, session: &Session) -> Result<(), String> {
        while !stage.is_over() && !stage.last().is_some_and(|last| self.has_all(last)) {
            let response = session.ask("GET", "").ok_or("no answer")?;
            if response.status != 200 {
                return Err(format!("status {}", response.status));
            }
            for packet in response.text().split(SEPARATOR) {
                self.take(stage, session, packet)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, stage: &Stage, session: &Session, packet: &str) -> Result<(), String> {
        let before = self.came.pid().map(str::to_owned);
        self.came.note(packet);
        match packet {
            "2" => session.post("3"),
            "6" => {}
            "1" | "41" => return Err(format!("packet {packet}")),
            // What is published at the end, so that every client wakes up.
            bye if bye.starts_with("42[\"bye\"") => {}
            connected if connected.starts_with("40{") => {
                let is_recovered = before.is_some() && self.came.pid() == before.as_deref();
                if before.is_some() {
                    self.tally.returned(is_recovered);
                }
                self.ears.iter_mut().for_each(|ear| ear.comes_back(is_recovered));
                self.subscribe(session);
                self.is_back(stage);
            }
            refused if refused.starts_with("44") => return Err(refused.to_owned()),
            text => self.heard(stage, session, said(text)),
        }
        Ok(())
    }

    fn subscribe(&mut self, session: &Session) {
        for ear in self.ears.iter_mut().filter(|ear| ear.state == State::Out) {
            self.asked += 1;
            ear.state = State::Asked(self.asked);
            let asked = json!([SUBSCRIBE, { "channel": channel(ear.channel) }]);
            session.post(&format!("42{}{asked}", self.asked));
        }
    }

    fn heard(&mut self, stage: &Stage, session: &Session, said: Said) {
        match said {
            Said::Event(name, number) => {
                self.tally.events += 1;
                let who = (self.number, self.node);
                if let Some(fault) = self.ear(&name).hear(number) {
                    self.tally.fault(who, &name, fault);
                }
            }
            Said::Gap(name) => {
                self.tally.gaps += 1;
                self.ear(&name).miss();
            }
            Said::Answer(number, is_done) => {
                let asked = self.ears.iter_mut().find(|ear| ear.state == State::Asked(number));
                let ear = asked.expect("it is the answer to a subscribe");
                ear.state = if is_done { State::In } else { State::Out };
                if !is_done {
                    self.tally.refused += 1;
                    thread::sleep(PAUSE);
                    self.subscribe(session);
                }
                self.is_back(stage);
            }
            Said::End(_) | Said::Nothing => unreachable!("a packet is neither"),
        }
    }

    fn ear(&mut self, name: &str) -> &mut Ear {
        let ear = self.ears.iter_mut().find(|ear| channel(ear.channel) == name);
        ear.expect("it is a channel of the client")
    }

    fn is_back(&mut self, stage: &Stage) {
        if self.ears.iter().all(|ear| ear.state == State::In)
            && let Some(since) = self.away.take()
        {
            self.tally.absences.push(since.elapsed());
            stage.is_back();
        }
    }

    fn has_all(&self, last: &[u64]) -> bool {
        self.ears.iter().all(|ear| ear.last == Some(last[ear.channel]))
    }

    fn finish(mut self, last: &[u64]) -> Tally {
        for ear in &self.ears {
            if let Some(fault) = ear.lacks(last[ear.channel]) {
                self.tally.fault((self.number, self.node), &channel(ear.channel), fault);
            }
        }
        self.tally
    }
}
