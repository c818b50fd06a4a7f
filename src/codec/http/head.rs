//! Request heads (RFC 9112 sections 2 to 6).

use std::borrow::Cow;
use std::fmt;

use httparse::Status;

use super::method::Method;
use super::{HttpError, target};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

const _: () = assert!(HTTP_HEAD_BYTES_MAX <= u16::MAX as usize, "places in a head are 16 bits");

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyKind {
    /// There is none.
    None,
    /// So many bytes.
    Sized(u64),
    /// In chunks.
    Chunked,
}

/// A request without its body.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target's path as it was sent, still percent-encoded; `*` for a server-wide OPTIONS.
    pub path: String,
    /// What followed the first `?`, still percent-encoded.
    pub query: Option<String>,
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub minor_version: u8,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// The body that follows.
    pub body: BodyKind,
    /// The client waits for [`continue_100`](super::continue_100) before it sends the body.
    pub expects_continue: bool,
    /// The client wants the connection to become a WebSocket.
    pub upgrade: bool,
    headers: Headers,
}

impl Request {
    /// The value of the first header called `name` (in lower case), without the space around it.
    /// A value that is no UTF-8 counts as not sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// The value of the header called `name` (in lower case), of which there must be no doubt.
    ///
    /// # Errors
    /// [`Unclear`], where there is.
    pub fn only_header(&self, name: &str) -> Result<Option<&str>, Unclear> {
        if self.headers.unreadable.iter().any(|unreadable| **unreadable == *name) {
            return Err(Unclear::NotUtf8);
        }
        let mut values = self.header_values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Unclear::Repeated),
        }
    }

    /// The values of all headers called `name` (in lower case), in the order that they came in.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(header, _)| *header == name).map(|(_, value)| value)
    }

    /// The decoded value of the first pair called `name` in the query, where `+` is a space.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        target::query_value(self.query.as_deref()?, name)
    }
}

/// A header does not say one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unclear {
    /// It comes more often than it may.
    #[error("Expected once")]
    Repeated,
    /// Its value is no UTF-8.
    #[error("Expected UTF-8")]
    NotUtf8,
}

/// Names neither query nor headers, which carry tokens.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// Parses the head at the beginning of `buffer` and answers how many bytes it takes; `None` while
/// it is incomplete.
///
/// # Errors
///
/// On the first breach that the bytes so far show, whether or not more would come.
pub fn parse_head(buffer: &[u8]) -> Result<Option<(Request, usize)>, HttpError> {
    let window = &buffer[..buffer.len().min(HTTP_HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(window).map_err(refusal)? {
        Status::Complete(length) => length,
        Status::Partial if window.len() < HTTP_HEAD_BYTES_MAX => return Ok(None),
        Status::Partial if head.version.is_none() => return Err(HttpError::TargetTooLong),
        Status::Partial => return Err(HttpError::HeadTooLong),
    };
    check_line_ends(&window[..length])?;
    Ok(Some((request(&head)?, length)))
}

fn refusal(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::HeadTooLong,
        httparse::Error::Version => HttpError::Version,
        httparse::Error::HeaderName => HttpError::Malformed("a header's name is invalid"),
        httparse::Error::HeaderValue => HttpError::Malformed("a header's value is invalid"),
        httparse::Error::NewLine => HttpError::Malformed("a line's end is invalid"),
        _ => HttpError::Malformed("the request line is invalid"),
    }
}

/// The parser also takes a line feed alone as a line's end; not everything in front of us does.
fn check_line_ends(head: &[u8]) -> Result<(), HttpError> {
    let mut before = 0;
    for &byte in head {
        if byte == b'\n' && before != b'\r' {
            return Err(HttpError::Malformed("a line ends without a carriage return"));
        }
        before = byte;
    }
    Ok(())
}

fn request(head: &httparse::Request<'_, '_>) -> Result<Request, HttpError> {
    let (Some(method), Some(target), Some(minor_version)) = (head.method, head.path, head.version)
    else {
        return Err(HttpError::Malformed("the request line is invalid"));
    };
    let method = Method::named(method);
    let (path, query) = target::parse(target, method)?;
    let framing = Framing::read(head.headers)?;
    let is_1_1 = minor_version == 1;
    let body = framing.body(is_1_1)?;
    if is_1_1 && framing.hosts != 1 {
        return Err(HttpError::Malformed("there must be exactly one Host"));
    }
    Ok(Request {
        method,
        path: path.to_owned(),
        query: query.map(str::to_owned),
        minor_version,
        keep_alive: !framing.close && (is_1_1 || framing.keep_alive),
        body,
        // Nobody waits for leave to send nothing, and HTTP/1.0 does not know the answer.
        expects_continue: framing.expects_continue
            && is_1_1
            && !matches!(body, BodyKind::None | BodyKind::Sized(0)),
        upgrade: is_1_1 && framing.connection_upgrade && framing.websocket,
        headers: Headers::copy(head.headers),
    })
}

/// What the headers say about the message and the connection.
#[derive(Default)]
struct Framing {
    hosts: usize,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    websocket: bool,
    expects_continue: bool,
}

impl Framing {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut framing = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value.trim_ascii());
            if name.eq_ignore_ascii_case("connection") {
                framing.connection(value);
            } else if name.eq_ignore_ascii_case("upgrade") {
                framing.websocket |= tokens(value).any(|it| it.eq_ignore_ascii_case(b"websocket"));
            } else if name.eq_ignore_ascii_case("host") {
                framing.host(value)?;
            } else if name.eq_ignore_ascii_case("content-length") {
                framing.content_length(value)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing.transfer_encoding(value)?;
            } else if name.eq_ignore_ascii_case("expect") {
                framing.expect(value)?;
            }
        }
        Ok(framing)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in tokens(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HttpError> {
        self.hosts += 1;
        let is_authority = value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(byte));
        if self.hosts > 1 || !is_authority {
            return Err(HttpError::Malformed("the Host is invalid or sent twice"));
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        // Twice the same would be harmless, but nothing that sends it deserves trust.
        if self.content_length.is_some()
            || value.is_empty()
            || !value.iter().all(u8::is_ascii_digit)
        {
            return Err(HttpError::Malformed("the Content-Length is invalid or sent twice"));
        }
        let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        // Digits alone fail to parse only where there are too many of them.
        self.content_length = Some(length.ok_or(HttpError::BodyTooLong)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HttpError::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HttpError::Expectation);
        }
        self.expects_continue = true;
        Ok(())
    }

    fn body(&self, is_1_1: bool) -> Result<BodyKind, HttpError> {
        match (self.content_length, self.chunked) {
            (Some(_), true) => {
                Err(HttpError::Malformed("both Content-Length and Transfer-Encoding"))
            }
            (None, true) if !is_1_1 => Err(HttpError::Malformed("HTTP/1.0 knows no chunks")),
            (None, true) => Ok(BodyKind::Chunked),
            (Some(length), false) => Ok(BodyKind::Sized(length)),
            (None, false) => Ok(BodyKind::None),
        }
    }
}

/// The members of a comma-separated list.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// All headers in one text, so that a head costs two allocations however many there are.
#[derive(Clone, PartialEq, Eq)]
struct Headers {
    text: Box<str>,
    places: Box<[Place]>,
    /// The names of headers, in lower case, whose values are no UTF-8.
    unreadable: Box<[Box<str>]>,
}

/// Where a header's name, in lower case, ends in the text, and where its value behind it does.
/// Each begins where the one before ended.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    name_end: u16,
    value_end: u16,
}

impl Headers {
    fn copy(headers: &[httparse::Header<'_>]) -> Self {
        let bytes = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let mut text = String::with_capacity(bytes);
        let mut places = Vec::with_capacity(headers.len());
        let mut unreadable = Vec::new();
        for header in headers {
            let Ok(value) = str::from_utf8(header.value.trim_ascii()) else {
                unreadable.push(header.name.to_ascii_lowercase().into());
                continue;
            };
            let name_start = text.len();
            text.push_str(header.name);
            text[name_start..].make_ascii_lowercase();
            let name_end = place(text.len());
            text.push_str(value);
            places.push(Place { name_end, value_end: place(text.len()) });
        }
        let (text, places) = (text.into_boxed_str(), places.into_boxed_slice());
        Self { text, places, unreadable: unreadable.into_boxed_slice() }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.places.iter().map(move |place| {
            let (name_end, end) = (usize::from(place.name_end), usize::from(place.value_end));
            let header = (&self.text[start..name_end], &self.text[name_end..end]);
            start = end;
            header
        })
    }
}

fn place(at: usize) -> u16 {
    u16::try_from(at).expect("a head is bounded far below 64 KiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(head: &str) -> Result<Option<(Request, usize)>, HttpError> {
        parse_head(head.as_bytes())
    }

    fn request_of(head: &str) -> Request {
        parse(head).unwrap_or_else(|error| panic!("{head:?}: {error}")).expect("it is complete").0
    }

    /// A GET with these header lines behind its Host.
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
        assert_eq!(request.query_value("d").as_deref(), Some("e f"));
        assert_eq!(request.query_value("x"), None);
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

    /// Whatever is said about a beginning must hold when more comes.
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
}
