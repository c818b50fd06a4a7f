//! Options of channels: each has its effect, and a change takes effect at once.

mod presence;
mod rate;
mod replay;
mod slow;

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::socket::{Event, Heard, SUBSCRIBE, Socket};
use crate::support::Node;
use crate::support::exposition::Exposition;

const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
const PUBLISH: &str = "REALTIME_PUBLISH";

/// A client that keeps what it receives besides answers, in order.
struct Client {
    socket: Socket,
    heard: Vec<Told>,
}

/// A message about a channel.
#[derive(Debug)]
enum Told {
    Event(Event),
    /// The channel and the number of its lost publications.
    Gap(String, u64),
}

impl Client {
    fn new(socket: Socket) -> Self {
        Self { socket, heard: Vec::new() }
    }

    fn connect(node: &Node, token: &str) -> Self {
        Self::new(Socket::connect(node.port(), token))
    }

    /// Sends a command and returns its answer.
    fn ask(&mut self, event: &str, argument: &Value) -> Value {
        let asked = self.socket.ask(event, argument);
        self.socket.flush();
        loop {
            match self.socket.hear() {
                Heard::Ack(number, answer) if number == asked => return answer,
                heard => self.note(heard),
            }
        }
    }

    /// Subscribes and returns the presence in the answer.
    fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.ask(SUBSCRIBE, &json!({ "channel": channel }));
        assert_eq!(answer["ok"], true, "{answer}");
        answer["presence"].clone()
    }

    fn unsubscribe(&mut self, channel: &str) {
        let answer = self.ask(UNSUBSCRIBE, &json!({ "channel": channel }));
        assert_eq!(answer, json!({ "ok": true }));
    }

    /// Waits for one more message that is not an answer.
    fn listen(&mut self) {
        let heard = self.socket.hear();
        self.note(heard);
    }

    /// Returns everything received since the last call. It waits for an answer, behind everything
    /// that was under way to the client.
    fn hear(&mut self) -> Vec<Told> {
        self.ask(UNSUBSCRIBE, &json!({ "channel": "nobody:knows:it" }));
        std::mem::take(&mut self.heard)
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Event(event) => self.heard.push(Told::Event(event)),
            Heard::Error(error) => {
                assert_eq!(error["code"], "REALTIME_GAP", "{error}");
                assert!(error["message"].is_string(), "{error}");
                let channel = error["channel"].as_str().expect("a name is text").to_owned();
                self.heard.push(Told::Gap(channel, error["count"].as_u64().expect("a number")));
            }
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

impl Told {
    fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap(..) => None,
        }
    }
}

/// Returns the ids of publications, and the number of lost ones for each channel.
fn ids_and_gaps(told: &[Told]) -> (Vec<Uuid>, HashMap<String, u64>) {
    let ids = told.iter().filter_map(|one| Some(one.event()?.id)).collect();
    let mut gaps = HashMap::new();
    for one in told {
        if let Told::Gap(channel, count) = one {
            *gaps.entry(channel.clone()).or_default() += count;
        }
    }
    (ids, gaps)
}

/// Returns the names of the events.
fn names(told: &[Told]) -> Vec<String> {
    told.iter().filter_map(Told::event).map(|event| event.parts().0).collect()
}

/// Defines a channel with options and returns its id.
fn define(node: &Node, definition: &Value) -> String {
    let (status, body) = node.admin("POST", "/api/realtime/channels", definition);
    assert_eq!(status, 201, "{definition}: {body}");
    body["id"].as_str().expect("an id is text").to_owned()
}

/// Changes options of a channel.
fn redefine(node: &Node, id: &str, change: &Value) {
    let (status, body) = node.admin("PUT", &format!("/api/realtime/channels/{id}"), change);
    assert_eq!(status, 200, "{change}: {body}");
}

/// Publishes over HTTP and returns the id.
fn publish(node: &Node, channel: &str, event: &str, payload: &Value) -> Uuid {
    let receipt = node.publish(channel, event, payload);
    let id = receipt["messageId"].as_str().expect("an id is text");
    Uuid::try_parse(id).expect("an id is a UUID")
}

/// Waits until no delivery is queued and every matched delivery is accounted for.
pub(crate) fn settled(node: &Node) -> Exposition {
    let mut last = node.scrape();
    crate::support::wait_until("every delivery is accounted for", || {
        last = node.scrape();
        let plain = |name| last.plain(name);
        let sum = plain("fanfare_deliveries_total")
            + last.sum("fanfare_deliveries_dropped_total")
            + plain("fanfare_deliveries_conflated_total")
            + plain("fanfare_deliveries_queued");
        plain("fanfare_deliveries_matched_total") == sum
            && plain("fanfare_deliveries_queued") == 0.0
    });
    last
}
