//! A bound on the bytes that many channels keep together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A count of bytes with a bound, shared by threads.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    evicted: AtomicU64,
    bytes_max: usize,
}

impl Budget {
    /// Creates a budget of which nothing is taken.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), evicted: AtomicU64::new(0), bytes_max }
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
