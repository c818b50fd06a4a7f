//! Publishers that publish again through another node until they are answered.

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Builder;

use super::channel;
use super::stage::Stage;
use crate::support::API_KEY;
use crate::tcp::{Response, Tcp, request};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a publisher waits after a node has not accepted its publication.
const PAUSE: Duration = Duration::from_millis(20);

/// A publisher, and what it has counted.
pub(super) struct Publisher {
    node: usize,
    tcp: Option<Tcp>,
    /// Its channels, and the number of the last publication on each.
    pub(super) channels: Vec<(usize, u64)>,
    pub(super) acknowledged: usize,
    /// Publishes that were refused.
    pub(super) refused: usize,
    /// Publishes of which the node did not know the fate.
    pub(super) unknown: usize,
    /// Connections that ended before an answer.
    pub(super) cut: usize,
    /// The longest time until a publication was acknowledged.
    pub(super) slowest: Duration,
}

impl Publisher {
    pub(super) fn new(node: usize, channels: impl Iterator<Item = usize>) -> Self {
        let channels = channels.map(|channel| (channel, 0)).collect();
        let (acknowledged, refused, unknown, cut, slowest) = Default::default();
        Self { node, tcp: None, channels, acknowledged, refused, unknown, cut, slowest }
    }

    /// Publishes on its channels in turn, so many a second, until the stage is quiet.
    pub(super) fn run(mut self, stage: &Stage, rate: f64) -> Self {
        let began = Instant::now();
        for count in 0_u32.. {
            if stage.is_quiet() {
                break;
            }
            self.publish(stage, count as usize % self.channels.len());
            let due = began + Duration::from_secs_f64(f64::from(count + 1) / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        self
    }

    /// Publishes the next number on one of its channels, under one id until it is acknowledged.
    pub(super) fn publish(&mut self, stage: &Stage, place: usize) {
        let (on, last) = self.channels[place];
        let body = json!({
            "channel": channel(on),
            "event": "tick",
            "payload": { "n": last + 1 },
            "messageId": Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
        });
        let (body, began) = (body.to_string(), Instant::now());
        while !stage.is_over() {
            if self.is_accepted(stage, &body) {
                self.acknowledged += 1;
                self.channels[place].1 = last + 1;
                self.slowest = self.slowest.max(began.elapsed());
                return;
            }
            self.node = (self.node + 1) % stage.ports.len();
            self.tcp = None;
            thread::sleep(PAUSE);
        }
    }

    fn is_accepted(&mut self, stage: &Stage, body: &str) -> bool {
        let connect = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.ports[self.node]));
            stream.ok().map(Tcp::over)
        };
        let Some(mut tcp) = self.tcp.take().or_else(connect) else { return false };
        let authorization = format!("Authorization: Bearer {API_KEY}");
        let line = "POST /api/realtime/messages HTTP/1.1";
        let head = [line, &authorization, "Content-Type: application/json"];
        let is_sent = tcp.send(request(&head, body));
        let response = if is_sent { tcp.try_response("POST", PATIENCE) } else { None };
        let Some(response) = response else {
            self.cut += 1;
            return false;
        };
        if response.header("connection") == Some("keep-alive") {
            self.tcp = Some(tcp);
        }
        self.is_positive(&response)
    }

    fn is_positive(&mut self, response: &Response) -> bool {
        let body = response.json();
        match (response.status, body["error"].as_str()) {
            (201, _) => return true,
            (503, Some("BACKPLANE_UNKNOWN")) => self.unknown += 1,
            // A node that has not joined the cluster yet knows no channel.
            (503, _) | (404, Some("NOT_FOUND")) => self.refused += 1,
            (status, _) => panic!("unexpected: {status} {body}"),
        }
        false
    }
}
