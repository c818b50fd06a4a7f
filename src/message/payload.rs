//! Payloads that are not allowed in a publish.

use crate::limits::SPREAD_BYTES_MAX;

/// Returns what is wrong with a payload (JSON text), or `None`. The same rules hold for publishes
/// over HTTP and over sockets.
///
/// A payload that is itself a string or an array reaches SDK subscribers with an entry for each
/// character or item, up to thirteen times its size. Half of a surrogate pair is a character in
/// JavaScript, but not in Unicode.
pub fn payload_problem(payload: &str) -> Option<&'static str> {
    match payload.as_bytes().first() {
        Some(b'"' | b'[') if payload.len() > SPREAD_BYTES_MAX => Some(TOO_LONG),
        Some(b'"') if serde_json::from_str::<String>(payload).is_err() => Some(NOT_UNICODE),
        _ => None,
    }
}

const TOO_LONG: &str = "String or array must be at most 65536 bytes long, or part of an object";
const NOT_UNICODE: &str = "String must be Unicode text, without halves of surrogate pairs";
const _: () = assert!(SPREAD_BYTES_MAX == 65_536, "the message above names the bound");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_arrays_have_a_bound_of_their_own() {
        let long = "x".repeat(SPREAD_BYTES_MAX);
        for (payload, problem) in [
            (format!("\"{long}\""), Some(TOO_LONG)),
            (format!("[\"{long}\"]"), Some(TOO_LONG)),
            (format!("{{\"text\":\"{long}\"}}"), None),
            (format!("\"{}\"", &long[2..]), None),
            (r#""\ud800""#.to_owned(), Some(NOT_UNICODE)),
            (r#""\ud83d\ude00""#.to_owned(), None),
            ("5".to_owned(), None),
        ] {
            assert_eq!(payload_problem(&payload), problem, "{}", &payload[..payload.len().min(20)]);
        }
    }
}
