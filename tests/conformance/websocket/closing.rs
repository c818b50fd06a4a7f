//! Case 7: closing a connection, correctly and incorrectly.

use super::{Case, End, Step, letters, play, text};
use crate::frames::{CLOSE, CONTINUATION, Frame, Heard, PING, TEXT};

const NORMAL: &[u16] = &[1000];
const PROTOCOL_ERROR: &[u16] = &[1002];

fn closed(id: impl Into<String>, sent: Vec<u8>, codes: &'static [u16]) -> Case {
    Case::new(id, vec![Step::Send(sent)], End::Closed(codes))
}

fn normal() -> Vec<u8> {
    Frame::close(1000, "").bytes()
}

#[test]
fn case_7_1_nothing_counts_after_a_close() {
    let ping = || Frame::new(PING, "").bytes();
    let part = Frame::new(TEXT, "one ").unfinished().bytes();
    let rest = Frame::new(CONTINUATION, "two").bytes();
    let long = letters(256 * 1024);
    let back_to_back = [text(&long), text("Hello"), normal(), ping()].concat();
    play([
        Case::echo("7.1.1", text("Hello"), vec![Heard::Text("Hello".into())]),
        closed("7.1.2", [normal(), Frame::new(CLOSE, "").bytes()].concat(), NORMAL),
        closed("7.1.3", [normal(), ping()].concat(), NORMAL),
        closed("7.1.4", [normal(), text("Hello")].concat(), NORMAL),
        closed("7.1.5", [part, normal(), rest].concat(), NORMAL),
        // The RFC does not say whether outstanding echoes are sent before the close.
        Case::new(
            "7.1.6",
            vec![
                Step::Send(back_to_back),
                Step::MayHear(Heard::Text(long)),
                Step::MayHear(Heard::Text("Hello".into())),
            ],
            End::Closed(NORMAL),
        ),
    ]);
}

#[test]
fn case_7_3_payload_lengths_of_a_close() {
    let with_reason = |length| Frame::close(1000, "*".repeat(length)).bytes();
    play([
        closed("7.3.1", Frame::new(CLOSE, "").bytes(), &[1000, 1005]),
        closed("7.3.2", Frame::new(CLOSE, "a").bytes(), PROTOCOL_ERROR),
        closed("7.3.3", normal(), NORMAL),
        closed("7.3.4", Frame::close(1000, "Hello World!").bytes(), NORMAL),
        closed("7.3.5", with_reason(123), NORMAL),
        closed("7.3.6", with_reason(124), PROTOCOL_ERROR),
    ]);
}

#[test]
fn case_7_5_a_reason_is_utf8() {
    let reason = [COSMOS_AND_SURROGATE, b"edited"].concat();
    play([closed("7.5.1", Frame::close(1000, reason).bytes(), &[1002, 1007])]);
}

const COSMOS_AND_SURROGATE: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80";

#[test]
fn case_7_7_valid_codes_are_answered() {
    const CODES: [&[u16]; 13] = [
        &[1000],
        &[1000, 1001],
        &[1000, 1002],
        &[1000, 1003],
        &[1000, 1007],
        &[1000, 1008],
        &[1000, 1009],
        &[1000, 1010],
        &[1000, 1011],
        &[1000, 3000],
        &[1000, 3999],
        &[1000, 4000],
        &[1000, 4999],
    ];
    play(CODES.into_iter().enumerate().map(|(at, codes)| {
        let sent = codes[codes.len() - 1];
        closed(format!("7.7.{}", at + 1), Frame::close(sent, "").bytes(), codes)
    }));
}

#[test]
fn case_7_9_codes_that_nobody_may_send_are_refused() {
    let codes = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    play(codes.into_iter().enumerate().map(|(at, code)| {
        closed(format!("7.9.{}", at + 1), Frame::close(code, "").bytes(), PROTOCOL_ERROR)
    }));
}

#[test]
fn case_7_13_codes_beyond_the_defined_are_refused_or_answered() {
    play([
        closed("7.13.1", Frame::close(5000, "").bytes(), &[1000, 1002, 5000]),
        closed("7.13.2", Frame::close(65_535, "").bytes(), &[1000, 1002, 65_535]),
    ]);
}
