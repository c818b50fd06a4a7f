//! The decoder of request bodies (RFC 9112 sections 6 and 7.1).

use super::target::hex;
use super::{BodyKind, HttpError};

/// Most hexadecimal digits of a chunk's size: as many as fit into 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Most bytes of chunk extensions and trailers in one body, together. The decoder drops them, and
/// refuses the request with 400 beyond the bound.
const IGNORED_BYTES_MAX: usize = 8 * 1024;

/// The decoder of one request's body, sized or chunked.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes still missing from the sized body or from the current chunk. While a chunk's size is
    /// being read, the size so far.
    left: u64,
    /// Bytes that later chunks may still contain, together.
    room: u64,
    /// Bytes that later extensions and trailers may still take, together.
    ignorable: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Inside a sized body.
    Sized,
    /// Inside a chunk's size, after this number of digits.
    Size(u8),
    /// In the blanks between a chunk's size and its extensions.
    SizeSpace,
    /// Inside chunk extensions, which are ignored.
    Extension,
    /// Before the line feed that ends a chunk's first line.
    SizeEnd,
    /// Inside a chunk's data.
    Chunk,
    /// Before the carriage return behind a chunk.
    ChunkReturn,
    /// Before the line feed behind a chunk.
    ChunkFeed,
    /// At the beginning of a trailer, or of the empty line that ends the body.
    Trailers,
    /// Inside a trailer, which is ignored.
    Trailer,
    /// Before the line feed behind a trailer.
    TrailerEnd,
    /// Before the line feed that ends the body.
    End,
    Done,
}

impl BodyDecoder {
    /// Creates a decoder for one body of at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLong`] if a sized body exceeds `bytes_max`, before any of it is read.
    pub fn new(kind: BodyKind, bytes_max: usize) -> Result<Self, HttpError> {
        let room = bytes_max as u64;
        let (state, left) = match kind {
            BodyKind::None | BodyKind::Sized(0) => (State::Done, 0),
            BodyKind::Sized(length) if length > room => return Err(HttpError::BodyTooLong),
            BodyKind::Sized(length) => (State::Sized, length),
            BodyKind::Chunked => (State::Size(0), 0),
        };
        Ok(Self { state, left, room, ignorable: IGNORED_BYTES_MAX })
    }

    /// Appends the part of the body that `input` holds to `body`, and returns the number of bytes
    /// consumed. Bytes after the body's end are not consumed: they begin the next request.
    ///
    /// # Errors
    ///
    /// [`HttpError::Malformed`] for a malformed chunk or too many extensions and trailers,
    /// [`HttpError::BodyTooLong`] for a body beyond the maximum.
    pub fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, HttpError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if matches!(self.state, State::Sized | State::Chunk) {
                at += self.take(&input[at..], body);
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Returns whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn take(&mut self, input: &[u8], body: &mut Vec<u8>) -> usize {
        let here = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        body.extend_from_slice(&input[..here]);
        self.left -= here as u64;
        if self.left == 0 {
            self.state = if self.state == State::Sized { State::Done } else { State::ChunkReturn };
        }
        here
    }

    /// Returns the state after one byte that is not part of the body itself.
    fn step(&mut self, byte: u8) -> Result<State, HttpError> {
        match (self.state, byte) {
            (State::Size(1..) | State::SizeSpace | State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Size(1..) | State::SizeSpace, b';') => Ok(State::Extension),
            (State::Size(1..) | State::SizeSpace, b' ' | b'\t') => self.skip(State::SizeSpace),
            (State::Size(digits), digit) => self.digit(digits, digit),
            (State::SizeEnd, b'\n') => self.begin_chunk(),
            (State::ChunkReturn, b'\r') => Ok(State::ChunkFeed),
            (State::ChunkFeed, b'\n') => Ok(State::Size(0)),
            (State::Trailers, b'\r') => Ok(State::End),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerEnd, b'\n') => Ok(State::Trailers),
            (State::End, b'\n') => Ok(State::Done),
            (State::Extension, byte) if is_text(byte) => self.skip(State::Extension),
            (State::Trailers | State::Trailer, byte) if is_text(byte) => self.skip(State::Trailer),
            _ => Err(HttpError::Malformed("a chunk is malformed")),
        }
    }

    fn digit(&mut self, digits: u8, digit: u8) -> Result<State, HttpError> {
        match hex(digit) {
            Some(value) if digits < SIZE_DIGITS_MAX => {
                self.left = self.left << 4 | u64::from(value);
                Ok(State::Size(digits + 1))
            }
            _ => Err(HttpError::Malformed("a chunk's size is malformed")),
        }
    }

    fn begin_chunk(&mut self) -> Result<State, HttpError> {
        if self.left == 0 {
            return Ok(State::Trailers);
        }
        self.room = self.room.checked_sub(self.left).ok_or(HttpError::BodyTooLong)?;
        Ok(State::Chunk)
    }

    /// Counts one dropped byte and returns `state`, or fails beyond [`IGNORED_BYTES_MAX`].
    fn skip(&mut self, state: State) -> Result<State, HttpError> {
        self.ignorable = self
            .ignorable
            .checked_sub(1)
            .ok_or(HttpError::Malformed("chunk extensions or trailers are too long"))?;
        Ok(state)
    }
}

/// Returns whether a byte may be part of an extension or a trailer. A line feed may not.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 100;

    type Outcome = Result<(Vec<u8>, usize, bool), HttpError>;

    /// Returns the body, the bytes consumed and whether the body is complete.
    fn decode(kind: BodyKind, input: &[u8], size: usize) -> Outcome {
        let mut decoder = BodyDecoder::new(kind, MAX)?;
        let (mut body, mut consumed) = (Vec::new(), 0);
        for piece in input.chunks(size) {
            consumed += decoder.feed(piece, &mut body)?;
        }
        Ok((body, consumed, decoder.is_done()))
    }

    fn chunked(input: &str) -> Outcome {
        decode(BodyKind::Chunked, input.as_bytes(), usize::MAX)
    }

    #[test]
    fn sized_bodies() {
        let rest = b"abcGET";
        assert_eq!(decode(BodyKind::None, rest, 9), Ok((vec![], 0, true)));
        assert_eq!(decode(BodyKind::Sized(0), rest, 9), Ok((vec![], 0, true)));
        assert_eq!(decode(BodyKind::Sized(3), rest, 9), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(decode(BodyKind::Sized(7), rest, 9), Ok((rest.to_vec(), 6, false)));
        let longest = vec![1; MAX];
        assert_eq!(
            decode(BodyKind::Sized(MAX as u64), &longest, 9),
            Ok((longest.clone(), MAX, true))
        );
        for length in [MAX as u64 + 1, u64::MAX] {
            assert_eq!(decode(BodyKind::Sized(length), b"", 9), Err(HttpError::BodyTooLong));
        }
    }

    #[test]
    fn chunked_bodies() {
        let longest = format!("{MAX:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(MAX));
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("3\r\nabc\r\n00A\r\n0123456789\r\n000\r\n\r\n", "abc0123456789"),
            ("3;name=\"value\";x\r\nabc\r\n0 ; y\r\n\r\n", "abc"),
            ("3 \t\r\na\r\n\r\n0\r\n\r\n", "a\r\n"),
            ("1\r\na\r\n0\r\nDigest: x\r\nY:z\r\n\r\n", "a"),
            (&longest, &"x".repeat(MAX)),
        ] {
            let whole = (body.as_bytes().to_vec(), input.len(), true);
            assert_eq!(chunked(input), Ok(whole.clone()), "{input:?}");
            assert_eq!(chunked(&format!("{input}GET / HTTP/1.1")), Ok(whole), "{input:?}");
            let (_, consumed, is_done) = chunked(&input[..input.len() - 1]).unwrap();
            assert_eq!((consumed, is_done), (input.len() - 1, false), "{input:?}");
        }
    }

    #[test]
    fn refusals() {
        let extension = format!("1;{}\r\na\r\n", "x".repeat(IGNORED_BYTES_MAX / 2 + 1)).repeat(2);
        let trailers = format!("0\r\n{}", "X: y\r\n".repeat(IGNORED_BYTES_MAX / 4 + 1));
        for (input, status) in [
            ("\r\n", 400),
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("0x1\r\n", 400),
            (" 1\r\n", 400),
            (";a\r\n", 400),
            ("1\na\r\n", 400),
            ("1 a\r\n", 400),
            ("1;a\nb\r\n", 400),
            ("1;a\0b\r\n", 400),
            ("1\r\r\n", 400),
            ("1\r\nab", 400),
            ("1\r\na\n", 400),
            ("1\r\na\rb", 400),
            ("0\r\n\n", 400),
            ("0\r\n\rX", 400),
            ("0\r\nX: y\n", 400),
            ("0\r\nX: \0", 400),
            ("00000000000000001", 400),
            ("65\r\n", 413),
            ("64\r\n[CHUNK]\r\n1\r\n", 413),
            ("FFFFFFFFFFFFFFFF\r\n", 413),
            (&extension, 400),
            (&trailers, 400),
        ] {
            let input = input.replace("[CHUNK]", &"x".repeat(MAX));
            assert_eq!(chunked(&input).unwrap_err().status(), status, "{input:?}");
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut body = Vec::new();
        let mut decoder = BodyDecoder::new(BodyKind::Sized(1 << 40), 1 << 41).unwrap();
        assert_eq!(decoder.feed(b"abc", &mut body), Ok(3));
        assert!(body.capacity() < 100);
    }

    fn any_chunks() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|data| {
                [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
            }),
            2 => Just(b"2;a=b\r\nxy\r\n".to_vec()),
            1 => Just(b"0\r\n\r\n".to_vec()),
            1 => Just(b"0\r\nX: y\r\n\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_a_body_gives_the_same(
            chunks in any_chunks(),
            length in 0..120_u64,
            size in 1..30_usize,
        ) {
            for kind in [BodyKind::Chunked, BodyKind::Sized(length)] {
                let whole = decode(kind, &chunks, usize::MAX);
                prop_assert_eq!(&decode(kind, &chunks, size), &whole);
                prop_assert_eq!(&decode(kind, &chunks, 1), &whole);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            size in 1..30_usize,
        ) {
            let whole = decode(BodyKind::Chunked, &bytes, usize::MAX);
            prop_assert_eq!(decode(BodyKind::Chunked, &bytes, size), whole);
        }

        #[test]
        fn any_chunking_gives_the_body(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..10), 0..10),
            size in 1..30_usize,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:X}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            let expected = (chunks.concat(), bytes.len(), true);
            prop_assert_eq!(decode(BodyKind::Chunked, &bytes, size), Ok(expected));
        }
    }
}
