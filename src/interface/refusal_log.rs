//! Tells the operator which callers are refused and why. A client may repeat a refused request as
//! often as it likes, so each reason is logged now and then, with the number of refusals.

use std::collections::HashMap;

use crate::message::{Millis, Peer};

/// Time between two log lines of one thread about one reason, in milliseconds.
const EVERY_MS: Millis = 10_000;

/// One thread's counts of refusals since their last log lines. The keys are texts of the program,
/// so there are few.
#[derive(Debug, Default)]
pub struct RefusalLog {
    kinds: HashMap<(&'static str, &'static str), Kind>,
}

/// Refusals by one interface for one reason.
#[derive(Debug, Default)]
struct Kind {
    /// When the last line was logged, in milliseconds since the node started.
    said: Option<Millis>,
    count: u64,
}

impl RefusalLog {
    /// Notes that an interface has refused a caller, at `now` milliseconds since the node started.
    /// The first refusal for a reason is logged at once, later ones together. `why` must repeat
    /// nothing that the caller has sent.
    pub fn note(&mut self, api: &'static str, why: &'static str, now: Millis) {
        if let Some(count) = self.due(api, why, now) {
            tracing::info!(api, reason = why, count, "callers were refused");
        }
    }

    /// Does the same for a caller whose address is known. A line names that of the last of them,
    /// and at `debug` there is a line for each.
    pub fn note_from(&mut self, client: Peer, api: &'static str, why: &'static str, now: Millis) {
        match self.due(api, why, now) {
            Some(count) => {
                tracing::info!(api, reason = why, count, %client, "callers were refused");
            }
            None => tracing::debug!(api, reason = why, %client, "a caller was refused"),
        }
    }

    /// Returns how many refusals there were since the last line if the next one is due.
    fn due(&mut self, api: &'static str, why: &'static str, now: Millis) -> Option<u64> {
        let kind = self.kinds.entry((api, why)).or_default();
        kind.count += 1;
        if kind.said.is_some_and(|said| now < said + EVERY_MS) {
            return None;
        }
        kind.said = Some(now);
        Some(std::mem::take(&mut kind.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_at_once_and_then_together() {
        let mut log = RefusalLog::default();
        assert_eq!(log.due("m2", "expired", 5), Some(1));
        assert_eq!(log.due("m2", "expired", 6), None);
        assert_eq!(log.due("m2", "early", 6), Some(1));
        assert_eq!(log.due("forge", "expired", 6), Some(1));
        assert_eq!(log.due("m2", "expired", 10_004), None);
        assert_eq!(log.due("m2", "expired", 10_005), Some(3));
    }
}
