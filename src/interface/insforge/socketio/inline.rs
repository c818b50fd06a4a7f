//! Attachments as part of an event's JSON.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::interface::insforge::violation::Violation;

/// Why attachments cannot become part of an event's JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InlineError {
    /// A placeholder names no attachment.
    Placeholder(Violation),
    /// The JSON would be too long.
    TooLarge,
}

const NO_ATTACHMENT: InlineError =
    InlineError::Placeholder(Violation("placeholder without attachment"));

/// The object that stands for an attachment. Other members of it are ignored.
#[derive(Deserialize)]
struct Placeholder {
    #[serde(rename = "_placeholder")]
    is_placeholder: bool,
    num: serde_json::Value,
}

/// Returns `json`, which is valid, with each placeholder replaced by its attachment. The rest is
/// copied as it is, however deep, so that numbers, the order of keys and repeated keys stay.
///
/// # Errors
/// If a placeholder names no attachment, or the result would have more than `bytes_max` bytes:
/// several placeholders may name the same attachment, and a byte takes up to four characters.
pub(super) fn inline(
    json: &str,
    attachments: &[Vec<u8>],
    bytes_max: usize,
) -> Result<String, InlineError> {
    let mut out = String::new();
    let mut copied = 0;
    for (start, end) in flat_objects(json) {
        let Ok(Placeholder { is_placeholder: true, num }) = serde_json::from_str(&json[start..end])
        else {
            continue;
        };
        let number = num.as_u64().and_then(|number| usize::try_from(number).ok());
        let attachment = number.and_then(|number| attachments.get(number)).ok_or(NO_ATTACHMENT)?;
        out.push_str(&json[copied..start]);
        push_buffer(&mut out, attachment, bytes_max)?;
        copied = end;
    }
    out.push_str(&json[copied..]);
    match out.len() > bytes_max {
        true => Err(InlineError::TooLarge),
        false => Ok(out),
    }
}

/// Appends an attachment in the JSON form of a Node.js buffer.
fn push_buffer(out: &mut String, bytes: &[u8], bytes_max: usize) -> Result<(), InlineError> {
    out.push_str(r#"{"type":"Buffer","data":["#);
    for (at, byte) in bytes.iter().enumerate() {
        if out.len() > bytes_max {
            return Err(InlineError::TooLarge);
        }
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{byte}");
    }
    out.push_str("]}");
    Ok(())
}

/// Returns where the objects of a valid JSON text that hold no other objects or arrays begin and
/// end. Takes neither stack nor memory for the depth of the text.
fn flat_objects(json: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut bytes = json.bytes().enumerate();
    let mut start = None;
    std::iter::from_fn(move || {
        let (mut in_string, mut is_escaped) = (false, false);
        for (at, byte) in bytes.by_ref() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_string => is_escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' => start = Some(at),
                b'[' | b']' => start = None,
                b'}' => {
                    if let Some(start) = start.take() {
                        return Some((start, at + 1));
                    }
                }
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ENOUGH: usize = 10_000;

    fn two() -> Vec<Vec<u8>> {
        vec![vec![1], vec![2, 255]]
    }

    #[test]
    fn only_placeholders_change() {
        let first = r#"{"type":"Buffer","data":[1]}"#;
        let second = r#"{"type":"Buffer","data":[2,255]}"#;
        for (json, expected) in [
            (r#"["e",{"_placeholder":true,"num":0}]"#, format!(r#"["e",{first}]"#)),
            (
                r#"[ { "num" : 1, "_placeholder" : true } , {"_placeholder":true,"num":0} ]"#,
                format!("[ {second} , {first} ]"),
            ),
            (
                r#"{"z":1e400,"a":{"b":[{"_placeholder":true,"num":1}]},"z":12345678901234567890123}"#,
                format!(r#"{{"z":1e400,"a":{{"b":[{second}]}},"z":12345678901234567890123}}"#),
            ),
        ] {
            assert_eq!(inline(json, &two(), ENOUGH), Ok(expected), "{json}");
        }
        for same in [
            r#"["e",{"_placeholder":false,"num":0}]"#,
            r#"["e",{"_placeholder":"true","num":0}]"#,
            r#"["e","{\"_placeholder\":true,\"num\":0}","\\",{},[]]"#,
            r#"["e","\\\"{",{"a":"}"}]"#,
        ] {
            assert_eq!(inline(same, &two(), ENOUGH), Ok(same.to_owned()));
        }
    }

    #[test]
    fn a_placeholder_must_name_an_attachment() {
        for num in ["2", "-1", "1.5", "null", "\"0\"", "99999999999999999999"] {
            let json = format!(r#"[{{"_placeholder":true,"num":{num}}}]"#);
            assert_eq!(inline(&json, &two(), ENOUGH), Err(NO_ATTACHMENT), "{num}");
        }
    }

    #[test]
    fn the_result_is_bounded_however_often_an_attachment_is_named() {
        let many = vec![r#"{"_placeholder":true,"num":0}"#; 1_000].join(",");
        let json = format!("[{many}]");
        assert_eq!(inline(&json, &[vec![9; 100_000]], 200_000), Err(InlineError::TooLarge));
        let exact = r#"{"type":"Buffer","data":[1]}"#.len();
        let one = r#"{"_placeholder":true,"num":0}"#;
        assert!(inline(one, &two(), exact).is_ok());
        assert_eq!(inline(one, &two(), exact - 1), Err(InlineError::TooLarge));
    }

    #[test]
    fn depth_costs_nothing() {
        let depth = 300_000;
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let json = format!(r#"{open}{{"_placeholder":true,"num":0}}{close}"#);
        let expected = format!(r#"{open}{{"type":"Buffer","data":[1]}}{close}"#);
        assert!(inline(&json, &two(), 2 * depth + 100) == Ok(expected));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!({ "_placeholder": true, "num": 0 })),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn replaced(value: &Value) -> Value {
        match value {
            Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
                json!({ "type": "Buffer", "data": [7, 8] })
            }
            Value::Object(object) => {
                object.iter().map(|(key, value)| (key.clone(), replaced(value))).collect()
            }
            Value::Array(array) => array.iter().map(replaced).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn the_text_says_what_the_values_say(value in any_json()) {
            let text = inline(&value.to_string(), &[vec![7, 8]], usize::MAX).unwrap();
            let got: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(got, replaced(&value));
        }
    }
}
