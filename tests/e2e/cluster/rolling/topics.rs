//! Subscribers and publishers of Forge that go on at another node when theirs ends. A subscriber
//! asks for what it missed behind the last event that it heard, and checks what it hears.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};
use uuid::Builder;

use super::REST;
use super::ear::Ear;
use super::stage::Stage;
use super::tally::Tally;
use crate::dial::dial;
use crate::forge::app::{PROXY, invocation, place};
use crate::support::sign;
use crate::tcp::{PATIENCE, Response, Tcp, request};

/// How long one waits before it tries another node.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between two publications.
const BEAT: Duration = Duration::from_millis(100);
/// How often a subscriber looks whether everything is over.
const LOOK: Duration = Duration::from_millis(500);
/// What the last publication says behind its number.
const LAST: &str = " last";

fn name(channel: usize) -> String {
    format!("topic-{channel}")
}

/// Publishes numbers on a channel until the stage is quiet, and then the last one. Returns how many
/// were acknowledged.
pub(super) fn publish(stage: &Stage, channel: usize) -> u64 {
    let mut node = channel;
    for number in 1.. {
        let is_last = stage.is_quiet();
        let text = format!("{number}{}", if is_last { LAST } else { "" });
        publish_until_accepted(stage, &mut node, (channel, &text));
        if is_last || stage.is_over() {
            return number;
        }
        thread::sleep(BEAT);
    }
    unreachable!("numbers never end")
}

/// Publishes under one id until a node has accepted that.
fn publish_until_accepted(stage: &Stage, node: &mut usize, (channel, text): (usize, &str)) {
    let mut id = new_id();
    while !stage.is_over() {
        let body = json!({ "name": name(channel), "payload": text, "eventId": id });
        let port = stage.ports[*node % stage.ports.len()];
        match post(port, &body.to_string()) {
            Some(response) if response.status == 200 => match &response.json()["eventId"] {
                // No client listens at the moment, so that nothing was published.
                Value::Null => id = new_id(),
                _ => return,
            },
            Some(response) if response.status != 503 => panic!("unexpected: {response:?}"),
            _ => *node += 1,
        }
        thread::sleep(PAUSE);
    }
}

fn new_id() -> String {
    Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

fn post(port: u16, body: &str) -> Option<Response> {
    let mut tcp = Tcp::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?);
    let proof = format!("{PROXY}: {}", invocation(&place()));
    let head = ["POST /forge/realtime/v1/publish HTTP/1.1", &proof, "Connection: close"];
    let is_sent = tcp.send(request(&head, body));
    if is_sent { tcp.try_response("POST", PATIENCE) } else { None }
}

/// A subscriber of one channel.
pub(super) struct Subscriber {
    number: usize,
    node: usize,
    ear: Ear,
    /// The id of the event that it heard last.
    after: Option<String>,
    /// Since when it has no subscription; `None` while it has.
    away: Option<Instant>,
    has_all: bool,
    tally: Tally,
}

impl Subscriber {
    /// Returns a subscriber of a channel that begins at this node.
    pub(super) fn new(number: usize, channel: usize, node: usize) -> Self {
        Self {
            number,
            node,
            ear: Ear::new(channel),
            after: None,
            away: Some(Instant::now()),
            has_all: false,
            tally: Tally::default(),
        }
    }

    /// Listens at the nodes in turn, until the last event has come.
    pub(super) fn run(mut self, stage: &Stage) -> Tally {
        let mut end = None;
        while !stage.is_over() && !self.has_all {
            self.visit(stage, &mut end);
            if end.is_some_and(|end| end < Instant::now()) {
                let last = self.ear.last;
                let who = format!("subscriber {} of {}", self.number, name(self.ear.channel));
                self.tally.faults.push(format!("{who} lacks what is behind {last:?}"));
                break;
            }
            self.node = (self.node + 1) % stage.ports.len();
            thread::sleep(PAUSE);
        }
        self.tally
    }

    fn visit(&mut self, stage: &Stage, end: &mut Option<Instant>) {
        let Some(mut websocket) = self.enter(stage.ports[self.node]) else { return };
        stage.connects(self.node);
        while !stage.is_over() && !self.has_all {
            if stage.last().is_some() {
                let end = *end.get_or_insert_with(|| Instant::now() + REST);
                if end < Instant::now() {
                    break;
                }
            }
            match websocket.read() {
                Ok(Message::Text(text)) if self.takes(stage, text.as_str()) => {}
                Ok(Message::Text(_)) => break,
                Ok(Message::Close(_)) => break,
                Ok(_) => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        if !self.has_all {
            self.tally.ended("end of a subscriber".to_owned(), stage.is_ending(self.node));
        }
        if self.away.is_none() && !self.has_all {
            self.away = Some(Instant::now());
            stage.is_away();
        }
        stage.leaves(self.node);
    }

    /// Connects and asks to subscribe behind what it has heard. Returns `None` if the node does not
    /// let it in.
    fn enter(&self, port: u16) -> Option<WebSocket<TcpStream>> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        let mut websocket = dial(stream, "/forge/realtime/v1/ws", [], PATIENCE).ok()?;
        websocket.get_ref().set_read_timeout(Some(LOOK)).expect("it is not zero");
        let proof = json!({ "type": "connect", "id": 1, "contextToken": sign(&place()) });
        let mut asked = json!({ "type": "subscribe", "id": 2, "channel": name(self.ear.channel) });
        if let Some(after) = &self.after {
            asked["options"] = json!({ "replaySeconds": 60, "after": after });
        }
        websocket.send(Message::text(proof.to_string())).ok()?;
        websocket.send(Message::text(asked.to_string())).ok()?;
        Some(websocket)
    }

    /// Takes a message. Returns false if the node refuses the subscriber.
    fn takes(&mut self, stage: &Stage, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).expect("it is JSON");
        match message["type"].as_str() {
            Some("connected") => {}
            Some("subscribed") => {
                if self.after.is_some() {
                    self.tally.returned(true);
                }
                if let Some(since) = self.away.take() {
                    self.tally.absences.push(since.elapsed());
                    stage.is_back();
                }
            }
            Some("event") => self.hear(&message),
            Some("subscription_error") => {
                self.tally.gaps += 1;
                self.ear.miss();
            }
            // The node stops, or has not joined the cluster.
            Some("error") => {
                self.tally.refused += 1;
                return false;
            }
            _ => panic!("unexpected: {text}"),
        }
        true
    }

    fn hear(&mut self, event: &Value) {
        let text = event["payload"].as_str().expect("a payload is text");
        let digits = text.strip_suffix(LAST).unwrap_or(text);
        self.has_all = digits.len() < text.len();
        self.tally.events += 1;
        self.after = event["eventId"].as_str().map(str::to_owned);
        let number = digits.parse().expect("payloads are numbers");
        if let Some(fault) = self.ear.hear(number) {
            let who = (self.number, self.node);
            self.tally.fault(who, &name(self.ear.channel), fault);
        }
    }
}
