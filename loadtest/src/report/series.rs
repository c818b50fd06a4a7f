//! The course of a run, second by second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timeline::{INTERVALS_MAX, Timeline};

/// A last point that is shorter than this part of an interval becomes part of the one before.
const SHORTEST_PART: f64 = 0.25;
/// No point needs to be longer than this to stand alone.
const SHORTEST_S: f64 = 0.25;

/// Counters of a run at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    /// Time since the start of the measured window.
    pub(crate) at_ns: u64,
    /// Deliveries so far, or other units of the scenario's work.
    pub(crate) delivered: u64,
    /// Publications sent or joins begun so far; `None` if the publisher does not count them.
    pub(crate) sent: Option<u64>,
    /// Publications refused so far.
    pub(crate) refused: u64,
    /// Connections lost so far, failed joins included.
    pub(crate) connections_lost: u64,
    /// Processor time since the tick before.
    pub(crate) server_cpu_ns: Option<u64>,
    /// Processor time of the clients since the tick before.
    pub(crate) client_cpu_ns: u64,
    /// Resident memory of the server.
    pub(crate) rss_bytes: Option<u64>,
}

/// The load that was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer {
    /// Publications or joins per second; zero if as many as possible are made.
    pub(crate) rate: f64,
    /// Units for each of them: the deliveries of a publication.
    pub(crate) audience: f64,
    /// Length of the measured window, in s.
    pub(crate) seconds: f64,
}

/// What was sampled in a run. Its series can be made once all clients have shared their latencies.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// The name of the units that ticks count.
    pub(crate) unit: &'static str,
    pub(crate) ticks: Vec<Tick>,
    /// Time between two ticks, and the length of an interval of the timeline, in a run that is not
    /// too long for that.
    pub(crate) interval: Duration,
    pub(crate) offer: Offer,
}

/// The course of a run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Series {
    /// The name of the units whose rates are `offered` and `delivered`.
    #[serde(default = "deliveries")]
    pub(crate) unit: String,
    /// Length of the points, in s, if they are whole.
    pub(crate) interval_s: f64,
    pub(crate) points: Vec<Point>,
}

/// What happened in one interval. Rates are per second.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Its start, in s since the start of the measured window.
    pub(crate) at_s: f64,
    pub(crate) length_s: f64,
    /// Publications sent or joins begun; `None` if the publisher does not count them.
    pub(crate) sent: Option<f64>,
    /// Units that were due; zero if as many as possible were made.
    pub(crate) offered: f64,
    /// Deliveries that arrived, publications that were answered, or joins that succeeded.
    pub(crate) delivered: f64,
    /// Latency of the publications that were due in the interval; `None` if there are none.
    pub(crate) latency: Option<PointLatency>,
    /// Processors that the server kept busy.
    pub(crate) server_cores: Option<f64>,
    /// Processors that the load tester kept busy.
    pub(crate) client_cores: f64,
    /// Resident memory of the server at the end.
    pub(crate) rss_bytes: Option<u64>,
    /// Number of publications that the server refused.
    pub(crate) refused: u64,
    /// Number of lost deliveries of the publications that were due in the interval.
    pub(crate) lost: u64,
    /// Number of connections that ended too early, failed joins included.
    pub(crate) connections_lost: u64,
}

/// Latencies in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PointLatency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

fn deliveries() -> String {
    "deliveries".to_owned()
}

impl Course {
    /// Puts together what was sampled at the ticks, which lie at least an interval of the timeline
    /// apart, and what the clients recorded. `lost` returns the lost deliveries of the intervals that
    /// start at these seconds.
    pub(crate) fn series(
        &self,
        timeline: &mut Timeline,
        lost: impl FnOnce(&[f64]) -> Vec<u64>,
    ) -> Series {
        let Self { unit, ticks, interval, offer } = self;
        let unit_s = interval.as_secs_f64();
        while timeline.interval_s() as f64 * unit_s * (INTERVALS_MAX as f64) < offer.seconds {
            let longer_s = timeline.interval_s() * 2;
            timeline.stretch(longer_s);
        }
        let interval_s = timeline.interval_s() as f64 * unit_s;
        let intervals = (offer.seconds / interval_s).ceil().max(1.0) as u64;
        let starts: Vec<_> = (0..intervals).map(|at| at as f64 * interval_s).collect();
        let lost = lost(&starts);
        let mut points: Vec<Point> = Vec::new();
        let mut taken = None;
        for pair in ticks.windows(2) {
            let mut point = Point::between(pair[0], pair[1], *offer);
            if point.length_s <= 0.0 {
                continue;
            }
            // A tick may be a little early or late; publications are assigned by their due times.
            let interval = (point.at_s / interval_s + 0.25) as u64;
            if taken < Some(interval) {
                taken = Some(interval);
                point.latency = timeline.interval(interval).map(|latency| PointLatency {
                    p50: latency.value_at_quantile(0.5),
                    p99: latency.value_at_quantile(0.99),
                    max: latency.max(),
                });
                let at = usize::try_from(interval).unwrap_or(usize::MAX);
                point.lost = lost.get(at).copied().unwrap_or_default();
            }
            points.push(point);
        }
        let shortest_s = shortest_s(interval_s);
        while points.last().is_some_and(|last| last.says_nothing(offer.seconds, shortest_s)) {
            points.pop();
        }
        Series { unit: (*unit).to_owned(), interval_s, points }
    }
}

impl Series {
    /// Returns the median latency in the first and in the last quarter of the window, in ns. `None`
    /// for a window of less than 8 points, whose quarters say little.
    pub(crate) fn growth(&self) -> Option<(u64, u64)> {
        let p50s: Vec<_> =
            self.points.iter().filter_map(|point| Some(point.latency?.p50)).collect();
        let quarter = p50s.len() / 4;
        if quarter < 2 {
            return None;
        }
        let median = |part: &[u64]| {
            let mut sorted = part.to_vec();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        Some((median(&p50s[..quarter]), median(&p50s[p50s.len() - quarter..])))
    }
}

impl Point {
    fn between(before: Tick, after: Tick, offer: Offer) -> Self {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let (from_s, to_s) = (seconds(before.at_ns), seconds(after.at_ns));
        let length_s = to_s - from_s;
        let per_second = |count: f64| if length_s > 0.0 { count / length_s } else { 0.0 };
        let more = |before: u64, after: u64| after.saturating_sub(before);
        // The tick at the end of the window may be a little late, which changes no rate.
        let due_s = match (to_s.min(offer.seconds) - from_s).max(0.0) {
            due_s if due_s >= length_s * 0.9 => length_s,
            due_s => due_s,
        };
        let cores = |cpu_ns: u64| per_second(seconds(cpu_ns));
        let sent = before.sent.zip(after.sent).map(|(before, after)| more(before, after));
        Self {
            at_s: from_s,
            length_s,
            sent: sent.map(|sent| per_second(sent as f64)),
            offered: per_second(due_s * offer.rate * offer.audience),
            delivered: per_second(more(before.delivered, after.delivered) as f64),
            latency: None,
            server_cores: after.server_cpu_ns.map(cores),
            client_cores: cores(after.client_cpu_ns),
            rss_bytes: after.rss_bytes,
            refused: more(before.refused, after.refused),
            lost: 0,
            connections_lost: more(before.connections_lost, after.connections_lost),
        }
    }

    /// Whether it lies behind the window and nothing happened in it.
    fn says_nothing(&self, seconds: f64, shortest_s: f64) -> bool {
        self.at_s + shortest_s >= seconds && self.delivered == 0.0 && self.connections_lost == 0
    }
}

/// Returns the length of the shortest point that stands alone, in s.
fn shortest_s(interval_s: f64) -> f64 {
    (interval_s * SHORTEST_PART).min(SHORTEST_S)
}

/// Adds a tick that ends the series. It replaces the one before if that is too near.
pub(crate) fn close(ticks: &mut Vec<Tick>, last: Tick, interval: Duration) {
    let shortest_s = shortest_s(interval.as_secs_f64());
    let near = |tick: &Tick| last.at_ns.saturating_sub(tick.at_ns) as f64 / 1e9 < shortest_s;
    match ticks.pop_if(|tick| near(tick)) {
        Some(near) if !ticks.is_empty() => ticks.push(joined(near, last)),
        Some(first) => ticks.extend([first, last]),
        None => ticks.push(last),
    }
}

/// Returns one tick for two in a row.
pub(crate) fn joined(earlier: Tick, later: Tick) -> Tick {
    let sum = |(earlier, later): (u64, u64)| earlier + later;
    Tick {
        server_cpu_ns: earlier.server_cpu_ns.zip(later.server_cpu_ns).map(sum),
        client_cpu_ns: earlier.client_cpu_ns + later.client_cpu_ns,
        ..later
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Recent;

    const SECOND: Duration = Duration::from_secs(1);
    const OFFER: Offer = Offer { rate: 10.0, audience: 100.0, seconds: 2.5 };

    fn tick(at_ms: u64, delivered: u64) -> Tick {
        Tick {
            at_ns: at_ms * 1_000_000,
            delivered,
            sent: Some(delivered / 100),
            server_cpu_ns: Some(500_000_000),
            ..Tick::default()
        }
    }

    fn series_of(ticks: &[Tick], lost: &[u64]) -> Series {
        let (unit, ticks) = ("deliveries", ticks.to_vec());
        let course = Course { unit, ticks, interval: SECOND, offer: OFFER };
        course.series(&mut timeline(), |starts| {
            assert_eq!(starts, [0.0, 1.0, 2.0]);
            lost.to_vec()
        })
    }

    fn timeline() -> Timeline {
        let mut recent = Recent::default();
        for (second, latency) in [(0, 1), (1, 2), (2, 4)] {
            recent.record(second * 1_000_000_000, latency * 1_000_000);
        }
        let mut timeline = Timeline::default();
        timeline.add(&mut recent);
        timeline
    }

    #[test]
    fn points_hold_rates_of_their_real_length() {
        let ticks = [tick(0, 50), tick(1_010, 1_060), tick(2_000, 2_050), tick(2_500, 2_500)];
        let series = series_of(&ticks, &[0, 7, 0]);
        assert_eq!(series.points.len(), 3);
        let first = &series.points[0];
        assert!((first.delivered - 1_000.0).abs() < 0.1 && (first.offered - 1_000.0).abs() < 0.1);
        assert_eq!(series.points[1].lost, 7);
        let last = &series.points[2];
        assert_eq!((last.length_s, last.delivered, last.offered), (0.5, 900.0, 1_000.0));
        assert_eq!(last.server_cores, Some(1.0));
        let p50s = series.points.iter().map(|point| point.latency.unwrap().p50 / 1_000_000);
        assert_eq!(p50s.collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn late_deliveries_are_shown_and_an_empty_end_is_not() {
        let mut ticks = vec![tick(0, 0), tick(1_000, 900), tick(2_000, 1_900), tick(2_500, 2_300)];
        ticks.extend([tick(3_000, 2_500), tick(4_000, 2_500)]);
        let series = series_of(&ticks, &[]);
        assert_eq!(series.points.len(), 4);
        let late = &series.points[3];
        assert_eq!((late.offered, late.delivered, late.latency), (0.0, 400.0, None));
        // Counters that run backwards would be a fault of the sampler; no figure may be negative.
        let odd = series_of(&[tick(0, 100), tick(1_000, 50)], &[]);
        assert_eq!(odd.points[0].delivered, 0.0);
        let stopped = series_of(&[tick(500, 1), tick(500, 2)], &[]);
        assert_eq!(stopped.points, []);
    }

    #[test]
    fn a_last_tick_is_no_point_of_a_few_milliseconds() {
        let mut ticks = vec![tick(0, 0), tick(1_000, 900)];
        close(&mut ticks, tick(1_020, 1_000), SECOND);
        assert_eq!(ticks.len(), 2);
        assert_eq!((ticks[1].at_ns, ticks[1].server_cpu_ns), (1_020_000_000, Some(1_000_000_000)));
        close(&mut ticks, tick(1_500, 1_000), SECOND);
        assert_eq!(ticks.len(), 3);
        let mut first = vec![tick(0, 0)];
        close(&mut first, tick(10, 5), SECOND);
        assert_eq!(first.len(), 2, "a run of 10 ms has one point");
    }

    #[test]
    fn growth_compares_the_quarters_of_a_long_window() {
        let point = |p50| Point {
            latency: Some(PointLatency { p50, p99: p50, max: p50 }),
            ..Point::default()
        };
        let points = (1..=12).map(point).collect();
        let mut series = Series { points, ..Series::default() };
        assert_eq!(series.growth(), Some((2, 11)));
        series.points.truncate(7);
        assert_eq!(series.growth(), None);
    }
}
