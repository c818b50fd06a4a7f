//! What the hot threads share besides what their sessions share: clocks, counters, and how the node
//! stops.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::interface;
use crate::message::{Millis, Nanos, Now};
use crate::metrics::Metrics;

/// What the hot threads share.
#[derive(Debug)]
pub struct Shared {
    /// What their sessions and calls share.
    pub interfaces: interface::Shared,
    /// The counters of all threads.
    pub metrics: Metrics,
    /// The clocks.
    pub clock: Clock,
    /// What the node says of itself.
    pub about: About,
    /// Set once the node stops.
    pub shutdown: OnceLock<Shutdown>,
}

/// What a node says of itself in its metrics.
#[derive(Clone, Debug)]
pub struct About {
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Why it is that one, where it is second choice.
    pub driver_reason: String,
    /// When the node started, by the wall.
    pub started: Millis,
}

/// How a node stops.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// Since when, on the node's own clock.
    pub began: Millis,
    /// Over how many milliseconds connections are closed.
    pub window: Millis,
}

impl Shutdown {
    /// How many of `all` connections should be closed by now, the first of them at once; none to
    /// say, when the time is over: then there should be none left.
    pub fn due(&self, now: Millis, all: u64) -> Option<u64> {
        let passed = now.saturating_sub(self.began);
        (passed < self.window).then(|| all.min(1 + all * passed / self.window))
    }
}

/// Both of the node's clocks, read at the edge and passed in everywhere else.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Creates clocks that start now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now { nanos: self.nanos(), wall: self.wall() }
    }

    /// Milliseconds since the node started: for deadlines.
    pub fn monotonic(&self) -> Millis {
        // The node's life in milliseconds fits.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Nanoseconds since the node started: for how long things take.
    pub fn nanos(&self) -> Nanos {
        // Five centuries fit.
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Milliseconds since the epoch: for what people and tokens read.
    pub fn wall(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_is_even_and_then_over() {
        let plan = Shutdown { began: 1_000, window: 10_000 };
        assert_eq!(plan.due(900, 5_000), Some(1));
        assert_eq!(plan.due(1_010, 5_000), Some(6));
        assert_eq!(plan.due(6_000, 5_000), Some(2_501));
        assert_eq!(plan.due(10_999, 5_000), Some(5_000));
        assert_eq!(plan.due(1_000, 0), Some(0));
        assert_eq!(plan.due(11_000, 5_000), None);
        assert_eq!(Shutdown { began: 0, window: 0 }.due(0, 7), None);
    }
}
