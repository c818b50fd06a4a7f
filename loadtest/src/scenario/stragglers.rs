//! Waits for deliveries that are still under way when everything is published.

use std::thread;
use std::time::Duration;

use crate::clock::{nanos, now_ns};
use crate::crowd::Pulse;
use crate::fate::{Answers, Server};

/// After this time without a delivery, what has not arrived counts as lost. A server that is behind
/// may need longer for all, so it is not the time that the last one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for APIs that deliver states. The number of deliveries is not known in advance there,
/// because a state may replace earlier ones.
const STATES_PATIENCE: Duration = Duration::from_secs(1);
/// The same for a server that has ended: the clients have read what it sent when they see that.
const ENDED_PATIENCE: Duration = Duration::from_millis(200);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long deliveries are waited for.
pub(super) struct Stragglers {
    patience_ns: u64,
}

impl Stragglers {
    /// Returns how long to wait for publications that are states, or are not.
    pub(super) fn of(states: bool) -> Self {
        Self { patience_ns: nanos(if states { STATES_PATIENCE } else { PATIENCE }) }
    }

    /// Returns how long to wait after the publisher has seen these answers: a stuck server has been
    /// waited for already.
    pub(super) fn after(self, answers: Option<&Answers>) -> Self {
        match answers.is_some_and(|answers| answers.broken.is_some()) {
            true => Self { patience_ns: nanos(ENDED_PATIENCE) },
            false => self,
        }
    }

    /// Waits until everything has arrived, nothing has arrived for the whole patience, or the
    /// clients have broken down. What a server that has ended had sent is waited for only briefly.
    /// Returns when the last delivery was seen.
    pub(super) fn wait(&self, pulse: &Pulse, expected: u64, server: &Server) -> u64 {
        let mut quiet = Quiet { received: pulse.received(), since_ns: now_ns() };
        while quiet.received < expected && pulse.ensure_whole().is_ok() {
            thread::sleep(LOOK_INTERVAL);
            let patience_ns = match server.has_ended() {
                true => nanos(ENDED_PATIENCE),
                false => self.patience_ns,
            };
            if quiet.look(pulse.received(), now_ns()) > patience_ns {
                break;
            }
        }
        quiet.since_ns
    }
}

/// The deliveries so far, and when the last of them was seen.
struct Quiet {
    received: u64,
    since_ns: u64,
}

impl Quiet {
    /// Returns for how many ns nothing has arrived.
    fn look(&mut self, received: u64, now_ns: u64) -> u64 {
        if received > self.received {
            *self = Self { received, since_ns: now_ns };
        }
        now_ns - self.since_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_is_waited_for_as_long_as_deliveries_come() {
        let second = nanos(Duration::from_secs(1));
        let mut quiet = Quiet { received: 0, since_ns: 0 };
        for count in 1..100 {
            assert_eq!(quiet.look(count, count * second), 0);
        }
        assert_eq!(quiet.look(99, 110 * second), 11 * second);
        assert_eq!(quiet.since_ns, 99 * second);
    }
}
