//! The upgrade of a connection to WebSocket (RFC 6455 section 4), as the client performs it.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::target::Target;

/// The example key of RFC 6455 section 1.3. A server that computes the answer gets this one right,
/// so the client needs no hash function.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer that a server must compute from the key.
pub(crate) const KEY_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// An upgrade request and what its answer must contain.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Upgrade {
    /// The text of the request.
    pub(crate) request: String,
    /// The subprotocol that the request offers and the answer must name.
    subprotocol: Option<String>,
}

impl Upgrade {
    /// Builds the request for a path, with these headers besides those that every upgrade needs.
    pub(crate) fn new(
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
        Self { request, subprotocol: subprotocol.map(str::to_owned) }
    }

    /// Checks the answer and returns the length of its head, or `None` if it is incomplete.
    pub(crate) fn read_answer(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
            ensure!(bytes.len() <= ANSWER_BYTES_MAX, "an endless answer to the upgrade");
            return Ok(None);
        };
        let status = head.code.unwrap_or_default();
        let rest = String::from_utf8_lossy(&bytes[head_bytes..]);
        ensure!(status == 101, "the upgrade was answered {status}: {rest:.200}");
        let values = |name: &str| {
            let named = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii()).collect::<Vec<_>>()
        };
        let accepted = values("sec-websocket-accept").contains(&KEY_ANSWER.as_bytes());
        ensure!(accepted, "the upgrade lacks the right Sec-WebSocket-Accept");
        // A browser closes the connection if the answer names another subprotocol. The error does
        // not show the offer, because it may contain a credential.
        match (&self.subprotocol, values("sec-websocket-protocol").as_slice()) {
            (None, []) => {}
            (Some(offer), [chosen]) if *chosen == offer.as_bytes() => {}
            (None, _) => bail!("the upgrade names a subprotocol that was not offered"),
            (Some(_), _) => bail!("the upgrade does not name the offered subprotocol"),
        }
        Ok(Some(head_bytes))
    }
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

    fn upgrade(subprotocol: Option<&str>) -> Upgrade {
        let target = "http://127.0.0.1:1".parse().unwrap();
        Upgrade::new(&target, "/ws?a=1", subprotocol, &[("X-One", "1"), ("X-Two", "2")])
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
    fn a_request_ends_after_its_own_headers() {
        let Upgrade { request, .. } = upgrade(None);
        assert!(request.starts_with("GET /ws?a=1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(request.ends_with("\r\nX-One: 1\r\nX-Two: 2\r\n\r\n"));
        assert_eq!(offered(request.as_bytes()).unwrap(), None);
        assert_eq!(offered(upgrade(Some("a.1")).request.as_bytes()).unwrap(), Some("a.1"));
    }
}
