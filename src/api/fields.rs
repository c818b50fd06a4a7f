//! Reading the fields of a JSON body, with the words that the original's validator (zod 3) uses.
//!
//! A reader returns the value or its issues as text, `<path>: <message>`; several are joined by
//! `, `. [`refuse`] joins those of all fields, so that a caller learns every fault at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ApiError;

/// A field's value, or what is wrong with it.
pub(super) type Read<T> = Result<T, String>;

/// The fields of a JSON object by the given names, each as it was written, `None` where absent.
/// Other fields are ignored; of a repeated one the last counts. An empty body is an empty object.
pub(super) fn object<'a, const N: usize>(
    body: &'a [u8],
    names: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], ApiError> {
    if body.is_empty() {
        return Ok([None; N]);
    }
    let invalid = |fault: &dyn fmt::Display| ApiError::invalid_json(fault.to_string());
    let body = std::str::from_utf8(body).map_err(|fault| invalid(&fault))?;
    let first = body.trim_ascii_start().as_bytes().first();
    if first != Some(&b'{') {
        let other: &RawValue = serde_json::from_str(body).map_err(|fault| invalid(&fault))?;
        return Err(ApiError::invalid_input(expected("object", other)));
    }
    let mut json = serde_json::Deserializer::from_str(body);
    let fields = json.deserialize_map(Fields { names });
    fields.and_then(|fields| json.end().map(|()| fields)).map_err(|fault| invalid(&fault))
}

/// The value of a field that must be there.
pub(super) fn required<'a>(path: &str, field: Option<&'a RawValue>) -> Read<&'a RawValue> {
    field.ok_or_else(|| format!("{path}: Required"))
}

/// A string of at most `bytes_max` bytes.
pub(super) fn text<'a>(path: &str, value: &'a RawValue, bytes_max: usize) -> Read<Cow<'a, str>> {
    let quoted = value.get();
    let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(format!("{path}: {}", expected("string", value)));
    };
    let text = if inner.contains('\\') {
        // Escapes were only looked at for form so far; half of a surrogate pair fails here.
        let text = serde_json::from_str(quoted);
        Cow::Owned(text.map_err(|_| format!("{path}: String must be valid Unicode"))?)
    } else {
        Cow::Borrowed(inner)
    };
    if text.len() > bytes_max {
        return Err(format!("{path}: String must contain at most {bytes_max} byte(s)"));
    }
    Ok(text)
}

/// As [`text`], and not empty.
pub(super) fn nonempty<'a>(
    path: &str,
    value: &'a RawValue,
    bytes_max: usize,
) -> Read<Cow<'a, str>> {
    let text = text(path, value, bytes_max)?;
    if text.is_empty() {
        return Err(format!("{path}: String must contain at least 1 character(s)"));
    }
    Ok(text)
}

/// `true` or `false`.
pub(super) fn flag(path: &str, value: &RawValue) -> Read<bool> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{path}: {}", expected("boolean", value))),
    }
}

/// A whole number within bounds.
pub(super) fn integer(path: &str, value: &RawValue, bounds: RangeInclusive<u32>) -> Read<u32> {
    let text = value.get();
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(format!("{path}: {}", expected("number", value)));
    }
    let number: f64 = text.parse().unwrap_or(f64::INFINITY);
    let (least, most) = (*bounds.start(), *bounds.end());
    if number.fract() != 0.0 {
        return Err(format!("{path}: Expected integer, received float"));
    }
    if number < f64::from(least) {
        return Err(format!("{path}: Number must be greater than or equal to {least}"));
    }
    if number > f64::from(most) {
        return Err(format!("{path}: Number must be less than or equal to {most}"));
    }
    // A whole number within bounds that are.
    Ok(number as u32)
}

/// One of some names: its place among them.
pub(super) fn choice(path: &str, value: &RawValue, names: &[&str]) -> Read<usize> {
    let given = text(path, value, usize::MAX)?;
    names.iter().position(|name| *name == given).ok_or_else(|| {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        format!("{path}: Invalid enum value. Expected {}", quoted.join(" | "))
    })
}

/// An array of at most `items_max` values. A longer one is one issue, whatever it holds.
pub(super) fn list<'a>(
    path: &str,
    value: &'a RawValue,
    items_max: usize,
) -> Read<Vec<&'a RawValue>> {
    // The array was found sound when the body was read, so this fails only for what is none.
    let items: Vec<&RawValue> = serde_json::from_str(value.get())
        .map_err(|_| format!("{path}: {}", expected("array", value)))?;
    if items.len() > items_max {
        return Err(format!("{path}: Array must contain at most {items_max} element(s)"));
    }
    Ok(items)
}

/// As [`list`], and not empty.
pub(super) fn nonempty_list<'a>(
    path: &str,
    value: &'a RawValue,
    items_max: usize,
) -> Read<Vec<&'a RawValue>> {
    let items = list(path, value, items_max)?;
    if items.is_empty() {
        return Err(format!("{path}: Array must contain at least 1 element(s)"));
    }
    Ok(items)
}

/// The fields of an object by the given names, `None` where absent; of a repeated one the last
/// counts. Others are issues: where leaving something out grants more, a misspelt name must not
/// count as left out.
pub(super) fn strict_object<'a, const N: usize>(
    path: &str,
    value: &'a RawValue,
    names: &[&str; N],
) -> Read<[Option<&'a RawValue>; N]> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}: ") };
    if !value.get().starts_with('{') {
        return Err(format!("{prefix}{}", expected("object", value)));
    }
    // Its form was looked at before; keys that are no Unicode fail here.
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get())
        .map_err(|_| format!("{prefix}Keys must be valid Unicode"))?;
    let is_known = |key: &String| names.contains(&key.as_str());
    let unknown: Vec<String> =
        members.keys().filter(|key| !is_known(key)).map(|key| format!("'{key}'")).collect();
    if !unknown.is_empty() {
        return Err(format!("{prefix}Unrecognized key(s) in object: {}", unknown.join(", ")));
    }
    Ok(names.map(|name| members.get(name).copied()))
}

/// The value of a whole body, which must be there.
pub(super) fn body(bytes: &[u8]) -> Result<&RawValue, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid_input("Required"));
    }
    serde_json::from_slice(bytes).map_err(|fault| ApiError::invalid_json(fault.to_string()))
}

/// Whether the value is `null`.
pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The refusal that names all issues, in the order given.
pub(super) fn refuse<const N: usize>(issues: [Option<String>; N]) -> ApiError {
    let issues: Vec<String> = issues.into_iter().flatten().collect();
    ApiError::invalid_input(issues.join(", "))
}

fn expected(wanted: &str, received: &RawValue) -> String {
    let received = match received.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    };
    format!("Expected {wanted}, received {received}")
}

struct Fields<'n, const N: usize> {
    names: &'n [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = [None; N];
        while let Some(known) = map.next_key_seed(Name { names: self.names })? {
            match known {
                Some(at) => fields[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// Reads a key as its place among the names, without keeping it.
struct Name<'n, const N: usize> {
    names: &'n [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Name<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    fn get(body: &str) -> [Option<&str>; 2] {
        object(body.as_bytes(), &["a", "b"]).unwrap().map(|field| field.map(RawValue::get))
    }

    #[test]
    fn fields_are_found_as_they_were_written() {
        assert_eq!(get(""), [None, None]);
        assert_eq!(get(" {} "), [None, None]);
        assert_eq!(get(r#"{"b": [1, 2.50] ,"c":{"a":1}}"#), [None, Some("[1, 2.50]")]);
        assert_eq!(get(r#"{"\u0061":null,"b":"\u0061"}"#), [Some("null"), Some(r#""\u0061""#)]);
        assert_eq!(get(r#"{"a":1,"a":2}"#), [Some("2"), None]);
    }

    #[test]
    fn what_is_no_object_is_named() {
        let table = [
            ("[]", "Expected object, received array"),
            ("null", "Expected object, received null"),
            (" \"x\"", "Expected object, received string"),
            ("-1", "Expected object, received number"),
            ("true", "Expected object, received boolean"),
        ];
        for (body, message) in table {
            let refusal = object(body.as_bytes(), &["a"]).unwrap_err();
            assert_eq!((refusal.status(), refusal.to_string().as_str()), (400, message));
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_advice() {
        let bodies: [&[u8]; 9] = [
            b" ",
            b"{",
            b"{\"a\":}",
            b"{\"a\":1}}",
            b"{\"a\":1,}",
            b"[1",
            b"tru",
            b"{\"x\":\"\xff\"}",
            b"{\"a\":\"\n\"}",
        ];
        for body in bodies {
            let refusal = object(body, &["a"]).unwrap_err();
            let reply = super::super::Reply::from(refusal);
            assert_eq!(reply.status, 400);
            assert!(reply.body.contains("contains valid JSON"), "{body:?}: {}", reply.body);
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
        assert_eq!(get(&deep)[0].map(str::len), Some(800_000));
    }

    #[test]
    fn texts_are_read() {
        assert!(matches!(text("x", raw(r#""plain""#), 9), Ok(Cow::Borrowed("plain"))));
        assert_eq!(text("x", raw(r#""q\"\u00fc\ud83d\ude00""#), 9).unwrap(), "q\"ü😀");
        assert_eq!(text("x", raw(r#""""#), 0).unwrap(), "");
        let issue = |json, max| text("x", raw(json), max).unwrap_err();
        assert_eq!(issue(r#""\ud83d""#, 9), "x: String must be valid Unicode");
        assert_eq!(issue(r#""üü""#, 3), "x: String must contain at most 3 byte(s)");
        assert_eq!(issue("{}", 3), "x: Expected string, received object");
        let empty = nonempty("x", raw(r#""""#), 9).unwrap_err();
        assert_eq!(empty, "x: String must contain at least 1 character(s)");
    }

    #[test]
    fn lists_and_flags_are_read() {
        let items = list("x", raw(r#"[ 1 , "a" ]"#), 2).unwrap();
        assert_eq!(items.iter().map(|item| item.get()).collect::<Vec<_>>(), ["1", "\"a\""]);
        let long = list("x", raw("[1,2,3]"), 2).unwrap_err();
        assert_eq!(long, "x: Array must contain at most 2 element(s)");
        let none = list("x", raw("{}"), 2).unwrap_err();
        assert_eq!(none, "x: Expected array, received object");
        assert_eq!(flag("x", raw("true")), Ok(true));
        assert_eq!(flag("x", raw("false")), Ok(false));
        let none = flag("x", raw("0")).unwrap_err();
        assert_eq!(none, "x: Expected boolean, received number");
    }

    #[test]
    fn a_strict_object_has_no_other_fields() {
        let read = |json| strict_object("x", raw(json), &["a", "b"]);
        let found = read(r#"{"b":1,"\u0061":2,"b":3}"#).unwrap();
        assert_eq!(found.map(|field| field.map(RawValue::get)), [Some("2"), Some("3")]);
        let issue = |json| read(json).unwrap_err();
        assert_eq!(issue(r#"{"c":1,"a":2,"d":3}"#), "x: Unrecognized key(s) in object: 'c', 'd'");
        assert_eq!(issue("[]"), "x: Expected object, received array");
        assert_eq!(issue(r#"{"\ud800":1}"#), "x: Keys must be valid Unicode");
        let bare = strict_object("", raw("null"), &["a"]).unwrap_err();
        assert_eq!(bare, "Expected object, received null");
        let none = nonempty_list("x", raw("[]"), 2).unwrap_err();
        assert_eq!(none, "x: Array must contain at least 1 element(s)");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let map = prop::collection::hash_map("[abc\"]{0,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = std::str::from_utf8(&body).unwrap_or("invalid");
            let sound = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
            prop_assert_eq!(object(&body, &["a"]).is_ok(), sound || body.is_empty());
        }

        #[test]
        fn near_json_is_read_if_it_is_json(
            body in r#"\{("[ab\\]{0,2}"[:, ]?|[\[\]{}1.,: -]){0,9}\}"#,
        ) {
            let sound = serde_json::from_str::<&RawValue>(&body).is_ok();
            prop_assert_eq!(object(body.as_bytes(), &["a"]).is_ok(), sound);
        }

        #[test]
        fn any_json_gives_the_fields_that_a_full_parse_gives(value in json()) {
            let body = serde_json::to_string_pretty(&value).unwrap();
            let Value::Object(map) = value else {
                prop_assert!(object(body.as_bytes(), &["a"]).is_err());
                return Ok(());
            };
            for (name, found) in ["a", "b"].into_iter().zip(get(&body)) {
                let found: Option<Value> = found.map(|raw| serde_json::from_str(raw).unwrap());
                prop_assert_eq!(found.as_ref(), map.get(name));
            }
        }
    }
}
