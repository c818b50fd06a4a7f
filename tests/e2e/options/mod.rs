//! Options of channels: each does what it says, and a change of it holds at once.

mod presence;
mod rate;

use serde_json::{Value, json};

use crate::socket::{Event, Heard, SUBSCRIBE, Socket};
use crate::support::Node;

const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
const PUBLISH: &str = "REALTIME_PUBLISH";

/// A client that keeps what it hears besides answers, in order.
struct Client {
    socket: Socket,
    heard: Vec<Told>,
}

/// What a client is told of a channel.
#[derive(Debug)]
enum Told {
    Event(Event),
}

impl Client {
    fn new(socket: Socket) -> Self {
        Self { socket, heard: Vec::new() }
    }

    fn connect(node: &Node, token: &str) -> Self {
        Self::new(Socket::connect(node.port(), token))
    }

    /// The answer to a command.
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

    /// Subscribes, and answers who is said to be there.
    fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.ask(SUBSCRIBE, &json!({ "channel": channel }));
        assert_eq!(answer["ok"], true, "{answer}");
        answer["presence"].clone()
    }

    fn unsubscribe(&mut self, channel: &str) {
        let answer = self.ask(UNSUBSCRIBE, &json!({ "channel": channel }));
        assert_eq!(answer, json!({ "ok": true }));
    }

    /// Hears one thing more that is no answer.
    fn listen(&mut self) {
        let heard = self.socket.hear();
        self.note(heard);
    }

    /// All that was heard so far and not asked for before. What is on its way to the client stands
    /// in front of the answer that this waits for.
    fn hear(&mut self) -> Vec<Told> {
        self.ask(UNSUBSCRIBE, &json!({ "channel": "nobody:knows:it" }));
        std::mem::take(&mut self.heard)
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Event(event) => self.heard.push(Told::Event(event)),
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

impl Told {
    fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
        }
    }
}

/// The names of what was heard.
fn names(told: &[Told]) -> Vec<String> {
    told.iter().filter_map(Told::event).map(|event| event.parts().0).collect()
}

/// Defines a channel with options. Answers its id.
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
