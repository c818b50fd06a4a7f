//! The report of `slow`.

use serde_json::{Value, json};

use crate::procfs::Memory;
use crate::report::figure::{Better, Unit};
use crate::report::{Frame, PublishReport, Record, memory_json};
use crate::table::{grouped, memory_cells, plural};

/// The result of `slow`.
pub(crate) struct SlowReport {
    /// Number of clients that did not read.
    pub(crate) slow: usize,
    /// Of these, the clients that the server closed.
    pub(crate) closed: usize,
    /// The server's memory before the first client, if its process is known.
    pub(crate) before: Option<Memory>,
    /// What the other clients received.
    pub(crate) readers: PublishReport,
}

/// The figures of the clients that did not read, as a saved run names them.
pub(super) const SLOW: &str = "clients that do not read";
pub(super) const CLOSED: &str = "of these, closed by the server";

impl SlowReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = self.readers.table();
        let mut row = |title: &str, line: String| text += &format!("\n  {title:<16} {line}");
        let (slow, closed) = (grouped(self.slow as u64), grouped(self.closed as u64));
        row("do not read", format!("{slow}   closed by the server {closed}"));
        if let Some(before) = self.before {
            let [rss, pss, dirty] =
                memory_cells(before).map(|(name, value)| format!("{name} {value}"));
            row("memory before", format!("{rss}   {pss}   {dirty}"));
        }
        text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let mut result = self.readers.json();
        result["slow"] = self.slow.into();
        result["slow_closed"] = self.closed.into();
        result["server_memory_before"] = json!(self.before.map(memory_json));
        result
    }

    /// Returns the run as it is saved.
    pub(crate) fn record(&self, frame: Frame, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Record {
        let mut record = self.readers.record(frame, p99_ms, cpu_us);
        record.result = self.json();
        for (name, count) in [(SLOW, self.slow), (CLOSED, self.closed)] {
            record.figure(name, Unit::Count, Better::Neither, Some(count as f64));
        }
        let slow = plural(self.slow, "client");
        record.title = format!("{}, beside {slow} without reading", record.title);
        record
    }
}
