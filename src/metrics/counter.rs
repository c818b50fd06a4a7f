//! Counters and histograms with one writer and any number of readers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n`, for amounts that also fall. Only the owning thread may call it.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Returns the count. Any thread may call it; it may be slightly old.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram with one writer. Bucket `k` counts values up to 2^k that fit no smaller bucket, and
/// the last bucket all others. Finding a value's bucket takes one instruction.
#[derive(Debug)]
pub struct Histogram<const BUCKETS: usize> {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

/// A histogram of durations: microseconds in powers of two, up to 16.8 s and beyond.
pub type Durations = Histogram<26>;
/// A histogram of the frames in one send, which are at most 64.
pub type Frames = Histogram<8>;

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// Records a value. Only the owning thread may call it.
    pub fn record(&self, value: u64) {
        self.record_as(value, value);
    }

    /// Returns the count of each bucket, and the sum of all values.
    pub fn read(&self) -> Reading {
        Reading { buckets: self.buckets.iter().map(Counter::get).collect(), sum: self.sum.get() }
    }

    fn record_as(&self, value: u64, summand: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].add(1);
        self.sum.add(summand);
    }
}

impl Durations {
    /// Records a duration in nanoseconds. Buckets are in microseconds, the sum in nanoseconds. Only
    /// the owning thread may call it.
    pub fn record_nanos(&self, nanos: u64) {
        self.record_as(nanos.div_ceil(1_000), nanos);
    }
}

/// The content of a histogram when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Values by bucket; each value counts in one.
    pub buckets: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Reading {
    /// Adds the reading of another thread.
    pub fn add(&mut self, other: &Self) {
        for (sum, one) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*one);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_smallest_bucket_that_holds_it() {
        let frames = Frames::default();
        for value in [0, 1, 2, 3, 4, 5, 64, 65, 1_000] {
            frames.record(value);
        }
        let Reading { buckets, sum } = frames.read();
        assert_eq!(buckets, [2, 1, 2, 1, 0, 0, 1, 2]);
        assert_eq!(sum, 1_144);
    }

    #[test]
    fn durations_are_sorted_by_microseconds_and_summed_in_nanoseconds() {
        let durations = Durations::default();
        for nanos in [0, 1, 1_000, 1_001, 2_000, 16_777_216_000, 16_777_216_001] {
            durations.record_nanos(nanos);
        }
        let Reading { buckets, sum } = durations.read();
        assert_eq!((buckets[0], buckets[1], buckets[24], buckets[25]), (3, 2, 1, 1));
        assert_eq!(sum, 33_554_436_003);
    }

    #[test]
    fn readings_of_threads_add_up() {
        let (one, other) = (Frames::default(), Frames::default());
        one.record(2);
        other.record(2);
        let mut sum = one.read();
        sum.add(&other.read());
        assert_eq!((sum.buckets[1], sum.sum), (2, 4));
    }
}
