//! How often something may happen in a second.

use crate::message::Millis;

/// Thousandths of one time that it happens.
const ONE: u64 = 1_000;
/// After so long without any a bucket is full again, whatever its rate.
const FULL_AFTER_MS: Millis = 1_000;

/// A token bucket that holds what may happen in one second and is refilled smoothly. A new one is
/// full. The rate comes with each question, so that a change of it holds at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// What is missing from the bucket, in thousandths.
    spent: u64,
    /// When that was so.
    at: Millis,
}

impl Bucket {
    /// Whether it may happen once more at `rate` a second. If so, that is taken note of.
    pub fn take(&mut self, rate: u32, now: Millis) -> bool {
        let capacity = u64::from(rate.max(1)) * ONE;
        let refilled = now.saturating_sub(self.at).saturating_mul(u64::from(rate));
        // Threads read the clock one after another: time never runs back here.
        self.at = self.at.max(now);
        self.spent = self.spent.min(capacity).saturating_sub(refilled);
        let is_granted = self.spent + ONE <= capacity;
        if is_granted {
            self.spent += ONE;
        }
        is_granted
    }

    /// Whether nothing was ever taken.
    pub fn is_new(&self) -> bool {
        self.at == 0 && self.spent == 0
    }

    /// Whether it is full again, so that it may as well be a new one.
    pub fn is_full(&self, now: Millis) -> bool {
        now.saturating_sub(self.at) >= FULL_AFTER_MS
    }
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
        /// Said without a bucket: since whichever moment, no more than what that while allows and
        /// one second's worth.
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
