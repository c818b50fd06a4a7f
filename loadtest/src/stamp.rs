//! The stamp of a publication: its sequence number and its due time.
//!
//! All fields have a fixed width: a publication is made by overwriting digits in a template, and a
//! subscriber finds the stamp with one byte search instead of parsing JSON. A stamp begins the
//! string value of a member and contains nothing that JSON escapes, so it looks the same in a
//! payload that is an object and in one that is a string.

use memchr::memmem::Finder;

/// The bytes before the digits, beginning at the end of a member's name. Inside a string JSON would
/// escape the quote, so no name or other text can be mistaken for a mark.
const MARK: &str = r#":"@"#;
const SIGN: &str = "@";
const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 19;
const DIGITS_BYTES: usize = SEQUENCE_DIGITS + 1 + TIME_DIGITS;

/// The length of a stamp in bytes.
pub(crate) const STAMP_BYTES: usize = SIGN.len() + DIGITS_BYTES;

/// Number and due time of one publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Position in the run, counted from 0 without gaps.
    pub(crate) sequence: u64,
    /// The due time in ns of CLOCK_MONOTONIC, even if the publication was sent late.
    pub(crate) due_ns: u64,
}

impl Stamp {
    /// Returns the stamp that a member's value begins with, or `None`.
    pub(crate) fn of(value: &str) -> Option<Self> {
        Self::read(value.as_bytes().strip_prefix(SIGN.as_bytes())?.get(..DIGITS_BYTES)?)
    }

    fn write(self, digits: &mut [u8]) {
        write_digits(&mut digits[..SEQUENCE_DIGITS], self.sequence);
        write_digits(&mut digits[SEQUENCE_DIGITS + 1..], self.due_ns);
    }

    fn read(digits: &[u8]) -> Option<Self> {
        if digits.get(SEQUENCE_DIGITS) != Some(&b':') {
            return None;
        }
        Some(Self {
            sequence: read_digits(&digits[..SEQUENCE_DIGITS])?,
            due_ns: read_digits(&digits[SEQUENCE_DIGITS + 1..])?,
        })
    }
}

/// Finds stamps in delivered frames.
pub(crate) struct Reader(Finder<'static>);

impl Reader {
    /// Creates a reader. This costs more than a search, so readers are kept.
    pub(crate) fn new() -> Self {
        Self(Finder::new(MARK))
    }

    /// Returns the first stamp in `event`, or `None`.
    pub(crate) fn find(&self, event: &[u8]) -> Option<Stamp> {
        let start = self.0.find(event)? + MARK.len();
        Stamp::read(event.get(start..start + DIGITS_BYTES)?)
    }
}

/// Text with a stamp whose digits can be overwritten.
pub(crate) struct Template {
    text: Vec<u8>,
    digits_at: usize,
}

impl Template {
    /// Puts a stamp between `before` and `after`; `before` must end with the quote that opens a
    /// member's string value.
    pub(crate) fn new(before: &str, after: &str) -> Self {
        let head = format!("{before}{SIGN}");
        let text = format!("{head}{:0SEQUENCE_DIGITS$}:{:0TIME_DIGITS$}{after}", 0, 0);
        Self { text: text.into_bytes(), digits_at: head.len() }
    }

    /// Returns the text with its present stamp.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Writes this stamp into the text and returns the text.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.text[self.digits_at..self.digits_at + DIGITS_BYTES]);
        &self.text
    }
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a remainder of ten is one digit");
        value /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_again_in_a_delivered_event() {
        let stamp = Stamp { sequence: 1_234_567, due_ns: 98_765_432_101 };
        for (before, after) in
            [(r#"42["load",{"t":""#, r#"","pad":"x"}]"#), (r#"{"payload":""#, r#"xx"}"#)]
        {
            let mut template = Template::new(before, after);
            let text = template.stamped(stamp).to_vec();
            assert_eq!(text.len(), before.len() + STAMP_BYTES + after.len());
            assert_eq!(Reader::new().find(&text), Some(stamp));
            let again = Stamp { sequence: 9_999_999_999, due_ns: 7 };
            assert_eq!(Reader::new().find(template.stamped(again)), Some(again));
        }
        assert_eq!(Stamp::of("@0001234567:0000000098765432101xx"), Some(stamp));
        assert_eq!(Stamp::of("0001234567:0000000098765432101"), None);
    }

    #[test]
    fn other_events_and_cut_stamps_are_not_taken_for_one() {
        let reader = Reader::new();
        assert_eq!(reader.find(br#"42["presence:join",{"member":{}}]"#), None);
        assert_eq!(reader.find(br#"42["load",{"t":"@0000000001:00000"#), None);
        assert_eq!(reader.find(br#"{"t":"@00000000x1:0000000000000000001"}"#), None);
        assert_eq!(reader.find(br#"{"t":"@0000000001-0000000000000000001"}"#), None);
        assert_eq!(reader.find(br#"{"t":"0000000001:0000000000000000001"}"#), None);
        assert_eq!(reader.find(br#"{"t":"@0000000001:9999999999999999999"}"#).unwrap().sequence, 1);
    }

    #[test]
    fn a_name_that_looks_like_a_stamp_is_passed_over() {
        let name = r#"a:\"@0000000009:0000000000000000009"#;
        let event = format!(r#"42["{name}",{{"t":"@0000000001:0000000000000000002"}}]"#);
        let stamp = Stamp { sequence: 1, due_ns: 2 };
        assert_eq!(Reader::new().find(event.as_bytes()), Some(stamp));
    }
}
