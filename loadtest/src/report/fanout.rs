//! What `fanout` and `floor` found.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::lengths::FrameLengths;
use crate::procfs::{Cpu, Memory, Usage};
use crate::report::{Asked, Losses, loss_rows, memory_json};
use crate::table::{Table, bytes, grouped, memory_cells, micros, millis, nanos};
use crate::tally::Deliveries;

/// The publisher's side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Publications {
    /// Sent, warm-up included.
    pub(crate) sent: u64,
    /// Answered 2xx.
    pub(crate) accepted: u64,
    /// Answered 503.
    pub(crate) refused: u64,
    /// Not answered, since their connection broke.
    pub(crate) unanswered: u64,
    /// The longest that one was sent after its due time, in ns.
    pub(crate) late_ns_max: u64,
}

/// The measured window, from the first timed publication to the last delivery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Its length in ns.
    pub(crate) wall_ns: u64,
    /// Deliveries in it.
    pub(crate) deliveries: u64,
    /// What the server used, where its process is known.
    pub(crate) server: Option<Usage>,
    /// What the processes of the clients used.
    pub(crate) client: Usage,
}

/// The result of `fanout` or `floor`.
pub(crate) struct FanoutReport {
    /// Which of them.
    pub(crate) scenario: &'static str,
    /// The arguments.
    pub(crate) asked: Asked,
    /// The publisher's side.
    pub(crate) publications: Publications,
    /// The subscribers' side.
    pub(crate) deliveries: Deliveries,
    /// Due time to reading, in ns.
    pub(crate) latency: Histogram<u64>,
    /// The frames that deliveries came in.
    pub(crate) frames: FrameLengths,
    /// Costs.
    pub(crate) window: Window,
    /// Processes that the clients were in.
    pub(crate) client_processes: usize,
    /// The server's memory at the end, where its process is known.
    pub(crate) memory: Option<Memory>,
    /// Connections lost on the way.
    pub(crate) losses: Losses,
    /// The first complaint of the server and how many came.
    pub(crate) errors: (Option<String>, u64),
}

/// What a run must keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thresholds {
    /// 99th percentile of latency, in ms.
    pub(crate) p99_ms: Option<f64>,
    /// Server processor time per delivery, in µs.
    pub(crate) cpu_us_per_delivery: Option<f64>,
}

impl FanoutReport {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let Self { asked, publications, deliveries, .. } = self;
        let mut table = Table::new(format!("{} on {asked}", self.scenario));
        table.row(
            "publications",
            [
                ("sent", grouped(publications.sent)),
                ("accepted", grouped(publications.accepted)),
                ("refused (503)", grouped(publications.refused)),
                ("unanswered", grouped(publications.unanswered)),
                ("late by at most", millis(publications.late_ns_max)),
            ],
        );
        table.row(
            "deliveries",
            [
                ("expected", grouped(deliveries.expected)),
                ("received", grouped(deliveries.received)),
                ("per second", grouped(self.deliveries_per_second())),
            ],
        );
        table.row(
            "",
            [
                ("lost", grouped(deliveries.lost)),
                ("conflated", grouped(deliveries.conflated)),
                ("duplicated", grouped(deliveries.duplicated)),
                ("reordered", grouped(deliveries.reordered)),
                ("despite refusal", grouped(deliveries.despite_refusal)),
            ],
        );
        let at = |quantile| millis(self.latency.value_at_quantile(quantile));
        table.row(
            "latency",
            [
                ("p50", at(0.5)),
                ("p90", at(0.9)),
                ("p99", at(0.99)),
                ("p99.9", at(0.999)),
                ("max", millis(self.latency.max())),
            ],
        );
        self.cost_rows(&mut table);
        self.loss_rows(&mut table);
        table.text
    }

    /// For machines, on one line.
    pub(crate) fn json(&self) -> Value {
        let Self { publications, deliveries, window, .. } = self;
        let at = |quantile| self.latency.value_at_quantile(quantile);
        let mut result = json!({
            "scenario": self.scenario,
            "publications": {
                "sent": publications.sent,
                "accepted": publications.accepted,
                "refused": publications.refused,
                "unanswered": publications.unanswered,
                "late_ns_max": publications.late_ns_max,
            },
            "deliveries": {
                "expected": deliveries.expected,
                "received": deliveries.received,
                "lost": deliveries.lost,
                "conflated": deliveries.conflated,
                "duplicated": deliveries.duplicated,
                "reordered": deliveries.reordered,
                "despite_refusal": deliveries.despite_refusal,
            },
            "latency_ns": {
                "count": self.latency.len(),
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p999": at(0.999),
                "max": self.latency.max(),
            },
            "frame_bytes": self.frames.median(),
            "window": {
                "wall_ns": window.wall_ns,
                "deliveries": window.deliveries,
                "server": window.server.as_ref().map(|usage| self.usage_json(usage)),
                "client": self.usage_json(&window.client),
            },
            "client_processes": self.client_processes,
            "server_memory": self.memory.map(memory_json),
            "connections_lost": self.losses.connections,
            "realtime_errors": self.errors.1,
        });
        self.asked.put_into(&mut result);
        result
    }

    /// What is wrong with it: nothing when the run is good.
    pub(crate) fn faults(&self, thresholds: Thresholds) -> Vec<String> {
        let Self { deliveries, .. } = self;
        let mut faults = Vec::new();
        for (count, fault) in [
            (deliveries.lost, "deliveries were lost"),
            (deliveries.duplicated, "deliveries were duplicated"),
            (deliveries.reordered, "deliveries were reordered"),
            (deliveries.despite_refusal, "deliveries came from refused publications"),
            (self.losses.connections as u64, "connections were lost"),
        ] {
            if count > 0 {
                faults.push(format!("{} {fault}", grouped(count)));
            }
        }
        if deliveries.received == 0 || self.latency.is_empty() {
            faults.push("nothing was delivered in the measured window".to_owned());
        }
        let p99_ms = self.latency.value_at_quantile(0.99) as f64 / 1e6;
        if let Some(most) = thresholds.p99_ms.filter(|most| p99_ms > *most) {
            faults.push(format!("p99 latency is {p99_ms:.3} ms, more than {most}"));
        }
        if let Some(most) = thresholds.cpu_us_per_delivery {
            match self.server_cost_ns().map(|cpu_ns| cpu_ns / 1e3) {
                Some(cpu_us) if cpu_us <= most => {}
                Some(cpu_us) => {
                    faults.push(format!("a delivery costs {cpu_us:.3} µs, more than {most}"));
                }
                None => faults.push("the cost of a delivery was not measured".to_owned()),
            }
        }
        faults
    }

    fn deliveries_per_second(&self) -> u64 {
        (u128::from(self.window.deliveries) * 1_000_000_000
            / u128::from(self.window.wall_ns.max(1)))
        .try_into()
        .unwrap_or(u64::MAX)
    }

    /// Nanoseconds of the server's processor time per delivery. None at all means that another
    /// process was watched, or that the window was too short for the kernel's clock.
    pub(crate) fn server_cost_ns(&self) -> Option<f64> {
        let server = self.window.server.as_ref()?;
        self.per_delivery_ns(server.process).filter(|cpu_ns| *cpu_ns > 0.0)
    }

    /// Where the server's processor time was read.
    pub(crate) fn cpu_source(&self) -> Option<&'static str> {
        self.window.server.as_ref().map(|server| server.process.source())
    }

    /// Nanoseconds of processor time per delivery in the window.
    fn per_delivery_ns(&self, cpu: Cpu) -> Option<f64> {
        let deliveries = self.window.deliveries;
        (deliveries > 0).then(|| cpu.total_ns() as f64 / deliveries as f64)
    }

    /// The same per byte of a frame, so that APIs whose frames differ can be compared.
    fn per_byte_ns(&self, cpu: Cpu) -> Option<f64> {
        Some(self.per_delivery_ns(cpu)? / self.frames.median()? as f64)
    }

    fn cost_rows(&self, table: &mut Table) {
        table.row("frame", [("median", bytes(self.frames.median().map(|bytes| bytes as f64)))]);
        if let Some(server) = &self.window.server {
            self.cpu_row(table, "server CPU", server.process);
            for (name, cpu) in server.threads.values() {
                self.cpu_row(table, &format!("  {name}"), *cpu);
            }
        }
        if let Some(source) = self.cpu_source() {
            table.line("", &format!("per delivery from {source}, user and system from stat"));
        }
        if let Some(memory) = self.memory {
            table.row("server memory", memory_cells(memory));
        }
        let client = match self.client_processes {
            1 => "client CPU".to_owned(),
            count => format!("client CPU, {count}"),
        };
        self.cpu_row(table, &client, self.window.client.process);
    }

    fn cpu_row(&self, table: &mut Table, title: &str, cpu: Cpu) {
        let cores = cpu.total_ns() as f64 * 1e2 / self.window.wall_ns.max(1) as f64;
        table.row(
            title,
            [
                ("per delivery", micros(self.per_delivery_ns(cpu))),
                ("per byte", nanos(self.per_byte_ns(cpu))),
                ("user", format!("{} ms", grouped(cpu.user_us / 1_000))),
                ("system", format!("{} ms", grouped(cpu.system_us / 1_000))),
                ("of one core", format!("{cores:.0} %")),
            ],
        );
    }

    fn loss_rows(&self, table: &mut Table) {
        loss_rows(table, &self.losses);
        if let (Some(first), count) = &self.errors {
            table.row("complaints", [("received", grouped(*count))]);
            table.line("the first", first);
        }
    }

    fn usage_json(&self, usage: &Usage) -> Value {
        let threads = usage.threads.values();
        let threads: Vec<Value> = threads
            .map(|(name, cpu)| {
                json!({
                    "name": name,
                    "user_us": cpu.user_us,
                    "system_us": cpu.system_us,
                    "total_ns": cpu.total_ns(),
                })
            })
            .collect();
        json!({
            "user_us": usage.process.user_us,
            "system_us": usage.process.system_us,
            "total_ns": usage.process.total_ns(),
            "total_from": usage.process.source(),
            "us_per_delivery": self.per_delivery_ns(usage.process).map(|ns| ns / 1e3),
            "ns_per_frame_byte": self.per_byte_ns(usage.process),
            "threads": threads,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::Api;

    fn usage(user_us: u64, system_us: u64) -> Usage {
        let process = Cpu { user_us, system_us, run_ns: None };
        Usage { process, threads: [(7, ("worker-0".to_owned(), process))].into() }
    }

    pub(in crate::report) fn good() -> FanoutReport {
        let mut frames = FrameLengths::default();
        frames.note(250);
        let mut latency = Histogram::new_with_bounds(1_000, 600_000_000_000, 3).unwrap();
        for step in 1..=1_000 {
            latency.record(step * 1_000).unwrap();
        }
        FanoutReport {
            scenario: "fanout",
            client_processes: 1,
            asked: Asked {
                api: Api::InsForge,
                channel: "load:1".to_owned(),
                subscribers: 10,
                rate: 10.0,
                payload_bytes: 128,
                seconds: 10.0,
            },
            publications: Publications { sent: 100, accepted: 100, ..Publications::default() },
            deliveries: Deliveries { expected: 1_000, received: 1_000, ..Deliveries::default() },
            latency,
            frames,
            window: Window {
                wall_ns: 10_000_000_000,
                deliveries: 1_000,
                server: Some(usage(1_000, 4_000)),
                client: usage(0, 3_000),
            },
            memory: None,
            losses: Losses::default(),
            errors: (None, 0),
        }
    }

    #[test]
    fn a_good_run_has_no_faults_and_shows_its_figures() {
        let report = good();
        assert_eq!(report.faults(Thresholds::default()), Vec::<String>::new());
        let table = report.table();
        for part in [
            "received 1,000",
            "p50 0.500 ms",
            "worker-0",
            "median 250 B",
            "per delivery 5.000 µs   per byte 20.000 ns",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        let json = report.json();
        assert_eq!(json["latency_ns"]["count"], 1_000);
        assert_eq!((&json["api"], &json["frame_bytes"]), (&"insforge".into(), &250.into()));
        assert_eq!(json["window"]["server"]["us_per_delivery"], 5.0);
        assert_eq!(json["window"]["server"]["ns_per_frame_byte"], 20.0);
        assert!(!json.to_string().contains('\n'));
    }

    #[test]
    fn each_defect_is_a_fault() {
        let spoil: [fn(&mut FanoutReport); 6] = [
            |report| report.deliveries.lost = 1,
            |report| report.deliveries.duplicated = 1,
            |report| report.deliveries.reordered = 1,
            |report| report.deliveries.despite_refusal = 1,
            |report| report.losses.connections = 1,
            |report| report.latency.clear(),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(report.faults(Thresholds::default()).len(), 1, "defect {number}");
        }
    }

    #[test]
    fn thresholds_are_kept_or_broken() {
        let limits = |p99_ms, cpu_us_per_delivery| Thresholds {
            p99_ms: Some(p99_ms),
            cpu_us_per_delivery: Some(cpu_us_per_delivery),
        };
        assert_eq!(good().faults(limits(0.995, 5.0)).len(), 0);
        assert_eq!(good().faults(limits(0.985, 5.0)).len(), 1);
        assert_eq!(good().faults(limits(0.985, 4.9)).len(), 2);
        let mut unknown = good();
        for server in [None, Some(usage(0, 0))] {
            unknown.window.server = server;
            assert_eq!(unknown.faults(limits(1.0, 5.0)).len(), 1);
        }
    }
}
