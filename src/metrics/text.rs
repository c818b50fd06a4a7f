//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::counter::Reading;

/// Metrics as text. The samples of a family stand together, under one heading.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    family: String,
}

impl Text {
    /// Begins a family, unless it is the current one.
    pub fn family(&mut self, kind: &str, name: &str, help: &str) {
        if name != self.family {
            name.clone_into(&mut self.family);
            let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
    }

    /// Adds a sample of the family, with labels such as `worker="0"`, or without if they are empty.
    pub fn sample(&mut self, labels: &str, value: impl Display) {
        let name = &self.family;
        let _ = match labels {
            "" => writeln!(self.out, "{name} {value}"),
            labels => writeln!(self.out, "{name}{{{labels}}} {value}"),
        };
    }

    /// Adds a family of one sample.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family("gauge", name, help);
        self.sample("", value);
    }

    /// Adds a histogram in its base unit: the bounds of buckets are divided by `unit.0`, the sum by
    /// `unit.1`.
    pub fn histogram(&mut self, name: &str, help: &str, unit: (f64, f64), reading: &Reading) {
        self.family("histogram", name, help);
        let mut count = 0u64;
        for (power, met) in (0i32..).zip(&reading.buckets) {
            count = count.wrapping_add(*met);
            let bound = match power as usize + 1 == reading.buckets.len() {
                true => "+Inf".to_owned(),
                false => (2f64.powi(power) / unit.0).to_string(),
            };
            let _ = writeln!(self.out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.out, "{name}_sum {}", reading.sum as f64 / unit.1);
        let _ = writeln!(self.out, "{name}_count {count}");
    }

    /// Returns the families that were written, as one text.
    pub fn into_string(self) -> String {
        self.out
    }
}

/// Returns a label's value in quotes, with backslash, quote and line feed escaped.
pub fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_heading() {
        let mut text = Text::default();
        for number in [1, 2] {
            text.family("gauge", "a", "All of them.");
            text.sample(&format!("x=\"{number}\""), number);
        }
        text.family("counter", "b", "Others.");
        text.sample("", 3.5);
        let expected = "# HELP a All of them.\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n\
                        # HELP b Others.\n# TYPE b counter\nb 3.5\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_its_base_unit() {
        let mut text = Text::default();
        let reading = Reading { buckets: vec![1, 0, 2], sum: 5_000 };
        text.histogram("d_seconds", "Durations.", (1e6, 1e9), &reading);
        let expected = "# HELP d_seconds Durations.\n# TYPE d_seconds histogram\n\
                        d_seconds_bucket{le=\"0.000001\"} 1\n\
                        d_seconds_bucket{le=\"0.000002\"} 1\n\
                        d_seconds_bucket{le=\"+Inf\"} 3\n\
                        d_seconds_sum 0.000005\nd_seconds_count 3\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
