//! A client on long-polling that sends each request to a node of the test's choice.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::{Node, Response, user_token, wait_until};
use crate::tcp::{self, Tcp};

/// How nodes refuse a session that they do not know.
pub(super) const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;
/// Polls of other nodes' clients that a node has not answered.
pub(super) const WAITING: &str = "fanfare_cluster_polls";

/// Separates the packets of a payload.
const SEPARATOR: char = '\x1e';

/// Returns whether a request was refused because there is no such session.
pub(super) fn is_unknown(response: &Response) -> bool {
    response.status == 400 && response.text() == UNKNOWN
}

/// Returns the offset that the client would tell after this event.
pub(super) fn offset(event: &str) -> String {
    let text = event.strip_suffix("\"]").expect("an event ends in its offset");
    text.rsplit('"').next().expect("it has one").to_owned()
}

/// The client. It keeps what it needs to resume.
pub(super) struct Hopper {
    session: String,
    token: String,
    pid: Option<String>,
    /// Packets that no test has asked for.
    kept: Mutex<Vec<String>>,
}

impl Hopper {
    /// Opens a session at a node, and enters the namespace there.
    pub(super) fn open(node: &Node) -> Self {
        Self::enter(node, &user_token("alice"), None).0
    }

    /// Returns a client with this session id.
    pub(super) fn named(session: &str) -> Self {
        let (token, kept) = (String::new(), Mutex::default());
        Self { session: session.to_owned(), token, pid: None, kept }
    }

    /// Opens another session at a node, and asks to resume this one behind `offset`. Returns whether
    /// it is resumed.
    pub(super) fn come_back(&self, node: &Node, offset: &str) -> (Self, bool) {
        Self::enter(node, &self.token, Some((self.pid(), offset)))
    }

    fn enter(node: &Node, token: &str, before: Option<(&str, &str)>) -> (Self, bool) {
        let mut hopper = Self::opened(node, token);
        let is_resumed = hopper.connect(node, before);
        (hopper, is_resumed)
    }

    /// Opens a session at a node, and does not enter the namespace yet.
    pub(super) fn opened(node: &Node, token: &str) -> Self {
        let response = node.request("GET", "/socket.io/?EIO=4&transport=polling", &[], b"");
        let text = response.text().strip_prefix('0').expect("the session opens");
        let opening: Value = serde_json::from_str(text).expect("it is JSON");
        let mut hopper = Self::named(opening["sid"].as_str().expect("an id"));
        hopper.token = token.to_owned();
        hopper
    }

    /// Enters the namespace, and asks to resume the session with this id behind this offset, if any.
    /// Returns whether it is resumed.
    pub(super) fn connect(&mut self, node: &Node, before: Option<(&str, &str)>) -> bool {
        let mut auth = json!({ "token": self.token });
        if let Some((pid, offset)) = before {
            (auth["pid"], auth["offset"]) = (json!(pid), json!(offset));
        }
        assert_eq!(self.post(node, &format!("40{auth}")).status, 200);
        let packet = self.hear(node, "40{");
        let connected: Value = serde_json::from_str(&packet[2..]).expect("it is JSON");
        self.pid = connected["pid"].as_str().map(str::to_owned);
        before.is_some_and(|(pid, _)| self.pid.as_deref() == Some(pid))
    }

    /// Drops the packets that are kept and are this one. Returns how many there were.
    pub(super) fn forget(&self, packet: &str) -> usize {
        let mut kept = self.kept.lock().expect("no thread panics with it");
        let before = kept.len();
        kept.retain(|one| one != packet);
        before - kept.len()
    }

    /// Returns the secret id of the session. Recovery must be on.
    pub(super) fn pid(&self) -> &str {
        self.pid.as_deref().expect("recovery is on")
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.session)
    }

    /// Asks a node for packets.
    pub(super) fn get(&self, node: &Node) -> Response {
        node.request("GET", &self.path(), &[], b"")
    }

    /// Sends packets to a node.
    pub(super) fn post(&self, node: &Node, packets: &str) -> Response {
        node.request("POST", &self.path(), &[("content-type", "text/plain")], packets.as_bytes())
    }

    /// Begins to ask a node for packets, on a connection of its own.
    pub(super) fn begin_to_poll(&self, node: &Node) -> Tcp {
        let mut connection = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        connection.send(tcp::request(&[&format!("GET {} HTTP/1.1", self.path())], ""));
        connection
    }

    /// Waits until the node of the session has a poll that another one has passed on.
    pub(super) fn wait_for_poll(&self, owner: &Node) {
        wait_until("the poll waits at the session's node", || owner.metric(WAITING) > 0);
    }

    /// Asks a node for packets until one has this text, and returns that one. Keeps the others.
    /// Panics if the session ends before.
    pub(super) fn hear(&self, node: &Node, text: &str) -> String {
        let mut kept = self.kept.lock().expect("no thread panics with it");
        loop {
            if let Some(place) = kept.iter().position(|packet| packet.contains(text)) {
                return kept.remove(place);
            }
            assert!(!kept.iter().any(|packet| packet == "1"), "the session has ended");
            let response = self.get(node);
            assert_eq!(response.status, 200, "{response:?}");
            kept.extend(response.text().split(SEPARATOR).map(str::to_owned));
        }
    }

    /// Subscribes at the first node, and is told so at the second.
    pub(super) fn subscribe(&self, (at, told): (&Node, &Node), channel: &str) {
        let asked = format!("420{}", json!(["REALTIME_SUBSCRIBE", { "channel": channel }]));
        let response = self.post(at, &asked);
        assert_eq!((response.status, response.text()), (200, "ok"));
        assert!(self.hear(told, "430[").contains("\"ok\":true"));
    }

    /// Offers a node to carry the session over a WebSocket. Returns the status and the answer.
    pub(super) fn offer_websocket(&self, node: &Node) -> (u16, String) {
        let path = self.path().replace("polling", "websocket");
        let mut connection = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        let head = [
            &*format!("GET {path} HTTP/1.1"),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        connection.send(tcp::request(&head, ""));
        let response = connection.response();
        (response.status, response.text().to_owned())
    }
}
