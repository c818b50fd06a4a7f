//! The counts of a node that publishes rows of a database.

use super::{Counter, Text};
use crate::message::Skipped;

/// Counts of the thread that publishes rows. Each has one writer.
#[derive(Debug, Default)]
pub struct CaptureCounts {
    /// Rows published that a notification named.
    pub rung: Counter,
    /// Rows published that a sweep found.
    pub swept: Counter,
    /// Rows that are never published, by [`Skipped`].
    pub skipped: [Counter; Skipped::NAMES.len()],
    /// Rows that were tried again.
    pub again: Counter,
    /// Connections that were made.
    pub connects: Counter,
    /// Attempts and connections that failed.
    pub failures: Counter,
    /// Times that notifications were dropped.
    pub overflows: Counter,
    /// Rows that the last look found waiting, at most a batch.
    pub waiting: Counter,
}

impl CaptureCounts {
    /// Writes the counts in the Prometheus text format.
    pub fn render(&self, text: &mut Text) {
        let help = "Rows of the database that were published, by how they were found.";
        text.family("counter", "fanfare_postgres_rows_total", help);
        text.sample("found=\"notification\"", self.rung.get());
        text.sample("found=\"sweep\"", self.swept.get());
        let help = "Rows that are never published, by reason; the log names them.";
        text.family("counter", "fanfare_postgres_rows_skipped_total", help);
        for (name, count) in Skipped::NAMES.iter().zip(&self.skipped) {
            text.sample(&format!("why=\"{name}\""), count.get());
        }
        for (name, help, count) in [
            (
                "rows_again_total",
                "Rows tried again, because the node or its cluster had no room or did not answer.",
                &self.again,
            ),
            (
                "connects_total",
                "Times that the node has connected to the database.",
                &self.connects,
            ),
            ("failures_total", "Connections that failed or were lost.", &self.failures),
            (
                "notifications_dropped_total",
                "Times that too many notifications waited; a sweep found their rows.",
                &self.overflows,
            ),
        ] {
            text.family("counter", &format!("fanfare_postgres_{name}"), help);
            text.sample("", count.get());
        }
        let help = "Rows that waited when the node last looked, at most a batch (512).";
        text.gauge("fanfare_postgres_rows_waiting", help, self.waiting.get());
    }
}
