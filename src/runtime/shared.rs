//! The state that the hot threads share besides that of their sessions: clocks, counters, and the
//! order to stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::descriptors::Descriptors;
use crate::interface;
use crate::message::{Millis, Nanos, Now};
use crate::metrics::Metrics;

/// The state that the hot threads share.
#[derive(Debug)]
pub struct Shared {
    /// The state that sessions and calls share.
    pub interfaces: interface::Shared,
    /// The counters of all threads.
    pub metrics: Metrics,
    /// The clocks: since the node's start, and since the epoch.
    pub clock: Clock,
    /// The node's driver and start, for its metrics.
    pub about: About,
    /// The descriptors of the process.
    pub descriptors: Descriptors,
    /// What the operator has told the node about its end.
    pub notice: Arc<Notice>,
    /// Set when the node begins to drain.
    pub shutdown: OnceLock<Shutdown>,
    /// The workers whose sessions the other nodes of a cluster do not know yet, while the node
    /// drains.
    pub untold: Countdown,
    /// The end of HTTP connections, the last step of the drain.
    pub http_end: HttpEnd,
}

/// Facts about a node that its metrics report.
#[derive(Clone, Debug)]
pub struct About {
    /// The driver's name: `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Why a better driver is not used; empty if there is no better one.
    pub driver_reason: String,
    /// How the workers send: `ring` or `direct`.
    pub backend: &'static str,
    /// Why they do not send in batches; empty if they do.
    pub backend_reason: String,
    /// When the node started, in milliseconds since the epoch.
    pub started: Millis,
}

/// How far a node is that was told to stop.
#[derive(Debug, Default)]
pub struct Notice {
    is_given: AtomicBool,
    is_over: AtomicBool,
    is_closed: AtomicBool,
}

impl Notice {
    /// Makes the health of the node say from now on that it drains. The node still serves.
    pub fn give(&self) {
        self.is_given.store(true, Ordering::Release);
    }

    /// Ends the time in which the node still serves new clients.
    pub fn end(&self) {
        self.give();
        self.is_over.store(true, Ordering::Release);
    }

    /// Ends the accepting of connections, also on sockets that go on listening.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Returns whether the node accepts no more connections.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns whether the health of the node says that it drains.
    pub fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }

    /// Returns whether the node no longer serves new clients, or is about to refuse them.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// How a node stops.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// When it began, in milliseconds since the node started.
    pub began: Millis,
    /// For how many milliseconds connections are closed evenly.
    pub window: Millis,
}

impl Shutdown {
    /// Returns how many of `all` connections should be closed by now, the first one at once. `None`
    /// if the window is over and every connection should be closed.
    pub fn due(&self, now: Millis, all: u64) -> Option<u64> {
        let passed = now.saturating_sub(self.began);
        (passed < self.window).then(|| all.min(1 + all * passed / self.window))
    }
}

/// The number of threads that have something left to do for the drain.
#[derive(Debug)]
pub struct Countdown(AtomicUsize);

impl Countdown {
    /// Creates it for this number of threads.
    pub fn new(threads: usize) -> Self {
        Self(AtomicUsize::new(threads))
    }

    /// Notes that a thread has done it.
    pub fn note(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns whether all threads have done it.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// The order to the acceptors to end the connections that wait for a request.
#[derive(Debug)]
pub struct HttpEnd {
    is_ordered: AtomicBool,
    /// Acceptors that have not done so yet.
    left: Countdown,
}

impl HttpEnd {
    /// Creates the order for this number of acceptors, before it is given.
    pub fn new(acceptors: usize) -> Self {
        Self { is_ordered: AtomicBool::new(false), left: Countdown::new(acceptors) }
    }

    /// Gives the order.
    pub fn order(&self) {
        self.is_ordered.store(true, Ordering::Release);
    }

    /// Returns whether the order was given.
    pub fn is_ordered(&self) -> bool {
        self.is_ordered.load(Ordering::Acquire)
    }

    /// Notes that an acceptor has carried it out.
    pub fn note(&self) {
        self.left.note();
    }

    /// Returns whether all acceptors have carried it out.
    pub fn is_over(&self) -> bool {
        self.left.is_over()
    }
}

/// The node's clocks. The runtime reads them and passes the time to everything else.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Creates clocks that start now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks: since the start, and since the epoch.
    pub fn now(&self) -> Now {
        Now { nanos: self.nanos(), wall: self.wall() }
    }

    /// Returns the milliseconds since the node started, for deadlines.
    pub fn monotonic(&self) -> Millis {
        // 64 bits hold the milliseconds of any node's life.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Returns the nanoseconds since the node started, for durations.
    pub fn nanos(&self) -> Nanos {
        // 64 bits hold five centuries.
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Returns the milliseconds since the epoch, for people and tokens.
    pub fn wall(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }

    /// Returns the seconds since the epoch, for the dates of responses. This clock is some
    /// milliseconds late and cheaper to read than the exact one.
    pub fn coarse_seconds(&self) -> u64 {
        u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or_default()
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
