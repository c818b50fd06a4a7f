//! Reads the keys of a query string. Issues are worded as in `fields`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::codec::http::{NotUtf8, query_pairs};
use crate::interface::rest::dates;
use crate::interface::rest::fields::{self, Read};
use crate::message::Millis;

/// The decoded keys and values of a query string.
pub(super) struct Query<'q> {
    pairs: Vec<Pair<'q>>,
}

/// A decoded key and its value.
type Pair<'q> = (Cow<'q, str>, Result<Cow<'q, str>, NotUtf8>);

/// The value of a key.
enum Value<'q> {
    One(&'q str),
    /// A value that is not UTF-8.
    NotUtf8,
    /// A repeated key. InsForge reads it as a list, and no key accepts a list.
    List,
}

impl<'q> Query<'q> {
    pub(super) fn new(query: Option<&'q str>) -> Self {
        Self { pairs: query_pairs(query.unwrap_or_default()).collect() }
    }

    /// Checks that there are no other keys than these: one that is passed over looks like a filter
    /// that found everything.
    pub(super) fn only(&self, known: &[&str]) -> Read<()> {
        let is_other = |name: &&Cow<'_, str>| !name.is_empty() && !known.contains(&name.as_ref());
        let mut others: Vec<_> = self.pairs.iter().map(|(name, _)| name).filter(is_other).collect();
        if others.is_empty() {
            return Ok(());
        }
        others.sort_unstable();
        others.dedup();
        let others: Vec<_> = others.iter().map(|name| format!("'{name}'")).collect();
        Err(format!("Unrecognized key(s) in query: {}", others.join(", ")))
    }

    fn value(&self, key: &str) -> Option<Value<'_>> {
        let mut values = self.pairs.iter().filter(|(name, _)| name == key);
        let (_, value) = values.next()?;
        Some(match value {
            _ if values.next().is_some() => Value::List,
            Ok(value) => Value::One(value),
            Err(NotUtf8) => Value::NotUtf8,
        })
    }

    /// Reads a text. Returns `None` if the key is absent or the text is empty.
    pub(super) fn text(&self, key: &str) -> Read<Option<&str>> {
        Ok(self.any_text(key)?.filter(|text| !text.is_empty()))
    }

    fn any_text(&self, key: &str) -> Read<Option<&str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::One(text)) => Ok(Some(text)),
            Some(Value::List) => Err(format!("{key}: Expected string, received array")),
            Some(Value::NotUtf8) => Err(format!("{key}: {NotUtf8}")),
        }
    }

    /// Reads an id, which must have the hyphenated form. Returns `None` if the key is absent.
    pub(super) fn id(&self, key: &str) -> Read<Option<Uuid>> {
        let Some(text) = self.any_text(key)? else { return Ok(None) };
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED_BYTES);
        id.map(Some).ok_or_else(|| format!("{key}: Invalid uuid"))
    }

    /// Reads a whole number within `bounds`. Returns `default` if the key is absent.
    pub(super) fn integer(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Read<u64> {
        let number = match self.value(key) {
            None => return Ok(default),
            Some(Value::One(text)) => number(text),
            Some(Value::List | Value::NotUtf8) => None,
        };
        fields::whole(key, number, bounds)
    }

    /// Reads a date, in milliseconds since the epoch. Returns `None` if the key is absent.
    pub(super) fn date(&self, key: &str) -> Read<Option<Millis>> {
        let date = match self.value(key) {
            None => return Ok(None),
            Some(Value::One(text)) => dates::millis(text),
            Some(Value::List | Value::NotUtf8) => None,
        };
        date.map(Some).ok_or_else(|| format!("{key}: Invalid date"))
    }
}

const HYPHENATED_BYTES: usize = 36;

/// Parses a decimal number, which may have a sign, a fraction and an exponent. An empty text is 0,
/// as in InsForge.
fn number(text: &str) -> Option<f64> {
    // Rust's parser also accepts words such as `inf` and `nan`.
    let has_words = text.contains(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
    match text {
        "" => Some(0.0),
        _ if has_words => None,
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Read<u64> {
        Query::new(Some(&format!("limit={text}"))).integer("limit", 1..=1_000, 100)
    }

    #[test]
    fn numbers_are_read_in_decimal() {
        let table = [
            ("5", 5),
            ("1000", 1_000),
            ("1", 1),
            ("%2B5", 5),
            ("5.0", 5),
            ("5.", 5),
            ("1e2", 100),
            (".5e1", 5),
            ("007", 7),
        ];
        for (text, expected) in table {
            assert_eq!(limit(text), Ok(expected), "{text}");
        }
        assert_eq!(Query::new(None).integer("limit", 1..=1_000, 100), Ok(100));
    }

    #[test]
    fn numbers_that_will_not_do_are_refused_with_the_range() {
        let texts = [
            "0",
            "",
            "-5",
            "1001",
            "1e300",
            "1.5",
            "0.5",
            "1e400",
            "-1e400",
            "abc",
            "inf",
            "Infinity",
            "NaN",
            "1_0",
            "0x10",
            "%205%09",
            "1%202",
            "5&limit=5",
        ];
        for text in texts {
            let expected = "limit: expected a whole number from 1 to 1000";
            assert_eq!(limit(text), Err(expected.to_owned()), "{text}");
        }
        let offset = Query::new(Some("offset=-1")).integer("offset", 0..=u64::MAX, 0);
        assert_eq!(offset, Err("offset: expected a whole number from 0".to_owned()));
    }

    #[test]
    fn ids_and_texts_are_read() {
        const ID: &str = "550E8400-e29b-41d4-a716-446655440000";
        let id = |query: &str| Query::new(Some(query)).id("id");
        assert_eq!(id(&format!("a&id={ID}")), Ok(Some(Uuid::try_parse(ID).unwrap())));
        assert_eq!(id("a=1"), Ok(None));
        let invalid = Err("id: Invalid uuid".to_owned());
        for text in
            ["", "x", "550e8400e29b41d4a716446655440000", "{550e8400-e29b-41d4-a716-446655440000}"]
        {
            assert_eq!(id(&format!("id={text}")), invalid, "{text}");
        }
        assert_eq!(id("id=1&id=2"), Err("id: Expected string, received array".to_owned()));
        assert_eq!(id("id=%ff"), Err("id: it is not UTF-8".to_owned()));
        let query = Query::new(Some("a=%C3%BC+b&none=&c&d=1=2"));
        assert_eq!(query.text("a"), Ok(Some("ü b")));
        assert_eq!(query.text("none"), Ok(None));
        assert_eq!(query.text("c"), Ok(None));
        assert_eq!(query.text("d"), Ok(Some("1=2")));
    }

    #[test]
    fn dates_are_read() {
        let date = |query: &str| Query::new(Some(query)).date("since");
        assert_eq!(date("since=2024-01-01T00:00:00Z"), Ok(Some(1_704_067_200_000)));
        assert_eq!(date("since=2024-01-01T02:00:00+02:00"), Ok(Some(1_704_067_200_000)));
        assert_eq!(date("since=2024-01-01T02:00:00%2B02:00"), Ok(Some(1_704_067_200_000)));
        assert_eq!(date(""), Ok(None));
        for text in ["", "x", "1704067200000", "2024-01-01&since=2024-01-01"] {
            let invalid = Err("since: Invalid date".to_owned());
            assert_eq!(date(&format!("since={text}")), invalid, "{text}");
        }
    }
}
