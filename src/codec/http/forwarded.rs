//! The headers in which proxies name the client of a request: `X-Forwarded-For`, and `Forwarded`
//! (RFC 7239). Each proxy appends the address that it has the request from.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

use thiserror::Error;

use super::head::Request;

/// An address that a proxy has a request from; `None` if it is hidden, unknown or malformed.
pub type Hop = Option<IpAddr>;

/// A header cannot be read for certain, perhaps because a client has sent a part of it that makes
/// the rest mean something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{0} is malformed")]
pub struct Malformed(&'static str);

/// Returns the addresses in `X-Forwarded-For`, that of the last proxy's peer at the end; `None`
/// without the header.
///
/// # Errors
/// If a value is not UTF-8.
pub fn x_forwarded_for(request: &Request) -> Result<Option<Vec<Hop>>, Malformed> {
    let values = values(request, "x-forwarded-for", Malformed("X-Forwarded-For"))?;
    let hops = |values: Vec<&str>| {
        let parts = values.into_iter().flat_map(|value| value.split(',')).map(str::trim_ascii);
        parts.filter(|part| !part.is_empty()).map(node).collect()
    };
    Ok(values.map(hops))
}

/// Returns the addresses in `Forwarded`, that of the last proxy's peer at the end; `None` without
/// the header. An element without an address is a hop, too.
///
/// # Errors
/// If a value is not UTF-8, or breaks the grammar.
pub fn forwarded(request: &Request) -> Result<Option<Vec<Hop>>, Malformed> {
    let malformed = Malformed("Forwarded");
    let Some(values) = values(request, "forwarded", malformed)? else { return Ok(None) };
    let mut hops = Vec::new();
    for mut rest in values {
        while !rest.is_empty() {
            hops.extend(element(&mut rest).ok_or(malformed)?);
        }
    }
    Ok(Some(hops))
}

/// Returns the values of a header; `None` without it.
fn values<'r>(
    request: &'r Request,
    name: &str,
    malformed: Malformed,
) -> Result<Option<Vec<&'r str>>, Malformed> {
    if request.has_unreadable(name) {
        return Err(malformed);
    }
    let values: Vec<_> = request.header_values(name).collect();
    Ok((!values.is_empty()).then_some(values))
}

/// Takes an element of a list, and the comma behind it. Returns its hop, or `Some(None)` if it is
/// empty. `None` if it breaks the grammar.
fn element(rest: &mut &str) -> Option<Option<Hop>> {
    let (mut is_empty, mut hop) = (true, None);
    loop {
        *rest = rest.trim_ascii_start();
        let starts_pair = rest.starts_with(is_token_char);
        if starts_pair {
            let (name, value) = pair(rest)?;
            is_empty = false;
            // A second one must not be there, and only one of the two could be right.
            if name.eq_ignore_ascii_case("for") && hop.replace(node(&value)).is_some() {
                return None;
            }
            *rest = rest.trim_ascii_start();
        }
        match rest.chars().next() {
            None | Some(',') => break,
            Some(';') => *rest = &rest[1..],
            Some(_) => return None,
        }
    }
    *rest = rest.get(1..).unwrap_or_default();
    Some((!is_empty).then_some(hop.flatten()))
}

/// Takes a name and its value, without the quotes of a quoted string.
fn pair<'r>(rest: &mut &'r str) -> Option<(&'r str, Cow<'r, str>)> {
    let (name, after) = rest.split_at(rest.find(|c| !is_token_char(c))?);
    let value = after.strip_prefix('=')?;
    if let Some(quoted) = value.strip_prefix('"') {
        let (text, after) = unquoted(quoted)?;
        *rest = after;
        return Some((name, Cow::Owned(text)));
    }
    // Addresses of IPv6 must be quoted, and some proxies do not quote them.
    let is_plain = |c: char| is_token_char(c) || matches!(c, ':' | '[' | ']');
    let end = value.find(|c| !is_plain(c)).unwrap_or(value.len());
    let (value, after) = value.split_at(end);
    *rest = after;
    (!value.is_empty()).then_some((name, Cow::Borrowed(value)))
}

/// Returns the text of a quoted string whose first quote is taken, and what is behind it; `None` if
/// it does not end.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((text, chars.as_str())),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// Returns whether a character may be part of a name or an unquoted value (RFC 9110, section
/// 5.6.2).
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Returns the address of a hop, without its port.
fn node(text: &str) -> Hop {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let is_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_end).map(IpAddr::V6);
    }
    let (address, port) = text.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

/// Returns whether this is a port, by number or hidden behind a name.
fn is_port(text: &str) -> bool {
    let is_hidden = text.strip_prefix('_').is_some_and(|name| name.chars().all(is_token_char));
    is_hidden || text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::http::parse_head;

    fn request(headers: &[u8]) -> Request {
        let head = [b"GET / HTTP/1.1\r\nHost: x\r\n", headers, b"\r\n"].concat();
        parse_head(&head).unwrap().expect("the head is complete").0
    }

    fn shown(hops: Result<Option<Vec<Hop>>, Malformed>) -> String {
        let Ok(hops) = hops else { return "malformed".to_owned() };
        let Some(hops) = hops else { return "absent".to_owned() };
        let texts = hops.iter().map(|hop| hop.map_or("-".to_owned(), |hop| hop.to_string()));
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        let cases = [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 ,198.51.100.2", "192.0.2.1 198.51.100.2"),
            ("192.0.2.1:80, 192.0.2.2:65535", "192.0.2.1 192.0.2.2"),
            ("2001:db8::1, [2001:db8::2], [2001:db8::3]:80", "2001:db8::1 2001:db8::2 2001:db8::3"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
            ("unknown, _hidden, a.example, 192.0.2.1:x, 192.0.2.1:99999", "- - - - -"),
            ("[2001:db8::1, [::1]x, [192.0.2.1], 1.2.3, 010.0.0.1", "- - - - -"),
            (",, 192.0.2.1,", "192.0.2.1"),
            ("", ""),
            ("192.0.2.1\r\nX-Forwarded-For: 192.0.2.2", "192.0.2.1 192.0.2.2"),
        ];
        for (value, expected) in cases {
            let request = request(format!("X-Forwarded-For: {value}\r\n").as_bytes());
            assert_eq!(shown(x_forwarded_for(&request)), expected, "{value}");
        }
        assert_eq!(shown(x_forwarded_for(&request(b""))), "absent");
        let unreadable = request(b"X-Forwarded-For: \xff, 192.0.2.1\r\n");
        assert_eq!(shown(x_forwarded_for(&unreadable)), "malformed");
    }

    #[test]
    fn elements_of_forwarded_are_read() {
        let cases = [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:80\"; proto=https ;by=_x", "192.0.2.1"),
            ("for=\"[2001:db8::1]\", FOR=\"[2001:db8::2]:4711\"", "2001:db8::1 2001:db8::2"),
            ("for=[2001:db8::1]:80", "2001:db8::1"),
            ("for=\"\\192.0.2.1\"", "192.0.2.1"),
            ("for=unknown, for=_hidden, for=\"_a:_b\", proto=http", "- - - -"),
            ("host=\"a, for=192.0.2.9\";for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1;, ;for=192.0.2.2 , ,", "192.0.2.1 192.0.2.2"),
            ("for=192.0.2.1\r\nForwarded: for=192.0.2.2", "192.0.2.1 192.0.2.2"),
            ("", ""),
            ("for", "malformed"),
            ("for=", "malformed"),
            ("for =192.0.2.1", "malformed"),
            ("for=\"192.0.2.1", "malformed"),
            ("for=\"192.0.2.1\"x", "malformed"),
            ("for=192.0.2.1 for=192.0.2.2", "malformed"),
            ("for=192.0.2.1;for=192.0.2.2", "malformed"),
            ("=192.0.2.1", "malformed"),
        ];
        for (value, expected) in cases {
            let request = request(format!("Forwarded: {value}\r\n").as_bytes());
            assert_eq!(shown(forwarded(&request)), expected, "{value}");
        }
        assert_eq!(shown(forwarded(&request(b"X: for=192.0.2.1\r\n"))), "absent");
        let unreadable = request(b"Forwarded: for=192.0.2.1;x=\"\xff\"\r\n");
        assert_eq!(shown(forwarded(&unreadable)), "malformed");
    }

    proptest! {
        #[test]
        fn no_beginning_changes_what_a_proxy_appends(
            start in "[ -~]{0,24}",
            pairs in "(for=|\"|\\\\|;|,| |\\[|\\]|:|x=|192\\.0\\.2\\.1){0,12}",
        ) {
            for start in [start, pairs] {
                let appended = [
                    ("X-Forwarded-For", "198.51.100.9"),
                    ("Forwarded", "for=198.51.100.9"),
                    ("Forwarded", "for=\"198.51.100.9:80\";proto=\"https\""),
                ];
                for (name, last) in appended {
                    let request = request(format!("{name}: {start}, {last}\r\n").as_bytes());
                    let hops = if name == "Forwarded" {
                        forwarded(&request)
                    } else {
                        x_forwarded_for(&request)
                    };
                    let Ok(hops) = hops else { continue };
                    let hops = hops.expect("the header is there");
                    prop_assert_eq!(hops.last(), Some(&"198.51.100.9".parse().ok()));
                }
            }
        }
    }
}
