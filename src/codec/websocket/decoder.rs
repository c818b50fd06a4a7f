//! A client's byte stream, taken apart.

use std::mem;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::mask::unmask;
use super::{CLOSE_CODE_BYTES, CONTROL_BYTES_MAX, FrameError, Message, may_be_sent, parse_header};

/// Longest header of a client's frame, in bytes: two, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Takes one client's byte stream apart. An idle one is as small as a pointer: only an incomplete
/// frame or an unfinished message is kept, on the heap, and freed as soon as it was consumed.
#[derive(Default, Debug)]
pub struct Decoder {
    kept: Option<Box<Kept>>,
}

/// What outlives a [`Decoder::next`].
#[derive(Default, Debug)]
struct Kept {
    /// The first bytes of a header, and how many of them came.
    head: [u8; HEADER_BYTES_MAX],
    head_len: usize,
    /// The frame whose payload is still arriving.
    frame: Option<Frame>,
    /// What came of that frame's payload, if it is a control frame.
    control: Vec<u8>,
    /// The message that began and did not end.
    message: Option<Partial>,
    /// The message or control payload that was handed out last, until the next call.
    handed_out: Vec<u8>,
}

/// A frame behind its header, checked.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    length: usize,
    /// Bytes of the payload that were taken in already.
    taken: usize,
}

/// An unfinished message, unmasked.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    data: Vec<u8>,
    /// How far a text is known to be UTF-8; what follows is the beginning of one character at most.
    checked: usize,
}

/// A complete message: what it is, and where its payload stands.
struct Complete {
    kind: CompleteKind,
    payload: Payload,
}

#[derive(Clone, Copy)]
enum CompleteKind {
    Data { is_text: bool },
    Control(Control),
}

enum Payload {
    /// In the input.
    Input(Range<usize>),
    /// In [`Kept::handed_out`].
    Kept,
}

impl Decoder {
    /// Parses `input` from `at` on, together with what was kept, up to the end of the next message,
    /// and moves `at` behind it. Returns `None` once the input is used up; what remains of an
    /// incomplete frame is kept. Frames that lie in the input as a whole are unmasked in place and
    /// never copied.
    ///
    /// `message_bytes_max` bounds a message over all its fragments. Between two messages nothing is
    /// kept: a caller that stops there can go on with `input[at..]` in another decoder.
    ///
    /// # Errors
    ///
    /// Any breach of RFC 6455, after the messages before it were handed out. The connection must be
    /// closed with [`FrameError::close_code`]: the decoder has let go of its place in the stream.
    pub fn next<'m>(
        &'m mut self,
        input: &'m mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Message<'m>>, FrameError> {
        if let Some(kept) = &mut self.kept {
            kept.handed_out = Vec::new();
        }
        let parsed = self.parse(input, at, message_bytes_max);
        let is_spent = match &parsed {
            Ok(Some(Complete { payload: Payload::Kept, .. })) => false,
            Ok(_) => self.kept.as_ref().is_some_and(|kept| kept.is_spent()),
            Err(_) => true,
        };
        if is_spent {
            self.kept = None;
        }
        let Some(Complete { kind, payload }) = parsed? else { return Ok(None) };
        let payload: &[u8] = match payload {
            Payload::Input(range) => &input[range],
            Payload::Kept => self.kept.as_ref().map_or(&[], |kept| &kept.handed_out),
        };
        let message = match kind {
            CompleteKind::Data { is_text } => data_message(is_text, payload),
            CompleteKind::Control(control) => control_message(control, payload),
        };
        message.map(Some)
    }

    fn parse(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Complete>, FrameError> {
        while let Some(mut frame) = self.next_frame(input, at, message_bytes_max)? {
            let here = (input.len() - *at).min(frame.length - frame.taken);
            // A frame of which nothing came yet may still arrive in one piece.
            if here == 0 && frame.length > 0 {
                self.keep().frame = Some(frame);
                return Ok(None);
            }
            let place = *at..*at + here;
            unmask(&mut input[place.clone()], frame.mask, frame.taken);
            *at += here;
            let complete = match frame.opcode {
                OpCode::Control(control) => self.control(control, frame, input, place),
                OpCode::Data(data) => self.data(data, frame, input, place)?,
            };
            frame.taken += here;
            if frame.taken < frame.length {
                self.keep().frame = Some(frame);
                return Ok(None);
            }
            if complete.is_some() {
                return Ok(complete);
            }
        }
        Ok(None)
    }

    /// The frame under way, or the next one once its header is complete; moves `at` behind it.
    fn next_frame(
        &mut self,
        input: &[u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.kept.as_mut().and_then(|kept| kept.frame.take()) {
            return Ok(Some(frame));
        }
        let Some((header, length)) = self.next_header(input, at)? else {
            return Ok(None);
        };
        let message = self.kept.as_ref().and_then(|kept| kept.message.as_ref());
        let mask = check_header(&header, length, message.is_some())?;
        let bytes_max = match header.opcode {
            OpCode::Control(_) => CONTROL_BYTES_MAX,
            OpCode::Data(_) => {
                message_bytes_max.saturating_sub(message.map_or(0, |message| message.data.len()))
            }
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= bytes_max)
            .ok_or(FrameError::MessageTooLong)?;
        let (opcode, is_final) = (header.opcode, header.is_final);
        Ok(Some(Frame { opcode, is_final, mask, length, taken: 0 }))
    }

    fn next_header(
        &mut self,
        input: &[u8],
        at: &mut usize,
    ) -> Result<Option<(FrameHeader, u64)>, FrameError> {
        let rest = &input[*at..];
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.head_len > 0) {
            let had = kept.head_len;
            let more = rest.len().min(HEADER_BYTES_MAX - had);
            kept.head[had..had + more].copy_from_slice(&rest[..more]);
            kept.head_len = had + more;
            let header = parse_header(&kept.head[..kept.head_len])?;
            return Ok(if let Some((header, length, bytes)) = header {
                kept.head_len = 0;
                // A header that was incomplete before ends in the new bytes.
                *at += bytes - had;
                Some((header, length))
            } else {
                *at += more;
                None
            });
        }
        if let Some((header, length, bytes)) = parse_header(rest)? {
            *at += bytes;
            return Ok(Some((header, length)));
        }
        if !rest.is_empty() {
            let kept = self.keep();
            kept.head[..rest.len()].copy_from_slice(rest);
            kept.head_len = rest.len();
            *at = input.len();
        }
        Ok(None)
    }

    fn control(
        &mut self,
        control: Control,
        frame: Frame,
        input: &[u8],
        place: Range<usize>,
    ) -> Option<Complete> {
        let kind = CompleteKind::Control(control);
        if place.len() == frame.length {
            return Some(Complete { kind, payload: Payload::Input(place) });
        }
        let kept = self.keep();
        kept.control.extend_from_slice(&input[place]);
        if kept.control.len() < frame.length {
            return None;
        }
        kept.handed_out = mem::take(&mut kept.control);
        Some(Complete { kind, payload: Payload::Kept })
    }

    fn data(
        &mut self,
        data: Data,
        frame: Frame,
        input: &[u8],
        place: Range<usize>,
    ) -> Result<Option<Complete>, FrameError> {
        let is_text = data == Data::Text;
        if frame.is_final && data != Data::Continue && place.len() == frame.length {
            let kind = CompleteKind::Data { is_text };
            return Ok(Some(Complete { kind, payload: Payload::Input(place) }));
        }
        let kept = self.keep();
        let slot = &mut kept.message;
        let message = slot.get_or_insert(Partial { is_text, data: Vec::new(), checked: 0 });
        let remaining = frame.length - frame.taken;
        let is_last = frame.is_final && place.len() == remaining;
        message.append(&input[place], frame.is_final.then_some(remaining))?;
        if !is_last {
            return Ok(None);
        }
        let Some(message) = slot.take() else { return Ok(None) };
        kept.handed_out = message.data;
        let kind = CompleteKind::Data { is_text: message.is_text };
        Ok(Some(Complete { kind, payload: Payload::Kept }))
    }

    fn keep(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }
}

impl Kept {
    fn is_spent(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }
}

impl Partial {
    /// Takes in a piece. `remaining` is what the message lacks where its last frame is under way.
    fn append(&mut self, piece: &[u8], remaining: Option<usize>) -> Result<(), FrameError> {
        let length = self.data.len() + piece.len();
        if length > self.data.capacity() {
            // Doubling keeps the copying linear, whatever the size of the pieces; a known end keeps
            // the last doubling from taking twice the message.
            let doubled = length.max(2 * self.data.capacity());
            let end = remaining.map_or(usize::MAX, |remaining| self.data.len() + remaining);
            self.data.reserve_exact(doubled.min(end) - self.data.len());
        }
        self.data.extend_from_slice(piece);
        if self.is_text { self.check_text() } else { Ok(()) }
    }

    /// Fails on the first piece that cannot be part of a text, however far the message's end is.
    fn check_text(&mut self) -> Result<(), FrameError> {
        match str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::InvalidUtf8),
        }
        Ok(())
    }
}

/// All rules that a header can break but the bound on messages; answers its mask.
fn check_header(
    header: &FrameHeader,
    length: u64,
    in_message: bool,
) -> Result<[u8; 4], FrameError> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(FrameError::ReservedBits);
    }
    match header.opcode {
        OpCode::Control(_) if !header.is_final => return Err(FrameError::ControlFragmented),
        OpCode::Control(_) if length > CONTROL_BYTES_MAX as u64 => {
            return Err(FrameError::ControlTooLong);
        }
        OpCode::Data(Data::Continue) if !in_message => return Err(FrameError::StrayContinuation),
        OpCode::Data(Data::Text | Data::Binary) if in_message => {
            return Err(FrameError::InterruptedMessage);
        }
        _ => {}
    }
    header.mask.ok_or(FrameError::Unmasked)
}

fn data_message(is_text: bool, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    if is_text { Ok(Message::Text(text(payload)?)) } else { Ok(Message::Binary(payload)) }
}

fn control_message(control: Control, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match control {
        Control::Ping => Ok(Message::Ping(payload)),
        Control::Pong => Ok(Message::Pong(payload)),
        Control::Close => Ok(Message::Close(close_payload(payload)?)),
        Control::Reserved(_) => Err(FrameError::ReservedOpcode),
    }
}

fn close_payload(payload: &[u8]) -> Result<Option<(u16, &str)>, FrameError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) =
        payload.split_first_chunk::<CLOSE_CODE_BYTES>().ok_or(FrameError::MalformedClose)?;
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(FrameError::MalformedClose);
    }
    Ok(Some((code, text(reason)?)))
}

fn text(payload: &[u8]) -> Result<&str, FrameError> {
    str::from_utf8(payload).map_err(|_| FrameError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1_000_000;
    const MASK: [u8; 4] = [0xa1, 0x5b, 0x00, 0xe7];
    const FINAL: u8 = 0x80;
    const CONTINUE: u8 = 0;
    const TEXT: u8 = 1;
    const BINARY: u8 = 2;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;

    /// A message that outlives its input.
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
                Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
                Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
                Message::Close(None) => Self::Close(None),
                Message::Close(Some((code, reason))) => Self::Close(Some((code, reason.into()))),
            }
        }
    }

    type Outcome = (Vec<Seen>, Result<(), FrameError>);

    /// A client's frame; `first` is the header's first byte.
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

    /// Goes on in a new decoder behind each message, as a connection does that changes hands.
    fn feed_to_heirs(bytes: &[u8]) -> Outcome {
        let (mut bytes, mut at, mut seen) = (bytes.to_vec(), 0, Vec::new());
        let mut decoder = Decoder::default();
        loop {
            match decoder.next(&mut bytes, &mut at, MAX) {
                Ok(Some(message)) => {
                    let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
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
        // The header of the last fragment is enough.
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

    /// Would not end within a test's patience if each piece moved all that came before it.
    #[test]
    fn a_long_message_in_small_pieces_is_copied_a_bounded_number_of_times() {
        let data = vec![b'x'; 16 * 1024 * 1024];
        let frame = client(FINAL | TEXT, &data);
        let (mut decoder, mut heard, mut moves, mut place) = (Decoder::default(), 0, 0, 0);
        for piece in frame.chunks(97) {
            take_all(&mut decoder, &mut piece.to_vec(), data.len(), |message| {
                heard += usize::from(message == Message::Text(str::from_utf8(&data).unwrap()));
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

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            6 => prop::sample::select(vec![CONTINUE, TEXT, BINARY, CLOSE, PING, PONG]),
            1 => 0..16_u8,
        ];
        let first = (prop::bool::weighted(0.6), prop::bool::weighted(0.02), opcode);
        let text = "[a-zé€𝄞]{0,60}".prop_map(String::into_bytes);
        let payload = prop_oneof![
            6 => text,
            2 => prop::collection::vec(any::<u8>(), 0..150),
            1 => (1000..1016_u16).prop_map(|code| code.to_be_bytes().to_vec()),
        ];
        (first, payload).prop_map(|((is_final, reserved, opcode), payload)| {
            let bits = u8::from(is_final) << 7 | u8::from(reserved) << 6;
            client(bits | opcode, &payload)
        })
    }

    /// A valid message, cut into fragments anywhere, with pings between them.
    fn fragmented() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
        let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..5);
        ("[ -~é€𝄞]{0,200}", any::<bool>(), cuts).prop_map(|(text, is_text, cuts)| {
            let data = text.as_bytes();
            let cuts = cuts.iter().map(|(at, ping)| (at.index(data.len() + 1), *ping));
            let mut cuts: Vec<_> = cuts.collect();
            cuts.sort_unstable();
            let (mut bytes, mut seen, mut start) = (Vec::new(), Vec::new(), 0);
            let mut opcode = if is_text { TEXT } else { BINARY };
            for (end, ping) in cuts {
                bytes.extend(client(opcode, &data[start..end]));
                (opcode, start) = (CONTINUE, end);
                if ping {
                    bytes.extend(client(FINAL | PING, b"?"));
                    seen.push(Seen::Ping(b"?".to_vec()));
                }
            }
            bytes.extend(client(FINAL | opcode, &data[start..]));
            let whole = if is_text { Seen::Text(text) } else { Seen::Binary(text.into_bytes()) };
            seen.push(whole);
            (bytes, seen)
        })
    }

    fn pieces<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
        let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
        std::iter::from_fn(move || {
            let size = (*sizes.next()?).min(rest.len());
            let piece = rest.split_off(..size)?;
            (!piece.is_empty()).then_some(piece)
        })
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same(
            frames in prop::collection::vec(any_frame(), 0..12),
            cut in 0..20_usize,
            sizes in prop::collection::vec(1..40_usize, 1..8),
        ) {
            let mut bytes = frames.concat();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let whole = feed_whole(&bytes);
            let split = feed_pieces(&mut Decoder::default(), pieces(&bytes, &sizes));
            prop_assert_eq!(&split, &whole);
            let single = feed_pieces(&mut Decoder::default(), bytes.chunks(1));
            prop_assert_eq!(&single, &whole);
            prop_assert_eq!(&feed_to_heirs(&bytes), &whole);
        }

        #[test]
        fn any_fragmentation_of_messages_gives_the_messages(
            messages in prop::collection::vec(fragmented(), 0..6),
            sizes in prop::collection::vec(1..90_usize, 1..8),
        ) {
            let (bytes, seen): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
            let (bytes, expected) = (bytes.concat(), (seen.concat(), Ok(())));
            let mut decoder = Decoder::default();
            prop_assert_eq!(feed_pieces(&mut decoder, pieces(&bytes, &sizes)), expected);
            prop_assert!(decoder.kept.is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            size in 1..50_usize,
        ) {
            let whole = feed_whole(&bytes);
            let split = feed_pieces(&mut Decoder::default(), bytes.chunks(size));
            prop_assert_eq!(split, whole);
        }
    }
}
