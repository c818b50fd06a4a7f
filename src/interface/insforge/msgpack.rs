//! The packets of Socket.IO's MessagePack parser, as far as it takes to refuse a client that uses
//! it: the refusal must be in the client's own encoding to reach its page.

/// The first byte of a map with a given number of entries, up to 15.
const MAP: u8 = 0x80;
/// The first byte of a string with a given number of bytes, up to 31.
const STRING: u8 = 0xa0;
/// The first byte of a string whose length is in the next byte.
const STRING_8: u8 = 0xd9;
/// Socket.IO's packet type `CONNECT_ERROR`.
const CONNECT_ERROR: u8 = 4;

/// Returns whether a binary message begins like a packet of the MessagePack parser: a map whose
/// first key is `type`.
pub(super) fn is_packet(message: &[u8]) -> bool {
    matches!(message, [first, rest @ ..]
        if first & 0xf0 == MAP && rest.starts_with(b"\xa4type"))
}

/// Returns the packet that refuses a CONNECT. Texts of more than 255 bytes are cut.
pub(super) fn connect_error(namespace: &str, message: &str) -> Vec<u8> {
    let mut packet = vec![MAP + 3];
    push(&mut packet, "type");
    packet.push(CONNECT_ERROR);
    push(&mut packet, "nsp");
    push(&mut packet, namespace);
    push(&mut packet, "data");
    packet.push(MAP + 1);
    push(&mut packet, "message");
    push(&mut packet, message);
    packet
}

fn push(packet: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u8::MAX))];
    // At most 255, as the line above cuts.
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    match length {
        0..32 => packet.push(STRING + length),
        _ => packet.extend_from_slice(&[STRING_8, length]),
    }
    packet.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_the_parser_are_known() {
        assert!(is_packet(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\xc0"));
        for other in [&b""[..], b"\x83", b"\x01\x02", b"\xa4type", b"\x83\xa3nsp"] {
            assert!(!is_packet(other), "{other:?}");
        }
    }

    #[test]
    fn a_refusal_is_messagepack() {
        let short = connect_error("/", "no");
        assert_eq!(short, b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x81\xa7message\xa2no");
        let text = "é".repeat(200);
        let long = connect_error("/", &text);
        let head = short.len() - b"\xa2no".len();
        assert_eq!(long[head..head + 2], [STRING_8, 254]);
        assert_eq!(long[head + 2..], text.as_bytes()[..254]);
    }
}
