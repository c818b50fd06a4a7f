//! What the log says of a node's condition in its cluster: that an outage begins, what it is, and
//! that it is over.

use crate::cluster::health::{Condition, Obstacle};
use crate::message::Millis;
use crate::metrics::LogChanges;

/// The condition of a node, for its log.
#[derive(Debug)]
pub(super) struct Conditions {
    log: LogChanges<Condition>,
    /// Whether the node has served the cluster's channels since it started. Before, it has to find
    /// out first, and what keeps it out is told apart.
    has_served: bool,
    /// When the node began not to serve; `None` if it serves.
    since: Option<Millis>,
    /// How long it has not served in the last outage; `None` before the first.
    outage: Option<Millis>,
}

impl Default for Conditions {
    fn default() -> Self {
        let log = LogChanges::new(Condition::NotJoined(Obstacle::Pending));
        Self { log, has_served: false, since: None, outage: None }
    }
}

impl Conditions {
    /// Notes the condition at this time, in milliseconds since the node started.
    pub(super) fn note(&mut self, condition: &Condition, now: Millis) {
        let serves = condition.is_serving();
        self.has_served |= serves;
        // A node whose cluster is healthy may be behind at any time, for a moment.
        let is_behind =
            *condition == Condition::CatchingUp && *self.log.latest() == Condition::Healthy;
        if !self.has_served || is_behind {
            tracing::debug!("{condition}");
            return;
        }
        match (serves, self.since) {
            (true, Some(since)) => {
                self.outage = Some(now.saturating_sub(since));
                self.since = None;
            }
            (false, None) => self.since = Some(now),
            _ => {}
        }
        // How long it has lasted is not worth a line each second.
        self.log.note(match condition {
            Condition::NoAnswer(_) => Condition::NoAnswer(0),
            Condition::Deaf(_) => Condition::Deaf(0),
            other => other.clone(),
        });
        self.tell();
    }

    /// Writes the line that is due, if there is one.
    pub(super) fn tell(&mut self) {
        let Some((_, changes)) = self.log.due() else { return };
        let changes = (changes > 1).then_some(changes);
        let condition = self.log.latest();
        match (condition, self.outage) {
            (Condition::Healthy, Some(outage)) => {
                let seconds = outage.div_ceil(1_000);
                tracing::info!(changes, "{condition} again, after {seconds} s");
                self.outage = None;
            }
            _ if condition.is_serving() => tracing::info!(changes, "{condition}"),
            _ => tracing::warn!(changes, "{condition}"),
        }
    }
}
