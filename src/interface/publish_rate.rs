//! The rate at which each connection of a worker may publish.

use std::collections::HashMap;

use crate::broker::bucket::Bucket;
use crate::message::{ConnId, Millis};

/// Buckets from which on those that are full again are looked for.
const SWEEP_BUCKETS_MIN: usize = 64;

/// The rate, with a bucket for each connection that has published lately. A connection that has
/// not published for a second costs nothing from the next sweep on.
#[derive(Debug)]
pub struct PublishRate {
    /// Publications in a second; 0 for no limit.
    rate: u32,
    buckets: HashMap<ConnId, Bucket>,
    /// The number of buckets at which the next sweep is due.
    sweep_at: usize,
}

impl PublishRate {
    /// Creates the state of one worker. It takes no memory until a connection publishes, and never
    /// if `rate` is 0.
    pub fn new(rate: u32) -> Self {
        Self { rate, buckets: HashMap::new(), sweep_at: SWEEP_BUCKETS_MIN }
    }

    /// Returns whether a connection may publish at `now`, in milliseconds since the node started,
    /// and counts it.
    pub fn admit(&mut self, connection: ConnId, now: Millis) -> bool {
        if self.rate == 0 {
            return true;
        }
        if self.buckets.len() >= self.sweep_at {
            self.sweep(now);
        }
        self.buckets.entry(connection).or_default().take(self.rate, now)
    }

    /// Drops the buckets that are full again, as a new one would be. The next sweep is due when
    /// there are twice as many as now, so that a publication costs the same on average.
    fn sweep(&mut self, now: Millis) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        self.sweep_at = SWEEP_BUCKETS_MIN.max(2 * self.buckets.len());
        self.buckets.shrink_to(self.sweep_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::WorkerId;

    fn connection(slot: u32, generation: u32) -> ConnId {
        ConnId { worker: WorkerId(0), slot, generation }
    }

    #[test]
    fn each_connection_has_a_rate_of_its_own() {
        let mut rate = PublishRate::new(3);
        let mut admitted = |connection, now| (0..9).filter(|_| rate.admit(connection, now)).count();
        assert_eq!(admitted(connection(7, 1), 5_000), 3);
        assert_eq!(admitted(connection(8, 1), 5_000), 3);
        assert_eq!(admitted(connection(7, 2), 5_000), 3, "the next connection in the same slot");
        assert_eq!(admitted(connection(7, 1), 5_400), 1);
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut rate = PublishRate::new(0);
        assert!((0..1_000).all(|slot| rate.admit(connection(slot, 1), 5_000)));
        assert_eq!(rate.buckets.capacity(), 0);
    }

    #[test]
    fn buckets_go_when_they_are_full_again() {
        let mut rate = PublishRate::new(1);
        let mut now = 5_000;
        for round in 0..50 {
            assert!((0..100).all(|slot| rate.admit(connection(slot, round), now)));
            now += 1_000;
        }
        assert!(rate.buckets.len() <= 2 * 100, "{}", rate.buckets.len());
        (0..100).for_each(|slot| assert!(rate.admit(connection(slot, 50), now)));
        assert!(!rate.admit(connection(99, 50), now), "a sweep forgets nobody that is not full");
    }
}
