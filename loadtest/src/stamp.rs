//! The mark that every publication carries: its sequence number and when it was meant to be sent.
//!
//! All fields have a fixed width, so that a publication is made by overwriting digits in a
//! template, and a subscriber finds it with one byte search instead of parsing JSON.

use anyhow::{Context, Result};
use memchr::memmem::Finder;

const MARK: &str = r#""lt":""#;
const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 19;
const STAMP_BYTES: usize = SEQUENCE_DIGITS + 1 + TIME_DIGITS;
/// Between the stamp and the padding, and after the padding.
const MIDDLE: &str = r#"","pad":""#;
const TAIL: &str = r#"""#;

/// The smallest payload object that holds a stamp.
pub(crate) const PAYLOAD_BYTES_MIN: usize =
    1 + MARK.len() + STAMP_BYTES + MIDDLE.len() + TAIL.len() + 1;

/// What one publication says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Position in the run, counted from 0 and without holes.
    pub(crate) sequence: u64,
    /// When it was due, in ns of CLOCK_MONOTONIC; a publisher that is late does not move it.
    pub(crate) due_ns: u64,
}

impl Stamp {
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
        Stamp::read(event.get(start..start + STAMP_BYTES)?)
    }
}

/// Text that holds one payload, to be stamped again and again.
pub(crate) struct Template {
    text: Vec<u8>,
    stamp_at: usize,
}

impl Template {
    /// Puts a payload object of `payload_bytes` bytes between `before` and `after`. An error when
    /// the stamp alone needs more than that.
    pub(crate) fn new(before: &str, payload_bytes: usize, after: &str) -> Result<Self> {
        Self::with_members(before, payload_bytes, "", after)
    }

    /// The same with `members` added to the object, which come on top of its size.
    pub(crate) fn with_members(
        before: &str,
        payload_bytes: usize,
        members: &str,
        after: &str,
    ) -> Result<Self> {
        let padding = payload_bytes.checked_sub(PAYLOAD_BYTES_MIN);
        let padding = padding.with_context(|| format!("less than {PAYLOAD_BYTES_MIN} bytes"))?;
        let padding = "x".repeat(padding);
        let stamp = format!("{:0SEQUENCE_DIGITS$}:{:0TIME_DIGITS$}", 0, 0);
        let head = format!("{before}{{{MARK}");
        let text = format!("{head}{stamp}{MIDDLE}{padding}{TAIL}{members}}}{after}");
        Ok(Self { text: text.into_bytes(), stamp_at: head.len() })
    }

    /// The text with this stamp in it.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.text[self.stamp_at..self.stamp_at + STAMP_BYTES]);
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
        let mut template = Template::new(r#"42["load","#, 128, "]").unwrap();
        let text = template.stamped(stamp).to_vec();
        assert_eq!(Reader::new().find(&text), Some(stamp));
        let again = Stamp { sequence: 9_999_999_999, due_ns: 7 };
        assert_eq!(Reader::new().find(template.stamped(again)), Some(again));
    }

    #[test]
    fn the_payload_has_the_asked_for_size_and_is_json() {
        for bytes in [48, 49, 4_096] {
            let mut template = Template::new("", bytes, "").unwrap();
            let text = template.stamped(Stamp { sequence: 5, due_ns: 6 });
            assert_eq!(text.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(text).unwrap();
        }
        assert!(Template::new("", 47, "").is_err());
    }

    #[test]
    fn other_events_and_cut_stamps_are_not_taken_for_one() {
        let reader = Reader::new();
        assert_eq!(reader.find(br#"42["presence:join",{"member":{}}]"#), None);
        assert_eq!(reader.find(br#"42["load",{"lt":"0000000001:00000"#), None);
        assert_eq!(reader.find(br#"{"lt":"00000000x1:0000000000000000001"}"#), None);
        assert_eq!(reader.find(br#"{"lt":"0000000001-0000000000000000001"}"#), None);
        assert_eq!(reader.find(br#"{"lt":"0000000001:9999999999999999999"}"#).unwrap().sequence, 1);
    }
}
