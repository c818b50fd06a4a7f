//! One HTTP connection: reads requests and sends responses, in order and with timeouts.

use std::cell::Cell;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use monoio::buf::{IoBuf, Slice};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use monoio::time::{timeout, timeout_at};

use super::shared::Shared;
use crate::codec::http::{
    BodyDecoder, BodyKind, Date, HttpError, Request, Response, continue_100, parse_head,
};
use crate::config;
use crate::limits::{HTTP_BODY_BYTES_MAX, LOOK_MS, SPARE_IDLE_MS, SPARE_REQUEST_MS};
use crate::metrics::Counters;

/// How many bytes one read asks for. The buffer exists only while a request is being read.
const READ_BYTES: usize = 8 * 1024;
/// How many bytes a client may send ahead while its request is being answered. After that the
/// connection is not read until the response is sent.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// What all HTTP connections of an acceptor share.
#[derive(Debug)]
pub(super) struct HttpTerms {
    shared: Arc<Shared>,
    /// The timeouts of connections whose descriptors are kept back.
    spare_times: config::Http,
    counters: Arc<Counters>,
    /// Bytes of requests that the acceptor's connections hold.
    held: Cell<usize>,
    /// Bytes of requests that they may hold without asking for more.
    granted: Cell<usize>,
}

impl HttpTerms {
    /// Creates the terms of an acceptor.
    pub(super) fn new(shared: Arc<Shared>, counters: Arc<Counters>) -> Self {
        let spare_times = shortened(&shared.interfaces.config.http);
        let (held, granted) = (Cell::new(0), Cell::new(0));
        Self { shared, spare_times, counters, held, granted }
    }

    /// Counts that a connection holds `after` bytes instead of `before`. Returns false if a request
    /// may not have so many.
    fn hold(&self, before: usize, after: usize) -> bool {
        let memory = &self.shared.interfaces.broker.memory;
        self.held.set(self.held.get() - before + after);
        self.granted.set(memory.grant_requests(self.granted.get(), self.held.get()));
        after <= before || after <= memory.request_max()
    }
}

/// A client's connection that speaks HTTP.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: TcpStream,
    /// Bytes that were read and not decoded yet.
    input: Vec<u8>,
    /// Bytes of the buffer that holds the body of the current request.
    body_bytes: usize,
    /// Bytes that this connection holds, as counted in [`HttpTerms::held`].
    held: usize,
    /// Whether its descriptor is one of those that are kept back.
    is_spare: bool,
    terms: Rc<HttpTerms>,
}

/// Why a request could not be read, or a response not be sent.
#[derive(Debug)]
pub(super) enum End {
    /// The connection failed, or the client left without a request that could be answered.
    Gone,
    /// The client has closed its sending side. It may still read.
    HalfClosed,
    /// The client was too slow. If true, it has begun a request, which can be answered with 408.
    Slow(bool),
    /// The client broke the rules of HTTP.
    Broken(HttpError),
    /// The requests of all clients hold too much memory for this one to hold more.
    NoMemory,
}

impl HttpConnection {
    /// Creates the connection of a socket that was just accepted. `is_spare` says whether its
    /// descriptor is one of those that are kept back.
    pub(super) fn new(stream: TcpStream, is_spare: bool, terms: Rc<HttpTerms>) -> Self {
        Self { stream, input: Vec::new(), body_bytes: 0, held: 0, is_spare, terms }
    }

    /// Returns whether the connection may serve one short request only, because its descriptor is
    /// one of those that are kept back.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    fn times(&self) -> &config::Http {
        if self.is_spare {
            &self.terms.spare_times
        } else {
            &self.terms.shared.interfaces.config.http
        }
    }

    /// Reads the head of the next request.
    pub(super) async fn head(&mut self) -> Result<Request, End> {
        let mut has_begun = self.input.is_empty();
        if has_begun {
            // Waits without a buffer, so that a connection that is kept alive costs no more than
            // its task.
            let idle = Duration::from_millis(self.times().idle_timeout_ms);
            match timeout(idle, self.stream.readable(false)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => return Err(End::Slow(false)),
            }
        }
        let deadline = Instant::now() + Duration::from_millis(self.times().head_timeout_ms);
        loop {
            if !self.input.is_empty()
                && let Some((request, length)) = parse_head(&self.input).map_err(End::Broken)?
            {
                self.input.drain(..length);
                self.forget_spent_input();
                return Ok(request);
            }
            let read = if mem::take(&mut has_begun) {
                // Its bytes are here already. Should this be all of it, it holds memory only while
                // it is answered, so that health probes get through when other requests hold all.
                self.hold(READ_BYTES);
                in_time(deadline, self.receive()).await
            } else {
                self.read(deadline).await
            };
            read.map_err(|end| match end {
                End::HalfClosed if self.input.is_empty() => End::Gone,
                end => cut(end),
            })?;
        }
    }

    /// Returns whether a request's body has arrived with its head. A chunked body counts as one
    /// that has not.
    pub(super) fn has_body(&self, request: &Request) -> bool {
        match request.body {
            BodyKind::None => true,
            BodyKind::Sized(bytes) => self.input.len() as u64 >= bytes,
            BodyKind::Chunked => false,
        }
    }

    /// Reads a request's body.
    pub(super) async fn body(&mut self, request: &Request) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        if request.body == BodyKind::None {
            return Ok(body);
        }
        let mut decoder =
            BodyDecoder::new(request.body, HTTP_BODY_BYTES_MAX).map_err(End::Broken)?;
        let deadline = Instant::now() + Duration::from_millis(self.times().body_timeout_ms);
        if request.expects_continue && self.input.is_empty() {
            self.write(continue_100().to_vec()).await?;
        }
        loop {
            let taken = decoder.feed(&self.input, &mut body).map_err(End::Broken)?;
            self.input.drain(..taken);
            self.body_bytes = body.capacity();
            if decoder.is_done() {
                self.forget_spent_input();
                return Ok(body);
            }
            self.read(deadline).await.map_err(cut)?;
        }
    }

    /// Sends a response, without its body if `head_only`.
    pub(super) async fn respond(
        &mut self,
        response: &Response,
        date: Date,
        keep_alive: bool,
        head_only: bool,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        response.write(&mut out, date, keep_alive, head_only);
        self.body_bytes = 0;
        self.hold(self.input.capacity());
        let written = self.write(out).await;
        if let Err(End::Slow(_)) = written {
            self.terms.counters.http_timeouts.add(1);
        }
        written
    }

    /// Resolves when the client sends something or leaves while its request is being answered.
    /// Never resolves if the client has sent [`AHEAD_BYTES_MAX`] bytes ahead. The future may be
    /// dropped at any time.
    pub(super) async fn sends_ahead(&self) {
        if self.input.len() >= AHEAD_BYTES_MAX || self.stream.readable(false).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Closes the connection after the last response. Waits
    /// [`CLOSE_LINGER_MS`](crate::limits::CLOSE_LINGER_MS) at most for the client to close as well,
    /// so that a reset does not destroy the response.
    pub(super) async fn finish(mut self) {
        let linger = Duration::from_millis(crate::limits::CLOSE_LINGER_MS);
        let _ = timeout(linger, async {
            let _ = self.stream.shutdown().await;
            while self.fill().await.is_ok() {
                self.input.clear();
            }
        })
        .await;
    }

    /// Returns a descriptor of the socket that monoio does not know.
    ///
    /// It is a duplicate, because an operation that was abandoned may still be in flight. Until the
    /// kernel has cancelled that operation, it holds monoio's descriptor open, and monoio does not
    /// give the descriptor away. Monoio closes it when the last operation has ended.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: `self` owns the descriptor, and the borrow ends with the function.
        #[allow(unsafe_code, reason = "the runtime's stream lends its descriptor as a number only")]
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        borrowed.try_clone_to_owned()
    }

    /// Closes this descriptor of the socket. Returns the bytes that were read after the last
    /// request.
    pub(super) fn into_leftover(mut self) -> Vec<u8> {
        // The buffer is shrunk here, by the thread that allocated it, so that what moves to another
        // thread is small.
        self.input.shrink_to_fit();
        mem::take(&mut self.input)
    }

    async fn read(&mut self, deadline: Instant) -> Result<(), End> {
        in_time(deadline, self.fill()).await
    }

    /// Reads once. The future must not be dropped before it completes, because the bytes that it
    /// has read would be lost.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        if !self.hold(self.input.capacity() + READ_BYTES + self.body_bytes) {
            return Err(End::NoMemory);
        }
        self.receive().await
    }

    /// Reads once, whether or not there is memory.
    async fn receive(&mut self) -> Result<(), End> {
        let (read, buffer) = self.stream.read(Vec::with_capacity(READ_BYTES)).await;
        self.terms
            .counters
            .http_bytes_received
            .add(read.as_ref().map_or(0, |length| *length as u64));
        match read {
            Ok(0) => Err(End::HalfClosed),
            Err(_) => Err(End::Gone),
            Ok(_) if self.input.is_empty() => {
                self.input = buffer;
                Ok(())
            }
            Ok(_) => {
                self.input.extend_from_slice(&buffer);
                Ok(())
            }
        }
    }

    async fn write(&mut self, mut bytes: Vec<u8>) -> Result<(), End> {
        let mut now = Instant::now();
        let end = now + Duration::from_millis(self.times().write_timeout_ms);
        let mut sent = 0;
        loop {
            let (length, part) = self.write_part(bytes.slice(sent..), now, end).await?;
            self.terms.counters.http_bytes_sent.add(length as u64);
            sent += length;
            bytes = part;
            if sent == bytes.len() {
                return Ok(());
            }
            now = Instant::now();
        }
    }

    /// Sends as much of `part` as the kernel takes at once. Returns how many bytes that is, and the
    /// whole buffer. Gives up at `end`, or if the client takes nothing for [`LOOK_MS`] after `now`
    /// while memory is short.
    async fn write_part(
        &mut self,
        part: Slice<Vec<u8>>,
        now: Instant,
        end: Instant,
    ) -> Result<(usize, Vec<u8>), End> {
        let memory = &self.terms.shared.interfaces.broker.memory;
        let mut writing = pin!(self.stream.write(part));
        let mut look = now;
        loop {
            look = end.min(look + Duration::from_millis(LOOK_MS));
            match timeout_at(look.into(), &mut writing).await {
                Ok((Ok(length), part)) if length > 0 => return Ok((length, part.into_inner())),
                Ok((Err(error), part)) if error.kind() == io::ErrorKind::Interrupted => {
                    return Ok((0, part.into_inner()));
                }
                Ok(_) => return Err(End::Gone),
                Err(_) if look == end || memory.is_short() => return Err(End::Slow(false)),
                Err(_) => {}
            }
        }
    }

    /// Counts `bytes` as what the connection holds. Returns false if that is more than is free for
    /// requests.
    fn hold(&mut self, bytes: usize) -> bool {
        let before = mem::replace(&mut self.held, bytes);
        self.terms.hold(before, bytes)
    }

    /// Frees the read buffer if all of it was decoded, so that a connection holds none while it
    /// waits for an answer or for the next request.
    fn forget_spent_input(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
            self.hold(self.body_bytes);
        }
    }
}

/// Returns what `read` returns, or that the client was too slow if that is not before `deadline`.
async fn in_time(
    deadline: Instant,
    read: impl Future<Output = Result<(), End>>,
) -> Result<(), End> {
    timeout_at(deadline.into(), read).await.unwrap_or(Err(End::Slow(true)))
}

/// Converts the end of the client's bytes in the middle of a request into a refusal.
fn cut(end: End) -> End {
    match end {
        End::HalfClosed => End::Broken(HttpError::Malformed("it ends before it is complete")),
        end => end,
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// Returns the timeouts of a connection whose descriptor is one of those that are kept back.
fn shortened(times: &config::Http) -> config::Http {
    config::Http {
        head_timeout_ms: times.head_timeout_ms.min(SPARE_REQUEST_MS),
        body_timeout_ms: times.body_timeout_ms.min(SPARE_REQUEST_MS),
        idle_timeout_ms: times.idle_timeout_ms.min(SPARE_IDLE_MS),
        write_timeout_ms: times.write_timeout_ms.min(SPARE_REQUEST_MS),
    }
}
