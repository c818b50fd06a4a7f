//! The count of lines that the log lost. It is one for the process, as standard error is, because
//! any thread may lose a line.

use std::sync::atomic::{AtomicU64, Ordering};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Counts a line that was not logged.
pub fn count_dropped_line() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

/// Returns how many lines were not logged.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}
