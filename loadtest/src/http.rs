//! A minimal HTTP/1.1 client: one keep-alive connection, pipelined requests, and bodies by length
//! or in chunks.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags};

use crate::target::Target;

const HEADERS_MAX: usize = 64;
/// Longest response that is accepted; responses here have a few hundred bytes.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long an answer may take before the server counts as dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's answer, read to its end.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the first 300 characters of the body, for error messages.
    pub(crate) fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }
}

/// Returns a request head including its blank line. `call` is a method and a path, `headers` are
/// one or more lines, and `body_bytes` is the length of the body that follows.
pub(crate) fn head(target: &Target, call: &str, headers: &str, body_bytes: usize) -> String {
    format!(
        "{call} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n\
         Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n",
        target.authority
    )
}

/// Sends one request on a connection of its own and waits for the answer.
pub(crate) fn ask(target: &Target, request: &str) -> Result<Response> {
    ask_within(target, request, ANSWER_TIMEOUT)
}

/// The same, with a time-out for each part of the answer.
pub(crate) fn ask_within(target: &Target, request: &str, timeout: Duration) -> Result<Response> {
    let mut stream = TcpStream::connect(target.address)
        .with_context(|| format!("no server listens at {}", target.authority))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut inbox = Inbox::default();
    loop {
        if let Some(response) = inbox.take()? {
            return Ok(response);
        }
        let more = inbox.fill(&mut stream).context("the server did not answer")?;
        ensure!(more, "the server closed the connection instead of answering");
    }
}

/// A connection for pipelined requests.
pub(crate) struct Pipe {
    stream: TcpStream,
    /// Requests, or the rest of one, that the socket has not accepted yet.
    outbox: Vec<u8>,
    inbox: Inbox,
}

impl Pipe {
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).context("cannot connect to publish")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, outbox: Vec::new(), inbox: Inbox::default() })
    }

    /// Queues a request, or a part of one, for the next `exchange`.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Sends as much as the socket accepts and reads what has arrived. Returns false if the
    /// connection is closed; answers that arrived before can still be taken.
    pub(crate) fn exchange(&mut self) -> Result<bool> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if no_news(&error)? => break,
                Err(_) => return Ok(false),
            }
        }
        self.inbox.fill(&mut self.stream).or_else(|error| match error.downcast_ref() {
            Some(cause) => no_news(cause),
            None => Err(error),
        })
    }

    /// Returns the next answer, or `None` if it is incomplete.
    pub(crate) fn take(&mut self) -> Result<Option<Response>> {
        self.inbox.take()
    }

    /// Returns the readiness that the connection waits for.
    pub(crate) fn poll(&self) -> PollFd<'_> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.outbox.is_empty());
        PollFd::new(&self.stream, interest)
    }
}

/// Classifies the error of a non-blocking call. Returns true if the call can be repeated later, and
/// false if the connection is closed.
fn no_news(error: &std::io::Error) -> Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(true),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(false),
        kind => bail!("the publishing connection failed: {kind}"),
    }
}

/// Bytes received that do not form a complete response yet.
#[derive(Default)]
struct Inbox(Vec<u8>);

impl Inbox {
    /// Reads once. Returns false at the end of the stream. If a non-blocking stream has nothing to
    /// read, that is an error of kind `WouldBlock`.
    fn fill(&mut self, stream: &mut TcpStream) -> Result<bool> {
        let mut scratch = [0; 16 * 1024];
        match stream.read(&mut scratch) {
            Ok(count) => {
                self.0.extend_from_slice(&scratch[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the next response, or `None` if it is incomplete.
    fn take(&mut self) -> Result<Option<Response>> {
        let parsed = read_response(&self.0)?;
        let Some((response, used)) = parsed else {
            ensure!(self.0.len() <= RESPONSE_BYTES_MAX, "a response of more than 4 MiB");
            return Ok(None);
        };
        self.0.drain(..used);
        Ok(Some(response))
    }
}

/// Returns the response at the start of `bytes` and its length, or `None` if it is incomplete.
fn read_response(bytes: &[u8]) -> Result<Option<(Response, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
        return Ok(None);
    };
    let status = head.code.context("a response without a status")?;
    let body = match framing(head.headers)? {
        Framing::Length(length) => {
            let body = bytes[head_bytes..].get(..length);
            body.map(|body| (body.to_vec(), length))
        }
        Framing::Chunked => read_chunks(&bytes[head_bytes..])?,
    };
    Ok(body.map(|(body, body_bytes)| (Response { status, body }, head_bytes + body_bytes)))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing> {
    let value = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| str::from_utf8(header.value).map(str::trim)).transpose()
    };
    if let Some(coding) = value("transfer-encoding")? {
        ensure!(coding.eq_ignore_ascii_case("chunked"), "unknown transfer coding {coding}");
        return Ok(Framing::Chunked);
    }
    // If a body ends with the connection, a truncated one looks complete, so such bodies are
    // errors.
    let length = value("content-length")?.context("a response without a length")?;
    Ok(Framing::Length(length.parse().context("a bad Content-Length")?))
}

fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&bytes[at..]);
        let Ok(size) = size else { bail!("a bad chunk size") };
        let httparse::Status::Complete((line_bytes, size)) = size else {
            return Ok(None);
        };
        ensure!(size <= RESPONSE_BYTES_MAX as u64, "a chunk of {size} bytes");
        let start = at + line_bytes;
        let end = start + usize::try_from(size)?;
        let Some(close) = bytes.get(end..end + 2) else {
            return Ok(None);
        };
        ensure!(close == b"\r\n", "a chunk without its end, or trailers");
        if size == 0 {
            return Ok(Some((body, end + 2)));
        }
        body.extend_from_slice(&bytes[start..end]);
        at = end + 2;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{BufRead, BufReader};

    use serde_json::Value;

    use super::*;

    /// Reads one request and returns its head and its body.
    pub(crate) fn read_whole_request(stream: &mut BufReader<TcpStream>) -> (String, Value) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "cut off: {head}");
        }
        let length = head.split("\r\nContent-Length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox(bytes.to_vec())
    }

    #[test]
    fn pipelined_answers_come_out_one_by_one() {
        let mut inbox = inbox(
            b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}\
              HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\nHTTP/1.1 2",
        );
        let first = inbox.take().unwrap().unwrap();
        assert_eq!((first.status, first.body.as_slice()), (201, b"{}".as_slice()));
        assert_eq!(inbox.take().unwrap().unwrap().status, 503);
        assert_eq!(inbox.take().unwrap(), None);
    }

    #[test]
    fn chunked_bodies_are_put_together_and_wait_when_cut() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      4\r\nab\r\n\r\n2;x=y\r\ncd\r\n0\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(inbox(&whole[..cut]).take().unwrap(), None, "cut at {cut}");
        }
        assert_eq!(inbox(whole).take().unwrap().unwrap().body, b"ab\r\ncd");
    }

    #[test]
    fn answers_that_cannot_be_delimited_are_errors() {
        assert!(inbox(b"HTTP/1.1 200 OK\r\n\r\n").take().is_err());
        assert!(inbox(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").take().is_err());
        assert!(inbox(b"SSH-2.0-thing\r\n\r\n").take().is_err());
    }
}
