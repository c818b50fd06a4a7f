//! Engine.IO sessions of a client, over long-polling and over WebSocket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::frames::{Heard, Peer};
use crate::tcp::{PATIENCE, Response, Tcp, call, request};

/// How long to wait for something that must not come, or for an effect.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);
/// Separates the packets of a long-polling payload.
pub(crate) const SEPARATOR: char = '\x1e';

/// The address and path at which a node serves Engine.IO.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) path: &'static str,
}

/// A session on long-polling. Each request has a connection of its own unless the test passes one.
pub(crate) struct Polling {
    endpoint: Endpoint,
    pub(crate) sid: String,
}

impl Endpoint {
    /// Returns the target of a request with `query` after `EIO=4`.
    pub(crate) fn target(&self, query: &str) -> String {
        format!("{}?EIO=4&{query}", self.path)
    }

    pub(crate) fn open_polling(self) -> Polling {
        let line = format!("GET {} HTTP/1.1", self.target("transport=polling"));
        let response = call(self.addr, &[&line], "");
        assert_eq!(response.status, 200, "{response:?}");
        let sid = open_packet(response.text())["sid"].as_str().expect("a string").to_owned();
        Polling { endpoint: self, sid }
    }

    /// Opens a session on WebSocket and reads its open packet.
    pub(crate) fn open_websocket(self) -> Peer {
        let mut peer = Peer::open(self.addr, &self.target("transport=websocket"));
        open_packet(&peer.hear().text());
        peer
    }
}

impl Polling {
    pub(crate) fn target(&self, transport: &str) -> String {
        self.endpoint.target(&format!("transport={transport}&sid={}", self.sid))
    }

    pub(crate) fn get(&self) -> Vec<u8> {
        request(&[&format!("GET {} HTTP/1.1", self.target("polling"))], "")
    }

    pub(crate) fn post_of(&self, payload: &str) -> Vec<u8> {
        let line = format!("POST {} HTTP/1.1", self.target("polling"));
        request(&[&line, "Content-Type: text/plain;charset=UTF-8"], payload)
    }

    pub(crate) fn poll(&self) -> Response {
        self.start_poll().response()
    }

    /// Sends a poll and returns its connection, so that the answer can be read later.
    pub(crate) fn start_poll(&self) -> Tcp {
        self.start(self.get())
    }

    pub(crate) fn post(&self, payload: &str) -> Response {
        self.start(self.post_of(payload)).response()
    }

    /// Posts a payload. Returns the answer, or `None` if the connection ends without one.
    pub(crate) fn post_anyhow(&self, payload: &str) -> Option<Response> {
        self.start(self.post_of(payload)).try_response("POST", PATIENCE)
    }

    /// Posts a payload that must be refused with 400 or, as other servers do, without an answer.
    pub(crate) fn post_refused(&self, payload: &str) {
        if let Some(response) = self.post_anyhow(payload) {
            assert_eq!(response.status, 400, "{payload:?}: {response:?}");
        }
    }

    /// Posts a payload that must be accepted.
    pub(crate) fn post_ok(&self, payload: &str) {
        let response = self.post(payload);
        assert_eq!((response.status, response.text()), (200, "ok"), "{payload:?}");
    }

    /// Polls until there are packets other than no-ops, and returns those.
    pub(crate) fn packets(&self) -> Vec<String> {
        loop {
            let response = self.poll();
            assert_eq!(response.status, 200, "{response:?}");
            let packets = response.text().split(SEPARATOR).filter(|packet| *packet != "6");
            let packets: Vec<_> = packets.map(str::to_owned).collect();
            if !packets.is_empty() {
                return packets;
            }
        }
    }

    /// Polls until there are at least `count` packets, and returns them.
    pub(crate) fn packets_to(&self, count: usize) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.len() < count {
            packets.extend(self.packets());
        }
        packets
    }

    /// Opens a WebSocket to which the session may be upgraded.
    pub(crate) fn second_socket(&self) -> Peer {
        Peer::open(self.endpoint.addr, &self.target("websocket"))
    }

    /// Posts a message and checks that it is echoed.
    pub(crate) fn assert_echoes(&self, message: &str) {
        self.post_ok(message);
        assert_eq!(self.packets(), [message]);
    }

    /// Checks that the session's id is unknown.
    pub(crate) fn assert_closed(&self) {
        assert_error(&self.poll(), 1, "Session ID unknown");
    }

    /// Waits until the session has ended. Meanwhile it posts no-ops.
    pub(crate) fn wait_until_closed(&self) {
        let end = Instant::now() + PATIENCE;
        while self.post_anyhow("6").is_some_and(|response| response.status == 200) {
            assert!(Instant::now() < end, "the session lives on");
            std::thread::sleep(MOMENT / 10);
        }
        self.assert_closed();
    }

    /// Whether the session ends within `wait`: at once, or after one more poll with a close packet.
    pub(crate) fn ends_within(&self, wait: Duration) -> bool {
        let Some(response) = self.start_poll().try_response("GET", wait) else {
            return false;
        };
        if response.status == 200 && response.text().split(SEPARATOR).next_back() == Some("1") {
            return self.poll().status == 400;
        }
        response.status == 400
    }

    fn start(&self, bytes: Vec<u8>) -> Tcp {
        let mut tcp = Tcp::connect(self.endpoint.addr);
        tcp.send(bytes);
        tcp
    }
}

/// Parses an open packet and checks all members that do not depend on the transport.
pub(crate) fn open_packet(packet: &str) -> Value {
    let json = packet.strip_prefix('0').expect("the first packet is `open`");
    let open: Value = serde_json::from_str(json).expect("its data is JSON");
    let mut keys: Vec<_> = open.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert_eq!(open["maxPayload"], 1_000_000);
    let sid = open["sid"].as_str().expect("the sid is a string");
    let in_urls = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!(sid.len() >= 20 && sid.chars().all(in_urls), "sid {sid:?}");
    open
}

/// Checks an error of Engine.IO in answer to a plain request.
pub(crate) fn assert_error(response: &Response, code: u32, message: &str) {
    assert_detailed_error(response, code, message, None);
}

/// Checks an error of Engine.IO that may name what is not supported.
pub(crate) fn assert_detailed_error(
    response: &Response,
    code: u32,
    message: &str,
    details: Option<&str>,
) {
    assert_eq!(response.status, 400, "{response:?}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{content_type:?}");
    let mut expected = serde_json::json!({"code": code, "message": message});
    if let Some(details) = details {
        expected["details"] = details.into();
    }
    assert_eq!(response.json(), expected);
}

/// Returns the next packet other than a ping, and answers pings.
pub(crate) fn hear_packet(peer: &mut Peer) -> Heard {
    loop {
        match peer.hear() {
            Heard::Text(text) if text == "2" => peer.say("3"),
            other => return other,
        };
    }
}

/// Whether the node closes the connection, with or without a close frame. Answers pings meanwhile.
/// The error is what came instead.
pub(crate) fn closes_within(peer: &mut Peer, wait: Duration) -> Result<(), Heard> {
    let deadline = Instant::now() + wait;
    loop {
        match peer.hear_within(deadline.saturating_duration_since(Instant::now())) {
            heard if heard.is_over() => return Ok(()),
            Heard::Text(text) if text == "2" => drop(peer.say("3")),
            other => return Err(other),
        }
    }
}

/// Checks that the node closes the connection and sends nothing else.
pub(crate) fn assert_closes(peer: &mut Peer, why: &str) {
    if let Err(heard) = closes_within(peer, PATIENCE) {
        panic!("{why} must close the connection, heard {heard:?}");
    }
}
