//! A client of Forge's WebSocket that returns every message in order.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::dial::{dial, read_text};
use crate::support::{Node, sign};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for messages that are not expected.
const LOOK: Duration = Duration::from_millis(150);

pub(crate) struct Listener {
    websocket: WebSocket<TcpStream>,
    asked: u64,
}

impl Listener {
    /// Connects without sending a message.
    pub(crate) fn dial(port: u16) -> Self {
        Self::dial_with(port, &[]).unwrap_or_else(|error| panic!("the node upgrades: {error}"))
    }

    /// Connects with these headers. The error is the refusal.
    pub(crate) fn dial_with(port: u16, headers: &[(&'static str, &str)]) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node accepts");
        Self::dial_over(stream, headers)
    }

    /// Upgrades an open TCP connection with these headers. The error is the refusal.
    pub(crate) fn dial_over(
        stream: TcpStream,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, String> {
        let headers = headers.iter().copied();
        let websocket = dial(stream, "/forge/realtime/v1/ws", headers, PATIENCE)?;
        Ok(Self { websocket, asked: 0 })
    }

    /// Connects and proves a context with these claims.
    pub(crate) fn connect(node: &Node, claims: &Value) -> Self {
        let mut listener = Self::dial(node.port());
        listener.prove(&sign(claims));
        listener
    }

    /// Proves its context with this token. Panics if that is refused.
    pub(crate) fn prove(&mut self, token: &str) {
        let answer = self.ask(json!({ "type": "connect", "contextToken": token }));
        assert_eq!(answer["type"], "connected", "{answer}");
    }

    /// Sends a message with the next id, and returns the id.
    pub(crate) fn say(&mut self, mut message: Value) -> u64 {
        self.asked += 1;
        message["id"] = json!(self.asked);
        self.say_text(&message.to_string());
        self.asked
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        self.websocket.send(Message::text(text)).expect("the node takes it");
    }

    /// Sends a binary message.
    pub(crate) fn say_binary(&mut self, bytes: &[u8]) {
        self.websocket.send(Message::binary(bytes.to_vec())).expect("the node takes it");
    }

    /// Sends a message and closes at once. Returns all bytes that come before the end.
    pub(crate) fn say_and_leave(mut self, message: &Value) -> Vec<u8> {
        self.websocket.write(Message::text(message.to_string())).expect("there is room");
        self.websocket.write(Message::Close(None)).expect("there is room");
        self.websocket.flush().expect("the node takes it");
        let mut bytes = Vec::new();
        self.websocket.get_mut().read_to_end(&mut bytes).expect("the node closes");
        bytes
    }

    /// Sends a close frame and waits for the node's.
    pub(crate) fn leave(mut self) {
        self.websocket.close(None).expect("the node takes it");
        while self.hear_text().is_ok() {}
    }

    /// Sends a message and returns the next one, which must be its answer.
    pub(crate) fn ask(&mut self, message: Value) -> Value {
        let id = self.say(message);
        let answer = self.hear();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Subscribes and returns the topic. Panics if that is refused.
    pub(crate) fn subscribe(&mut self, channel: &str, more: &Value) -> String {
        let answer = self.try_subscribe(channel, more);
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer["topic"].as_str().expect("a topic has an id").to_owned()
    }

    /// Subscribes and returns the answer.
    pub(crate) fn try_subscribe(&mut self, channel: &str, more: &Value) -> Value {
        let mut message = json!({ "type": "subscribe", "channel": channel });
        let more = more.as_object().into_iter().flatten();
        more.for_each(|(name, value)| message[name] = value.clone());
        self.ask(message)
    }

    /// Returns the next message, without an error's `detail`.
    pub(crate) fn hear(&mut self) -> Value {
        let text = self.hear_text().unwrap_or_else(|end| panic!("the connection ended: {end:?}"));
        let mut message: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let error = message.get_mut("error").and_then(Value::as_object_mut);
        if let Some(detail) = error.and_then(|error| error.remove("detail")) {
            assert!(detail.as_str().is_some_and(|detail| !detail.is_empty()), "{text}");
        }
        message
    }

    /// Returns the next text. The error is the code with which the node closed.
    pub(crate) fn hear_text(&mut self) -> Result<String, Option<u16>> {
        loop {
            if let Some(text) = read_text(&mut self.websocket)? {
                return Ok(text);
            }
        }
    }

    /// Answers pings for this time and returns their number. Panics at other messages.
    pub(crate) fn answer_pings(&mut self, time: Duration) -> usize {
        let (end, mut pings) = (Instant::now() + time, 0);
        self.websocket.get_ref().set_read_timeout(Some(LOOK)).expect("it is not zero");
        while Instant::now() < end {
            match self.websocket.read() {
                Ok(Message::Ping(_)) => pings += 1,
                Err(Error::Io(_)) => {}
                other => panic!("something came: {other:?}"),
            }
        }
        self.websocket.get_ref().set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        pings
    }

    /// Panics if a message comes within `LOOK`.
    pub(crate) fn hear_nothing(&mut self) {
        self.websocket.get_ref().set_read_timeout(Some(LOOK)).expect("it is not zero");
        match self.websocket.read() {
            Err(Error::Io(_)) => {}
            Ok(Message::Ping(_)) => {}
            other => panic!("something came: {other:?}"),
        }
        self.websocket.get_ref().set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    }
}
