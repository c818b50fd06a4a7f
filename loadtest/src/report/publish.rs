//! The report of `publish`, `many-channels` and their floors.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::fate::REST_PATIENCE;
use crate::report::figure::{Better, Unit};
use crate::report::record::Distribution;
use crate::report::{
    Across, Evidence, Frame, Losses, Publications, Record, Verdict, Work, counted, deliveries_json,
    late, latency_cells, latency_json, loss_cells, loss_rows, told_row, verdict_rows,
};
use crate::table::{Table, grouped, millis, plural, were};
use crate::tally::Deliveries;

/// The parameters of a run that publishes on several connections.
#[derive(Clone, Debug)]
pub(crate) struct PostAsked {
    pub(crate) connections: usize,
    /// Unanswered publications on each connection.
    pub(crate) depth: usize,
    /// Publications per second; `None` for as many as were answered.
    pub(crate) rate: Option<f64>,
    pub(crate) payload_bytes: usize,
    /// Length of the measured window, in s.
    pub(crate) seconds: f64,
}

/// The subscribers of a run with many channels.
pub(crate) struct Subscribers {
    pub(crate) channels: usize,
    pub(crate) clients: usize,
    pub(crate) deliveries: Deliveries,
    /// The clients at each node, if they are at several.
    pub(crate) across: Option<Across>,
    /// Time from a publication's due time to its reading, in ns.
    pub(crate) latency: Histogram<u64>,
    /// The length of most frames.
    pub(crate) frame_bytes: Option<usize>,
    pub(crate) losses: Losses,
    /// Of the lost connections, those that the server closed because their clients were too slow.
    pub(crate) closed_as_slow: usize,
}

impl Subscribers {
    /// Returns the number of clients of each channel.
    fn readers(&self) -> usize {
        self.clients / self.channels.max(1)
    }

    /// Returns the lost deliveries that have no excuse: the server named the others in gap notices,
    /// or their clients were closed as slow consumers.
    fn lost_in_silence(&self) -> u64 {
        let Deliveries { lost, announced, .. } = self.deliveries;
        lost - announced - self.missed_as_slow()
    }

    /// Returns the deliveries that clients missed because they were closed as slow consumers. If
    /// connections were lost for other reasons, too, it is not known whose deliveries these were.
    fn missed_as_slow(&self) -> u64 {
        if self.closed_as_slow == self.losses.connections { self.deliveries.cut_off } else { 0 }
    }
}

/// The result of publishing on several connections.
pub(crate) struct PublishReport {
    /// The name of the command.
    pub(crate) scenario: &'static str,
    pub(crate) asked: PostAsked,
    pub(crate) publications: Publications,
    /// Time from a publication's due time to its answer, in ns.
    pub(crate) answers: Histogram<u64>,
    /// `None` in a run without subscribers.
    pub(crate) subscribers: Option<Subscribers>,
    pub(crate) work: Work,
}

impl PublishReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let Self { asked, publications, .. } = self;
        let mut table = Table::new(self.title());
        table.row(
            "publications",
            [
                ("sent", grouped(publications.sent)),
                ("accepted", grouped(publications.accepted)),
                ("refused", grouped(publications.refused)),
                ("unanswered", grouped(publications.unanswered)),
            ],
        );
        if asked.rate.is_some() {
            table.row("", [("late by at most", millis(publications.late_ns_max))]);
        }
        table.row("answered after", latency_cells(&self.answers));
        if let Some(Subscribers { deliveries, across, latency, losses, .. }) = &self.subscribers {
            let cells = [
                ("expected", grouped(deliveries.expected)),
                ("received", grouped(deliveries.received)),
            ];
            table.row("deliveries", cells);
            table.row("", loss_cells(deliveries));
            told_row(&mut table, deliveries);
            across.iter().for_each(|across| across.rows(&mut table));
            table.row("latency", latency_cells(latency));
            loss_rows(&mut table, losses);
        }
        self.work.rows(&mut table);
        verdict_rows(&mut table, &self.verdict());
        table.text
    }

    fn title(&self) -> String {
        let PostAsked { connections, depth, rate, payload_bytes, seconds } = &self.asked;
        let pace = match rate {
            Some(rate) => format!("{rate} publications/s"),
            None => "as many publications as are answered".to_owned(),
        };
        let bytes = grouped(*payload_bytes as u64);
        let scenario = self.scenario;
        let audience = self.subscribers.as_ref().map(|it| {
            let clients = plural(it.clients, "subscriber");
            format!("{clients} on {}, ", plural(it.channels, "channel"))
        });
        let audience = audience.unwrap_or_default();
        let each = if *connections == 1 { "" } else { " on each" };
        format!(
            "{scenario}: {audience}{pace} of {bytes} bytes on {}, at most {depth} unanswered{each}, \
             for {seconds} s",
            plural(*connections, "connection")
        )
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let Self { asked, publications, .. } = self;
        let mut result = json!({
            "scenario": self.scenario,
            "connections": asked.connections,
            "depth": asked.depth,
            "rate": asked.rate,
            "payload_bytes": asked.payload_bytes,
            "seconds": asked.seconds,
            "publications": publications.json(),
            "answer_ns": latency_json(&self.answers),
        });
        if let Some(subscribers) = &self.subscribers {
            result["channels"] = subscribers.channels.into();
            result["subscribers"] = subscribers.clients.into();
            result["deliveries"] = deliveries_json(&subscribers.deliveries);
            result["latency_ns"] = latency_json(&subscribers.latency);
            result["frame_bytes"] = json!(subscribers.frame_bytes);
            result["connections_lost"] = subscribers.losses.connections.into();
            result["closed_as_slow"] = subscribers.closed_as_slow.into();
            subscribers.across.iter().for_each(|across| across.put_into(&mut result));
        }
        self.work.put_into(&mut result);
        result["verdict"] = json!(self.verdict());
        result
    }

    /// Returns what readers missed because they were not served in time, and were told so.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let counts = self
            .subscribers
            .as_ref()
            .map_or([0; 2], |it| [it.closed_as_slow as u64, it.deliveries.announced]);
        let [closed, left_out] = counts;
        counted([
            (closed, "client", "closed as slow consumers"),
            (left_out, "delivery", "left out"),
        ])
    }

    /// Whether client or server can have fallen behind. At full speed only readers can.
    pub(crate) fn is_judged(&self) -> bool {
        let hidden = !self.shortfalls().is_empty() || self.work.has_a_long_pause();
        self.asked.rate.is_some() || hidden
    }

    pub(super) fn verdict(&self) -> Verdict {
        let refused = self.publications.refused;
        let mut evidence = Evidence { refused, ..self.work.evidence() };
        if !self.work.interrupted {
            evidence.unanswered = self.publications.unanswered;
        }
        if let Some(subscribers) = &self.subscribers {
            evidence.left_out = subscribers.deliveries.announced;
            evidence.closed_as_slow = (subscribers.closed_as_slow, subscribers.missed_as_slow());
        }
        if let Some((rate, subscribers)) = self.asked.rate.zip(self.subscribers.as_ref()) {
            let readers = subscribers.readers();
            let never = (refused + self.publications.unanswered) * readers as u64;
            let Deliveries { lost, conflated, .. } = subscribers.deliveries;
            evidence.growth = self.work.series.growth();
            evidence.offered = rate * readers as f64 * evidence.seconds;
            evidence.settled = self.work.planned.deliveries + lost + conflated + never;
        }
        let mut verdict = Verdict::of(&evidence);
        let across = self.subscribers.iter().flat_map(|subscribers| &subscribers.across);
        verdict.evidence.extend(across.flat_map(Across::sentences));
        verdict
    }

    /// Returns the run as it is saved.
    pub(crate) fn record(&self, frame: Frame, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Record {
        let mut record = Record::new(frame, self.scenario, self.title());
        record.verdict = self.verdict();
        record.defects = self.defects();
        record.exceeded = self.exceeded(p99_ms, cpu_us);
        record.result = self.json();
        let latency = self.latency();
        record.latency = Distribution::of(latency);
        record.latency_figures(latency);
        self.work.save_into(&mut record);
        if let Some(rate) = self.asked.rate {
            let readers = self.subscribers.as_ref().map_or(1, Subscribers::readers);
            record.figure("offered", Unit::PerSecond, Better::Neither, Some(rate * readers as f64));
        }
        let Publications { accepted, refused, unanswered, .. } = self.publications;
        let accepted = Some(accepted as f64);
        record.figure("accepted publications", Unit::Count, Better::Neither, accepted);
        record.faults([("refused publications", refused), ("unanswered publications", unanswered)]);
        if let Some(Subscribers { deliveries, across, losses, .. }) = &self.subscribers {
            let expected = Some(deliveries.expected as f64);
            record.figure("expected deliveries", Unit::Count, Better::Neither, expected);
            record.faults([
                ("lost", deliveries.lost),
                ("duplicated", deliveries.duplicated),
                ("reordered", deliveries.reordered),
                ("lost connections", losses.connections as u64),
            ]);
            across.iter().for_each(|across| across.figures(&mut record));
        }
        record
    }

    /// Returns the faults; empty if the run was good.
    pub(crate) fn faults(&self, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Vec<String> {
        [self.defects(), self.exceeded(p99_ms, cpu_us)].concat()
    }

    fn defects(&self) -> Vec<String> {
        let mut faults: Vec<_> = self.work.cut().into_iter().collect();
        let mut counts = Vec::new();
        // Those that Ctrl-C left are no fault.
        let unanswered = self.publications.unanswered;
        if unanswered > 0 && !self.work.interrupted {
            let publications = were(unanswered, "publication");
            let waited = match self.work.cut {
                None => format!(", although they were waited for {} s", REST_PATIENCE.as_secs()),
                Some(_) => String::new(),
            };
            faults.push(format!("{publications} not answered{waited}"));
        }
        let mut latency = (&self.answers, "answered");
        if let Some(subscribers) = &self.subscribers {
            let Deliveries { duplicated, reordered, despite_refusal, .. } = subscribers.deliveries;
            let connections = subscribers.losses.connections - subscribers.closed_as_slow;
            counts.extend([
                (subscribers.lost_in_silence(), "delivery", "lost"),
                (duplicated, "delivery", "duplicated"),
                (reordered, "delivery", "reordered"),
                (despite_refusal, "delivery", "made of refused publications"),
                (connections as u64, "connection", "lost"),
            ]);
            latency = (&subscribers.latency, "delivered");
        }
        faults.extend(counted(counts));
        let across = self.subscribers.as_ref().and_then(|subscribers| subscribers.across.as_ref());
        faults.extend(across.and_then(Across::defect));
        let is_explained = self.work.interrupted || !self.shortfalls().is_empty();
        if latency.0.is_empty() && !is_explained {
            faults.push(format!("nothing that was due in the measured window was {}", latency.1));
        }
        faults
    }

    /// Returns the latencies of the deliveries, or of the answers if there are no subscribers.
    pub(super) fn latency(&self) -> &Histogram<u64> {
        self.subscribers.as_ref().map_or(&self.answers, |it| &it.latency)
    }

    /// Returns the thresholds that were exceeded.
    pub(super) fn exceeded(&self, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Vec<String> {
        late("latency", self.latency(), p99_ms).into_iter().chain(self.work.fault(cpu_us)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::histogram;
    use crate::procfs::{Cpu, Usage};
    use crate::report::{Kind, Window};

    fn report() -> PublishReport {
        let mut latency = histogram();
        (1..=100).for_each(|step| latency.record(step * 1_000_000).unwrap());
        let process = Cpu { user_us: 200, system_us: 800, run_ns: None, wait_ns: None };
        PublishReport {
            scenario: "publish",
            asked: PostAsked {
                connections: 16,
                depth: 2,
                rate: None,
                payload_bytes: 128,
                seconds: 2.0,
            },
            publications: Publications { sent: 100, accepted: 100, ..Publications::default() },
            answers: latency.clone(),
            subscribers: None,
            work: Work {
                unit: "publications",
                window: Window {
                    wall_ns: 2_000_000_000,
                    cpu_wall_ns: 2_000_000_000,
                    deliveries: 100,
                    server: Some(Usage { process, threads: [].into() }),
                    client: Usage::default(),
                },
                ..Work::default()
            },
        }
    }

    #[test]
    fn figures_are_those_of_the_window() {
        let report = report();
        assert!(report.table().contains("per second 50"), "{}", report.table());
        let json = report.json();
        assert_eq!(json["window"]["server"]["us_each"], 10.0);
        assert_eq!(json["window"]["per_second"], 50.0);
        assert_eq!(report.faults(Some(100.0), Some(10.0)), Vec::<String>::new());
        assert_eq!(report.faults(Some(98.0), Some(9.9)).len(), 2);
    }

    #[test]
    fn each_defect_is_a_fault() {
        let with = |deliveries, connections, unanswered| {
            let mut report = report();
            report.publications.unanswered = unanswered;
            report.subscribers = Some(Subscribers {
                across: None,
                channels: 5,
                clients: 10,
                deliveries,
                latency: report.answers.clone(),
                frame_bytes: None,
                losses: Losses { connections, first: None },
                closed_as_slow: 0,
            });
            report.faults(None, None).len()
        };
        let none = Deliveries::default();
        assert_eq!(with(none, 0, 0), 0);
        assert_eq!(with(none, 0, 1), 1);
        assert_eq!(with(none, 1, 0), 1);
        assert_eq!(with(Deliveries { lost: 1, duplicated: 1, ..none }, 0, 0), 2);
        assert_eq!(with(Deliveries { reordered: 1, despite_refusal: 1, ..none }, 0, 0), 2);
        let mut overloaded = report();
        overloaded.subscribers = Some(Subscribers {
            across: None,
            channels: 5,
            clients: 10,
            deliveries: Deliveries { lost: 70, announced: 54, cut_off: 16, ..none },
            latency: overloaded.answers.clone(),
            frame_bytes: None,
            losses: Losses { connections: 2, first: None },
            closed_as_slow: 2,
        });
        assert_eq!(overloaded.faults(None, None), Vec::<String>::new());
        assert_eq!(overloaded.verdict().kind, Kind::ServerFellBehind);
        assert!(overloaded.is_judged() && !report().is_judged());
        let subscribers = overloaded.subscribers.as_mut().unwrap();
        (subscribers.deliveries.lost, subscribers.losses.connections) = (71, 3);
        let faults = ["17 deliveries were lost", "1 connection was lost"];
        assert_eq!(overloaded.faults(None, None), faults);
        let mut silent = report();
        silent.answers.clear();
        silent.work.window.server = None;
        assert_eq!(silent.faults(None, Some(1.0)).len(), 2);
    }
}
