//! Request targets (RFC 9112 section 3.2) and percent-encoding.

use std::borrow::Cow;

use super::HttpError;
use super::method::Method;

const SCHEMES: [&str; 4] = ["http://", "https://", "ws://", "wss://"];

/// Returns path and query of a target in origin form, absolute form or, for OPTIONS only, asterisk
/// form.
pub(super) fn parse(target: &str, method: Method) -> Result<(&str, Option<&str>), HttpError> {
    if target.contains('#') {
        return Err(HttpError::Malformed("the target has a fragment"));
    }
    if target == "*" && method == Method::Options {
        return Ok((target, None));
    }
    let target = if target.starts_with('/') { target } else { behind_authority(target)? };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// Returns path and query of a target in absolute form; they may be empty.
fn behind_authority(target: &str) -> Result<&str, HttpError> {
    let refusal = HttpError::Malformed("the target is neither a path nor an HTTP address");
    let after_scheme = SCHEMES.iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let after_scheme = after_scheme.ok_or(refusal)?;
    match after_scheme.find(['/', '?']).unwrap_or(after_scheme.len()) {
        0 => Err(refusal),
        end => Ok(&after_scheme[end..]),
    }
}

/// Returns the decoded value of the first pair called `name` in a query.
pub(super) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query_pairs(query).find_map(|(key, value)| (key == name).then_some(value))
}

/// Returns the decoded names and values of a query. `+` stands for a space, and a name without `=`
/// has an empty value.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true), decode(value, true))
    })
}

/// Undoes the percent-encoding of one path segment. Invalid escapes stay as they are, and bytes
/// that are not UTF-8 become the replacement character U+FFFD.
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    decode(segment, false)
}

/// Undoes the percent-encoding of one path segment like [`decode_segment`], but returns `None` if
/// the decoded bytes are not UTF-8.
pub fn decode_segment_exactly(segment: &str) -> Option<Cow<'_, str>> {
    match decode_bytes(segment, false) {
        None => Some(Cow::Borrowed(segment)),
        Some(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    match decode_bytes(text, plus_is_space).map(String::from_utf8) {
        None => Cow::Borrowed(text),
        Some(Ok(text)) => Cow::Owned(text),
        Some(Err(error)) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Decodes escapes and, on request, `+`; returns `None` if the text contains neither.
fn decode_bytes(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let is_plain = |byte: u8| byte != b'%' && !(plus_is_space && byte == b'+');
    if text.bytes().all(is_plain) {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        let (byte, behind) = match (byte, behind) {
            (b'+', _) if plus_is_space => (b' ', behind),
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', &rest[1..]),
            },
            (byte, behind) => (*byte, behind),
        };
        decoded.push(byte);
        rest = behind;
    }
    Some(decoded)
}

/// Returns the value of a hexadecimal digit in either case, or `None` for any other byte.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_targets() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a/b?c=d", "/a/b", Some("c=d")),
            ("/a??", "/a", Some("?")),
            ("/a?", "/a", Some("")),
            ("//host/a", "//host/a", None),
            ("http://host/a?b", "/a", Some("b")),
            ("HTTPS://host:1?b", "/", Some("b")),
            ("ws://host", "/", None),
        ] {
            assert_eq!(parse(target, Method::Get), Ok((path, query)), "{target}");
        }
        assert_eq!(parse("*", Method::Options), Ok(("*", None)));
    }

    #[test]
    fn targets_that_are_refused() {
        for target in ["*", "", "a", "host:1", "http:///a", "http://", "ftp://host/a", "/a#b", "é"]
        {
            let refused = matches!(parse(target, Method::Get), Err(HttpError::Malformed(_)));
            assert!(refused, "{target}");
        }
    }

    #[test]
    fn decoding() {
        for (encoded, as_value, as_segment) in [
            ("plain", "plain", "plain"),
            ("a+b", "a b", "a+b"),
            ("a%20b%2B", "a b+", "a b+"),
            ("%C3%A9%c3%a9", "éé", "éé"),
            ("100%", "100%", "100%"),
            ("%4", "%4", "%4"),
            ("%zz%41", "%zzA", "%zzA"),
            ("%+1", "% 1", "%+1"),
            ("%ff", "\u{fffd}", "\u{fffd}"),
            ("é%21", "é!", "é!"),
        ] {
            assert_eq!(decode(encoded, true), as_value, "{encoded}");
            assert_eq!(decode_segment(encoded), as_segment, "{encoded}");
        }
        assert!(matches!(decode_segment("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn values_of_a_query() {
        let query = "a=1&b&c=&a=2&d+e=x%26y&=z";
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("")),
            ("c", Some("")),
            ("d e", Some("x&y")),
            ("", Some("z")),
            ("e", None),
        ] {
            assert_eq!(query_value(query, name).as_deref(), value, "{name}");
        }
    }
}
