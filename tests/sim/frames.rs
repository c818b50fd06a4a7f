//! The client's end of a connection, and WebSocket frames as a client makes and reads them
//! (RFC 6455 section 5.2).

use std::io::IoSlice;

use fanfare::message::ConnId;
use fanfare::runtime::Worker;
use rustix::io::Errno;

/// The opcode of a frame and its payload; only both ends of a long one.
pub(crate) type Frame = (u8, Vec<u8>);

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The key of every frame: there is no proxy here to be misled.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Bytes of a long payload that are kept of its beginning, and as many of its end.
const KEPT: usize = 1_024;

/// Makes a client's frame.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(0x80 | short),
        (_, Ok(length)) => frame.extend([0x80 | 126].into_iter().chain(length.to_be_bytes())),
        (_, Err(_)) => frame.extend([0x80 | 127].into_iter().chain((length as u64).to_be_bytes())),
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Takes the frames of a server apart, whose bytes come in pieces.
#[derive(Default)]
pub(crate) struct Reader {
    header: Vec<u8>,
    /// Bytes of the payload that have come.
    at: usize,
    kept: Vec<u8>,
}

impl Reader {
    /// Takes bytes off the front of `bytes` until a frame is complete.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let length = loop {
            if let Some(length) = self.length() {
                break length;
            }
            self.header.push(*bytes.split_off_first()?);
        };
        let taken = bytes.len().min(length - self.at);
        let piece = bytes.split_off(..taken).expect("it is as long as that");
        let (from, to) = (self.at, self.at + taken);
        let tail = length.saturating_sub(KEPT).max(KEPT);
        for (begin, end) in [(0, KEPT), (tail, length)] {
            let (begin, end) = (begin.clamp(from, to), end.clamp(from, to));
            self.kept.extend_from_slice(&piece[begin - from..end.max(begin) - from]);
        }
        self.at = to;
        if to < length {
            return None;
        }
        let Self { header, kept, .. } = std::mem::take(self);
        Some((header[0] & 0xf, kept))
    }

    /// The length of the payload, once the header is complete.
    fn length(&self) -> Option<usize> {
        match (self.header.get(1)?, self.header.get(2..)?) {
            (127, length) => {
                Some(usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?)
            }
            (126, length) => Some(u16::from_be_bytes(length.try_into().ok()?).into()),
            (short, _) => Some((*short).into()),
        }
    }
}

/// A client's end of a connection: how much of what waits for it it takes, and what it got.
pub(crate) struct Line {
    /// The connection's id at its worker.
    pub(crate) id: ConnId,
    /// Bytes that the client takes; all that there are, if nothing is said.
    window: Option<usize>,
    reader: Reader,
    heard: Vec<Frame>,
}

impl Line {
    pub(crate) fn new(id: ConnId, window: Option<usize>) -> Self {
        Self { id, window, reader: Reader::default(), heard: Vec::new() }
    }

    /// The client sends a frame.
    pub(crate) fn send(&self, worker: &mut Worker, opcode: u8, payload: &[u8]) {
        worker.receive(self.id.slot, &mut masked(opcode, payload));
    }

    /// The client takes so many bytes more and no others; or all there are.
    pub(crate) fn read(&mut self, worker: &mut Worker, bytes: Option<usize>) {
        self.window = bytes.map(|bytes| self.window.unwrap_or(0) + bytes);
        if bytes != Some(0) {
            worker.writable(self.id.slot);
        }
    }

    /// Whether the client takes so many bytes.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        self.window.is_none_or(|window| window >= bytes)
    }

    /// Takes what is offered, as far as the window is open.
    pub(crate) fn take(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        let all = self.window.unwrap_or(usize::MAX).min(offered);
        if all == 0 {
            return Err(Errno::AGAIN);
        }
        let mut left = all;
        for slice in slices {
            let mut bytes = &slice[..slice.len().min(left)];
            left -= bytes.len();
            self.heard.extend(std::iter::from_fn(|| self.reader.next(&mut bytes)));
        }
        self.window = self.window.map(|window| window - all);
        Ok(all)
    }

    /// Returns the frames that came since the last call.
    pub(crate) fn heard(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.heard)
    }

    /// Whether the last frame that came is complete.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.reader.header.is_empty()
    }
}
