//! How a connection becomes a WebSocket (RFC 6455 section 4), seen from the client.

use anyhow::{Result, ensure};

use crate::target::Target;

/// The example key of RFC 6455 section 1.3 and the answer it must get: a server that computes the
/// answer gets this one right, so no hash is needed here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What the server must answer to the key.
pub(crate) const KEY_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The request for an upgrade, with these headers added to what every upgrade needs.
pub(crate) fn request(target: &Target, path: &str, headers: &[(&str, &str)]) -> String {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n",
        target.authority
    )
}

/// Checks the answer to the upgrade and says how long it is; `None` while it is incomplete.
pub(crate) fn read_answer(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "an endless answer to the upgrade");
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    let rest = String::from_utf8_lossy(&bytes[head_bytes..]);
    ensure!(status == 101, "the upgrade was answered {status}: {rest:.200}");
    let accepted = head.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-accept")
            && header.value.trim_ascii() == KEY_ANSWER.as_bytes()
    });
    ensure!(accepted, "the upgrade lacks the right Sec-WebSocket-Accept");
    Ok(Some(head_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_must_be_accepted_with_the_right_answer() {
        let answer = |status: &str, accept: &str| {
            format!(
                "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
            )
        };
        let good = answer("101 Switching Protocols", KEY_ANSWER);
        let with_frame = format!("{good}\u{1}0");
        assert_eq!(read_answer(with_frame.as_bytes()).unwrap(), Some(good.len()));
        assert_eq!(read_answer(&good.as_bytes()[..good.len() - 1]).unwrap(), None);
        assert!(read_answer(answer("400 Bad Request", KEY_ANSWER).as_bytes()).is_err());
        assert!(read_answer(answer("101 OK", "AAAA").as_bytes()).is_err());
    }

    #[test]
    fn a_request_ends_after_its_own_headers() {
        let target = "http://127.0.0.1:1".parse().unwrap();
        let request = request(&target, "/ws?a=1", &[("X-One", "1"), ("X-Two", "2")]);
        assert!(request.starts_with("GET /ws?a=1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(request.ends_with("\r\nX-One: 1\r\nX-Two: 2\r\n\r\n"));
    }
}
