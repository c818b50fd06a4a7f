//! Canonical JSON (RFC 8785): one text for each value, whoever wrote it.

use serde_json::{Map, Number, Value};

/// The canonical text of a value.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// Appends the canonical text of a string, which is the one that serde writes.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

/// Its depth is bounded by the parser that made the value.
fn push(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => push_number(out, number),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => push_array(out, items),
        Value::Object(members) => push_object(out, members),
    }
}

/// All numbers are doubles, so that `1` and `1.0` are one, and written as JavaScript writes them.
fn push_number(out: &mut String, number: &Number) {
    let double = number.as_f64().expect("the parser takes no number that is not a finite double");
    out.push_str(ryu_js::Buffer::new().format_finite(double));
}

fn push_array(out: &mut String, items: &[Value]) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

fn push_object(out: &mut String, members: &Map<String, Value>) {
    let mut members: Vec<_> = members.iter().collect();
    // As JavaScript compares strings, which differs from UTF-8 beyond the basic plane.
    members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    out.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push(out, value);
    }
    out.push('}');
}
