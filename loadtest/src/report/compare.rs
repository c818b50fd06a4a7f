//! The report of `compare`.

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::lengths::FrameLengths;
use crate::machine::Versions;
use crate::report::figure::{Better, Unit};
use crate::report::record::Distribution;
use crate::report::thresholds::Judged;
use crate::report::verdict::{Kind, Verdict};
use crate::report::{Asked, FanoutReport, Frame, Record, Thresholds, quantile};
use crate::table::{Table, bytes, micros, millis, plural};

/// A run of the node and a run of the floor, one right after the other.
pub(crate) struct Pair {
    /// Whether the node ran first.
    pub(crate) node_first: bool,
    pub(crate) node: Run,
    pub(crate) floor: Run,
}

/// A measured server.
pub(crate) struct Run {
    started: String,
    report: FanoutReport,
}

impl Run {
    /// Measures a server from now on.
    pub(crate) fn start(measure: impl FnOnce() -> Result<FanoutReport>) -> Result<Self> {
        Ok(Self { started: Frame::started(), report: measure()? })
    }

    fn cost_ns(&self) -> Option<f64> {
        self.report.costs.server_cost_ns()
    }
}

impl Pair {
    /// Returns the node's cost per delivery divided by the floor's; `None` if one is unknown.
    fn ratio(&self) -> Option<f64> {
        Some(self.node.cost_ns()? / self.floor.cost_ns()?)
    }

    /// Returns the line for people, whose columns are those of [`CompareReport::head`].
    pub(crate) fn line(&self, number: usize) -> String {
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let p99 = |run: &Run| millis(run.report.latency.value_at_quantile(0.99));
        format!(
            "  {number:>4}  {:<5}  {:>10}  {:>10}  {ratio:>6}  {:>12}  {:>12}",
            if self.node_first { "node" } else { "floor" },
            micros(self.node.cost_ns()),
            micros(self.floor.cost_ns()),
            p99(&self.node),
            p99(&self.floor),
        )
    }

    fn json(&self) -> Json {
        let run = |Run { report, .. }: &Run| {
            json!({
                "us_per_delivery": report.costs.server_cost_ns().map(|ns| ns / 1e3),
                "frame_bytes": report.costs.frames.median(),
                "total_from": report.costs.cpu_source(),
                "deliveries": report.costs.window.deliveries,
                "lost": report.deliveries.lost,
                "p50_ns": report.latency.value_at_quantile(0.5),
                "p99_ns": report.latency.value_at_quantile(0.99),
                "late_ns_max": report.publications.late_ns_max,
            })
        };
        json!({
            "first": if self.node_first { "node" } else { "floor" },
            "node": run(&self.node),
            "floor": run(&self.floor),
            "ratio": self.ratio(),
        })
    }

    /// Returns the runs with their servers, in the order of time.
    fn runs(&self) -> [(&'static str, &Run); 2] {
        let (node, floor) = (("node", &self.node), ("floor", &self.floor));
        if self.node_first { [node, floor] } else { [floor, node] }
    }
}

/// The result of `compare`.
pub(crate) struct CompareReport {
    /// The arguments that both servers were measured with.
    pub(crate) asked: Asked,
    /// Processors of server and clients, if they were pinned.
    pub(crate) processors: (Option<usize>, Option<usize>),
    /// All pairs, in the order in which they ran.
    pub(crate) pairs: Vec<Pair>,
    /// Whether Ctrl-C ended the run.
    pub(crate) interrupted: bool,
}

impl CompareReport {
    /// Returns the title and the heading of the pairs' lines.
    pub(crate) fn head(asked: &Asked, pairs: usize) -> String {
        let columns = format!(
            "  {:>4}  {:<5}  {:>10}  {:>10}  {:>6}  {:>12}  {:>12}",
            "pair", "first", "node CPU", "floor CPU", "ratio", "node p99", "floor p99"
        );
        format!("compare on {asked}, {}\n{columns}", plural(pairs, "pair"))
    }

    /// Returns the table for people, which stands below the pairs' lines.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new("CPU per delivery".to_owned());
        let ratio = |ratio: f64| format!("{ratio:.3}");
        table.row("ratio", cells(&self.ratios(), ratio));
        table.row("node", cells(&self.costs_us(|pair| &pair.node), micros_of));
        table.row("floor", cells(&self.costs_us(|pair| &pair.floor), micros_of));
        table.row(
            "frame",
            [("node", self.frame(|pair| &pair.node)), ("floor", self.frame(|pair| &pair.floor))],
        );
        table.line("CPU time from", &self.sources().join(", "));
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Json {
        let (server_cpu, client_cpu) = self.processors;
        let mut result = json!({
            "scenario": "compare",
            "server_cpu": server_cpu,
            "client_cpu": client_cpu,
            "ratio": spread_json(&self.ratios()),
            "node_us_per_delivery": spread_json(&self.costs_us(|pair| &pair.node)),
            "floor_us_per_delivery": spread_json(&self.costs_us(|pair| &pair.floor)),
            "pairs": self.pairs.iter().map(Pair::json).collect::<Vec<_>>(),
        });
        self.asked.put_into(&mut result);
        result
    }

    /// Returns the run as it is saved, which is good if every run was and the median ratio is at most
    /// `ratio_max`. Thresholds are for the medians of the node.
    pub(crate) fn record(
        &self,
        frame: Frame,
        floor: &Versions,
        thresholds: Thresholds,
        ratio_max: Option<f64>,
    ) -> Record {
        let title = format!(
            "node and floor in turn, {} on {}",
            plural(self.pairs.len(), "pair"),
            self.asked
        );
        let runs = self.runs().map(|(name, run)| {
            let mut frame = Frame { started: run.started.clone(), ..frame.clone() };
            if run.report.scenario == "floor" {
                frame.versions = floor.clone();
            }
            let mut record = run.report.record(frame, thresholds);
            record.title = format!("{name}: {}", record.title);
            (name, record)
        });
        let runs: Vec<_> = runs.collect();
        let mut record = Record::new(frame, "compare", title);
        record.interrupted = self.interrupted;
        record.verdict = verdict(&runs);
        for (name, run) in &runs {
            record.seconds += run.seconds;
            record.defects.extend(run.defects.iter().map(|fault| format!("{name}: {fault}")));
        }
        if self.ratios().len() < self.pairs.len() {
            record.defects.push("the cost of a delivery was not measured in all runs".to_owned());
        }
        record.exceeded = thresholds.exceeded(self.judged());
        let median = median(&self.ratios());
        if let Some((median, most)) = median.zip(ratio_max).filter(|(median, most)| median > most) {
            let fault = format!("the median ratio is {median:.3}, more than {most} (--max-ratio)");
            record.exceeded.push(fault);
        }
        record.result = self.json();
        self.figures(&mut record);
        let of_node = runs.iter().filter(|(_, run)| run.scenario != "floor");
        record.latency = Distribution::sum(of_node.filter_map(|(_, run)| run.latency.as_ref()));
        record.runs = runs.into_iter().map(|(_, run)| run).collect();
        record
    }

    /// Returns all runs with their names, in the order of time.
    fn runs(&self) -> impl Iterator<Item = (String, &Run)> {
        (1..).zip(&self.pairs).flat_map(|(number, pair)| {
            pair.runs().map(|(name, run)| (format!("pair {number}, {name}"), run))
        })
    }

    fn figures(&self, record: &mut Record) {
        use Better::{Higher, Lower, Neither};
        use Unit::{Bytes, Count, Ns, PerSecond, Ratio};
        let ratios = Spread::of(&self.ratios());
        record.figure("ratio", Ratio, Lower, ratios.map(|it| it.median));
        record.figure("ratio, lower quartile", Ratio, Neither, ratios.map(|it| it.lower_quartile));
        record.figure("ratio, upper quartile", Ratio, Neither, ratios.map(|it| it.upper_quartile));
        let medians: [(&str, Unit, Better, Value); 5] = [
            ("CPU per delivery", Ns, Lower, |run| run.costs.server_cost_ns()),
            ("latency p50", Ns, Lower, |run| Some(quantile(&run.latency, 0.5)? as f64)),
            ("latency p99", Ns, Lower, |run| Some(quantile(&run.latency, 0.99)? as f64)),
            ("delivered", PerSecond, Higher, |run| run.costs.deliveries_per_second()),
            ("memory", Bytes, Lower, |run| Some(run.memory?.rss as f64)),
        ];
        for (name, unit, better, value) in medians {
            let node = median_of(self.pairs.iter().map(|pair| &pair.node), value);
            record.figure(&format!("node {name}"), unit, better, node);
            let floor = median_of(self.pairs.iter().map(|pair| &pair.floor), value);
            record.figure(&format!("floor {name}"), unit, Neither, floor);
        }
        let lost = self.runs().map(|(_, run)| run.report.deliveries.lost).sum::<u64>();
        record.figure("lost", Count, Lower, Some(lost as f64));
    }

    fn judged(&self) -> Judged {
        let middle = |value: Value| median_of(self.pairs.iter().map(|pair| &pair.node), value);
        Judged {
            p99_ns: middle(|run| Some(quantile(&run.latency, 0.99)? as f64)).map(|ns| ns as u64),
            cpu_ns_per_delivery: middle(|run| run.costs.server_cost_ns()),
            ..Judged::default()
        }
    }

    fn ratios(&self) -> Vec<f64> {
        self.pairs.iter().filter_map(Pair::ratio).collect()
    }

    fn costs_us(&self, side: impl Fn(&Pair) -> &Run) -> Vec<f64> {
        self.pairs.iter().filter_map(|pair| Some(side(pair).cost_ns()? / 1e3)).collect()
    }

    /// Returns the median frame length of one side.
    fn frame(&self, side: impl Fn(&Pair) -> &Run) -> String {
        let mut frames = FrameLengths::default();
        self.pairs.iter().for_each(|pair| frames.add(&side(pair).report.costs.frames));
        bytes(frames.median().map(|bytes| bytes as f64))
    }

    fn sources(&self) -> Vec<&'static str> {
        let reports = self.pairs.iter().flat_map(|pair| [&pair.node, &pair.floor]);
        let sources = reports.filter_map(|run| run.report.costs.cpu_source());
        let mut sources: Vec<_> = sources.collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

/// Median, quartiles and extremes of a set of figures.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Spread {
    min: f64,
    lower_quartile: f64,
    median: f64,
    upper_quartile: f64,
    max: f64,
}

impl Spread {
    /// Returns `None` if there are no figures. Between two figures, quantiles are interpolated
    /// linearly.
    fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |quarter: usize| {
            let place = last * quarter;
            let (below, rest) = (place / 4, place % 4);
            let above = (below + 1).min(last);
            sorted[below] + (sorted[above] - sorted[below]) * rest as f64 / 4.0
        };
        Some(Self {
            min: at(0),
            lower_quartile: at(1),
            median: at(2),
            upper_quartile: at(3),
            max: at(4),
        })
    }
}

/// Returns the middle of a set of figures; `None` if there are none.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    Spread::of(figures).map(|spread| spread.median)
}

/// A figure of a run; `None` if it was not measured.
type Value = fn(&FanoutReport) -> Option<f64>;

fn median_of<'a>(runs: impl Iterator<Item = &'a Run>, value: Value) -> Option<f64> {
    median(&runs.filter_map(|run| value(&run.report)).collect::<Vec<_>>())
}

/// Returns the worst verdict of all runs, and says of each that is not valid why.
fn verdict(runs: &[(String, Record)]) -> Verdict {
    let worst = Kind::DOUBTFUL
        .into_iter()
        .find(|kind| runs.iter().any(|(_, run)| run.verdict.kind == *kind));
    let doubtful = runs.iter().filter(|(_, run)| run.verdict.kind != Kind::Valid);
    let reason = |(name, run): &(String, Record)| {
        let why = run.verdict.evidence.first().map_or("", String::as_str);
        format!("In {name} {}: {why}", run.verdict.words())
    };
    let mut evidence: Vec<_> = doubtful.map(reason).collect();
    let valid = runs.len() - evidence.len();
    evidence.push(format!("Clients and servers kept up in {valid} of {} runs.", runs.len()));
    Verdict { kind: worst.unwrap_or(Kind::Valid), evidence }
}

fn micros_of(us: f64) -> String {
    micros(Some(us * 1e3))
}

fn cells(figures: &[f64], show: impl Fn(f64) -> String) -> [(&'static str, String); 4] {
    let spread = Spread::of(figures);
    let show = |figure: fn(Spread) -> f64| {
        spread.map_or_else(|| "-".to_owned(), |spread| show(figure(spread)))
    };
    let quartiles = format!(
        "{} … {}",
        show(|spread| spread.lower_quartile),
        show(|spread| spread.upper_quartile)
    );
    [
        ("median", show(|spread| spread.median)),
        ("quartiles", quartiles),
        ("min", show(|spread| spread.min)),
        ("max", show(|spread| spread.max)),
    ]
}

fn spread_json(figures: &[f64]) -> Option<Json> {
    Spread::of(figures).map(|spread| {
        json!({
            "median": spread.median,
            "lower_quartile": spread.lower_quartile,
            "upper_quartile": spread.upper_quartile,
            "min": spread.min,
            "max": spread.max,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fanout::tests::good;

    fn report(costs_us: &[(u64, u64)]) -> CompareReport {
        let run = |scenario, cpu_us| {
            let mut report = FanoutReport { scenario, ..good() };
            let server = report.costs.window.server.as_mut().unwrap();
            (server.process.user_us, server.process.system_us) = (0, cpu_us);
            Run { started: Frame::started(), report }
        };
        let pair = |(node_us, floor_us): &(u64, u64)| Pair {
            node_first: true,
            node: run("fanout", *node_us),
            floor: run("floor", *floor_us),
        };
        CompareReport {
            asked: good().asked,
            processors: (Some(0), None),
            pairs: costs_us.iter().map(pair).collect(),
            interrupted: false,
        }
    }

    fn record(report: &CompareReport, ratio_max: Option<f64>) -> Record {
        let [node, floor] = ["a node", "a floor"].map(|it| Versions::with(Some(it.to_owned())));
        report.record(Frame::now(json!({}), node), &floor, Thresholds::default(), ratio_max)
    }

    #[test]
    fn quartiles_lie_between_the_figures() {
        assert_eq!(Spread::of(&[]), None);
        let one = Spread::of(&[3.0]).unwrap();
        assert_eq!((one.min, one.lower_quartile, one.median, one.max), (3.0, 3.0, 3.0, 3.0));
        let four = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((four.min, four.max), (1.0, 4.0));
        assert_eq!((four.lower_quartile, four.median, four.upper_quartile), (1.75, 2.5, 3.25));
    }

    #[test]
    fn ratios_are_taken_within_pairs_and_their_median_is_judged() {
        let report = report(&[(1_200, 1_000), (2_200, 2_000), (3_900, 3_000)]);
        let json = report.json();
        assert_eq!(json["ratio"]["median"], 1.2);
        assert_eq!(json["ratio"]["max"], 1.3);
        assert_eq!(json["floor_us_per_delivery"]["median"], 2.0);
        assert_eq!(json["server_cpu"], 0);
        assert!(report.table().contains("median 1.200"));
        assert!(report.table().contains("node 250 B   floor 250 B"));
        assert!(report.pairs[0].line(1).contains("1.200 µs    1.000 µs   1.200"));
        let saved = record(&report, Some(1.2));
        assert_eq!((saved.defects.len(), saved.exceeded.len()), (0, 0));
        assert_eq!((saved.runs.len(), saved.seconds), (6, 60.0));
        assert_eq!(
            saved.headline(),
            "A delivery costs the node 1.200 times what it costs the floor"
        );
        let servers: Vec<_> =
            saved.runs.iter().map(|run| run.versions.server.as_deref().unwrap()).collect();
        assert_eq!(servers, ["a node", "a floor", "a node", "a floor", "a node", "a floor"]);
        assert_eq!(
            (saved.value("node CPU per delivery"), saved.value("lost")),
            (Some(2_200.0), Some(0.0))
        );
        assert_eq!(saved.latency.unwrap().count(), 3_000, "those of the node's runs");
        assert_eq!(record(&report, Some(1.19)).exceeded.len(), 1);
        let slow = Thresholds { p99_ms: Some(0.5), ..Thresholds::default() };
        let frame = Frame::now(json!({}), Versions::with(None));
        assert_eq!(report.record(frame, &Versions::with(None), slow, None).exceeded.len(), 1);
    }

    #[test]
    fn one_run_that_fell_behind_makes_the_whole_doubtful() {
        let mut report = report(&[(1_200, 1_000), (1_300, 1_000)]);
        assert_eq!(record(&report, None).verdict.kind, Kind::Valid);
        report.pairs[1].floor.report.measured.verdict.kind = Kind::ServerFellBehind;
        let verdict = record(&report, None).verdict;
        assert_eq!(verdict.kind, Kind::ServerFellBehind);
        assert!(verdict.evidence[0].starts_with("In pair 2, floor the server fell behind: "));
        assert_eq!(verdict.evidence[1], "Clients and servers kept up in 3 of 4 runs.");
    }

    #[test]
    fn a_bad_run_and_an_unknown_cost_are_faults() {
        let mut lossy = report(&[(1_200, 1_000)]);
        lossy.pairs[0].floor.report.deliveries.lost = 2;
        assert_eq!(record(&lossy, None).defects, ["pair 1, floor: 2 deliveries were lost"]);
        let unknown = record(&report(&[(0, 1_000)]), Some(2.0));
        assert_eq!((unknown.defects.len(), unknown.exceeded.len()), (1, 0));
    }
}
