//! A client that subscribes, publishes, unsubscribes and returns, and records what it received
//! during each stay.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::publisher::{Report, Stay};
use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::ANON_KEY;

const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
const PUBLISH: &str = "REALTIME_PUBLISH";

/// Number of attempts of a command that the node may refuse, with a pause after each; many more
/// than needed.
const TRIES_MAX: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(5);

/// One client and its record.
pub(crate) struct Member {
    port: u16,
    channel: &'static str,
    token: String,
    socket: Socket,
    asked: HashMap<u64, Asked>,
    stay: Option<Vec<Uuid>>,
    /// Ids of its own publications since it asked for the subscription.
    own: Vec<Uuid>,
    pub(crate) report: Report,
}

/// A command whose answer has not come.
#[derive(Debug)]
enum Asked {
    Subscribe,
    Unsubscribe,
    Publish(u64),
}

impl Member {
    /// Connects a member over WebSocket, present as the user of the token or as itself.
    pub(crate) fn connect(port: u16, channel: &'static str, token: &str, publisher: u64) -> Self {
        let socket = Socket::connect(port, token);
        Self {
            port,
            channel,
            token: token.into(),
            socket,
            asked: HashMap::new(),
            stay: None,
            own: Vec::new(),
            report: Report::new(publisher),
        }
    }

    /// Continues as a new connection over long-polling.
    pub(crate) fn over_polling(mut self) -> Self {
        self.socket = Socket::connect_polling(self.port, &self.token);
        self
    }

    /// Subscribes and publishes without waiting in between. It must receive its own publication.
    pub(crate) fn enter(&mut self) {
        for _ in 0..TRIES_MAX {
            self.ask(SUBSCRIBE, Asked::Subscribe);
            self.publish(1);
            if self.stay.is_some() {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("subscribing is refused for ever");
    }

    /// Publishes `count` times without waiting, and then waits for all answers. Returns how many
    /// were refusals.
    pub(crate) fn publish(&mut self, count: usize) -> usize {
        let refused = self.report.ledger.refused.len();
        for _ in 0..count {
            self.ask_to_publish();
        }
        self.settle();
        self.report.ledger.refused.len() - refused
    }

    /// Waits until it has received `count` more events, but no longer than `wait`.
    pub(crate) fn listen(&mut self, count: usize, wait: Duration) {
        let deadline = Instant::now() + wait;
        let enough = self.heard().saturating_add(count);
        while self.heard() < enough && Instant::now() < deadline {
            let heard = self.socket.look();
            self.take(heard);
        }
    }

    /// Publishes and unsubscribes without waiting in between, and checks that nothing comes
    /// afterwards.
    pub(crate) fn leave(&mut self) {
        for _ in 0..TRIES_MAX {
            self.ask_to_publish();
            self.ask(UNSUBSCRIBE, Asked::Unsubscribe);
            self.settle();
            if self.stay.is_none() {
                return self.hear_nothing();
            }
            thread::sleep(PAUSE);
        }
        panic!("unsubscribing is refused for ever");
    }

    /// Drops the connection without unsubscribing, and connects again.
    pub(crate) fn vanish(&mut self) {
        self.end_stay(false);
        self.socket = Socket::connect(self.port, &self.token);
    }

    /// Leaves the namespace while subscribed, and enters it again on the same connection.
    pub(crate) fn reenter(&mut self) {
        self.socket.exit();
        self.socket.enter(&self.token);
        loop {
            match self.socket.hear() {
                Heard::Connected(_) => break,
                heard => self.take(heard),
            }
        }
        self.end_stay(false);
    }

    fn heard(&self) -> usize {
        self.stay.as_ref().map_or(0, Vec::len)
    }

    fn ask(&mut self, event: &str, asked: Asked) {
        let number = self.socket.ask(event, &json!({ "channel": self.channel }));
        self.asked.insert(number, asked);
    }

    fn ask_to_publish(&mut self) {
        let (number, argument) = self.report.ledger.next(self.channel);
        let ack = self.socket.ask(PUBLISH, &argument);
        self.asked.insert(ack, Asked::Publish(number));
    }

    /// Sends the prepared commands, and receives events until all are answered.
    fn settle(&mut self) {
        self.socket.flush();
        while !self.asked.is_empty() {
            let heard = self.socket.hear();
            self.take(heard);
        }
    }

    /// Waits for one more answer, which comes behind everything that may still have been under way.
    fn hear_nothing(&mut self) {
        thread::sleep(PAUSE);
        self.ask(UNSUBSCRIBE, Asked::Unsubscribe);
        self.settle();
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Event(event) => match &mut self.stay {
                Some(stay) => stay.push(event.id),
                None => panic!("heard without a subscription: {event:?}"),
            },
            Heard::Ack(number, answer) => {
                let asked = self.asked.remove(&number).expect("answers are to questions");
                self.conclude(asked, &answer);
            }
            Heard::Nothing => {}
            heard => panic!(
                "unexpected: {heard:?} for {:?}, publisher {}, stays {}, heard {:?}",
                self.asked,
                self.report.ledger.publisher(),
                self.report.stays.len(),
                self.stay.as_ref().map(Vec::len)
            ),
        }
    }

    fn conclude(&mut self, asked: Asked, answer: &Value) {
        if answer["ok"] == false {
            return self.note_refusal(&asked, answer);
        }
        assert_eq!(answer["ok"], true, "{asked:?} is answered {answer}");
        match asked {
            Asked::Subscribe => self.stay = Some(Vec::new()),
            Asked::Unsubscribe => self.end_stay(true),
            Asked::Publish(number) => {
                let id = answer["messageId"].as_str().expect("an id is text");
                let id = Uuid::try_parse(id).expect("an id is a UUID");
                self.report.ledger.accepted.push((number, id));
                self.own.push(id);
            }
        }
    }

    fn note_refusal(&mut self, asked: &Asked, answer: &Value) {
        assert_eq!(answer["channel"], self.channel, "{answer}");
        let code = answer["error"]["code"].as_str().expect("a refusal has a code");
        match (code, asked) {
            ("OVERLOADED", _) => self.report.overloads += 1,
            // Sent together with a subscribe that was refused.
            ("REALTIME_NOT_SUBSCRIBED", Asked::Publish(_)) if self.stay.is_none() => {}
            _ => panic!("{asked:?} is answered {answer}"),
        }
        if let Asked::Publish(number) = asked {
            self.report.ledger.refused.push(*number);
        }
    }

    fn end_stay(&mut self, is_whole: bool) {
        let own = std::mem::take(&mut self.own);
        let Some(heard) = self.stay.take() else { return };
        let announced = (self.token == ANON_KEY).then(|| self.socket.id().to_owned());
        self.report.stays.push(Stay { announced, heard, own, is_whole });
    }
}
