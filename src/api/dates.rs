//! Dates as the original takes them: whatever JavaScript's `Date` reads in practice.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

use crate::message::Millis;

/// The time that a text names: ISO 8601 or the forms of mails and of JavaScript itself
/// (`Sat, 25 Apr 2026 17:00:00 GMT`, `Sat Apr 25 2026 17:00:00 GMT+0200`). A time without a zone is
/// UTC. Times before the epoch are the epoch: there is nothing from before.
pub(super) fn millis(text: &str) -> Option<Millis> {
    let text = text.trim();
    let at = iso(text).or_else(|| worded(text))?;
    Some(u64::try_from(at).unwrap_or(0))
}

fn iso(text: &str) -> Option<i64> {
    let is_date = |c: char| c.is_ascii_digit() || c == '-';
    let end = text.find(|c| !is_date(c)).unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    let date = iso_date(date)?;
    if rest.is_empty() {
        return at(date, Clock::default(), 0);
    }
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let end = time.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'));
    let (time, zone) = time.split_at(end.unwrap_or(time.len()));
    let offset_s = match zone {
        "" | "Z" | "z" => 0,
        // A plus sign that was not escaped arrives as a space.
        zone => offset(&zone.replacen(' ', "+", 1))?,
    };
    at(date, clock(time)?, offset_s)
}

/// A year, perhaps with a month, perhaps with a day.
fn iso_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4..=4)?;
    let month = parts.next().map_or(Some(1), |part| number(part, 2..=2))?;
    let day = parts.next().map_or(Some(1), |part| number(part, 2..=2))?;
    if parts.next().is_some() {
        return None;
    }
    date(year, month, day)
}

/// Words in any order: names of day and month, day, year, clock, zone.
fn worded(text: &str) -> Option<i64> {
    let text = text.split_once('(').map_or(text, |(before, _comment)| before);
    let (mut year, mut month, mut day) = (None, None, None);
    let (mut time, mut offset_s) = (None, None);
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        if word.contains(':') {
            unset(&mut time, clock(word)?)?;
        } else if let Some(found) = month_named(word) {
            unset(&mut month, found)?;
        } else if let Some(found) = zone(word) {
            // A zone's name may be followed by how far it is off.
            offset_s = Some(offset_s.unwrap_or(0) + found);
        } else if word.len() == 4
            && let Some(found) = number(word, 4..=4)
        {
            unset(&mut year, found)?;
        } else if let Some(found) = number(word, 1..=2) {
            unset(&mut day, found)?;
        } else if !is_weekday(word) {
            return None;
        }
    }
    let date = date(year?, month?, day?)?;
    at(date, time.unwrap_or_default(), offset_s.unwrap_or(0))
}

/// Fills what must be said once only.
fn unset<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// Names of zones that mails use, and how many hours they are ahead of UTC.
const ZONES: [(&str, i32); 12] = [
    ("GMT", 0),
    ("UTC", 0),
    ("UT", 0),
    ("Z", 0),
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
];

fn month_named(word: &str) -> Option<i32> {
    let at = MONTHS.iter().position(|name| is_short_for(word, name))?;
    i32::try_from(at + 1).ok()
}

fn is_weekday(word: &str) -> bool {
    WEEKDAYS.iter().any(|name| is_short_for(word, name))
}

fn is_short_for(word: &str, name: &str) -> bool {
    word.len() >= 3 && name.starts_with(&word.to_ascii_lowercase())
}

/// How many seconds a zone is ahead of UTC: `GMT`, `+0200`, `GMT+0200`.
fn zone(word: &str) -> Option<i32> {
    let end = word.find(['+', '-']).unwrap_or(word.len());
    let (name, rest) = word.split_at(end);
    let named = ZONES.iter().find(|(zone, _)| zone.eq_ignore_ascii_case(name));
    let named_s = match named {
        Some((_, hours)) => hours * 3_600,
        None if name.is_empty() => 0,
        None => return None,
    };
    if rest.is_empty() { named.map(|_| named_s) } else { Some(named_s + offset(rest)?) }
}

/// `+02:00`, `+0200` or `+02`, in seconds.
fn offset(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 2 => (digits, "00"),
        None => digits.split_at_checked(2)?,
    };
    let (hours, minutes) = (number(hours, 2..=2)?, number(minutes, 2..=2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// A time of day; the one at a day's end is the next day's first.
#[derive(Clone, Copy, Default)]
struct Clock {
    time: Time,
    is_end_of_day: bool,
}

/// `17:00`, `17:00:00` or `17:00:00.123`; what is finer than a millisecond does not count.
fn clock(text: &str) -> Option<Clock> {
    let (text, fraction) = match text.split_once('.') {
        Some((text, fraction)) => (text, Some(fraction)),
        None => (text, None),
    };
    let mut parts = text.split(':');
    let (hour, minute) = (number(parts.next()?, 1..=2)?, number(parts.next()?, 2..=2)?);
    let second = parts.next();
    if parts.next().is_some() || (fraction.is_some() && second.is_none()) {
        return None;
    }
    let second = second.map_or(Some(0), |second| number(second, 2..=2))?;
    let millis = fraction.map_or(Some(0), thousandths)?;
    if (hour, minute, second, millis) == (24, 0, 0, 0) {
        return Some(Clock { is_end_of_day: true, ..Clock::default() });
    }
    let [hour, minute, second] =
        [hour, minute, second].map(|part| i8::try_from(part).expect("it has two digits"));
    let time = Time::new(hour, minute, second, millis * 1_000_000).ok()?;
    Some(Clock { time, is_end_of_day: false })
}

fn thousandths(digits: &str) -> Option<i32> {
    number(digits, 1..=usize::MAX)?;
    number(&format!("{digits}00")[..3], 3..=3)
}

/// The number of that many digits. Of very many, only that they are digits is looked at.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i32> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(i32::MAX))
}

fn date(year: i32, month: i32, day: i32) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

fn at(date: Date, clock: Clock, offset_s: i32) -> Option<i64> {
    let day = if clock.is_end_of_day { date.tomorrow().ok()? } else { date };
    let there = DateTime::from_parts(day, clock.time);
    let at = Offset::UTC.to_timestamp(there).ok()?.as_millisecond();
    Some(at - i64::from(offset_s) * 1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::iso_millis;

    /// 2026-04-25T17:00:00Z.
    const EVENING: Millis = 1_777_136_400_000;

    #[test]
    fn dates_in_every_form_are_read() {
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
            ("2026-04-25T17:00:00.5Z", EVENING + 500),
            ("2026-04-25", EVENING - 17 * 3_600_000),
            ("2026-04-24T24:00:00Z", EVENING - 17 * 3_600_000),
            ("2026-04", 1_775_001_600_000),
            ("2026", 1_767_225_600_000),
            ("1969-07-20", 0),
            ("Sat, 25 Apr 2026 17:00:00 GMT", EVENING),
            ("Sat, 25 Apr 2026 17:00:00 +0000", EVENING),
            ("25 Apr 2026 13:00 EDT", EVENING),
            ("Sat Apr 25 2026 19:00:00 GMT+0200 (Central European Summer Time)", EVENING),
            ("Sat Apr 25 2026 19:00:00 UTC +0200", EVENING),
            ("April 25, 2026 17:00:00", EVENING),
            ("Apr 25 2026", EVENING - 17 * 3_600_000),
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
