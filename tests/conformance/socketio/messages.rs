//! Events and acknowledgements, with and without binary.

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine};

use super::{assert_echoes, calm, connect, connected, heard};
use crate::frames::{BINARY, Frame, Heard, Peer, fragments};

/// Packets to send and packets to expect: each one text packet and the same attachments.
struct Exchange {
    sent: &'static str,
    back: &'static str,
    attachments: &'static [&'static [u8]],
}

const fn plain(sent: &'static str, back: &'static str) -> Exchange {
    Exchange { sent, back, attachments: &[] }
}

const EXCHANGES: [Exchange; 14] = [
    plain(r#"42["message",1,"2",{"3":[true]}]"#, r#"42["message-back",1,"2",{"3":[true]}]"#),
    plain(r#"42["message"]"#, r#"42["message-back"]"#),
    plain(r#"42["message",null,[],{},""]"#, r#"42["message-back",null,[],{},""]"#),
    plain(r#"42["message","µ日本🎺"]"#, r#"42["message-back","µ日本🎺"]"#),
    plain(r#"42["message","[\"\\\n,1-"]"#, r#"42["message-back","[\"\\\n,1-"]"#),
    plain(r#"42/custom,["message",1]"#, r#"42/custom,["message-back",1]"#),
    plain(r#"420["message-with-ack"]"#, "430[]"),
    plain(r#"42456["message-with-ack",1,"2",{"3":[false]}]"#, r#"43456[1,"2",{"3":[false]}]"#),
    plain(r#"42/custom,7["message-with-ack","x"]"#, r#"43/custom,7["x"]"#),
    // An event without a listener is not an error.
    plain(r#"42["nobody listens",1]"#, ""),
    Exchange {
        sent: r#"452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        back: r#"452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        attachments: &[&[1, 2, 3], &[4, 5, 6]],
    },
    Exchange {
        sent: r#"452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        back: r#"462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        attachments: &[&[1, 2, 3], &[4, 5, 6]],
    },
    Exchange {
        sent: r#"451-/custom,8["message-with-ack",{"deep":[{"_placeholder":true,"num":0}]}]"#,
        back: r#"461-/custom,8[{"deep":[{"_placeholder":true,"num":0}]}]"#,
        attachments: &[&[]],
    },
    Exchange {
        sent: r#"451-["message",{"_placeholder":true,"num":0},"and text"]"#,
        back: r#"451-["message-back",{"_placeholder":true,"num":0},"and text"]"#,
        attachments: &[&[0xff; 100_000]],
    },
];

fn in_both_namespaces() -> Peer {
    let mut peer = connected();
    connect(&mut peer, "/custom,", "");
    peer
}

#[test]
fn events_come_back_and_acks_are_given() {
    let mut peer = in_both_namespaces();
    for Exchange { sent, back, attachments } in EXCHANGES {
        peer.say(sent);
        for attachment in attachments {
            peer.send(&Frame::new(BINARY, *attachment));
        }
        if !back.is_empty() {
            assert_eq!(peer.hear(), heard(back), "to {sent}");
        }
        for attachment in attachments {
            assert_eq!(peer.hear(), Heard::Binary(attachment.to_vec()), "to {sent}");
        }
    }
}

#[test]
fn events_come_back_over_polling() {
    let session = calm().open_polling();
    session.post_ok("40\x1e40/custom,");
    session.packets_to(4);
    for Exchange { sent, back, attachments } in EXCHANGES {
        let binary: Vec<_> =
            attachments.iter().map(|bytes| format!("b{}", STANDARD.encode(bytes))).collect();
        let with_binary = |packet: &str| [&[packet.to_owned()], binary.as_slice()].concat();
        session.post_ok(&with_binary(sent).join("\x1e"));
        if !back.is_empty() {
            assert_eq!(session.packets_to(1 + binary.len()), with_binary(back), "to {sent}");
        }
    }
}

#[test]
fn ten_attachments_are_accepted_in_their_order() {
    let placeholders: Vec<_> =
        (0..10).rev().map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
    let mut peer = connected();
    peer.say(&format!(r#"4510-["message",{}]"#, placeholders.join(",")));
    for num in 0..10 {
        peer.send(&Frame::new(BINARY, [num; 3]));
    }
    // The echo may number its attachments anew or not, but each placeholder must lead to its bytes.
    let packet = peer.hear().text();
    let json = packet.strip_prefix("4510-").expect("ten attachments come back");
    let event: Vec<serde_json::Value> = serde_json::from_str(json).expect("an array");
    let attachments: Vec<_> = (0..10).map(|_| peer.hear()).collect();
    for (at, placeholder) in event[1..].iter().enumerate() {
        let num = placeholder["num"].as_u64().expect("a number") as usize;
        assert_eq!(attachments[num], Heard::Binary(vec![9 - at as u8; 3]), "argument {at}");
    }
}

#[test]
fn attachments_may_come_in_fragments() {
    let mut peer = connected();
    peer.say(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    peer.tcp.send(fragments(BINARY, &[1, 2, 3, 4, 5], 2));
    assert_eq!(peer.hear(), heard(r#"451-["message-back",{"_placeholder":true,"num":0}]"#));
    assert_eq!(peer.hear(), Heard::Binary(vec![1, 2, 3, 4, 5]));
}

#[test]
fn events_keep_their_order() {
    let mut peer = in_both_namespaces();
    for at in 0..200 {
        let namespace = if at % 3 == 0 { "/custom," } else { "" };
        peer.say(&format!(r#"42{namespace}["message",{at}]"#));
    }
    for at in 0..200 {
        let namespace = if at % 3 == 0 { "/custom," } else { "" };
        assert_eq!(peer.hear(), heard(&format!(r#"42{namespace}["message-back",{at}]"#)));
    }
}

#[test]
fn acks_that_nobody_waits_for_are_ignored() {
    let mut peer = connected();
    peer.say(r#"43999["late"]"#);
    assert_echoes(&mut peer, "still here");
}
