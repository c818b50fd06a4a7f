//! Latencies by the second in which publications were due, and the latency of a run so far.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::heard::LATENCY_NS;

/// The most intervals of a timeline. A longer run has longer intervals: two neighbours become one.
pub(crate) const INTERVALS_MAX: u64 = 600;
/// The most seconds that a thread keeps before it shares them; more count as the latest of these.
const RECENT_MAX: usize = 64;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// The latencies of one thread since it last shared them.
#[derive(Default)]
pub(crate) struct Recent(Vec<(u64, Histogram<u64>)>);

impl Recent {
    /// Records the latency of a publication that was due `after_ns` after the start of the measured
    /// window.
    pub(crate) fn record(&mut self, after_ns: u64, latency_ns: u64) {
        let second = after_ns / SECOND_NS;
        let known = self.0.iter().rposition(|(one, _)| *one == second);
        let at = known.unwrap_or_else(|| {
            if self.0.len() < RECENT_MAX {
                self.0.push((second, coarse()));
            }
            self.0.len() - 1
        });
        self.0[at].1.saturating_record(latency_ns);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The latencies of all clients.
pub(crate) struct Timeline {
    interval_s: u64,
    intervals: BTreeMap<u64, Histogram<u64>>,
    total: Histogram<u64>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { interval_s: 1, intervals: BTreeMap::new(), total: coarse() }
    }
}

impl Timeline {
    /// Moves the latencies of a thread here.
    pub(crate) fn add(&mut self, recent: &mut Recent) {
        for (second, latency) in recent.0.drain(..) {
            self.add_interval(second, &latency);
        }
    }

    /// Returns what other processes need to add this timeline to theirs, and empties it.
    pub(crate) fn take_digest(&mut self) -> TimelineDigest {
        let Self { interval_s, intervals, .. } = std::mem::take(self);
        let sparse = |latency: &Histogram<u64>| {
            let buckets = latency.iter_recorded();
            buckets.map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
        };
        TimelineDigest {
            interval_s,
            intervals: intervals.iter().map(|(at, latency)| (*at, sparse(latency))).collect(),
        }
    }

    /// Adds the latencies of another process.
    pub(crate) fn add_digest(&mut self, digest: TimelineDigest) {
        self.stretch(digest.interval_s);
        for (at, buckets) in digest.intervals {
            let mut latency = coarse();
            buckets.iter().for_each(|(value, count)| latency.saturating_record_n(*value, *count));
            self.add_interval(at.saturating_mul(digest.interval_s), &latency);
        }
    }

    /// Makes intervals at least this long.
    pub(crate) fn stretch(&mut self, interval_s: u64) {
        while self.interval_s < interval_s {
            self.fold();
        }
    }

    /// Returns the length of an interval in seconds, a power of two.
    pub(crate) fn interval_s(&self) -> u64 {
        self.interval_s
    }

    /// Returns the latencies of the publications that were due in this interval; `None` if there
    /// are none.
    pub(crate) fn interval(&self, at: u64) -> Option<&Histogram<u64>> {
        self.intervals.get(&at)
    }

    /// Returns the median and the 99th percentile so far, in ns; `None` before the first delivery.
    pub(crate) fn so_far(&self) -> Option<(u64, u64)> {
        let at = |quantile| self.total.value_at_quantile(quantile);
        (!self.total.is_empty()).then(|| (at(0.5), at(0.99)))
    }

    fn add_interval(&mut self, second: u64, latency: &Histogram<u64>) {
        while second / self.interval_s >= INTERVALS_MAX {
            self.fold();
        }
        let at = second / self.interval_s;
        let place = self.intervals.entry(at).or_insert_with(coarse);
        for sum in [place, &mut self.total] {
            sum.add(latency).expect("all have the same bounds");
        }
    }

    fn fold(&mut self) {
        self.interval_s *= 2;
        for (at, latency) in std::mem::take(&mut self.intervals) {
            let place = self.intervals.entry(at / 2).or_insert_with(coarse);
            place.add(latency).expect("all have the same bounds");
        }
    }
}

/// A timeline in a form that can be sent to another process.
#[derive(Serialize, Deserialize)]
pub(crate) struct TimelineDigest {
    interval_s: u64,
    intervals: Vec<(u64, Vec<(u64, u64)>)>,
}

impl TimelineDigest {
    pub(crate) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }
}

/// Returns an empty histogram with two significant digits, small enough for one per second.
fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 2)
        .expect("these bounds are constants that the histogram accepts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_threads_and_processes_add_up_by_the_second() {
        let mut recent = Recent::default();
        for (second, latency) in [(0, 5_000_000), (0, 6_000_000), (1, 1_000_000)] {
            recent.record(second * SECOND_NS + 999_999_999, latency);
        }
        let mut child = Timeline::default();
        child.add(&mut recent);
        assert!(recent.is_empty());
        recent.record(0, 7_000_000);
        let mut whole = Timeline::default();
        whole.add(&mut recent);
        let digest = serde_json::to_string(&child.take_digest()).unwrap();
        assert!(child.take_digest().is_empty());
        whole.add_digest(serde_json::from_str(&digest).unwrap());
        assert_eq!(whole.interval(0).unwrap().len(), 3);
        assert_eq!(whole.interval(1).unwrap().len(), 1);
        assert!(whole.interval(2).is_none());
        let (p50, p99) = whole.so_far().unwrap();
        assert!((4_900_000..5_100_000).contains(&p50) && (6_900_000..7_100_000).contains(&p99));
    }

    #[test]
    fn a_long_run_has_longer_intervals_and_loses_nothing() {
        let mut timeline = Timeline::default();
        for second in 0..3 * INTERVALS_MAX {
            let mut recent = Recent::default();
            recent.record(second * SECOND_NS, 1_000_000);
            timeline.add(&mut recent);
        }
        assert_eq!(timeline.interval_s(), 4);
        let counts = (0..INTERVALS_MAX).filter_map(|at| Some(timeline.interval(at)?.len()));
        assert_eq!(counts.collect::<Vec<_>>(), vec![4; 450]);
        let mut short = Timeline::default();
        short.add_digest(timeline.take_digest());
        assert_eq!((short.interval_s(), short.interval(449).unwrap().len()), (4, 4));
    }

    #[test]
    fn a_thread_keeps_few_seconds() {
        let mut recent = Recent::default();
        (0..1_000).for_each(|second| recent.record(second * SECOND_NS, 1_000));
        assert_eq!(recent.0.len(), RECENT_MAX);
        assert_eq!(recent.0.iter().map(|(_, one)| one.len()).sum::<u64>(), 1_000);
    }
}
