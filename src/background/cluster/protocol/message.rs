//! MSG and HMSG: messages as slices of what was received.

use std::{iter, str};

use bytes::Bytes;
use memchr::memchr;

use super::{Fault, Sid, part};

/// The first line of a block of headers begins with this.
const VERSION: &[u8] = b"NATS/1.0";
/// The most words of a line, without the operation.
const WORDS_MAX: usize = 5;

/// A message. It is one slice of the received bytes, which it keeps alive: the receiver copies what
/// it keeps for long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    raw: Bytes,
    /// The number of the subscription that it is for.
    pub sid: Sid,
    subject: (u32, u32),
    /// Empty if the message has none.
    reply: (u32, u32),
    headers: u32,
    payload: u32,
}

/// The line of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    subject: (u32, u32),
    reply: (u32, u32),
    pub(super) sid: Sid,
    /// Bytes of headers.
    headers: u64,
    /// Bytes of headers and payload.
    pub(super) bytes: u64,
}

impl Message {
    /// Creates the message of all its bytes: `start` of them are its line, and the last two CR LF.
    pub(super) fn new(raw: Bytes, head: &Head, start: usize) -> Self {
        let at = |place: usize| u32::try_from(place).expect("a message is shorter than 4 GiB");
        let headers = usize::try_from(head.headers).expect("it is at most the message's length");
        let Head { subject, reply, sid, .. } = *head;
        Self { raw, sid, subject, reply, headers: at(start), payload: at(start + headers) }
    }

    /// Returns its subject.
    pub fn subject(&self) -> &[u8] {
        part(&self.raw, self.subject)
    }

    /// Returns the subject that its sender expects an answer on.
    pub fn reply(&self) -> Option<&[u8]> {
        Some(part(&self.raw, self.reply)).filter(|reply| !reply.is_empty())
    }

    /// Returns its payload, which may be empty, as a slice of what was received.
    pub fn payload(&self) -> Bytes {
        self.raw.slice(self.payload as usize..self.raw.len() - 2)
    }

    /// Returns the bytes of its headers, with their first and last line; empty if it has none.
    pub fn head(&self) -> &[u8] {
        part(&self.raw, (self.headers, self.payload))
    }

    /// Returns the first value of a header, without the spaces around it. Case matters.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// Returns names and values of all headers, in order. Lines without a colon are skipped.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.head();
        let mut line = move || {
            let end = memchr(b'\n', rest)?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            Some(line)
        };
        // The first line is the version.
        line();
        iter::from_fn(line).filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// Returns the status that the server itself answers with, such as 503 if a request reached no
    /// one; `None` if the message is not such an answer.
    pub fn status(&self) -> Option<u16> {
        let digits = self.status_line()?.get(..3)?;
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Returns the words after the status; empty if there are none.
    pub fn description(&self) -> &[u8] {
        self.status_line().and_then(|line| line.get(3..)).unwrap_or_default().trim_ascii()
    }

    fn status_line(&self) -> Option<&[u8]> {
        let line = self.head().split(|byte| *byte == b'\n').next()?;
        line.strip_prefix(VERSION).map(<[u8]>::trim_ascii)
    }
}

impl Head {
    /// Reads `MSG <subject> <sid> [reply] <bytes>`. The operation has `from` bytes.
    pub(super) fn plain(line: &[u8], from: usize) -> Result<Self, Fault> {
        let words = Words::of(line, from)?;
        let ([subject, sid, reply], [bytes]) = words.split()?;
        Ok(Self {
            subject,
            reply,
            sid: number(line, sid)?,
            headers: 0,
            bytes: number(line, bytes)?,
        })
    }

    /// Reads `HMSG <subject> <sid> [reply] <bytes of headers> <bytes>`.
    pub(super) fn with_headers(line: &[u8], from: usize) -> Result<Self, Fault> {
        let words = Words::of(line, from)?;
        let ([subject, sid, reply], [headers, bytes]) = words.split()?;
        let [sid, headers, bytes] = [sid, headers, bytes].map(|word| number(line, word));
        let head = Self { subject, reply, sid: sid?, headers: headers?, bytes: bytes? };
        if head.headers > head.bytes {
            return Err(Fault::Malformed("headers that are longer than their message"));
        }
        Ok(head)
    }
}

type Range = (u32, u32);

/// The places of a line's words after the operation.
struct Words {
    places: [Range; WORDS_MAX],
    count: usize,
}

impl Words {
    fn of(line: &[u8], from: usize) -> Result<Self, Fault> {
        let mut words = Self { places: [(0, 0); WORDS_MAX], count: 0 };
        let mut at = from;
        for word in line[from..].split(|byte| matches!(byte, b' ' | b'\t')) {
            let place = (at as u32, (at + word.len()) as u32);
            at += word.len() + 1;
            if word.is_empty() {
                continue;
            }
            *words.places.get_mut(words.count).ok_or(MALFORMED)? = place;
            words.count += 1;
        }
        Ok(words)
    }

    /// Returns subject, number and reply, which may be missing, and the words after them.
    fn split<const REST: usize>(&self) -> Result<([Range; 3], [Range; REST]), Fault> {
        let words = &self.places[..self.count];
        let (first, rest) = words.split_last_chunk::<REST>().ok_or(MALFORMED)?;
        match *first {
            [subject, sid] => Ok(([subject, sid, (0, 0)], *rest)),
            [subject, sid, reply] => Ok(([subject, sid, reply], *rest)),
            _ => Err(MALFORMED),
        }
    }
}

const MALFORMED: Fault = Fault::Malformed("the line of a message with too few or too many words");

/// Reads a number of digits alone.
fn number(line: &[u8], (start, end): Range) -> Result<u64, Fault> {
    let digits = &line[start as usize..end as usize];
    let read = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    read.ok_or(Fault::Malformed("the line of a message with a number that is none"))
}
