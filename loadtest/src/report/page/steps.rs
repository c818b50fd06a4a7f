//! What a page shows of the steps of `saturate`: charts by the rate that was offered, and a table.

use std::fmt::Write as _;

use crate::report::figure::Unit;
use crate::report::page::chart::{Across, Chart, Curve, Line, percentiles};
use crate::report::page::course::latency_unit;
use crate::report::page::{escape, sentence_of};
use crate::report::record::Record;
use crate::table::grouped;

/// Beyond this multiple of what is offered, the table says why more was delivered.
const SURPLUS: f64 = 1.02;
/// Bytes of a MiB, in which memory is drawn.
const MIB: f64 = 1_048_576.0;

impl Record {
    /// Adds the charts of all steps.
    pub(super) fn steps(&self, page: &mut String) {
        page.push_str(&self.reached_by_rate());
        page.push_str(&self.latency_by_rate());
        if let Some(latency) = &self.latency {
            let name = format!("the highest sustained rate, {}", grouped(latency.count()));
            let curve = Curve { name: name + " deliveries", class: "one", latency };
            page.push_str(&percentiles(&[curve]));
        }
        let each = self.by_rate("server", "one", |step| step.value("server CPU for each"), 1e3);
        page.push_str(&self.across_rates("CPU per delivery", "µs", vec![each]).html());
        let lines = vec![
            self.by_rate("server", "one", |step| step.value("server CPU, cores"), 1.0),
            self.by_rate("load tester", "two", |step| step.value("client CPU, cores"), 1.0),
        ];
        let of = format!("of {}", self.machine.cores);
        page.push_str(&self.across_rates("Processors in use", &of, lines).html());
        let memory = self.by_rate("server", "one", |step| step.value("memory"), MIB);
        page.push_str(&self.across_rates("Resident memory", "MiB", vec![memory]).html());
    }

    fn reached_by_rate(&self) -> String {
        let lines = vec![
            self.by_rate("reached", "one", |step| step.value("deliveries per second"), 1.0),
            self.by_rate("offered", "third wide", |step| step.value("offered"), 1.0),
        ];
        self.across_rates("Deliveries per second", "", lines).html()
    }

    fn latency_by_rate(&self) -> String {
        let limit_ms = self.settings.get("p99_ms").and_then(serde_json::Value::as_f64);
        let p99s = self.runs.iter().filter_map(|step| step.value("latency p99"));
        let (unit_ns, unit) = latency_unit(p99s.fold(0.0, f64::max) as u64);
        let mut lines = vec![
            self.by_rate("p50", "one", |step| step.value("latency p50"), unit_ns),
            self.by_rate("p99", "two", |step| step.value("latency p99"), unit_ns),
        ];
        // A limit far above the latencies would flatten them, and one far below lies on the axis.
        let most = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
        let most = most.fold(0.0, f64::max);
        let limit = limit_ms
            .map(|ms| ms * 1e6 / unit_ns)
            .filter(|limit| (most * 0.02..most * 3.0).contains(limit));
        lines.extend(limit.map(|limit| Line {
            name: "limit of p99",
            class: "third",
            summary: Unit::Ns.text(limit_ms.map(|ms| ms * 1e6)),
            points: vec![(0.0, Some(limit)), (self.rate_max(), Some(limit))],
        }));
        self.across_rates("Latency", unit, lines).html()
    }

    /// Returns a figure of each step, divided by `unit`.
    fn by_rate(
        &self,
        name: &'static str,
        class: &'static str,
        figure: impl Fn(&Self) -> Option<f64>,
        unit: f64,
    ) -> Line {
        let points = self
            .runs
            .iter()
            .filter_map(|step| Some((step.rate()?, figure(step).map(|value| value / unit))));
        let mut points: Vec<_> = points.collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Line { name, class, summary: String::new(), points }
    }

    fn across_rates(&self, title: &str, unit: &str, lines: Vec<Line>) -> Chart {
        let unit = format!("{unit} by publications offered").trim().to_owned();
        let across = Across::Rate(self.rate_max());
        Chart { title: title.to_owned(), unit, lines, across, bar: None }
    }

    fn rate_max(&self) -> f64 {
        self.runs.iter().filter_map(Self::rate).fold(0.0, f64::max)
    }

    /// Returns the publications per second of a step.
    fn rate(&self) -> Option<f64> {
        self.settings.get("rate")?.as_f64()
    }

    /// Returns why a step delivered more than it offered, if it did.
    fn surplus(&self) -> Option<&'static str> {
        let (reached, offered) = self.value("deliveries per second").zip(self.value("offered"))?;
        (reached > offered * SURPLUS).then_some(
            "more was delivered than offered, because deliveries of the warm-up came late",
        )
    }

    /// Adds the table of all steps in the order of time, with what was wrong with each.
    pub(super) fn steps_table(&self, page: &mut String) {
        page.push_str(
            "<h2>Steps, in the order in which they were measured</h2>\n<table class=\"runs\">\n\
             <thead><tr><th>publi&#173;cations/s</th><th>deliv&#173;eries/s</th><th>p50</th>\
             <th>p99</th><th>CPU each</th><th>sus&#173;tained</th></tr></thead>\n",
        );
        for step in &self.runs {
            let faults: Vec<_> = step.defects.iter().chain(&step.exceeded).collect();
            let (class, word) = match faults.is_empty() {
                true => ("valid", "yes"),
                false => ("failed", "no"),
            };
            let text = |name: &str| escape(&step.text_of(name));
            let rate = |rate: Option<f64>| {
                let text = Unit::PerSecond.text(rate);
                text.strip_suffix("/s").unwrap_or(&text).to_owned()
            };
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td class=\"{class}\">{word}</td></tr>",
                rate(step.rate()),
                rate(step.value("deliveries per second")),
                text("latency p50"),
                text("latency p99"),
                text("server CPU for each"),
            );
            for fault in faults.into_iter().map(String::as_str).chain(step.surplus()) {
                let why = escape(&sentence_of(fault));
                let _ = writeln!(page, "<tr class=\"why\"><td colspan=\"6\">{why}</td></tr>");
            }
        }
        page.push_str("</table>\n");
    }
}
