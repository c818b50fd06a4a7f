//! Cases 12 and 13: messages compressed by permessage-deflate (RFC 7692), and its negotiation.
//!
//! Autobahn sends each size a thousand times; these tests send each at least twice and up to
//! [`BYTES_EACH`], and the sizes, fragments, kinds of content and offers are Autobahn's. The node
//! promises no window smaller than 15 bits, so that it declines such an offer.

use flate2::{Compress, Compression, FlushCompress};

use super::{ECHO, GOODBYE, letters, octets};
use crate::frames::{BINARY, CONTINUATION, Frame, Heard, PING, Peer, TEXT, fragments_with};
use crate::node;

const DEFLATE: &str = "permessage-deflate";
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// RSV1 as [`Frame::rsv`] takes it.
const DEFLATED: u8 = 4;
const KIB: usize = 1024;
/// What the messages of one size have together, roughly, in bytes.
const BYTES_EACH: usize = 128 * KIB;
const ROUNDS_MAX: usize = 50;
/// Longest message that the echo accepts.
const MESSAGE_BYTES_MAX: usize = 16 * KIB * KIB;

/// The lengths of messages, and those of their fragments; 0 for one frame.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (KIB, 0),
    (4 * KIB, 0),
    (8 * KIB, 0),
    (16 * KIB, 0),
    (32 * KIB, 0),
    (64 * KIB, 0),
    (128 * KIB, 0),
    (8 * KIB, 256),
    (16 * KIB, 256),
    (32 * KIB, 256),
    (64 * KIB, 256),
    (128 * KIB, 256),
    (128 * KIB, KIB),
    (128 * KIB, 4 * KIB),
    (128 * KIB, 32 * KIB),
];

/// Returns a payload as a client compresses it.
fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::default(), false);
    let mut bytes = Vec::with_capacity(payload.len() + payload.len() / 1_000 + 64);
    compress.compress_vec(payload, &mut bytes, FlushCompress::Sync).expect("it compresses");
    let end = bytes.strip_suffix(&[0x00, 0x00, 0xff, 0xff]).expect("a flush ends so").len();
    bytes.truncate(end);
    bytes
}

/// Contents like Autobahn's: JSON, a bitmap, prose, a page, and a document that is compressed
/// already.
fn content(number: usize) -> (u8, Vec<u8>) {
    let of_lines = |line: &dyn Fn(usize) -> String| (0..6_000).map(line).collect::<String>();
    match number {
        1 => (
            TEXT,
            of_lines(&|at| format!("{{\"id\":{at},\"name\":\"n{}\",\"ok\":true}},", at * at))
                .into(),
        ),
        2 => (BINARY, (0..256 * KIB).map(|at| if at / 64 % 5 == 0 { 0xff } else { 0 }).collect()),
        3 => (
            TEXT,
            of_lines(&|at| {
                format!("Habe nun, ach! {} Philosophie, Juristerei {at}\n", letters(at % 40))
            })
            .into(),
        ),
        4 => (
            TEXT,
            of_lines(&|at| {
                format!("<li class=\"row\"><a href=\"/{at}\">{}</a></li>\n", letters(at % 30))
            })
            .into(),
        ),
        _ => {
            (BINARY, deflate(&octets(2 * KIB * KIB)).into_iter().chain(octets(256 * KIB)).collect())
        }
    }
}

fn agree(offers: &[&str]) -> (Peer, Option<String>) {
    let opened = Peer::offer(node::deflating(), ECHO, offers);
    opened.unwrap_or_else(|refusal| panic!("{offers:?}: {} {}", refusal.status, refusal.text()))
}

fn open() -> Peer {
    let (peer, extension) = agree(&[DEFLATE]);
    assert_eq!(extension.as_deref(), Some(AGREED));
    peer
}

fn heard(opcode: u8, payload: &[u8]) -> Heard {
    match opcode {
        TEXT => Heard::Text(String::from_utf8(payload.to_vec()).expect("the content is text")),
        _ => Heard::Binary(payload.to_vec()),
    }
}

/// Sends parts of a content of one size, and hears each. Returns how many echoes were compressed.
fn echo(id: &str, peer: &mut Peer, (opcode, content): (u8, &[u8]), size: (usize, usize)) -> usize {
    let (length, fragment) = size;
    let before = peer.deflated;
    let rounds = (BYTES_EACH / length).clamp(2, ROUNDS_MAX);
    for round in 0..rounds {
        let start = (round * length) % (content.len() - length);
        let part = &content[start..start + length];
        let (rsv, payload) =
            if peer.deflates() { (DEFLATED, deflate(part)) } else { (0, part.to_vec()) };
        let size = if fragment == 0 { payload.len().max(1) } else { fragment };
        assert!(peer.tcp.send(fragments_with(rsv, opcode, &payload, size)), "{id}: closed");
        assert_eq!(peer.hear(), heard(opcode, part), "{id} in round {round}");
    }
    let deflated = peer.deflated - before;
    assert!(deflated <= rounds);
    deflated
}

fn close(id: &str, mut peer: Peer) {
    peer.send(&Frame::close(1000, ""));
    assert_eq!(peer.hear(), Heard::Close(Some(1000), String::new()), "{id}");
    assert!(peer.tcp.ends_within(GOODBYE), "{id}: TCP was not ended");
}

/// Checks that the node fails the connection with this code.
fn fails(what: &str, sent: &[u8], code: u16) {
    let mut peer = open();
    peer.tcp.send(sent);
    match peer.hear() {
        Heard::Close(Some(heard), _) => assert_eq!(heard, code, "{what}"),
        other => panic!("{what}: close code {code} expected, heard {other:?}"),
    }
}

fn case_12(number: usize) {
    let (opcode, content) = content(number);
    for (size, sub) in SIZES.into_iter().zip(1..) {
        let (id, mut peer) = (format!("12.{number}.{sub}"), open());
        let deflated = echo(&id, &mut peer, (opcode, &content), size);
        assert!(deflated > 0 || number == 5 || size.0 <= 64, "{id}: no echo is compressed");
        close(&id, peer);
    }
}

#[test]
fn case_12_1_json() {
    case_12(1);
}

#[test]
fn case_12_2_a_bitmap() {
    case_12(2);
}

#[test]
fn case_12_3_prose() {
    case_12(3);
}

#[test]
fn case_12_4_a_page() {
    case_12(4);
}

#[test]
fn case_12_5_what_is_compressed_already() {
    case_12(5);
}

#[test]
fn case_13_offers() {
    let (takeover, small, full) = (
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=15",
    );
    let (both_small, both_full) = (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    );
    let list = format!("{both_small}, {takeover}, {DEFLATE}");
    let with_window = format!("{AGREED}; server_max_window_bits=15");
    let cases = [
        (DEFLATE, Some(AGREED)),
        (takeover, Some(AGREED)),
        (small, None),
        (full, Some(&*with_window)),
        (both_small, None),
        (both_full, Some(&*with_window)),
        (&*list, Some(AGREED)),
    ];
    let (opcode, content) = content(1);
    for ((offer, answer), number) in cases.into_iter().zip(1..) {
        for (size, sub) in SIZES.into_iter().zip(1..) {
            let (id, (mut peer, agreed)) = (format!("13.{number}.{sub}"), agree(&[offer]));
            assert_eq!(agreed.as_deref(), answer, "{id}");
            let deflated = echo(&id, &mut peer, (opcode, &content), size);
            assert!(answer.is_some() || deflated == 0, "{id}");
            close(&id, peer);
        }
    }
}

#[test]
fn a_malformed_header_is_refused_and_an_offer_that_cannot_be_met_declined() {
    for offers in [&["permessage-deflate;"][..], &[DEFLATE, "a; =b"], &["permessage-deflate x"]] {
        let refusal = Peer::offer(node::deflating(), ECHO, offers).err();
        assert_eq!(refusal.map(|refusal| refusal.status), Some(400), "{offers:?}");
    }
    for offer in [
        "permessage-deflate; unknown",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=16",
        "x-webkit-deflate-frame",
    ] {
        let (mut peer, agreed) = agree(&[offer]);
        assert_eq!(agreed, None, "{offer}");
        peer.say("plain");
        assert_eq!(peer.hear(), Heard::Text("plain".into()));
        assert_eq!(peer.deflated, 0);
        close(offer, peer);
    }
    // Without the setting, no offer is read.
    for offer in [DEFLATE, "permessage-deflate;"] {
        let opened = Peer::offer(node::brisk(), ECHO, &[offer]);
        assert_eq!(opened.ok().map(|(_, agreed)| agreed), Some(None), "{offer}");
    }
}

#[test]
fn plain_and_compressed_messages_and_control_frames_mix() {
    let mut peer = open();
    let (long, hello) = (letters(5_000), deflate(b"Hello"));
    let deflated = deflate(long.as_bytes());
    let (first, rest) = deflated.split_at(deflated.len() / 2);
    let sent = [
        Frame::new(TEXT, hello.clone()).rsv(DEFLATED).bytes(),
        Frame::new(TEXT, "plain").bytes(),
        Frame::new(TEXT, first).rsv(DEFLATED).unfinished().bytes(),
        Frame::new(PING, "between").bytes(),
        Frame::new(CONTINUATION, []).unfinished().bytes(),
        Frame::new(CONTINUATION, rest).bytes(),
        Frame::new(BINARY, [0x00]).rsv(DEFLATED).bytes(),
    ];
    let expected = [
        Heard::Text("Hello".into()),
        Heard::Text("plain".into()),
        Heard::Pong(b"between".to_vec()),
        Heard::Text(long),
        Heard::Binary(vec![]),
    ];
    for chop in [usize::MAX, 1] {
        peer.tcp.send_chopped(&sent.concat(), chop.min(sent.concat().len()));
        for heard in &expected {
            assert_eq!(peer.hear(), *heard);
        }
    }
    close("mixed", peer);
}

#[test]
fn the_bit_is_refused_where_it_does_not_belong() {
    let hello = deflate(b"Hello");
    let begun = Frame::new(TEXT, &hello[..2]).rsv(DEFLATED).unfinished().bytes();
    let again = Frame::new(CONTINUATION, &hello[2..]).rsv(DEFLATED).bytes();
    fails("a continuation", &[begun, again].concat(), 1002);
    fails("a ping", &Frame::new(PING, "").rsv(DEFLATED).bytes(), 1002);
    fails("another bit", &Frame::new(TEXT, hello.clone()).rsv(DEFLATED | 1).bytes(), 1002);
    fails("not DEFLATE", &Frame::new(TEXT, [0x06, 0xff]).rsv(DEFLATED).bytes(), 1007);
    fails("not UTF-8", &Frame::new(TEXT, deflate(b"a\xff")).rsv(DEFLATED).bytes(), 1007);
}

#[test]
fn a_bomb_is_refused_with_1009() {
    let bomb = deflate(&vec![b'0'; MESSAGE_BYTES_MAX + 1]);
    assert!(bomb.len() < 20 * KIB, "{}", bomb.len());
    fails("in one frame", &Frame::new(TEXT, bomb.clone()).rsv(DEFLATED).bytes(), 1009);
    fails("in fragments", &fragments_with(DEFLATED, BINARY, &bomb, 100), 1009);
    let mut peer = open();
    let most = vec![b'0'; MESSAGE_BYTES_MAX];
    peer.send(&Frame::new(TEXT, deflate(&most)).rsv(DEFLATED));
    assert_eq!(peer.hear(), heard(TEXT, &most));
    close("the longest message", peer);
}
