//! Responses and how they are written (RFC 9112 section 4).

use std::borrow::Cow;

use smallvec::SmallVec;

use super::date::Date;
use crate::codec::json::{DIGITS_MAX, digits};

/// The body of a response: owned bytes, or bytes in the program's image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Body(Cow<'static, [u8]>);

impl Body {
    /// Returns the memory of a body that has some and whose memory is at most `bytes_max` bytes, to
    /// be used again.
    pub fn into_buffer(self, bytes_max: usize) -> Option<Vec<u8>> {
        match self.0 {
            Cow::Owned(bytes) if (1..=bytes_max).contains(&bytes.capacity()) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the body's bytes, without any transfer coding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

/// Headers of a response. Most responses have so few that they need no memory of their own.
pub type ResponseHeaders = SmallVec<[(&'static str, Cow<'static, str>); 3]>;

/// A response to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code: 101, or 200 to 599.
    pub status: u16,
    /// Headers in the order of sending, without those that [`Response::write`] sets. Without a
    /// `Cache-Control` among them, no cache may store the response.
    pub headers: ResponseHeaders,
    /// The body, which [`Response::write`] leaves out for 101, 204, 304 and HEAD requests.
    pub body: Body,
}

impl Response {
    /// Creates a response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: ResponseHeaders::new(), body: Body::default() }
    }

    /// Creates a response with a JSON body, which the caller has encoded.
    pub fn json(status: u16, json: impl Into<Body>) -> Self {
        Self::with_type(status, "application/json; charset=utf-8", json)
    }

    /// Creates a response with a body of plain text in UTF-8.
    pub fn text(status: u16, text: impl Into<Body>) -> Self {
        Self::with_type(status, "text/plain; charset=utf-8", text)
    }

    /// Creates a response with a body of this media type.
    pub fn with_type(status: u16, media_type: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Self::empty(status).header("Content-Type", media_type);
        response.body = body.into();
        response
    }

    /// Adds a header. It must not be `Content-Length` or `Connection`, which [`Response::write`]
    /// sets; debug builds panic on these two.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!(!name.eq_ignore_ascii_case("Content-Length"));
        debug_assert!(!name.eq_ignore_ascii_case("Connection"));
        self.headers.push((name, value.into()));
        self
    }

    /// Returns whether the response has this header, in the case in which it was added.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(header, _)| *header == name)
    }

    /// Appends the head of a response whose body ends with the connection, and has no length.
    pub fn write_endless(&self, out: &mut Vec<u8>, date: Date) {
        out.reserve(RESERVED_BYTES);
        self.write_status_and_headers(out, date);
        out.extend_from_slice(b"Connection: close\r\n\r\n");
    }

    /// Appends everything that does not depend on the body. A response may hold what only its
    /// caller may see, and callers authenticate with headers that shared caches do not know. So
    /// every response that is not marked as public is marked as `no-store`. A 101 is neither cached
    /// nor dated.
    fn write_status_and_headers(&self, out: &mut Vec<u8>, date: Date) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            write_header(out, name, value);
        }
        if self.status == 101 {
            return;
        }
        if !self.has("Cache-Control") {
            out.extend_from_slice(b"Cache-Control: no-store\r\n");
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the response to `out`. The caller decides `keep_alive` from
    /// [`Request::keep_alive`](super::Request::keep_alive) and its own limits. `head_only` is for
    /// HEAD requests: it leaves out the body but keeps its length. Control characters in headers,
    /// line breaks among them, become spaces; tabs stay.
    pub fn write(&self, out: &mut Vec<u8>, date: Date, keep_alive: bool, head_only: bool) {
        let body = self.body.as_bytes();
        // RFC 9110 section 8.6 forbids Content-Length for 101 and 204. For 304 it would have to be
        // the length of the 200 response, which is not known here.
        let is_bodiless = matches!(self.status, 101 | 204 | 304);
        out.reserve(RESERVED_BYTES + body.len());
        self.write_status_and_headers(out, date);
        if !is_bodiless {
            out.extend_from_slice(b"Content-Length: ");
            push_number(out, body.len());
            out.extend_from_slice(b"\r\n");
        }
        // A response with an `Upgrade` header must list `upgrade` here (RFC 9110 section 7.8).
        // `keep-alive` is the default of HTTP/1.1, but an HTTP/1.0 client needs to see it.
        let offers_upgrade = self.has("Upgrade");
        let connection = match (offers_upgrade, keep_alive) {
            _ if self.status == 101 => "Connection: Upgrade\r\n\r\n",
            (false, true) => "Connection: keep-alive\r\n\r\n",
            (false, false) => "Connection: close\r\n\r\n",
            (true, true) => "Connection: upgrade, keep-alive\r\n\r\n",
            (true, false) => "Connection: upgrade, close\r\n\r\n",
        };
        out.extend_from_slice(connection.as_bytes());
        if !head_only && !is_bodiless {
            out.extend_from_slice(body);
        }
    }
}

/// Bytes reserved for a head. Most heads fit, so a new buffer is not reallocated several times.
const RESERVED_BYTES: usize = 384;

fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(digits(number as u64, &mut [0; DIGITS_MAX]));
}

/// Appends one header line. Control characters other than tabs become spaces, because a line break
/// would end the line early.
fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    push_harmless(out, name);
    out.extend_from_slice(b": ");
    push_harmless(out, value);
    out.extend_from_slice(b"\r\n");
}

fn push_harmless(out: &mut Vec<u8>, text: &str) {
    let is_harmful = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in &mut out[start..] {
        *byte = if is_harmful(*byte) { b' ' } else { *byte };
    }
}

/// Returns the interim response that lets a client with `Expect: 100-continue` send its body.
pub fn continue_100() -> &'static [u8] {
    b"HTTP/1.1 100 Continue\r\n\r\n"
}

/// Returns the reason phrase of a status code, or an empty text if the node does not use the code.
pub fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, keep_alive: bool, head_only: bool) -> String {
        let mut out = Vec::new();
        response.write(&mut out, Date::at(784_111_777), keep_alive, head_only);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_and_bodies() {
        let json = Response::json(201, r#"{"a":1}"#).header("Location", "/x".to_owned());
        let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\n\
                    Location: /x\r\nCache-Control: no-store\r\n\
                    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 7\r\n";
        let alive = format!("{head}Connection: keep-alive\r\n\r\n");
        assert_eq!(written(&json, true, false), format!("{alive}{{\"a\":1}}"));
        assert_eq!(written(&json, true, true), alive);
        let close = format!("{head}Connection: close\r\n\r\n{{\"a\":1}}");
        assert_eq!(written(&json, false, false), close);
    }

    #[test]
    fn lengths() {
        let added = "Cache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let empty =
            format!("HTTP/1.1 200 OK\r\n{added}Content-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(written(&Response::empty(200), false, false), empty);
        for status in [204, 304] {
            let mut response = Response::empty(status);
            response.body = "never sent".into();
            let phrase = reason(status);
            let expected =
                format!("HTTP/1.1 {status} {phrase}\r\n{added}Connection: close\r\n\r\n");
            assert_eq!(written(&response, false, false), expected);
        }
    }

    #[test]
    fn an_unknown_status_has_an_empty_phrase() {
        assert!(written(&Response::empty(299), true, false).starts_with("HTTP/1.1 299 \r\n"));
    }

    #[test]
    fn line_breaks_never_get_through() {
        let response =
            Response::empty(200).header("X", "a\r\nSet-Cookie: b\n\r\n\0\u{7f}\té".to_owned());
        let text = written(&response, true, false);
        let line = text.split("\r\n").nth(1);
        assert_eq!(line, Some("X: a  Set-Cookie: b     \té"));
        assert_eq!(text.split(['\r', '\n']).filter(|line| !line.is_empty()).count(), 6);
        let mut out = Vec::new();
        write_header(&mut out, "X\r\nY", "z");
        assert_eq!(out, b"X  Y: z\r\n");
    }

    #[test]
    fn whoever_offers_an_upgrade_says_so_in_connection() {
        let response = Response::empty(426).header("Upgrade", "websocket");
        assert!(written(&response, false, false).contains("\r\nConnection: upgrade, close\r\n"));
    }

    #[test]
    fn only_what_is_public_is_for_caches() {
        let public = Response::empty(200).header("Cache-Control", "public, max-age=60");
        let text = written(&public, true, false);
        assert_eq!(text.matches("Cache-Control").count(), 1, "{text}");
        let switching = written(&Response::empty(101), true, false);
        assert_eq!(switching, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n");
    }

    #[test]
    fn answers_are_appended() {
        let mut out = continue_100().to_vec();
        Response::text(200, "a").write(&mut out, Date::at(0), true, false);
        assert!(out.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
        assert!(out.ends_with(b"\r\n\r\na"));
    }
}
