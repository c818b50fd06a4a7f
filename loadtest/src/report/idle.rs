//! The report of `idle`.

use serde_json::{Value, json};

use crate::api::Api;
use crate::fate::Cut;
use crate::procfs::{Memory, Usage};
use crate::report::figure::{Better, Unit};
use crate::report::record::{Frame, Record};
use crate::report::thresholds::{Judged, Thresholds};
use crate::report::{
    Losses, Measured, Window, bytes_each, counted, loss_rows, memory_json, verdict_rows,
};
use crate::table::{Table, bytes, grouped, memory_cells, micros, plural};

/// The result of `idle`.
pub(crate) struct IdleReport {
    pub(crate) api: Api,
    pub(crate) measured: Measured,
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
    /// The server's memory at the end; `None` if it has ended.
    pub(crate) after: Option<Memory>,
    /// Processor time while the connections were held.
    pub(crate) window: Window,
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
        let mut table = Table::new(format!("idle: {}", self.title()));
        table.row("before", memory_cells(self.before));
        table.row("connected", memory_cells(self.connected));
        if let Some(after) = self.after {
            table.row("after", memory_cells(after));
        }
        table.row(
            "per connection",
            [
                ("RSS", bytes(self.per_connection(|memory| Some(memory.rss)))),
                ("PSS", bytes(self.per_connection(|memory| memory.pss))),
                ("private dirty", bytes(self.per_connection(|memory| memory.private_dirty))),
            ],
        );
        for (title, usage) in self.usages() {
            let cells = [
                ("a second, each", micros(self.cpu_ns_per_connection(usage))),
                ("user", format!("{} ms", grouped(usage.process.user_us / 1_000))),
                ("system", format!("{} ms", grouped(usage.process.system_us / 1_000))),
            ];
            table.row(title, cells);
        }
        table.row("heartbeats", [("received", grouped(self.pings))]);
        loss_rows(&mut table, &self.losses);
        verdict_rows(&mut table, &self.measured.verdict);
        table.text
    }

    fn title(&self) -> String {
        let what = if self.subscribed { "subscribed" } else { "connected" };
        let connections = plural(self.connections, "client");
        let Self { api, seconds, streams, .. } = self;
        let streams = match streams {
            0 => String::new(),
            _ => format!(", of them {}", plural(*streams, "stream")),
        };
        let clients = format!("{connections}{streams}, {what}");
        format!("{clients} in {api}, for {seconds} s")
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let cpu_us = |usage: &Usage| self.cpu_ns_per_connection(usage).map(|ns| ns / 1e3);
        json!({
            "scenario": "idle",
            "api": self.api,
            "connections": self.connections,
            "streams": self.streams,
            "subscribed": self.subscribed,
            "seconds": self.seconds,
            "before": memory_json(self.before),
            "connected": memory_json(self.connected),
            "after": self.after.map(memory_json),
            "bytes_per_connection": {
                "rss": self.per_connection(|memory| Some(memory.rss)),
                "pss": self.per_connection(|memory| memory.pss),
                "private_dirty": self.per_connection(|memory| memory.private_dirty),
            },
            "cpu_us_per_connection_second": {
                "server": self.window.server.as_ref().and_then(cpu_us),
                "client": cpu_us(&self.window.client),
            },
            "client_processes": self.client_processes,
            "pings": self.pings,
            "connections_lost": self.losses.connections,
            "interrupted": self.measured.interrupted,
            "verdict": self.measured.verdict,
        })
    }

    /// Returns the run as it is saved and shown. `bytes_max` is the most resident memory that a
    /// connection may take.
    pub(crate) fn record(&self, frame: Frame, bytes_max: Option<f64>) -> Record {
        use Better::{Lower, Neither};
        use Unit::{Bytes, Count, Ns};
        let thresholds = Thresholds { bytes_per_connection: bytes_max, ..Thresholds::default() };
        let bytes_per_connection = self.per_connection(|memory| Some(memory.rss));
        let mut record = Record::new(frame, "idle", self.title());
        record.follow(&self.measured);
        record.exceeded = thresholds.exceeded(Judged { bytes_per_connection, ..Judged::default() });
        let lost = self.losses.connections as u64;
        record.defects.extend(self.measured.cut.as_ref().map(Cut::text));
        record.defects.extend(counted([(lost, "connection", "lost")]));
        record.result = self.json();
        record.figure("connections", Count, Neither, Some(self.connections as f64));
        record.figure("memory per connection", Bytes, Lower, bytes_per_connection);
        let cpu_ns = self.window.server.as_ref();
        let cpu_ns = cpu_ns.and_then(|usage| self.cpu_ns_per_connection(usage));
        record.figure("CPU a second per connection", Ns, Lower, cpu_ns);
        record.figure("memory before", Bytes, Lower, Some(self.before.rss as f64));
        let after = self.after.map(|memory| memory.rss as f64);
        record.figure("server memory", Bytes, Lower, after);
        record.figure("heartbeats", Count, Neither, Some(self.pings as f64));
        record.figure("lost connections", Count, Lower, Some(lost as f64));
        record
    }

    /// Returns the processor time of the server, if it is known, and of the clients.
    fn usages(&self) -> Vec<(&'static str, &Usage)> {
        let server = self.window.server.as_ref().map(|usage| ("server CPU", usage));
        server.into_iter().chain([("client CPU", &self.window.client)]).collect()
    }

    /// Returns the processor time that a connection took in a second, in ns; `None` if nothing was
    /// held.
    fn cpu_ns_per_connection(&self, usage: &Usage) -> Option<f64> {
        let seconds = self.window.cpu_wall_ns as f64 / 1e9 * self.connections as f64;
        (seconds > 0.0).then(|| usage.process.total_ns() as f64 / seconds)
    }

    /// Returns the bytes that each connection added; `None` if the figure is unknown.
    fn per_connection(&self, field: impl Fn(&Memory) -> Option<u64>) -> Option<f64> {
        bytes_each(field(&self.before)?, field(self.after.as_ref()?)?, self.connections as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Versions;
    use crate::procfs::Cpu;
    use crate::report::{Evidence, Series, Verdict};

    #[test]
    fn memory_is_shared_out_over_the_connections() {
        let memory = |rss, pss| Memory { rss, pss, private_dirty: None };
        let process = Cpu { user_us: 1_000, system_us: 4_000, ..Cpu::default() };
        let report = IdleReport {
            api: Api::Forge,
            measured: Measured {
                seconds: 5.0,
                interrupted: false,
                series: Series::default(),
                verdict: Verdict::of(&Evidence::default()),
                joined: None,
                cut: None,
            },
            connections: 100,
            streams: 0,
            subscribed: false,
            seconds: 5.0,
            before: memory(10_000, Some(9_000)),
            connected: memory(90_000, None),
            after: Some(memory(70_000, Some(8_000))),
            window: Window {
                cpu_wall_ns: 5_000_000_000,
                server: Some(Usage { process, ..Usage::default() }),
                ..Window::default()
            },
            client_processes: 1,
            pings: 3,
            losses: Losses::default(),
        };
        let json = report.json();
        assert_eq!(json["bytes_per_connection"]["rss"], 600.0);
        assert_eq!(json["bytes_per_connection"]["pss"], Value::Null, "less is no figure");
        assert_eq!(json["bytes_per_connection"]["private_dirty"], Value::Null);
        assert!(report.table().contains("RSS 600 B"));
        // 5 ms in 5 s, shared by 100 connections.
        assert_eq!(json["cpu_us_per_connection_second"]["server"], 10.0);
        assert!(report.table().contains("a second, each 10.000 µs"), "{}", report.table());
        let mixed = IdleReport { streams: 40, ..report };
        assert!(mixed.table().contains("100 clients, of them 40 streams, connected"));
        for (bytes_max, faults) in [(None, 0), (Some(600.0), 0), (Some(599.0), 1)] {
            let frame = Frame::now(Value::Null, Versions::with(None));
            assert_eq!(mixed.record(frame, bytes_max).exceeded.len(), faults);
        }
    }
}
