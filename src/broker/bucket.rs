//! Token buckets, which limit the rate of publications.

use crate::message::Millis;

/// One event, in thousandths.
const ONE: u64 = 1_000;
/// Tokens that nodes which share a bucket may owe at least, in thousandths: at a low rate each of
/// them may grant the same one.
const OWED_MIN: u64 = 8 * ONE;
/// A bucket is full again after this time without an event, whatever its rate.
const FULL_AFTER_MS: Millis = 1_000;

/// A token bucket with the tokens of one second, refilled smoothly. A new one is full. The rate is
/// an argument of each call, so that a change of it holds at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Tokens that were missing at `at`, in thousandths.
    spent: u64,
    /// The time of the last call.
    at: Millis,
}

impl Bucket {
    /// Takes a token at a rate of `rate` tokens a second. Returns false if no token is left.
    pub fn take(&mut self, rate: u32, now: Millis) -> bool {
        let capacity = capacity(rate);
        self.refill(rate, capacity, now);
        self.grant(capacity, 0)
    }

    /// Takes a token of a bucket that this many nodes share, of which this node has taken `untold`
    /// tokens that the others do not know of. Each of them may have taken as many. The first one
    /// is granted even if it may be granted on each node, or nodes would wait for one another at a
    /// low rate: at most one token for each of them is owed then, and is not granted later.
    pub fn take_shared(&mut self, (rate, nodes): (u32, u32), untold: u32, now: Millis) -> bool {
        let capacity = capacity(rate);
        self.refill(rate, most(capacity), now);
        let others = u64::from(nodes.saturating_sub(1));
        let unheard = if untold == 0 { 0 } else { (u64::from(untold) + 1) * others * ONE };
        self.grant(capacity, unheard)
    }

    /// Takes tokens that another node has granted. What is missing for them is owed, up to the
    /// tokens of one second, or 8 if these are fewer.
    pub fn spend(&mut self, rate: u32, count: u32, now: Millis) {
        let most = most(capacity(rate));
        self.refill(rate, most, now);
        self.spent = (self.spent + u64::from(count) * ONE).min(most);
    }

    /// Adds the tokens of the time since the last call. At most `most` thousandths were missing.
    fn refill(&mut self, rate: u32, most: u64, now: Millis) {
        let refilled = now.saturating_sub(self.at).saturating_mul(u64::from(rate));
        // Threads read the clock one after another; time must not run back here.
        self.at = self.at.max(now);
        self.spent = self.spent.min(most).saturating_sub(refilled);
    }

    /// Takes a token if one is left besides this many thousandths.
    fn grant(&mut self, capacity: u64, besides: u64) -> bool {
        let is_granted = self.spent + ONE + besides <= capacity;
        if is_granted {
            self.spent += ONE;
        }
        is_granted
    }

    /// Returns whether the bucket was never asked for a token.
    pub fn is_new(&self) -> bool {
        self.at == 0 && self.spent == 0
    }

    /// Returns whether the bucket is full again, so that a new one may take its place.
    pub fn is_full(&self, now: Millis) -> bool {
        now.saturating_sub(self.at) >= FULL_AFTER_MS
    }
}

/// Returns the tokens of one second, in thousandths.
fn capacity(rate: u32) -> u64 {
    u64::from(rate.max(1)) * ONE
}

/// Returns how many tokens may be missing in a bucket that nodes share, in thousandths.
fn most(capacity: u64) -> u64 {
    capacity + capacity.max(OWED_MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_may_come_at_once_and_then_it_goes_on_smoothly() {
        let mut bucket = Bucket::default();
        let taken = (0..100).filter(|_| bucket.take(10, 5_000)).count();
        assert_eq!(taken, 10);
        assert!(!bucket.take(10, 5_099));
        assert!(bucket.take(10, 5_100), "a tenth of a second later there is one more");
        assert!(!bucket.take(10, 5_100));
        assert!(!bucket.take(10, 5_000), "time does not run back");
        assert_eq!((0..100).filter(|_| bucket.take(10, 60_000)).count(), 10);
    }

    #[test]
    fn a_change_of_the_rate_holds_at_once() {
        let mut bucket = Bucket::default();
        assert_eq!((0..9_000).filter(|_| bucket.take(1_000, 1)).count(), 1_000);
        assert!(!bucket.take(1, 1));
        assert!(bucket.take(1, 1_001), "what was spent at the old rate is not held against it");
        assert!(!bucket.take(1, 1_001));
        assert!(bucket.take(1_000, 1_001));
    }

    #[test]
    fn it_is_full_again_after_a_second() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_new());
        while bucket.take(3, 700) {}
        assert!(!bucket.is_new() && !bucket.is_full(1_699) && bucket.is_full(1_700));
        assert_eq!((0..9).filter(|_| bucket.take(3, 1_700)).count(), 3);
    }

    proptest! {
        /// Checks the same without a bucket: from any moment on, no more is granted than one
        /// second's worth and what the rate allows since then.
        #[test]
        fn it_is_refused_exactly_when_there_would_be_too_much(
            rate in 1..50_u32,
            pauses in prop::collection::vec(0..300_u64, 1..200),
        ) {
            let (mut bucket, mut now, mut granted) = (Bucket::default(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                let since = granted.iter().enumerate().map(|(place, at)| {
                    let with_this = (granted.len() - place + 1) as u64 * ONE;
                    with_this.saturating_sub(u64::from(rate) * (now - at))
                });
                let most = since.max().unwrap_or(ONE);
                let is_granted = bucket.take(rate, now);
                prop_assert_eq!(is_granted, most <= u64::from(rate) * ONE);
                if is_granted {
                    granted.push(now);
                }
            }
        }
    }
}
