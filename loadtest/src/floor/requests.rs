//! A connection that publishes over HTTP: of a request only the end of its head and the length of
//! its body are looked for.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Longest request. The publishers are this program's own.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Answers that one send may hold.
const ANSWERS_MAX: usize = 64;

/// The answer to each publication.
pub(super) struct Answers {
    bytes: Vec<u8>,
    one: usize,
}

/// A publisher's connection.
pub(super) struct Requests {
    stream: TcpStream,
    /// The start of a request that has not arrived whole.
    inbox: Vec<u8>,
    /// Answers, or the rest of one, that the socket has not accepted.
    outbox: Vec<u8>,
}

impl Answers {
    /// Repeats this answer, so that the answers to pipelined requests go out in one send.
    pub(super) fn new(answer: &str) -> Self {
        Self { bytes: answer.repeat(ANSWERS_MAX).into_bytes(), one: answer.len() }
    }
}

impl Requests {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, inbox: Vec::new(), outbox: Vec::new() }
    }

    /// Reads once, hands the body of each whole request to `on_body`, and returns their number. An
    /// error means that the connection is over.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        mut on_body: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let count = match rustix::net::recv(&self.stream, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the publisher has gone"),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let news = &scratch[..count];
        if self.inbox.is_empty() {
            let (requests, used) = each(news, &mut on_body)?;
            self.inbox.extend_from_slice(&news[used..]);
            return Ok(requests);
        }
        self.inbox.extend_from_slice(news);
        let (requests, used) = each(&self.inbox, &mut on_body)?;
        self.inbox.drain(..used);
        ensure!(self.inbox.len() <= REQUEST_BYTES_MAX, "an endless request");
        Ok(requests)
    }

    /// Answers this many requests. Returns false if the socket did not accept everything; then
    /// `flush` must be called when it is writable.
    pub(super) fn answer(&mut self, answers: &Answers, mut count: usize) -> Result<bool> {
        while count > 0 && self.outbox.is_empty() {
            let batch = count.min(ANSWERS_MAX);
            let bytes = &answers.bytes[..batch * answers.one];
            let sent = self.send(bytes)?;
            self.outbox.extend_from_slice(&bytes[sent..]);
            count -= batch;
        }
        let one = &answers.bytes[..answers.one];
        (0..count).for_each(|_| self.outbox.extend_from_slice(one));
        Ok(self.outbox.is_empty())
    }

    /// Sends what was left. Returns false if something still is.
    pub(super) fn flush(&mut self) -> Result<bool> {
        let sent = self.send(&self.outbox)?;
        self.outbox.drain(..sent);
        Ok(self.outbox.is_empty())
    }

    fn send(&self, bytes: &[u8]) -> Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&self.stream, bytes, flags) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Hands the body of each whole request to `on_body`. Returns their number and their length.
fn each(bytes: &[u8], on_body: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<(usize, usize)> {
    let (mut requests, mut used) = (0, 0);
    while let Some((body, length)) = request(&bytes[used..])? {
        on_body(body)?;
        used += length;
        requests += 1;
    }
    Ok((requests, used))
}

/// Returns the body of the request at the start of `bytes` and the request's length; `None` if it is
/// incomplete.
fn request(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    const LENGTH: &[u8] = b"\r\nContent-Length: ";
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end + 2];
    let at = memmem::find(head, LENGTH).context("a request without Content-Length")?;
    let digits = head[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let body_bytes = digits.fold(0_usize, |value, digit| {
        value.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
    });
    ensure!(body_bytes <= REQUEST_BYTES_MAX, "a request of {body_bytes} bytes");
    let start = end + 4;
    let whole = start + body_bytes;
    Ok(bytes.get(start..whole).map(|body| (body, whole)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn post(body: &str) -> String {
        format!("POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn requests_are_told_apart_wherever_a_read_cuts_them() {
        let bytes = [post("one"), post(""), post("three")].concat();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for cut in 0..bytes.len() {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut requests = Requests::new(listener.accept().unwrap().0);
            let mut bodies = Vec::new();
            let mut count = 0;
            for part in [&bytes[..cut], &bytes[cut..]] {
                client.write_all(part.as_bytes()).unwrap();
                let read = requests.read(&mut [0; 4096], |body| {
                    bodies.push(String::from_utf8(body.to_vec())?);
                    Ok(())
                });
                count += read.unwrap();
            }
            assert_eq!((count, bodies.join("|").as_str()), (3, "one||three"), "cut at {cut}");
        }
        assert!(request(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(request(b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n").is_err());
    }

    #[test]
    fn every_request_is_answered_even_if_the_publisher_reads_late() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut requests = Requests::new(listener.accept().unwrap().0);
        let answers = Answers::new(&"a".repeat(1_000));
        let mut done = true;
        let mut owed = 0;
        while done {
            done = requests.answer(&answers, 150).unwrap();
            owed += 150_000;
        }
        assert!(!requests.answer(&answers, 1).unwrap());
        owed += 1_000;
        let mut received = 0;
        let mut scratch = [0; 65_536];
        while received < owed {
            received += client.read(&mut scratch).unwrap();
            done = requests.flush().unwrap();
        }
        assert!(done && received == owed);
    }
}
