//! Subscribers that write down what they hear. Some stay, others come and go.

use std::time::{Duration, Instant};

use super::client::{Client, Kind, Said};
use super::log::Log;
use super::stage::Stage;

/// The channels by their numbers, and what kind of client is subscribed to them.
pub(super) const CHANNELS: [(&str, Kind); 4] = [
    ("orders", Kind::Socket),
    ("ticker", Kind::Socket),
    ("room", Kind::Listener),
    ("lobby", Kind::Listener),
];
/// Between two attempts to connect to a node that is gone.
const AGAIN: Duration = Duration::from_millis(50);

/// A subscriber's part.
#[derive(Clone, Copy)]
pub(super) struct Role {
    pub(super) node: u64,
    pub(super) port: u16,
    pub(super) channel: u64,
    /// How long it stays and how long it is away, in milliseconds at most; `None` if it stays.
    pub(super) turns: Option<(u64, u64)>,
}

/// Returns the subscribers of a node.
pub(super) fn roles(node: u64, port: u16) -> [Role; 5] {
    let stays = |channel| Role { node, port, channel, turns: None };
    let turns = |channel, turns| Role { node, port, channel, turns: Some(turns) };
    // A node is asked for a while after its last listener has left, so that only long absences of
    // all listeners lead to nulls.
    [stays(0), stays(1), stays(2), turns(1, (1_500, 1_000)), turns(3, (1_000, 9_000))]
}

/// Subscribes again and again until the round is over.
pub(super) fn attend(log: &Log, stage: &Stage, role: Role) {
    let settled = stage.enter();
    while !stage.settles() {
        let (_, kind) = CHANNELS[role.channel as usize];
        let Some(client) = Client::connect(role.port, kind) else {
            std::thread::sleep(AGAIN);
            continue;
        };
        let now = Instant::now();
        let state = State::Out(now);
        let mut visit = Visit { log, stage, role, client, state, heard: 0, has_settled: false };
        if visit.is_whole() {
            break;
        }
        let subscriber = visit.state.subscriber();
        log.cut(role.node, subscriber);
    }
    drop(settled);
}

struct Visit<'l> {
    log: &'l Log,
    stage: &'l Stage,
    role: Role,
    client: Client,
    state: State,
    /// The publication that was heard last.
    heard: u64,
    has_settled: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// Until this time at least.
    Out(Instant),
    Joining(u64),
    /// Until this time; `None` if it stays.
    In(u64, Option<Instant>),
    Leaving(u64),
}

impl State {
    fn subscriber(self) -> Option<u64> {
        match self {
            Self::Out(_) => None,
            Self::Joining(one) | Self::In(one, _) | Self::Leaving(one) => Some(one),
        }
    }
}

impl Visit<'_> {
    /// Comes and goes until the round is over. Returns false if the connection ends before.
    fn is_whole(&mut self) -> bool {
        while !self.stage.is_over() {
            match self.client.look() {
                Said::End => return false,
                Said::Surprise(text) => self.log.surprise(text),
                said => self.said(&said),
            }
            if self.is_done() {
                return true;
            }
        }
        true
    }

    fn said(&mut self, said: &Said) {
        let Some(subscriber) = self.state.subscriber() else { return };
        let now = Instant::now();
        let Role { channel, turns, .. } = self.role;
        match (said, self.state) {
            (Said::Event(id), _) => {
                self.heard = *id;
                self.log.heard(subscriber, *id);
            }
            (Said::Gap, _) => self.log.gap(subscriber),
            (Said::Joined, State::Joining(_)) => {
                self.log.joined(subscriber, channel);
                let until = turns.map(|(stay, _)| now + some(stay));
                self.state = State::In(subscriber, until);
            }
            (Said::Left, State::Leaving(_)) => self.out(subscriber, turns),
            // A refused subscribe is tried again.
            (Said::Refused, State::Joining(_)) => self.out(subscriber, Some((0, 100))),
            // So is a refused unsubscribe.
            (Said::Refused, State::Leaving(_)) => self.state = State::In(subscriber, Some(now)),
            _ => {}
        }
    }

    fn out(&mut self, subscriber: u64, turns: Option<(u64, u64)>) {
        self.log.left(subscriber);
        let (_, away) = turns.unwrap_or_default();
        self.state = State::Out(Instant::now() + some(away));
    }

    /// Begins what is due. Returns whether the subscriber's part is over.
    fn is_done(&mut self) -> bool {
        let now = Instant::now();
        let Role { node, channel, .. } = self.role;
        let (name, _) = CHANNELS[channel as usize];
        match self.state {
            State::Out(_) if self.stage.settles() => return true,
            State::Out(until) if until <= now => {
                let subscriber = self.log.joining(node, channel);
                self.client.join(name);
                self.state = State::Joining(subscriber);
            }
            State::In(..) if self.stage.settles() => {
                if !std::mem::replace(&mut self.has_settled, true) {
                    self.stage.settled();
                }
                return self.stage.last(channel) == Some(self.heard);
            }
            State::In(subscriber, Some(until)) if until <= now => {
                self.log.leaving(subscriber);
                self.client.leave(name);
                self.state = State::Leaving(subscriber);
            }
            _ => {}
        }
        false
    }
}

/// Returns a random time of at most so many milliseconds.
pub(super) fn some(most: u64) -> Duration {
    Duration::from_millis(rand::random::<u64>() % (most + 1))
}
