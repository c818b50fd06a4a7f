//! The report of `fanout` and `floor`.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::fate::Cut;
use crate::procfs::Memory;
use crate::report::costs::Costs;
use crate::report::figure::{Better, Unit};
use crate::report::record::{Distribution, Frame, Record};
use crate::report::thresholds::{Judged, Thresholds};
use crate::report::{
    Across, Asked, Audience, Losses, Offer, Series, Verdict, bytes_each, counted, deliveries_json,
    error_rows, latency_cells, latency_json, loss_cells, loss_rows, memory_json, nothing_delivered,
    per_second, quantile, told_row, verdict_rows,
};
use crate::table::{Table, bytes, grouped, millis};
use crate::tally::Deliveries;

/// Counts of the publisher.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Publications {
    /// Publications sent, including those of the warm-up.
    pub(crate) sent: u64,
    /// Publications that were answered with a status of 2xx.
    pub(crate) accepted: u64,
    /// Publications that were answered with 503, because a queue was full.
    pub(crate) refused: u64,
    /// Publications without an answer, because their connection broke.
    pub(crate) unanswered: u64,
    /// The longest delay of a publication after its due time, in ns.
    pub(crate) late_ns_max: u64,
}

impl Publications {
    /// Returns the counts for machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "accepted": self.accepted,
            "refused": self.refused,
            "unanswered": self.unanswered,
            "late_ns_max": self.late_ns_max,
        })
    }
}

/// The course of a run, and what it says of the figures.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Length of the measured window as it was, in s.
    pub(crate) seconds: f64,
    /// Whether Ctrl-C ended the run.
    pub(crate) interrupted: bool,
    pub(crate) series: Series,
    pub(crate) verdict: Verdict,
    /// The server's resident memory before the first connection and with all of them, in bytes.
    pub(crate) joined: Option<(u64, u64)>,
    /// How the server cut the run short.
    pub(crate) cut: Option<Cut>,
}

/// The result of `fanout` or `floor`.
pub(crate) struct FanoutReport {
    /// The name of the command.
    pub(crate) scenario: &'static str,
    pub(crate) asked: Asked,
    pub(crate) measured: Measured,
    /// Counts of the publisher.
    pub(crate) publications: Publications,
    /// Counts of the subscribers.
    pub(crate) deliveries: Deliveries,
    /// The clients of each API, if they are of several.
    pub(crate) audiences: Vec<Audience>,
    /// The clients at each node, if they are at several.
    pub(crate) across: Option<Across>,
    /// Time from a publication's due time to its reading, in ns.
    pub(crate) latency: Histogram<u64>,
    /// The cost of the deliveries.
    pub(crate) costs: Costs,
    /// The server's memory at the end, if its process is known.
    pub(crate) memory: Option<Memory>,
    /// Connections lost during the run.
    pub(crate) losses: Losses,
    /// The first error from the server, and their number.
    pub(crate) errors: (Option<String>, u64),
}

impl FanoutReport {
    /// Returns the table for people.
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
                ("per second", per_second(self.costs.deliveries_per_second())),
            ],
        );
        table.row("", loss_cells(deliveries));
        told_row(&mut table, deliveries);
        table.row("latency", latency_cells(&self.latency));
        self.audiences.iter().for_each(|audience| audience.rows(&mut table));
        self.across.iter().for_each(|across| across.rows(&mut table));
        if self.memory.is_some() {
            table.row("per connection", [("RSS", bytes(self.bytes_per_connection()))]);
        }
        self.costs.rows(&mut table, self.memory);
        loss_rows(&mut table, &self.losses);
        error_rows(&mut table, &self.errors);
        verdict_rows(&mut table, &self.measured.verdict);
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let Self { publications, deliveries, .. } = self;
        let mut result = json!({
            "scenario": self.scenario,
            "publications": publications.json(),
            "deliveries": deliveries_json(deliveries),
            "audiences": self.audiences.iter().map(Audience::json).collect::<Vec<_>>(),
            "latency_ns": latency_json(&self.latency),
            "server_memory": self.memory.map(memory_json),
            "bytes_per_connection": self.bytes_per_connection(),
            "measured_seconds": self.measured.seconds,
            "interrupted": self.measured.interrupted,
            "verdict": self.measured.verdict,
            "connections_lost": self.losses.connections,
            "realtime_errors": self.errors.1,
        });
        self.costs.put_into(&mut result);
        self.asked.put_into(&mut result);
        self.across.iter().for_each(|across| across.put_into(&mut result));
        result
    }

    /// Returns the run as it is saved and shown.
    pub(crate) fn record(&self, frame: Frame, thresholds: Thresholds) -> Record {
        let Self { asked, measured, .. } = self;
        let mut record = Record::new(frame, self.scenario, asked.to_string());
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
        use Unit::{Bytes, Count, Ns, PerSecond};
        let Self { asked, costs, deliveries, publications, .. } = self;
        let offer = Offer {
            rate: asked.rate,
            audience: (asked.subscribers + asked.streams) as f64,
            seconds: asked.seconds,
        };
        let some = |count: u64| Some(count as f64);
        record.figure("offered", PerSecond, Neither, Some(offer.rate * offer.audience));
        record.figure("delivered", PerSecond, Higher, costs.deliveries_per_second());
        record.latency_figures(&self.latency);
        costs.figures(record);
        record.figure("server memory", Bytes, Lower, self.memory.map(|memory| memory.rss as f64));
        record.figure("memory per connection", Bytes, Lower, self.bytes_per_connection());
        record.figure("expected deliveries", Count, Neither, some(deliveries.expected));
        record.faults([
            ("lost", deliveries.lost),
            ("duplicated", deliveries.duplicated),
            ("reordered", deliveries.reordered),
            ("refused publications", publications.refused),
            ("lost connections", self.losses.connections as u64),
        ]);
        self.across.iter().for_each(|across| across.figures(record));
        record.figure("publisher late, max", Ns, Lower, some(publications.late_ns_max));
    }

    fn judged(&self) -> Judged {
        Judged {
            p99_ns: quantile(&self.latency, 0.99),
            cpu_ns_per_delivery: self.costs.server_cost_ns(),
            bytes_per_connection: self.bytes_per_connection(),
        }
    }

    fn bytes_per_connection(&self) -> Option<f64> {
        let (before, connected) = self.measured.joined?;
        bytes_each(before, connected, (self.asked.subscribers + self.asked.streams) as f64)
    }

    /// Returns the faults of the deliveries and connections. Of the thresholds, only that of lost
    /// deliveries counts here.
    fn defects(&self, thresholds: Thresholds) -> Vec<String> {
        let Self { deliveries, .. } = self;
        let mut faults: Vec<_> = self.measured.cut.as_ref().map(Cut::text).into_iter().collect();
        faults.extend(thresholds.loss(deliveries));
        faults.extend(counted([
            (deliveries.duplicated, "delivery", "duplicated"),
            (deliveries.reordered, "delivery", "reordered"),
            (deliveries.despite_refusal, "delivery", "made of refused publications"),
            (self.losses.connections as u64, "connection", "lost"),
        ]));
        faults.extend(self.across.as_ref().and_then(Across::defect));
        faults.extend(nothing_delivered(deliveries.received, &self.latency));
        faults
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::Api;
    use crate::lengths::FrameLengths;
    use crate::procfs::{Cpu, Usage};
    use crate::report::{Evidence, Window};

    impl FanoutReport {
        fn faults(&self, thresholds: Thresholds) -> Vec<String> {
            [self.defects(thresholds), thresholds.exceeded(self.judged())].concat()
        }
    }

    fn usage(user_us: u64, system_us: u64) -> Usage {
        let process = Cpu { user_us, system_us, ..Cpu::default() };
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
            asked: Asked {
                api: Api::InsForge,
                channel: "load:1".to_owned(),
                subscribers: 10,
                streams: 0,
                rate: 10.0,
                payload_bytes: 128,
                seconds: 10.0,
            },
            measured: Measured {
                seconds: 10.0,
                interrupted: false,
                series: Series::default(),
                verdict: Verdict::of(&Evidence::default()),
                joined: Some((1_000_000, 1_006_000)),
                cut: None,
            },
            publications: Publications { sent: 100, accepted: 100, ..Publications::default() },
            deliveries: Deliveries { expected: 1_000, received: 1_000, ..Deliveries::default() },
            audiences: Vec::new(),
            across: None,
            latency,
            costs: Costs {
                frames,
                window: Window {
                    wall_ns: 10_000_000_000,
                    cpu_wall_ns: 10_000_000_000,
                    deliveries: 1_000,
                    server: Some(usage(1_000, 4_000)),
                    client: usage(0, 3_000),
                },
                client_processes: 1,
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
    fn the_clients_of_each_api_are_shown_if_they_are_of_several() {
        let mut report = good();
        assert!(!report.table().contains("of these"));
        assert_eq!(report.json()["audiences"], Value::from(Vec::<Value>::new()));
        report.asked.streams = 1_000;
        report.audiences.push(Audience {
            api: Api::Events,
            clients: 1_000,
            deliveries: Deliveries { received: 90, lost: 10, ..Deliveries::default() },
            latency: report.latency.clone(),
            frames: report.costs.frames.clone(),
            errors: 3,
        });
        let table = report.table();
        for part in ["10 subscribers, 1,000 streams, ", "1,000 clients of Server-Sent", "lost 10 "]
        {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        let audience = &report.json()["audiences"][0];
        assert_eq!((&audience["api"], &audience["clients"]), (&"events".into(), &1_000.into()));
        assert_eq!(
            (&audience["deliveries"]["lost"], &audience["realtime_errors"]),
            (&10.into(), &3.into())
        );
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
            ..Thresholds::default()
        };
        assert_eq!(good().faults(limits(0.995, 5.0)).len(), 0);
        assert_eq!(good().faults(limits(0.985, 5.0)).len(), 1);
        assert_eq!(good().faults(limits(0.985, 4.9)).len(), 2);
        let mut unknown = good();
        for server in [None, Some(usage(0, 0))] {
            unknown.costs.window.server = server;
            assert_eq!(unknown.faults(limits(1.0, 5.0)).len(), 1);
        }
    }
}
