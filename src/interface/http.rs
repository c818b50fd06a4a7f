//! What the interfaces' handlers of HTTP use and return.
//!
//! [`Entrance`] is what the head of a request leads to. Handlers of calls are `async` functions
//! that await nothing but the answers of other threads, so that they read from top to bottom.

use std::cell::RefCell;

use rand::rngs::StdRng;

use super::authenticators::Authenticators;
use super::rest::{ApiError, Reply};
use crate::codec::http::{Request, Response};
use crate::codec::json::Scratch;
use crate::interface::shared::Shared;
use crate::mailbox::{Answer, Inquiry, Pending, Query, Ticket, Tickets, Wish};
use crate::message::{MessageId, Millis, Now, Refused, SessionId, WorkerId};
use crate::metrics::{Counter, Counters};

/// Headers of responses that pages of other origins may read, besides those that they always may.
pub const EXPOSED_HEADERS: &str =
    "Content-Range, Preference-Applied, Retry-After, forge-proxy-error";

/// What the head of a request leads to. `S` is what the client's session becomes, `C` the calls of
/// an interface.
#[derive(Debug)]
pub enum Entrance<S, C> {
    /// The connection leaves HTTP.
    Upgrade(Upgrade<S>),
    /// The request goes to the worker of a long-polling session.
    Poll(Poll<S>),
    /// The client wants to know how the node is; this function renders it.
    Health(fn(&NodeHealth<'_>) -> Reply),
    /// The request is run once its body has been read.
    Call(C),
    /// The request is answered at once. Its body is read first and discarded.
    Refuse(Response),
}

/// A connection that leaves HTTP.
#[derive(Debug)]
pub struct Upgrade<S> {
    /// The response to the request.
    pub head: Response,
    /// What speaks with the client from here on.
    pub session: S,
    /// The worker that it belongs to; `None` if any of them will do.
    pub to: Option<WorkerId>,
}

/// What a request of a long-polling client asks for.
#[derive(Debug)]
pub enum Poll<S> {
    /// A new session, which is this.
    Open(S),
    /// Packets for this session.
    Get(SessionId),
    /// To take the packets in the body for this session.
    Post(SessionId),
}

/// How the node is, as the runtime found out.
#[derive(Clone, Copy, Debug)]
pub struct NodeHealth<'a> {
    /// When the client asked, in milliseconds since the epoch.
    pub now: Millis,
    /// Whether the node stops.
    pub is_stopping: bool,
    /// A text for each thread that does not do its work.
    pub problems: &'a [String],
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The response.
    pub response: Response,
    /// Whether the client has yet to come back although the node stops: to be told that its session
    /// is over.
    pub is_unfinished: bool,
}

impl<S, C> Entrance<S, C> {
    /// Makes the entrance of all interfaces out of that of one interface.
    pub(super) fn map<T, D>(
        self,
        session: impl FnOnce(S) -> T,
        call: impl FnOnce(C) -> D,
    ) -> Entrance<T, D> {
        match self {
            Self::Upgrade(Upgrade { head, session: opened, to }) => {
                Entrance::Upgrade(Upgrade { head, session: session(opened), to })
            }
            Self::Poll(Poll::Open(opened)) => Entrance::Poll(Poll::Open(session(opened))),
            Self::Poll(Poll::Get(id)) => Entrance::Poll(Poll::Get(id)),
            Self::Poll(Poll::Post(id)) => Entrance::Poll(Poll::Post(id)),
            Self::Health(render) => Entrance::Health(render),
            Self::Call(one) => Entrance::Call(call(one)),
            Self::Refuse(response) => Entrance::Refuse(response),
        }
    }

    /// Refuses the request in JSON.
    pub(super) fn refuse(error: ApiError) -> Self {
        Self::Refuse(Reply::from(error).into())
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

/// What a handler may use. It holds `auth`, `json` and `random` borrowed only between two awaits.
#[derive(Clone, Copy)]
pub struct HttpContext<'a> {
    /// Now, as it was read when the head of the request, or its body, had arrived.
    pub now: Now,
    /// Whether the node stops.
    pub is_stopping: bool,
    /// What all threads share.
    pub shared: &'a Shared,
    /// Verifies credentials.
    pub auth: &'a RefCell<Authenticators>,
    /// Buffers for taking JSON apart.
    pub json: &'a RefCell<Scratch>,
    /// The source of randomness.
    pub random: &'a RefCell<StdRng>,
    /// The questions that wait for an answer.
    pub tickets: &'a Tickets,
    /// The thread's counters.
    pub counters: &'a Counters,
}

impl<'a> HttpContext<'a> {
    /// Creates a message id.
    pub(super) fn message_id(&self) -> MessageId {
        crate::broker::publish::message_id(self.now.wall, &mut *self.random.borrow_mut())
    }

    /// Prepares a question to another thread.
    ///
    /// # Errors
    /// 503 if the mailbox has no place for another answer, which is counted.
    pub fn inquiry<T: Answer>(&self) -> Result<Inquiry<'a, T>, ApiError> {
        self.tickets.inquiry().ok_or_else(|| {
            self.counters.refused_overloaded.add(1);
            ApiError::overloaded()
        })
    }

    /// Puts a question to another thread. The answer is to be awaited.
    ///
    /// # Errors
    /// Those of [`HttpContext::inquiry`], and 503 if the queue of the other thread is full, which
    /// is counted in `refused`.
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

    /// Puts a question to another thread and waits for the answer.
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

    /// Asks something of the thread that writes to the store and waits for the answer.
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

    /// Asks something of the thread that reads from the store and waits for the answer.
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
    /// 401 or 403.
    pub(super) fn check_admin(&self, request: &Request) -> Result<(), ApiError> {
        let users = &mut self.auth.borrow_mut().users;
        let (authorization, api_key) =
            (request.header("authorization"), request.header("x-api-key"));
        users.admin(authorization, api_key, self.now.wall_seconds()).map_err(|error| {
            tracing::debug!(%error, "refusing an administrator's credential");
            ApiError::auth(error.status(), error.error(), error.to_string(), error.next_actions())
        })
    }
}
