//! Publishers over HTTP that write down what they asked for and how it was answered.

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Kind;
use super::log::{Audience, Log};
use super::stage::Stage;
use super::subscribers::CHANNELS;
use crate::forge::app::{PROXY, invocation, place};
use crate::histories::Answer;
use crate::support::API_KEY;
use crate::tcp::{Response, Tcp, request};

/// Between the answer to a publication and the next publication.
const PACE: Duration = Duration::from_millis(50);
/// Longer than any node is stopped.
const PATIENCE: Duration = Duration::from_secs(90);

/// Publishes on these channels in turn until the round becomes quiet.
pub(super) fn publish(log: &Log, stage: &Stage, mut caller: Caller, channels: [u64; 2]) {
    let mut turns = channels.into_iter().cycle();
    while !stage.is_quiet() {
        let channel = turns.next().unwrap_or_default();
        caller.publish(log, channel);
        thread::sleep(PACE);
    }
}

/// A publisher on one node.
pub(super) struct Caller {
    node: u64,
    port: u16,
    tcp: Option<Tcp>,
    /// The headers that prove who publishes: for InsForge and for Forge.
    proofs: [String; 2],
}

impl Caller {
    pub(super) fn new(node: u64, port: u16) -> Self {
        let key = format!("Authorization: Bearer {API_KEY}");
        let proofs = [key, format!("{PROXY}: {}", invocation(&place()))];
        Self { node, port, tcp: None, proofs }
    }

    /// Publishes once. Returns the publication's number and the answer; `None` if the node takes no
    /// connection.
    pub(super) fn publish(&mut self, log: &Log, channel: u64) -> Option<(u64, Answer)> {
        let mut tcp = match self.tcp.take() {
            Some(tcp) => tcp,
            None => Tcp::over(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?),
        };
        let (name, kind) = CHANNELS[channel as usize];
        let id = log.asked(self.node, channel);
        let (line, proof, body) = match kind {
            Kind::Socket => (
                "POST /api/realtime/messages HTTP/1.1",
                &self.proofs[0],
                json!({ "channel": name, "event": "tick", "payload": { "n": id } }),
            ),
            Kind::Listener => (
                "POST /forge/realtime/v1/publish HTTP/1.1",
                &self.proofs[1],
                json!({ "name": name, "payload": id.to_string() }),
            ),
        };
        let head = [line, proof, "Content-Type: application/json"];
        let is_sent = tcp.send(request(&head, body.to_string()));
        let response = if is_sent { tcp.try_response("POST", PATIENCE) } else { None };
        let Some(response) = response else {
            // The node was killed.
            log.answered(id, Answer::Unknown, None);
            return Some((id, Answer::Unknown));
        };
        let (answer, audience) = match kind {
            Kind::Socket => receipt(log, &response),
            Kind::Listener => (event(log, &response), None),
        };
        log.answered(id, answer, audience);
        self.tcp = Some(tcp);
        Some((id, answer))
    }
}

/// Reads InsForge's answer.
fn receipt(log: &Log, response: &Response) -> (Answer, Option<Audience>) {
    let body = response.json();
    match (response.status, body["error"].as_str()) {
        (201, _) => (Answer::Stored { place: None }, Some(audience(&body["audience"]))),
        (503, Some("BACKPLANE_UNAVAILABLE" | "OVERLOADED")) => (Answer::Refused, None),
        // A node that has never joined the cluster knows no definition.
        (404, Some("NOT_FOUND")) => (Answer::Refused, None),
        (503, Some("BACKPLANE_UNKNOWN")) => (Answer::Unknown, None),
        (status, _) => {
            log.surprise(format!("{status} {body}"));
            (Answer::Unknown, None)
        }
    }
}

fn audience(body: &Value) -> Audience {
    let names = body["unknown"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = |name: &str| name.strip_prefix('n').and_then(|number| number.parse().ok());
    Audience {
        total: body["total"].as_u64().expect("there is a total"),
        nodes: body["nodes"].as_u64().expect("nodes are counted"),
        unknown: names.clone().filter_map(number).collect(),
        is_named: names.into_iter().all(|name| name != "*"),
    }
}

/// Reads Forge's answer.
fn event(log: &Log, response: &Response) -> Answer {
    let body = response.json();
    let detail = body["errors"][0]["detail"].as_str().unwrap_or_default();
    match (response.status, &body["eventId"]) {
        (200, Value::Null) => Answer::NotHeard,
        (200, _) => Answer::Stored { place: None },
        (503, _) if detail.contains("with the eventId") => Answer::Unknown,
        (503, _) => Answer::Refused,
        (status, _) => {
            log.surprise(format!("{status} {body}"));
            Answer::Unknown
        }
    }
}
