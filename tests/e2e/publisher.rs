//! Records of publishers and their answers, and a publisher over HTTP.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::API_KEY;
use crate::tcp::{self, Response, Tcp};

/// The name of the events that are published.
pub(crate) const TICK: &str = "tick";

/// All publications of one publisher, by its own numbers.
pub(crate) struct Ledger {
    publisher: u64,
    asked: u64,
    /// Numbers and ids of accepted publications, in the order of the answers.
    pub(crate) accepted: Vec<(u64, Uuid)>,
    pub(crate) refused: Vec<u64>,
}

/// The record of one participant.
pub(crate) struct Report {
    pub(crate) ledger: Ledger,
    pub(crate) stays: Vec<Stay>,
    /// Number of commands that were refused because of overload.
    pub(crate) overloads: u64,
}

/// One subscription, from its acknowledgement to its end.
#[derive(Debug)]
pub(crate) struct Stay {
    /// The name under which coming and leaving were announced; `None` if they were not.
    pub(crate) announced: Option<String>,
    pub(crate) heard: Vec<Uuid>,
    /// Its own publications from before its subscribe was acknowledged until its end.
    pub(crate) own: Vec<Uuid>,
    /// Whether the unsubscribe was acknowledged, and not just the connection dropped.
    pub(crate) is_whole: bool,
}

impl Ledger {
    pub(crate) fn new(publisher: u64) -> Self {
        Self { publisher, asked: 0, accepted: Vec::new(), refused: Vec::new() }
    }

    pub(crate) fn publisher(&self) -> u64 {
        self.publisher
    }

    /// Returns the next number, and the argument of the command that publishes it.
    pub(crate) fn next(&mut self, channel: &str) -> (u64, Value) {
        let number = self.asked;
        self.asked += 1;
        let payload = json!({ "publisher": self.publisher, "number": number });
        (number, json!({ "channel": channel, "event": TICK, "payload": payload }))
    }
}

impl Report {
    pub(crate) fn new(publisher: u64) -> Self {
        Self { ledger: Ledger::new(publisher), stays: Vec::new(), overloads: 0 }
    }
}

/// Publishes over HTTP on one connection that stays open.
pub(crate) struct Caller {
    tcp: Tcp,
    channel: &'static str,
    authorization: String,
    pub(crate) report: Report,
}

impl Caller {
    pub(crate) fn new(port: u16, channel: &'static str, publisher: u64) -> Self {
        let tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
        let authorization = format!("Authorization: Bearer {API_KEY}");
        Self { tcp, channel, authorization, report: Report::new(publisher) }
    }

    /// Publishes `count` times without waiting, and then reads all answers. Returns how many were
    /// refusals.
    pub(crate) fn publish(&mut self, count: usize) -> usize {
        let refused = self.report.ledger.refused.len();
        let head = [
            "POST /api/realtime/messages HTTP/1.1",
            &self.authorization,
            "Content-Type: application/json",
        ];
        let wanted: Vec<_> = (0..count).map(|_| self.report.ledger.next(self.channel)).collect();
        let requests = wanted.iter().map(|(_, body)| tcp::request(&head, body.to_string()));
        let requests: Vec<u8> = requests.flatten().collect();
        assert!(self.tcp.send(requests), "the node keeps the connection");
        for (number, _) in wanted {
            let response = self.tcp.response_to("POST");
            self.settle(number, &response);
        }
        self.report.ledger.refused.len() - refused
    }

    fn settle(&mut self, number: u64, response: &Response) {
        let body = response.json();
        match response.status {
            201 => {
                let id = body["messageId"].as_str().expect("an id is text");
                let id = Uuid::try_parse(id).expect("an id is a UUID");
                self.report.ledger.accepted.push((number, id));
            }
            503 => {
                assert_eq!(
                    (&body["error"], &body["statusCode"]),
                    (&"OVERLOADED".into(), &503.into())
                );
                assert_eq!(response.header("retry-after"), Some("1"), "{response:?}");
                self.report.ledger.refused.push(number);
                self.report.overloads += 1;
            }
            _ => panic!("unexpected answer: {response:?}"),
        }
    }
}
