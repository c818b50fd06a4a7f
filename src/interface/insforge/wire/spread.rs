//! Writes the entries of a payload as JavaScript spreads them.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::json::push_json;

/// Appends the payload's entries as `{...payload}` has them in JavaScript, without a `meta` key:
/// an object's keys, an array's items, a string's UTF-16 units. Other values have no entries.
pub(super) fn push_spread(out: &mut String, payload: &str) {
    match payload.as_bytes().first() {
        Some(b'{') => push_object(out, payload),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(payload).unwrap_or_default();
            for (place, item) in items.iter().enumerate() {
                let _ = write!(out, r#"{}"{place}":{item}"#, comma(place));
            }
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(payload).unwrap_or_default();
            for (place, unit) in text.encode_utf16().enumerate() {
                let _ = write!(out, r#"{}"{place}":"#, comma(place));
                match char::from_u32(u32::from(unit)) {
                    Some(c) => push_json(out, c.encode_utf8(&mut [0; 4])),
                    None => {
                        let _ = write!(out, r#""\u{unit:04x}""#);
                    }
                }
            }
        }
        _ => {}
    }
}

fn comma(place: usize) -> &'static str {
    if place == 0 { "" } else { "," }
}

fn push_object(out: &mut String, payload: &str) {
    let entries = match serde_json::from_str::<Entries<'_>>(payload) {
        Ok(Entries(entries)) if entries.iter().any(|(key, _)| key == "meta") => entries,
        // In the common case, the text between the braces is copied at once. The same happens if a
        // key cannot be parsed, because it holds half of a surrogate pair. If such an object has a
        // `meta` key too, ours comes later and therefore counts in JavaScript.
        _ => return out.push_str(payload[1..payload.len() - 1].trim()),
    };
    let kept = entries.iter().filter(|(key, _)| key != "meta");
    for (place, (key, value)) in kept.enumerate() {
        out.push_str(comma(place));
        push_json(out, key);
        let _ = write!(out, ":{value}");
    }
}

/// The entries of an object, in their order and with duplicates.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    entries.push((key.0, value));
                }
                Ok(Entries(entries))
            }
        }
        json.deserialize_map(Visitor)
    }
}
