//! The report of `documents`.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::documents::{Counts, Field, Verdict, Writes};
use crate::fate::Cut;
use crate::procfs::Memory;
use crate::report::costs::Costs;
use crate::report::figure::{Better, Unit};
use crate::report::record::{Distribution, Frame, Record};
use crate::report::thresholds::{Judged, Thresholds};
use crate::report::{
    Losses, Measured, bytes_each, counted, error_rows, latency_cells, latency_json, loss_rows,
    memory_json, nothing_delivered, per_second, quantile, verdict_rows,
};
use crate::table::{Table, bytes, grouped, memory_cells, millis, plural};
use crate::tally::Deliveries;

/// The parameters of the run, named as in the arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Number of documents, subscriptions per client, and seed.
    pub(crate) field: Field,
    /// Number of clients, the slow ones included.
    pub(crate) clients: usize,
    /// Number of clients that were slow.
    pub(crate) slow: usize,
    /// Whether clients connected as browsers do.
    pub(crate) browser: bool,
    /// Writes per second that were asked for.
    pub(crate) rate: f64,
    /// Size of a document's data, in bytes.
    pub(crate) payload_bytes: usize,
    /// Length of the measured window, in s.
    pub(crate) seconds: f64,
    /// Whether documents were written while clients subscribed.
    pub(crate) write_early: bool,
}

/// The server's memory at four moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    /// Before the first connection.
    pub(crate) before: Memory,
    /// With all clients connected and none subscribed.
    pub(crate) connected: Memory,
    /// With all clients subscribed.
    pub(crate) subscribed: Memory,
    /// After the last delivery; `None` if the server has ended.
    pub(crate) after: Option<Memory>,
}

/// The result of `documents`.
pub(crate) struct DocumentsReport {
    pub(crate) asked: Asked,
    pub(crate) measured: Measured,
    /// How long it took until all clients had subscribed, in ns.
    pub(crate) subscribing_ns: u64,
    /// The outcomes of the writes.
    pub(crate) writes: Writes,
    /// Answers to the subscribes, and deliveries that were wrong.
    pub(crate) counts: Counts,
    /// The deliveries compared with the writes.
    pub(crate) verdict: Verdict,
    /// Time from a write's due time to the reading of its update, in ns.
    pub(crate) latency: Histogram<u64>,
    /// The cost of the deliveries.
    pub(crate) costs: Costs,
    /// The server's memory, if its process is known.
    pub(crate) memory: Option<Steps>,
    /// Connections lost during the run.
    pub(crate) losses: Losses,
    /// The first error from the server, and their number.
    pub(crate) errors: (Option<String>, u64),
}

impl DocumentsReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(self.title());
        table.row(
            "subscribing",
            [
                ("took", millis(self.subscribing_ns)),
                ("found", grouped(self.counts.found)),
                ("not found", grouped(self.counts.warned)),
            ],
        );
        self.write_rows(&mut table);
        self.delivery_rows(&mut table);
        table.row("latency", latency_cells(&self.latency));
        self.costs.rows(&mut table, None);
        self.memory_rows(&mut table);
        loss_rows(&mut table, &self.losses);
        error_rows(&mut table, &self.errors);
        verdict_rows(&mut table, &self.measured.verdict);
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let Self { asked, writes, counts, verdict, .. } = self;
        let mut result = json!({
            "scenario": "documents",
            "api": "m2",
            "resources": asked.field.resources,
            "clients": asked.clients,
            "subscriptions": asked.field.subscriptions,
            "seed": asked.field.seed,
            "slow": asked.slow,
            "browser": asked.browser,
            "rate": asked.rate,
            "payload_bytes": asked.payload_bytes,
            "seconds": asked.seconds,
            "write_early": asked.write_early,
            "subscribing": {
                "took_ns": self.subscribing_ns,
                "found": counts.found,
                "not_found": counts.warned,
            },
            "writes": {
                "sent": writes.sent(),
                "accepted": writes.accepted(),
                "failures": writes.failures,
                "unanswered": writes.unanswered,
                "late_ns_max": writes.late_ns_max,
                "latency_ns": latency_json(&writes.latency),
            },
            "deliveries": {
                "expected": verdict.expected,
                "received": verdict.received,
                "conflated": verdict.conflated,
                "lost": verdict.lost,
                "duplicated": counts.duplicated,
                "reordered": counts.reordered,
                "misrouted": counts.misrouted,
                "despite_refusal": verdict.despite_refusal,
                "same_version": verdict.same_version,
            },
            "latency_ns": latency_json(&self.latency),
            "measured_seconds": self.measured.seconds,
            "interrupted": self.measured.interrupted,
            "verdict": self.measured.verdict,
            "server_memory": self.memory.map(|steps| self.steps_json(&steps)),
            "connections_lost": self.losses.connections,
            "realtime_errors": self.errors.1,
        });
        self.costs.put_into(&mut result);
        result
    }

    /// Returns the run as it is saved and shown.
    pub(crate) fn record(&self, frame: Frame, thresholds: Thresholds) -> Record {
        let Self { measured, .. } = self;
        let mut record = Record::new(frame, "documents", self.title());
        record.follow(measured);
        record.defects = self.defects(thresholds);
        record.exceeded = thresholds.exceeded(self.judged());
        record.latency = Distribution::of(&self.latency);
        record.result = self.json();
        self.figures(&mut record);
        record
    }

    fn figures(&self, record: &mut Record) {
        use Better::{Higher, Lower, Neither};
        use Unit::{Bytes, Ns, PerSecond};
        let Self { costs, verdict, counts, .. } = self;
        record.figure("writes", PerSecond, Neither, Some(self.asked.rate));
        record.figure("delivered", PerSecond, Higher, costs.deliveries_per_second());
        record.latency_figures(&self.latency);
        costs.figures(record);
        let steps = self.memory.as_ref();
        record.figure(
            "server memory",
            Bytes,
            Lower,
            steps.and_then(|steps| Some(steps.after?.rss as f64)),
        );
        let connection = steps.and_then(|steps| self.per_connection(steps));
        record.figure("memory per connection", Bytes, Lower, connection);
        let subscription = steps.and_then(|steps| self.per_subscription(steps));
        record.figure("memory per subscription", Bytes, Lower, subscription);
        record.faults([
            ("lost", verdict.lost),
            ("duplicated", counts.duplicated),
            ("reordered", counts.reordered),
            ("misrouted", counts.misrouted),
            ("refused writes", self.writes.failures.get(&503).copied().unwrap_or_default()),
            ("lost connections", self.losses.connections as u64),
        ]);
        let late_ns = self.writes.late_ns_max as f64;
        record.figure("writer late, max", Ns, Lower, Some(late_ns));
    }

    fn judged(&self) -> Judged {
        Judged {
            p99_ns: quantile(&self.latency, 0.99),
            cpu_ns_per_delivery: self.costs.server_cost_ns(),
            bytes_per_connection: self.memory.and_then(|steps| self.per_connection(&steps)),
        }
    }

    /// Returns the faults of the updates and connections. Of the thresholds, only that of lost
    /// documents counts here.
    fn defects(&self, thresholds: Thresholds) -> Vec<String> {
        let Self { counts, verdict, .. } = self;
        let mut faults: Vec<_> = self.measured.cut.as_ref().map(Cut::text).into_iter().collect();
        let loss = thresholds.loss(&Deliveries {
            lost: verdict.lost,
            expected: verdict.expected,
            ..Deliveries::default()
        });
        faults.extend(loss.map(|loss| format!("{loss}: the last version did not arrive")));
        faults.extend(counted([
            (counts.duplicated, "update", "duplicated"),
            (counts.reordered, "update", "older than an earlier one"),
            (counts.misrouted, "update", "sent to clients that did not subscribe to it"),
            (verdict.despite_refusal, "update", "made of refused writes"),
            (verdict.same_version, "write", "given the same version as another write"),
            (self.losses.connections as u64, "connection", "lost"),
            (self.errors.1, "error", "sent by the server"),
        ]));
        faults.extend(nothing_delivered(verdict.received, &self.latency));
        faults
    }

    fn title(&self) -> String {
        let Asked { field, clients, slow, rate, payload_bytes, seconds, .. } = self.asked;
        let slow =
            if slow > 0 { format!(", {} slow", grouped(slow as u64)) } else { String::new() };
        format!(
            "documents in M2: {}{slow}, each with {} of {} documents, {rate} writes/s of {} \
             bytes for {seconds} s",
            plural(clients, "client"),
            grouped(field.subscriptions.into()),
            grouped(field.resources.into()),
            grouped(payload_bytes as u64)
        )
    }

    fn write_rows(&self, table: &mut Table) {
        let Self { writes, .. } = self;
        let refused = writes.failures.get(&503).copied().unwrap_or_default();
        let failed = writes.failures.values().sum::<u64>() - refused;
        table.row(
            "writes",
            [
                ("sent", grouped(writes.sent())),
                ("accepted", grouped(writes.accepted())),
                ("refused (503)", grouped(refused)),
                ("failed", grouped(failed)),
                ("unanswered", grouped(writes.unanswered)),
                ("late by at most", millis(writes.late_ns_max)),
            ],
        );
        table.row("answered after", latency_cells(&writes.latency));
    }

    fn delivery_rows(&self, table: &mut Table) {
        let Self { counts, verdict, .. } = self;
        table.row(
            "deliveries",
            [
                ("expected", grouped(verdict.expected)),
                ("received", grouped(verdict.received)),
                ("conflated", grouped(verdict.conflated)),
                ("per second", per_second(self.costs.deliveries_per_second())),
            ],
        );
        table.row(
            "",
            [
                ("lost", grouped(verdict.lost)),
                ("duplicated", grouped(counts.duplicated)),
                ("reordered", grouped(counts.reordered)),
                ("misrouted", grouped(counts.misrouted)),
                ("despite refusal", grouped(verdict.despite_refusal)),
                ("same version", grouped(verdict.same_version)),
            ],
        );
    }

    fn memory_rows(&self, table: &mut Table) {
        let Some(steps) = &self.memory else {
            return;
        };
        table.row("server memory", memory_cells(steps.before));
        table.row("  connected", memory_cells(steps.connected));
        table.row("  subscribed", memory_cells(steps.subscribed));
        if let Some(after) = steps.after {
            table.row("  at the end", memory_cells(after));
        }
        table.row(
            "RSS per",
            [
                ("connection", bytes(self.per_connection(steps))),
                ("subscription", bytes(self.per_subscription(steps))),
            ],
        );
    }

    fn steps_json(&self, steps: &Steps) -> Value {
        json!({
            "before": memory_json(steps.before),
            "connected": memory_json(steps.connected),
            "subscribed": memory_json(steps.subscribed),
            "after": steps.after.map(memory_json),
            "rss_bytes_per_connection": self.per_connection(steps),
            "rss_bytes_per_subscription": self.per_subscription(steps),
        })
    }

    fn per_connection(&self, steps: &Steps) -> Option<f64> {
        bytes_each(steps.before.rss, steps.connected.rss, self.asked.clients as f64)
    }

    fn per_subscription(&self, steps: &Steps) -> Option<f64> {
        let subscriptions = self.asked.clients as f64 * f64::from(self.asked.field.subscriptions);
        bytes_each(steps.connected.rss, steps.subscribed.rss, subscriptions)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::heard::histogram;
    use crate::lengths::FrameLengths;
    use crate::procfs::{Cpu, Usage};
    use crate::report::{Evidence, Series, Verdict as RunVerdict, Window};

    fn good() -> DocumentsReport {
        let mut latency = histogram();
        (1..=1_000).for_each(|step| latency.record(step * 1_000).unwrap());
        let mut frames = FrameLengths::default();
        frames.note(250);
        let process = Cpu { user_us: 1_000, system_us: 4_000, ..Cpu::default() };
        let memory = |rss| Memory { rss, ..Memory::default() };
        let mut writes = Writes::nothing();
        writes.failures = BTreeMap::from([(503, 2), (500, 1)]);
        DocumentsReport {
            asked: Asked {
                field: Field { seed: 1, resources: 1_000, subscriptions: 20 },
                clients: 100,
                slow: 7,
                browser: false,
                rate: 10.0,
                payload_bytes: 128,
                seconds: 10.0,
                write_early: false,
            },
            measured: Measured {
                seconds: 10.0,
                interrupted: false,
                series: Series::default(),
                verdict: RunVerdict::of(&Evidence::default()),
                joined: None,
                cut: None,
            },
            subscribing_ns: 1_500_000,
            writes,
            counts: Counts { found: 5, warned: 1_995, ..Counts::default() },
            verdict: Verdict {
                expected: 1_010,
                received: 1_000,
                conflated: 10,
                ..Verdict::default()
            },
            latency,
            costs: Costs {
                frames,
                window: Window {
                    wall_ns: 10_000_000_000,
                    cpu_wall_ns: 10_000_000_000,
                    deliveries: 1_000,
                    server: Some(Usage { process, ..Usage::default() }),
                    client: Usage::default(),
                },
                client_processes: 1,
            },
            memory: Some(Steps {
                before: memory(1_000_000),
                connected: memory(1_100_000),
                subscribed: memory(1_500_000),
                after: Some(memory(2_000_000)),
            }),
            losses: Losses::default(),
            errors: (None, 0),
        }
    }

    #[test]
    fn a_good_run_has_no_faults_and_shows_its_figures() {
        let report = good();
        assert_eq!(report.defects(Thresholds::default()), Vec::<String>::new());
        let table = report.table();
        for part in [
            "100 clients, 7 slow, each with 20 of 1,000 documents",
            "took 1.500 ms   found 5   not found 1,995",
            "refused (503) 2   failed 1",
            "received 1,000   conflated 10   per second 100",
            "p50 0.500 ms",
            "per delivery 5.000 µs",
            "connection 1000 B   subscription 200 B",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        let json = report.json();
        assert_eq!(json["server_memory"]["rss_bytes_per_subscription"], 200.0);
        assert_eq!(json["writes"]["failures"]["503"], 2);
        assert_eq!(json["deliveries"]["conflated"], 10);
        assert_eq!(json["window"]["server"]["us_per_delivery"], 5.0);
    }

    #[test]
    fn each_defect_is_a_fault() {
        let spoil: [fn(&mut DocumentsReport); 9] = [
            |report| report.verdict.lost = 1,
            |report| report.counts.duplicated = 1,
            |report| report.counts.reordered = 1,
            |report| report.counts.misrouted = 1,
            |report| report.verdict.despite_refusal = 1,
            |report| report.verdict.same_version = 1,
            |report| report.losses.connections = 1,
            |report| report.errors.1 = 1,
            |report| report.latency.clear(),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(report.defects(Thresholds::default()).len(), 1, "defect {number}");
        }
        let slow = Thresholds {
            p99_ms: Some(0.5),
            cpu_us_per_delivery: Some(4.0),
            bytes_per_connection: Some(999.0),
            ..Thresholds::default()
        };
        assert_eq!(slow.exceeded(good().judged()).len(), 3);
        let mut reused = good();
        if let Some(steps) = &mut reused.memory {
            steps.connected.rss = steps.before.rss - 1;
        }
        assert!(reused.table().contains("connection -   subscription"));
        let fault = &slow.exceeded(reused.judged())[2];
        assert!(fault.contains("was not measured"), "{fault}");
    }
}
