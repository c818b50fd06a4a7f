//! The report of `saturate`.

use serde_json::{Value, json};

use crate::report::figure::{Better, Unit};
use crate::report::record::Distribution;
use crate::report::verdict::{Kind, Load, Verdict};
use crate::report::{Frame, PublishReport, Record};
use crate::table::{Table, grouped, micros, plural, were};

/// The least share of the expected deliveries that a sustained step delivers within its window.
const DELIVERED_MIN: f64 = 0.95;
/// Percent of a core from which a process counts as busy, if its threads are unknown.
const BUSY: f64 = 90.0;

/// The result of `saturate`.
pub(crate) struct SaturateReport {
    pub(crate) subscribers: usize,
    /// The 99th percentile of latency that a sustained step does not exceed, in ms.
    pub(crate) p99_ms: f64,
    /// The highest rate that is tried, in publications per second.
    pub(crate) most: f64,
    /// The steps in the order in which they were measured.
    pub(crate) steps: Vec<Step>,
    /// Whether Ctrl-C ended the run.
    pub(crate) interrupted: bool,
}

/// Limits of the highest step that is sustained.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepLimits {
    /// The least rate, in publications per second.
    pub(crate) min_rate: Option<f64>,
    /// The highest 99th percentile of latency, in ms.
    pub(crate) p99_ms: Option<f64>,
    /// The most processor time of the server for each delivery, in µs.
    pub(crate) cpu_us: Option<f64>,
}

/// One rate and what came of it.
pub(crate) struct Step {
    pub(crate) rate: f64,
    /// Why the rate is not sustained; empty if it is.
    pub(crate) limits: Vec<String>,
    started: String,
    report: PublishReport,
    p99_ms: f64,
}

impl Step {
    /// Judges a step: it is sustained if nothing is lost or refused, if deliveries come as fast as
    /// publications are due, and if the 99th percentile of latency is at most `p99_ms`.
    pub(crate) fn of(rate: f64, started: String, report: PublishReport, p99_ms: f64) -> Self {
        let mut limits = report.faults(Some(p99_ms), None);
        limits.extend(report.shortfalls());
        let refused = report.publications.refused;
        if refused > 0 {
            limits.push(format!("{} refused", were(refused, "publication")));
        }
        let clients = report.subscribers.as_ref().map_or(0, |it| it.clients);
        let expected = rate * clients as f64;
        let reached = report.work.per_planned_second();
        // At low rates one publication more or less is much of the window.
        let slack = clients as f64 / report.asked.seconds.max(0.001);
        if reached + slack < expected * DELIVERED_MIN {
            let (reached, expected) = (grouped(reached as u64), grouped(expected as u64));
            limits.push(format!("only {reached} of {expected} deliveries/s were reached"));
        }
        let latency = report.subscribers.as_ref().map(|it| it.latency.value_at_quantile(0.99));
        let p99_ms = latency.unwrap_or_default() as f64 / 1e6;
        Self { rate, limits, p99_ms, started, report }
    }

    /// Returns the step as one line for people.
    pub(crate) fn line(&self) -> String {
        let each = micros(self.report.work.server_ns());
        let reached = grouped(self.report.work.per_second().round() as u64);
        let Self { rate, p99_ms, .. } = self;
        let verdict = if self.limits.is_empty() { "sustained" } else { &self.limits.join(", ") };
        format!("  {rate:.1}/s: {reached} deliveries/s, p99 {p99_ms:.1} ms, {each} each: {verdict}")
    }

    /// Returns how the server cut the step short, if it did.
    pub(crate) fn cut(&self) -> Option<String> {
        self.report.work.cut()
    }

    /// Returns whether the server and the clients were busy; `None` for a server whose processor time
    /// is unknown. A thread that waits for a processor is busy, too.
    fn busy(&self) -> (Option<bool>, bool) {
        let evidence = self.report.work.evidence();
        let (server, client) = self.report.work.cores();
        let full = |load: &Option<Load>| load.as_ref().is_some_and(Load::is_full);
        let clients = full(&evidence.client) || full(&evidence.publisher);
        let unknown = evidence.client.is_none() && client >= BUSY;
        (server.map(|it| it >= BUSY || full(&evidence.server)), clients || unknown)
    }

    /// Returns which side was at its limit, as far as the processors say.
    fn culprit(&self) -> &'static str {
        match self.busy() {
            (Some(true), false) => "the server was busy and the clients were not: it fell behind",
            (Some(true), true) => "server and clients were busy: either may have fallen behind",
            (_, true) => "the clients were busy: they fell behind, and the server may do more",
            (None, false) => "the clients were not busy: the server or the machine fell behind",
            (Some(false), false) => {
                "neither the server nor the clients were busy: they waited, or the machine was busy \
                 with something else"
            }
        }
    }

    /// Returns the step as it is saved. What it exceeded is why its rate is not sustained.
    fn record(&self, frame: &Frame) -> Record {
        let mut frame = Frame { started: self.started.clone(), ..frame.clone() };
        frame.settings.insert("rate".to_owned(), self.rate.into());
        let mut record = self.report.record(frame, None, None);
        let limits = self.limits.iter().filter(|limit| !record.defects.contains(limit));
        record.exceeded = limits.cloned().collect();
        record
    }

    fn json(&self) -> Value {
        let mut result = self.report.json();
        result["limits"] = json!(self.limits);
        result
    }
}

impl SaturateReport {
    /// Returns the highest step that was sustained.
    fn best(&self) -> Option<&Step> {
        let sustained = self.steps.iter().filter(|step| step.limits.is_empty());
        sustained.max_by(|one, other| one.rate.total_cmp(&other.rate))
    }

    /// Returns the lowest step that was not.
    fn worst(&self) -> Option<&Step> {
        let failed = self.steps.iter().filter(|step| !step.limits.is_empty());
        failed.min_by(|one, other| one.rate.total_cmp(&other.rate))
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let Self { subscribers, p99_ms, most, .. } = self;
        let subscribers = plural(*subscribers, "subscriber");
        let mut table = Table::new(format!("saturate: {subscribers}, p99 of at most {p99_ms} ms"));
        match self.best() {
            None => table.line("sustained", "no rate"),
            Some(best) => {
                let work = &best.report.work;
                let cells = [
                    ("publications/s", format!("{:.1}", best.rate)),
                    ("deliveries/s", grouped(work.per_second().round() as u64)),
                    ("p99", format!("{:.3} ms", best.p99_ms)),
                    ("server CPU each", micros(work.server_ns())),
                ];
                table.row("sustained", cells);
            }
        }
        match self.worst() {
            None => table.line("stopped", &format!("at the highest rate that is tried, {most}/s")),
            Some(worst) => {
                let reason = worst.limits.join(", ");
                table.line("stopped", &format!("at {:.1}/s: {reason}", worst.rate));
                table.line("", worst.culprit());
            }
        }
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        json!({
            "scenario": "saturate",
            "subscribers": self.subscribers,
            "p99_ms": self.p99_ms,
            "sustained": self.best().map(Step::json),
            "stopped": self.worst().map(Step::json),
            "culprit": self.worst().map(Step::culprit),
            "steps": self.steps.iter().map(Step::json).collect::<Vec<_>>(),
        })
    }

    /// Returns the run as it is saved. Its figures, latencies and course are those of the highest
    /// step that is sustained.
    pub(crate) fn record(&self, frame: Frame, limits: &StepLimits) -> Record {
        let title = format!(
            "{}, rates of {} to {} publications/s",
            plural(self.subscribers, "subscriber"),
            shown(self.steps.iter().map(|step| step.rate).fold(f64::INFINITY, f64::min)),
            shown(self.steps.iter().map(|step| step.rate).fold(0.0, f64::max)),
        );
        let runs = self.steps.iter().map(|step| step.record(&frame)).collect();
        let mut record = Record::new(frame, "saturate", title);
        record.result = self.json();
        record.verdict = self.verdict();
        let best = self.best();
        let rate = best.map(|step| step.rate);
        record.figure("sustained publications", Unit::PerSecond, Better::Higher, rate);
        let rate = self.worst().map(|step| step.rate);
        record.figure("not sustained", Unit::PerSecond, Better::Neither, rate);
        let cut = self.steps.iter().find_map(Step::cut);
        let is_cut = cut.is_some();
        record.defects.extend(cut);
        match best {
            None if is_cut => {}
            None => {
                let fault = "no rate is sustained: begin with a lower one (--from)";
                record.defects.push(fault.to_owned());
            }
            Some(Step { rate, report, .. }) => {
                if let Some(least) = limits.min_rate.filter(|least| rate < least) {
                    let fault =
                        format!("{rate:.1} publications/s are sustained, less than {least}");
                    record.exceeded.push(fault);
                }
                record.exceeded.extend(report.exceeded(limits.p99_ms, limits.cpu_us));
                record.latency = Distribution::of(report.latency());
                record.latency_figures(report.latency());
                report.work.save_into(&mut record);
            }
        }
        record.interrupted = self.interrupted;
        record.runs = runs;
        record
    }

    /// Weighs why there is no higher rate: if the load tester fell behind, the limit is not the
    /// server's. A server that falls behind is what the scenario looks for.
    fn verdict(&self) -> Verdict {
        let mut evidence = Vec::new();
        if let Some(best) = self.best() {
            evidence.push(format!("{} publications/s are sustained.", shown(best.rate)));
        }
        let Some(worst) = self.worst() else {
            evidence.push(format!("{} is the highest rate that is tried.", shown(self.most)));
            return Verdict { kind: Kind::Valid, evidence };
        };
        evidence.push(format!("{} are not: {}.", shown(worst.rate), worst.limits.join(", ")));
        evidence.push(format!("At that rate {}.", worst.culprit()));
        let kind = match worst.report.verdict().kind {
            kind @ (Kind::ServerStarved | Kind::ServerStuck | Kind::ServerEnded) => kind,
            _ if worst.busy().1 => Kind::ClientFellBehind,
            _ => Kind::Valid,
        };
        Verdict { kind, evidence }
    }
}

/// Formats a rate with at most one decimal.
fn shown(rate: f64) -> String {
    if rate.fract() == 0.0 { grouped(rate as u64) } else { format!("{rate:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::histogram;
    use crate::machine::Versions;
    use crate::procfs::{Cpu, Usage};
    use crate::report::{Losses, PostAsked, Publications, Subscribers, Window, Work};
    use crate::tally::Deliveries;

    fn frame() -> Frame {
        Frame::now(json!({}), Versions::with(None))
    }

    /// A step at 100/s with ten subscribers for one second, and the percent of a core that server
    /// and clients used.
    fn step(deliveries: u64, lost: u64, cores: (u64, u64)) -> Step {
        let mut latency = histogram();
        latency.record(5_000_000).unwrap();
        let usage = |percent| Usage {
            process: Cpu { user_us: percent * 10_000, system_us: 0, run_ns: None, wait_ns: None },
            threads: [].into(),
        };
        let report = PublishReport {
            scenario: "saturate",
            asked: PostAsked {
                connections: 1,
                depth: 16,
                rate: Some(100.0),
                payload_bytes: 128,
                seconds: 1.0,
            },
            publications: Publications { sent: 100, accepted: 100, ..Publications::default() },
            answers: latency.clone(),
            subscribers: Some(Subscribers {
                across: None,
                channels: 1,
                clients: 10,
                deliveries: Deliveries { lost, ..Deliveries::default() },
                latency,
                frame_bytes: None,
                losses: Losses::default(),
                closed_as_slow: 0,
            }),
            work: Work {
                unit: "deliveries",
                window: Window {
                    wall_ns: 1_000_000_000,
                    cpu_wall_ns: 1_000_000_000,
                    deliveries,
                    server: Some(usage(cores.0)),
                    client: usage(cores.1),
                },
                ..Work::default()
            },
        };
        let report = PublishReport {
            work: Work { planned: report.work.window.clone(), ..report.work },
            ..report
        };
        Step::of(100.0, Frame::started(), report, 10.0)
    }

    #[test]
    fn a_step_is_sustained_unless_it_loses_or_lags() {
        assert_eq!(step(1_000, 0, (50, 50)).limits, Vec::<String>::new());
        assert_eq!(step(940, 0, (50, 50)).limits.len(), 0, "one publication is 1 % here");
        assert_eq!(step(900, 0, (50, 50)).limits.len(), 1);
        assert_eq!(step(900, 3, (50, 50)).limits.len(), 2);
    }

    #[test]
    fn the_report_says_what_is_sustained_and_who_fell_behind() {
        let report = |steps| SaturateReport {
            subscribers: 10,
            p99_ms: 10.0,
            most: 200.0,
            steps,
            interrupted: false,
        };
        let limits = |least| StepLimits { min_rate: Some(least), ..StepLimits::default() };
        let record = |report: &SaturateReport, least| report.record(frame(), &limits(least));
        let mut higher = step(500, 0, (97, 40));
        higher.rate = 200.0;
        let both = report(vec![step(1_000, 0, (50, 50)), higher]);
        assert_eq!(both.json()["sustained"]["rate"], 100.0);
        let table = both.table();
        assert!(
            table.contains("publications/s 100.0") && table.contains("it fell behind"),
            "{table}"
        );
        let saved = record(&both, 100.0);
        assert_eq!((saved.defects.len(), saved.exceeded.len()), (0, 0));
        assert_eq!(saved.headline(), "100 publications/s are sustained");
        assert_eq!((saved.seconds, saved.runs.len()), (1.0, 2));
        assert_eq!(saved.runs[0].exceeded.len(), 0);
        assert_eq!(saved.runs[1].exceeded, ["only 500 of 1,000 deliveries/s were reached"]);
        assert_eq!(record(&both, 101.0).exceeded.len(), 1);
        let cheap = StepLimits { p99_ms: Some(4.0), cpu_us: Some(1.0), ..limits(1.0) };
        assert_eq!(both.record(frame(), &cheap).exceeded.len(), 2);
        let none = report(vec![step(100, 0, (10, 10))]);
        assert!(none.table().contains("no rate") && record(&none, 1.0).defects.len() == 1);
        let by_clients = report(vec![step(1_000, 0, (50, 50)), step(500, 0, (97, 95))]);
        assert_eq!(record(&by_clients, 1.0).verdict.kind, Kind::ClientFellBehind);
        assert_eq!(saved.verdict.kind, Kind::Valid, "a server at its limit is what is looked for");
        assert!(step(100, 0, (10, 95)).culprit().contains("clients were busy"));
    }
}
