//! The counters of a publisher or of joining clients, which the conductor of a run reads meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::{nanos, now_ns};
use crate::timeline::{Recent, Timeline};

/// How often latencies are shared.
const SHARE_INTERVAL: Duration = Duration::from_millis(500);

/// Counts since the start of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Publications sent, or joins begun.
    pub(crate) begun: u64,
    /// Publications answered, or joins that succeeded.
    pub(crate) done: u64,
    /// Publications that the server refused.
    pub(crate) refused: u64,
    /// Joins that failed, and clients that were lost after they had joined.
    pub(crate) failed: u64,
}

/// The counts of one thread, and its latencies.
#[derive(Default)]
pub(crate) struct Meter {
    begun: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    next_share_ns: AtomicU64,
    timeline: Mutex<Timeline>,
}

impl Meter {
    /// Returns the counts so far.
    pub(crate) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            begun: read(&self.begun),
            done: read(&self.done),
            refused: read(&self.refused),
            failed: read(&self.failed),
        }
    }

    /// Shows the counts so far, and moves latencies to the timeline if it is time to.
    pub(crate) fn show(&self, counts: Counts, recent: &mut Recent) {
        self.begun.store(counts.begun, Ordering::Relaxed);
        self.done.store(counts.done, Ordering::Relaxed);
        self.refused.store(counts.refused, Ordering::Relaxed);
        self.failed.store(counts.failed, Ordering::Relaxed);
        if !recent.is_empty() {
            let now_ns = now_ns();
            if now_ns >= self.next_share_ns.load(Ordering::Relaxed) {
                self.next_share_ns.store(now_ns + nanos(SHARE_INTERVAL), Ordering::Relaxed);
                self.timeline().add(recent);
            }
        }
    }

    /// Does the same at the end, when all latencies must be in the timeline.
    pub(crate) fn finish(&self, counts: Counts, recent: &mut Recent) {
        self.show(counts, recent);
        self.timeline().add(recent);
    }

    /// Returns the latencies that were shared so far.
    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().expect("nothing panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_shared_now_and_then_and_all_of_them_in_the_end() {
        let meter = Meter::default();
        let mut recent = Recent::default();
        let counts = |done| Counts { begun: 9, done, ..Counts::default() };
        for done in 1..=3 {
            recent.record(0, 1_000_000);
            meter.show(counts(done), &mut recent);
        }
        assert_eq!(meter.counts(), counts(3));
        assert_eq!(meter.timeline().interval(0).unwrap().len(), 1, "the next share is not due");
        meter.finish(counts(4), &mut recent);
        assert_eq!((meter.counts().done, meter.timeline().interval(0).unwrap().len()), (4, 3));
    }
}
