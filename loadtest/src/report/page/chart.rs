//! Charts as SVG. Colours and fonts are those of the page's style sheet.

use std::f64::consts::LOG10_2;
use std::fmt::Write as _;

use crate::report::figure::Unit;
use crate::report::page::escape;
use crate::report::page::scale::{Axis, log_ticks};
use crate::report::record::Distribution;

/// Size of a drawing and its margins, in units that are pixels in a column of the page.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 256.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 28.0;
/// The most labels of pairs that do not touch.
const PAIR_TICKS_MAX: usize = 12;
/// Width of a letter and height of a line on a phone, where a drawing is smaller than its texts.
const LETTER: f64 = 9.0;
const LINE: f64 = 18.0;
/// With more points, dots would hide the line.
const DOTS_MAX: usize = 40;
/// Percentiles that are written at the curve.
const NAMED: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
/// Steps of the percentile curve.
const CURVE_STEPS: usize = 160;
/// The most nines on the axis: 99.999 %. Labels of more would touch.
const NINES_MAX: f64 = 5.0;

/// A line of a chart, or the bars of one.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The style: `one`, `two` or `third`, and `wide`.
    pub(super) class: &'static str,
    /// A figure that the key shows beside the name.
    pub(super) summary: String,
    /// Place on the horizontal axis and value; `None` leaves a gap.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A chart of lines or bars.
pub(super) struct Chart {
    pub(super) title: String,
    /// The unit of the values as the axis shows them.
    pub(super) unit: String,
    pub(super) lines: Vec<Line>,
    pub(super) across: Across,
    /// Width of the bars on the horizontal axis; `None` for lines.
    pub(super) bar: Option<f64>,
}

/// A horizontal axis.
#[derive(Clone, Copy)]
pub(super) enum Across {
    /// Time up to this one, in s.
    Time(f64),
    /// Rates up to this one, in publications per second.
    Rate(f64),
    /// Pairs of runs up to this number, from 1.
    Pairs(usize),
}

impl Across {
    /// Returns the values at both ends.
    fn ends(self) -> (f64, f64) {
        match self {
            Self::Time(end) | Self::Rate(end) => (0.0, end.max(f64::MIN_POSITIVE)),
            Self::Pairs(count) => (0.5, count as f64 + 0.5),
        }
    }

    /// Returns places with their labels.
    fn ticks(self) -> Vec<(f64, String)> {
        let (_, end) = self.ends();
        let round = |count: usize, unit: &str| {
            let axis = Axis::to(end, count);
            let ticks = axis.ticks.iter().filter(|tick| **tick <= end * 1.000_1);
            let label = |tick: f64| format!("{}{unit}", axis.label(tick));
            let label = |tick| if tick == 0.0 { "0".to_owned() } else { label(tick) };
            ticks.map(|tick| (*tick, label(*tick))).collect()
        };
        match self {
            Self::Time(_) => round(6, " s"),
            Self::Rate(_) => round(5, "/s"),
            Self::Pairs(count) => {
                let step = count.div_ceil(PAIR_TICKS_MAX).max(1);
                (1..=count).step_by(step).map(|pair| (pair as f64, pair.to_string())).collect()
            }
        }
    }
}

impl Chart {
    /// Returns the figure with its key; a sentence instead of a drawing if there is no value.
    pub(super) fn html(&self) -> String {
        let values = self.lines.iter().flat_map(|line| &line.points);
        let most = values.filter_map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        let mut body = String::new();
        if most.is_finite() {
            self.draw(&mut body, &Axis::to(most * 1.02, 5));
        } else {
            body.push_str("<p class=\"nothing\">Not measured.</p>");
        }
        figure(&self.title, &self.unit, &self.lines, &body)
    }

    fn draw(&self, body: &mut String, y_axis: &Axis) {
        let (from, to) = self.across.ends();
        let x =
            |at: f64| LEFT + ((at - from) / (to - from)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - value / y_axis.end()) * (HEIGHT - TOP - BOTTOM);
        open(body, &self.title);
        for tick in &y_axis.ticks {
            y_tick(body, y(*tick), &y_axis.label(*tick));
        }
        for (at, label) in self.across.ticks() {
            x_tick(body, x(at), &label);
        }
        for line in self.lines.iter().rev() {
            match self.bar {
                Some(width) => bars(body, line, width, x, y),
                None => path(body, line, x, y),
            }
        }
        body.push_str("</svg>");
    }
}

/// The latencies of a percentile chart.
pub(super) struct Curve<'a> {
    /// What the key says of it.
    pub(super) name: String,
    /// The style: `one` or `two`.
    pub(super) class: &'static str,
    pub(super) latency: &'a Distribution,
}

/// Returns the figure of latency by percentile, on an axis that gives each further nine the same
/// room. A curve that is alone has its values written at it.
pub(super) fn percentiles(curves: &[Curve<'_>]) -> String {
    let count = curves.iter().map(|curve| curve.latency.count()).max().unwrap_or(1) as f64;
    let nines_max = count.log10().clamp(1.0, NINES_MAX);
    let quantile = |nines: f64| 1.0 - 10_f64.powf(-nines);
    let ends = curves.iter().map(|curve| (curve.latency.at(0.0), curve.latency.at(1.0)));
    let (least, most) = ends
        .fold((u64::MAX, 1), |(least, most), (low, high)| (least.min(low.max(1)), most.max(high)));
    let (least, most) = (least.min(most) as f64, most as f64);
    let ticks = log_ticks(least, most);
    let (low, high) = (ticks[0].ln(), ticks[ticks.len() - 1].ln());
    let x = |nines: f64| LEFT + nines / nines_max * (WIDTH - LEFT - RIGHT);
    let y =
        |ns: f64| TOP + (1.0 - (ns.max(1.0).ln() - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    let mut body = String::new();
    open(&mut body, "Latency by percentile");
    for tick in &ticks {
        y_tick(&mut body, y(*tick), &tick_text(*tick));
    }
    let all = [(LOG10_2, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9")];
    let all = all.into_iter().chain([(4.0, "99.99"), (5.0, "99.999")]);
    for (nines, label) in all.filter(|(nines, _)| *nines <= nines_max + 1e-9) {
        x_tick(&mut body, x(nines), &format!("{label} %"));
    }
    for Curve { class, latency, .. } in curves.iter().rev() {
        let steps = (0..=CURVE_STEPS).map(|step| nines_max * step as f64 / CURVE_STEPS as f64);
        let place = |(step, nines): (usize, f64)| {
            let letter = if step == 0 { 'M' } else { 'L' };
            format!("{letter}{:.1} {:.1}", x(nines), y(latency.at(quantile(nines)) as f64))
        };
        let path: Vec<_> = steps.enumerate().map(place).collect();
        let _ = write!(body, "<path class=\"line {class}\" d=\"{}\"/>", path.join(" "));
    }
    if let [Curve { latency, .. }] = curves {
        let mut texts = Vec::new();
        for quantile in NAMED {
            let nines = -(1.0_f64 - quantile).log10();
            if nines <= nines_max {
                let place = (x(nines), y(latency.at(quantile) as f64));
                named(&mut body, &mut texts, place, latency.at(quantile));
            }
        }
    }
    body.push_str("</svg>");
    let mut key = String::from("<ul class=\"key\">");
    for Curve { name, class, latency } in curves {
        let max = Unit::Ns.text(Some(latency.at(1.0) as f64));
        let sign = if curves.len() > 1 { "<i></i>" } else { "" };
        let _ = write!(key, "<li class=\"{class}\">{sign}{}, max {max}</li>", escape(name));
    }
    key.push_str("</ul>");
    framed("Latency by percentile", "", &key, &body)
}

/// The place of a text that is written at a curve: its ends and its line.
#[derive(Debug)]
struct Written {
    from: f64,
    to: f64,
    y: f64,
}

impl Written {
    /// Returns whether two texts lie on each other.
    fn covers(&self, other: &Self) -> bool {
        (other.y - self.y).abs() < LINE && other.from < self.to && self.from < other.to
    }
}

/// Marks a point of the percentile curve and writes its value where the curve is not: right below
/// the first ones, left above the others. Nor may it lie on the labels of an axis, or on one of the
/// texts that were written before; then it is left out.
fn named(body: &mut String, texts: &mut Vec<Written>, (x, y): (f64, f64), ns: u64) {
    let text = Unit::Ns.text(Some(ns as f64));
    let width = text.chars().count() as f64 * LETTER;
    let _ = write!(body, "<circle class=\"dot one\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
    let (text_x, text_y, anchor) = match x - 7.0 - width {
        left if left < LEFT => (x + 8.0, (y + 15.0).min(HEIGHT - BOTTOM - 6.0), "start"),
        _ => (x - 7.0, y - 8.0, "end"),
    };
    let from = if anchor == "start" { text_x } else { text_x - width };
    let written = Written { from, to: from + width, y: text_y };
    if texts.iter().any(|other| written.covers(other)) {
        return;
    }
    texts.push(written);
    let _ = write!(
        body,
        "<text class=\"value\" x=\"{text_x:.1}\" y=\"{text_y:.1}\" text-anchor=\"{anchor}\">{text}\
         </text>"
    );
}

fn tick_text(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns >= 1e9 => (ns / 1e9, "s"),
        ns if ns >= 1e6 => (ns / 1e6, "ms"),
        ns if ns >= 1e3 => (ns / 1e3, "µs"),
        _ => (ns, "ns"),
    };
    format!("{} {unit}", value.round())
}

/// Returns a figure that holds a sentence.
pub(super) fn sentence(title: &str, text: &str) -> String {
    framed(title, "", "", &format!("<p class=\"nothing\">{}</p>", escape(text)))
}

fn figure(title: &str, unit: &str, lines: &[Line], body: &str) -> String {
    let mut key = String::from("<ul class=\"key\">");
    for Line { name, class, summary, .. } in lines {
        let _ =
            write!(key, "<li class=\"{class}\"><i></i>{} {}</li>", escape(name), escape(summary));
    }
    key.push_str("</ul>");
    framed(title, unit, &key, body)
}

fn framed(title: &str, unit: &str, key: &str, body: &str) -> String {
    let unit =
        if unit.is_empty() { String::new() } else { format!(" <span>{}</span>", escape(unit)) };
    format!(
        "<figure><figcaption><h3>{}{unit}</h3>{key}</figcaption>{body}</figure>\n",
        escape(title)
    )
}

fn open(body: &mut String, title: &str) {
    let _ = write!(
        body,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    );
}

fn y_tick(body: &mut String, y: f64, label: &str) {
    let (from, to, text, base) = (LEFT, WIDTH - RIGHT, LEFT - 8.0, y + 4.0);
    let _ = write!(
        body,
        "<path class=\"grid\" d=\"M{from} {y:.1} H{to}\"/>\
         <text x=\"{text}\" y=\"{base:.1}\" text-anchor=\"end\">{label}</text>"
    );
}

fn x_tick(body: &mut String, x: f64, label: &str) {
    let (base, end, text) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4.0, HEIGHT - 8.0);
    // A label at the right edge would leave the drawing.
    let anchor = if x > WIDTH - RIGHT - 14.0 { "end" } else { "middle" };
    let x_text = if anchor == "end" { x + RIGHT - 2.0 } else { x };
    let _ = write!(
        body,
        "<path class=\"axis\" d=\"M{x:.1} {base} V{end}\"/>\
         <text x=\"{x_text:.1}\" y=\"{text}\" text-anchor=\"{anchor}\">{label}</text>"
    );
}

fn path(body: &mut String, line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let mut path = String::new();
    let mut begun = false;
    let mut dots = String::new();
    for (time, value) in &line.points {
        let Some(value) = value else {
            begun = false;
            continue;
        };
        let (x, y) = (x(*time), y(*value));
        let _ = write!(path, "{}{x:.1} {y:.1} ", if begun { 'L' } else { 'M' });
        begun = true;
        let class = line.class;
        let _ =
            write!(dots, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>");
    }
    let _ = write!(body, "<path class=\"line {}\" d=\"{}\"/>", line.class, path.trim_end());
    if line.points.len() <= DOTS_MAX && !line.class.contains("wide") {
        body.push_str(&dots);
    }
}

fn bars(
    body: &mut String,
    line: &Line,
    width: f64,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) {
    for (time, value) in &line.points {
        let Some(value) = value.filter(|value| *value > 0.0) else {
            continue;
        };
        let (left, right) = (x(time - width * 0.4), x(time + width * 0.4));
        let (top, base) = (y(value), y(0.0));
        let (width, height) = ((right - left).max(1.0), (base - top).max(1.0));
        let _ = write!(
            body,
            "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/>",
            line.class
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::histogram;

    /// Returns the ends and the line of each value that is written at a curve, by the width that
    /// letters have on a phone.
    fn written(drawing: &str) -> Vec<Written> {
        let number = |text: &str, name: &str| {
            let value = text.split_once(&format!(" {name}=\"")).expect("it has one").1;
            value.split('"').next().and_then(|text| text.parse::<f64>().ok()).expect("a number")
        };
        let texts = drawing.split("<text class=\"value\"").skip(1);
        let place = |text: &str| {
            let (head, rest) = text.split_once('>').expect("it ends");
            let letters = rest.split("</text>").next().expect("it has a text").trim();
            let width = letters.chars().count() as f64 * LETTER;
            let (x, y) = (number(head, "x"), number(head, "y"));
            let from = if head.contains("\"end\"") { x - width } else { x };
            Written { from, to: from + width, y }
        };
        texts.map(place).collect()
    }

    #[test]
    fn the_values_of_a_curve_cover_neither_each_other_nor_the_axis() {
        for count in [1, 7, 20, 40, 47, 60, 100, 1_000, 100_000] {
            for spread in [0, 1, 1_000, 100_000] {
                let mut latency = histogram();
                for number in 0..count {
                    latency.saturating_record(10_400_000 + number * spread);
                }
                let latency = Distribution::of(&latency).expect("it has values");
                let curve = Curve { name: "all".into(), class: "one", latency: &latency };
                let texts = written(&percentiles(&[curve]));
                assert!(!texts.is_empty());
                for (at, one) in texts.iter().enumerate() {
                    assert!(one.from >= LEFT && one.to <= WIDTH, "{count} values: {one:?}");
                    assert!(
                        !texts[at + 1..].iter().any(|other| one.covers(other)),
                        "{count}: {one:?}"
                    );
                }
            }
        }
    }
}
