//! What a page shows of the runs of `compare`: node and floor side by side.

use std::fmt::Write as _;

use crate::report::compare::median;
use crate::report::figure::Unit;
use crate::report::page::chart::{Across, Chart, Curve, Line, percentiles};
use crate::report::page::course::latency_unit;
use crate::report::page::escape;
use crate::report::record::{Distribution, Record};
use crate::report::verdict::Kind;

/// The rows of the table: what a row is called, the figure of both sides, and that of a run.
const ROWS: [(&str, &str, &str); 5] = [
    ("CPU per delivery", "CPU per delivery", "CPU per delivery"),
    ("Median latency", "latency p50", "latency p50"),
    ("99th percentile", "latency p99", "latency p99"),
    ("Delivered", "delivered", "delivered"),
    ("Resident memory", "memory", "server memory"),
];

/// A run of the node and one of the floor.
struct Sides<'a> {
    node: &'a Record,
    floor: &'a Record,
    node_first: bool,
}

impl Sides<'_> {
    fn ratio(&self, name: &str) -> Option<f64> {
        let (node, floor) = self.node.value(name).zip(self.floor.value(name))?;
        (floor > 0.0).then_some(node / floor)
    }
}

impl Record {
    fn pairs(&self) -> Vec<Sides<'_>> {
        let pairs = self.runs.chunks_exact(2).map(|pair| {
            let node_first = pair[0].scenario != "floor";
            let (node, floor) =
                if node_first { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
            Sides { node, floor, node_first }
        });
        pairs.collect()
    }

    /// Adds the charts of both sides.
    pub(super) fn sides(&self, page: &mut String) {
        let pairs = self.pairs();
        let sum = |side: fn(&Record) -> bool| {
            let runs = self.runs.iter().filter(|run| side(run));
            Distribution::sum(runs.filter_map(|run| run.latency.as_ref()))
        };
        let node = sum(|run| run.scenario != "floor");
        let floor = sum(|run| run.scenario == "floor");
        if let (Some(node), Some(floor)) = (&node, &floor) {
            let curve =
                |name: &str, class, latency| Curve { name: name.to_owned(), class, latency };
            page.push_str(&percentiles(&[
                curve("node", "one", node),
                curve("floor", "two", floor),
            ]));
        }
        page.push_str(&by_pair(&pairs, "CPU per delivery", "CPU per delivery", 1e3, "µs"));
        let p99s = self.runs.iter().filter_map(|run| run.value("latency p99"));
        let (unit_ns, unit) = latency_unit(p99s.fold(0.0, f64::max) as u64);
        page.push_str(&by_pair(&pairs, "99th percentile of latency", "latency p99", unit_ns, unit));
        let ratios = (1..)
            .zip(&pairs)
            .map(|(number, pair)| (f64::from(number), pair.ratio("CPU per delivery")));
        let line = Line {
            name: "CPU of the node / CPU of the floor",
            class: "one",
            summary: String::new(),
            points: ratios.collect(),
        };
        page.push_str(&chart("Ratio", "", pairs.len(), vec![line]));
    }

    /// Adds a table of the medians of both sides, and one of the pairs.
    pub(super) fn sides_tables(&self, page: &mut String) {
        let pairs = self.pairs();
        page.push_str(
            "<h2>Medians, side by side</h2>\n<table class=\"runs\">\n<thead><tr><th></th>\
             <th>node</th><th>floor</th><th>node / floor</th></tr></thead>\n",
        );
        for (title, name, of_run) in ROWS {
            let [node, floor] = ["node", "floor"].map(|side| format!("{side} {name}"));
            let ratios: Vec<_> = pairs.iter().filter_map(|pair| pair.ratio(of_run)).collect();
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{title}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&self.text_of(&node)),
                escape(&self.text_of(&floor)),
                Unit::Ratio.text(median(&ratios)),
            );
        }
        page.push_str(
            "</table>\n<h2>Pairs</h2>\n<table class=\"runs\">\n<thead><tr><th>pair</th>\
             <th>first</th><th>node</th><th>floor</th><th>ratio</th><th></th></tr></thead>\n",
        );
        for (number, pair) in (1..).zip(&pairs) {
            let good = [pair.node, pair.floor]
                .iter()
                .all(|run| run.verdict.kind == Kind::Valid && run.defects.is_empty());
            let (class, word) = if good { ("valid", "valid") } else { ("failed", "doubtful") };
            let _ = writeln!(
                page,
                "<tr><td>{number}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td class=\"{class}\">{word}</td></tr>",
                if pair.node_first { "node" } else { "floor" },
                escape(&pair.node.text_of("CPU per delivery")),
                escape(&pair.floor.text_of("CPU per delivery")),
                Unit::Ratio.text(pair.ratio("CPU per delivery")),
            );
        }
        page.push_str("</table>\n");
    }
}

/// Returns the chart of a figure of both sides, divided by `unit_size`.
fn by_pair(pairs: &[Sides<'_>], title: &str, name: &str, unit_size: f64, unit: &str) -> String {
    let line = |side, class, value: &dyn Fn(&Sides<'_>) -> Option<f64>| Line {
        name: side,
        class,
        summary: String::new(),
        points: (1..)
            .zip(pairs)
            .map(|(number, pair)| (f64::from(number), value(pair).map(|it| it / unit_size)))
            .collect(),
    };
    let lines = vec![
        line("node", "one", &|pair| pair.node.value(name)),
        line("floor", "two", &|pair| pair.floor.value(name)),
    ];
    chart(title, unit, pairs.len(), lines)
}

fn chart(title: &str, unit: &str, pairs: usize, lines: Vec<Line>) -> String {
    let unit = format!("{unit} by pair").trim().to_owned();
    let across = Across::Pairs(pairs);
    Chart { title: title.to_owned(), unit, lines, across, bar: None }.html()
}
