//! Bytes that are not a request, or that can be read as different requests. Each is refused and
//! ends its connection, because the start of the next request is unknown.

use super::{authorization, define, health};
use crate::node;
use crate::tcp::{PATIENCE, Tcp};

/// Longest head that a node accepts.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Sends `bytes` and then a correct request. The first must be refused with one of `statuses`. The
/// second must not be answered, because it may have been smuggled inside the first.
fn refused(bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Result<(), String> {
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(bytes);
    tcp.send(health());
    let Some(response) = tcp.try_response("GET", PATIENCE) else {
        return Err("no answer".into());
    };
    if !statuses.contains(&response.status) {
        return Err(format!("answered {}, not {statuses:?}", response.status));
    }
    match tcp.try_response("GET", PATIENCE) {
        Some(second) => Err(format!("what followed was answered {}", second.status)),
        None if tcp.ends_within(PATIENCE) => Ok(()),
        None => Err("the connection goes on".into()),
    }
}

/// Fails with a list of all cases that were not refused properly.
fn all_refused<'a>(cases: impl IntoIterator<Item = (&'a [u8], &'a [u16])>) {
    let wrong: Vec<_> = cases
        .into_iter()
        .filter_map(|(bytes, statuses)| {
            let reason = refused(bytes, statuses).err()?;
            let start = bytes[..bytes.len().min(120)].escape_ascii();
            Some(format!("{start}: {reason}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn request_lines_that_are_none() {
    let cases: [(&[u8], &[u16]); 15] = [
        (b"GET\r\n\r\n", &[400]),
        (b"GET /\r\n\r\n", &[400]),
        (b"GET / \r\n\r\n", &[400, 505]),
        (b"/ HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        (b" GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        (b"GET / / HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 505]),
        (b"GET / HTTP/1.1 x\r\nHost: x\r\n\r\n", &[400, 505]),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", &[400, 505]),
        (b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", &[400, 505]),
        (b"GET / ICY/1.1\r\nHost: x\r\n\r\n", &[400, 505]),
        (b"G@T\x01 / HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        (b"GET /\rx HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 505]),
        // The preface of HTTP/2, and the start of TLS.
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400]),
    ];
    all_refused(cases);
}

#[test]
fn headers_that_are_none() {
    let head = |header: &[u8]| {
        [b"GET /api/health HTTP/1.1\r\nHost: x\r\n".as_slice(), header, b"\r\n\r\n"].concat()
    };
    let headers: [&[u8]; 9] = [
        b"no colon",
        b": no name",
        b"Space : before",
        b" Space: at the front",
        b"Folded: one\r\n two",
        b"Nul: \0",
        b"Control: \x01",
        b"Bare: a\rb",
        b"N\xc3\xa4me: x",
    ];
    let cases: Vec<_> = headers.map(head).to_vec();
    all_refused(cases.iter().map(|bytes| (bytes.as_slice(), [400].as_slice())));
}

#[test]
fn hosts_are_named_exactly_once() {
    let missing = b"GET /api/health HTTP/1.1\r\nX: y\r\n\r\n".as_slice();
    let twice = b"GET /api/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".as_slice();
    all_refused([(missing, [400].as_slice()), (twice, &[400])]);
}

#[test]
fn lengths_that_can_be_read_two_ways() {
    let headers: [(&[&str], &[u16]); 18] = [
        (&["Content-Length: 2", "Transfer-Encoding: chunked"], &[400]),
        (&["Transfer-Encoding: chunked", "Content-Length: 2"], &[400]),
        (&["Content-Length: 2", "Content-Length: 3"], &[400]),
        (&["Content-Length: 2, 3"], &[400]),
        (&["Content-Length: +2"], &[400]),
        (&["Content-Length: -2"], &[400]),
        (&["Content-Length: 0x2"], &[400]),
        (&["Content-Length: 2 2"], &[400]),
        (&["Content-Length: "], &[400]),
        (&["Content-Length: 99999999999999999999999"], &[400, 413]),
        (&["Content-Length : 2"], &[400]),
        (&["Transfer-Encoding : chunked"], &[400]),
        (&["Transfer-Encoding: xchunked"], &[400, 501]),
        (&["Transfer-Encoding: chunked, chunked"], &[400, 501]),
        (&["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"], &[400, 501]),
        (&["Transfer-Encoding: gzip, chunked"], &[400, 501]),
        (&["Transfer-Encoding: identity"], &[400, 501]),
        (&["Transfer-Encoding: \x0bchunked"], &[400, 501]),
    ];
    let cases: Vec<_> =
        headers.iter().map(|(headers, statuses)| (define(headers) + "{}", *statuses)).collect();
    all_refused(cases.iter().map(|(bytes, statuses)| (bytes.as_bytes(), *statuses)));
    let old = define(&["Transfer-Encoding: chunked"]).replace("HTTP/1.1", "HTTP/1.0");
    all_refused([((old + "2\r\n{}\r\n0\r\n\r\n").as_bytes(), [400, 501].as_slice())]);
}

#[test]
fn chunks_that_are_none() {
    let long_extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    let long_trailers = format!("2\r\n{{}}\r\n0\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let chunks = [
        "zz\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
        "1\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        &long_extension,
        &long_trailers,
    ];
    let cases = chunks.map(|chunks| define(&["Transfer-Encoding: chunked"]) + chunks);
    all_refused(cases.iter().map(|bytes| (bytes.as_bytes(), [400, 413, 431].as_slice())));
}

#[test]
fn heads_that_are_too_long() {
    let line = "GET /api/health HTTP/1.1\r\nHost: x\r\n";
    let uri = |length| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(length));
    let flood = format!("{line}{}\r\n", "X: y\r\n".repeat(1000));
    let one = format!("{line}X: {}\r\n\r\n", "y".repeat(4 * HEAD_BYTES_MAX));
    let endless = format!("{line}{}", "X-And-So-On: and so forth\r\n".repeat(HEAD_BYTES_MAX));
    all_refused([
        (flood.as_bytes(), [431].as_slice()),
        (one.as_bytes(), &[431]),
        (endless.as_bytes(), &[431]),
        (uri(4 * HEAD_BYTES_MAX).as_bytes(), &[414, 431]),
        ("x".repeat(4 * HEAD_BYTES_MAX).as_bytes(), &[400, 414, 431]),
    ]);
}

#[test]
fn heads_within_the_bounds_are_read() {
    let long = "x".repeat(HEAD_BYTES_MAX / 2);
    let many: String = (0..40).map(|at| format!("X-{at}: y\r\n")).collect();
    let requests = [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        // One empty line before a request is ignored (RFC 9112 section 2.2).
        "\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        // Names may have any case, and values may have white space around them or not.
        "GET /x HTTP/1.1\r\nhOST:x\r\nCONTENT-length:  0\t\r\n\r\n".into(),
    ];
    let mut tcp = Tcp::connect(node::plain());
    for request in requests {
        tcp.send(&request);
        assert_eq!(tcp.response().status, 404, "{request:.80}");
    }
}

#[test]
fn a_request_hidden_in_a_body_is_not_seen() {
    let hidden = "DELETE /api/health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut tcp = Tcp::connect(node::plain());
    let length = format!("Content-Length: {}", hidden.len());
    // A body belongs to its request even if the method does not use one.
    let get = format!("GET /api/health HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n{hidden}");
    tcp.send(get.repeat(2));
    tcp.send(define(&[&length]) + hidden);
    let statuses: Vec<_> = (0..3).map(|_| tcp.response().status).collect();
    assert_eq!(statuses, [200, 200, 400]);
    assert!(tcp.is_silent_for(crate::session::MOMENT));
}

#[test]
fn handshakes_that_are_none() {
    const HANDSHAKE: [&str; 5] = [
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let answer = |lines: &[String]| {
        let mut tcp = Tcp::connect(node::plain());
        tcp.send(lines.join("\r\n") + "\r\n\r\n");
        tcp.response().status
    };
    // Every header is necessary, and these values are wrong.
    let without = (1..5).map(|line| (line, String::from("X: y")));
    let wrong = [
        (0, HANDSHAKE[0].replace("GET", "POST")),
        (0, HANDSHAKE[0].replace("HTTP/1.1", "HTTP/1.0")),
        (3, "Sec-WebSocket-Version: 8".into()),
        (4, "Sec-WebSocket-Key: short".into()),
        (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==x".into()),
    ];
    assert_eq!(answer(&HANDSHAKE.map(String::from)), 101);
    for (line, instead) in without.chain(wrong) {
        let mut lines = HANDSHAKE.map(String::from);
        lines[line] = instead;
        let status = answer(&lines);
        assert!(matches!(status, 400 | 405 | 426), "{lines:?} is answered {status}");
    }
}

#[test]
fn a_bad_request_leaves_the_credential_unread() {
    // A refused head must have no effect, even if its body is complete.
    let head = format!(
        "POST /api/realtime/channels HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Length: 31\r\n\
         Transfer-Encoding: chunked\r\n\r\n{{\"pattern\":\"http-was-smuggled-x\"}}",
        authorization()
    );
    refused(head, &[400]).expect("refused");
    let list = ["GET /api/realtime/channels HTTP/1.1", &authorization()];
    let channels = crate::tcp::call(node::plain(), &list, "").json();
    assert!(!channels.to_string().contains("http-was-smuggled"), "{channels}");
}
