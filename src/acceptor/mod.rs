//! The acceptor role: accepts connections, serves HTTP on them, and hands over what becomes a
//! WebSocket. Runs on threads of its own or inside the workers' threads; either way it meets the
//! workers only through mailboxes.

mod engineio;
mod forge;
mod handover;
mod health;
mod history;
mod http;
mod m2;
mod rest;
mod scrape;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream};

use crate::api::{self, ApiError};
use crate::auth::Authenticators;
use crate::codec::http::{HttpError, Method, Request, Response};
use crate::codec::json::Scratch;
use crate::config;
use crate::hub::Hub;
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::mailbox::{
    Accepted, AcceptorId, Answer, Answered, Inbox, Inquiry, Pending, Purpose, Query, Slot, Ticket,
    Tickets, Wish,
};
use crate::message::{App, Refused, SessionId};
use crate::metrics::{Counter, Counters};
use handover::hand_over;
use health::Findings;
use http::{End, Http};

/// How long accepting pauses when descriptors or places have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What one acceptor's connections share.
#[derive(Debug)]
pub struct Acceptor {
    hub: Arc<Hub>,
    auth: RefCell<Authenticators>,
    /// What bodies of Forge are taken apart in.
    json: RefCell<Scratch>,
    counters: Arc<Counters>,
    times: config::Http,
    conformance: bool,
    tickets: Tickets,
    findings: Findings,
    connections: Cell<usize>,
}

/// What became of a request.
enum Outcome {
    /// It is answered.
    Respond(Response),
    /// It is answered with packets of a session, which would be lost if the client did not take it.
    Deliver(Response, SessionId),
    /// The connection becomes a WebSocket.
    Upgrade(Purpose, Accepted),
}

impl Acceptor {
    /// An acceptor without connections.
    pub fn new(
        id: AcceptorId,
        hub: Arc<Hub>,
        config: &config::Config,
        auth: Authenticators,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            tickets: Tickets::new(id, hub.mailboxes.acceptors[usize::from(id.0)].clone()),
            hub,
            auth: RefCell::new(auth),
            json: RefCell::default(),
            counters,
            times: config.http.clone(),
            conformance: config.conformance,
            findings: Findings::default(),
            connections: Cell::new(0),
        }
    }

    /// Prepares a question to another thread.
    ///
    /// # Errors
    /// The mailbox has no place for another answer, which is counted.
    fn inquiry<T: Answer>(&self) -> Result<Inquiry<'_, T>, ApiError> {
        self.tickets.inquiry().ok_or_else(|| {
            self.counters.refused_overloaded.add(1);
            ApiError::overloaded()
        })
    }

    /// Puts a question to another thread, whose answer is to be awaited.
    ///
    /// # Errors
    /// Those of [`Acceptor::inquiry`]; or the queue of the thread is full: counted in `refused`.
    fn put<T: Answer>(
        &self,
        put: impl FnOnce(Ticket<T>) -> Result<(), Refused>,
        refused: &Counter,
    ) -> Result<Pending<'_, T>, ApiError> {
        let put = self.inquiry()?.put(put);
        let ((), pending) = put.map_err(|_| {
            refused.add(1);
            ApiError::overloaded()
        })?;
        Ok(pending)
    }

    /// Puts a question to another thread, and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Acceptor::put`].
    async fn ask<T: Answer>(
        &self,
        put: impl FnOnce(Ticket<T>) -> Result<(), Refused>,
        refused: &Counter,
    ) -> Result<T, ApiError> {
        Ok(self.put(put, refused)?.await)
    }

    /// Asks something of the thread that writes to the store, and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Acceptor::ask`].
    async fn wish<T: Answer>(&self, wish: impl FnOnce(Ticket<T>) -> Wish) -> Result<T, ApiError> {
        let put = |ticket| self.hub.mailboxes.wish(wish(ticket));
        self.ask(put, &self.counters.refused_store_queue).await
    }

    /// Asks something of the thread that reads from the store, and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Acceptor::ask`].
    async fn query<T: Answer>(
        &self,
        query: impl FnOnce(Ticket<T>) -> Query,
    ) -> Result<T, ApiError> {
        let put = |ticket| self.hub.mailboxes.query(query(ticket));
        self.ask(put, &self.counters.refused_reader_queue).await
    }

    fn is_stopping(&self) -> bool {
        self.hub.shutdown.get().is_some()
    }

    fn may_accept(&self) -> bool {
        self.connections.get() < HTTP_CONNECTIONS_MAX
    }
}

/// Accepts until the node stops, as a task beside others of this thread.
pub fn run_beside(acceptor: Acceptor, listener: std::net::TcpListener, inbox: Inbox<Answered>) {
    monoio::spawn(run(acceptor, listener, inbox));
}

/// Accepts until the node stops, on the thread that serves. Ends only where the listener cannot be
/// watched.
pub async fn run(acceptor: Acceptor, listener: std::net::TcpListener, inbox: Inbox<Answered>) {
    let acceptor = Rc::new(acceptor);
    // epoll needs a listener that never blocks; io_uring would answer for such a one that nobody
    // is there, instead of waiting.
    let watched = listener.set_nonblocking(monoio::utils::is_legacy());
    let watched = watched.and_then(|()| TcpListener::from_std(listener));
    let listener = match watched {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener cannot be watched"),
    };
    monoio::spawn(settle_answers(acceptor.clone(), inbox));
    loop {
        let accepted = match acceptor.may_accept() {
            true => listener.accept().await,
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it a lone small frame may wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                acceptor.connections.set(acceptor.connections.get() + 1);
                acceptor.counters.http_connections.add(1);
                monoio::spawn(serve(acceptor.clone(), stream));
            }
            // The listener was shut down: nobody comes any more, and who is here is served on.
            Err(_) if acceptor.is_stopping() => break,
            Err(error) => {
                tracing::debug!(%error, "accepting pauses");
                acceptor.counters.accept_pauses.add(1);
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Hands the mailbox's answers to whoever waits for them.
async fn settle_answers(acceptor: Rc<Acceptor>, inbox: Inbox<Answered>) {
    let bell = inbox.mailbox().doorbell();
    // The runtime awaits sockets only; it never reads this one, so that it is none does not matter.
    let awaitable = bell.descriptor().try_clone().map(std::net::TcpStream::from);
    let awaitable = awaitable.and_then(TcpStream::from_std);
    let awaitable = match awaitable {
        Ok(awaitable) => awaitable,
        Err(error) => return tracing::error!(%error, "an acceptor's mailbox cannot be watched"),
    };
    loop {
        while let Some(answer) = inbox.take(|_| Slot::Control) {
            acceptor.tickets.settle(answer);
        }
        if bell.sleep(|| inbox.is_empty()) {
            let _ = awaitable.readable(false).await;
            bell.silence();
            bell.woke();
        }
    }
}

/// Serves one connection from its first request to its last.
async fn serve(acceptor: Rc<Acceptor>, stream: TcpStream) {
    let http = Http::new(stream, acceptor.times.clone(), acceptor.counters.clone());
    serve_requests(&acceptor, http).await;
    acceptor.connections.set(acceptor.connections.get() - 1);
    acceptor.counters.http_connections.sub(1);
}

async fn serve_requests(acceptor: &Acceptor, mut http: Http) {
    loop {
        let request = match http.head().await {
            Ok(request) => request,
            Err(end) => return refuse(acceptor, http, None, end).await,
        };
        let under_way = UnderWay::new(acceptor);
        let outcome = match answer(acceptor, &mut http, &request).await {
            Ok(outcome) => outcome,
            Err(end) => return refuse(acceptor, http, Some(&request), end).await,
        };
        let (response, packets_of) = match outcome {
            Outcome::Respond(response) => (response, None),
            Outcome::Deliver(response, session) => (response, Some(session)),
            Outcome::Upgrade(purpose, accept) => {
                return hand_over(acceptor, http, purpose, accept);
            }
        };
        count_refusal(&acceptor.counters, response.status);
        let response = allow_origin(response, &request);
        let head_only = request.method == Method::Head;
        let may_stay = !acceptor.is_stopping() || is_unfinished(&request, &response);
        let keep_alive = request.keep_alive && may_stay;
        if http.respond(&response, keep_alive, head_only).await.is_err() {
            if let Some(session) = packets_of {
                engineio::tell_gone(acceptor, session);
            }
            return;
        }
        drop(under_way);
        if !keep_alive {
            return http.finish().await;
        }
    }
}

/// Whether a client of a stopping node has yet to come back, which it could not on a connection of
/// its own: to see the end of its session, or of the node that it watches.
fn is_unfinished(request: &Request, response: &Response) -> bool {
    match request.path.as_str() {
        "/metrics" | "/api/health" => true,
        "/socket.io/" | "/socket.io" | "/engine.io/" | "/engine.io" => {
            response.status == 200 && response.body.as_bytes() != engineio::OVER
        }
        _ => false,
    }
}

/// Those for want of room are counted where the room is missing.
fn count_refusal(counters: &Counters, status: u16) {
    match status {
        401 | 403 => counters.refused_unauthorized.add(1),
        429 => {}
        400..500 => counters.refused_invalid.add(1),
        _ => {}
    }
}

/// Counts a request until it is answered, handed over or given up.
struct UnderWay<'a>(&'a Acceptor);

impl<'a> UnderWay<'a> {
    fn new(acceptor: &'a Acceptor) -> Self {
        acceptor.counters.http_requests.add(1);
        acceptor.counters.http_under_way.add(1);
        Self(acceptor)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.counters.http_under_way.sub(1);
    }
}

/// Says why a connection ends, where that can be said.
async fn refuse(acceptor: &Acceptor, mut http: Http, request: Option<&Request>, end: End) {
    let error = match end {
        End::Gone => return,
        End::Slow(has_request) => {
            acceptor.counters.http_timeouts.add(1);
            if !has_request {
                return;
            }
            ApiError::http(408, "The request did not arrive in time")
        }
        End::Broken(HttpError::BodyTooLong) => {
            acceptor.counters.http_refused.add(1);
            ApiError::payload_too_large(crate::limits::HTTP_BODY_BYTES_MAX)
        }
        End::Broken(error) => {
            acceptor.counters.http_refused.add(1);
            ApiError::http(error.status(), error.to_string())
        }
    };
    let of_forge = request
        .filter(|_| error.status() == 413)
        .and_then(|request| forge::body_too_long(acceptor, request));
    let mut response = rest::response(of_forge.unwrap_or_else(|| error.into()));
    if let Some(request) = request {
        response = allow_origin(response, request);
    }
    if http.respond(&response, false, false).await.is_ok() {
        http.finish().await;
    }
}

/// Finds who answers a request.
async fn answer(acceptor: &Acceptor, http: &mut Http, request: &Request) -> Result<Outcome, End> {
    if request.method == Method::Options {
        http.body(request).await?;
        return Ok(Outcome::Respond(preflight(request)));
    }
    match request.path.as_str() {
        "/socket.io/" | "/socket.io" if acceptor.conformance => {
            engineio::answer(acceptor, http, request, App::SocketIoConformance).await
        }
        "/socket.io/" | "/socket.io" => {
            engineio::answer(acceptor, http, request, App::Insforge).await
        }
        "/engine.io/" | "/engine.io" if acceptor.conformance => {
            engineio::answer(acceptor, http, request, App::EngineIoConformance).await
        }
        "/_test/echo" if acceptor.conformance => Ok(engineio::echo(request)),
        path if api::m2::is_ours(path) => m2::answer(acceptor, http, request).await,
        path if api::forge::is_ours(path) => forge::answer(acceptor, http, request).await,
        "/metrics" => scrape::answer(acceptor, http, request).await.map(Outcome::Respond),
        _ => rest::answer(acceptor, http, request).await.map(Outcome::Respond),
    }
}

/// The answer to a browser's question whether it may ask (contract section 7.5).
fn preflight(request: &Request) -> Response {
    let mut response = Response::empty(204)
        .header("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE");
    if let Some(headers) = request.header("access-control-request-headers") {
        response = response.header("Access-Control-Allow-Headers", headers.to_owned());
    }
    response.header("Vary", "Origin, Access-Control-Request-Headers")
}

/// Headers of answers that pages may read, beside those that they always may.
const EXPOSED_HEADERS: &str = "Content-Range, Preference-Applied, Retry-After, forge-proxy-error";

/// Lets the page that asked read the answer (contract sections 2.1 and 7.5).
fn allow_origin(response: Response, request: &Request) -> Response {
    let response = match request.method {
        Method::Options => response,
        _ => response.header("Vary", "Origin"),
    };
    let Some(origin) = request.header("origin") else { return response };
    response
        .header("Access-Control-Allow-Origin", origin.to_owned())
        .header("Access-Control-Allow-Credentials", "true")
        .header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
}
