//! The one clock of a run. Publisher and subscribers share a machine, so their readings compare.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Returns CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("this clock never runs below zero");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Returns a duration in nanoseconds; `u64::MAX` (584 years) if it is longer.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts a time-out to the kernel's type.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
