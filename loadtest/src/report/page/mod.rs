//! A run as one HTML file that needs nothing from elsewhere.

mod chart;
mod course;
mod scale;
mod sides;
mod steps;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::report::figure::{Figure, Unit};
use crate::report::record::Record;
use crate::report::verdict::Kind;
use crate::table::grouped_float;

const STYLE: &str = include_str!("style.css");
/// The figures at the top, and how they are called there.
const TILES: [(&str, &str); 18] = [
    ("sustained publications", "sustained publications per second"),
    ("not sustained", "publications per second are too many"),
    ("ratio", "node CPU / floor CPU"),
    ("node CPU per delivery", "node, CPU per delivery"),
    ("floor CPU per delivery", "floor, CPU per delivery"),
    ("node latency p99", "node, 99th percentile"),
    ("floor latency p99", "floor, 99th percentile"),
    ("all back after", "until all were back"),
    ("delivered", "delivered per second"),
    ("deliveries per second", "deliveries per second"),
    ("publications per second", "publications per second"),
    ("joins per second", "joins per second"),
    ("latency p50", "median latency"),
    ("latency p99", "99th percentile"),
    ("CPU per delivery", "CPU per delivery"),
    ("server CPU for each", ""),
    ("memory per connection", "memory per connection"),
    ("connections", "connections"),
];

/// The figures that count losses and refusals.
const DROPS: [&str; 8] = [
    "lost",
    "refused publications",
    "unanswered publications",
    "refused writes",
    "lost connections",
    "failed joins",
    "unfinished joins",
    "lost clients",
];

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
            (_, Kind::ServerStarved, _) => ("server_starved", "server starved"),
            (_, Kind::ServerStuck, _) => ("server_stuck", "server stuck"),
            (_, Kind::ServerEnded, _) => ("server_ended", "the server ended"),
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
            // It may begin with the name of a channel.
            escape(&ended(&self.title)),
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
            let label = match name {
                "server CPU for each" => format!("CPU per {}", self.unit()),
                _ => label.to_owned(),
            };
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
        match self.scenario.as_str() {
            "saturate" => self.steps(page),
            "compare" => self.sides(page),
            _ => self.course(page),
        }
        page.push_str("</section>\n");
        match self.scenario.as_str() {
            "saturate" => self.steps_table(page),
            "compare" => self.sides_tables(page),
            _ => {}
        }
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
    ended(&capital(text))
}

/// Returns a text with a full stop.
fn ended(text: &str) -> String {
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{text}{stop}")
}

/// Returns a text with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
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
