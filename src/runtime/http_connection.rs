//! One HTTP connection: reads requests and sends responses, in order and with timeouts. Responses
//! to requests that arrived together are sent together.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::http_poller::{HttpPoller, Want, Watched};
use super::shared::Shared;
use crate::broker::received::Received;
use crate::codec::http::{BodyDecoder, BodyKind, Date, HttpError, Request, Response, continue_100};
use crate::config;
use crate::limits::{
    CLOSE_LINGER_MS, HTTP_BODY_BYTES_MAX, HTTP_RESPONSES_BYTES_MAX, LOOK_MS,
    SHARED_PAYLOAD_BYTES_MIN, SPARE_IDLE_MS, SPARE_REQUEST_MS,
};
use crate::message::Millis;
use crate::metrics::Counters;

/// How many bytes one read asks for. The thread has one such buffer, and a connection has it only
/// while its requests are handled.
const READ_BYTES: usize = 16 * 1024;
/// How many bytes a client may send ahead while its request is being answered. After that the
/// connection is not read until the response is sent.
const AHEAD_BYTES_MAX: usize = 64 * 1024;
/// How many bytes of a body's buffer are taken before as many have arrived.
const BODY_STEP_BYTES: usize = 64 * 1024;

/// What all HTTP connections of an acceptor share.
#[derive(Debug)]
pub(super) struct HttpTerms {
    shared: Arc<Shared>,
    pub(super) poller: HttpPoller<Box<HttpConnection>>,
    /// The timeouts of connections whose descriptors are kept back.
    spare_times: config::Http,
    counters: Arc<Counters>,
    /// Bytes of requests that the acceptor's connections hold.
    held: Cell<usize>,
    /// Bytes of requests that they may hold without asking for more.
    granted: Cell<usize>,
    /// The buffers that the next connection reads into, writes into, and has a short body in.
    input: RefCell<Vec<u8>>,
    output: RefCell<Vec<u8>>,
    body: RefCell<Vec<u8>>,
}

impl HttpTerms {
    /// Creates the terms of an acceptor.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub(super) fn new(shared: Arc<Shared>, counters: Arc<Counters>) -> io::Result<Self> {
        let spare_times = shortened(&shared.interfaces.config.http);
        Ok(Self {
            shared,
            poller: HttpPoller::new()?,
            spare_times,
            counters,
            held: Cell::new(0),
            granted: Cell::new(0),
            input: RefCell::default(),
            output: RefCell::default(),
            body: RefCell::default(),
        })
    }

    /// Takes back the buffer of a short body.
    pub(super) fn take_back(&self, body: Received) {
        if let Received::Short(bytes) = body {
            self.body.replace(bytes);
        }
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
    /// `None` once the socket has left HTTP.
    socket: Option<OwnedFd>,
    /// The number of its entry in the poller.
    slot: u32,
    /// Whether its descriptor is one of those that are kept back.
    is_spare: bool,
    /// Bytes that were read. Those before `at` are decoded.
    input: Vec<u8>,
    at: usize,
    /// Responses that are still to be sent.
    output: Vec<u8>,
    /// Bytes of the buffer that holds the body of the current request.
    body_bytes: usize,
    /// Bytes that this connection holds, as counted in [`HttpTerms::held`].
    held: usize,
    /// When the head that has begun must be complete; 0 if none has begun.
    head_due: Millis,
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
    /// Creates the connection of a socket that was just accepted, and lets it wait for its first
    /// request. `is_spare` says whether its descriptor is one of those that are kept back.
    ///
    /// # Errors
    /// If the kernel has no memory to watch the socket.
    pub(super) fn begin(socket: OwnedFd, is_spare: bool, terms: Rc<HttpTerms>) -> io::Result<()> {
        let slot = terms.poller.add(&socket)?;
        let connection = Box::new(Self {
            socket: Some(socket),
            slot,
            is_spare,
            input: Vec::new(),
            at: 0,
            output: Vec::new(),
            body_bytes: 0,
            held: 0,
            head_due: 0,
            terms,
        });
        connection.terms.counters.http_connections.add(1);
        connection.park();
        Ok(())
    }

    /// Returns whether the connection may serve one short request only, because its descriptor is
    /// one of those that are kept back.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// Returns why a wait for the next request ends at its deadline.
    pub(super) fn lateness(&self) -> End {
        End::Slow(!self.unread().is_empty())
    }

    /// Lets the connection wait for the rest of a request, or for the next one, without a task and
    /// a buffer.
    pub(super) fn park(mut self: Box<Self>) {
        let now = self.terms.shared.clock.monotonic();
        let due = if self.unread().is_empty() {
            now + self.times().idle_timeout_ms
        } else {
            if self.head_due == 0 {
                self.head_due = now + self.times().head_timeout_ms;
            }
            self.head_due
        };
        self.spare_input();
        self.hold(self.input.capacity());
        let terms = self.terms.clone();
        terms.poller.park(self, due);
    }

    /// Parses the head of the next request into `request`. Returns false if it is incomplete.
    pub(super) fn head(&mut self, request: &mut Request) -> Result<bool, End> {
        if self.unread().is_empty() {
            return Ok(false);
        }
        let length = request.read_head(&self.input[self.at..]).map_err(End::Broken)?;
        self.at += length.unwrap_or(0);
        if length.is_some() {
            self.head_due = 0;
        }
        Ok(length.is_some())
    }

    /// Returns whether a request's body has arrived with its head. A chunked body counts as one
    /// that has not.
    pub(super) fn has_body(&self, request: &Request) -> bool {
        match request.body {
            BodyKind::None => true,
            BodyKind::Sized(bytes) => self.unread().len() as u64 >= bytes,
            BodyKind::Chunked => false,
        }
    }

    /// Reads a request's body. Short bodies have a buffer that [`HttpTerms::take_back`] takes back.
    pub(super) async fn body(&mut self, request: &Request) -> Result<Received, End> {
        let decoder = BodyDecoder::new(request.body, HTTP_BODY_BYTES_MAX).map_err(End::Broken)?;
        if !self.has_body(request) {
            self.body_bytes = 0;
            if request.expects_continue && self.unread().is_empty() {
                self.output.extend_from_slice(continue_100());
            }
            // The client may wait for the responses before it sends the rest.
            self.flush().await?;
            let due = self.terms.shared.clock.monotonic() + self.times().body_timeout_ms;
            let body = match request.body {
                BodyKind::Sized(bytes) => self.rest(bytes, due).await,
                BodyKind::Chunked | BodyKind::None => self.chunks(decoder, due).await,
            };
            return Ok(Received::whole(Bytes::from(body?)));
        }
        let length = match request.body {
            // The decoder has checked that it is at most HTTP_BODY_BYTES_MAX.
            BodyKind::Sized(bytes) => usize::try_from(bytes).unwrap_or(0),
            BodyKind::Chunked | BodyKind::None => 0,
        };
        let bytes = &self.input[self.at..self.at + length];
        self.at += length;
        if length >= SHARED_PAYLOAD_BYTES_MIN {
            return Ok(Received::whole(Bytes::copy_from_slice(bytes)));
        }
        let mut body = self.terms.body.take();
        body.clear();
        body.extend_from_slice(bytes);
        Ok(Received::Short(body))
    }

    /// Reads a body of so many bytes of which a part is missing, into a buffer of exactly its size.
    async fn rest(&mut self, bytes: u64, due: Millis) -> Result<Vec<u8>, End> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        body.reserve_exact(length.min(self.unread().len().max(BODY_STEP_BYTES)));
        body.extend_from_slice(self.unread());
        self.at = self.input.len();
        self.spare_input();
        while body.len() < length {
            if body.len() == body.capacity() {
                let more = body.len().max(BODY_STEP_BYTES).min(length - body.len());
                body.reserve_exact(more);
            }
            self.body_bytes = body.capacity();
            if !self.hold(self.input.capacity() + READ_BYTES + self.body_bytes) {
                return Err(End::NoMemory);
            }
            self.terms.poller.begin(self.slot, Want::Read);
            if self.receive(&mut body).map_err(cut)? == 0 {
                self.await_bytes(due).await?;
            }
        }
        // More may be there: the next request.
        self.terms.poller.note_unread(self.slot);
        Ok(body)
    }

    /// Reads a body that comes in chunks.
    async fn chunks(&mut self, mut decoder: BodyDecoder, due: Millis) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            self.at += decoder.feed(&self.input[self.at..], &mut body).map_err(End::Broken)?;
            if decoder.is_done() {
                body.shrink_to_fit();
                return Ok(body);
            }
            self.body_bytes = body.capacity();
            if !self.fill().map_err(cut)? {
                self.await_bytes(due).await?;
            }
        }
    }

    async fn await_bytes(&mut self, due: Millis) -> Result<(), End> {
        match self.terms.poller.wait(self.slot, Want::Read, Some(due)).await {
            true => Ok(()),
            false => Err(End::Slow(true)),
        }
    }

    /// Appends a response to those that are to be sent, without its body if `head_only`. Sends them
    /// if they are many.
    pub(super) async fn respond(
        &mut self,
        response: &Response,
        date: Date,
        keep_alive: bool,
        head_only: bool,
    ) -> Result<(), End> {
        if self.output.capacity() == 0 {
            self.output = self.terms.output.take();
        }
        response.write(&mut self.output, date, keep_alive, head_only);
        self.body_bytes = 0;
        if self.output.len() < HTTP_RESPONSES_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    /// Sends the responses that are still to be sent.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let (mut sent, mut due) = (0, None);
        while sent < self.output.len() {
            self.terms.poller.begin(self.slot, Want::Write);
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(self.socket(), &self.output[sent..], flags) {
                Ok(length) => {
                    sent += length;
                    self.terms.counters.http_bytes_sent.add(length as u64);
                }
                Err(Errno::AGAIN) => {
                    let patience = self.times().write_timeout_ms;
                    let now = || self.terms.shared.clock.monotonic();
                    let due = *due.get_or_insert_with(|| now() + patience);
                    if !self.is_taken(due).await {
                        self.terms.counters.http_timeouts.add(1);
                        return Err(End::Slow(false));
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(End::Gone),
            }
        }
        self.output.clear();
        if self.output.capacity() <= 2 * HTTP_RESPONSES_BYTES_MAX {
            self.terms.output.replace(std::mem::take(&mut self.output));
        } else {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Waits until the client takes something of a response. Returns false if it takes nothing until
    /// `due`, or for [`LOOK_MS`] while memory is short.
    async fn is_taken(&self, due: Millis) -> bool {
        loop {
            let look = due.min(self.terms.shared.clock.monotonic() + LOOK_MS);
            if self.terms.poller.wait(self.slot, Want::Write, Some(look)).await {
                return true;
            }
            if look == due || self.terms.shared.interfaces.broker.memory.is_short() {
                return false;
            }
        }
    }

    /// Resolves when the client sends something or leaves while its request is being answered.
    /// Never resolves if the client has sent [`AHEAD_BYTES_MAX`] bytes ahead. The future may be
    /// dropped at any time.
    pub(super) async fn sends_ahead(&self) {
        if self.unread().len() >= AHEAD_BYTES_MAX {
            std::future::pending::<()>().await;
        }
        self.terms.poller.wait(self.slot, Want::Read, None).await;
    }

    /// Closes the connection after the last response. Waits [`CLOSE_LINGER_MS`] at most for the
    /// client to close as well, so that a reset does not destroy the response.
    pub(super) async fn finish(mut self: Box<Self>) {
        let _ = shutdown(self.socket(), Shutdown::Write);
        let due = self.terms.shared.clock.monotonic() + CLOSE_LINGER_MS;
        loop {
            self.at = self.input.len();
            self.spare_input();
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    if self.await_bytes(due).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Returns a descriptor with which the socket can leave HTTP: the connection's own, or one that
    /// is made now if that is one of those that are kept back.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub(super) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        match self.socket.take() {
            Some(socket) if !self.is_spare => Ok(socket),
            socket => {
                self.socket = socket;
                self.socket().try_clone_to_owned()
            }
        }
    }

    /// Puts back a descriptor that [`HttpConnection::descriptor`] has returned.
    pub(super) fn put_back(&mut self, socket: OwnedFd) {
        self.socket.get_or_insert(socket);
    }

    /// Ends the connection, whose socket leaves HTTP. Returns the bytes that were read after the
    /// last request.
    pub(super) fn into_leftover(mut self, socket: &OwnedFd) -> Vec<u8> {
        self.terms.poller.remove(socket);
        // A buffer of its own, so that what moves to another thread is small.
        let leftover = self.unread().to_vec();
        self.at = self.input.len();
        self.spare_input();
        leftover
    }

    /// Reads once, if there is something to read. Returns false if there is not.
    pub(super) fn fill(&mut self) -> Result<bool, End> {
        let begins = self.unread().is_empty();
        if begins {
            self.spare_input();
            self.input = self.terms.input.take();
        } else {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.reserve(READ_BYTES);
        // A request may begin whatever is free. Should its first bytes be all of it, it holds memory
        // only while it is answered, so that health probes get through when others hold all.
        let is_first = begins && self.body_bytes == 0;
        if !self.hold(self.input.capacity() + self.body_bytes) && !is_first {
            return Err(End::NoMemory);
        }
        self.terms.poller.begin(self.slot, Want::Read);
        let mut input = std::mem::take(&mut self.input);
        let received = self.receive(&mut input);
        let is_full = input.len() == input.capacity();
        self.input = input;
        if is_full || self.terms.poller.has_ended(self.slot) {
            self.terms.poller.note_unread(self.slot);
        }
        received.map(|length| length > 0)
    }

    /// Reads once into the spare capacity of `buffer`. Returns how many bytes; 0 if there are none.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<usize, End> {
        loop {
            match recv(self.socket(), spare_capacity(buffer), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(End::HalfClosed),
                Ok((_, length)) => {
                    self.terms.counters.http_bytes_received.add(length as u64);
                    return Ok(length);
                }
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(_) => return Err(End::Gone),
            }
        }
    }

    /// Checks that there is memory for a request that has begun and is not complete.
    ///
    /// # Errors
    /// [`End::NoMemory`] if there is none.
    pub(super) fn may_begin(&self) -> Result<(), End> {
        let memory = &self.terms.shared.interfaces.broker.memory;
        let fits = !self.has_begun() || self.unread().len() <= memory.request_max();
        fits.then_some(()).ok_or(End::NoMemory)
    }

    /// Returns whether the client has begun a request that is not complete.
    pub(super) fn has_begun(&self) -> bool {
        !self.unread().is_empty()
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("it is taken only when the connection ends").as_fd()
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.at..]
    }

    /// Gives the buffer of the input back to the thread. Bytes that are not decoded get a small
    /// one.
    fn spare_input(&mut self) {
        let rest = self.unread().to_vec();
        let mut spare = std::mem::replace(&mut self.input, rest);
        self.at = 0;
        if spare.capacity() >= READ_BYTES && spare.capacity() < 2 * READ_BYTES {
            spare.clear();
            self.terms.input.replace(spare);
        }
    }

    fn times(&self) -> &config::Http {
        if self.is_spare {
            &self.terms.spare_times
        } else {
            &self.terms.shared.interfaces.config.http
        }
    }

    /// Counts `bytes` as what the connection holds. Returns false if that is more than is free for
    /// requests.
    fn hold(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.held, bytes);
        self.terms.hold(before, bytes)
    }
}

impl Watched for Box<HttpConnection> {
    fn slot(&self) -> u32 {
        self.slot
    }

    fn socket(&self) -> BorrowedFd<'_> {
        (**self).socket()
    }
}

/// Converts the end of the client's bytes in the middle of a request into a refusal.
pub(super) fn cut(end: End) -> End {
    match end {
        End::HalfClosed => End::Broken(HttpError::Malformed("it ends before it is complete")),
        end => end,
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.hold(0);
        self.terms.counters.http_connections.sub(1);
        if self.is_spare {
            self.terms.shared.descriptors.end_spare();
        }
        self.terms.poller.forget(self.slot);
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
