//! A client of M2 that returns every message in order.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::{Message, WebSocket};

use super::app::{Headers, INVALID, warning};
use crate::dial::{dial, read_text};
use crate::support::Node;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Listener {
    websocket: WebSocket<TcpStream>,
}

impl Listener {
    /// Connects with these headers. Panics if that is refused.
    pub(crate) fn connect(node: &Node, headers: &Headers) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port()));
        Self::over(stream.expect("the node accepts"), headers)
    }

    /// Connects with these headers on an open TCP connection.
    pub(crate) fn over(stream: TcpStream, headers: &Headers) -> Self {
        Self::try_over(stream, headers).unwrap_or_else(|refusal| panic!("let in: {refusal}"))
    }

    /// Connects with these headers. The error is the status and the body of the refusal.
    pub(crate) fn try_connect(node: &Node, headers: &Headers) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port()));
        Self::try_over(stream.expect("the node accepts"), headers)
    }

    fn try_over(stream: TcpStream, headers: &Headers) -> Result<Self, String> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        dial(stream, "/api/realtime/", headers, PATIENCE).map(|websocket| Self { websocket })
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.websocket.send(Message::text(text)).expect("the node takes it");
    }

    /// Sends a binary message.
    pub(crate) fn say_binary(&mut self, bytes: &[u8]) {
        self.websocket.send(Message::binary(bytes.to_vec())).expect("the node takes it");
    }

    /// Subscribes and returns the first message of the answer.
    pub(crate) fn subscribe(&mut self, kind: &str, id: &str) -> String {
        self.say(&message("subscribe", kind, id));
        self.hear()
    }

    /// Subscribes to a document that does not exist.
    pub(crate) fn subscribe_early(&mut self, kind: &str, id: &str) {
        assert_eq!(self.subscribe(kind, id), warning(kind));
    }

    /// Unsubscribes, and waits until that has taken effect.
    pub(crate) fn unsubscribe(&mut self, kind: &str, id: &str) {
        self.say(&message("unsubscribe", kind, id));
        self.is_answered();
    }

    /// Checks that the node has handled all earlier messages and has sent nothing else meanwhile.
    pub(crate) fn is_answered(&mut self) {
        self.say("nonsense");
        assert_eq!(self.hear(), INVALID);
    }

    /// Returns the next text.
    pub(crate) fn hear(&mut self) -> String {
        self.hear_or_end().unwrap_or_else(|end| panic!("the connection ended: {end:?}"))
    }

    /// Returns the next text. The error is the code with which the node closed.
    pub(crate) fn hear_or_end(&mut self) -> Result<String, Option<u16>> {
        let end = Instant::now() + PATIENCE;
        // Pings come even if nothing else does.
        while Instant::now() < end {
            if let Some(text) = read_text(&mut self.websocket)? {
                return Ok(text);
            }
        }
        panic!("nothing comes for {PATIENCE:?}");
    }
}

/// Returns the message that subscribes or unsubscribes.
pub(crate) fn message(action: &str, kind: &str, id: &str) -> String {
    json!({ "action": action, "resource": { "type": kind, "id": id } }).to_string()
}
