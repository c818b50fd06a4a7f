//! The WebSocket opening handshake (RFC 6455 section 4.2).
//!
//! Extensions are in [`super::extension`]. Subprotocols are left to the caller, which reads the
//! client's offers from the request and adds a header with its choice to the [`response`].

use thiserror::Error;
use tungstenite::handshake::derive_accept_key;

use crate::codec::http::{BodyKind, Method, Request, Response};

/// The protocol's only version (RFC 6455 section 4.1).
const VERSION: &str = "13";
/// Characters of a key before its padding: a key is 16 bytes in base64.
const KEY_DIGITS: usize = 22;
const KEY_PADDING: &[u8] = b"==";

/// The `Sec-WebSocket-Accept` of a checked handshake, for [`response`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accept(String);

/// Why a request does not open a WebSocket. The client is at fault in every case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HandshakeError {
    /// The method is not GET.
    #[error("A WebSocket is opened with GET")]
    Method,
    /// The request is HTTP/1.0, or lacks `Connection: upgrade` or `Upgrade: websocket`.
    #[error("A WebSocket needs HTTP/1.1 with Connection: upgrade and Upgrade: websocket")]
    Upgrade,
    /// The request has a body, but the bytes after the head must be frames.
    #[error("A WebSocket handshake has no body")]
    Body,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13.
    #[error("The WebSocket version must be 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once")]
    Key,
    /// `Sec-WebSocket-Extensions` is not a list of extensions.
    #[error("Sec-WebSocket-Extensions must be a list of extensions")]
    Extensions,
}

impl HandshakeError {
    /// Returns the status code of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Version => 426,
            Self::Upgrade | Self::Body | Self::Key | Self::Extensions => 400,
        }
    }

    /// Returns the headers that this status code requires (RFC 6455 section 4.4, RFC 9110 sections
    /// 15.5.6 and 15.5.22).
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            Self::Upgrade | Self::Body | Self::Key | Self::Extensions => &[],
        }
    }
}

/// Checks a client's opening handshake.
///
/// # Errors
///
/// The first rule that the request breaks.
pub fn check(request: &Request) -> Result<Accept, HandshakeError> {
    if request.method != Method::Get {
        return Err(HandshakeError::Method);
    }
    if !request.upgrade {
        return Err(HandshakeError::Upgrade);
    }
    if !matches!(request.body, BodyKind::None | BodyKind::Sized(0)) {
        return Err(HandshakeError::Body);
    }
    if request.only_header("sec-websocket-version") != Ok(Some(VERSION)) {
        return Err(HandshakeError::Version);
    }
    match request.only_header("sec-websocket-key") {
        Ok(Some(key)) if is_key(key.as_bytes()) => Ok(Accept(derive_accept_key(key.as_bytes()))),
        _ => Err(HandshakeError::Key),
    }
}

fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.split_at_checked(KEY_DIGITS)
        .is_some_and(|(digits, padding)| digits.iter().all(is_digit) && padding == KEY_PADDING)
}

/// Returns the 101 response, after which the connection is a WebSocket.
pub fn response(accept: Accept) -> Response {
    let Accept(accept) = accept;
    Response::empty(101).header("Upgrade", "websocket").header("Sec-WebSocket-Accept", accept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http::{Date, parse_head};

    // The key and its answer are the example of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn check_text(first: &str, lines: &str) -> Result<Accept, HandshakeError> {
        let head = format!("{first}\r\nHost: a\r\n{lines}\r\n");
        check(&parse_head(head.as_bytes()).unwrap().unwrap().0)
    }

    fn check_lines(lines: &str) -> Result<Accept, HandshakeError> {
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        check_text("GET /x HTTP/1.1", &format!("{upgrade}{lines}"))
    }

    fn version_and_key(version: &str, key: &str) -> String {
        format!("Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n")
    }

    #[test]
    fn the_rfcs_example() {
        let lines = version_and_key("13", KEY);
        assert_eq!(check_lines(&lines).map(|accept| accept.0), Ok(ACCEPT.to_owned()));
        let no_body = format!("Content-Length: 0\r\n{lines}");
        assert_eq!(check_lines(&no_body).map(|accept| accept.0), Ok(ACCEPT.to_owned()));
    }

    #[test]
    fn refusals() {
        let good = version_and_key("13", KEY);
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        let post = check_text("POST / HTTP/1.1", &format!("{upgrade}{good}"));
        assert_eq!(post, Err(HandshakeError::Method));
        let old = check_text("GET / HTTP/1.0", &format!("{upgrade}{good}"));
        assert_eq!(old, Err(HandshakeError::Upgrade));
        let plain = check_text("GET / HTTP/1.1", &good);
        assert_eq!(plain, Err(HandshakeError::Upgrade));
        for body in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(check_lines(&format!("{good}{body}")), Err(HandshakeError::Body));
        }
        for lines in [
            version_and_key("8", KEY),
            version_and_key("13, 8", KEY),
            version_and_key("13\r\nSec-WebSocket-Version: 13", KEY),
            format!("Sec-WebSocket-Key: {KEY}\r\n"),
        ] {
            assert_eq!(check_lines(&lines), Err(HandshakeError::Version), "{lines}");
        }
        for key in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZWQ=",
            "dGhlIHNhbXBsZSBub25jZQ==AAAA",
            "dGhlIHNhbXBsZSBub25j-Q==",
            "dGhlIHNhbXBsZSBub25jé==",
            "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            let lines = version_and_key("13", key);
            assert_eq!(check_lines(&lines), Err(HandshakeError::Key), "{key}");
        }
        assert_eq!(check_lines("Sec-WebSocket-Version: 13\r\n"), Err(HandshakeError::Key));
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one() {
        let error = HandshakeError::Version;
        assert_eq!(error.status(), 426);
        assert!(error.headers().contains(&("Sec-WebSocket-Version", "13")));
    }

    #[test]
    fn the_answer() {
        let written = |response: Response| {
            let mut out = Vec::new();
            response.write(&mut out, Date::at(0), true, false);
            String::from_utf8(out).unwrap()
        };
        let accepted = || response(Accept(ACCEPT.to_owned()));
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: ";
        let end = "Connection: Upgrade\r\n\r\n";
        assert_eq!(written(accepted()), format!("{head}{ACCEPT}\r\n{end}"));
        let extra = accepted().header("Sec-WebSocket-Protocol", "a\r\nb").header("X", "y");
        let expected = format!("{head}{ACCEPT}\r\nSec-WebSocket-Protocol: a  b\r\nX: y\r\n{end}");
        assert_eq!(written(extra), expected);
    }
}
