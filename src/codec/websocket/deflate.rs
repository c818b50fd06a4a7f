//! Compression of messages (permessage-deflate, RFC 7692 section 7) without context takeover: each
//! message is compressed on its own, so that a connection keeps no window between two messages.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};
use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags as flags};

use super::{FrameError, Opcode, encode};

/// The end of a flushed block. It is left out of each message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The bit in a frame's first byte that marks a compressed message (RSV1).
const DEFLATED: u8 = 0x40;
/// The level of compression. For JSON of 2 KiB, level 1 takes two thirds of the time and leaves a
/// sixth more bytes; for 256 KiB, level 6 takes twice the time and saves one byte in 25.
const LEVEL: u32 = 4;
/// Longest buffer that is kept for the next message, in bytes.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// First length of the buffer of an inflated message, in bytes.
const INFLATED_BYTES_MIN: usize = 4 * 1024;

/// What the inflater of one part of a message does: it stops behind each block, so that blocks can
/// be counted, and finds earlier bytes of the message where it has put them.
const FLAGS: u32 = flags::TINFL_FLAG_HAS_MORE_INPUT
    | flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
    | flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
/// Blocks that any message may have, and the inflated bytes that allow one more. A block costs as
/// much as some hundred bytes, even if it is empty. The shortest blocks that zlib makes of a long
/// message hold 127 bytes (`memLevel` 1).
const BLOCKS_MIN: usize = 64;
const BLOCK_BYTES: usize = 100;
/// The work of beginning a block, in bytes that are inflated in the same time.
const BLOCK_WORK: usize = 1_024;

/// Counts of messages, and their bytes with and without compression.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// The number of messages.
    pub messages: u64,
    /// Bytes of their payloads, not compressed.
    pub plain_bytes: u64,
    /// Bytes of their payloads, compressed.
    pub deflated_bytes: u64,
}

impl Tally {
    fn add(&mut self, plain: usize, deflated: usize) {
        self.messages += 1;
        self.plain_bytes += plain as u64;
        self.deflated_bytes += deflated as u64;
    }
}

/// A compressor for the messages of many connections. It takes no memory before its first message,
/// and about 300 KiB from then on.
#[derive(Default, Debug)]
pub struct Deflater {
    compress: Option<Box<Compress>>,
    out: Vec<u8>,
    tally: Tally,
}

impl Deflater {
    /// Returns the frame of the same message, compressed. `plain` is a data frame that
    /// [`frame`](super::frame) built. `None` if the compressed message is not shorter.
    pub fn frame(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let payload = encode::payload(plain);
        let opcode = if encode::is_binary(plain) { Opcode::Binary } else { Opcode::Text };
        let deflated = self.deflate(payload)?;
        let mut frame = encode::frame(opcode, &[&self.out[..deflated]]);
        frame[0] |= DEFLATED;
        self.tally.add(payload.len(), deflated);
        if self.out.len() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        Some(frame)
    }

    /// Compresses a payload to the beginning of `out`, and returns its length there.
    fn deflate(&mut self, payload: &[u8]) -> Option<usize> {
        let new = || Box::new(Compress::new(Compression::new(LEVEL), false));
        let compress = self.compress.get_or_insert_with(new);
        compress.reset();
        // The tail is written, too. Without more room than that, the message is not worth it.
        let room = payload.len() + TAIL.len();
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        compress.compress(payload, &mut self.out[..room], FlushCompress::Sync).ok()?;
        let is_whole = compress.total_in() == payload.len() as u64;
        let length = usize::try_from(compress.total_out()).ok()?;
        let deflated = self.out[..length].strip_suffix(&TAIL).filter(|_| is_whole)?.len();
        (length < room).then_some(deflated)
    }

    /// Returns what was compressed since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

/// A decompressor for the messages of many connections. It takes no memory before its first
/// message, and about 11 KiB from then on, beside the message.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<DecompressorOxide>>,
    out: Vec<u8>,
    /// Bytes of `out` that the current message has filled, and its blocks so far.
    filled: usize,
    blocks: usize,
    tally: Tally,
    work: usize,
}

impl Inflater {
    /// Returns the message with this compressed payload.
    ///
    /// # Errors
    /// [`FrameError::MessageTooLong`] as soon as the message has more than `bytes_max` bytes; then
    /// [`Inflater::start`] returns its beginning. [`FrameError::Deflate`] if the payload is not
    /// DEFLATE, [`FrameError::Blocks`] as soon as it has far more blocks than a compressor makes.
    pub(super) fn inflate(
        &mut self,
        payload: &[u8],
        bytes_max: usize,
    ) -> Result<&[u8], FrameError> {
        if self.out.len() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        (self.filled, self.blocks) = (0, 0);
        self.state.get_or_insert_default().init();
        for part in [payload, &TAIL] {
            self.inflate_part(part, bytes_max)?;
        }
        self.tally.add(self.filled, payload.len());
        Ok(self.start())
    }

    /// Returns the bytes of the current message so far.
    pub(super) fn start(&self) -> &[u8] {
        &self.out[..self.filled]
    }

    fn inflate_part(&mut self, mut part: &[u8], bytes_max: usize) -> Result<(), FrameError> {
        loop {
            self.make_room(bytes_max);
            let Self { state: Some(state), out, filled, .. } = self else {
                return Err(FrameError::Deflate);
            };
            let (status, read, made) = decompress(state, part, out, *filled, FLAGS);
            part = &part[read..];
            *filled += made;
            self.work = self.work.saturating_add(read + made);
            if self.filled > bytes_max {
                return Err(FrameError::MessageTooLong);
            }
            match status {
                Status::NeedsMoreInput => return Ok(()),
                Status::HasMoreOutput => {}
                Status::BlockBoundary => self.count_block()?,
                // A final block, behind which there may be others (RFC 7692 section 7.2.3.5).
                Status::Done => {
                    state.init();
                    self.count_block()?;
                }
                _ => return Err(FrameError::Deflate),
            }
        }
    }

    fn count_block(&mut self) -> Result<(), FrameError> {
        self.blocks += 1;
        self.work = self.work.saturating_add(BLOCK_WORK);
        let is_sensible = self.blocks <= BLOCKS_MIN + self.filled / BLOCK_BYTES;
        is_sensible.then_some(()).ok_or(FrameError::Blocks)
    }

    /// Lets `out` have room for at least one more byte. It never grows beyond one byte more than a
    /// message may have.
    fn make_room(&mut self, bytes_max: usize) {
        if self.filled == self.out.len() {
            let length = (2 * self.filled).max(INFLATED_BYTES_MIN);
            let most = bytes_max.saturating_add(1).max(self.filled + 1);
            self.out.resize(length.min(most), 0);
        }
    }

    /// Returns what was inflated since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Returns the work since the last call, that on refused messages too: bytes that were read,
    /// bytes that were made, and some for each block.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("tally", &self.tally).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
