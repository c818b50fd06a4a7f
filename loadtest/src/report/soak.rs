//! The report of `soak`.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::procfs::Memory;
use crate::report::{Frame, PublishReport, Record, memory_json};
use crate::table::{Table, bytes, grouped, millis};

/// Counters at the end of an interval.
pub(crate) struct Moment {
    pub(crate) at_ns: u64,
    /// Deliveries so far.
    pub(crate) received: u64,
    /// Processor time of the server so far.
    pub(crate) cpu_ns: u64,
    pub(crate) memory: Memory,
    /// Latencies of this interval, in ns, as one of the subscribers saw them.
    pub(crate) latency: Histogram<u64>,
}

/// Limits of the growth from the first quarter of the intervals to the last, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) memory: Option<f64>,
    pub(crate) cpu: Option<f64>,
    pub(crate) latency: Option<f64>,
}

/// The result of `soak`.
pub(crate) struct SoakReport {
    /// Length of an interval, in s.
    pub(crate) interval: f64,
    /// The moments, in the order of time. The first begins the first interval.
    pub(crate) moments: Vec<Moment>,
    /// The run as a whole.
    pub(crate) run: PublishReport,
}

impl Moment {
    /// Returns the interval since `last` as one line for people.
    pub(crate) fn line(&self, last: &Self) -> String {
        let seconds = (self.at_ns - last.at_ns) as f64 / 1e9;
        let cores = (self.cpu_ns - last.cpu_ns) as f64 / 1e7 / seconds;
        let rss = self.memory.rss as f64 / 1_048_576.0;
        let rate = grouped(((self.received - last.received) as f64 / seconds) as u64);
        let [p50, p99] = [0.5, 0.99].map(|it| millis(self.latency.value_at_quantile(it)));
        format!(
            "  {rate} deliveries/s, {cores:.1} % of a core, RSS {rss:.1} MiB, p50 {p50}, p99 {p99}"
        )
    }
}

impl SoakReport {
    /// Returns a figure of each interval.
    fn series(&self, figure: impl Fn(&Moment, &Moment) -> f64) -> Vec<f64> {
        self.moments.windows(2).map(|pair| figure(&pair[0], &pair[1])).collect()
    }

    /// Returns the growth of memory, processor time per second and p99, in percent; `None` if there
    /// are fewer than four intervals.
    fn growth(&self) -> [(&'static str, Option<f64>); 3] {
        let cpu = |last: &Moment, it: &Moment| {
            (it.cpu_ns - last.cpu_ns) as f64 / (it.at_ns - last.at_ns).max(1) as f64
        };
        let p99 = |it: &Moment| it.latency.value_at_quantile(0.99) as f64;
        [
            ("memory", growth(&self.series(|_, it| it.memory.rss as f64))),
            ("CPU", growth(&self.series(cpu))),
            ("p99", growth(&self.series(|_, it| p99(it)))),
        ]
    }

    /// Returns the number of clients of the measured server: the first, if there are several.
    fn clients(&self) -> Option<f64> {
        let subscribers = self.run.subscribers.as_ref()?;
        let first = subscribers.across.as_ref().and_then(|across| across.nodes.first());
        Some(first.map_or(subscribers.clients, |node| node.clients) as f64)
    }

    /// Returns the server's processor time for each subscriber, in µs of each second.
    fn cpu_us_per_client(&self) -> Option<f64> {
        let (first, last) = (self.moments.first()?, self.moments.last()?);
        let clients = self.clients()?;
        let seconds = (last.at_ns - first.at_ns) as f64 / 1e9;
        (seconds > 0.0).then(|| (last.cpu_ns - first.cpu_ns) as f64 / 1e3 / seconds / clients)
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(self.run.table());
        let percent = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:+.1} %"))
        };
        let cells = self.growth().map(|(name, value)| (name, percent(value)));
        table.row("growth", cells);
        let intervals = self.moments.len().saturating_sub(1);
        table.line("", &format!("from the first quarter of {intervals} intervals to the last"));
        let cpu =
            self.cpu_us_per_client().map_or_else(|| "-".to_owned(), |us| format!("{us:.2} µs"));
        let rss = self
            .moments
            .last()
            .zip(self.clients())
            .map(|(last, clients)| last.memory.rss as f64 / clients);
        table.row("per client", [("CPU a second", cpu), ("RSS of the whole server", bytes(rss))]);
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let mut result = self.run.json();
        let moment = |pair: &[Moment]| {
            let [last, it] = pair else { return Value::Null };
            json!({
                "seconds": (it.at_ns - last.at_ns) as f64 / 1e9,
                "deliveries": it.received - last.received,
                "cpu_ns": it.cpu_ns - last.cpu_ns,
                "memory": memory_json(it.memory),
                "p50_ns": it.latency.value_at_quantile(0.5),
                "p99_ns": it.latency.value_at_quantile(0.99),
            })
        };
        result["interval"] = self.interval.into();
        result["intervals"] = self.moments.windows(2).map(moment).collect();
        for (name, value) in self.growth() {
            result["growth_percent"][name] = json!(value);
        }
        result["cpu_us_per_client_second"] = json!(self.cpu_us_per_client());
        result
    }

    /// Returns the run as it is saved.
    pub(crate) fn record(
        &self,
        frame: Frame,
        limits: &Growth,
        p99_ms: Option<f64>,
        cpu_us: Option<f64>,
    ) -> Record {
        let mut record = self.run.record(frame, p99_ms, cpu_us);
        record.defects.extend(self.grown(limits));
        record.result = self.json();
        record
    }

    /// Returns what grew by more than allowed.
    fn grown(&self, limits: &Growth) -> Vec<String> {
        let mut faults = Vec::new();
        let limits = [limits.memory, limits.cpu, limits.latency];
        for ((name, grown), most) in self.growth().into_iter().zip(limits) {
            match (grown, most) {
                (Some(grown), Some(most)) if grown > most => {
                    faults.push(format!("{name} grew by {grown:.1} %, more than {most}"));
                }
                (None, Some(_)) if !self.run.work.interrupted && self.run.work.cut.is_none() => {
                    faults
                        .push(format!("the growth of {name} is unknown: it takes four intervals"));
                }
                _ => {}
            }
        }
        faults
    }
}

/// Returns by how much the median of the last quarter exceeds that of the first, in percent.
fn growth(series: &[f64]) -> Option<f64> {
    let quarter = series.len() / 4;
    if quarter == 0 {
        return None;
    }
    let first = median(&series[..quarter]);
    let last = median(&series[series.len() - quarter..]);
    (first > 0.0).then(|| (last / first - 1.0) * 100.0)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_medians_of_the_outer_quarters() {
        assert_eq!(growth(&[1.0, 2.0, 3.0]), None);
        assert_eq!(growth(&[10.0, 0.0, 99.0, 12.0]), Some(19.999_999_999_999_996));
        let series = [10.0, 10.0, 50.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 10.0, 900.0];
        assert_eq!(growth(&series), Some(0.0));
        assert_eq!(growth(&[0.0, 1.0, 1.0, 1.0]), None);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }
}
