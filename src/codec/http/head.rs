//! The parser of request heads (RFC 9112 sections 2 to 6).

use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

use httparse::Status;

use super::framing::{BodyKind, Framing};
use super::headers::Headers;
use super::method::Method;
use super::target::NotUtf8;
use super::{HttpError, target};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_METHOD_SHOWN_MAX};

/// The head of a request. The next request can use its memory again.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The method, which decides whether the target may be `*`.
    pub method: Method,
    /// The target's path, still percent-encoded; `*` for a server-wide OPTIONS.
    pub path: String,
    /// The target's part after the first `?`, still percent-encoded; `None` without a `?`.
    pub query: Option<String>,
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub minor_version: u8,
    /// Whether the connection may stay open for another request.
    pub keep_alive: bool,
    /// How the body that follows is delimited.
    pub body: BodyKind,
    /// Whether the client waits for [`continue_100`](super::continue_100) before it sends the body.
    pub expects_continue: bool,
    /// Whether the client asks for the connection to become a WebSocket.
    pub upgrade: bool,
    /// The beginning of the name of a [`Method::Other`].
    other_method: Option<Box<str>>,
    headers: Headers,
}

impl Request {
    /// Returns the value of the first header called `name` (in lower case), without the blanks
    /// around it. Headers whose values are not UTF-8 count as not sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Returns the value of the header called `name` (in lower case), or `None` without one. For
    /// headers on which security depends.
    ///
    /// # Errors
    /// [`Unclear`] if the header is repeated or a value is not UTF-8.
    pub fn only_header(&self, name: &str) -> Result<Option<&str>, Unclear> {
        if self.has_unreadable(name) {
            return Err(Unclear::NotUtf8);
        }
        let mut values = self.header_values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Unclear::Repeated),
        }
    }

    /// Returns whether a header called `name` (in lower case) has a value that is not UTF-8.
    pub fn has_unreadable(&self, name: &str) -> bool {
        self.headers.unreadable.iter().any(|unreadable| **unreadable == *name)
    }

    /// Returns the values of all headers called `name` (in lower case), in the request's order, and
    /// leaves out values that are not UTF-8.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(header, _)| *header == name).map(|(_, value)| value)
    }

    /// Returns whether a header's name, in lower case, satisfies `is`, whatever its value.
    pub fn has_header(&self, is: impl Fn(&str) -> bool) -> bool {
        let readable = self.headers.iter().map(|(name, _)| name);
        readable.chain(self.headers.unreadable.iter().map(|name| &**name)).any(is)
    }

    /// Returns the name of the method as it was sent, the beginning of a long unknown one.
    pub fn method_name(&self) -> &str {
        self.other_method.as_deref().unwrap_or(self.method.as_str())
    }

    /// Returns the decoded value of the first pair called `name` in the query; `None` without one.
    /// `+` stands for a space.
    ///
    /// # Errors
    /// [`NotUtf8`] if the decoded value is not UTF-8.
    pub fn query_value(&self, name: &str) -> Result<Option<Cow<'_, str>>, NotUtf8> {
        match &self.query {
            Some(query) => target::query_value(query, name).transpose(),
            None => Ok(None),
        }
    }
}

/// Why the value of a header is ambiguous.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unclear {
    /// The request has the header more than once.
    #[error("Expected once")]
    Repeated,
    /// The header's value is not UTF-8.
    #[error("Expected UTF-8")]
    NotUtf8,
}

/// Leaves out query and headers, because they may contain tokens.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// Parses the head at the beginning of `buffer`. Returns it with its length in bytes, or `None` if
/// it is incomplete.
///
/// # Errors
///
/// The first breach of the grammar or of a bound, which may be found before the head is complete.
pub fn parse_head(buffer: &[u8]) -> Result<Option<(Request, usize)>, HttpError> {
    let mut request = Request::default();
    Ok(request.read_head(buffer)?.map(|length| (request, length)))
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

/// Refuses lines that end with a line feed alone. httparse accepts them, but a proxy in front of
/// the node may read them differently.
fn check_line_ends(head: &[u8]) -> Result<(), HttpError> {
    let is_alone = |at: usize| at == 0 || head[at - 1] != b'\r';
    match memchr::memchr_iter(b'\n', head).any(is_alone) {
        true => Err(HttpError::Malformed("a line ends without a carriage return")),
        false => Ok(()),
    }
}

impl Request {
    /// Replaces this request by the one whose head is at the beginning of `buffer`. Returns the
    /// length of the head in bytes, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Those of [`parse_head`]. Then the request is neither the old one nor the new one.
    pub fn read_head(&mut self, buffer: &[u8]) -> Result<Option<usize>, HttpError> {
        let window = &buffer[..buffer.len().min(HTTP_HEAD_BYTES_MAX)];
        // Places that no header takes are never written.
        let mut headers = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
        let mut head = httparse::Request::new(&mut []);
        let parsed = head.parse_with_uninit_headers(window, &mut headers);
        let length = match parsed.map_err(refusal)? {
            Status::Complete(length) => length,
            Status::Partial if window.len() < HTTP_HEAD_BYTES_MAX => return Ok(None),
            Status::Partial if head.version.is_none() => return Err(HttpError::TargetTooLong),
            Status::Partial => return Err(HttpError::HeadTooLong),
        };
        check_line_ends(&window[..length])?;
        self.copy(&head)?;
        Ok(Some(length))
    }

    fn copy(&mut self, head: &httparse::Request<'_, '_>) -> Result<(), HttpError> {
        let (Some(method), Some(target), Some(minor_version)) =
            (head.method, head.path, head.version)
        else {
            return Err(HttpError::Malformed("the request line is invalid"));
        };
        let (method, sent) = (Method::named(method), method);
        let (path, query) = target::parse(target, method)?;
        let framing = Framing::read(head.headers)?;
        let is_1_1 = minor_version == 1;
        let body = framing.body(is_1_1)?;
        if is_1_1 && framing.hosts != 1 {
            return Err(HttpError::Malformed("there must be exactly one Host"));
        }
        self.method = method;
        self.path.clear();
        self.path.push_str(path);
        self.query = query.map(str::to_owned);
        self.minor_version = minor_version;
        self.keep_alive = !framing.close && (is_1_1 || framing.keep_alive);
        self.body = body;
        // Without a body there is nothing to wait for, and HTTP/1.0 has no `100 Continue`.
        self.expects_continue = framing.expects_continue
            && is_1_1
            && !matches!(body, BodyKind::None | BodyKind::Sized(0));
        self.upgrade = is_1_1 && framing.connection_upgrade && framing.websocket;
        self.other_method = (method == Method::Other).then(|| shown_method(sent));
        self.headers.copy(head.headers);
        Ok(())
    }
}

/// Returns as much of a method's name as an answer repeats. The grammar has made sure that it is
/// printable ASCII without blanks.
fn shown_method(name: &str) -> Box<str> {
    match name.get(..HTTP_METHOD_SHOWN_MAX) {
        Some(start) if start.len() < name.len() => format!("{start}…").into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests;
