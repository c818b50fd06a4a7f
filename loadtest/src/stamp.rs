//! The mark that every publication carries: its sequence number and when it was meant to be sent.
//!
//! All fields have a fixed width, so that a publication is made by overwriting digits in a
//! template, and a subscriber finds it with one byte search instead of parsing JSON. A stamp
//! begins the string value of a member, and holds nothing that JSON escapes: it reads the same in
//! a payload that is an object and in one that is a string.

use memchr::memmem::Finder;

/// What a stamp begins with, after what stands before any string value of a member. Inside a
/// string the quote would be escaped, so that no name or other text can be taken for it.
const MARK: &str = r#":"@"#;
const SIGN: &str = "@";
const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 19;
const DIGITS_BYTES: usize = SEQUENCE_DIGITS + 1 + TIME_DIGITS;

/// The length of a stamp.
pub(crate) const STAMP_BYTES: usize = SIGN.len() + DIGITS_BYTES;

/// What one publication says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Position in the run, counted from 0 and without holes.
    pub(crate) sequence: u64,
    /// When it was due, in ns of CLOCK_MONOTONIC; a publisher that is late does not move it.
    pub(crate) due_ns: u64,
}

impl Stamp {
    /// The one that a member's value begins with.
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
    /// A reader; building one costs more than using it.
    pub(crate) fn new() -> Self {
        Self(Finder::new(MARK))
    }

    /// The first stamp in `event`, if it has one.
    pub(crate) fn find(&self, event: &[u8]) -> Option<Stamp> {
        let start = self.0.find(event)? + MARK.len();
        Stamp::read(event.get(start..start + DIGITS_BYTES)?)
    }
}

/// Text that holds one payload, to be stamped again and again.
pub(crate) struct Template {
    text: Vec<u8>,
    digits_at: usize,
}

impl Template {
    /// Puts a stamp between `before`, which has to end where a member's string value begins, and
    /// `after`.
    pub(crate) fn new(before: &str, after: &str) -> Self {
        let head = format!("{before}{SIGN}");
        let text = format!("{head}{:0SEQUENCE_DIGITS$}:{:0TIME_DIGITS$}{after}", 0, 0);
        Self { text: text.into_bytes(), digits_at: head.len() }
    }

    /// The text with the stamp that it has now.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The text with this stamp in it.
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
