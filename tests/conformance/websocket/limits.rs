//! Case 9: large messages, many fragments, small writes, many messages.

use super::{Case, ECHO, End, Step, message, play};
use crate::frames::{BINARY, CONTINUATION, Frame, Heard, Peer, TEXT, fragments};
use crate::node;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Longest message that the echo accepts.
const MESSAGE_BYTES_MAX: usize = 16 * MIB;

const KINDS: [u8; 2] = [TEXT, BINARY];

/// Returns cases with the same sizes, for text under the number `first` and for binary under the
/// next.
fn for_both(first: u8, sizes: &[usize], case: impl Fn(String, u8, usize) -> Case) {
    play((first..).zip(KINDS).flat_map(|(number, opcode)| {
        let case = &case;
        sizes
            .iter()
            .enumerate()
            .map(move |(at, &size)| case(format!("9.{number}.{}", at + 1), opcode, size))
    }));
}

#[test]
fn case_9_1_and_9_2_messages_to_16_mib() {
    let sizes = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, MESSAGE_BYTES_MAX];
    for_both(1, &sizes, |id, opcode, size| {
        let (payload, echo) = message(opcode, size);
        Case::echo(id, Frame::new(opcode, payload).bytes(), vec![echo])
    });
}

#[test]
fn case_9_3_and_9_4_4_mib_in_fragments() {
    let sizes = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
    for_both(3, &sizes, |id, opcode, size| {
        let (payload, echo) = message(opcode, 4 * MIB);
        Case::echo(id, fragments(opcode, &payload, size), vec![echo])
    });
}

#[test]
fn case_9_5_and_9_6_1_mib_in_small_writes() {
    for_both(5, &[64, 128, 256, 512, KIB, 2 * KIB], |id, opcode, size| {
        let (payload, echo) = message(opcode, MIB);
        Case::echo(id, Frame::new(opcode, payload).bytes(), vec![echo]).chopped(size)
    });
}

#[test]
fn case_9_7_and_9_8_a_thousand_round_trips() {
    for (number, opcode) in [(7, TEXT), (8, BINARY)] {
        for (at, size) in [0, 16, 64, 256, KIB, 4 * KIB].into_iter().enumerate() {
            let (payload, echo) = message(opcode, size);
            let frame = Frame::new(opcode, payload);
            let mut peer = Peer::open(node::brisk(), ECHO);
            for round in 0..1000 {
                assert!(peer.send(&frame), "9.{number}.{} closed in round {round}", at + 1);
                assert_eq!(peer.hear(), echo, "9.{number}.{} in round {round}", at + 1);
            }
            peer.send(&Frame::close(1000, ""));
            assert_eq!(peer.hear(), Heard::Close(Some(1000), String::new()));
        }
    }
}

#[test]
fn a_thousand_messages_at_once_come_back_in_order() {
    let messages: Vec<_> = (0..1000).map(|at| format!("message {at}")).collect();
    let sent = messages.iter().flat_map(|text| Frame::new(TEXT, text.as_str()).bytes()).collect();
    play([Case::echo("1000", sent, messages.into_iter().map(Heard::Text).collect())]);
}

#[test]
fn messages_beyond_16_mib_are_refused_with_1009() {
    // The header alone breaks the limit, so the payload is not sent.
    let announced = Frame::new(BINARY, []).header(MESSAGE_BYTES_MAX as u64 + 1);
    let absurd = Frame::new(TEXT, []).header(u64::MAX >> 1);
    // Each fragment is within the limit; together they exceed it by one octet.
    let first = Frame::new(BINARY, vec![7; 10 * MIB]).unfinished().bytes();
    let second = Frame::new(CONTINUATION, []).header(6 * MIB as u64 + 1);
    play([
        Case::fails("announced", announced, vec![], 1009),
        Case::fails("absurd", absurd, vec![], 1009),
        Case::new("in fragments", vec![Step::Send(first), Step::Send(second)], End::Fails(1009)),
    ]);
}

#[test]
fn a_length_with_its_top_bit_set_is_refused() {
    // RFC 6455 section 5.2 requires the highest bit to be 0; "too long" is also a correct reason.
    let sent = Frame::new(TEXT, []).header(u64::MAX);
    play([Case::new("top bit", vec![Step::Send(sent)], End::Closed(&[1002, 1009]))]);
}
