//! A client of InsForge Realtime. It parses packets, and remembers its unanswered commands.

use std::collections::HashMap;

use fanfare::message::Encoding;
use serde_json::Value;

use super::number;
use crate::frames::{Frame, TEXT};
use crate::stream::{Heard, Streams};

/// A message about a channel, as the client receives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// The answer to a subscribe, which names `named` of the channel's `present` members.
    Subscribed {
        ack: u64,
        named: usize,
        present: usize,
    },
    /// The answer to an unsubscribe.
    Unsubscribed {
        ack: u64,
    },
    Heard(u64, Encoding),
    Came(Box<str>),
    Went(Box<str>),
    /// A gap notice that counts lost publications.
    Gap(u64),
}

impl Heard for Seen {
    fn gap(&self) -> Option<u64> {
        match self {
            Self::Gap(count) => Some(*count),
            _ => None,
        }
    }

    /// If one call makes several members leave, the order of their announcements is not defined.
    fn is_unordered(&self) -> bool {
        matches!(self, Self::Went(_))
    }
}

/// A command without an answer.
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
    /// How many of its CONNECT packets are not answered.
    entering: usize,
    pub(super) streams: Streams<Seen>,
    asked: HashMap<u64, Asked>,
}

impl Client {
    /// Resets the client, because it has sent a CONNECT packet.
    pub(super) fn enters(&mut self) {
        *self = Self { entering: self.entering + 1, ..Self::default() };
    }

    /// Notes that the client has sent a command.
    pub(super) fn asks(&mut self, ack: u64, asked: Asked) {
        self.asked.insert(ack, asked);
    }

    /// Checks a frame from the node, and notes what it says.
    pub(super) fn take(&mut self, (opcode, payload): Frame) {
        assert_eq!(opcode, TEXT, "nothing else is sent");
        let text = str::from_utf8(&payload).expect("it is text");
        match text.as_bytes() {
            [b'0', ..] => {}
            [b'4', b'0', ..] => self.entering -= 1,
            _ if self.entering > 0 => self.overhear(text),
            [b'4', b'2', ..] => self.hear(&json(&text[2..])),
            [b'4', b'3', ..] => {
                let (ack, answer) = text[2..].split_at(text[2..].find('[').expect("an array"));
                self.answered(ack.parse().expect("its own number"), &json(answer)[0]);
            }
            _ => panic!("nobody says this: {text}"),
        }
    }

    /// Handles an event in front of the answer to the CONNECT packet. A gap notice takes the place
    /// of the first lost publication, so it may count some that are due after that answer.
    fn overhear(&mut self, text: &str) {
        if let Some(event) = text.strip_prefix(r#"42["realtime:error","#) {
            let body = json(&format!("[{event}"))[0].take();
            let channel = number(body["channel"].as_str().expect("every event has one"));
            self.streams.told_before(channel, body["count"].as_u64().expect("their number"));
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
        self.streams.hear(channel, seen);
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
            _ if of_sdk.is_some() => Seen::Heard(published(body), Encoding::Sdk),
            _ => Seen::Heard(published(&body["payload"]), Encoding::Documented),
        };
        let channel = number(channel.strip_prefix("realtime:").unwrap_or(channel));
        self.streams.hear(channel, seen);
    }

    /// Checks a client that has taken all its frames. Returns how many publications are missing.
    pub(super) fn check(&self) -> u64 {
        assert!(self.asked.is_empty(), "left: every command is answered: {:?}", self.asked);
        self.streams.check()
    }
}

fn published(payload: &Value) -> u64 {
    payload["n"].as_u64().expect("its number")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
