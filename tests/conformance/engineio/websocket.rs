//! Messages over WebSocket, and what ends a session there.

use super::calm;
use crate::frames::{BINARY, Frame, Heard, PING, TEXT, fragments};
use crate::session::assert_closes;

const MESSAGE_BYTES_MAX: usize = 1_000_000;

#[test]
fn messages_are_echoed() {
    let mut peer = calm().open_websocket();
    for text in ["4hello", "4", "4µ日本🎺", "4a\x1e4b"] {
        peer.say(text);
        assert_eq!(peer.hear(), Heard::Text(text.into()));
    }
    for bytes in [&[1, 2, 3, 4][..], &[], b"4 is no prefix here", &[0xff; 70_000]] {
        peer.send(&Frame::new(BINARY, bytes));
        assert_eq!(peer.hear(), Heard::Binary(bytes.to_vec()));
    }
}

#[test]
fn binary_may_come_in_base64() {
    let mut peer = calm().open_websocket();
    for (text, bytes) in
        [("bAQIDBA==", &[1, 2, 3, 4][..]), ("b", &[]), ("b/+7dzA==", b"\xff\xee\xdd\xcc")]
    {
        peer.say(text);
        assert_eq!(peer.hear(), Heard::Binary(bytes.to_vec()), "{text}");
    }
    peer.say("b!!!!");
    assert_closes(&mut peer, "base64 that is none");
}

#[test]
fn messages_may_come_in_fragments_with_pings_between() {
    let mut peer = calm().open_websocket();
    peer.tcp.send(fragments(TEXT, "4µ日本🎺".as_bytes(), 1));
    peer.send(&Frame::new(PING, "of the transport"));
    assert_eq!(peer.hear(), Heard::Text("4µ日本🎺".into()));
    assert_eq!(peer.hear(), Heard::Pong(b"of the transport".into()));
}

#[test]
fn messages_have_a_bound() {
    let longest = format!("4{}", "x".repeat(MESSAGE_BYTES_MAX - 1));
    let mut peer = calm().open_websocket();
    peer.say(&longest);
    assert_eq!(peer.hear(), Heard::Text(longest.clone()));
    peer.say(&format!("{longest}x"));
    assert!(matches!(peer.hear(), Heard::Close(Some(1009), _)));
    let mut peer = calm().open_websocket();
    peer.send(&Frame::new(BINARY, vec![0; MESSAGE_BYTES_MAX]));
    assert_eq!(peer.hear(), Heard::Binary(vec![0; MESSAGE_BYTES_MAX]));
    peer.tcp.send(fragments(BINARY, &vec![0; MESSAGE_BYTES_MAX + 1], 50_000));
    assert!(matches!(peer.hear(), Heard::Close(Some(1009), _)));
}

#[test]
fn packets_that_are_none_close_the_connection() {
    // Only the server may send pings, and only a socket that is not in use may send a probe.
    for packet in ["abc", "", "7", "9", "2", "2probe"] {
        let mut peer = calm().open_websocket();
        peer.say(packet);
        assert_closes(&mut peer, packet);
    }
}

#[test]
fn stray_pongs_and_noops_are_ignored() {
    let mut peer = calm().open_websocket();
    for packet in ["3", "6", "3probe"] {
        peer.say(packet);
    }
    peer.say("4still here");
    assert_eq!(peer.hear(), Heard::Text("4still here".into()));
}

#[test]
fn a_client_closes_its_session() {
    let mut peer = calm().open_websocket();
    peer.say("1");
    assert_closes(&mut peer, "packet `1`");
}

#[test]
fn a_closing_handshake_is_answered() {
    let mut peer = calm().open_websocket();
    peer.send(&Frame::close(1000, "bye"));
    assert!(matches!(peer.hear(), Heard::Close(Some(1000), _)));
}
