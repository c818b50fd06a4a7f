//! Limits the log lines about a state that changes back and forth: a few changes have a line each.
//! Of many, the log has the latest state now and then.

use std::mem;
use std::time::{Duration, Instant};

/// Changes that have a line each if none was before them.
const LINES_AT_ONCE: u32 = 6;
/// Time after which one more change may have a line.
const EVERY: Duration = Duration::from_secs(10);

/// A state, and what the log says of it.
#[derive(Debug)]
pub struct LogChanges<T> {
    told: T,
    latest: T,
    /// Changes since the last line.
    changes: u64,
    /// Lines that may be written.
    left: u32,
    /// When a line was added to those that may be written.
    refilled: Instant,
}

impl<T: Clone + PartialEq> LogChanges<T> {
    /// Creates the log of a state that needs no line.
    pub fn new(state: T) -> Self {
        let (told, latest) = (state.clone(), state);
        Self { told, latest, changes: 0, left: LINES_AT_ONCE, refilled: Instant::now() }
    }

    /// Notes the state as it is now.
    pub fn note(&mut self, state: T) {
        if self.latest != state {
            self.latest = state;
            self.changes += 1;
        }
    }

    /// Returns the state as it was noted last.
    pub fn latest(&self) -> &T {
        &self.latest
    }

    /// Returns whether the log has the latest state.
    pub fn is_told(&self) -> bool {
        self.told == self.latest
    }

    /// Returns the state that the log had, and the number of changes since, if a line about the
    /// latest state is due. The caller writes it. To be called after each change and now and then.
    pub fn due(&mut self) -> Option<(T, u64)> {
        if self.is_told() {
            return None;
        }
        while self.left < LINES_AT_ONCE && self.refilled.elapsed() >= EVERY {
            self.left += 1;
            self.refilled += EVERY;
        }
        if self.left == LINES_AT_ONCE {
            self.refilled = Instant::now();
        }
        self.left = self.left.checked_sub(1)?;
        let before = mem::replace(&mut self.told, self.latest.clone());
        Some((before, mem::take(&mut self.changes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_flaps_has_few_lines_and_the_log_gets_the_last_one() {
        let mut log = LogChanges::new(0);
        assert_eq!(log.due(), None);
        for state in 1..=6 {
            log.note(state);
            assert_eq!(log.due(), Some((state - 1, 1)));
            assert_eq!(log.due(), None, "it is told");
        }
        for state in 7..=20 {
            log.note(state);
            assert_eq!(log.due(), None);
        }
        log.refilled = log.refilled.checked_sub(EVERY).unwrap();
        assert_eq!(log.due(), Some((6, 14)));
        assert_eq!((log.latest(), log.is_told()), (&20, true));
        log.note(21);
        log.note(20);
        log.refilled = log.refilled.checked_sub(EVERY * 9).unwrap();
        assert_eq!(log.due(), None, "the log has it");
        log.note(21);
        assert_eq!(log.due(), Some((20, 3)));
        assert_eq!(log.left, LINES_AT_ONCE - 1);
    }
}
