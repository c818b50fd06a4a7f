//! The NATS client protocol: a parser of what servers send, and a writer of what clients send.
//!
//! The parser takes bytes in any pieces and returns the same operations. A message is a slice of
//! the bytes that were received. Hostile lengths are refused before anything is reserved for them.

mod info;
mod message;
#[cfg(test)]
mod tests;
mod write;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use thiserror::Error;

use crate::limits::{
    NATS_DISCARDED_BYTES_MAX, NATS_INFO_BYTES_MAX, NATS_LINE_BYTES_MAX, NATS_MESSAGE_BYTES_MAX,
    NATS_READ_BYTES,
};

pub use info::{Info, OLDEST, Version};
pub use message::Message;
pub use write::{
    Connect, PING, PONG, Publish, Unsendable, connect, publish, subscribe, unsubscribe,
};

/// The number of a subscription. The client chooses it.
pub type Sid = u64;

/// An operation that a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// The server's description of itself, at the beginning and whenever it changes.
    Info(Box<Info>),
    /// A message on a subscription.
    Message(Message),
    /// A message of more than [`NATS_MESSAGE_BYTES_MAX`], which was discarded.
    Discarded {
        /// The subscription that it was for.
        sid: Sid,
        /// The length of its headers and payload.
        bytes: u64,
    },
    /// A question for a sign of life.
    Ping,
    /// The answer to a PING.
    Pong,
    /// The answer to an operation, if the client asked for such answers.
    Ok,
    /// An error, without its quotes and without control characters.
    Err(String),
}

/// A violation of the protocol by the server. Nothing after it can be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// A line does not end within its bound.
    #[error("a line of more than {0} bytes")]
    LongLine(usize),
    /// A line, or the end of a message, is not as the protocol has it.
    #[error("{0}")]
    Malformed(&'static str),
    /// A message is announced with an impossible length.
    #[error("a message of {0} bytes")]
    LongMessage(u64),
    /// The JSON of INFO cannot be read.
    #[error("an INFO that is not its JSON: {0}")]
    Info(String),
}

/// A parser of what a server sends, with the bytes that are not parsed yet.
#[derive(Default, Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// Bytes at the beginning that are known to hold no end of a line.
    scanned: usize,
    /// Bytes of the operation at the beginning, if its line was read; else 0.
    needed: usize,
    discarding: Option<Discarding>,
}

/// A message that is too long, of which this much is still to come.
#[derive(Clone, Copy, Debug)]
struct Discarding {
    sid: Sid,
    bytes: u64,
    left: u64,
}

/// A line: what its first word says, and the rest.
enum Line {
    Op(Op),
    /// The parts of a message that follows.
    Message(message::Head),
}

impl Parser {
    /// Returns the buffer to append received bytes to. It has room for some: for all of the message
    /// that is under way, or for a part of [`NATS_READ_BYTES`].
    pub fn space(&mut self) -> &mut BytesMut {
        let missing = self.needed.saturating_sub(self.buffer.len());
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.max(NATS_READ_BYTES / 8) {
            self.buffer.reserve(missing.max(NATS_READ_BYTES));
        }
        &mut self.buffer
    }

    /// Returns whether received bytes wait for the rest of their operation.
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty() || self.discarding.is_some()
    }

    /// Returns the next operation; `None` if it has not arrived whole.
    ///
    /// # Errors
    /// If the server violates the protocol. All later calls must be expected to fail, too.
    pub fn parse(&mut self) -> Result<Option<Op>, Fault> {
        if let Some(discarding) = self.discarding {
            return self.discard(discarding);
        }
        let Some(end) = self.line_end()? else { return Ok(None) };
        let line = &self.buffer[..end];
        match read_line(line)? {
            Line::Op(op) => {
                self.advance(end + 2);
                Ok(Some(op))
            }
            Line::Message(head) => self.message(head, end + 2),
        }
    }

    /// Returns where the line at the beginning ends, without CR and LF.
    fn line_end(&mut self) -> Result<Option<usize>, Fault> {
        let most = match self.buffer.first() {
            Some(b'I' | b'i') => NATS_INFO_BYTES_MAX,
            _ => NATS_LINE_BYTES_MAX,
        };
        let searched = &self.buffer[..self.buffer.len().min(most + 2)];
        match memchr(b'\n', &searched[self.scanned.min(searched.len())..]) {
            Some(at) => {
                let end = self.scanned + at;
                // The same bytes are searched again if the message has not arrived.
                self.scanned = end;
                match end.checked_sub(1).filter(|cr| searched[*cr] == b'\r') {
                    Some(cr) => Ok(Some(cr)),
                    None => Err(Fault::Malformed("a line that does not end with CR and LF")),
                }
            }
            None if self.buffer.len() >= most + 2 => Err(Fault::LongLine(most)),
            None => {
                self.scanned = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// Takes a message whose line has `start` bytes.
    fn message(&mut self, head: message::Head, start: usize) -> Result<Option<Op>, Fault> {
        if head.bytes > NATS_DISCARDED_BYTES_MAX as u64 {
            return Err(Fault::LongMessage(head.bytes));
        }
        if head.bytes > NATS_MESSAGE_BYTES_MAX as u64 {
            self.advance(start);
            return self.discard(Discarding { sid: head.sid, bytes: head.bytes, left: head.bytes });
        }
        let end = start + usize::try_from(head.bytes).expect("it is at most a message's bound");
        self.needed = end + 2;
        if self.buffer.len() < self.needed {
            return Ok(None);
        }
        check_end(&self.buffer[end..end + 2])?;
        let raw = self.buffer.split_to(self.needed).freeze();
        self.advance(0);
        Ok(Some(Op::Message(Message::new(raw, &head, start))))
    }

    /// Drops bytes of a message that is too long, until its end.
    fn discard(&mut self, mut discarding: Discarding) -> Result<Option<Op>, Fault> {
        let have = self.buffer.len() as u64;
        let now = usize::try_from(discarding.left.min(have)).expect("it is at most a length");
        self.advance(now);
        discarding.left -= now as u64;
        if discarding.left > 0 || self.buffer.len() < 2 {
            self.discarding = Some(discarding);
            return Ok(None);
        }
        check_end(&self.buffer[..2])?;
        self.advance(2);
        self.discarding = None;
        Ok(Some(Op::Discarded { sid: discarding.sid, bytes: discarding.bytes }))
    }

    /// Drops bytes at the beginning, and what was known of them.
    fn advance(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.scanned = 0;
        self.needed = 0;
    }
}

fn check_end(end: &[u8]) -> Result<(), Fault> {
    if end == b"\r\n" {
        return Ok(());
    }
    Err(Fault::Malformed("a message that is longer or shorter than announced"))
}

fn read_line(line: &[u8]) -> Result<Line, Fault> {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"MSG") {
        message::Head::plain(line, end).map(Line::Message)
    } else if is(b"HMSG") {
        message::Head::with_headers(line, end).map(Line::Message)
    } else if is(b"PING") {
        Ok(Line::Op(Op::Ping))
    } else if is(b"PONG") {
        Ok(Line::Op(Op::Pong))
    } else if is(b"+OK") {
        Ok(Line::Op(Op::Ok))
    } else if is(b"-ERR") {
        Ok(Line::Op(Op::Err(error_text(rest))))
    } else if is(b"INFO") {
        info::parse(rest).map(|info| Line::Op(Op::Info(Box::new(info)))).map_err(Fault::Info)
    } else {
        Err(Fault::Malformed("an unknown operation"))
    }
}

fn error_text(rest: &[u8]) -> String {
    let text = String::from_utf8_lossy(rest);
    let text = text.trim();
    let text = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Returns the bytes of a slice's part that this range names.
fn part(raw: &Bytes, (start, end): (u32, u32)) -> &[u8] {
    &raw[start as usize..end as usize]
}
