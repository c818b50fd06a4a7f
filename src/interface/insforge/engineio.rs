//! Engine.IO, protocol 4, server side: packets, payloads of
//! long-polling, the opening packet, session ids, heartbeat.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::violation::Violation;
use crate::config::EngineIo as Timings;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::{SessionId, WorkerId};

/// Separates the packets of a payload.
const SEPARATOR: u8 = 0x1e;

/// The packet that a server sends to ask for a sign of life.
pub const PING: &str = "2";
/// The answer to a probe.
pub const PROBE_ANSWER: &str = "3probe";
/// Ends a poll without saying anything.
pub const NOOP: &str = "6";
/// Ends a session on long-polling.
pub const CLOSE: &str = "1";

/// A text packet from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// `1`: the client leaves.
    Close,
    /// `2…`: only a probe may send it.
    Ping(&'a str),
    /// `3`.
    Pong,
    /// `4…`: for the application.
    Message(&'a str),
    /// `5`: go on over this WebSocket.
    Upgrade,
    /// `6`.
    Noop,
}

/// Reads a text packet.
///
/// # Errors
/// An empty packet or a type that clients do not send.
pub fn decode(text: &str) -> Result<Packet<'_>, Violation> {
    let (kind, data) = match text.as_bytes() {
        [kind, ..] if kind.is_ascii() => (kind, &text[1..]),
        _ => return Err(Violation("packet without a type")),
    };
    match kind {
        b'1' => Ok(Packet::Close),
        b'2' => Ok(Packet::Ping(data)),
        b'3' => Ok(Packet::Pong),
        b'4' => Ok(Packet::Message(data)),
        b'5' => Ok(Packet::Upgrade),
        b'6' => Ok(Packet::Noop),
        _ => Err(Violation("unknown packet type")),
    }
}

/// One packet of a long-polling payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// A text packet, its type included.
    Text(&'a str),
    /// A binary message.
    Binary(Vec<u8>),
}

/// The packets of a payload, in order.
pub fn payload(body: &str) -> impl Iterator<Item = Result<Part<'_>, Violation>> {
    body.split(char::from(SEPARATOR)).map(|packet| match packet.strip_prefix('b') {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map(Part::Binary)
            .map_err(|_| Violation("binary packet is not base64")),
        None => Ok(Part::Text(packet)),
    })
}

/// Appends a text packet to a payload.
pub fn append_text(payload: &mut Vec<u8>, packet: &[u8]) {
    separate(payload);
    payload.extend_from_slice(packet);
}

/// Appends a binary message to a payload.
pub fn append_binary(payload: &mut Vec<u8>, message: &[u8]) {
    separate(payload);
    payload.push(b'b');
    payload.extend_from_slice(STANDARD.encode(message).as_bytes());
}

fn separate(payload: &mut Vec<u8>) {
    if !payload.is_empty() {
        payload.push(SEPARATOR);
    }
}

/// The opening packet. `upgrades` says whether the session may move to WebSocket.
pub fn open(session: &SessionId, upgrades: bool, timings: &Timings) -> String {
    let upgrades = if upgrades { r#"["websocket"]"# } else { "[]" };
    format!(
        r#"0{{"sid":"{}","upgrades":{upgrades},"pingInterval":{},"pingTimeout":{},"maxPayload":{MESSAGE_BYTES_MAX}}}"#,
        encode_id(session),
        timings.ping_interval_ms,
        timings.ping_timeout_ms,
    )
}

/// A session id as clients see it: 20 characters.
pub fn encode_id(session: &SessionId) -> String {
    let mut bytes = [0; 15];
    bytes[0] = session.worker.0;
    bytes[1..5].copy_from_slice(&session.slot.to_be_bytes());
    bytes[6..].copy_from_slice(&session.key);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a session id. `None` for what this node cannot have given out.
pub fn decode_id(text: &str) -> Option<SessionId> {
    let bytes: [u8; 15] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let [worker, s0, s1, s2, s3, 0, key @ ..] = bytes else { return None };
    Some(SessionId { worker: WorkerId(worker), slot: u32::from_be_bytes([s0, s1, s2, s3]), key })
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// Neither `polling` nor `websocket`.
    UnknownTransport,
    /// No such session.
    UnknownSession,
    /// A session opens with GET.
    BadHandshakeMethod,
    /// The request does not fit the session or itself.
    BadRequest,
    /// `EIO` is not 4.
    UnsupportedVersion,
}

impl RequestError {
    /// The text for people and for upgrade requests.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The body of the answer to a polling request.
    pub fn json(self) -> String {
        let code = match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::UnsupportedVersion => 5,
        };
        format!(r#"{{"code":{code},"message":"{}"}}"#, self.message())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_by_type() {
        assert_eq!(decode("4hé"), Ok(Packet::Message("hé")));
        assert_eq!(decode("2probe"), Ok(Packet::Ping("probe")));
        assert_eq!(decode("3"), Ok(Packet::Pong));
        for bad in ["", "0", "7", "abc", "é"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn payloads_round_trip() {
        let mut body = Vec::new();
        append_text(&mut body, b"4hello");
        append_binary(&mut body, &[1, 2, 3, 4]);
        assert_eq!(body, b"4hello\x1ebAQIDBA==");
        let parts: Result<Vec<_>, _> = payload("4hello\x1ebAQIDBA==").collect();
        assert_eq!(parts, Ok(vec![Part::Text("4hello"), Part::Binary(vec![1, 2, 3, 4])]));
        assert!(payload("b***").any(|part| part.is_err()));
    }

    proptest! {
        #[test]
        fn ids_round_trip(worker: u8, slot: u32, key: [u8; 9]) {
            let session = SessionId { worker: WorkerId(worker), slot, key };
            let text = encode_id(&session);
            prop_assert_eq!(text.len(), 20);
            prop_assert_eq!(decode_id(&text), Some(session));
        }

        #[test]
        fn no_text_is_a_surprise(text: String) {
            let _ = (decode(&text), decode_id(&text), payload(&text).count());
        }
    }
}
