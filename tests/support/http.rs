//! A small blocking HTTP client, which shares no code with the node's parser.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order in which they were sent, with names unchanged.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the first header of this name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body. Panics if it is not text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Returns the body without the newline at its end. Panics if it is not a line of text.
    pub(crate) fn line(&self) -> &str {
        self.text().strip_suffix('\n').expect("the body ends in a newline")
    }

    /// Returns the body as JSON. Panics if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: no JSON ({error}): {}", self.status, self.text()))
    }
}

/// Sends one request on a connection of its own and returns the answer.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    stream
        .and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(stream, &encode(port, (method, path), headers, body))
        })
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Does the same on a unix socket.
pub(crate) fn request_unix(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    UnixStream::connect(socket)
        .and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(stream, &encode(0, (method, path), headers, body))
        })
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

fn encode(
    port: u16,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<Response> {
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(decode(&bytes))
}

/// Parses all bytes of a connection as one answer: the request asked for its close.
fn decode(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    let (status_line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let headers = fields.split("\r\n").filter_map(|field| field.split_once(':'));
    let mut response = Response {
        status: status.unwrap_or_else(|| panic!("no status in {status_line:?}")),
        headers: headers.map(|(name, value)| (name.into(), value.trim().into())).collect(),
        body: bytes[end + 4..].to_vec(),
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = join_chunks(&response.body);
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().expect("a length is a number");
        assert_eq!(response.body.len(), length, "the body ends where its length says");
    }
    response
}

fn join_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let digits = std::str::from_utf8(&bytes[..end]).expect("a size is text");
        let size = usize::from_str_radix(digits, 16).expect("a size is hexadecimal");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}
