//! The report of `idle`.

use serde_json::{Value, json};

use crate::api::Api;
use crate::procfs::Memory;
use crate::report::{Losses, loss_rows, memory_json};
use crate::table::{Table, bytes, grouped, memory_cells};

/// The result of `idle`.
pub(crate) struct IdleReport {
    pub(crate) api: Api,
    /// Number of connections, streams included.
    pub(crate) connections: usize,
    /// Number of streams of Server-Sent Events beside the other connections.
    pub(crate) streams: usize,
    /// Whether each connection was subscribed to the channel.
    pub(crate) subscribed: bool,
    /// How long the connections were held, in s.
    pub(crate) seconds: f64,
    /// The server's memory before the first connection.
    pub(crate) before: Memory,
    /// The server's memory when the last connection was ready.
    pub(crate) connected: Memory,
    /// The server's memory at the end.
    pub(crate) after: Memory,
    /// Number of processes that held the clients.
    pub(crate) client_processes: usize,
    /// Number of heartbeats that clients received, and answered if the API wants it.
    pub(crate) pings: u64,
    /// Connections lost during the run.
    pub(crate) losses: Losses,
}

impl IdleReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let what = if self.subscribed { "subscribed" } else { "connected" };
        let connections = grouped(self.connections as u64);
        let Self { api, seconds, streams, .. } = self;
        let streams = match streams {
            0 => String::new(),
            _ => format!(", {} of them streams", grouped(*streams as u64)),
        };
        let clients = format!("{connections} clients{streams}, {what}");
        let mut table = Table::new(format!("idle in {api}: {clients}, for {seconds} s"));
        table.row("before", memory_cells(self.before));
        table.row("connected", memory_cells(self.connected));
        table.row("after", memory_cells(self.after));
        table.row(
            "per connection",
            [
                ("RSS", bytes(self.per_connection(|memory| Some(memory.rss)))),
                ("PSS", bytes(self.per_connection(|memory| memory.pss))),
                ("private dirty", bytes(self.per_connection(|memory| memory.private_dirty))),
            ],
        );
        table.row("heartbeats", [("received", grouped(self.pings))]);
        loss_rows(&mut table, &self.losses);
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        json!({
            "scenario": "idle",
            "api": self.api,
            "connections": self.connections,
            "streams": self.streams,
            "subscribed": self.subscribed,
            "seconds": self.seconds,
            "before": memory_json(self.before),
            "connected": memory_json(self.connected),
            "after": memory_json(self.after),
            "bytes_per_connection": {
                "rss": self.per_connection(|memory| Some(memory.rss)),
                "pss": self.per_connection(|memory| memory.pss),
                "private_dirty": self.per_connection(|memory| memory.private_dirty),
            },
            "client_processes": self.client_processes,
            "pings": self.pings,
            "connections_lost": self.losses.connections,
        })
    }

    /// Returns the faults; empty if every connection stayed and took at most `bytes_max` bytes of
    /// resident memory.
    pub(crate) fn faults(&self, bytes_max: Option<f64>) -> Vec<String> {
        let mut faults = Vec::new();
        let lost = self.losses.connections;
        if lost > 0 {
            faults.push(format!("{lost} connections were lost"));
        }
        let taken = self.per_connection(|memory| Some(memory.rss));
        if let Some((taken, most)) = taken.zip(bytes_max).filter(|(taken, most)| taken > most) {
            faults.push(format!("a connection takes {taken:.0} bytes, more than {most}"));
        }
        faults
    }

    /// Returns the bytes that each connection added; `None` if the figure is unknown.
    fn per_connection(&self, field: impl Fn(&Memory) -> Option<u64>) -> Option<f64> {
        let added = field(&self.after)? as f64 - field(&self.before)? as f64;
        Some(added / self.connections as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_over_the_connections() {
        let memory = |rss, pss| Memory { rss, pss, private_dirty: None };
        let report = IdleReport {
            api: Api::Forge,
            connections: 100,
            streams: 0,
            subscribed: false,
            seconds: 5.0,
            before: memory(10_000, Some(9_000)),
            connected: memory(90_000, None),
            after: memory(70_000, Some(8_000)),
            client_processes: 1,
            pings: 3,
            losses: Losses::default(),
        };
        let json = report.json();
        assert_eq!(json["bytes_per_connection"]["rss"], 600.0);
        assert_eq!(json["bytes_per_connection"]["pss"], -10.0);
        assert_eq!(json["bytes_per_connection"]["private_dirty"], Value::Null);
        assert!(report.table().contains("RSS 600 B"));
        let mixed = IdleReport { streams: 40, ..report };
        assert!(mixed.table().contains("100 clients, 40 of them streams, connected"));
        for (bytes_max, faults) in [(None, 0), (Some(600.0), 0), (Some(599.0), 1)] {
            assert_eq!(mixed.faults(bytes_max).len(), faults);
        }
    }
}
