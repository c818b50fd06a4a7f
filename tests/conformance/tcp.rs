//! One TCP connection, byte by byte, and enough of HTTP/1.1 to read an answer.
//!
//! It does not check what it sends, because the suites need to send what no client library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an expected answer may take; long, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection and its unread bytes.
pub(crate) struct Tcp {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
enum Fill {
    Bytes,
    End,
    Late,
}

impl Tcp {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).expect("the node accepts connections"))
    }

    /// Wraps an open connection.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        // If the peer stops reading, the test must fail instead of hanging.
        stream.set_write_timeout(Some(6 * PATIENCE)).expect("the timeout is not zero");
        Self { stream, unread: Vec::new() }
    }

    /// Returns another handle of the connection, for a thread that only sends.
    pub(crate) fn another(&self) -> Self {
        Self::over(self.stream.try_clone().expect("there are descriptors"))
    }

    /// Sends everything. Returns false if the peer has closed the connection, which many tests
    /// provoke.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => true,
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("the peer reads what it is sent: {error}"),
        }
    }

    /// Sends in writes of at most `chop` bytes. Returns false if the peer has closed the
    /// connection.
    pub(crate) fn send_chopped(&mut self, bytes: &[u8], chop: usize) -> bool {
        bytes.chunks(chop).all(|chunk| self.send(chunk))
    }

    /// Shuts down the sending side. The answer can still be read.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Takes the next `count` bytes; `None` if the connection ends or `deadline` passes before
    /// that.
    pub(crate) fn take(&mut self, count: usize, deadline: Instant) -> Option<Vec<u8>> {
        self.has(count, deadline).then(|| self.unread.drain(..count).collect())
    }

    /// Whether `count` bytes can be taken before the connection ends or `deadline` passes.
    pub(crate) fn has(&mut self, count: usize, deadline: Instant) -> bool {
        while self.unread.len() < count {
            if self.fill(deadline) != Fill::Bytes {
                return false;
            }
        }
        true
    }

    /// Returns the bytes that were read and not taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Whether the peer ends the connection within `wait`. Discards what it still sends.
    pub(crate) fn ends_within(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            self.unread.clear();
            match self.fill(deadline) {
                Fill::Bytes => {}
                Fill::End => return true,
                Fill::Late => return false,
            }
        }
    }

    /// Whether neither bytes nor the end of the connection arrive within `wait`.
    pub(crate) fn is_silent_for(&mut self, wait: Duration) -> bool {
        self.unread.is_empty() && self.fill(Instant::now() + wait) == Fill::Late
    }

    /// Returns the next answer. Panics if the connection ends, the answer is late, or it is not
    /// HTTP.
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Returns the next answer, to a request with this method: an answer to HEAD has no body.
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method, PATIENCE).expect("an answer comes before the connection ends")
    }

    /// Returns the next answer; `None` if the connection ends or `wait` passes before it is
    /// complete.
    pub(crate) fn try_response(&mut self, method: &str, wait: Duration) -> Option<Response> {
        let deadline = Instant::now() + wait;
        let head = self.take_line_block(deadline)?;
        let mut response = Response::parse(&head);
        if method != "HEAD" && !matches!(response.status, 100..=199 | 204 | 304) {
            response.body = self.take_body(&response, deadline)?;
        }
        Some(response)
    }

    /// Takes a head up to and including its empty line.
    fn take_line_block(&mut self, deadline: Instant) -> Option<String> {
        loop {
            let end = self.unread.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let block = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8(block).expect("a head is text"));
            }
            if self.fill(deadline) != Fill::Bytes {
                return None;
            }
        }
    }

    fn take_body(&mut self, response: &Response, deadline: Instant) -> Option<Vec<u8>> {
        if let Some(length) = response.header("content-length") {
            return self.take(length.parse().expect("content-length is a number"), deadline);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            return self.take_chunks(deadline);
        }
        while self.fill(deadline) == Fill::Bytes {}
        Some(std::mem::take(&mut self.unread))
    }

    fn take_chunks(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.take_line(deadline)?;
            let size = usize::from_str_radix(&size, 16).expect("a chunk starts with its size");
            let chunk = self.take(size + 2, deadline)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }

    fn take_line(&mut self, deadline: Instant) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.take(1, deadline)?);
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8(line).expect("a chunk's size is text"))
    }

    fn fill(&mut self, deadline: Instant) -> Fill {
        let mut chunk = [0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Fill::Late;
            }
            self.stream.set_read_timeout(Some(left)).expect("the timeout is not zero");
            match self.stream.read(&mut chunk) {
                Ok(0) => return Fill::End,
                Ok(count) => {
                    self.unread.extend_from_slice(&chunk[..count]);
                    return Fill::Bytes;
                }
                Err(error) if is_end(error.kind()) => return Fill::End,
                // The kernel may wake this thread a little early; the check of the deadline above
                // decides.
                Err(error) if is_pause(error.kind()) => {}
                Err(error) => panic!("reading from the node: {error}"),
            }
        }
    }
}

impl Response {
    /// Returns the first header of this name, which must be in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the values of all headers of this name, which must be in lower case.
    pub(crate) fn headers<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        let found = self.headers.iter().filter(move |(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body {:?}", self.text()))
    }

    fn parse(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no HTTP/1.1 status line: {status_line:?}"));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, headers: headers.collect(), body: Vec::new() }
    }
}

/// Returns a request with a body of known length. `head` holds the request line and the headers.
pub(crate) fn request(head: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = head.join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\nHost: node\r\n");
    if !body.is_empty() || head[0].starts_with("POST") || head[0].starts_with("PUT") {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request on a connection of its own and returns the answer.
pub(crate) fn call(addr: SocketAddr, head: &[&str], body: impl AsRef<[u8]>) -> Response {
    let mut tcp = Tcp::connect(addr);
    tcp.send(request(head, body));
    tcp.response_to(head[0].split(' ').next().unwrap_or_default())
}

fn is_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}
