//! Reads fields of JSON bodies. Issues are worded like those of InsForge's validator, zod 3, except
//! those of numbers, which name the range.
//!
//! A reader returns the value, or issues as a text of the form `<path>: <message>`; several are
//! joined by `, `. [`refuse`] joins the issues of all fields, so that the caller learns of every
//! fault at once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::message::{GIVEN_ID_BYTES, MessageId, given_id};

/// A field's value, or its issues.
pub(in crate::interface) type Read<T> = Result<T, String>;

/// The fields of an object as raw JSON, in the order of the requested names; `None` if absent.
type Fields<'a, const N: usize> = [Option<&'a RawValue>; N];

/// Reads the named fields of a body, which must be an object. Other fields are ignored. If a field
/// is repeated, its last value counts. An empty body counts as an empty object.
pub(in crate::interface) fn object<'a, const N: usize>(
    body: &'a [u8],
    names: &[&str; N],
) -> Result<Fields<'a, N>, ApiError> {
    if body.is_empty() {
        return Ok([None; N]);
    }
    let body = std::str::from_utf8(body).map_err(invalid)?;
    if body.trim_ascii_start().starts_with('{') {
        return members(body, names, |_| {}).map_err(invalid);
    }
    let other: &RawValue = serde_json::from_str(body).map_err(invalid)?;
    Err(ApiError::invalid_input(mismatch("", "object", kind(other))))
}

/// Reads the named fields of a body, which must be an object, as [`strict_object`] does. Fields
/// that are `read_only` are passed over, because an answer has them and may be sent back. An empty
/// body counts as an empty object.
pub(in crate::interface) fn settings<'a, const N: usize>(
    body: &'a [u8],
    names: &[&str; N],
    read_only: &[&str],
) -> Result<Fields<'a, N>, ApiError> {
    if body.is_empty() {
        return Ok([None; N]);
    }
    let value = serde_json::from_slice(body).map_err(invalid)?;
    known("", value, names, read_only).map_err(ApiError::invalid_input)
}

/// Reads the named fields of a body as [`strict_object`] does. An empty body is an error.
pub(in crate::interface) fn strict_body<'a, const N: usize>(
    body: &'a [u8],
    names: &[&str; N],
) -> Result<Fields<'a, N>, ApiError> {
    if body.is_empty() {
        return Err(ApiError::invalid_input("Required"));
    }
    let value = serde_json::from_slice(body).map_err(invalid)?;
    strict_object("", value, names).map_err(ApiError::invalid_input)
}

/// Reads the named fields of an object. Unknown fields are an issue, because an absent field may
/// grant more than a present one, and a misspelt name must not count as absent. If a field is
/// repeated, its last value counts.
pub(in crate::interface) fn strict_object<'a, const N: usize>(
    path: &str,
    value: &'a RawValue,
    names: &[&str; N],
) -> Read<Fields<'a, N>> {
    known(path, value, names, &[])
}

fn known<'a, const N: usize>(
    path: &str,
    value: &'a RawValue,
    names: &[&str; N],
    passed_over: &[&str],
) -> Read<Fields<'a, N>> {
    if !value.get().starts_with('{') {
        return Err(mismatch(path, "object", kind(value)));
    }
    let mut unknown = BTreeSet::new();
    let fields = members(value.get(), names, |name| {
        if !passed_over.contains(&&*name) {
            unknown.insert(name);
        }
    });
    // The syntax was checked before; keys that are not valid Unicode fail here.
    let fields = fields.map_err(|_| issue(path, "Keys must be valid Unicode"))?;
    if unknown.is_empty() {
        return Ok(fields);
    }
    let unknown: Vec<String> = unknown.into_iter().map(|name| format!("'{name}'")).collect();
    Err(issue(path, &format!("Unrecognized key(s) in object: {}", unknown.join(", "))))
}

/// Returns the value of a required field.
pub(in crate::interface) fn required<'a>(
    path: &str,
    field: Option<&'a RawValue>,
) -> Read<&'a RawValue> {
    field.ok_or_else(|| missing(path))
}

/// Returns the issue of a required field that is absent.
pub(in crate::interface) fn missing(path: &str) -> String {
    issue(path, "Required")
}

/// Returns the issue of a value of the wrong kind.
pub(in crate::interface) fn mismatch(path: &str, wanted: &str, received: &str) -> String {
    issue(path, &format!("Expected {wanted}, received {received}"))
}

/// Reads a string of at most `bytes_max` bytes.
pub(in crate::interface) fn text<'a>(
    path: &str,
    value: &'a RawValue,
    bytes_max: usize,
) -> Read<Cow<'a, str>> {
    let quoted = value.get();
    let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(mismatch(path, "string", kind(value)));
    };
    let text = if inner.contains('\\') {
        // Only the syntax of escapes was checked before; half of a surrogate pair fails here.
        let text = serde_json::from_str(quoted);
        Cow::Owned(text.map_err(|_| issue(path, "String must be valid Unicode"))?)
    } else {
        Cow::Borrowed(inner)
    };
    if text.len() > bytes_max {
        return Err(issue(path, &format!("String must contain at most {bytes_max} byte(s)")));
    }
    Ok(text)
}

/// Reads a string as [`text`] does. An empty string is an issue.
pub(in crate::interface) fn nonempty<'a>(
    path: &str,
    value: &'a RawValue,
    bytes_max: usize,
) -> Read<Cow<'a, str>> {
    let text = text(path, value, bytes_max)?;
    if text.is_empty() {
        return Err(issue(path, "String must contain at least 1 character(s)"));
    }
    Ok(text)
}

/// Reads the id of a publication, which may be absent or `null`.
pub(in crate::interface) fn id(path: &str, field: Option<&RawValue>) -> Read<Option<MessageId>> {
    let Some(value) = field.filter(|value| !is_null(value)) else { return Ok(None) };
    let id = given_id(&text(path, value, GIVEN_ID_BYTES)?);
    id.map(Some).ok_or_else(|| issue(path, "Expected a UUID that is not nil"))
}

/// Reads `true` or `false`.
pub(in crate::interface) fn flag(path: &str, value: &RawValue) -> Read<bool> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(mismatch(path, "boolean", kind(value))),
    }
}

/// Reads an integer within bounds.
pub(in crate::interface) fn integer(
    path: &str,
    value: &RawValue,
    bounds: RangeInclusive<u32>,
) -> Read<u32> {
    let number = if kind(value) == "number" { value.get().parse().ok() } else { None };
    let (least, most) = bounds.into_inner();
    let number = whole(path, number, least.into()..=most.into())?;
    Ok(number.try_into().expect("the bounds fit into 32 bits"))
}

/// Returns an integer within bounds; `number` is `None` for a value that is not a number. An upper
/// bound of `u64::MAX` is no bound: a larger number becomes `u64::MAX`.
pub(in crate::interface) fn whole(
    path: &str,
    number: Option<f64>,
    bounds: RangeInclusive<u64>,
) -> Read<u64> {
    let (least, most) = bounds.into_inner();
    let is_bounded = most < u64::MAX;
    // The fraction of infinity is NaN, so infinity is refused.
    let number = number.filter(|number| {
        number.fract() == 0.0 && *number >= least as f64 && (!is_bounded || *number <= most as f64)
    });
    number.map(|number| number as u64).ok_or_else(|| {
        let range =
            if is_bounded { format!("from {least} to {most}") } else { format!("from {least}") };
        issue(path, &format!("expected a whole number {range}"))
    })
}

/// Reads a string that must be one of `names`, and returns its position among them.
pub(in crate::interface) fn choice(path: &str, value: &RawValue, names: &[&str]) -> Read<usize> {
    let given = text(path, value, usize::MAX)?;
    names.iter().position(|name| *name == given).ok_or_else(|| {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        issue(path, &format!("Invalid enum value. Expected {}", quoted.join(" | ")))
    })
}

/// Reads an array of at most `items_max` values. A longer array is one issue, and its values are
/// not checked.
pub(in crate::interface) fn list<'a>(
    path: &str,
    value: &'a RawValue,
    items_max: usize,
) -> Read<Vec<&'a RawValue>> {
    // The body's syntax was checked before, so this fails only if the value is not an array.
    let items: Vec<&RawValue> =
        serde_json::from_str(value.get()).map_err(|_| mismatch(path, "array", kind(value)))?;
    if items.len() > items_max {
        return Err(issue(path, &format!("Array must contain at most {items_max} element(s)")));
    }
    Ok(items)
}

/// Reads an array as [`list`] does. An empty array is an issue.
pub(in crate::interface) fn nonempty_list<'a>(
    path: &str,
    value: &'a RawValue,
    items_max: usize,
) -> Read<Vec<&'a RawValue>> {
    let items = list(path, value, items_max)?;
    if items.is_empty() {
        return Err(issue(path, "Array must contain at least 1 element(s)"));
    }
    Ok(items)
}

/// Returns whether the value is `null`.
pub(in crate::interface) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Returns the error that lists all issues in the given order.
pub(in crate::interface) fn refuse<const N: usize>(issues: [Option<String>; N]) -> ApiError {
    let issues: Vec<String> = issues.into_iter().flatten().collect();
    ApiError::invalid_input(issues.join(", "))
}

/// Returns an issue of the value at `path`, which is empty for the whole body.
fn issue(path: &str, problem: &str) -> String {
    if path.is_empty() { problem.to_owned() } else { format!("{path}: {problem}") }
}

fn invalid(fault: impl fmt::Display) -> ApiError {
    ApiError::invalid_json(fault.to_string())
}

/// Returns the JSON type of a value.
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// Reads the named members of an object, and calls `other` with each other name.
fn members<'a, const N: usize>(
    json: &'a str,
    names: &[&str; N],
    other: impl FnMut(Cow<'a, str>),
) -> serde_json::Result<Fields<'a, N>> {
    let mut json = serde_json::Deserializer::from_str(json);
    let fields = json.deserialize_map(Members { names, other })?;
    json.end().map(|()| fields)
}

struct Members<'n, const N: usize, F> {
    names: &'n [&'n str; N],
    other: F,
}

/// An object's key. It is copied only if it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, const N: usize, F: FnMut(Cow<'de, str>)> Visitor<'de> for Members<'_, N, F> {
    type Value = Fields<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = [None; N];
        while let Some(Key(key)) = map.next_key()? {
            if let Some(at) = self.names.iter().position(|name| *name == key) {
                fields[at] = Some(map.next_value()?);
            } else {
                (self.other)(key);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
