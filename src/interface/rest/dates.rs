//! Dates that callers send, in ISO 8601.

use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

use crate::message::Millis;

/// Returns the time that a text names, such as `2026-04-25` or `2026-04-25T17:00:00`, followed by
/// `Z`, an offset or neither, which means UTC. Seconds and their fraction may be absent. A time
/// before the epoch becomes the epoch, because no publication is older. Returns `None` if the text
/// is not such a date.
pub(in crate::interface) fn millis(text: &str) -> Option<Millis> {
    let text = text.trim();
    let (date, time) = text.split_at_checked("2026-04-25T".len()).unwrap_or((text, ""));
    if !is_plain(date, time) {
        return None;
    }
    // A plus sign that was not escaped in a query arrives as a space.
    let text = format!("{date}{}", time.replacen(' ', "+", 1));
    let pieces = Pieces::parse(&text).ok()?;
    let there = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let at = pieces.to_numeric_offset().unwrap_or(Offset::UTC).to_timestamp(there).ok()?;
    Some(at.as_millisecond().try_into().unwrap_or(0))
}

/// Returns whether hyphens and colons are at their places and no zone name follows. The library
/// would also accept `20260425`, an hour without minutes, and `[Europe/Berlin]`.
fn is_plain(date: &str, time: &str) -> bool {
    let is = |text: &str, at: usize, sign: u8| text.as_bytes().get(at) == Some(&sign);
    let is_time = time.is_empty() || (is(time, 2, b':') && !time.contains('['));
    is(date, 4, b'-') && is(date, 7, b'-') && is_time
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::iso_millis;

    /// 2026-04-25T17:00:00Z in milliseconds since the epoch.
    const EVENING: Millis = 1_777_136_400_000;

    #[test]
    fn dates_are_read_with_and_without_time_and_offset() {
        let table = [
            ("2026-04-25T17:00:00Z", EVENING),
            ("2026-04-25T17:00:00.000Z", EVENING),
            ("2026-04-25t17:00z", EVENING),
            ("2026-04-25 17:00:00", EVENING),
            ("2026-04-25T17:00", EVENING),
            (" 2026-04-25T19:00:00+02:00 ", EVENING),
            ("2026-04-25T19:00:00 02:00", EVENING),
            ("2026-04-25T12:30:00-0430", EVENING),
            ("2026-04-25T19:00:00+02", EVENING),
            ("2026-04-25T17:00:00.1239Z", EVENING + 123),
            ("2026-04-25T17:00:00.123456+00:00", EVENING + 123),
            ("2026-04-25T17:00:00.123456789Z", EVENING + 123),
            ("2026-04-25T17:00:00.5Z", EVENING + 500),
            ("2026-04-25", EVENING - 17 * 3_600_000),
            ("1969-07-20", 0),
        ];
        for (text, expected) in table {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        let table = [
            "",
            "x",
            "1777136400000",
            "20",
            "2026-4-25",
            "2026-13-01",
            "2026-02-30",
            "2026-04-25T",
            "2026-04-25T17",
            "2026-04-25T17:0",
            "2026-04-25T25:00",
            "2026-04-25T24:00:01Z",
            "2026-04-25T17:00.5Z",
            "2026-04-25T17:00:00.Z",
            "2026-04-25T17:00:00X",
            "2026-04-25T17:00:00+2:00",
            "2026-04-25T17:00:00+99:00",
            "2026-04-25-01",
            "2026-04-25T17:00:00[Europe/Berlin]",
            "2026-04-25T17:00:00Z[UTC]",
            "2026",
            "2026-04",
            "20260425",
            "20260425T170000Z",
            "2026-04-25T170000Z",
            "2026-W17-6",
            "+002026-04-25T17:00:00Z",
            "2026-04-24T24:00:00Z",
            "Sat, 25 Apr 2026 17:00:00 GMT",
            "Sat Apr 25 2026 19:00:00 GMT+0200 (Central European Summer Time)",
            "Sat, 25 Apr 17:00:00 GMT",
            "25 Apr Apr 2026",
            "32 Apr 2026",
            "yesterday",
            "\u{0660}026-04-25",
        ];
        for text in table {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,40}") {
            millis(&text);
        }

        #[test]
        fn what_is_shown_can_be_asked_for(ms in 0..253_370_764_800_000_u64) {
            prop_assert_eq!(millis(&iso_millis(ms)), Some(ms));
        }
    }
}
