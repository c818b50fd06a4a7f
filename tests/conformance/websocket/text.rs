//! Case 6: text must be UTF-8, however it is split.
//!
//! The tables follow the definition (RFC 3629): boundaries of each length, code points that do not
//! exist, and octets that are never valid.

use std::time::Duration;

use super::{Case, End, Step, play};
use crate::frames::{CONTINUATION, Frame, Heard, TEXT, fragments};

/// Greek for "cosmos", with code points of two and three octets.
const COSMOS: &str = "κόσμε";
const MIXED: &str = "Grüße-µ@ßöäüàá-日本-🎺!!";

/// Valid text, a surrogate, which is invalid from its second octet on, and valid text again.
const SURROGATE: [&[u8]; 3] = [COSMOS.as_bytes(), b"\xed\xa0\x80", b"edited"];
/// The same with U+110000, beyond the last code point, also invalid from its second octet on.
const BEYOND: [&[u8]; 3] = [COSMOS.as_bytes(), b"\xf4\x90\x80\x80", b"edited"];

const PAUSE: Duration = Duration::from_millis(150);

fn valid(id: impl Into<String>, sent: Vec<u8>, text: &str) -> Case {
    Case::echo(id, sent, vec![Heard::Text(text.into())])
}

#[test]
fn case_6_1_empty_fragments() {
    let in_three = |parts: [&str; 3]| {
        let frame = |opcode, text| Frame::new(opcode, text).unfinished().bytes();
        let last = Frame::new(CONTINUATION, parts[2]).bytes();
        [frame(TEXT, parts[0]), frame(CONTINUATION, parts[1]), last].concat()
    };
    play([
        valid("6.1.1", Frame::new(TEXT, "").bytes(), ""),
        valid("6.1.2", in_three(["", "", ""]), ""),
        valid("6.1.3", in_three(["", "middle", ""]), "middle"),
    ]);
}

#[test]
fn case_6_2_valid_text_cut_anywhere() {
    let (head, tail) = MIXED.split_at(MIXED.find('ö').expect("the letter is there"));
    let at_letter = [Frame::new(TEXT, head).unfinished(), Frame::new(CONTINUATION, tail)];
    play([
        valid("6.2.1", Frame::new(TEXT, MIXED).bytes(), MIXED),
        valid("6.2.2", at_letter.map(|frame| frame.bytes()).concat(), MIXED),
        valid("6.2.3", fragments(TEXT, MIXED.as_bytes(), 1), MIXED),
        valid("6.2.4", fragments(TEXT, COSMOS.as_bytes(), 1), COSMOS),
    ]);
}

#[test]
fn case_6_3_invalid_text_cut_anywhere() {
    let payload = SURROGATE.concat();
    play([
        Case::fails("6.3.1", Frame::new(TEXT, payload.clone()).bytes(), vec![], 1007),
        Case::fails("6.3.2", fragments(TEXT, &payload, 1), vec![], 1007),
    ]);
}

#[test]
fn case_6_4_invalid_text_in_three_parts() {
    let payload = BEYOND.concat();
    let at_sequence = [BEYOND[0], BEYOND[1], BEYOND[2]];
    // Splits between an octet that may begin a character and the one that makes it invalid.
    let split = COSMOS.len() + 1;
    let at_octet = [&payload[..split], &payload[split..=split], &payload[split + 1..]];
    let frames = |[first, second, third]: [&[u8]; 3]| {
        [
            Frame::new(TEXT, first).unfinished().bytes(),
            Frame::new(CONTINUATION, second).unfinished().bytes(),
            Frame::new(CONTINUATION, third).bytes(),
        ]
    };
    // The same octets as parts of one frame, each in its own write.
    let chops = |[first, second, _]: [&[u8]; 3]| {
        let bytes = Frame::new(TEXT, payload.clone()).bytes();
        let header = bytes.len() - payload.len();
        let (one, two) = (header + first.len(), header + first.len() + second.len());
        [bytes[..one].to_vec(), bytes[one..two].to_vec(), bytes[two..].to_vec()]
    };
    // The node may fail the connection at the second part or at the third, but not at the first.
    let case = |id, [first, second, third]: [Vec<u8>; 3]| {
        let steps = vec![
            Step::Send(first),
            Step::Quiet(PAUSE),
            Step::Send(second),
            Step::Wait(PAUSE),
            Step::Send(third),
        ];
        Case::new(id, steps, End::Fails(1007))
    };
    play([
        case("6.4.1", frames(at_sequence)),
        case("6.4.2", frames(at_octet)),
        case("6.4.3", chops(at_sequence)),
        case("6.4.4", chops(at_octet)),
    ]);
}

#[test]
fn case_6_5_to_6_23_every_table_of_octets() {
    let tables = tables();
    play(tables.into_iter().flat_map(|(number, rows)| {
        rows.into_iter().enumerate().map(move |(at, octets)| {
            let id = format!("6.{number}.{}", at + 1);
            let sent = Frame::new(TEXT, octets.clone()).bytes();
            match (String::from_utf8(octets), VALID.contains(&number)) {
                (Ok(text), _) => Case::echo(id, sent, vec![Heard::Text(text)]),
                (Err(_), false) => Case::fails(id, sent, vec![], 1007),
                (Err(error), true) => panic!("{id} is valid by definition: {error}"),
            }
        })
    }));
}

/// Tables in which all rows are valid. For the others, std's decoder decides row by row.
const VALID: [u8; 5] = [5, 7, 9, 22, 23];

/// Returns the tables with their case numbers.
fn tables() -> Vec<(u8, Vec<Vec<u8>>)> {
    let around = ["\u{24}", "\u{a2}", "\u{20ac}", "\u{24b62}"];
    let mut some: Vec<_> = around.map(|c| format!("hello{c}world").into_bytes()).to_vec();
    some.push(COSMOS.into());
    let prefixes = (1..=COSMOS.len()).map(|end| COSMOS.as_bytes()[..end].to_vec()).collect();
    let first = ['\0', '\u{80}', '\u{800}', '\u{10000}'];
    let last = ['\u{7f}', '\u{7ff}', '\u{ffff}', '\u{10ffff}'];
    let truncated: Vec<_> = [
        sequence(2, 0),
        sequence(3, 0),
        sequence(4, 0),
        sequence(5, 0),
        sequence(6, 0),
        sequence(2, 0x7ff),
        sequence(3, 0xffff),
        sequence(4, 0x1f_ffff),
        sequence(5, 0x3ff_ffff),
        sequence(6, 0x7fff_ffff),
    ]
    .map(|whole| whole[..whole.len() - 1].to_vec())
    .to_vec();
    let joined = vec![truncated.concat()];
    let impossible = vec![vec![0xfe], vec![0xff], vec![0xfe, 0xfe, 0xff, 0xff]];
    let sequences =
        |list: &[(u32, u32)]| list.iter().map(|&(length, value)| sequence(length, value)).collect();
    vec![
        (5, some),
        (6, prefixes),
        (7, characters(first)),
        (8, sequences(&[(5, 0x20_0000), (6, 0x400_0000)])),
        (9, characters(last)),
        (10, sequences(&[(4, 0x1f_ffff), (5, 0x3ff_ffff), (6, 0x7fff_ffff)])),
        (11, sequences(&[(3, 0xd7ff), (3, 0xe000), (3, 0xfffd), (4, 0x10_ffff), (4, 0x11_0000)])),
        (12, stray_continuations()),
        (13, lonely_starts()),
        (14, truncated),
        (15, joined),
        (16, impossible),
        (17, sequences(&[2, 3, 4, 5, 6].map(|length| (length, 0x2f)))),
        (18, sequences(&[(2, 0x7f), (3, 0x7ff), (4, 0xffff), (5, 0x1f_ffff), (6, 0x3ff_ffff)])),
        (19, sequences(&[2, 3, 4, 5, 6].map(|length| (length, 0)))),
        (20, SURROGATES.map(|value| sequence(3, value)).to_vec()),
        (21, surrogate_pairs()),
        (22, non_characters()),
        (23, characters(['\u{fff9}', '\u{fffa}', '\u{fffb}', '\u{fffc}', '\u{fffd}', '\u{fffe}'])),
    ]
}

const SURROGATES: [u32; 7] = [0xd800, 0xdb7f, 0xdb80, 0xdbff, 0xdc00, 0xdf80, 0xdfff];

/// Encodes a number in the original scheme of UTF-8, which reached six octets and 31 bits. More
/// octets than necessary make the sequence overlong.
fn sequence(length: u32, value: u32) -> Vec<u8> {
    let lead = !(0xff_u8 >> length);
    let mut octets: Vec<_> =
        (0..length).rev().map(|place| 0x80 | (value >> (6 * place)) as u8 & 0x3f).collect();
    octets[0] = lead | (value >> (6 * (length - 1))) as u8;
    octets
}

fn characters<const N: usize>(list: [char; N]) -> Vec<Vec<u8>> {
    list.map(|character| character.to_string().into_bytes()).to_vec()
}

/// Returns continuation octets without a start: one to six of them, and all 64 in one row.
fn stray_continuations() -> Vec<Vec<u8>> {
    let mut rows = vec![vec![0x80], vec![0xbf]];
    rows.extend((2..=6).map(|count| [0x80, 0xbf].into_iter().cycle().take(count).collect()));
    rows.push((0x80..=0xbf).collect());
    rows
}

/// Returns start octets, each followed by a space, by the length that they announce.
fn lonely_starts() -> Vec<Vec<u8>> {
    let ranges = [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd];
    ranges.map(|range| range.flat_map(|start: u8| [start, b' ']).collect()).to_vec()
}

fn surrogate_pairs() -> Vec<Vec<u8>> {
    let (high, low) = (&SURROGATES[..4], [0xdc00, 0xdfff]);
    let pair = |high, low| [sequence(3, high), sequence(3, low)].concat();
    high.iter().flat_map(|&high| low.map(|low| pair(high, low))).collect()
}

/// Returns the last two code points of every plane, which are not characters but valid.
fn non_characters() -> Vec<Vec<u8>> {
    let last_two = (0..=16).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    last_two
        .map(|value| char::from_u32(value).expect("no surrogate").to_string().into_bytes())
        .collect()
}

#[test]
fn the_tables_hold_what_their_definitions_say() {
    assert_eq!(sequence(2, 0x2f), b"\xc0\xaf");
    assert_eq!(sequence(6, 0x7fff_ffff), b"\xfd\xbf\xbf\xbf\xbf\xbf");
    assert_eq!(sequence(3, 0xd800), b"\xed\xa0\x80");
    assert_eq!(sequence(4, 0x10_ffff), "\u{10ffff}".as_bytes());
    for (number, rows) in tables() {
        let valid = rows.iter().filter(|row| std::str::from_utf8(row).is_ok()).count();
        let expected = match number {
            // Five prefixes of the word end between letters, and the last row of table 11 is not
            // valid.
            6 => 5,
            11 => 4,
            _ if VALID.contains(&number) => rows.len(),
            _ => 0,
        };
        assert_eq!(valid, expected, "table {number}");
    }
}
