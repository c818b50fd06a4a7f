//! Limits the log lines about a failure that repeats: one line now and then that counts the
//! failures since the last. A log must not fill a disk that is failing already.

use std::time::{Duration, Instant};

/// Time between two log lines about failures of one kind.
const EVERY: Duration = Duration::from_secs(10);

/// Counts failures of one kind from one log line to the next.
#[derive(Debug, Default)]
pub struct LogThrottle {
    said: Option<Instant>,
    count: u64,
}

impl LogThrottle {
    /// Counts `count` more failures. Returns how many there were since the last log line if the
    /// next line is due, and `None` otherwise.
    pub fn add(&mut self, count: u64) -> Option<u64> {
        self.count += count;
        if self.said.is_some_and(|said| said.elapsed() < EVERY) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.add(3), Some(3));
        assert_eq!(throttle.add(1), None);
        assert_eq!(throttle.add(4), None);
        throttle.said = Instant::now().checked_sub(EVERY);
        assert_eq!(throttle.add(1), Some(6));
    }
}
