//! A client of Forge Realtime. It parses messages, and remembers its unanswered requests.

use std::collections::HashMap;

use serde_json::Value;

use super::TOPICS;
use crate::frames::{Frame, TEXT};
use crate::stream::{Heard, Streams};

/// A message about a topic, as the client receives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// The answer to a subscribe, which tells whether the topic's window holds an event.
    Subscribed {
        id: u64,
        keeps_any: bool,
    },
    /// The answer to an unsubscribe.
    Unsubscribed {
        id: u64,
    },
    Event(u64),
    /// An event from before the subscribe `id`.
    Replayed {
        number: u64,
        id: u64,
    },
    /// A gap notice that counts lost events.
    Gap(u64),
    /// A gap notice without a count: the requested replay may lack events.
    Missing,
    /// The notice that the subscription has ended with its token.
    Expired,
}

impl Heard for Seen {
    fn gap(&self) -> Option<u64> {
        match self {
            Self::Gap(count) => Some(*count),
            _ => None,
        }
    }
}

/// A request without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Subscribe(usize),
    Unsubscribe(usize),
    /// The answer has an event id if `is_heard`.
    Publish {
        is_heard: bool,
    },
    /// The node refused it, because a mailbox was full.
    Refused,
}

#[derive(Default)]
pub(super) struct Client {
    pub(super) streams: Streams<Seen>,
    asked: HashMap<u64, Asked>,
}

impl Client {
    /// Notes that the client has sent a request.
    pub(super) fn asks(&mut self, id: u64, asked: Asked) {
        self.asked.insert(id, asked);
    }

    /// Handles a frame. `topics` are the ids of the topics.
    pub(super) fn take(&mut self, topics: &[String; TOPICS], (opcode, payload): Frame) {
        assert_eq!(opcode, TEXT, "nothing else is sent");
        let text = str::from_utf8(&payload).expect("it is text");
        let message: Value = serde_json::from_str(text).expect("it is JSON");
        let topic = message["topic"].as_str();
        let topic = topic.map(|topic| topics.iter().position(|one| one == topic));
        let topic = topic.map(|topic| topic.expect("there is no other"));
        let seen = match message["type"].as_str().expect("every message has one") {
            "connected" => return,
            "event" => {
                let payload = message["payload"].as_str().expect("it is a text");
                let number = payload.split(':').next().and_then(|number| number.parse().ok());
                let number = number.expect("it begins with its number");
                match message["replay"].as_u64() {
                    Some(id) => Seen::Replayed { number, id },
                    None => Seen::Event(number),
                }
            }
            "subscription_error" => lost(&message["error"]),
            kind => return self.answered(kind, topic, &message),
        };
        self.streams.hear(topic.expect("it names its topic"), seen);
    }

    fn answered(&mut self, kind: &str, topic: Option<usize>, message: &Value) {
        let id = message["id"].as_u64().expect("every request has one");
        let asked = self.asked.remove(&id).expect("a request is answered once");
        match (kind, asked) {
            ("subscribed", Asked::Subscribe(number)) => {
                assert_eq!(topic, Some(number));
                let keeps_any = !message["last"].is_null();
                self.streams.hear(number, Seen::Subscribed { id, keeps_any });
            }
            ("unsubscribed", Asked::Unsubscribe(number)) => {
                self.streams.hear(number, Seen::Unsubscribed { id });
            }
            ("published", Asked::Publish { is_heard }) => {
                assert_eq!(!message["eventId"].is_null(), is_heard, "{message}");
            }
            ("error", Asked::Refused) => {
                assert_eq!(message["error"]["code"], "OVERLOADED", "{message}");
            }
            _ => panic!("{asked:?} is answered with {message}"),
        }
    }

    /// Checks a client that has taken all its frames.
    pub(super) fn check(&self) {
        assert!(self.asked.is_empty(), "left: every request is answered: {:?}", self.asked);
        self.streams.check();
    }
}

/// Returns what a subscription error reports.
fn lost(error: &Value) -> Seen {
    let message = error["message"].as_str().expect("it says what is wrong");
    match error["code"].as_str() {
        Some("TOKEN_EXPIRED") => Seen::Expired,
        Some("GAP") if message == "Events may have been lost" => Seen::Missing,
        Some("GAP") => {
            let count = message.split(' ').next().and_then(|count| count.parse().ok());
            Seen::Gap(count.expect("it says how many"))
        }
        _ => panic!("nobody says this: {error}"),
    }
}
