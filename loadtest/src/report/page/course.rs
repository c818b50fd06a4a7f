//! The charts of one run: latency by percentile, and its course over time.

use crate::report::figure::{Figure, Unit};
use crate::report::page::chart::{Across, Chart, Curve, Line, percentiles, sentence};
use crate::report::page::{DROPS, capital};
use crate::report::record::Record;
use crate::report::series::Point;
use crate::report::slow::{CLOSED, SLOW};
use crate::table::{grouped, grouped_float};

impl Record {
    /// Adds the charts of a run that is one.
    pub(super) fn course(&self, page: &mut String) {
        if let Some(latency) = &self.latency {
            let name = format!("{} {}", grouped(latency.count()), self.units());
            page.push_str(&percentiles(&[Curve { name, class: "one", latency }]));
            page.push_str(&self.latency_over_time());
            page.push_str(&self.throughput());
            page.push_str(&self.cost());
        }
        page.push_str(&self.processors());
        page.push_str(&self.memory());
        page.push_str(&self.drops());
    }

    /// Returns the name of what the run counts.
    pub(super) fn units(&self) -> &str {
        if self.series.unit.is_empty() { "deliveries" } else { &self.series.unit }
    }

    /// Returns the name of one of them.
    pub(super) fn unit(&self) -> &'static str {
        match self.units() {
            "publications" => "publication",
            "joins" => "join",
            _ => "delivery",
        }
    }

    fn latency_over_time(&self) -> String {
        let points = &self.series.points;
        let known = points.iter().filter(|point| point.latency.is_some()).count();
        // All joins of a storm are due at its start: their percentiles say everything.
        if known < 2 && points.len() > 1 {
            return String::new();
        }
        let most = points.iter().filter_map(|point| Some(point.latency?.max)).max();
        let (unit_ns, unit) = latency_unit(most.unwrap_or_default());
        let line = |name, class, summary: &str, value: fn(&Point) -> Option<u64>| Line {
            name,
            class,
            summary: self.text_of(summary),
            points: over(points, |point| value(point).map(|ns| ns as f64 / unit_ns)),
        };
        let lines = vec![
            line("p50", "one", "latency p50", |point| Some(point.latency?.p50)),
            line("p99", "two", "latency p99", |point| Some(point.latency?.p99)),
            line("max", "third", "latency max", |point| Some(point.latency?.max)),
        ];
        // Latencies belong to the times at which publications were due, all in the window.
        let across = Across::Time(self.seconds);
        Chart { across, ..self.over_time("Latency over time", unit, lines) }.html()
    }

    fn throughput(&self) -> String {
        let points = &self.series.points;
        let reached = self.named("delivered");
        let reached = reached.or_else(|| self.named(&format!("{} per second", self.units())));
        let mut lines = vec![Line {
            name: "reached",
            class: "one",
            summary: reached.map(Figure::text).unwrap_or_default(),
            points: over(points, |point| Some(point.delivered)),
        }];
        if points.iter().any(|point| point.offered > 0.0) {
            lines.push(Line {
                name: "offered",
                class: "third wide",
                summary: self.text_of("offered"),
                points: over(points, |point| Some(point.offered).filter(|due| *due > 0.0)),
            });
        }
        let title = format!("{} per second", capital(self.units()));
        self.over_time(&title, "", lines).html()
    }

    fn cost(&self) -> String {
        let cost_us = |point: &Point| {
            let cores = point.server_cores?;
            (point.delivered >= 1.0).then(|| cores * 1e6 / point.delivered)
        };
        let figure = self.named("CPU per delivery").or_else(|| self.named("server CPU for each"));
        let line = Line {
            name: "server",
            class: "one",
            summary: figure.map(Figure::text).unwrap_or_default(),
            points: over(&self.series.points, cost_us),
        };
        self.over_time(&format!("CPU per {}", self.unit()), "µs", vec![line]).html()
    }

    fn processors(&self) -> String {
        let points = &self.series.points;
        let mean = |value: fn(&Point) -> Option<f64>| {
            let known: Vec<_> = points.iter().filter_map(value).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let server: fn(&Point) -> Option<f64> = |point| point.server_cores;
        let client: fn(&Point) -> Option<f64> = |point| Some(point.client_cores);
        let line = |name, class, value: fn(&Point) -> Option<f64>| Line {
            name,
            class,
            summary: Unit::Cores.text(mean(value)),
            points: over(points, value),
        };
        let lines = vec![line("server", "one", server), line("load tester", "two", client)];
        self.over_time("Processors in use", &format!("of {}", self.machine.cores), lines).html()
    }

    fn memory(&self) -> String {
        let most = self.series.points.iter().filter_map(|point| point.rss_bytes).max();
        let line = Line {
            name: "server",
            class: "one",
            summary: Unit::Bytes.text(most.map(|bytes| bytes as f64)),
            points: over(&self.series.points, |point| point.rss_bytes.map(mebibytes)),
        };
        self.over_time("Resident memory", "MiB", vec![line]).html()
    }

    fn drops(&self) -> String {
        const TITLE: &str = "Losses and refusals";
        let points = &self.series.points;
        type Count = fn(&Point) -> u64;
        let connections = match self.units() {
            "joins" => "failed joins and lost clients",
            _ => "lost connections",
        };
        let counts: [(_, _, Count); 3] = [
            ("lost deliveries", "two", |point| point.lost),
            ("refused publications", "one", |point| point.refused),
            (connections, "third", |point| point.connections_lost),
        ];
        let lines = counts.into_iter().filter_map(|(name, class, count)| {
            let sum = points.iter().map(count).sum::<u64>();
            (sum > 0).then(|| Line {
                name,
                class,
                summary: grouped(sum),
                points: over(points, |point| Some(count(point) as f64)),
            })
        });
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() {
            return sentence(TITLE, &self.dropped());
        }
        let unit = format!("per {} s", self.series.interval_s);
        let bar = Some(self.series.interval_s);
        Chart { bar, ..self.over_time(TITLE, &unit, lines) }.html()
    }

    /// Returns what was lost or refused in a run whose course does not show it.
    pub(super) fn dropped(&self) -> String {
        let counts = DROPS.iter().filter_map(|name| {
            let count = self.named(name)?.value.filter(|count| *count > 0.0)?;
            Some(format!("{} {name}", grouped_float(count)))
        });
        let counts: Vec<_> = counts.collect();
        if !counts.is_empty() {
            return format!("{}.", counts.join(", "));
        }
        if let Some(slow) = self.value(SLOW) {
            let closed = grouped_float(self.value(CLOSED).unwrap_or_default());
            return format!(
                "Clients that read lost nothing. Of {} that do not read, the server closed {closed}.",
                grouped_float(slow)
            );
        }
        match (self.units(), &self.latency) {
            ("joins", _) => "No join failed, no client was lost.",
            ("publications", _) => "No publication was refused or left unanswered.",
            (_, Some(_)) => "Nothing was lost or refused, no connection was cut off.",
            (_, None) => "No connection was cut off.",
        }
        .to_owned()
    }

    fn over_time(&self, title: &str, unit: &str, lines: Vec<Line>) -> Chart {
        let end = self.series.points.last().map_or(0.0, |last| last.at_s + last.length_s);
        // A last tick that came a little late does not lengthen the axis.
        let seconds = if end < self.seconds + 0.25 { self.seconds } else { end };
        let across = Across::Time(seconds);
        Chart { title: title.to_owned(), unit: unit.to_owned(), lines, across, bar: None }
    }
}

/// Returns the unit in which latencies up to this one are drawn, in ns, and its name.
pub(super) fn latency_unit(most_ns: u64) -> (f64, &'static str) {
    match most_ns {
        10_000_000_000.. => (1e9, "s"),
        1_000_000.. => (1e6, "ms"),
        _ => (1e3, "µs"),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Returns the middle of each interval with a value.
fn over(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    points.iter().map(|point| (point.at_s + point.length_s / 2.0, value(point))).collect()
}
