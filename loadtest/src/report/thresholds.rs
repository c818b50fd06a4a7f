//! Limits of figures that a run must not exceed.

use crate::table::{grouped, were};
use crate::tally::Deliveries;

/// Limits that a run must not exceed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thresholds {
    /// 99th percentile of latency, in ms.
    pub(crate) p99_ms: Option<f64>,
    /// Server processor time per delivery, in µs.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Lost deliveries, in percent of those that were expected; `None` allows none.
    pub(crate) lost_percent: Option<f64>,
    /// Resident memory of the server for each connection, in bytes.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// The figures that have thresholds; `None` for what was not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) p99_ns: Option<u64>,
    pub(crate) cpu_ns_per_delivery: Option<f64>,
    pub(crate) bytes_per_connection: Option<f64>,
}

impl Thresholds {
    /// Returns a sentence for each figure that is above its bound or was not measured.
    pub(crate) fn exceeded(self, judged: Judged) -> Vec<String> {
        let checks = [
            (
                "the 99th percentile of latency",
                "ms",
                judged.p99_ns.map(|ns| ns as f64 / 1e6),
                self.p99_ms,
                "--max-p99-ms",
            ),
            (
                "the server's processor time per delivery",
                "µs",
                judged.cpu_ns_per_delivery.map(|ns| ns / 1e3),
                self.cpu_us_per_delivery,
                "--max-cpu-us-per-delivery",
            ),
            (
                "the server's memory per connection",
                "bytes",
                judged.bytes_per_connection,
                self.bytes_per_connection,
                "--max-bytes-per-connection",
            ),
        ];
        let sentence = |(name, unit, value, bound, flag): (_, _, Option<f64>, Option<f64>, _)| {
            let bound = bound?;
            match value {
                Some(value) if value <= bound => None,
                Some(value) => {
                    let digits = if unit == "bytes" { 0 } else { 3 };
                    Some(format!("{name} is {value:.digits$} {unit}, more than {bound} ({flag})"))
                }
                None => Some(format!("{name} was not measured, so {flag} cannot be checked")),
            }
        };
        checks.into_iter().filter_map(sentence).collect()
    }

    /// Returns what is wrong with this number of lost deliveries, if anything.
    pub(crate) fn loss(self, deliveries: &Deliveries) -> Option<String> {
        let Deliveries { lost, expected, announced, cut_off, .. } = *deliveries;
        let percent = lost as f64 * 100.0 / expected.max(1) as f64;
        if lost == 0 || self.lost_percent.is_some_and(|most| percent <= most) {
            return None;
        }
        let mut text = match self.lost_percent {
            None => format!("{} lost", were(lost, "delivery")),
            Some(most) => format!(
                "{} of {} deliveries were lost, {percent:.3} %, more than {most} \
                 (--max-lost-percent)",
                grouped(lost),
                grouped(expected)
            ),
        };
        for (told, how) in [(announced, "told by gap notices"), (cut_off, "by lost connections")] {
            if told > 0 {
                text += &format!(", {} {how}", grouped(told));
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_the_figure_and_the_bound() {
        let thresholds = Thresholds {
            p99_ms: Some(5.0),
            cpu_us_per_delivery: Some(7.0),
            lost_percent: None,
            bytes_per_connection: Some(500.0),
        };
        let judged = Judged {
            p99_ns: Some(5_000_000),
            cpu_ns_per_delivery: Some(7_000.0),
            bytes_per_connection: Some(500.0),
        };
        assert_eq!(thresholds.exceeded(judged), Vec::<String>::new());
        let worse = Judged {
            p99_ns: Some(5_100_000),
            cpu_ns_per_delivery: Some(7_100.0),
            bytes_per_connection: Some(501.0),
        };
        assert_eq!(
            thresholds.exceeded(worse),
            [
                "the 99th percentile of latency is 5.100 ms, more than 5 (--max-p99-ms)",
                "the server's processor time per delivery is 7.100 µs, more than 7 \
                 (--max-cpu-us-per-delivery)",
                "the server's memory per connection is 501 bytes, more than 500 \
                 (--max-bytes-per-connection)",
            ]
        );
        assert_eq!(Thresholds::default().exceeded(worse).len(), 0);
        let unknown = thresholds.exceeded(Judged::default());
        assert_eq!(unknown.len(), 3, "a figure that was not measured keeps no bound");
        assert!(
            unknown[1]
                .ends_with("was not measured, so --max-cpu-us-per-delivery cannot be checked")
        );
    }

    #[test]
    fn losses_may_be_allowed_up_to_a_percentage() {
        let most = |lost_percent| Thresholds { lost_percent, ..Thresholds::default() };
        let of = |lost, expected| Deliveries { lost, expected, ..Deliveries::default() };
        assert_eq!(most(None).loss(&of(0, 100)), None);
        assert_eq!(most(None).loss(&of(1, 1_000)).unwrap(), "1 delivery was lost");
        let told = Deliveries { announced: 28, cut_off: 3, ..of(40, 1_000) };
        assert_eq!(
            most(None).loss(&told).unwrap(),
            "40 deliveries were lost, 28 told by gap notices, 3 by lost connections"
        );
        assert_eq!(most(Some(0.1)).loss(&of(1, 1_000)), None);
        assert_eq!(
            most(Some(0.1)).loss(&of(2, 1_000)).unwrap(),
            "2 of 1,000 deliveries were lost, 0.200 %, more than 0.1 (--max-lost-percent)"
        );
    }
}
