//! The results of a run: its table for people, its JSON for machines, and its faults.
//!
//! Reports hold counts and the histogram itself; percentiles and quotients are computed when a
//! report is shown.

mod across;
mod audience;
mod compare;
mod costs;
mod diff;
mod documents;
mod fanout;
mod figure;
mod idle;
mod joins;
mod page;
mod publish;
mod record;
mod saturate;
mod series;
mod slow;
mod soak;
mod thresholds;
mod verdict;
mod work;

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

pub(crate) use self::across::Across;
pub(crate) use self::audience::Audience;
pub(crate) use self::compare::{CompareReport, Pair, Run};
pub(crate) use self::costs::{Costs, Window};
pub(crate) use self::diff::Diff;
pub(crate) use self::documents::{Asked as DocumentsAsked, DocumentsReport, Steps};
pub(crate) use self::fanout::{FanoutReport, Measured, Publications};
pub(crate) use self::figure::Unit;
pub(crate) use self::idle::IdleReport;
pub(crate) use self::joins::{ChurnReport, StormReport};
pub(crate) use self::publish::{PostAsked, PublishReport, Subscribers};
pub(crate) use self::record::{Frame, Record};
pub(crate) use self::saturate::{SaturateReport, Step, StepLimits};
pub(crate) use self::series::{Course, Offer, Series, Tick, close, joined};
pub(crate) use self::slow::SlowReport;
pub(crate) use self::soak::{Growth, Moment, SoakReport};
pub(crate) use self::thresholds::Thresholds;
pub(crate) use self::verdict::{Evidence, Kind, Load, Verdict};
pub(crate) use self::work::Work;
use crate::api::Api;
use crate::procfs::Memory;
use crate::table::{Table, grouped, grouped_float, millis, plural, were};
use crate::tally::Deliveries;

/// The parameters of the run, named as in the arguments.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) api: Api,
    pub(crate) channel: String,
    /// Number of subscribers, without the streams beside them.
    pub(crate) subscribers: usize,
    /// Number of streams of Server-Sent Events beside the subscribers.
    pub(crate) streams: usize,
    /// Publications per second that were asked for.
    pub(crate) rate: f64,
    /// Size of the payload, in bytes.
    pub(crate) payload_bytes: usize,
    /// Length of the measured window, in s.
    pub(crate) seconds: f64,
}

impl Asked {
    /// Adds the parameters to a JSON result.
    fn put_into(&self, result: &mut Value) {
        result["api"] = json!(self.api);
        result["channel"] = self.channel.as_str().into();
        result["subscribers"] = self.subscribers.into();
        result["streams"] = self.streams.into();
        result["rate"] = self.rate.into();
        result["payload_bytes"] = self.payload_bytes.into();
        result["seconds"] = self.seconds.into();
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscribers = plural(self.subscribers, "subscriber");
        let bytes = grouped(self.payload_bytes as u64);
        let Self { api, channel, rate, seconds, .. } = self;
        write!(f, "{channel} in {api}: {subscribers}, ")?;
        if self.streams > 0 {
            write!(f, "{}, ", plural(self.streams, "stream"))?;
        }
        let rate = if rate.fract() == 0.0 { grouped_float(*rate) } else { rate.to_string() };
        write!(f, "{rate} publications/s of {bytes} bytes for {seconds} s")
    }
}

/// Connections that ended too early.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// Number of lost connections.
    pub(crate) connections: usize,
    /// Why the first connection was lost.
    pub(crate) first: Option<String>,
}

/// Formats a rate; `-` if the time was too short for one.
fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), grouped_float)
}

/// Returns the rows that say what a run's figures are worth.
pub(crate) fn verdict_text(verdict: &Verdict) -> String {
    let mut table = Table { text: String::new() };
    verdict_rows(&mut table, verdict);
    table.text
}

/// Adds the verdict, its meaning and the evidence for it.
fn verdict_rows(table: &mut Table, verdict: &Verdict) {
    table.line("verdict", &format!("{}. {}", verdict.words(), verdict.meaning()));
    verdict.evidence.iter().for_each(|sentence| table.line("", sentence));
}

fn loss_rows(table: &mut Table, losses: &Losses) {
    if losses.connections > 0 {
        table.row("connections", [("lost", grouped(losses.connections as u64))]);
        table.line("first loss", losses.first.as_deref().unwrap_or("unknown"));
    }
}

/// Adds a row about the lost deliveries that clients know of, if there are any.
fn told_row(table: &mut Table, deliveries: &Deliveries) {
    let Deliveries { announced, cut_off, .. } = *deliveries;
    if announced + cut_off > 0 {
        let cells =
            [("by gap notices", grouped(announced)), ("by lost connections", grouped(cut_off))];
        table.row("  lost and told", cells);
    }
}

/// Returns the cells of a row with the deliveries that went wrong.
fn loss_cells(deliveries: &Deliveries) -> [(&'static str, String); 5] {
    [
        ("lost", grouped(deliveries.lost)),
        ("conflated", grouped(deliveries.conflated)),
        ("duplicated", grouped(deliveries.duplicated)),
        ("reordered", grouped(deliveries.reordered)),
        ("despite refusal", grouped(deliveries.despite_refusal)),
    ]
}

fn deliveries_json(deliveries: &Deliveries) -> Value {
    json!({
        "expected": deliveries.expected,
        "received": deliveries.received,
        "lost": deliveries.lost,
        "announced": deliveries.announced,
        "cut_off": deliveries.cut_off,
        "conflated": deliveries.conflated,
        "duplicated": deliveries.duplicated,
        "reordered": deliveries.reordered,
        "despite_refusal": deliveries.despite_refusal,
    })
}

/// Returns a quantile of latencies in ns; `None` if there are none.
pub(crate) fn quantile(latency: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (!latency.is_empty()).then(|| latency.value_at_quantile(quantile))
}

/// Returns a sentence if the 99th percentile of latencies is above a bound in ms.
fn late(what: &str, latency: &Histogram<u64>, most_ms: Option<f64>) -> Option<String> {
    let p99_ms = quantile(latency, 0.99)? as f64 / 1e6;
    let most_ms = most_ms.filter(|most_ms| p99_ms > *most_ms)?;
    Some(format!("p99 {what} is {p99_ms:.3} ms, more than {most_ms} ms"))
}

/// Returns a sentence for each fault that occurred: its count, what it befell, and what it was.
fn counted<'a>(counts: impl IntoIterator<Item = (u64, &'a str, &'a str)>) -> Vec<String> {
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    counts.map(|(count, name, fault)| format!("{} {fault}", were(count, name))).collect()
}

/// Returns a sentence if no delivery was received, or none in the measured window.
fn nothing_delivered(received: u64, latency: &Histogram<u64>) -> Option<String> {
    let nothing = received == 0 || latency.is_empty();
    nothing.then(|| "nothing was delivered in the measured window".to_owned())
}

/// Adds the rows about errors from the server: the first one, and their number.
fn error_rows(table: &mut Table, errors: &(Option<String>, u64)) {
    if let (Some(first), count) = errors {
        table.row("errors from the server", [("received", grouped(*count))]);
        table.line("the first", first);
    }
}

/// Returns the cells of a row with percentiles. The histogram is in ns.
fn latency_cells(latency: &Histogram<u64>) -> [(&'static str, String); 5] {
    let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), millis);
    let at = |part| shown(quantile(latency, part));
    [
        ("p50", at(0.5)),
        ("p90", at(0.9)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("max", shown(quantile(latency, 1.0).map(|_| latency.max()))),
    ]
}

fn latency_json(latency: &Histogram<u64>) -> Value {
    let at = |part| quantile(latency, part);
    json!({
        "count": latency.len(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": at(1.0).map(|_| latency.max()),
    })
}

/// Returns the bytes that each of `count` connections or subscriptions added. `None` if the memory
/// did not grow: then the server used memory that it had taken before, and says nothing of them.
fn bytes_each(before: u64, after: u64, count: f64) -> Option<f64> {
    let added = after.checked_sub(before).filter(|added| *added > 0)?;
    (count > 0.0).then(|| added as f64 / count)
}

fn memory_json(memory: Memory) -> Value {
    json!({
        "rss_bytes": memory.rss,
        "pss_bytes": memory.pss,
        "private_dirty_bytes": memory.private_dirty,
    })
}
