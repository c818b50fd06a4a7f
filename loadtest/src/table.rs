//! Output for people: rows of named values, and the format of quantities.

use std::fmt::Write;

use crate::procfs::Memory;

/// Rows of named values under a title.
pub(crate) struct Table {
    /// The text so far.
    pub(crate) text: String,
}

impl Table {
    /// Creates a table that has only a title.
    pub(crate) fn new(title: String) -> Self {
        Self { text: title }
    }

    /// Adds a row; an empty title continues the row above.
    pub(crate) fn row<const N: usize>(&mut self, title: &str, cells: [(&str, String); N]) {
        let _ = write!(self.text, "\n  {title:<16}");
        for (name, value) in cells {
            let _ = write!(self.text, " {name} {value}  ");
        }
        self.text.truncate(self.text.trim_end().len());
    }

    /// Adds a row with one text.
    pub(crate) fn line(&mut self, title: &str, text: &str) {
        let _ = write!(self.text, "\n  {title:<16} {text}");
    }
}

/// Returns the cells of a row with memory figures.
pub(crate) fn memory_cells(memory: Memory) -> [(&'static str, String); 3] {
    let mib = |bytes: Option<u64>| {
        bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0))
    };
    [
        ("RSS", mib(Some(memory.rss))),
        ("PSS", mib(memory.pss)),
        ("private dirty", mib(memory.private_dirty)),
    ]
}

/// Formats bytes; `-` if unknown.
pub(crate) fn bytes(count: Option<f64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| format!("{count:.0} B"))
}

/// Formats nanoseconds as microseconds; `-` if unknown.
pub(crate) fn micros(ns: Option<f64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.3} µs", ns / 1e3))
}

/// Formats nanoseconds; `-` if unknown.
pub(crate) fn nanos(ns: Option<f64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.3} ns"))
}

/// Formats nanoseconds as milliseconds.
pub(crate) fn millis(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

/// Formats a number rounded and grouped by thousands.
pub(crate) fn grouped_float(number: f64) -> String {
    let sign = if number <= -0.5 { "-" } else { "" };
    // A float beyond what u64 holds becomes the largest.
    format!("{sign}{}", grouped(number.abs().round() as u64))
}

/// Formats a number of things whose name has a plural with `s`.
pub(crate) fn plural(number: usize, name: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {name}{ending}", grouped(number as u64))
}

/// Does the same for a count of things whose plural may end in `ies`.
pub(crate) fn plural_of(number: u64, name: &str) -> String {
    match (number, name.strip_suffix('y')) {
        (1, _) | (_, None) => plural(usize::try_from(number).unwrap_or(usize::MAX), name),
        (_, Some(stem)) => format!("{} {stem}ies", grouped(number)),
    }
}

/// Formats a number of things as the subject of a sentence in the past.
pub(crate) fn were(number: u64, name: &str) -> String {
    format!("{} {}", plural_of(number, name), if number == 1 { "was" } else { "were" })
}

/// Formats 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!(
            [0, 1, 2_000].map(|it| plural(it, "pair")),
            ["0 pairs", "1 pair", "2,000 pairs"]
        );
        let deliveries = [1, 1_200].map(|it| plural_of(it, "delivery"));
        assert_eq!(deliveries, ["1 delivery", "1,200 deliveries"]);
        assert_eq!([were(1, "join"), were(2, "delivery")], ["1 join was", "2 deliveries were"]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let grouped = [0, 999, 1_000, 123_456, 1_234_567].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }
}
