//! Cases 1 to 5 and 10: frames, pings and pongs, reserved bits and opcodes, fragments.

use std::time::Duration;

use super::{Case, End, Step, message, play, text};
use crate::frames::{BINARY, CLOSE, CONTINUATION, Frame, Heard, PING, PONG, TEXT, fragments};

const HELLO: &str = "Hello, world!";

fn hello() -> Heard {
    Heard::Text(HELLO.into())
}

fn heard(text: &str) -> Heard {
    Heard::Text(text.into())
}

fn pong(payload: &[u8]) -> Heard {
    Heard::Pong(payload.to_vec())
}

fn ping() -> Vec<u8> {
    Frame::new(PING, "").bytes()
}

/// Returns an unfinished frame that begins or continues a text message.
fn part(opcode: u8, payload: &str) -> Vec<u8> {
    Frame::new(opcode, payload).unfinished().bytes()
}

fn last(payload: &str) -> Vec<u8> {
    Frame::new(CONTINUATION, payload).bytes()
}

#[test]
fn case_1_text_and_binary_of_every_length_form() {
    let lengths = [0, 125, 126, 127, 128, 65_535, 65_536];
    let kinds = [(1, TEXT), (2, BINARY)];
    let whole = kinds.into_iter().flat_map(|(kind, opcode)| {
        lengths.into_iter().enumerate().map(move |(at, length)| {
            let (payload, echo) = message(opcode, length);
            let sent = Frame::new(opcode, payload).bytes();
            Case::echo(format!("1.{kind}.{}", at + 1), sent, vec![echo])
        })
    });
    let chopped = kinds.into_iter().map(|(kind, opcode)| {
        let (payload, echo) = message(opcode, 65_536);
        let sent = Frame::new(opcode, payload).bytes();
        Case::echo(format!("1.{kind}.8"), sent, vec![echo]).chopped(997)
    });
    play(whole.chain(chopped));
}

#[test]
fn case_2_pings_are_answered_and_pongs_are_not() {
    let odd = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let long = [0xfe; 125];
    let answered =
        |id, payload: &[u8]| Case::echo(id, Frame::new(PING, payload).bytes(), vec![pong(payload)]);
    let unasked = |payload: &str| Frame::new(PONG, payload).bytes();
    let ten: Vec<_> = (0..10).map(|at| format!("payload-{at}").into_bytes()).collect();
    let ten_pings: Vec<_> =
        ten.iter().flat_map(|payload| Frame::new(PING, payload.as_slice()).bytes()).collect();
    let ten_pongs: Vec<_> = ten.into_iter().map(Heard::Pong).collect();
    let ping_of = |payload: &[u8]| Frame::new(PING, payload).bytes();
    play([
        answered("2.1", b""),
        answered("2.2", HELLO.as_bytes()),
        answered("2.3", odd),
        answered("2.4", &long),
        Case::fails("2.5", Frame::new(PING, [0xfe; 126]).bytes(), vec![], 1002),
        answered("2.6", &long).octetwise(),
        Case::echo("2.7", unasked(""), vec![]),
        Case::echo("2.8", unasked("nobody asked"), vec![]),
        Case::echo(
            "2.9",
            [unasked("nobody asked"), ping_of(b"I ask")].concat(),
            vec![pong(b"I ask")],
        ),
        Case::echo("2.10", ten_pings.clone(), ten_pongs.clone()),
        Case::echo("2.11", ten_pings, ten_pongs).octetwise(),
    ]);
}

#[test]
fn case_3_reserved_bits_fail_the_connection() {
    // A good message, then one with reserved bits, then a ping that must not be answered.
    let after_good = |rsv| [text(HELLO), Frame::new(TEXT, HELLO).rsv(rsv).bytes(), ping()];
    let framewise = after_good(3).map(Step::Send);
    let mut steps = Vec::from(framewise);
    steps.insert(1, Step::Hear(hello()));
    play([
        Case::fails("3.1", Frame::new(TEXT, HELLO).rsv(1).bytes(), vec![], 1002),
        Case::fails("3.2", after_good(2).concat(), vec![hello()], 1002),
        Case::new("3.3", steps, End::Fails(1002)),
        Case::fails("3.4", after_good(4).concat(), vec![hello()], 1002).octetwise(),
        Case::fails("3.5", Frame::new(BINARY, [0, 255, 254]).rsv(5).bytes(), vec![], 1002),
        Case::fails("3.6", Frame::new(PING, HELLO).rsv(6).bytes(), vec![], 1002),
        Case::fails("3.7", Frame::new(CLOSE, "").rsv(7).bytes(), vec![], 1002),
    ]);
}

#[test]
fn case_4_reserved_opcodes_fail_the_connection() {
    let kinds = [(1, [3, 4, 5, 6, 7]), (2, [11, 12, 13, 14, 15])];
    play(kinds.into_iter().flat_map(|(kind, opcodes)| {
        opcodes.into_iter().enumerate().map(move |(at, opcode)| {
            let id = format!("4.{kind}.{}", at + 1);
            let bare = |payload: &str| Frame::new(opcode, payload).bytes();
            let after_good = |payload| [text(HELLO), bare(payload), ping()].concat();
            match at {
                0 => Case::fails(id, bare(""), vec![], 1002),
                1 => Case::fails(id, bare("reserved"), vec![], 1002),
                2 => Case::fails(id, after_good(""), vec![hello()], 1002),
                3 => Case::fails(id, after_good("reserved"), vec![hello()], 1002),
                _ => Case::fails(id, after_good("reserved"), vec![hello()], 1002).octetwise(),
            }
        })
    }));
}

#[test]
fn case_5_control_frames_are_whole_and_fragments_join() {
    let split = |opcode| [part(opcode, "one "), last("two")].concat();
    let two = [part(TEXT, "one "), last("two")];
    let joined = || vec![heard("one two")];
    let between = [part(TEXT, "one "), Frame::new(PING, "mid").bytes(), last("two")];
    let ponged = || vec![pong(b"mid"), heard("one two")];
    let framewise = |id, frames: &[Vec<u8>], heard: Vec<Heard>| {
        let sent = frames.iter().cloned().map(Step::Send);
        let heard = heard.into_iter().map(Step::Hear);
        Case::new(id, sent.chain(heard).collect(), End::Clean)
    };
    play([
        Case::fails("5.1", split(PING), vec![], 1002),
        Case::fails("5.2", split(PONG), vec![], 1002),
        Case::echo("5.3", two.concat(), joined()),
        framewise("5.4", &two, joined()),
        Case::echo("5.5", two.concat(), joined()).octetwise(),
        Case::echo("5.6", between.concat(), ponged()),
        framewise("5.7", &between, ponged()),
        Case::echo("5.8", between.concat(), ponged()).octetwise(),
    ]);
}

#[test]
fn case_5_continuations_of_nothing_fail_the_connection() {
    // A continuation, final or not, without a message before it, and then a good message.
    let ended = [last("nothing before"), text(HELLO)];
    let open = [part(CONTINUATION, "nothing before"), text(HELLO)];
    let in_frames = |id, frames: &[Vec<u8>]| {
        Case::new(id, frames.iter().cloned().map(Step::Send).collect(), End::Fails(1002))
    };
    let good = [part(TEXT, "one "), last("two")].concat();
    let after_good = [good.clone(), part(CONTINUATION, "three"), text("four")].concat();
    let twice = |stray: Vec<u8>| [stray, good.clone()].concat().repeat(2);
    play([
        Case::fails("5.9", ended.concat(), vec![], 1002),
        in_frames("5.10", &ended),
        Case::fails("5.11", ended.concat(), vec![], 1002).octetwise(),
        Case::fails("5.12", open.concat(), vec![], 1002),
        in_frames("5.13", &open),
        Case::fails("5.14", open.concat(), vec![], 1002).octetwise(),
        Case::fails("5.15", after_good, vec![heard("one two")], 1002),
        Case::fails("5.16", twice(part(CONTINUATION, "stray")), vec![], 1002),
        Case::fails("5.17", twice(last("stray")), vec![], 1002),
        Case::fails("5.18", [part(TEXT, "one "), text("two")].concat(), vec![], 1002),
    ]);
}

#[test]
fn case_5_pings_are_answered_before_the_message_ends() {
    let first = [part(TEXT, "1"), part(CONTINUATION, "2"), Frame::new(PING, "early").bytes()];
    let second = [
        part(CONTINUATION, "3"),
        part(CONTINUATION, "4"),
        Frame::new(PING, "late").bytes(),
        last("5"),
    ];
    let finish = [pong(b"late"), heard("12345")].map(Step::Hear);
    let pause = Step::Quiet(Duration::from_millis(100));
    let together = [Step::Send(first.concat()), Step::Hear(pong(b"early")), pause];
    let together = together.into_iter().chain([Step::Send(second.concat())]).chain(finish);
    let finish = [pong(b"late"), heard("12345")].map(Step::Hear);
    let framewise = first.map(Step::Send).into_iter().chain([Step::Hear(pong(b"early"))]);
    let framewise = framewise.chain(second.map(Step::Send)).chain(finish);
    play([
        Case::new("5.19", together.collect(), End::Clean),
        Case::new("5.20", framewise.collect(), End::Clean),
    ]);
}

#[test]
fn case_10_a_message_in_fragments_of_1300() {
    let (payload, echo) = message(TEXT, 65_536);
    play([Case::echo("10.1.1", fragments(TEXT, &payload, 1300), vec![echo])]);
}

#[test]
fn unmasked_frames_fail_the_connection() {
    let unmasked = |opcode| Frame::new(opcode, HELLO).unmasked().bytes();
    play([
        Case::fails("unmasked text", unmasked(TEXT), vec![], 1002),
        Case::fails("unmasked ping", unmasked(PING), vec![], 1002),
        Case::fails("unmasked second", [text(HELLO), unmasked(TEXT)].concat(), vec![hello()], 1002),
    ]);
}
