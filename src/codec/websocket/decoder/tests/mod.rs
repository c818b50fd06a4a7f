//! Tests of example messages, breaches of the rules, and memory use.

use super::*;

mod streams;

const MAX: usize = 1_000_000;
const MASK: [u8; 4] = [0xa1, 0x5b, 0x00, 0xe7];
const FINAL: u8 = 0x80;
const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// An owned copy of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Seen {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Joined(text) => Self::Text(text.to_string()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(None) => Self::Close(None),
            Message::Close(Some((code, reason))) => Self::Close(Some((code, reason.into()))),
        }
    }
}

type Outcome = (Vec<Seen>, Result<(), FrameError>);

/// Returns a client's masked frame. `first` is the header's first byte: the final bit and opcode.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

fn feed_pieces<'a>(decoder: &mut Decoder, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut seen = Vec::new();
    for piece in pieces {
        let result = take_all(decoder, &mut piece.to_vec(), MAX, |message| {
            seen.push(message.into());
        });
        if result.is_err() {
            return (seen, result);
        }
    }
    (seen, Ok(()))
}

fn take_all(
    decoder: &mut Decoder,
    input: &mut [u8],
    bytes_max: usize,
    mut on_message: impl FnMut(Message<'_>),
) -> Result<(), FrameError> {
    let mut at = 0;
    while let Some(message) = decoder.next(input, &mut at, bytes_max)? {
        on_message(message);
    }
    Ok(())
}

fn feed_whole(bytes: &[u8]) -> Outcome {
    feed_pieces(&mut Decoder::default(), [bytes].into_iter())
}

/// Continues with a new decoder after each data message, like a connection that migrates.
fn feed_to_heirs(bytes: &[u8]) -> Outcome {
    let (mut bytes, mut at, mut seen) = (bytes.to_vec(), 0, Vec::new());
    let mut decoder = Decoder::default();
    loop {
        match decoder.next(&mut bytes, &mut at, MAX) {
            Ok(Some(message)) => {
                let is_data =
                    matches!(message, Message::Text(_) | Message::Joined(_) | Message::Binary(_));
                seen.push(message.into());
                if is_data {
                    decoder = Decoder::default();
                }
            }
            Ok(None) => return (seen, Ok(())),
            Err(error) => return (seen, Err(error)),
        }
    }
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 16);
}

#[test]
fn messages() {
    let long = vec![b'x'; 70_000];
    for (bytes, expected) in [
        (client(FINAL | TEXT, "é".as_bytes()), Seen::Text("é".into())),
        (client(FINAL | TEXT, b""), Seen::Text(String::new())),
        (client(FINAL | BINARY, &[0, 255]), Seen::Binary(vec![0, 255])),
        (client(FINAL | BINARY, &long[..200]), Seen::Binary(long[..200].to_vec())),
        (client(FINAL | BINARY, &long), Seen::Binary(long.clone())),
        (client(FINAL | PING, b"p"), Seen::Ping(b"p".to_vec())),
        (client(FINAL | PONG, &long[..125]), Seen::Pong(long[..125].to_vec())),
        (client(FINAL | CLOSE, b""), Seen::Close(None)),
        (client(FINAL | CLOSE, b"\x03\xe8bye"), Seen::Close(Some((1000, "bye".into())))),
    ] {
        assert_eq!(feed_whole(&bytes), (vec![expected], Ok(())));
    }
}

#[test]
fn fragments_with_control_frames_between_them() {
    let bytes = [
        client(TEXT, "a\u{20ac}".as_bytes().split_at(2).0),
        client(FINAL | PING, b"1"),
        client(CONTINUE, b""),
        client(CONTINUE, "a\u{20ac}".as_bytes().split_at(2).1),
        client(FINAL | PONG, b"2"),
        client(FINAL | CONTINUE, b"b"),
        client(FINAL | TEXT, b"next"),
    ];
    let expected = vec![
        Seen::Ping(b"1".to_vec()),
        Seen::Pong(b"2".to_vec()),
        Seen::Text("a\u{20ac}b".into()),
        Seen::Text("next".into()),
    ];
    assert_eq!(feed_whole(&bytes.concat()), (expected, Ok(())));
}

fn check_breach(bytes: &[u8], error: FrameError, code: u16) {
    assert_eq!(feed_whole(bytes), (vec![], Err(error)));
    assert_eq!(error.close_code(), code);
}

#[test]
fn breaches_in_a_header() {
    let mut unmasked = client(FINAL | TEXT, b"");
    unmasked[1] = 0;
    for (bytes, error) in [
        (unmasked, FrameError::Unmasked),
        (client(FINAL | TEXT | 0x40, b""), FrameError::ReservedBits),
        (client(FINAL | TEXT | 0x20, b""), FrameError::ReservedBits),
        (client(FINAL | PING | 0x10, b""), FrameError::ReservedBits),
        (client(FINAL | PING, &[0; 126]), FrameError::ControlTooLong),
        (client(CLOSE, b""), FrameError::ControlFragmented),
        (client(FINAL | CONTINUE, b""), FrameError::StrayContinuation),
        (client(CONTINUE, b""), FrameError::StrayContinuation),
    ] {
        check_breach(&bytes, error, 1002);
    }
    for second in [client(FINAL | TEXT, b""), client(BINARY, b"")] {
        let bytes = [client(BINARY, b"begun"), second].concat();
        check_breach(&bytes, FrameError::InterruptedMessage, 1002);
    }
    for opcode in (3..8).chain(11..16) {
        check_breach(&client(FINAL | opcode, b""), FrameError::ReservedOpcode, 1002);
    }
}

#[test]
fn breaches_of_lengths() {
    let header = |length: &[u8]| [&[FINAL | BINARY], length, &MASK].concat();
    let long = |length: u64| header(&[&[0x80 | 127], &length.to_be_bytes()[..]].concat());
    let overlong = FrameError::LengthEncoding;
    check_breach(&header(&[0x80 | 126, 0, 125]), overlong, 1002);
    check_breach(&long(65_535), overlong, 1002);
    let too_long = FrameError::MessageTooLong;
    check_breach(&long(MAX as u64 + 1), too_long, 1009);
    check_breach(&long(u64::MAX), too_long, 1009);
    // The bound on messages is checked at the header of the last fragment, before its payload.
    let begun = client(BINARY, b"1234567890");
    let mut last = long(MAX as u64 - 9);
    last[0] = FINAL | CONTINUE;
    check_breach(&[begun, last].concat(), too_long, 1009);
}

#[test]
fn breaches_of_text() {
    for payload in [&b"\xff"[..], b"\xe2\x82", b"\xed\xa0\x80"] {
        check_breach(&client(FINAL | TEXT, payload), FrameError::InvalidUtf8, 1007);
    }
    let fragments = [client(TEXT, b"\xe2\x82"), client(FINAL | CONTINUE, b"")].concat();
    check_breach(&fragments, FrameError::InvalidUtf8, 1007);
}

#[test]
fn a_longest_message_passes_whole_and_in_fragments() {
    let data = vec![7; MAX];
    let whole = client(FINAL | BINARY, &data);
    let fragments = [client(BINARY, &data[..9]), client(FINAL | CONTINUE, &data[9..])].concat();
    for bytes in [whole, fragments] {
        assert_eq!(feed_whole(&bytes), (vec![Seen::Binary(data.clone())], Ok(())));
    }
}

#[test]
fn what_came_before_a_breach_is_heard() {
    let bytes = [client(FINAL | TEXT, b"a"), client(FINAL | TEXT, b"\xff")].concat();
    let expected = (vec![Seen::Text("a".into())], Err(FrameError::InvalidUtf8));
    assert_eq!(feed_whole(&bytes), expected);
}

#[test]
fn broken_text_is_refused_before_its_message_ends() {
    let fragment = client(TEXT, b"a\xffb");
    assert_eq!(feed_whole(&fragment), (vec![], Err(FrameError::InvalidUtf8)));
    let frame = client(FINAL | TEXT, b"a\xffbcdef");
    assert_eq!(feed_whole(&frame[..8]), (vec![], Err(FrameError::InvalidUtf8)));
    assert_eq!(feed_whole(&frame[..7]), (vec![], Ok(())));
}

#[test]
fn close_codes() {
    let allowed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in 0..=u16::MAX {
        let bytes = client(FINAL | CLOSE, &code.to_be_bytes());
        let expected = if allowed.contains(&code) || (3000..5000).contains(&code) {
            (vec![Seen::Close(Some((code, String::new())))], Ok(()))
        } else {
            (vec![], Err(FrameError::MalformedClose))
        };
        assert_eq!(feed_whole(&bytes), expected, "{code}");
    }
    let short = client(FINAL | CLOSE, b"\x03");
    assert_eq!(feed_whole(&short), (vec![], Err(FrameError::MalformedClose)));
    let garbled = client(FINAL | CLOSE, b"\x03\xe8\xff");
    assert_eq!(feed_whole(&garbled), (vec![], Err(FrameError::InvalidUtf8)));
}

#[test]
fn nothing_is_kept_once_everything_was_consumed() {
    let bytes = [client(TEXT, b"ab"), client(FINAL | PING, b"ping"), client(FINAL, b"c")];
    let bytes = bytes.concat();
    for cut in 0..bytes.len() {
        let mut decoder = Decoder::default();
        let (left, right) = bytes.split_at(cut);
        assert_eq!(feed_pieces(&mut decoder, [left].into_iter()).1, Ok(()));
        assert_eq!(decoder.kept.is_some(), cut > 0, "cut at {cut}");
        assert_eq!(feed_pieces(&mut decoder, [right].into_iter()).1, Ok(()));
        assert!(decoder.kept.is_none(), "cut at {cut}");
    }
    let mut decoder = Decoder::default();
    let failed = take_all(&mut decoder, &mut client(FINAL, b""), MAX, |_| ());
    assert!(failed.is_err() && decoder.kept.is_none());
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let mut frame = client(FINAL | BINARY, &vec![0; 900_000]);
    frame.truncate(1_000);
    let mut decoder = Decoder::default();
    assert_eq!(feed_pieces(&mut decoder, frame.chunks(100)), (vec![], Ok(())));
    let message = decoder.kept.and_then(|kept| kept.message).unwrap();
    assert!(message.data.capacity() < 4_000, "{}", message.data.capacity());
}

/// Would take far too long if each piece moved all bytes before it.
#[test]
fn a_long_message_in_small_pieces_is_copied_a_bounded_number_of_times() {
    let data = vec![b'x'; 16 * 1024 * 1024];
    let frame = client(FINAL | TEXT, &data);
    let (mut decoder, mut heard, mut moves, mut place) = (Decoder::default(), 0, 0, 0);
    for piece in frame.chunks(97) {
        take_all(&mut decoder, &mut piece.to_vec(), data.len(), |message| {
            heard += usize::from(
                Seen::from(message) == Seen::Text(String::from_utf8(data.clone()).unwrap()),
            );
        })
        .unwrap();
        let message = decoder.kept.as_ref().and_then(|kept| kept.message.as_ref());
        if let Some(capacity) = message.map(|message| message.data.capacity()) {
            assert!(capacity <= data.len());
            moves += usize::from(capacity != place);
            place = capacity;
        }
    }
    assert_eq!(heard, 1);
    assert!(moves <= 20, "{moves}");
}

#[test]
fn a_whole_frame_is_unmasked_in_place() {
    let mut input = client(FINAL | BINARY, b"abc");
    let mut place = None;
    take_all(&mut Decoder::default(), &mut input, MAX, |message| {
        if let Message::Binary(bytes) = message {
            place = Some(bytes.as_ptr());
        }
    })
    .unwrap();
    assert_eq!(place, Some(input[6..].as_ptr()));
}
