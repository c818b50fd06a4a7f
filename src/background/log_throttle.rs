//! What fails again and again is logged from time to time, with how often it was meanwhile: a log
//! must not fill a disk that fails already.

use std::time::{Duration, Instant};

/// Between two lines of log about the same thing.
const EVERY: Duration = Duration::from_secs(10);

/// Failures of one kind.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    said: Option<Instant>,
    count: u64,
}

impl LogThrottle {
    /// So many more. Answers how many there are to tell of, where it is time for that.
    pub(super) fn add(&mut self, count: u64) -> Option<u64> {
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
        let mut complaints = LogThrottle::default();
        assert_eq!(complaints.add(3), Some(3));
        assert_eq!(complaints.add(1), None);
        assert_eq!(complaints.add(4), None);
        complaints.said = Instant::now().checked_sub(EVERY);
        assert_eq!(complaints.add(1), Some(6));
    }
}
