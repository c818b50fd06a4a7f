//! Engine.IO, protocol 4, server side: packets, payloads of long-polling, the opening packet,
//! session ids and refused requests.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::unsupported::Unsupported;
use super::violation::Violation;
use crate::codec::json::push_json;
use crate::config::EngineIo as Timings;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::{NodeTag, SessionId, WorkerId};

/// The separator between the packets of a payload.
const SEPARATOR: u8 = 0x1e;

/// The ping packet of the server, which a client answers with a pong.
pub const PING: &str = "2";
/// The answer to a client's ping `probe` on a WebSocket that offers to carry a session.
pub const PROBE_ANSWER: &str = "3probe";
/// The packet that ends a poll and has no content.
pub const NOOP: &str = "6";
/// The packet that tells a client on long-polling that its session has ended.
pub const CLOSE: &str = "1";

/// A text packet from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// `1`: the client ends the session.
    Close,
    /// `2…`: a ping with its data. Clients send it only to probe a WebSocket.
    Ping(&'a str),
    /// `3`: the answer to a ping of the server.
    Pong,
    /// `4…`: data for the application.
    Message(&'a str),
    /// `5`: the client moves its session to this WebSocket.
    Upgrade,
    /// `6`: no content.
    Noop,
}

/// Decodes a text packet.
///
/// # Errors
/// If the packet is empty or has a type that clients do not send.
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

/// Returns the beginning of the data of a message packet, from the beginning of the packet; `None`
/// for other packets.
pub fn message_start(start: &[u8]) -> Option<&str> {
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        // The beginning may end within a character.
        Err(error) => str::from_utf8(&start[..error.valid_up_to()]).ok()?,
    };
    text.strip_prefix('4')
}

/// One packet of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// A text packet, including its type.
    Text(&'a str),
    /// A binary message, decoded from base64.
    Binary(Vec<u8>),
}

/// Returns the packets of a payload, in order. An item is an error if its base64 is invalid.
pub fn payload(body: &str) -> impl Iterator<Item = Result<Part<'_>, Violation>> {
    body.split(char::from(SEPARATOR)).map(part)
}

/// Returns the packet in a text: a binary message if the text says that it is one, in base64.
/// Clients with the option `forceBase64` send such texts also over WebSocket.
///
/// # Errors
/// If the base64 is invalid.
pub fn part(text: &str) -> Result<Part<'_>, Violation> {
    match text.strip_prefix('b') {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map(Part::Binary)
            .map_err(|_| Violation("binary packet is not base64")),
        None => Ok(Part::Text(text)),
    }
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

/// Returns how many bytes [`append_binary`] appends for a message, without the separator.
pub fn binary_length(message: &[u8]) -> usize {
    1 + message.len().div_ceil(3) * 4
}

fn separate(payload: &mut Vec<u8>) {
    if !payload.is_empty() {
        payload.push(SEPARATOR);
    }
}

/// Returns the opening packet. `id` is the session's, as clients see it. `upgrades` says whether
/// the session may move to a WebSocket.
pub fn open(id: &str, upgrades: bool, timings: &Timings) -> String {
    let upgrades = if upgrades { r#"["websocket"]"# } else { "[]" };
    format!(
        r#"0{{"sid":"{id}","upgrades":{upgrades},"pingInterval":{},"pingTimeout":{},"maxPayload":{MESSAGE_BYTES_MAX}}}"#,
        timings.ping_interval_ms, timings.ping_timeout_ms,
    )
}

/// Bytes of a session id without the tag of a node.
const ID_BYTES: usize = 15;

/// Returns a session id as clients see it: 20 characters, or 26 if it names the session's node.
pub fn encode_id(session: &SessionId, node: Option<NodeTag>) -> String {
    let mut bytes = [0; ID_BYTES + 4];
    bytes[0] = session.worker.0;
    bytes[1..5].copy_from_slice(&session.slot.to_be_bytes());
    bytes[6..ID_BYTES].copy_from_slice(&session.key);
    let Some(NodeTag(tag)) = node else { return URL_SAFE_NO_PAD.encode(&bytes[..ID_BYTES]) };
    bytes[ID_BYTES..].copy_from_slice(&tag);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a session id. Returns the session, and its node if that is not `own`. Returns `None` for
/// a text that [`encode_id`] cannot have returned on a node that has a tag if this one has.
pub fn decode_id(text: &str, own: Option<NodeTag>) -> Option<(SessionId, Option<NodeTag>)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (id, tag) = bytes.split_first_chunk::<ID_BYTES>()?;
    let elsewhere = match own {
        Some(own) => Some(NodeTag(tag.try_into().ok()?)).filter(|tag| *tag != own),
        None => tag.is_empty().then_some(None)?,
    };
    let [worker, s0, s1, s2, s3, 0, key @ ..] = *id else { return None };
    let slot = u32::from_be_bytes([s0, s1, s2, s3]);
    Some((SessionId { worker: WorkerId(worker), slot, key }, elsewhere))
}

/// The reason why an Engine.IO request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// The `transport` is neither `polling` nor `websocket`.
    UnknownTransport,
    /// The request for a WebSocket asks for no upgrade.
    NoUpgrade,
    /// The client polls with script elements.
    Jsonp,
    /// No session has this id.
    UnknownSession,
    /// The request opens a session and its method is not GET.
    BadHandshakeMethod,
    /// The request contradicts itself, or its session cannot serve it.
    BadRequest,
    /// The page that sends the request may not use the node.
    Forbidden,
    /// `EIO` is not 4.
    UnsupportedVersion,
}

impl RequestError {
    /// Returns the message for people, which is also the body of a refused upgrade.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::NoUpgrade | Self::Jsonp | Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// Returns what the client asks for that no session has; `None` for other mistakes.
    pub fn unsupported(self) -> Option<Unsupported> {
        match self {
            Self::UnknownTransport => Some(Unsupported::Transport),
            Self::NoUpgrade => Some(Unsupported::NoUpgrade),
            Self::Jsonp => Some(Unsupported::Jsonp),
            Self::UnsupportedVersion => Some(Unsupported::Version),
            Self::UnknownSession
            | Self::BadHandshakeMethod
            | Self::BadRequest
            | Self::Forbidden => None,
        }
    }

    /// Returns the body of the answer to a refused polling request, with Engine.IO's code. If the
    /// request asks for something that is not supported, `details` names it.
    pub fn json(self) -> String {
        let code = match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::NoUpgrade | Self::Jsonp | Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        };
        let mut json = format!(r#"{{"code":{code},"message":"{}""#, self.message());
        if let Some(unsupported) = self.unsupported() {
            json.push_str(r#","details":"#);
            push_json(&mut json, unsupported.advice());
        }
        json.push('}');
        json
    }
}

/// Returns a script that refuses a client on JSONP so that the client can show why: it opens a
/// session, which does not exist, and refuses the client's CONNECT. `index` is the client's `j`;
/// `is_old` says that the client speaks Engine.IO 3, as those of Socket.IO 1 and 2 do.
pub fn jsonp_refusal(index: &str, is_old: bool, message: &str) -> String {
    let mut quoted = String::new();
    push_json(&mut quoted, message);
    let open = r#"0{"sid":"refused","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
    let payload = match is_old {
        true => {
            let error = format!("44{quoted}");
            format!("{}:{open}{}:{error}", open.len(), error.len())
        }
        false => format!(r#"{open}{}44{{"message":{quoted}}}"#, char::from(SEPARATOR)),
    };
    // The index becomes code, so that only digits of it are taken.
    let index: String = index.chars().filter(char::is_ascii_digit).collect();
    let mut script = format!("___eio[{index}](");
    push_json(&mut script, &payload);
    script.push_str(");");
    script
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
        for length in 0..10 {
            let mut body = Vec::new();
            append_binary(&mut body, &vec![7; length]);
            assert_eq!(body.len(), binary_length(&vec![7; length]), "{length}");
        }
    }

    #[test]
    fn an_id_of_one_node_has_the_bytes_that_it_always_had() {
        let session = SessionId { worker: WorkerId(1), slot: 2, key: *b"secretkey" };
        assert_eq!(encode_id(&session, None), "AQAAAAIAc2VjcmV0a2V5");
        assert_eq!(encode_id(&session, Some(NodeTag(*b"node"))), "AQAAAAIAc2VjcmV0a2V5bm9kZQ");
        for bad in ["", "AQAAAAIAc2VjcmV0a2V", "AQAAAAIAc2VjcmV0a2V5bm9k", "AQAAAAIBc2VjcmV0a2V5"] {
            assert_eq!(decode_id(bad, None), None, "{bad}");
            assert_eq!(decode_id(bad, Some(NodeTag(*b"node"))), None, "{bad}");
        }
    }

    #[test]
    fn jsonp_clients_are_told_why_in_a_script() {
        let script = jsonp_refusal("0);alert(1", false, "no \"JSONP\"");
        let open = r#"0{\"sid\":\"refused\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000}"#;
        let error = r#"44{\"message\":\"no \\\"JSONP\\\"\"}"#;
        assert_eq!(script, format!(r#"___eio[01]("{open}\u001e{error}");"#));
        let script = jsonp_refusal("3", true, "no");
        assert_eq!(script, format!(r#"___eio[3]("73:{open}6:44\"no\"");"#));
    }

    proptest! {
        #[test]
        fn ids_round_trip(worker: u8, slot: u32, key: [u8; 9], tag: [u8; 4]) {
            let session = SessionId { worker: WorkerId(worker), slot, key };
            let text = encode_id(&session, None);
            prop_assert_eq!(text.len(), 20);
            prop_assert_eq!(decode_id(&text, None), Some((session, None)));
            let tag = NodeTag(tag);
            prop_assert_eq!(decode_id(&text, Some(tag)), None);
            let named = encode_id(&session, Some(tag));
            prop_assert_eq!(named.len(), 26);
            prop_assert!(named.starts_with(&text));
            prop_assert_eq!(decode_id(&named, Some(tag)), Some((session, None)));
            let other = NodeTag(tag.0.map(|byte| !byte));
            prop_assert_eq!(decode_id(&named, Some(other)), Some((session, Some(tag))));
            prop_assert_eq!(decode_id(&named, None), None);
        }

        #[test]
        fn no_text_is_a_surprise(text: String) {
            let _ = (decode(&text), payload(&text).count());
            let _ = (decode_id(&text, None), decode_id(&text, Some(NodeTag([0; 4]))));
        }
    }
}
