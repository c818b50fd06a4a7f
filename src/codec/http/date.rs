//! The time in the header `Date` (RFC 9110 section 6.6.1).

use std::cell::Cell;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Length of a date in the preferred format, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;

/// The value of `Date` for one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    /// The second, counted from the epoch.
    second: u64,
    text: [u8; DATE_BYTES],
}

impl Date {
    /// Formats a second, counted from the epoch. Times after the year 9999 become the last moment
    /// of that year that the calendar can name.
    pub fn at(second: u64) -> Self {
        let at = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let text = DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at.unwrap_or(Timestamp::MAX))
            .expect("every time from the epoch to the year 9999 has this format");
        let text = text.as_bytes().try_into().expect("the format has a fixed length");
        Self { second, text }
    }

    /// Returns the text of the header.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// The last date that a thread has formatted, so that it formats at most one a second.
#[derive(Debug)]
pub struct Dates(Cell<Date>);

impl Dates {
    /// Returns the date of a second, counted from the epoch.
    pub fn at(&self, second: u64) -> Date {
        let last = self.0.get();
        if last.second == second {
            return last;
        }
        let date = Date::at(second);
        self.0.set(date);
        date
    }
}

impl Default for Dates {
    fn default() -> Self {
        Self(Cell::new(Date::at(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_format_of_the_rfc() {
        let table = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_777_136_400, "Sat, 25 Apr 2026 17:00:00 GMT"),
            (u64::MAX, "Thu, 30 Dec 9999 22:00:00 GMT"),
        ];
        let dates = Dates::default();
        for (second, expected) in table {
            assert_eq!(dates.at(second).as_bytes(), expected.as_bytes());
            assert_eq!(dates.at(second), Date::at(second), "also from the cache");
        }
    }
}
