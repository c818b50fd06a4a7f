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
pub(super) fn query_value<'a>(query: &'a str, name: &str) -> Option<Decoded<'a>> {
    query_pairs(query).find_map(|(key, value)| (key == name).then_some(value))
}

/// The bytes of a query's value or of a path segment, with its percent-encoding undone, are not
/// UTF-8. Replacing them by U+FFFD would make a text of them that the client has not asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is not UTF-8")]
pub struct NotUtf8;

/// A text whose percent-encoding was undone.
type Decoded<'a> = Result<Cow<'a, str>, NotUtf8>;

/// Returns the decoded names and values of a query. `+` stands for a space, and a name without `=`
/// has an empty value. A name that is not UTF-8 stays encoded, because it is no name that the node
/// knows.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Decoded<'_>)> {
    query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true).unwrap_or(Cow::Borrowed(key)), decode(value, true))
    })
}

/// Undoes the percent-encoding of one path segment. Invalid escapes stay as they are.
///
/// # Errors
/// [`NotUtf8`] if the decoded bytes are not UTF-8.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, NotUtf8> {
    decode(segment, false)
}

fn decode(text: &str, plus_is_space: bool) -> Decoded<'_> {
    match decode_bytes(text, plus_is_space) {
        None => Ok(Cow::Borrowed(text)),
        Some(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| NotUtf8),
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
            ("é%21", "é!", "é!"),
        ] {
            assert_eq!(decode(encoded, true).as_deref(), Ok(as_value), "{encoded}");
            assert_eq!(decode_segment(encoded).as_deref(), Ok(as_segment), "{encoded}");
        }
        assert!(matches!(decode_segment("plain"), Ok(Cow::Borrowed(_))));
        for encoded in ["%ff", "a%C3", "%ed%a0%80"] {
            assert_eq!(decode(encoded, true), Err(NotUtf8), "{encoded}");
            assert_eq!(decode_segment(encoded), Err(NotUtf8), "{encoded}");
        }
        let pairs: Vec<_> = query_pairs("%ff=1&a=%ff").collect();
        assert_eq!(pairs, [("%ff".into(), Ok("1".into())), ("a".into(), Err(NotUtf8))]);
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
            let found = query_value(query, name).transpose().unwrap();
            assert_eq!(found.as_deref(), value, "{name}");
        }
    }
}
