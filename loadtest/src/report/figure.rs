//! Named figures with units, which tables, pages and comparisons share.

use serde::{Deserialize, Serialize};

use crate::table::grouped_float;

/// The unit of a saved value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Ns,
    Bytes,
    Count,
    PerSecond,
    /// Processors that were busy.
    Cores,
    Ratio,
}

/// Which change of a figure is an improvement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Lower,
    Higher,
    /// The figure describes the load.
    Neither,
}

/// A result of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// `None` if it was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) better: Better,
}

impl Figure {
    /// Returns a figure; a value that is no number counts as not measured.
    pub(crate) fn new(name: &str, unit: Unit, better: Better, value: Option<f64>) -> Self {
        let value = value.filter(|value| value.is_finite());
        Self { name: name.to_owned(), unit, value, better }
    }

    /// Returns the value for people.
    pub(crate) fn text(&self) -> String {
        self.unit.text(self.value)
    }
}

impl Unit {
    /// Formats a value with three significant digits and its unit; `–` if it is unknown.
    pub(crate) fn text(self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return "–".to_owned();
        };
        let scaled = |steps: &[(f64, &str)]| {
            let step = steps.iter().rfind(|(size, _)| value.abs() >= *size).unwrap_or(&steps[0]);
            format!("{} {}", significant(value / step.0), step.1)
        };
        match self {
            Self::Ns => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
            Self::Bytes => {
                scaled(&[(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB"), (1.0737e9, "GiB")])
            }
            Self::Count => grouped_float(value),
            Self::PerSecond => format!("{}/s", grouped_or_small(value)),
            Self::Ratio => format!("{value:.3}"),
            Self::Cores if value < 0.1 => format!("{value:.3}"),
            Self::Cores => format!("{value:.2}"),
        }
    }
}

fn grouped_or_small(value: f64) -> String {
    if value.abs() < 100.0 { significant(value) } else { grouped_float(value) }
}

/// Formats with three significant digits and no exponent.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => grouped_float(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_a_unit_that_fits() {
        for (unit, value, text) in [
            (Unit::Ns, 950.0, "950 ns"),
            (Unit::Ns, 7_130.0, "7.13 µs"),
            (Unit::Ns, 12_345_678.0, "12.3 ms"),
            (Unit::Ns, 61e9, "61.0 s"),
            (Unit::Ns, 4e12, "4,000 s"),
            (Unit::Bytes, 591.0, "591 B"),
            (Unit::Bytes, 44_040_192.0, "42.0 MiB"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::PerSecond, 50_000.4, "50,000/s"),
            (Unit::PerSecond, 0.5, "0.50/s"),
            (Unit::Cores, 0.987, "0.99"),
            (Unit::Cores, 0.0042, "0.004"),
            (Unit::Ns, 0.0, "0 ns"),
            (Unit::Ratio, 1.0364, "1.036"),
        ] {
            assert_eq!(unit.text(Some(value)), text);
        }
        assert_eq!(Unit::Ns.text(None), "–");
    }

    #[test]
    fn what_is_no_number_was_not_measured() {
        for wrong in [f64::NAN, f64::INFINITY] {
            let figure = Figure::new("p99", Unit::Ns, Better::Lower, Some(wrong));
            assert_eq!((figure.value, figure.text().as_str()), (None, "–"));
        }
    }
}
