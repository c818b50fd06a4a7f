//! Compression of messages for clients on WebSocket that have negotiated it.

use crate::broker::budget::Deflated;
use crate::codec::websocket::{self as wire, Deflater, Inflater, Tally};
use crate::config::{Compression, WebSocket};
use crate::limits::TURN_INFLATING_MAX;
use crate::message::{Encoding, FrameBytes, Publication};
use crate::metrics::Counters;

/// What one worker compresses and inflates with, for all its connections. It takes no memory before
/// it is used.
#[derive(Debug)]
pub struct Deflating {
    bytes_min: usize,
    deflater: Deflater,
    /// The inflater of clients' messages.
    pub inflater: Inflater,
    /// The work of inflating in this turn, in bytes.
    work: usize,
}

/// Returns what the compressed frames of kept publications count for.
pub fn counted(config: WebSocket) -> Deflated {
    match config.compression {
        Compression::Off => Deflated::default(),
        Compression::On => Deflated::from(config.compression_bytes),
    }
}

impl Deflating {
    /// Creates the state of one worker.
    pub fn new(config: WebSocket) -> Self {
        Self {
            bytes_min: config.compression_bytes,
            deflater: Deflater::default(),
            inflater: Inflater::default(),
            work: 0,
        }
    }

    /// Returns the compressed frame of a publication, of which `plain` is the plain one. The first
    /// worker that calls makes it for the whole node. `None` if the message is not compressed,
    /// because it is short, would not become shorter, or is not for WebSockets.
    pub fn frame(
        &mut self,
        publication: &Publication,
        encoding: Encoding,
        plain: &FrameBytes,
        counters: &Counters,
    ) -> Option<FrameBytes> {
        if encoding == Encoding::EventStream || !self.is_long(plain) {
            return None;
        }
        publication.deflated(encoding, || self.own(plain, counters).map(FrameBytes::from))
    }

    /// Returns the compressed form of a data frame that is for one client alone; `None` as for
    /// [`Deflating::frame`].
    pub fn own(&mut self, plain: &[u8], counters: &Counters) -> Option<Vec<u8>> {
        let frame = self.is_long(plain).then(|| self.deflater.frame(plain)).flatten()?;
        let Tally { messages, plain_bytes, deflated_bytes } = self.deflater.take_tally();
        counters.deflated.add(messages);
        counters.deflated_plain_bytes.add(plain_bytes);
        counters.deflated_bytes.add(deflated_bytes);
        Some(frame)
    }

    /// Adds what was inflated since the last call to the counters, and its work to the turn's.
    pub fn count_inflated(&mut self, counters: &Counters) {
        let Tally { messages, plain_bytes, deflated_bytes } = self.inflater.take_tally();
        self.work = self.work.saturating_add(self.inflater.take_work());
        counters.inflated.add(messages);
        counters.inflated_plain_bytes.add(plain_bytes);
        counters.inflated_bytes.add(deflated_bytes);
    }

    /// Begins a turn of the worker.
    pub fn begin_turn(&mut self) {
        self.work = 0;
    }

    /// Returns whether so much was inflated in this turn that others should have theirs.
    pub fn is_spent(&self) -> bool {
        self.work >= TURN_INFLATING_MAX
    }

    fn is_long(&self, plain: &[u8]) -> bool {
        wire::payload(plain).len() >= self.bytes_min
    }
}
