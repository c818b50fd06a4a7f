//! The request that opens a connection, and its answer: the upgrade to WebSocket (RFC 6455 section
//! 4), or the response that a stream of Server-Sent Events is.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::target::Target;

/// The example key of RFC 6455 section 1.3. A server that computes the answer gets this one right,
/// so the client needs no hash function.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer that a server must compute from the key.
pub(crate) const KEY_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The media type of streams.
pub(crate) const STREAM_TYPE: &str = "text/event-stream";
const HEADERS_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A request and what its answer must contain.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// The text of the request.
    pub(crate) request: String,
    pub(crate) protocol: Protocol,
}

/// What a connection speaks after the handshake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Protocol {
    WebSocket {
        /// The subprotocol that the request offers and the answer must name.
        subprotocol: Option<String>,
    },
    /// Server-Sent Events: the server alone speaks.
    EventStream,
}

impl Handshake {
    /// Builds the upgrade request for a path, with these headers besides those that every upgrade
    /// needs.
    pub(crate) fn upgrade(
        target: &Target,
        path: &str,
        subprotocol: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Self {
        let offer = subprotocol.map(|offer| ("Sec-WebSocket-Protocol", offer));
        let headers = offer.iter().chain(headers);
        let more: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n",
            target.authority
        );
        let subprotocol = subprotocol.map(str::to_owned);
        Self { request, protocol: Protocol::WebSocket { subprotocol } }
    }

    /// Builds the request of a stream, with a bearer token if there is one.
    pub(crate) fn stream(target: &Target, path: &str, token: Option<&str>) -> Self {
        let credential = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {STREAM_TYPE}\r\n{}\r\n",
            target.authority,
            credential.unwrap_or_default()
        );
        Self { request, protocol: Protocol::EventStream }
    }

    /// Checks the answer and returns the length of its head, or `None` if it is incomplete.
    pub(crate) fn read_answer(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
            ensure!(bytes.len() <= ANSWER_BYTES_MAX, "an endless answer to the handshake");
            return Ok(None);
        };
        let wanted = if self.protocol == Protocol::EventStream { 200 } else { 101 };
        let status = head.code.unwrap_or_default();
        let rest = String::from_utf8_lossy(&bytes[head_bytes..]);
        ensure!(status == wanted, "the handshake was answered {status}: {rest:.200}");
        match &self.protocol {
            Protocol::WebSocket { subprotocol } => check_upgrade(&head, subprotocol.as_deref())?,
            Protocol::EventStream => check_stream(&head)?,
        }
        Ok(Some(head_bytes))
    }
}

fn check_upgrade(head: &httparse::Response<'_, '_>, subprotocol: Option<&str>) -> Result<()> {
    let accepted = values(head, "sec-websocket-accept").contains(&KEY_ANSWER.as_bytes());
    ensure!(accepted, "the upgrade lacks the right Sec-WebSocket-Accept");
    // A browser closes the connection if the answer names another subprotocol. The error does
    // not show the offer, because it may contain a credential.
    match (subprotocol, values(head, "sec-websocket-protocol").as_slice()) {
        (None, []) => {}
        (Some(offer), [chosen]) if *chosen == offer.as_bytes() => {}
        (None, _) => bail!("the upgrade names a subprotocol that was not offered"),
        (Some(_), _) => bail!("the upgrade does not name the offered subprotocol"),
    }
    Ok(())
}

/// Checks that the body is a stream of events, which ends with the connection.
fn check_stream(head: &httparse::Response<'_, '_>) -> Result<()> {
    let types = values(head, "content-type");
    let is_stream = matches!(&types[..], [only] if is_stream_type(only));
    ensure!(is_stream, "the answer is no {STREAM_TYPE}");
    for name in ["transfer-encoding", "content-encoding", "content-length"] {
        ensure!(values(head, name).is_empty(), "the stream has a {name}, which is not supported");
    }
    Ok(())
}

/// Returns whether a media type is that of streams, whatever its parameters are.
fn is_stream_type(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(STREAM_TYPE.as_bytes())
}

fn values<'a>(head: &httparse::Response<'_, 'a>, name: &str) -> Vec<&'a [u8]> {
    let named = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value.trim_ascii()).collect()
}

/// Returns the subprotocol that a request offers, or `None`.
pub(crate) fn offered(request: &[u8]) -> Result<Option<&str>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    head.parse(request)?;
    let named =
        |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("sec-websocket-protocol");
    let offer = head.headers.iter().find(named);
    offer
        .map(|header| str::from_utf8(header.value).context("an offer that is not UTF-8"))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        "http://127.0.0.1:1".parse().unwrap()
    }

    fn upgrade(subprotocol: Option<&str>) -> Handshake {
        Handshake::upgrade(&target(), "/ws?a=1", subprotocol, &[("X-One", "1"), ("X-Two", "2")])
    }

    fn answer(status: &str, more: &str) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nUpgrade: websocket\r\n{more}\r\n");
        head.into_bytes()
    }

    fn accepted(more: &str) -> Vec<u8> {
        let accept = format!("sec-websocket-accept: {KEY_ANSWER}\r\n{more}");
        answer("101 Switching Protocols", &accept)
    }

    #[test]
    fn an_upgrade_must_be_accepted_with_the_right_answer() {
        let plain = upgrade(None);
        let good = accepted("");
        let with_frame = [&good[..], b"\x010"].concat();
        assert_eq!(plain.read_answer(&with_frame).unwrap(), Some(good.len()));
        assert_eq!(plain.read_answer(&good[..good.len() - 1]).unwrap(), None);
        let refused = format!("Sec-WebSocket-Accept: {KEY_ANSWER}\r\n");
        assert!(plain.read_answer(&answer("400 Bad Request", &refused)).is_err());
        assert!(plain.read_answer(&answer("101 OK", "Sec-WebSocket-Accept: A\r\n")).is_err());
    }

    #[test]
    fn the_subprotocol_that_was_offered_is_named_and_no_other() {
        let named = |name: &str| accepted(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let offering = upgrade(Some("a.1"));
        assert!(offering.request.contains("\r\nSec-WebSocket-Protocol: a.1\r\n"));
        assert!(offering.read_answer(&named("a.1")).unwrap().is_some());
        for wrong in [named("a.2"), named("a.1, a.1"), accepted("")] {
            assert!(offering.read_answer(&wrong).is_err());
        }
        assert!(upgrade(None).read_answer(&named("a.1")).is_err());
    }

    #[test]
    fn a_stream_must_be_one_that_ends_with_its_connection() {
        let stream = Handshake::stream(&target(), "/events?channel=a", Some("anon_1"));
        let request = "GET /events?channel=a HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\
                       Accept: text/event-stream\r\nAuthorization: Bearer anon_1\r\n\r\n";
        assert_eq!(stream.request, request);
        let head = |lines: &str| format!("HTTP/1.1 {lines}\r\n\r\n").into_bytes();
        for good in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
            let answer = head(&format!("200 OK\r\ncontent-type: {good}"));
            let with_block = [&answer[..], b":\n\n"].concat();
            assert_eq!(stream.read_answer(&with_block).unwrap(), Some(answer.len()));
            assert_eq!(stream.read_answer(&answer[..answer.len() - 1]).unwrap(), None);
        }
        for bad in [
            "403 Forbidden\r\nContent-Type: text/event-stream",
            "200 OK\r\nContent-Type: application/json",
            "200 OK",
            "200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked",
            "200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9",
        ] {
            assert!(stream.read_answer(&head(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_ends_after_its_own_headers() {
        let Handshake { request, .. } = upgrade(None);
        assert!(request.starts_with("GET /ws?a=1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(request.ends_with("\r\nX-One: 1\r\nX-Two: 2\r\n\r\n"));
        assert_eq!(offered(request.as_bytes()).unwrap(), None);
        assert_eq!(offered(upgrade(Some("a.1")).request.as_bytes()).unwrap(), Some("a.1"));
    }
}
