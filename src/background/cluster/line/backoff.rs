//! How long to wait between connections, so that neither a broken server nor all nodes together
//! make a storm of them.

use std::time::Duration;

use crate::limits::{NATS_RETRY_MS_MAX, NATS_RETRY_MS_MIN, NATS_SETTLED_MS};

const SETTLED: Duration = Duration::from_millis(NATS_SETTLED_MS);

/// The failures since the last connection that lasted.
#[derive(Debug)]
pub(super) struct Backoff {
    servers: u32,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(servers: usize) -> Self {
        Self { servers: u32::try_from(servers.max(1)).unwrap_or(u32::MAX), failures: 0 }
    }

    /// Returns the wait after an attempt that failed. `dice` is from 0 to 1.
    pub(super) fn after_failure(&mut self, dice: f64) -> Duration {
        let rounds = (self.failures / self.servers).min(16);
        self.failures = self.failures.saturating_add(1);
        let doubled = (NATS_RETRY_MS_MIN << rounds).min(NATS_RETRY_MS_MAX);
        Duration::from_millis(doubled).mul_f64(0.5 + dice)
    }

    /// Returns the wait after a connection that lasted so long. One that lasted begins anew, with a
    /// wait that only spreads the nodes that lost their server together. `dice` is from 0 to 1.
    pub(super) fn after_connection(&mut self, lasted: Duration, dice: f64) -> Duration {
        if lasted < SETTLED {
            return self.after_failure(dice);
        }
        self.failures = 0;
        Duration::from_millis(NATS_RETRY_MS_MIN).mul_f64(dice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(wait: Duration) -> u128 {
        wait.as_millis()
    }

    #[test]
    fn waits_double_when_all_servers_were_tried() {
        let mut backoff = Backoff::new(3);
        let waits: Vec<_> = (0..18).map(|_| millis(backoff.after_failure(0.5))).collect();
        let rounds: Vec<_> = waits.chunks(3).map(|round| round[0]).collect();
        assert!(waits.chunks(3).all(|round| round.iter().all(|wait| *wait == round[0])));
        assert_eq!(rounds, [100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!((0..1_000).map(|_| millis(backoff.after_failure(0.5))).max(), Some(2_000));
        assert_eq!(millis(backoff.after_failure(0.0)), 1_000);
        assert_eq!(millis(backoff.after_failure(1.0)), 3_000);
    }

    #[test]
    fn only_a_connection_that_lasted_begins_anew() {
        let mut backoff = Backoff::new(1);
        let short = Duration::from_millis(NATS_SETTLED_MS - 1);
        let waits: Vec<_> = (0..6).map(|_| millis(backoff.after_connection(short, 0.5))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000], "a server that cuts at once");
        assert_eq!(millis(backoff.after_connection(SETTLED, 0.5)), 50);
        assert_eq!(millis(backoff.after_failure(0.5)), 100);
    }
}
