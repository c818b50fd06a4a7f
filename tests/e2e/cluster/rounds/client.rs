//! A client that subscribes to one channel, as InsForge's and as Forge's do, and may lose its node
//! at any time.

use std::collections::BTreeSet;
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::forge::app::place;
use crate::support::{ANON_KEY, sign};

/// Longer than any node is stopped.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long `look` waits.
pub(super) const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Socket.IO client of InsForge.
    Socket,
    /// A listener of Forge.
    Listener,
}

pub(super) struct Client {
    websocket: WebSocket<TcpStream>,
    kind: Kind,
    /// The number of requests so far.
    asked: u64,
    /// Whether the last request was a subscribe.
    joins: bool,
    /// The topic of a listener.
    topic: Value,
    /// The members of the channel, if it shows them: from the list behind its subscribe, and from
    /// the news behind that.
    pub(super) members: BTreeSet<String>,
}

/// What a node says.
pub(super) enum Said {
    /// The subscribe is acknowledged.
    Joined,
    /// The unsubscribe is acknowledged.
    Left,
    /// The last request is refused.
    Refused,
    /// The publication with this number.
    Event(u64),
    /// Publications may be missing.
    Gap,
    /// Nothing that a client expects.
    Surprise(String),
    Nothing,
    /// The connection has ended.
    End,
}

impl Client {
    /// Connects a client without a user. Returns `None` if the node is gone.
    pub(super) fn connect(port: u16, kind: Kind) -> Option<Self> {
        Self::connect_as(port, kind, ANON_KEY)
    }

    /// Connects, and proves who the client is. Returns `None` if the node is gone.
    pub(super) fn connect_as(port: u16, kind: Kind, token: &str) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let path = match kind {
            Kind::Socket => "/socket.io/?EIO=4&transport=websocket",
            Kind::Listener => "/forge/realtime/v1/ws",
        };
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (websocket, _) = tungstenite::client(url, stream).ok()?;
        let (topic, members) = (Value::Null, BTreeSet::new());
        let mut client = Self { websocket, kind, asked: 0, joins: false, topic, members };
        match kind {
            Kind::Socket => {
                client.expect("0{")?;
                client.send(format!("40{}", json!({ "token": token })))?;
                client.expect("40{")?;
            }
            Kind::Listener => {
                let proof = json!({ "type": "connect", "id": 0, "contextToken": sign(&place()) });
                client.send(proof.to_string())?;
                client.expect("{")?;
            }
        }
        client.websocket.get_ref().set_read_timeout(Some(LOOK)).ok()?;
        Some(client)
    }

    /// Asks to subscribe. What goes wrong is said by [`Self::look`].
    pub(super) fn join(&mut self, channel: &str) {
        self.joins = true;
        self.asked += 1;
        let id = self.asked;
        let _ = self.send(match self.kind {
            Kind::Socket => {
                format!("42{id}{}", json!(["REALTIME_SUBSCRIBE", { "channel": channel }]))
            }
            Kind::Listener => {
                json!({ "type": "subscribe", "id": id, "channel": channel }).to_string()
            }
        });
    }

    /// Asks to unsubscribe.
    pub(super) fn leave(&mut self, channel: &str) {
        self.joins = false;
        self.asked += 1;
        let id = self.asked;
        let _ = self.send(match self.kind {
            Kind::Socket => {
                format!("42{id}{}", json!(["REALTIME_UNSUBSCRIBE", { "channel": channel }]))
            }
            Kind::Listener => {
                json!({ "type": "unsubscribe", "id": id, "topic": self.topic }).to_string()
            }
        });
    }

    /// Returns what the node says next, if it says something soon.
    pub(super) fn look(&mut self) -> Said {
        match self.text() {
            Err(End) => Said::End,
            Ok(None) => Said::Nothing,
            Ok(Some(text)) => match self.kind {
                Kind::Socket => self.socket_said(&text),
                Kind::Listener => self.listener_said(&text),
            },
        }
    }

    fn socket_said(&mut self, text: &str) -> Said {
        if text == "2" {
            // A connection that has ended is noticed by the next read.
            let _ = self.send("3".into());
            return Said::Nothing;
        }
        if let Some(event) = text.strip_prefix("42") {
            let (name, argument): (String, Value) =
                serde_json::from_str(event).expect("an event has a name and an argument");
            return match (name.as_str(), argument["payload"]["n"].as_u64()) {
                ("tick", Some(number)) => Said::Event(number),
                ("presence:join", _) => self.has_changed(&argument, true),
                ("presence:leave", _) => self.has_changed(&argument, false),
                ("realtime:error", _) if argument["code"] == "REALTIME_GAP" => Said::Gap,
                _ => Said::Surprise(text.to_owned()),
            };
        }
        match text.strip_prefix("43").and_then(|ack| ack.find('[').map(|at| &ack[at..])) {
            Some(ack) if ack.starts_with("[{\"ok\":true") => {
                let answer: Value = serde_json::from_str(ack).expect("an answer is JSON");
                if let Some(members) = answer[0]["presence"]["members"].as_array() {
                    self.members = members.iter().map(name).collect();
                }
                self.done()
            }
            Some(_) => Said::Refused,
            None if matches!(text, "1" | "41") => Said::End,
            None => Said::Surprise(text.to_owned()),
        }
    }

    fn listener_said(&mut self, text: &str) -> Said {
        let message: Value = serde_json::from_str(text).expect("it is JSON");
        let number = message["payload"].as_str().and_then(|payload| payload.parse().ok());
        match (message["type"].as_str(), number) {
            (Some("event"), Some(number)) => Said::Event(number),
            (Some("subscription_error"), _) if message["error"]["code"] == "GAP" => Said::Gap,
            (Some("subscribed"), _) => {
                self.topic = message["topic"].clone();
                self.done()
            }
            (Some("unsubscribed"), _) => self.done(),
            (Some("error"), _) if message["id"] == self.asked => Said::Refused,
            _ => Said::Surprise(text.to_owned()),
        }
    }

    /// Takes the news of a member that has joined or left.
    fn has_changed(&mut self, argument: &Value, is_there: bool) -> Said {
        let name = name(&argument["member"]);
        match is_there {
            true => self.members.insert(name),
            false => self.members.remove(&name),
        };
        Said::Nothing
    }

    fn done(&self) -> Said {
        if self.joins { Said::Joined } else { Said::Left }
    }

    /// Waits for a text that begins like this. Returns `None` if something else comes.
    fn expect(&mut self, begin: &str) -> Option<()> {
        let text = self.text().ok().flatten()?;
        text.starts_with(begin).then_some(())
    }

    fn send(&mut self, text: String) -> Option<()> {
        self.websocket.send(Message::text(text)).ok()
    }

    fn text(&mut self) -> Result<Option<String>, End> {
        read(&mut self.websocket)
    }
}

/// The end of a connection.
pub(super) struct End;

/// Returns the next text, if one comes soon.
pub(super) fn read(websocket: &mut WebSocket<TcpStream>) -> Result<Option<String>, End> {
    loop {
        match websocket.read() {
            Ok(Message::Text(text)) => return Ok(Some(text.to_string())),
            Ok(Message::Close(_)) => return Err(End),
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), WouldBlock | TimedOut) => {
                return Ok(None);
            }
            Err(_) => return Err(End),
        }
    }
}

fn name(member: &Value) -> String {
    member["presenceId"].as_str().expect("a member has an id").to_owned()
}
