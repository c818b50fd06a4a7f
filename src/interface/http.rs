//! The arguments and results of the interfaces' HTTP handlers.
//!
//! [`Entrance`] is what the head of a request leads to. Calls are `async` functions that await
//! nothing but answers of other threads.

use std::cell::RefCell;

use bytestring::ByteString;
use rand::rngs::StdRng;

use super::authenticators::Authenticators;
use super::caller::Caller;
use super::rest::{ApiError, Challenge, Reply};
use crate::auth::{AdminError, AuthError};
use crate::broker::received::Received;
use crate::codec::http::{Method, Request, Response};
use crate::codec::json::Scratch;
use crate::config::origins::{Admission, Origins};
use crate::interface::shared::Shared;
use crate::mailbox::{Answer, Inquiry, Pending, Query, Ticket, Tickets, Wish};
use crate::message::{MessageId, Millis, NodeTag, Now, Peer, Refused, SessionId, WorkerId};
use crate::metrics::{Counter, Counters};

/// Response headers that pages of other origins may read, besides those that browsers always allow.
const EXPOSED_HEADERS: &str = "Content-Range, Fanfare-Unanswered, Fanfare-Unconfirmed, Preference-Applied, Retry-After, \
     WWW-Authenticate, forge-proxy-error";

/// Adds the headers of a response that depend on its request: those that let the page which sent it
/// read the response (CORS), and for a 401 which credential would do. `origins` are the only ones
/// whose pages may use the node; `None` if all may.
pub fn complete(mut response: Response, request: &Request, origins: Option<&Origins>) -> Response {
    if response.status == 401 && !response.has("WWW-Authenticate") {
        response = response.header("WWW-Authenticate", Challenge::of(request).value());
    }
    let response = match request.method {
        Method::Options => response,
        _ => response.header("Vary", "Origin"),
    };
    let Some(origin) = request.header("origin") else { return response };
    let admission = match origins {
        None => Admission::Named,
        Some(origins) => admission(request, origins).unwrap_or(Admission::Refused),
    };
    if admission == Admission::Refused {
        return response;
    }
    let mut response = response.header("Access-Control-Allow-Origin", origin.to_owned());
    if admission == Admission::Named {
        response = response.header("Access-Control-Allow-Credentials", "true");
    }
    response.header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
}

/// Returns what the page that has sent a request may do; `None` if no page has sent it. A request
/// whose `Origin` is repeated or not UTF-8 is refused.
pub(super) fn admission(request: &Request, origins: &Origins) -> Option<Admission> {
    match request.only_header("origin") {
        Ok(origin) => origin.map(|origin| origins.admit(origin)),
        Err(_) => Some(Admission::Refused),
    }
}

/// Returns whether a proxy says that it has passed a request on. That no proxy says so proves
/// nothing.
fn is_forwarded(request: &Request) -> bool {
    request.has_header(|name| {
        matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded-")
    })
}

/// The way that a request takes after its head. `S` is the type of sessions and `C` that of calls.
#[derive(Debug)]
pub enum Entrance<S, C> {
    /// The connection becomes a WebSocket or a stream.
    Upgrade(Upgrade<S>),
    /// The request is forwarded to the worker of a long-polling session.
    Poll(Poll<S>),
    /// The request is passed on to the node of a long-polling session.
    Pass(Away),
    /// The request asks for the health of the node; this function renders it.
    Health(fn(&NodeHealth<'_>) -> Reply),
    /// The call runs once the request's body has been read.
    Call(C),
    /// This response answers the request, after its body was read and discarded.
    Respond(Response),
}

/// A connection that becomes a WebSocket or a stream.
#[derive(Debug)]
pub struct Upgrade<S> {
    /// The response to the request; `None` if the session answers it.
    pub head: Option<Response>,
    /// The session of the new connection.
    pub session: S,
    /// The worker that must take the session; `None` if any worker may.
    pub to: Option<WorkerId>,
    /// Whether messages may be compressed.
    pub deflates: bool,
}

/// The request of a long-polling client.
#[derive(Debug)]
pub enum Poll<S> {
    /// To open this new session.
    Open(S),
    /// To receive the packets that wait in this session.
    Get(SessionId),
    /// To handle the packets in the body, for this session.
    Post(SessionId),
}

/// The request of a long-polling client for a session of another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Away {
    /// The node of the session.
    pub node: NodeTag,
    /// The session, as that node names it.
    pub session: SessionId,
    /// Whether the client sends packets. Otherwise it asks for packets.
    pub is_post: bool,
}

/// The health of the node.
#[derive(Clone, Copy, Debug)]
pub struct NodeHealth<'a> {
    /// When the client asked, in milliseconds since the epoch.
    pub now: Millis,
    /// Whether the node is stopping, or is about to.
    pub is_stopping: bool,
    /// One text for each thread that does not do its work.
    pub problems: &'a [String],
    /// What does not work at the moment, and is expected to work again soon.
    pub degraded: Option<&'a str>,
    /// Whether the client may know the state only, and not its reasons.
    pub is_bare: bool,
}

impl<'a> NodeHealth<'a> {
    /// Returns the problems that the client may know.
    pub(super) fn told_problems(&self) -> &'a [String] {
        if self.is_bare { &[] } else { self.problems }
    }
}

/// The result of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The response to send.
    pub response: Response,
    /// Whether the client must send another request on this connection although the node is
    /// stopping, to learn that its session has ended.
    pub is_unfinished: bool,
}

impl<S, C> Entrance<S, C> {
    /// Converts an interface's entrance to that of all interfaces.
    pub(super) fn map<T, D>(
        self,
        session: impl FnOnce(S) -> T,
        call: impl FnOnce(C) -> D,
    ) -> Entrance<T, D> {
        match self {
            Self::Upgrade(Upgrade { head, session: opened, to, deflates }) => {
                Entrance::Upgrade(Upgrade { head, session: session(opened), to, deflates })
            }
            Self::Poll(Poll::Open(opened)) => Entrance::Poll(Poll::Open(session(opened))),
            Self::Poll(Poll::Get(id)) => Entrance::Poll(Poll::Get(id)),
            Self::Poll(Poll::Post(id)) => Entrance::Poll(Poll::Post(id)),
            Self::Pass(away) => Entrance::Pass(away),
            Self::Health(render) => Entrance::Health(render),
            Self::Call(one) => Entrance::Call(call(one)),
            Self::Respond(response) => Entrance::Respond(response),
        }
    }

    /// Returns the refusal of a request with an error in JSON.
    pub(super) fn refuse(error: ApiError) -> Self {
        Self::Respond(Reply::from(error).into())
    }
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self { response, is_unfinished: false }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Response::from(reply).into()
    }
}

/// The state that a handler may use. It borrows `auth`, `json` and `random` only between two
/// awaits.
#[derive(Clone, Copy)]
pub struct HttpContext<'a> {
    /// The time at which the head of the request, or its body, had arrived.
    pub now: Now,
    /// Whether the node is stopping.
    pub is_stopping: bool,
    /// The client of the request.
    pub caller: Caller,
    /// The state that all threads share.
    pub shared: &'a Shared,
    /// The keys and caches that the thread verifies credentials with.
    pub auth: &'a RefCell<Authenticators>,
    /// Buffers for decoding JSON.
    pub json: &'a RefCell<Scratch>,
    /// The thread's source of randomness.
    pub random: &'a RefCell<StdRng>,
    /// The questions to other threads whose answers are awaited.
    pub tickets: &'a Tickets,
    /// Memory for the body of a response.
    pub buffer: &'a RefCell<Vec<u8>>,
    /// The counters that only this thread changes.
    pub counters: &'a Counters,
}

impl<'a> HttpContext<'a> {
    /// Notes in the log that an interface has refused a caller for this reason.
    pub fn note_refusal(&self, api: &'static str, why: &'static str) {
        let mut auth = self.auth.borrow_mut();
        auth.refusals.note_from(self.caller.address, api, why, self.now.monotonic());
    }

    /// Returns whether a proxy has passed the request on, as far as that is known. Such a request
    /// may come from anywhere, even if it arrives on loopback, and is never treated leniently.
    pub(super) fn is_forwarded(&self, request: &Request) -> bool {
        self.caller.is_proxied || is_forwarded(request)
    }

    /// Returns whether credentials of back ends and administrators do not count in this request,
    /// because they do only beside a certificate of the client and the connection has none.
    /// Programs that come directly to a unix socket of administration need none, because its
    /// permissions let them in. On other unix sockets they need one: a proxy that listens on a
    /// network may pass requests on there without a header that says so.
    pub(super) fn lacks_certificate(&self, request: &Request) -> bool {
        self.shared.config.wants_certificates()
            && !self.caller.entry.is_certified
            && !(self.is_for_administration()
                && self.caller.address == Peer::Local
                && !is_forwarded(request))
    }

    /// Returns whether the request has come in at a place that administration has for itself.
    fn is_for_administration(&self) -> bool {
        !self.caller.entry.is_public && !self.shared.config.admin_places().is_empty()
    }

    /// Checks that a credential of a back end or an administrator counts in this request.
    ///
    /// # Errors
    /// 403 if it lacks a certificate, which is logged.
    pub(super) fn check_certificate(
        &self,
        request: &Request,
        api: &'static str,
    ) -> Result<(), ApiError> {
        if !self.lacks_certificate(request) {
            return Ok(());
        }
        self.note_refusal(api, AuthError::Certificate.why());
        Err(ApiError::no_certificate())
    }

    /// Returns a payload that outlives the body that it is a part of: a slice of the body, or a
    /// copy.
    pub(super) fn keep(&self, body: &Received, payload: &str) -> ByteString {
        self.counters.payload(body.keep(payload, &self.shared.broker.memory.buffers))
    }

    pub(super) fn message_id(&self) -> MessageId {
        crate::broker::publish::message_id(self.now.wall, &mut *self.random.borrow_mut())
    }

    /// Reserves a place in this thread's mailbox for the answer to a question.
    ///
    /// # Errors
    /// 503 if the mailbox has no room, which is counted.
    pub fn inquiry<T: Answer>(&self) -> Result<Inquiry<'a, T>, ApiError> {
        self.tickets.inquiry().ok_or_else(|| {
            self.counters.refused_overloaded.add(1);
            ApiError::overloaded()
        })
    }

    /// Puts a question to another thread. The caller awaits the returned answer.
    ///
    /// # Errors
    /// Those of [`HttpContext::inquiry`], and 503 if the other thread's queue is full, which is
    /// counted in `refused`.
    pub fn put<T: Answer>(
        &self,
        put: impl FnOnce(Ticket<T>) -> Result<(), Refused>,
        refused: &Counter,
    ) -> Result<Pending<'a, T>, ApiError> {
        let put = self.inquiry()?.put(put);
        let ((), pending) = put.map_err(|_| {
            refused.add(1);
            ApiError::overloaded()
        })?;
        Ok(pending)
    }

    /// Puts a question to another thread and awaits the answer.
    ///
    /// # Errors
    /// Those of [`HttpContext::put`].
    pub async fn ask<T: Answer>(
        &self,
        put: impl FnOnce(Ticket<T>) -> Result<(), Refused>,
        refused: &Counter,
    ) -> Result<T, ApiError> {
        Ok(self.put(put, refused)?.await)
    }

    /// Asks the thread that writes to the store and awaits the answer.
    ///
    /// # Errors
    /// Those of [`HttpContext::put`].
    pub(super) async fn wish<T: Answer>(
        &self,
        wish: impl FnOnce(Ticket<T>) -> Wish,
    ) -> Result<T, ApiError> {
        let put = |ticket| self.shared.broker.mailboxes.wish(wish(ticket));
        self.ask(put, &self.counters.refused_store_queue).await
    }

    /// Asks the thread that reads from the store and awaits the answer.
    ///
    /// # Errors
    /// Those of [`HttpContext::put`].
    pub(super) async fn query<T: Answer>(
        &self,
        query: impl FnOnce(Ticket<T>) -> Query,
    ) -> Result<T, ApiError> {
        let put = |ticket| self.shared.broker.mailboxes.query(query(ticket));
        self.ask(put, &self.counters.refused_reader_queue).await
    }

    /// Checks that a request comes from an administrator.
    ///
    /// # Errors
    /// 401 if the credential is missing or invalid, 403 if it is not an administrator's or lacks a
    /// certificate.
    pub(super) fn check_admin(&self, request: &Request) -> Result<(), ApiError> {
        self.authenticate_admin(request)?;
        self.check_certificate(request, "admin")
    }

    fn authenticate_admin(&self, request: &Request) -> Result<(), ApiError> {
        let Authenticators { users, refusals, .. } = &mut *self.auth.borrow_mut();
        let (authorization, api_key) =
            (request.header("authorization"), request.header("x-api-key"));
        users.admin(authorization, api_key, self.now.wall_seconds()).map_err(|error| {
            refusals.note_from(self.caller.address, "admin", error.why(), self.now.monotonic());
            let refused = ApiError::new(error.status(), error.error(), error.to_string());
            match error {
                AdminError::Token(problem) => {
                    let (problem, advice) = (problem.text(), error.next_actions());
                    let challenge = Challenge::Refused(problem.into());
                    refused.challenge(challenge).advise(format!("Reason: {problem}. {advice}"))
                }
                _ => refused.advise(error.next_actions()),
            }
        })
    }
}
