//! A run as one HTML file that needs nothing from elsewhere.

mod chart;
mod scale;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use self::chart::{Line, TimeChart, percentiles, sentence};
use crate::report::figure::{Figure, Unit};
use crate::report::record::Record;
use crate::report::series::Point;
use crate::report::verdict::Kind;
use crate::table::{grouped, grouped_float};

const STYLE: &str = include_str!("style.css");
/// The figures at the top, and how they are called there.
const TILES: [(&str, &str); 6] = [
    ("delivered", "delivered per second"),
    ("latency p50", "median latency"),
    ("latency p99", "99th percentile"),
    ("CPU per delivery", "CPU per delivery"),
    ("memory per connection", "memory per connection"),
    ("connections", "connections"),
];

/// The figures that count losses and refusals.
const DROPS: [&str; 4] = ["lost", "refused publications", "refused writes", "lost connections"];

impl Record {
    /// Writes the run as a page.
    pub(crate) fn write_page(&self, path: &Path) -> Result<()> {
        fs::write(path, self.page())
            .with_context(|| format!("cannot write the page {}", path.display()))
    }

    fn page(&self) -> String {
        let mut page = String::new();
        let title = escape(&format!("{}: {}", self.scenario, self.headline()));
        let _ = write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        );
        self.head(&mut page);
        self.tiles(&mut page);
        self.charts(&mut page);
        self.evidence(&mut page);
        self.tables(&mut page);
        let _ = write!(
            page,
            "<footer>Measured with loadtest {} on {}.</footer>\n</main>\n</body>\n</html>\n",
            escape(&self.versions.loadtest),
            escape(&self.started)
        );
        page
    }

    fn head(&self, page: &mut String) {
        let failed = !self.defects.is_empty() || !self.exceeded.is_empty();
        let (class, words) = match (failed, self.verdict.kind, self.interrupted) {
            (true, Kind::Valid, _) => ("failed", "failed"),
            (false, Kind::Valid, true) => ("interrupted", "interrupted"),
            (_, Kind::Valid, _) => ("valid", "valid"),
            (_, Kind::ClientFellBehind, _) => ("client_fell_behind", "the client fell behind"),
            (_, Kind::ServerFellBehind, _) => ("server_fell_behind", "the server fell behind"),
        };
        let interrupted = match self.interrupted {
            true => format!(" Interrupted after {:.1} s.", self.seconds),
            false => String::new(),
        };
        let date = self.started.replace('T', " ").replace('Z', " UTC");
        let _ = write!(
            page,
            "<header>\n<p class=\"kind\"><span class=\"pill {class}\">{words}</span>\
             <span>{}</span><span>{}</span><span>{date}</span></p>\n\
             <h1>{}</h1>\n<p class=\"lede\">{} {}{interrupted}</p>\n</header>\n",
            escape(&self.scenario),
            escape(self.versions.server.as_deref().unwrap_or("unknown server")),
            escape(&self.headline()),
            escape(&format!("{}.", self.title)),
            self.verdict.meaning(),
        );
    }

    fn tiles(&self, page: &mut String) {
        page.push_str("<dl class=\"tiles\">\n");
        for (name, label) in TILES {
            let Some(figure) = self.named(name).filter(|figure| figure.value.is_some()) else {
                continue;
            };
            let text = figure.text();
            let text = text.strip_suffix("/s").unwrap_or(&text);
            let value = match text.split_once(' ') {
                Some((number, unit)) => format!("{number}<span class=\"unit\"> {unit}</span>"),
                None => text.to_owned(),
            };
            let _ = writeln!(page, "<div><dt>{label}</dt><dd>{value}</dd></div>");
        }
        page.push_str("</dl>\n");
    }

    fn charts(&self, page: &mut String) {
        page.push_str("<section class=\"charts\">\n");
        if let Some(latency) = &self.latency {
            page.push_str(&percentiles(latency));
            page.push_str(&self.latency_over_time());
            page.push_str(&self.throughput());
            page.push_str(&self.cost());
        }
        page.push_str(&self.processors());
        page.push_str(&self.memory());
        page.push_str(&self.drops());
        page.push_str("</section>\n");
    }

    fn latency_over_time(&self) -> String {
        let points = &self.series.points;
        let most = points.iter().filter_map(|point| Some(point.latency?.max)).max();
        let (unit_ns, unit) = match most.unwrap_or_default() {
            10_000_000_000.. => (1e9, "s"),
            1_000_000.. => (1e6, "ms"),
            _ => (1e3, "µs"),
        };
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
        TimeChart { seconds: self.seconds, ..self.over_time("Latency over time", unit, lines) }
            .html()
    }

    fn throughput(&self) -> String {
        let points = &self.series.points;
        let lines = vec![
            Line {
                name: "reached",
                class: "one",
                summary: self.text_of("delivered"),
                points: over(points, |point| Some(point.delivered)),
            },
            Line {
                name: "offered",
                class: "third wide",
                summary: self.named("offered").map(Figure::text).unwrap_or_default(),
                points: over(points, |point| Some(point.offered).filter(|due| *due > 0.0)),
            },
        ];
        self.chart("Deliveries per second", "", lines)
    }

    fn cost(&self) -> String {
        let cost_us = |point: &Point| {
            let cores = point.server_cores?;
            (point.delivered >= 1.0).then(|| cores * 1e6 / point.delivered)
        };
        let line = Line {
            name: "server",
            class: "one",
            summary: self.text_of("CPU per delivery"),
            points: over(&self.series.points, cost_us),
        };
        self.chart("CPU per delivery", "µs", vec![line])
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
        self.chart("Processors in use", &format!("of {}", self.machine.cores), lines)
    }

    fn memory(&self) -> String {
        let most = self.series.points.iter().filter_map(|point| point.rss_bytes).max();
        let line = Line {
            name: "server",
            class: "one",
            summary: Unit::Bytes.text(most.map(|bytes| bytes as f64)),
            points: over(&self.series.points, |point| {
                point.rss_bytes.map(|bytes| bytes as f64 / 1_048_576.0)
            }),
        };
        self.chart("Resident memory", "MiB", vec![line])
    }

    fn drops(&self) -> String {
        const TITLE: &str = "Losses and refusals";
        let points = &self.series.points;
        type Count = fn(&Point) -> u64;
        let counts: [(_, _, Count); 3] = [
            ("lost deliveries", "two", |point| point.lost),
            ("refused publications", "one", |point| point.refused),
            ("lost connections", "third", |point| point.connections_lost),
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
        TimeChart { bar_s: Some(self.series.interval_s), ..self.over_time(TITLE, &unit, lines) }
            .html()
    }

    /// Returns what was lost or refused in a run whose course does not show it.
    fn dropped(&self) -> String {
        let counts = DROPS.iter().filter_map(|name| {
            let count = self.named(name)?.value.filter(|count| *count > 0.0)?;
            Some(format!("{} {name}", grouped_float(count)))
        });
        let counts: Vec<_> = counts.collect();
        match (counts.is_empty(), &self.latency) {
            (false, _) => format!("{}.", counts.join(", ")),
            (true, Some(_)) => "Nothing was lost or refused, no connection was cut off.".to_owned(),
            (true, None) => "No connection was cut off.".to_owned(),
        }
    }

    fn chart(&self, title: &'static str, unit: &str, lines: Vec<Line>) -> String {
        self.over_time(title, unit, lines).html()
    }

    fn over_time(&self, title: &'static str, unit: &str, lines: Vec<Line>) -> TimeChart {
        let end = self.series.points.last().map_or(0.0, |last| last.at_s + last.length_s);
        // A last tick that came a little late does not lengthen the axis.
        let seconds = if end < self.seconds + 0.25 { self.seconds } else { end };
        TimeChart { title, unit: unit.to_owned(), lines, seconds, bar_s: None }
    }

    fn evidence(&self, page: &mut String) {
        let broken: Vec<_> = self.defects.iter().chain(&self.exceeded).collect();
        if !broken.is_empty() {
            page.push_str("<h2>What failed</h2>\n<ul class=\"evidence\">\n");
            for fault in broken {
                let _ = writeln!(page, "<li>{}</li>", escape(&sentence_of(fault)));
            }
            page.push_str("</ul>\n");
        }
        page.push_str("<h2>What the verdict rests on</h2>\n<ul class=\"evidence\">\n");
        for reason in &self.verdict.evidence {
            // A percent sign stays on the line of its number.
            let reason = escape(reason).replace(" %", "\u{a0}%");
            let _ = writeln!(page, "<li>{reason}</li>");
        }
        page.push_str("</ul>\n");
    }

    fn tables(&self, page: &mut String) {
        let figures = self.figures.iter().map(|figure| (figure.name.clone(), figure.text()));
        let settings = self.settings.iter().filter_map(|(name, value)| {
            let text = match value {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                Value::Number(number) => match number.as_f64() {
                    Some(whole) if whole.fract() == 0.0 => grouped_float(whole),
                    _ => number.to_string(),
                },
                value => value.to_string(),
            };
            Some((name.replace('_', " "), text))
        });
        let machine = &self.machine;
        let memory = Unit::Bytes.text(Some(machine.memory_bytes as f64));
        let server = self.versions.server.as_deref().unwrap_or("unknown");
        let facts = [
            ("processor", machine.processor.clone()),
            ("processors", machine.cores.to_string()),
            ("memory", memory),
            ("kernel", format!("Linux {}", machine.kernel)),
            ("server", server.to_owned()),
            ("load tester", self.versions.loadtest.clone()),
            ("measured", format!("{:.1} s", self.seconds)),
        ];
        let facts = facts.into_iter().map(|(name, text)| (name.to_owned(), text));
        page.push_str("<div class=\"facts\">\n");
        table(page, "Figures", figures);
        table(page, "Settings", settings);
        table(page, "Machine", facts);
        page.push_str("</div>\n");
    }

    fn named(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    fn text_of(&self, name: &str) -> String {
        self.named(name).map_or_else(String::new, Figure::text)
    }
}

/// Returns the middle of each interval with a value.
fn over(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    points.iter().map(|point| (point.at_s + point.length_s / 2.0, value(point))).collect()
}

fn table(page: &mut String, title: &str, rows: impl Iterator<Item = (String, String)>) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n<table>\n");
    for (name, value) in rows {
        let (name, value) = (escape(&name), escape(&value));
        let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    page.push_str("</table>\n</section>\n");
}

/// Returns a text with a capital first letter and a full stop.
fn sentence_of(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{stop}", first.unwrap_or_default(), letters.as_str())
}

/// Escapes a text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
