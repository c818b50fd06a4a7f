//! The progress of a run on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Unit;
use crate::table::{grouped, plural};

/// How often the bar changes on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is added if stderr is not a terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
const BAR: &str = "{prefix} {bar:24.cyan/black.bright} {msg}";
const WITHOUT_BAR: &str = "{msg}";

/// The kind of output and the time of the last line.
pub(crate) struct Progress {
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
    /// The count when it was last shown, and when that was.
    counted: Option<(u64, Instant)>,
}

/// A run at work.
pub(crate) struct Live<'a> {
    /// The scenario's name.
    pub(crate) scenario: &'a str,
    /// Time since the start, and planned time of the whole.
    pub(crate) elapsed: Duration,
    pub(crate) planned: Duration,
    /// What is counted, and its number so far; `None` if nothing is.
    pub(crate) counted: Option<(&'a str, u64)>,
    /// Number of lost connections.
    pub(crate) lost: usize,
    /// Median and 99th percentile so far, in ns.
    pub(crate) latency: Option<(u64, u64)>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(WITHOUT_BAR));
            bar
        });
        Self { bar, shown: None, counted: None }
    }

    /// Shows the line if the interval has passed. Write errors are ignored, because nothing depends
    /// on it.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if !self.is_due() {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(WITHOUT_BAR));
                bar.set_message(line());
                bar.tick();
            }
            None => drop(writeln!(stderr(), "{}", line())),
        }
    }

    /// Shows a run at work if the interval has passed.
    pub(crate) fn run<'a>(&mut self, live: impl FnOnce() -> Live<'a>) {
        if !self.is_due() {
            return;
        }
        let live = live();
        let rate = live.counted.and_then(|(_, count)| self.rate(count));
        match &self.bar {
            Some(bar) => {
                let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                // First, because each of the others may draw.
                bar.set_style(style(BAR));
                bar.set_prefix(live.scenario.to_owned());
                bar.set_length(millis(live.planned).max(1));
                bar.set_position(millis(live.elapsed.min(live.planned)));
                bar.set_message(live.text(rate));
                bar.tick();
            }
            None => drop(writeln!(stderr(), "{}: {}", live.scenario, live.text(rate))),
        }
    }

    fn is_due(&mut self) -> bool {
        let interval = if self.bar.is_some() { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        if self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return false;
        }
        self.shown = Some(Instant::now());
        true
    }

    /// Returns the units per second since the last call; `None` at the first one.
    fn rate(&mut self, count: u64) -> Option<f64> {
        let (before, at) = self.counted.replace((count, Instant::now()))?;
        let seconds = at.elapsed().as_secs_f64();
        (seconds > 0.0).then(|| count.saturating_sub(before) as f64 / seconds)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Live<'_> {
    fn text(&self, rate: Option<f64>) -> String {
        let Self { elapsed, planned, counted, lost, latency, .. } = self;
        let left = planned.saturating_sub(*elapsed);
        let mut parts = vec![seconds(*elapsed, *planned)];
        if let Some((unit, count)) = counted {
            parts.extend(rate.map(|rate| format!("{} {unit}/s", grouped(rate as u64))));
            parts.push(format!("{} {unit}", grouped(*count)));
        }
        if let Some((p50, p99)) = latency {
            let text = |ns: &u64| Unit::Ns.text(Some(*ns as f64));
            parts.push(format!("p50 {}, p99 {}", text(p50), text(p99)));
        }
        if *lost > 0 {
            parts.push(format!("{} lost", plural(*lost, "connection")));
        }
        if left.is_zero() {
            let behind_s = (*elapsed - *planned).as_secs();
            parts.extend((behind_s > 0).then(|| format!("{behind_s} s behind")));
        } else {
            let left_s = planned.as_secs_f64().ceil() as u64 - elapsed.as_secs();
            parts.push(format!("{left_s} s left"));
        }
        parts.join(", ")
    }
}

/// Formats how far a run is, in whole seconds.
fn seconds(elapsed: Duration, planned: Duration) -> String {
    let planned_s = planned.as_secs_f64().ceil() as u64;
    format!("{} of {planned_s} s", elapsed.as_secs().min(planned_s))
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates are constants");
    style.progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(elapsed_ms: u64, planned_ms: u64) -> Live<'static> {
        Live {
            scenario: "fanout",
            elapsed: Duration::from_millis(elapsed_ms),
            planned: Duration::from_millis(planned_ms),
            counted: Some(("deliveries", 500_000)),
            lost: 0,
            latency: Some((1_200_000, 8_100_000)),
        }
    }

    #[test]
    fn a_line_tells_the_time_the_rate_and_the_latency() {
        assert_eq!(
            live(5_000, 11_000).text(Some(100_000.4)),
            "5 of 11 s, 100,000 deliveries/s, 500,000 deliveries, p50 1.20 ms, p99 8.10 ms, 6 s left"
        );
        let first = Live { latency: None, lost: 2, ..live(0, 300) };
        let text = "0 of 1 s, 500,000 deliveries, 2 connections lost, 1 s left";
        assert_eq!(first.text(None), text);
    }

    #[test]
    fn no_second_comes_after_the_last() {
        let late = live(13_000, 11_000).text(None);
        assert!(late.starts_with("11 of 11 s, 500,000 deliveries"), "{late}");
        assert!(late.ends_with(", 2 s behind"), "{late}");
        let just_over = Live { counted: None, latency: None, ..live(11_400, 11_000) };
        assert_eq!(just_over.text(None), "11 of 11 s");
        let of = |time, planned| seconds(Duration::from_secs(time), Duration::from_millis(planned));
        assert_eq!((of(13, 11_000), of(1, 300)), ("11 of 11 s".to_owned(), "1 of 1 s".to_owned()));
    }
}
