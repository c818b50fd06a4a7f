//! Engine.IO sessions as a client keeps them, over long-polling and over WebSocket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::frames::{Heard, Peer};
use crate::tcp::{PATIENCE, Response, Tcp, call, request};

/// How long to look for something that should not come, or for something to have taken effect.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);
/// Separates the packets of a long-polling payload.
pub(crate) const SEPARATOR: char = '\x1e';

/// Where a node serves Engine.IO.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) path: &'static str,
}

/// A session on long-polling. Every request goes over a connection of its own unless told.
pub(crate) struct Polling {
    endpoint: Endpoint,
    pub(crate) sid: String,
}

impl Endpoint {
    /// The target of a request, after `EIO=4`.
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

    /// A session on WebSocket from the start, its open packet read.
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

    /// A poll whose answer is read later.
    pub(crate) fn start_poll(&self) -> Tcp {
        self.start(self.get())
    }

    pub(crate) fn post(&self, payload: &str) -> Response {
        self.start(self.post_of(payload)).response()
    }

    /// Posts, and gives the answer if there is one.
    pub(crate) fn post_anyhow(&self, payload: &str) -> Option<Response> {
        self.start(self.post_of(payload)).try_response("POST", PATIENCE)
    }

    /// Posts what the node should object to: a 400 or, as other servers do, no answer at all.
    pub(crate) fn post_refused(&self, payload: &str) {
        if let Some(response) = self.post_anyhow(payload) {
            assert_eq!(response.status, 400, "{payload:?}: {response:?}");
        }
    }

    /// Posts something that must be accepted.
    pub(crate) fn post_ok(&self, payload: &str) {
        let response = self.post(payload);
        assert_eq!((response.status, response.text()), (200, "ok"), "{payload:?}");
    }

    /// The packets of the next poll that has any besides no-ops.
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

    /// Packets up to the given number, over as many polls as it takes.
    pub(crate) fn packets_to(&self, count: usize) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.len() < count {
            packets.extend(self.packets());
        }
        packets
    }

    /// A WebSocket beside the session, to which it may be upgraded.
    pub(crate) fn second_socket(&self) -> Peer {
        Peer::open(self.endpoint.addr, &self.target("websocket"))
    }

    /// Whether the session answers to a message.
    pub(crate) fn assert_echoes(&self, message: &str) {
        self.post_ok(message);
        assert_eq!(self.packets(), [message]);
    }

    /// The session is over, and its id unknown.
    pub(crate) fn assert_closed(&self) {
        assert_error(&self.poll(), 1, "Session ID unknown");
    }

    /// Waits until the session is over. What is posted meanwhile asks nothing of it.
    pub(crate) fn wait_until_closed(&self) {
        let end = Instant::now() + PATIENCE;
        while self.post_anyhow("6").is_some_and(|response| response.status == 200) {
            assert!(Instant::now() < end, "the session lives on");
            std::thread::sleep(MOMENT / 10);
        }
        self.assert_closed();
    }

    /// Whether the session ends: at once, or after one more poll that says so.
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

/// The handshake's data; every part that does not depend on the transport is checked.
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

/// An error as Engine.IO puts it on plain requests.
pub(crate) fn assert_error(response: &Response, code: u32, message: &str) {
    assert_eq!(response.status, 400, "{response:?}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{content_type:?}");
    assert_eq!(response.json(), serde_json::json!({"code": code, "message": message}));
}

/// The next packet that is no ping; pings are answered.
pub(crate) fn hear_packet(peer: &mut Peer) -> Heard {
    loop {
        match peer.hear() {
            Heard::Text(text) if text == "2" => peer.say("3"),
            other => return other,
        };
    }
}

/// Whether the node closes the connection, politely or not; pings are answered meanwhile.
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

/// The node closes the connection, and says nothing more.
pub(crate) fn assert_closes(peer: &mut Peer, why: &str) {
    if let Err(heard) = closes_within(peer, PATIENCE) {
        panic!("{why} must close the connection, heard {heard:?}");
    }
}
