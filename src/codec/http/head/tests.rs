//! Tests of example heads, and property tests of incomplete and arbitrary ones.

use super::*;
use proptest::prelude::*;

fn parse(head: &str) -> Result<Option<(Request, usize)>, HttpError> {
    parse_head(head.as_bytes())
}

fn request_of(head: &str) -> Request {
    parse(head).unwrap_or_else(|error| panic!("{head:?}: {error}")).expect("it is complete").0
}

/// Returns the head of a GET request with these header lines after its Host.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_request() {
    let head = "POST /a/b%20c?d=e+f&g HTTP/1.1\r\nHost: example.com:7130\r\nX-One: 1\r\n\
                Authorization:  Bearer x \r\nx-one:\t2\r\nContent-Length: 12\r\n\r\n";
    let (request, length) = parse(&format!("{head}body")).unwrap().unwrap();
    assert_eq!(length, head.len());
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.path, "/a/b%20c");
    assert_eq!(request.query.as_deref(), Some("d=e+f&g"));
    assert_eq!(request.query_value("d"), Ok(Some("e f".into())));
    assert_eq!(request.query_value("x"), Ok(None));
    assert_eq!(request.minor_version, 1);
    assert_eq!(request.body, BodyKind::Sized(12));
    assert_eq!(request.header("authorization"), Some("Bearer x"));
    assert_eq!(request.header("x-one"), Some("1"));
    assert_eq!(request.header_values("x-one").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(request.header("x-two"), None);
    assert!(request.keep_alive && !request.upgrade && !request.expects_continue);
    assert!(!format!("{request:?}").contains("Bearer"));
}

#[test]
fn methods() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("get", Method::Other),
        ("BREW", Method::Other),
    ] {
        let request = request_of(&format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(request.method, method, "{name}");
    }
}

#[test]
fn keeping_alive() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let request = request_of(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(request.keep_alive, keep_alive, "{version} {lines}");
    }
}

#[test]
fn upgrades() {
    let lines = |connection, upgrade| {
        format!("Host: a\r\nConnection: {connection}\r\nUpgrade: {upgrade}\r\n\r\n")
    };
    for (version, lines, upgrade) in [
        ("1.1", lines("Upgrade", "websocket"), true),
        ("1.1", lines("keep-alive, upgrade", "h2c, WebSocket"), true),
        ("1.1", lines("keep-alive", "websocket"), false),
        ("1.1", lines("upgrade", "h2c"), false),
        ("1.0", lines("upgrade", "websocket"), false),
    ] {
        let request = request_of(&format!("GET / HTTP/{version}\r\n{lines}"));
        assert_eq!(request.upgrade, upgrade, "{version} {lines}");
    }
}

#[test]
fn bodies_and_expectations() {
    for (version, lines, body, expects_continue) in [
        ("1.1", "", BodyKind::None, false),
        ("1.1", "Content-Length: 0\r\n", BodyKind::Sized(0), false),
        ("1.1", "Transfer-Encoding: Chunked\r\n", BodyKind::Chunked, false),
        ("1.1", "Content-Length: 5\r\nExpect: 100-Continue\r\n", BodyKind::Sized(5), true),
        ("1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", BodyKind::Sized(5), false),
        ("1.1", "Expect: 100-continue\r\n", BodyKind::None, false),
    ] {
        let request = request_of(&format!("PUT / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(request.body, body, "{lines}");
        assert_eq!(request.expects_continue, expects_continue, "{lines}");
    }
}

#[test]
fn refusals() {
    let long = "x".repeat(HTTP_HEAD_BYTES_MAX);
    for (head, status) in [
        (get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (get("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 400),
        (get("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (get("Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
        (get("Content-Length: 1, 1\r\n"), 400),
        (get("Content-Length: +1\r\n"), 400),
        (get("Content-Length: -1\r\n"), 400),
        (get("Content-Length: 0x1\r\n"), 400),
        (get("Content-Length: 1 2\r\n"), 400),
        (get("Content-Length:\r\n"), 400),
        (get("Content-Length: 99999999999999999999\r\n"), 413),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (get("Transfer-Encoding: chunked, chunked\r\n"), 501),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 501),
        (get("Transfer-Encoding: identity\r\n"), 501),
        (get("Transfer-Encoding:\r\n"), 501),
        (get("Transfer-Encoding: \u{b}chunked\r\n"), 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
        (get("X: a\r\n b\r\n"), 400),
        (get(" X: a\r\n"), 400),
        (get("X : a\r\n"), 400),
        (get("X\r\n"), 400),
        (get(": a\r\n"), 400),
        (get("X: a\0b\r\n"), 400),
        (get("X: a\u{1}b\r\n"), 400),
        (get("X: a\u{7f}b\r\n"), 400),
        (get("X: a\rb\r\n"), 400),
        (get("X: a\nY: b\r\n"), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        (get("Host: a\r\n"), 400),
        (get("Host: b\r\n"), 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("\u{16}\u{3}\u{1}".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".into(), 505),
        (get("Expect: a-miracle\r\n"), 417),
        (get(&"X: a\r\n".repeat(HTTP_HEADERS_MAX)), 431),
        (get(&format!("X: {long}\r\n")), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
    ] {
        let error = parse(&head).expect_err(&head);
        assert_eq!(error.status(), status, "{head:?}");
    }
}

#[test]
fn bounds_are_reached_exactly() {
    assert!(parse(&get(&"X: a\r\n".repeat(HTTP_HEADERS_MAX - 1))).unwrap().is_some());
    let rest = HTTP_HEAD_BYTES_MAX - get("X: \r\n").len();
    let longest = get(&format!("X: {}\r\n", "x".repeat(rest)));
    assert_eq!(longest.len(), HTTP_HEAD_BYTES_MAX);
    assert!(parse(&longest).unwrap().is_some());
    assert!(parse(&longest[..longest.len() - 1]).unwrap().is_none());
    let beyond = get(&format!("X: {}\r\n", "x".repeat(rest + 1)));
    assert_eq!(parse(&beyond).unwrap_err(), HttpError::HeadTooLong);
}

#[test]
fn values_that_are_no_utf_8_count_as_not_sent() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\nY: \xc3\xa9\r\n\r\n";
    let (request, _) = parse_head(head).unwrap().unwrap();
    assert_eq!(request.header("x"), None);
    assert_eq!(request.header("y"), Some("é"));
    assert_eq!(request.only_header("x"), Err(Unclear::NotUtf8), "where it matters it is told");
    assert_eq!(request.only_header("y"), Ok(Some("é")));
}

#[test]
fn methods_are_named_as_they_were_sent() {
    let longest = "M".repeat(HTTP_METHOD_SHOWN_MAX);
    let cut = format!("{longest}…");
    let longer = format!("{longest}M");
    for (sent, shown) in [
        ("PATCH", "PATCH"),
        ("get", "get"),
        ("M-SEARCH", "M-SEARCH"),
        (&longest, &*longest),
        (&longer, &*cut),
    ] {
        let request = request_of(&format!("{sent} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(request.method_name(), shown);
    }
}

#[test]
fn an_empty_line_before_a_request_is_forgiven() {
    assert_eq!(request_of("\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n").path, "/a");
}

fn any_line() -> impl Strategy<Value = String> {
    let usual = prop::sample::select(vec![
        "Host: a",
        "Content-Length: 3",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Connection: close, upgrade",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "Expect: x",
        " fold",
        "X : y",
        "",
        "\n",
        "X: \u{1}",
    ]);
    prop_oneof![3 => usual.prop_map(str::to_owned), 2 => "[A-Za-z-]{1,9}: ?[ -~é]{0,30}"]
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.1",
        "GET /a HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "GET http://a/b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET / HTTP/3.0",
        "\r\nGET / HTTP/1.1",
    ]);
    (first, prop::collection::vec(any_line(), 0..8)).prop_map(|(first, lines)| {
        let lines = lines.into_iter().map(|line| format!("{line}\r\n")).collect::<String>();
        format!("{first}\r\nHost: a\r\n{lines}\r\nbody").into_bytes()
    })
}

/// Checks that each prefix of `bytes` is incomplete or gives the same result as all of them.
fn check_prefixes(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = parse_head(bytes);
    for end in 0..bytes.len() {
        let early = parse_head(&bytes[..end]);
        prop_assert!(early == Ok(None) || early == whole, "at {}: {:?}", end, early);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_split_of_a_head_gives_the_same(head in any_head()) {
        check_prefixes(&head)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        head in any_head(),
        at in any::<prop::sample::Index>(),
    ) {
        check_prefixes(&bytes)?;
        let mut spoiled = head;
        let at = at.index(spoiled.len());
        spoiled.splice(at..at, bytes.into_iter().take(3));
        check_prefixes(&spoiled)?;
    }

    #[test]
    fn headers_come_back(
        values in prop::collection::vec("([!-~é]([ -~é]*[!-~é])?)?", 0..9),
        name in "[A-Z!#$%&'*+.^_`|~-]{1,9}",
    ) {
        let numbered = values.iter().enumerate();
        let lines: String =
            numbered.map(|(at, value)| format!("X{at}{name}: {value}\r\n")).collect();
        let head = get(&lines);
        let (request, length) = parse(&head).unwrap().unwrap();
        prop_assert_eq!(length, head.len());
        for (at, value) in values.iter().enumerate() {
            let name = format!("x{at}{}", name.to_ascii_lowercase());
            prop_assert_eq!(request.header(&name), Some(value.as_str()));
        }
    }
}
