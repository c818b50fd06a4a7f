//! The client's end of a connection: it writes and reads WebSocket frames (RFC 6455 section 5.2).

use std::io::IoSlice;

use fanfare::message::ConnId;
use fanfare::runtime::Worker;
use rustix::io::Errno;

/// The opcode of a frame and its payload. Of a payload with more than 2 * [`KEPT`] bytes only the
/// beginning and the end are kept.
pub(crate) type Frame = (u8, Vec<u8>);

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The masking key of every frame. It is constant, because no proxy reads these frames.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// How many bytes of a long payload's beginning are kept, and how many of its end.
const KEPT: usize = 1_024;

/// Returns a frame as a client sends it.
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

/// Parser of a server's frames, whose bytes arrive in pieces.
#[derive(Default)]
pub(crate) struct Reader {
    header: Vec<u8>,
    /// How many bytes of the payload have arrived.
    at: usize,
    kept: Vec<u8>,
}

impl Reader {
    /// Consumes bytes from the front of `bytes` until a frame is complete. Returns `None` if the
    /// bytes end before that.
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

    /// Returns the length of the payload; `None` if the header is not complete.
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

/// A client's end of a connection: how many bytes it still reads, and the frames that it received.
pub(crate) struct Line {
    /// The id of the connection.
    pub(crate) id: ConnId,
    /// How many bytes the client still reads; `None` if it reads all.
    window: Option<usize>,
    reader: Reader,
    heard: Vec<Frame>,
}

impl Line {
    pub(crate) fn new(id: ConnId, window: Option<usize>) -> Self {
        Self { id, window, reader: Reader::default(), heard: Vec::new() }
    }

    /// Sends a frame from the client to its worker.
    pub(crate) fn send(&self, worker: &mut Worker, opcode: u8, payload: &[u8]) {
        worker.receive(self.id.slot, &mut masked(opcode, payload));
    }

    /// Lets the client read `bytes` more bytes; `None` lets it read all.
    pub(crate) fn read(&mut self, worker: &mut Worker, bytes: Option<usize>) {
        self.window = bytes.map(|bytes| self.window.unwrap_or(0) + bytes);
        if bytes != Some(0) {
            worker.writable(self.id.slot);
        }
    }

    /// Returns whether the client still reads at least `bytes` bytes.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        self.window.is_none_or(|window| window >= bytes)
    }

    /// Reads offered bytes up to the window, and returns their number.
    ///
    /// # Errors
    /// `EAGAIN` if the client reads nothing.
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

    /// Returns the frames that were completed since the last call.
    pub(crate) fn heard(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.heard)
    }

    /// Returns whether the last frame is complete.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.reader.header.is_empty()
    }
}
