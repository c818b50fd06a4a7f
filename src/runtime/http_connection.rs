//! One HTTP connection: reads requests and sends responses, in order and with timeouts. Responses
//! to requests that arrived together are sent together.

mod announcing;
mod body;
mod sealed;
mod sending;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use announcing::{Announcement, HeaderFault};

use super::http_poller::{HttpPoller, Want, Watched};
use super::shared::Shared;
use crate::broker::received::Received;
use crate::codec::http::{HttpError, Request};
use crate::codec::tls::Tls;
use crate::config;
use crate::interface::caller::{Caller, Entry};
use crate::interface::throttle::Held;
use crate::limits::{SPARE_IDLE_MS, SPARE_REQUEST_MS};
use crate::message::{Millis, Peer};
use crate::metrics::Counters;

/// How many bytes one read asks for. The thread has one such buffer, and a connection has it only
/// while its requests are handled.
const READ_BYTES: usize = 16 * 1024;
/// How many bytes a client may send ahead while its request is being answered. After that the
/// connection is not read until the response is sent.
const AHEAD_BYTES_MAX: usize = 64 * 1024;
/// How many buffers of responses the thread keeps, and the longest of them.
const OUTPUTS_SPARE_MAX: usize = 64;
const OUTPUT_SPARE_BYTES_MAX: usize = 8 * 1024;

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
    /// The buffer that the next connection with TLS reads into.
    received: RefCell<Vec<u8>>,
    /// The buffers that the next connection reads into, and has a short body in.
    input: RefCell<Vec<u8>>,
    body: RefCell<Vec<u8>>,
    /// Buffers for responses: at most [`OUTPUTS_SPARE_MAX`] of [`OUTPUT_SPARE_BYTES_MAX`].
    outputs: RefCell<Vec<Vec<u8>>>,
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
            received: RefCell::default(),
            input: RefCell::default(),
            body: RefCell::default(),
            outputs: RefCell::default(),
        })
    }

    /// Takes back the buffer of a short body.
    pub(super) fn take_back(&self, body: Received) {
        if let Received::Short(bytes) = body {
            self.body.replace(bytes);
        }
    }

    /// Keeps the buffer of responses that were sent for later ones, unless it is long or enough are
    /// kept.
    fn spare_output(&self, mut output: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if output.capacity() <= OUTPUT_SPARE_BYTES_MAX && outputs.len() < OUTPUTS_SPARE_MAX {
            output.clear();
            outputs.push(output);
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
    /// Whether its client has sent nothing so far.
    is_silent: bool,
    /// Which limit of connections this one is beyond, and what it counts at its address.
    excess: Option<Excess>,
    counted: Option<Held>,
    /// The other end, and the client of the present request.
    peer: Peer,
    caller: Caller,
    entry: Entry,
    announcement: Announcement,
    /// Bytes that were read. Those before `at` are decoded.
    input: Vec<u8>,
    at: usize,
    /// Responses that are still to be sent, behind `sent` bytes that were. With TLS, the first
    /// `sealed` bytes are records.
    output: Vec<u8>,
    sent: usize,
    sealed: usize,
    /// `None` if the client's bytes are not encrypted.
    tls: Option<Box<Tls>>,
    /// Bytes of the buffer that holds the body of the current request.
    body_bytes: usize,
    /// Bytes that this connection holds, as counted in [`HttpTerms::held`].
    held: usize,
    /// When the head that has begun must be complete; 0 if none has begun.
    head_due: Millis,
    terms: Rc<HttpTerms>,
}

/// A limit of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Excess {
    /// That of the node.
    Node,
    /// That of the client's address.
    Address,
    /// That of the TLS handshakes of the client's address.
    Handshakes,
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
    /// The connection does not begin with a PROXY header as it should, or begins with one as it
    /// should not.
    Header(HeaderFault),
    /// The connection cannot be encrypted. An alert that says so may be still to be sent.
    Sealed,
    /// The same, because the client's certificate is not valid here.
    Uncertified,
    /// The client's address begins too many TLS handshakes. An alert is still to be sent.
    Handshakes,
}

impl HttpConnection {
    /// Creates the connection of a socket that was just accepted. `is_spare` says whether its
    /// descriptor is one of those that are kept back.
    pub(super) fn begin(
        (socket, tls): (OwnedFd, Option<Box<Tls>>),
        peer: Peer,
        is_spare: bool,
        terms: Rc<HttpTerms>,
    ) -> Box<Self> {
        let slot = terms.poller.enter();
        let connection = Box::new(Self {
            socket: Some(socket),
            slot,
            is_spare,
            is_silent: true,
            excess: None,
            counted: None,
            peer,
            caller: peer.into(),
            entry: Entry::default(),
            announcement: Announcement::None,
            input: Vec::new(),
            at: 0,
            output: Vec::new(),
            sent: 0,
            sealed: 0,
            tls,
            body_bytes: 0,
            held: 0,
            head_due: 0,
            terms,
        });
        connection.terms.counters.http_connections.add(1);
        connection
    }

    /// Returns whether the connection may serve one short request only, because its descriptor is
    /// one of those that are kept back.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// Notes that the connection is beyond a limit of connections.
    pub(super) fn exceed(&mut self, limit: Excess) {
        self.excess = Some(limit);
    }

    /// Returns which limit of connections this one is beyond.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Lets the connection count at its client's address.
    pub(super) fn count(&mut self, held: Option<Held>) {
        self.counted = held;
    }

    /// Returns what the connection counts at its client's address, for where its socket goes.
    pub(super) fn take_counted(&mut self) -> Option<Held> {
        self.counted.take()
    }

    /// Returns whether the connection ends after one short request.
    pub(super) fn is_brief(&self) -> bool {
        self.is_spare || self.excess.is_some()
    }

    /// Notes what the connection's listener serves.
    pub(super) fn enter(&mut self, entry: Entry) {
        self.entry = entry;
    }

    /// Returns the other end, or the client that a PROXY header has named.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Returns the client of the request that was last read.
    pub(super) fn caller(&self) -> Caller {
        let is_certified = self.tls.as_ref().is_some_and(|tls| tls.has_certificate());
        Caller { entry: Entry { is_certified, ..self.entry }, ..self.caller }
    }

    /// Returns why a wait for the next request ends at its deadline.
    pub(super) fn lateness(&mut self) -> End {
        self.lateness_of_header().unwrap_or(End::Slow(!self.unread().is_empty()))
    }

    /// Lets the connection wait for the rest of a request, or for the next one, without a task and
    /// a buffer.
    pub(super) fn park(mut self: Box<Self>) {
        if self.has_ended() {
            return self.say_end();
        }
        let now = self.terms.shared.clock.monotonic();
        let has_begun = self.has_begun() || self.is_handshaking() || self.is_beginning();
        let is_idle = !has_begun || (self.is_brief() && self.is_silent);
        let due = if is_idle {
            now + self.times().idle_timeout_ms
        } else {
            if self.head_due == 0 {
                self.head_due = now + self.times().head_timeout_ms;
            }
            self.head_due
        };
        self.spare_input();
        self.hold(self.input.capacity() + self.sealed_bytes());
        let terms = self.terms.clone();
        if let Err(error) = terms.poller.park(self, due) {
            tracing::warn!(%error, "a socket cannot be watched and is closed");
        }
    }

    /// Waits until the socket is ready. Returns false at `due`, or if it cannot be watched.
    async fn is_ready(&self, want: Want, due: Option<Millis>) -> bool {
        let poller = &self.terms.poller;
        poller.watch(self.slot, self.socket()).is_ok() && poller.wait(self.slot, want, due).await
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

    /// Resolves when the client sends something or leaves while its request is being answered.
    /// Never resolves if the client has sent [`AHEAD_BYTES_MAX`] bytes ahead, or if its socket
    /// cannot be watched. The future may be dropped at any time.
    pub(super) async fn sends_ahead(&self) {
        let is_read = self.unread().len() < AHEAD_BYTES_MAX;
        if !is_read || !self.is_ready(Want::Read, None).await {
            std::future::pending::<()>().await;
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
                self.socket().try_clone()
            }
        }
    }

    /// Puts back a descriptor that [`HttpConnection::descriptor`] has returned.
    pub(super) fn put_back(&mut self, socket: OwnedFd) {
        self.socket.get_or_insert(socket);
    }

    /// Ends the connection, whose socket leaves HTTP. Returns the bytes that were read after the
    /// last request, and the state of its encryption.
    pub(super) fn into_leftover(mut self, socket: &OwnedFd) -> (Vec<u8>, Option<Box<Tls>>) {
        self.terms.poller.remove(self.slot, socket);
        // A buffer of its own, so that what moves to another thread is small.
        let leftover = self.unread().to_vec();
        self.at = self.input.len();
        self.spare_input();
        (leftover, self.tls.take())
    }

    /// Reads once, if there is something to read. Returns false if there is not.
    pub(super) fn fill(&mut self) -> Result<bool, End> {
        if self.is_beginning() && !self.read_header()? {
            return Ok(false);
        }
        let begins = self.unread().is_empty();
        if begins {
            self.spare_input();
            self.input = self.terms.input.take();
        } else {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.reserve(READ_BYTES);
        // A request may begin whatever is free. Should its first bytes be all of it, it holds
        // memory only while it is answered, so that health probes get through when others hold all.
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
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Result<usize, End> {
        if self.tls.is_some() {
            return self.receive_sealed(buffer);
        }
        loop {
            match recv(self.socket(), spare_capacity(buffer), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(End::HalfClosed),
                Ok((_, length)) => {
                    self.is_silent = false;
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
    /// [`End::NoMemory`] if too little memory is free.
    pub(super) fn may_begin(&self) -> Result<(), End> {
        let memory = &self.terms.shared.interfaces.broker.memory;
        let fits = !self.has_begun() || self.unread().len() <= memory.request_max();
        fits.then_some(()).ok_or(End::NoMemory)
    }

    /// Returns whether the client has begun a request that is not complete.
    pub(super) fn has_begun(&self) -> bool {
        !self.unread().is_empty()
    }

    fn socket(&self) -> &OwnedFd {
        self.socket.as_ref().expect("it is taken only when the connection ends")
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
        if self.is_brief() {
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
        (**self).socket().as_fd()
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
