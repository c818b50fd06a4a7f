//! A client that goes on at another node when its own ends, and checks what it hears.

use std::time::{Duration, Instant};

use super::ear::{Ear, State};
use super::line::{Line, Said};
use super::stage::Stage;
use super::tally::Tally;
use super::{CHANNELS, channel};
use crate::socket::Came;
use crate::support::user_token;

/// How long a client waits after a node has not let it in.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Client {
    number: usize,
    came: Came,
    ears: [Ear; 2],
    /// The node that it is connected to, or tries next.
    node: usize,
    pub(super) line: Option<Line>,
    /// When its connection was lost; `None` while it has all its subscriptions.
    away: Option<Instant>,
    /// When it tries again to do what a node has refused.
    due: Instant,
    pub(super) tally: Tally,
}

/// Returns the two channels of a client. Others have other pairs.
pub(super) fn pair(number: usize) -> [usize; 2] {
    let apart = 1 + number / CHANNELS % (CHANNELS - 1);
    [number % CHANNELS, (number + apart) % CHANNELS]
}

impl Client {
    /// Returns a client that begins at this node.
    pub(super) fn new(number: usize, node: usize) -> Self {
        let now = Instant::now();
        Self {
            number,
            came: Came::new(&user_token(&format!("user-{number}"))),
            ears: pair(number).map(Ear::new),
            node,
            line: None,
            away: Some(now),
            due: now,
            tally: Tally::default(),
        }
    }

    /// Does what is due: connects, or subscribes.
    pub(super) fn act(&mut self, stage: &Stage) {
        if self.away.is_none() || self.due > Instant::now() {
            return;
        }
        if self.line.is_none() && !self.connects(stage) {
            self.node = (self.node + 1) % stage.ports.len();
            self.due = Instant::now() + PAUSE;
            return;
        }
        let Some(line) = &mut self.line else { return };
        for ear in self.ears.iter_mut().filter(|ear| ear.state == State::Out) {
            ear.state = State::Asked(line.subscribe(&channel(ear.channel)));
        }
        self.is_back(stage);
    }

    fn connects(&mut self, stage: &Stage) -> bool {
        let before = self.came.pid().map(str::to_owned);
        self.line = Line::enter(stage.ports[self.node], &mut self.came);
        if self.line.is_none() {
            return false;
        }
        stage.connects(self.node);
        let is_recovered = before.is_some() && self.came.pid() == before.as_deref();
        if before.is_some() {
            self.tally.returned(is_recovered);
        }
        self.ears.iter_mut().for_each(|ear| ear.comes_back(is_recovered));
        true
    }

    /// Takes everything that its node has said.
    pub(super) fn listen(&mut self, stage: &Stage) {
        while let Some(line) = &mut self.line {
            match line.look(&mut self.came) {
                Said::Nothing => return,
                Said::Event(channel, number) => {
                    self.tally.events += 1;
                    let who = (self.number, self.node);
                    if let Some(fault) = self.ear(&channel).hear(number) {
                        self.tally.fault(who, &channel, fault);
                    }
                }
                Said::Gap(channel) => {
                    self.tally.gaps += 1;
                    self.ear(&channel).miss();
                }
                Said::Answer(number, is_done) => self.answered(stage, number, is_done),
                Said::End(how) => self.leaves(stage, how),
            }
        }
    }

    fn ear(&mut self, name: &str) -> &mut Ear {
        let ear = self.ears.iter_mut().find(|ear| channel(ear.channel) == name);
        ear.expect("it is a channel of the client")
    }

    fn answered(&mut self, stage: &Stage, number: u64, is_done: bool) {
        let asked = self.ears.iter_mut().find(|ear| ear.state == State::Asked(number));
        let ear = asked.expect("it is the answer to a subscribe");
        ear.state = if is_done { State::In } else { State::Out };
        if !is_done {
            self.tally.refused += 1;
            self.due = Instant::now() + PAUSE;
        }
        self.is_back(stage);
    }

    /// Notes that the client has all its subscriptions, if so.
    fn is_back(&mut self, stage: &Stage) {
        if self.ears.iter().all(|ear| ear.state == State::In) {
            let since = self.away.take().expect("it was away");
            self.tally.absences.push(since.elapsed());
            stage.is_back();
        }
    }

    fn leaves(&mut self, stage: &Stage, how: String) {
        let left = self.node;
        self.tally.ended(how, stage.is_ending(left));
        self.line = None;
        // Those of one node go to both others.
        let nodes = stage.ports.len();
        self.node = (left + 1 + self.number % (nodes - 1)) % nodes;
        self.due = Instant::now();
        if self.away.is_none() {
            self.away = Some(self.due);
            stage.is_away();
        }
        stage.leaves(left);
    }

    /// Returns whether all its channels have come to their last publications.
    pub(super) fn has_all(&self, last: &[u64]) -> bool {
        self.ears.iter().all(|ear| ear.last == Some(last[ear.channel]))
    }

    /// Notes the publications that have not come, and returns the record.
    pub(super) fn finish(mut self, last: &[u64]) -> Tally {
        for ear in &self.ears {
            if let Some(fault) = ear.lacks(last[ear.channel]) {
                self.tally.fault((self.number, self.node), &channel(ear.channel), fault);
            }
        }
        self.tally
    }
}
