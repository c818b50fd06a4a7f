//! Packets that are nearly right, and bytes that are not packets at all. They may end their own
//! connection, but never the node.
//!
//! Every run sends the same data. `CONFORMANCE_SEED` selects other data, and each run prints its
//! seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{calm, connected};
use crate::frames::{BINARY, Frame, Peer, TEXT, fragments};
use crate::session::{Endpoint, Polling};
use crate::tcp::{Tcp, call};

const SEED: u64 = 7130;
const CONNECTIONS: usize = 150;
const PACKETS_PER_CONNECTION: usize = 12;

/// Valid packets, which are then altered.
const SEEDLINGS: [&str; 18] = [
    "40",
    r#"40{"token":"x"}"#,
    "40/custom,",
    "40/random,{}",
    "41",
    "41/custom,",
    r#"42["message",1,"2",{"3":[true]}]"#,
    r#"42/custom,["message","µ日本"]"#,
    r#"42456["message-with-ack",{"a":[1,2,{"b":null}]}]"#,
    "430[]",
    r#"44{"message":"no"}"#,
    r#"452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
    r#"461-7[{"_placeholder":true,"num":0}]"#,
    r#"42["realtime:subscribe",{"channel":"order:1"}]"#,
    "1",
    "2probe",
    "3",
    "5",
];

/// Characters with a meaning for one of the parsers.
const SPICES: [&str; 20] = [
    "\0",
    "\x1e",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "[",
    "]",
    "{",
    "}",
    ",",
    "/",
    "-",
    "0",
    "9",
    "18446744073709551616",
    "1e999",
    "µ",
    "🎺",
    "_placeholder",
];

struct Cook {
    rng: StdRng,
}

impl Cook {
    fn new(stream: u64) -> Self {
        let seed = std::env::var("CONFORMANCE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(SEED);
        println!("CONFORMANCE_SEED={seed}");
        Self { rng: StdRng::seed_from_u64(seed.wrapping_add(stream)) }
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// Returns a packet with a few characters removed, doubled or added.
    fn packet(&mut self) -> String {
        let mut packet = SEEDLINGS[self.below(SEEDLINGS.len())].to_owned();
        for _ in 0..self.below(4) {
            let places: Vec<_> = packet.char_indices().map(|(at, _)| at).collect();
            let at = places.get(self.below(places.len() + 1)).copied().unwrap_or(packet.len());
            match self.below(4) {
                0 => packet.truncate(at),
                1 if at < packet.len() => drop(packet.remove(at)),
                2 => packet.insert_str(at, &packet.clone()),
                _ => packet.insert_str(at, SPICES[self.below(SPICES.len())]),
            }
        }
        packet
    }

    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let count = self.below(longest);
        (0..count).map(|_| self.rng.random()).collect()
    }

    /// Returns bytes for a WebSocket: usually frames, sometimes bytes that are not a frame.
    fn frames(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => self.bytes(40),
            1 => Frame::new(BINARY, self.bytes(300)).bytes(),
            2 => Frame::new(TEXT, self.bytes(60)).bytes(),
            3 => Frame::new(self.below(16) as u8, self.bytes(130)).rsv(self.below(8) as u8).bytes(),
            4 => fragments(TEXT, self.packet().as_bytes(), 1 + self.below(9)),
            _ => Frame::new(TEXT, self.packet()).bytes(),
        }
    }
}

/// Checks that the node answers, and serves a new client.
fn assert_well(endpoint: Endpoint) {
    let health = call(endpoint.addr, &["GET /api/health HTTP/1.1"], "");
    assert_eq!((health.status, &health.json()["status"]), (200, &"ok".into()));
    super::assert_echoes(&mut connected(), "well");
}

fn pour(mut peer: Peer, cook: &mut Cook) {
    for _ in 0..1 + cook.below(PACKETS_PER_CONNECTION) {
        if !peer.tcp.send(cook.frames()) {
            return;
        }
    }
    // Half of the connections end without reading the answers.
    if cook.below(2) == 0 {
        peer.send(&Frame::close(1000, ""));
        peer.tcp.finish();
        peer.tcp.ends_within(crate::tcp::PATIENCE);
    }
}

#[test]
fn websocket_soup_never_kills_the_node() {
    let mut cook = Cook::new(0);
    for _ in 0..CONNECTIONS {
        let peer = if cook.below(2) == 0 { connected() } else { calm().open_websocket() };
        pour(peer, &mut cook);
    }
    assert_well(calm());
}

#[test]
fn polling_soup_never_kills_the_node() {
    let mut cook = Cook::new(1);
    let mut session = fresh(&mut cook);
    for _ in 0..CONNECTIONS {
        let mut packets: Vec<_> = (0..1 + cook.below(4)).map(|_| cook.packet()).collect();
        if cook.below(3) == 0 {
            packets.push(format!("b{}", cook.packet()));
        }
        let response = session.post(&packets.join("\x1e"));
        assert!(matches!(response.status, 200 | 400), "{packets:?}: {response:?}");
        if response.status == 400 || cook.below(4) == 0 {
            session = fresh(&mut cook);
        }
    }
    assert_well(calm());
}

fn fresh(cook: &mut Cook) -> Polling {
    let session = calm().open_polling();
    if cook.below(2) == 0 {
        session.post_ok("40");
    }
    session
}

#[test]
fn soup_at_the_front_door_never_kills_the_node() {
    let mut cook = Cook::new(2);
    for _ in 0..CONNECTIONS {
        let mut tcp = Tcp::connect(calm().addr);
        let mut bytes = match cook.below(3) {
            0 => cook.bytes(200),
            1 => crate::frames::upgrade(&calm().target("transport=websocket")),
            _ => calm().open_polling().get(),
        };
        for _ in 0..cook.below(6) {
            let at = cook.below(bytes.len().max(1));
            let noise = cook.bytes(4);
            bytes.splice(at.min(bytes.len())..at.min(bytes.len()), noise);
        }
        tcp.send(bytes);
        tcp.finish();
        if cook.below(2) == 0 {
            tcp.is_silent_for(crate::session::MOMENT / 10);
        }
    }
    assert_well(calm());
}
