//! The acceptor role: accepts connections, serves HTTP on them, and hands over those that leave
//! HTTP. It runs on threads of its own or inside the workers' threads. In both cases it reaches
//! workers only through mailboxes.
//!
//! This file is the state that the connections of one acceptor share.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::StdRng;

use super::answers::Answers;
use super::arrivals::Arrivals;
use super::health::Findings;
use super::http_connection::{End, Excess, HttpConnection, HttpTerms};
use super::listener::Awaited;
use super::responses::refuse;
use super::shared::Shared;
use super::transmit::Backend;
use crate::codec::http::{Date, Dates, HttpError, Request, Response};
use crate::codec::json::Scratch;
use crate::codec::tls::{Tls, TlsError};
use crate::interface::authenticators::Authenticators;
use crate::interface::caller::{Caller, Entry};
use crate::interface::http::{HttpContext, complete};
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::mailbox::{AcceptorId, Tickets};
use crate::message::{Millis, Now, Peer};
use crate::metrics::Counters;

/// The state that the connections of one acceptor share.
#[derive(Debug)]
pub struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) arrivals: Arc<Arrivals>,
    auth: RefCell<Authenticators>,
    /// Buffers for decoding JSON.
    json: RefCell<Scratch>,
    random: RefCell<StdRng>,
    dates: Dates,
    pub(super) counters: Arc<Counters>,
    pub(super) tickets: Tickets,
    pub(super) findings: Findings,
    /// Memory that the next request is parsed into, and that the body of its response is written
    /// into.
    pub(super) request: RefCell<Request>,
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) terms: Rc<HttpTerms>,
    pub(super) answers: Answers,
}

impl Acceptor {
    /// Creates an acceptor without connections. Must be called on the acceptor's own thread.
    ///
    /// # Errors
    /// If the process has no descriptors left, or the kernel has no memory for a ring.
    pub fn new(
        id: AcceptorId,
        (shared, arrivals): (Arc<Shared>, Arc<Arrivals>),
        (auth, random): (Authenticators, StdRng),
        counters: Arc<Counters>,
        backend: &Backend,
    ) -> io::Result<Self> {
        let terms = Rc::new(HttpTerms::new(shared.clone(), counters.clone())?);
        Ok(Self {
            answers: Answers::new(backend.transmitter()?, terms.clone()),
            terms,
            tickets: Tickets::new(
                id,
                shared.interfaces.broker.mailboxes.acceptors[usize::from(id.0)].clone(),
            ),
            shared,
            arrivals,
            auth: RefCell::new(auth),
            json: RefCell::default(),
            random: RefCell::new(random),
            dates: Dates::default(),
            counters,
            findings: Findings::default(),
            request: RefCell::default(),
            buffer: RefCell::default(),
        })
    }

    /// Returns what a handler of this client's request may use, with the present time.
    pub(super) fn context(&self, caller: Caller) -> HttpContext<'_> {
        self.context_at(self.shared.clock.now(), caller)
    }

    /// Returns what a handler of this client's request may use, with a time that was read before.
    /// Takes new keys if there are any.
    pub(super) fn context_at(&self, now: Now, caller: Caller) -> HttpContext<'_> {
        self.auth.borrow_mut().refresh();
        HttpContext {
            now,
            is_stopping: self.is_stopping(),
            caller,
            shared: &self.shared.interfaces,
            auth: &self.auth,
            json: &self.json,
            random: &self.random,
            tickets: &self.tickets,
            buffer: &self.buffer,
            counters: &self.counters,
        }
    }

    /// Adds the headers of a response that depend on its request.
    pub(super) fn complete(&self, response: Response, request: &Request) -> Response {
        complete(response, request, self.auth.borrow().origins.as_deref())
    }

    /// Notes in the log that a body was too long, or that a connection from this address began
    /// otherwise than it should.
    pub(super) fn note(&self, end: &End, peer: Peer) {
        let now = self.shared.clock.monotonic();
        let refusals = &mut self.auth.borrow_mut().refusals;
        match end {
            End::Broken(HttpError::BodyTooLong) => {
                refusals.note("http", "a request body is longer than allowed", now);
            }
            End::Handshakes => {
                refusals.note_from(peer, "http", "the address begins too many TLS handshakes", now);
            }
            End::Uncertified => {
                refusals.note_from(peer, "http", "the client's certificate is not valid here", now);
            }
            End::Header(fault) => refusals.note_from(peer, "http", fault.why(), now),
            _ => {}
        }
    }

    /// Returns the date of a response that is sent now.
    pub(super) fn date(&self) -> Date {
        self.dates.at(self.shared.clock.coarse_seconds())
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.shutdown.get().is_some()
    }

    /// Checks whether one more connection may be accepted at the moment.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn check_place(&self) -> io::Result<()> {
        let why = if self.counters.http_connections.get() >= HTTP_CONNECTIONS_MAX as u64 {
            "an acceptor has as many HTTP connections as it may"
        } else if !self.shared.descriptors.has_spare() {
            "all descriptors are in use but those that are kept back"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, why))
    }

    /// Begins a connection that was accepted on this listener.
    ///
    /// # Errors
    /// If it cannot be encrypted under the listener's terms.
    pub(super) fn begin(
        &self,
        socket: OwnedFd,
        peer: Peer,
        listener: &Awaited,
    ) -> Result<Box<HttpConnection>, TlsError> {
        let terms = listener.terms.as_deref();
        let tls = terms.map(|terms| Tls::new(&terms.load()).map(Box::new)).transpose()?;
        let is_spare = self.shared.descriptors.is_kept_back(&socket);
        if is_spare {
            self.shared.descriptors.begin_spare();
        }
        // This connection is not counted yet.
        let is_full = self.is_full();
        let wire = (socket, tls);
        let mut connection = HttpConnection::begin(wire, peer, is_spare, self.terms.clone());
        connection.enter(Entry { is_public: listener.is_public, ..Entry::default() });
        let config = &self.shared.interfaces.config;
        let is_behind = listener.is_public || config.admin_places().is_empty();
        if config.proxy.protocol && is_behind {
            connection.expect_header(connection.is_shared());
        }
        if is_full {
            connection.exceed(Excess::Node);
        }
        connection.count_at_peer();
        Ok(connection)
    }

    /// Returns whether the node has as many connections as it may have.
    fn is_full(&self) -> bool {
        let most = self.shared.interfaces.config.limits.connections as u64;
        most > 0 && self.count_connections() >= most
    }

    /// Returns the number of HTTP connections and sessions of the node.
    fn count_connections(&self) -> u64 {
        let http = self.shared.metrics.sum(|counters| &counters.http_connections);
        http + self.shared.interfaces.broker.mailboxes.connections()
    }

    /// Returns the time for deadlines, in milliseconds since the node started.
    pub(super) fn monotonic(&self) -> Millis {
        self.shared.clock.monotonic()
    }

    /// Ends a connection whose next request has not come in time.
    pub(super) async fn end_late(&self, mut connection: Box<HttpConnection>) {
        let end = connection.lateness();
        self.note(&end, connection.peer());
        refuse((&self.counters, self.date()), connection, None, end).await;
    }
}
