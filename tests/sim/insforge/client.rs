//! A client of InsForge Realtime: it takes packets apart, and holds what it hears of each channel
//! against what it should.

use std::collections::{HashMap, VecDeque};

use fanfare::message::Group;
use serde_json::Value;

use super::number;
use crate::frames::{Frame, TEXT};

/// What a client hears of a channel, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// It is subscribed: the answer to this command, with so many members by name, of so many.
    Subscribed {
        ack: u64,
        named: usize,
        present: usize,
    },
    /// It is not, any more.
    Unsubscribed {
        ack: u64,
    },
    Heard(u64, Group),
    Came(Box<str>),
    Went(Box<str>),
    /// So many publications were lost.
    Gap(u64),
}

/// What a client should hear.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) seen: Seen,
    /// Whether a client that does not keep up may be told of a gap instead.
    pub(super) may_be_lost: bool,
    /// The call that caused it: in which order members went because of one call is not said.
    pub(super) call: u64,
}

/// A command that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) what: Command,
    pub(super) is_accepted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Subscribe(usize),
    Unsubscribe(usize),
    Publish,
}

#[derive(Default)]
pub(super) struct Client {
    /// How often it has asked to enter and was not told yet that it has.
    entering: usize,
    seen: HashMap<usize, Vec<Seen>>,
    due: HashMap<usize, Vec<Due>>,
    asked: HashMap<u64, Asked>,
}

impl Client {
    /// The same one, or another, asks to enter.
    pub(super) fn enters(&mut self) {
        *self = Self { entering: self.entering + 1, ..Self::default() };
    }

    /// It has sent a command.
    pub(super) fn asks(&mut self, ack: u64, asked: Asked) {
        self.asked.insert(ack, asked);
    }

    /// It should hear this behind everything else of the channel.
    pub(super) fn expect(&mut self, channel: usize, due: Due) {
        self.due.entry(channel).or_default().push(due);
    }

    /// Takes a frame.
    pub(super) fn take(&mut self, (opcode, payload): Frame) {
        assert_eq!(opcode, TEXT, "nothing else is sent");
        let text = str::from_utf8(&payload).expect("it is text");
        match text.as_bytes() {
            [b'0', ..] => {}
            [b'4', b'0', ..] => self.entering -= 1,
            // What was on its way when it left: it no longer listens.
            _ if self.entering > 0 => {}
            [b'4', b'2', ..] => self.hear(&json(&text[2..])),
            [b'4', b'3', ..] => {
                let (ack, answer) = text[2..].split_at(text[2..].find('[').expect("an array"));
                self.answered(ack.parse().expect("its own number"), &json(answer)[0]);
            }
            _ => panic!("nobody says this: {text}"),
        }
    }

    fn answered(&mut self, ack: u64, answer: &Value) {
        let asked = self.asked.remove(&ack).expect("a command is answered once");
        assert_eq!(answer["ok"], asked.is_accepted, "{asked:?} {answer}");
        let (channel, seen) = match asked.what {
            _ if !asked.is_accepted => return assert_eq!(answer["error"]["code"], "OVERLOADED"),
            Command::Publish => return,
            Command::Unsubscribe(channel) => (channel, Seen::Unsubscribed { ack }),
            Command::Subscribe(channel) => {
                let presence = &answer["presence"];
                let named = presence["members"].as_array().expect("perhaps an empty one").len();
                let count = presence["count"].as_u64().map(|count| count as usize);
                (channel, Seen::Subscribed { ack, named, present: count.unwrap_or(named) })
            }
        };
        self.seen.entry(channel).or_default().push(seen);
    }

    fn hear(&mut self, event: &Value) {
        let (name, body) = (event[0].as_str().expect("its name"), &event[1]);
        let of_sdk = body["meta"]["channel"].as_str();
        let channel = of_sdk.or(body["channel"].as_str()).expect("every event has one");
        let member = || body["member"]["presenceId"].as_str().expect("its name").into();
        let seen = match name {
            "realtime:error" => {
                assert_eq!(body["code"], "REALTIME_GAP", "{body}");
                Seen::Gap(body["count"].as_u64().expect("their number"))
            }
            "presence:join" => Seen::Came(member()),
            "presence:leave" => Seen::Went(member()),
            _ if of_sdk.is_some() => Seen::Heard(published(body), Group::InsforgeSdk),
            _ => Seen::Heard(published(&body["payload"]), Group::InsforgeDocumented),
        };
        let channel = number(channel.strip_prefix("realtime:").unwrap_or(channel));
        self.seen.entry(channel).or_default().push(seen);
    }

    /// It took all that waited: it has heard what it should, in order, each once, or it was told of
    /// a gap, with the right count and no later than where the first of it is missing. Returns how
    /// many publications are missing.
    pub(super) fn check(&self) -> u64 {
        assert!(self.asked.is_empty(), "left: every command is answered: {:?}", self.asked);
        let (none, mut all) = (Vec::new(), 0);
        for (channel, due) in &self.due {
            let seen = self.seen.get(channel).unwrap_or(&none);
            let Heard { missing, told } = compare(seen, due);
            assert_eq!(missing, told, "left: what is missing is told of: {seen:?}, {due:?}");
            all += missing;
        }
        self.check_nothing_else();
        all
    }

    /// Its connection has ended: what it heard is how that begins.
    pub(super) fn check_so_far(&self) {
        for (channel, due) in &self.due {
            let Some(seen) = self.seen.get(channel) else { continue };
            let mut rest = due.iter().collect();
            follow(seen, &mut rest);
        }
        self.check_nothing_else();
    }

    fn check_nothing_else(&self) {
        let unexpected = self.seen.keys().find(|channel| !self.due.contains_key(channel));
        assert_eq!(unexpected, None, "left: nothing else is heard");
    }
}

/// How many publications were missing, and of how many of them it was told.
struct Heard {
    missing: u64,
    told: u64,
}

fn compare(seen: &[Seen], due: &[Due]) -> Heard {
    let mut rest = due.iter().collect();
    let Heard { mut missing, told } = follow(seen, &mut rest);
    missing += rest.into_iter().map(lost).sum::<u64>();
    Heard { missing, told }
}

/// Follows what was seen through what was due, and leaves what is due behind that.
fn follow(seen: &[Seen], rest: &mut VecDeque<&Due>) -> Heard {
    let mut heard = Heard { missing: 0, told: 0 };
    'seen: for one in seen {
        if let Seen::Gap(count) = one {
            heard.told += count;
            continue;
        }
        while let Some(next) = rest.pop_front() {
            if next.seen == *one {
                continue 'seen;
            }
            if let Some(at) = rest.iter().position(|other| is_as_good(next, other, one)) {
                rest[at] = next;
                continue 'seen;
            }
            heard.missing += lost(next);
            let Heard { missing, told } = heard;
            assert!(missing <= told, "left: {missing} missing, {told} told of: {seen:?}");
        }
        panic!("left: unexpected: {one:?}, {seen:?}");
    }
    heard
}

/// Whether what was seen may stand in the place of the next that was due.
fn is_as_good(next: &Due, other: &Due, seen: &Seen) -> bool {
    let is_leave = |due: &Due| matches!(due.seen, Seen::Went(_));
    other.seen == *seen && is_leave(next) && is_leave(other) && next.call == other.call
}

fn lost(due: &Due) -> u64 {
    assert!(due.may_be_lost, "left out: {due:?}");
    1
}

fn published(payload: &Value) -> u64 {
    payload["n"].as_u64().expect("its number")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
