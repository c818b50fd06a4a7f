//! Readings of the node's clocks, and dates in JSON.

use jiff::Timestamp;
use jiff::tz::Offset;

use super::{Millis, Nanos};

/// One reading of both clocks of the node: the monotonic clock for deadlines and durations, and the
/// wall clock for people and tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Nanoseconds since the node started.
    pub nanos: Nanos,
    /// Milliseconds since the epoch.
    pub wall: Millis,
}

impl Now {
    /// Returns milliseconds since the node started.
    pub fn monotonic(self) -> Millis {
        self.nanos / 1_000_000
    }

    /// Returns seconds since the epoch, the unit of tokens.
    pub fn wall_seconds(self) -> u64 {
        self.wall / 1_000
    }

    /// Converts a moment of the wall clock into milliseconds since the node started. A moment that
    /// has passed becomes the present one.
    pub fn until_wall(self, at: Millis) -> Millis {
        self.monotonic().saturating_add(at.saturating_sub(self.wall))
    }
}

/// Formats a time as ISO 8601 in UTC with milliseconds: `2026-04-25T17:00:00.123Z`, always 24
/// bytes.
///
/// Times after the year 9999 become the last moment of that year that the calendar can name.
pub fn iso_millis(ms: Millis) -> String {
    let mut text = String::with_capacity(24);
    push_iso_millis(&mut text, ms);
    text
}

/// Appends a time as [`iso_millis`] formats it.
pub fn push_iso_millis(out: &mut String, ms: Millis) {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    // This runs once per publication. The library computes the date and this function writes the
    // digits: some 50 ns together. The library's formatter takes more than twice as long.
    let at = Offset::UTC.to_datetime(at);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    write_digits(&mut text[0..4], at.year().unsigned_abs());
    write_digits(&mut text[5..7], at.month().unsigned_abs().into());
    write_digits(&mut text[8..10], at.day().unsigned_abs().into());
    write_digits(&mut text[11..13], at.hour().unsigned_abs().into());
    write_digits(&mut text[14..16], at.minute().unsigned_abs().into());
    write_digits(&mut text[17..19], at.second().unsigned_abs().into());
    write_digits(&mut text[20..23], at.millisecond().unsigned_abs());
    out.push_str(str::from_utf8(&text).expect("digits and punctuation are ASCII"));
}

/// Fills `place` with the last digits of the number.
fn write_digits(place: &mut [u8], number: u16) {
    let mut rest = number;
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[usize::from(rest % 10)];
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_written_in_full() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_777_136_400_123, "2026-04-25T17:00:00.123Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ];
        for (ms, expected) in table {
            assert_eq!(iso_millis(ms), expected);
        }
    }

    #[test]
    fn the_end_of_time_is_a_date_too() {
        assert!(iso_millis(u64::MAX).starts_with("9999-12-30T"));
        assert_eq!(iso_millis(u64::MAX).len(), 24);
    }

    proptest! {
        #[test]
        fn the_formatter_of_the_library_agrees(ms in 0..253_370_764_800_000_i64) {
            let expected = format!("{:.3}", Timestamp::from_millisecond(ms).unwrap());
            prop_assert_eq!(iso_millis(ms.unsigned_abs()), expected);
        }
    }
}
