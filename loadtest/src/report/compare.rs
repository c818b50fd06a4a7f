//! The report of `compare`.

use serde_json::{Value, json};

use crate::lengths::FrameLengths;
use crate::report::{Asked, FanoutReport, Thresholds};
use crate::table::{Table, bytes, micros, millis};

/// A run of the node and a run of the floor, one right after the other.
pub(crate) struct Pair {
    /// Whether the node ran first.
    pub(crate) node_first: bool,
    pub(crate) node: FanoutReport,
    pub(crate) floor: FanoutReport,
}

impl Pair {
    /// Returns the node's cost per delivery divided by the floor's; `None` if one is unknown.
    fn ratio(&self) -> Option<f64> {
        Some(self.node.costs.server_cost_ns()? / self.floor.costs.server_cost_ns()?)
    }

    /// Returns the line for people, whose columns are those of [`CompareReport::head`].
    pub(crate) fn line(&self, number: usize) -> String {
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let p99 = |report: &FanoutReport| millis(report.latency.value_at_quantile(0.99));
        format!(
            "  {number:>4}  {:<5}  {:>10}  {:>10}  {ratio:>6}  {:>12}  {:>12}",
            if self.node_first { "node" } else { "floor" },
            micros(self.node.costs.server_cost_ns()),
            micros(self.floor.costs.server_cost_ns()),
            p99(&self.node),
            p99(&self.floor),
        )
    }

    fn json(&self) -> Value {
        let run = |report: &FanoutReport| {
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
}

/// The result of `compare`.
pub(crate) struct CompareReport {
    /// The arguments that both servers were measured with.
    pub(crate) asked: Asked,
    /// Processors of server and clients, if they were pinned.
    pub(crate) processors: (Option<usize>, Option<usize>),
    /// All pairs, in the order in which they ran.
    pub(crate) pairs: Vec<Pair>,
}

impl CompareReport {
    /// Returns the title and the heading of the pairs' lines.
    pub(crate) fn head(asked: &Asked, pairs: usize) -> String {
        let columns = format!(
            "  {:>4}  {:<5}  {:>10}  {:>10}  {:>6}  {:>12}  {:>12}",
            "pair", "first", "node CPU", "floor CPU", "ratio", "node p99", "floor p99"
        );
        format!("compare on {asked}, {pairs} pairs\n{columns}")
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
    pub(crate) fn json(&self) -> Value {
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

    /// Returns the faults; empty if every run was good and the median ratio is at most `ratio_max`.
    pub(crate) fn faults(&self, ratio_max: Option<f64>) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            for (name, report) in [("node", &pair.node), ("floor", &pair.floor)] {
                let found = report.faults(Thresholds::default());
                let number = number + 1;
                faults.extend(found.iter().map(|fault| format!("pair {number}, {name}: {fault}")));
            }
        }
        let ratios = self.ratios();
        if ratios.len() < self.pairs.len() {
            faults.push("the cost of a delivery was not measured in all runs".to_owned());
        }
        let median = Spread::of(&ratios).map(|spread| spread.median);
        if let Some((median, most)) = median.zip(ratio_max).filter(|(median, most)| median > most) {
            faults.push(format!("the median ratio is {median:.3}, more than {most}"));
        }
        faults
    }

    fn ratios(&self) -> Vec<f64> {
        self.pairs.iter().filter_map(Pair::ratio).collect()
    }

    fn costs_us(&self, side: impl Fn(&Pair) -> &FanoutReport) -> Vec<f64> {
        self.pairs
            .iter()
            .filter_map(|pair| Some(side(pair).costs.server_cost_ns()? / 1e3))
            .collect()
    }

    /// Returns the median frame length of one side.
    fn frame(&self, side: impl Fn(&Pair) -> &FanoutReport) -> String {
        let mut frames = FrameLengths::default();
        self.pairs.iter().for_each(|pair| frames.add(&side(pair).costs.frames));
        bytes(frames.median().map(|bytes| bytes as f64))
    }

    fn sources(&self) -> Vec<&'static str> {
        let reports = self.pairs.iter().flat_map(|pair| [&pair.node, &pair.floor]);
        let mut sources: Vec<_> = reports.filter_map(|report| report.costs.cpu_source()).collect();
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

fn spread_json(figures: &[f64]) -> Option<Value> {
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
        let run = |cpu_us| {
            let mut report = good();
            let server = report.costs.window.server.as_mut().unwrap();
            (server.process.user_us, server.process.system_us) = (0, cpu_us);
            report
        };
        let pair = |(node_us, floor_us): &(u64, u64)| Pair {
            node_first: true,
            node: run(*node_us),
            floor: run(*floor_us),
        };
        CompareReport {
            asked: good().asked,
            processors: (Some(0), None),
            pairs: costs_us.iter().map(pair).collect(),
        }
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
        assert_eq!(report.faults(Some(1.2)), Vec::<String>::new());
        assert_eq!(report.faults(Some(1.19)).len(), 1);
    }

    #[test]
    fn a_bad_run_and_an_unknown_cost_are_faults() {
        let mut lossy = report(&[(1_200, 1_000)]);
        lossy.pairs[0].floor.deliveries.lost = 2;
        assert_eq!(lossy.faults(None), ["pair 1, floor: 2 deliveries were lost"]);
        assert_eq!(report(&[(0, 1_000)]).faults(Some(2.0)).len(), 1);
    }
}
