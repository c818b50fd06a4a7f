//! A bound on the bytes that many channels keep together, and what compressed frames count for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::message::Channel;

/// A count of bytes with a bound, shared by threads.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    evicted: AtomicU64,
    bytes_max: usize,
    /// What the compressed frames of publications count for.
    pub(super) deflated: Deflated,
}

/// What the compressed frames of kept publications count for. They are made when the first client
/// needs them, after the publication was counted, and each is shorter than the plain frame. So each
/// of them counts as if it were as long as the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deflated {
    /// The shortest message that may be compressed, in bytes.
    bytes_min: usize,
}

/// Bytes of a message besides its content and its channel's name, unless these have many escapes.
const ENVELOPE_BYTES: usize = 256;

impl Default for Deflated {
    /// Returns that of a node that compresses nothing.
    fn default() -> Self {
        Self { bytes_min: usize::MAX }
    }
}

impl Deflated {
    /// Returns that of a node that compresses frames from this length on, in bytes.
    pub fn from(bytes_min: usize) -> Self {
        Self { bytes_min }
    }

    /// Returns the bytes that one compressed frame with this content counts for; 0 if the message
    /// is too short to be compressed.
    pub(super) fn bytes(self, channel: &Channel, content: usize) -> usize {
        let message = content + channel.as_str().len() + ENVELOPE_BYTES;
        if message >= self.bytes_min { content } else { 0 }
    }
}

impl Budget {
    /// Creates a budget of which nothing is taken.
    pub fn new(bytes_max: usize) -> Self {
        let (bytes, evicted) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { bytes, evicted, bytes_max, deflated: Deflated::default() }
    }

    /// Lets compressed frames count.
    pub fn with_deflated(self, deflated: Deflated) -> Self {
        Self { deflated, ..self }
    }

    /// Returns the bytes that are taken.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of publications that were dropped early or not kept at all, at the bounds
    /// of a channel or of this budget.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Counts a publication that was dropped early or not kept.
    pub(super) fn count_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes bytes. Returns false, and takes nothing, if the bound would be exceeded.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| Some(taken + bytes).filter(|sum| *sum <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Returns bytes to the budget.
    pub(super) fn give(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
