//! The encoder of the server's frames.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{CLOSE_CODE_BYTES, CONTROL_BYTES_MAX, header, may_be_sent};

/// The kinds of frames that a server sends. It never fragments a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    /// A text message. The payload must be UTF-8.
    Text,
    /// A binary message of any bytes.
    Binary,
    /// A ping with a payload of at most [`CONTROL_BYTES_MAX`] bytes.
    Ping,
    /// A pong with a payload of at most [`CONTROL_BYTES_MAX`] bytes.
    Pong,
    /// A close with a code and a reason; [`close`] builds it.
    Close,
}

impl From<Opcode> for OpCode {
    fn from(opcode: Opcode) -> Self {
        match opcode {
            Opcode::Text => Self::Data(Data::Text),
            Opcode::Binary => Self::Data(Data::Binary),
            Opcode::Ping => Self::Control(Control::Ping),
            Opcode::Pong => Self::Control(Control::Pong),
            Opcode::Close => Self::Control(Control::Close),
        }
    }
}

/// Builds a server frame (not masked, not fragmented) around the joined parts of a payload, in one
/// allocation of exactly its size.
pub fn frame(opcode: Opcode, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let opcode = OpCode::from(opcode);
    debug_assert!(matches!(opcode, OpCode::Data(_)) || length <= CONTROL_BYTES_MAX);
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut frame = Vec::with_capacity(header.len(length as u64) + length);
    header.format(length as u64, &mut frame).expect("writing to a vector cannot fail");
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// Returns the payload of a frame that [`frame`] built. Long-polling sends it without the header.
pub fn payload(frame: &[u8]) -> &[u8] {
    match header::parse(frame) {
        Ok(Some((_, _, header_bytes))) => &frame[header_bytes..],
        _ => &[],
    }
}

/// Returns whether a frame that [`frame`] built carries a binary message.
pub fn is_binary(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x0f == u8::from(OpCode::Data(Data::Binary)))
}

/// Builds a close frame. Without a code it has no payload. A reason that is too long is cut between
/// two characters. A code that may not be sent, such as 1005 ("no code received"), counts as no
/// code.
pub fn close(code: Option<u16>, reason: &str) -> Vec<u8> {
    match code.filter(|code| may_be_sent(*code)) {
        None => frame(Opcode::Close, &[]),
        Some(code) => {
            let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - CLOSE_CODE_BYTES);
            frame(Opcode::Close, &[&code.to_be_bytes(), &reason.as_bytes()[..end]])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn server_frames() {
        let long = vec![b'x'; 65_536];
        for (opcode, first) in [
            (Opcode::Text, 0x81),
            (Opcode::Binary, 0x82),
            (Opcode::Ping, 0x89),
            (Opcode::Pong, 0x8a),
        ] {
            assert_eq!(frame(opcode, &[b"a", b"", b"bc"]), [&[first, 3], &b"abc"[..]].concat());
            assert_eq!(frame(opcode, &[]), [first, 0]);
        }
        for (length, header) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let made = frame(Opcode::Text, &[&long[..length]]);
            assert_eq!(made, [header, &long[..length]].concat());
            assert_eq!(made.capacity(), made.len());
            assert_eq!(payload(&made), &long[..length]);
        }
        assert_eq!(payload(&[]), b"");
    }

    #[test]
    fn close_frames() {
        assert_eq!(close(None, "ignored"), [0x88, 0]);
        assert_eq!(close(Some(1005), "ignored"), [0x88, 0]);
        assert_eq!(close(Some(1000), "bye"), [&[0x88, 5, 0x03, 0xe8], &b"bye"[..]].concat());
        let cut = close(Some(1001), &"\u{20ac}".repeat(42));
        assert_eq!(payload(&cut)[2..], *"\u{20ac}".repeat(41).as_bytes());
        let full = close(Some(1001), &"x".repeat(200));
        assert_eq!(full.len(), 2 + CONTROL_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_a_server_sends_comes_back(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let made = frame(Opcode::Binary, &slices);
            prop_assert_eq!(payload(&made), parts.concat());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            payload(&bytes);
        }
    }
}
