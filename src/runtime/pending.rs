//! Requests of long-polling clients. An acceptor forwards them to the worker of their session. If
//! the session has moved, that worker passes them on to its new one.

use super::arrivals::{Arrival, Arrivals, Asked};
use super::connection::{Connection, Connections, State};
use super::http_connection::{End, HttpConnection};
use super::worker::Worker;
use crate::broker::received::Received;
use crate::interface::Session;
use crate::interface::Violation;
use crate::interface::entrance::{packets, polled};
use crate::interface::http::{HttpContext, Outcome, Poll};
use crate::interface::next::{Close, Next, Reason};
use crate::interface::rest::Reply;
use crate::limits::{NEWCOMER_BYTES, POLLING_SESSIONS_MAX};
use crate::mailbox::{Mail, Pending, PollRefusal, Polled, Receipt, Slot};
use crate::message::{ConnId, Refused, SessionId};

/// The session whose client waits for the answer to a request.
pub(super) enum Client {
    /// A session of this node.
    Here(SessionId),
    /// A session of another node.
    Away(Receipt),
}

impl Client {
    /// Tells the worker or the node of the session that the client left before it received the
    /// answer to a request, and with it perhaps packets.
    pub(super) fn tell_gone(self, http: &HttpContext<'_>) {
        match self {
            // If the mailbox has no room, the session ends later, because its heartbeat fails.
            Self::Here(session) => {
                let mailboxes = &http.shared.broker.mailboxes;
                let _ = mailboxes.control(session.worker, Mail::PollGone(session));
            }
            Self::Away(receipt) => drop(receipt),
        }
    }

    /// Tells the node of the session that the client has received the answer. A worker of this node
    /// need not know.
    pub(super) fn tell_received(self) {
        match self {
            Self::Here(_) => {}
            Self::Away(receipt) => receipt.received(),
        }
    }
}

/// An answer to a long-polling request, on its way.
pub(super) type Answering<'a> = Pending<'a, Result<Polled, PollRefusal>>;

/// Forwards a request to the worker of its session, and waits for the answer as [`wait`] does.
pub(super) async fn forward(
    http: &HttpContext<'_>,
    arrivals: &Arrivals,
    connection: &mut HttpConnection,
    (poll, body): (Poll<Session>, Received),
) -> Result<(Outcome, Option<Client>), End> {
    let mailboxes = &http.shared.broker.mailboxes;
    let (session, takes_packets) = match &poll {
        Poll::Open(_) => (None, false),
        Poll::Get(session) => (Some(*session), true),
        Poll::Post(session) => (Some(*session), false),
    };
    let worker = session.map_or_else(|| mailboxes.assign(), |session| session.worker);
    let put = |ticket| {
        let place = mailboxes.workers.of(worker).reserve(Slot::Control);
        let place = place.ok_or(Refused::Overloaded)?;
        arrivals.post(worker, place, Arrival::Poll(Asked { ticket, poll, body }));
        Ok(())
    };
    let pending = match http.put(put, &http.counters.refused_overloaded) {
        Ok(pending) => pending,
        Err(error) => {
            if session.is_none() {
                mailboxes.unassign(worker);
            }
            return Ok((Reply::from(error).into(), None));
        }
    };
    wait(http, connection, pending, (session.map(Client::Here), takes_packets)).await
}

/// Waits for the answer to a request until the client leaves. A client that only closes its sending
/// side still receives the answer. If it was polling, its session ends, because the node cannot
/// tell whether such a client reads. Returns the outcome. If the outcome may hold packets, which
/// are lost if the client does not receive them, also returns the client.
pub(super) async fn wait(
    http: &HttpContext<'_>,
    connection: &mut HttpConnection,
    mut pending: Answering<'_>,
    (client, takes_packets): (Option<Client>, bool),
) -> Result<(Outcome, Option<Client>), End> {
    loop {
        // The read is outside of `select!`, because a read that is dropped loses its bytes.
        let answered = monoio::select! {
            answer = &mut pending => Some(answer),
            () = connection.sends_ahead() => None,
        };
        let answer = match answered {
            Some(answer) if takes_packets => return Ok((polled(answer), client)),
            Some(answer) => answer,
            None => match connection.fill() {
                Ok(_) => continue,
                Err(End::HalfClosed) if takes_packets => {
                    client.into_iter().for_each(|client| client.tell_gone(http));
                    return Ok((polled(pending.await), None));
                }
                Err(End::HalfClosed) => (&mut pending).await,
                Err(_) => {
                    client.into_iter().for_each(|client| client.tell_gone(http));
                    return Err(End::Gone);
                }
            },
        };
        client.into_iter().for_each(Client::tell_received);
        return Ok((polled(answer), None));
    }
}

/// Answers a request, or lets its session keep it until there are packets. If the session has moved
/// to another worker, passes the request on.
pub(super) fn on_poll(worker: &mut Worker, mut asked: Asked) {
    if let Poll::Get(session) | Poll::Post(session) = &mut asked.poll {
        let now = worker.now.monotonic();
        *session = worker.forwards.locate(*session, &worker.connections, now);
        let there = session.worker;
        if there != worker.id {
            let mailboxes = &worker.shared.interfaces.broker.mailboxes;
            return match mailboxes.workers.of(there).reserve(Slot::Control) {
                Some(place) => worker.arrivals.post(there, place, Arrival::Poll(asked)),
                None => mailboxes.answer(asked.ticket, Err(PollRefusal::Overloaded)),
            };
        }
        // A session whose time is over ends now, even if the coarse timer has not fired yet.
        if let Some((ConnId { slot, .. }, _)) = worker.connections.find(session) {
            worker.handle(slot, |session, ctx, _| session.on_deadline(ctx));
        }
    }
    let Asked { ticket, poll, body } = asked;
    let answer = match poll {
        Poll::Open(session) => open(worker, session).map(Polled::Payload),
        Poll::Get(session) => match polling_slot(&mut worker.connections, &session) {
            Ok(slot) => return worker.handle(slot, |session, ctx, _| session.on_poll(ctx, ticket)),
            Err(refusal) => Err(refusal),
        },
        Poll::Post(session) => post(worker, &session, body).map(|()| Polled::Taken),
    };
    worker.shared.interfaces.broker.mailboxes.answer(ticket, answer);
}

/// Opens a long-polling session and returns the answer to its request.
///
/// # Errors
/// If the worker has [`POLLING_SESSIONS_MAX`] already, or the node as many as the configuration
/// allows, which is counted; or if too little memory is free.
fn open(worker: &mut Worker, session: Session) -> Result<Vec<u8>, PollRefusal> {
    let Worker { shared, local, .. } = worker;
    let gauge = session.gauge(&local.counters).ok_or(PollRefusal::Overloaded)?;
    let mailboxes = &shared.interfaces.broker.mailboxes;
    let most = shared.interfaces.config.limits.polling_sessions;
    let all = || shared.metrics.sum(|all| session.gauge(all).unwrap_or(&all.pollings));
    if gauge.get() >= POLLING_SESSIONS_MAX || (most > 0 && all() >= most) {
        mailboxes.unassign(worker.id);
        local.counters.refused_polling_sessions.add(1);
        return Err(PollRefusal::TooMany);
    }
    if !shared.interfaces.broker.memory.admit(NEWCOMER_BYTES) {
        mailboxes.unassign(worker.id);
        return Err(PollRefusal::Overloaded);
    }
    gauge.add(1);
    local.counters.opened.add(1);
    let id = worker.connections.insert(Connection::new(None, State::Open(session)));
    let opening = worker.on(id.slot, |session, ctx, _| session.opening(ctx));
    opening.flatten().ok_or(PollRefusal::Overloaded)
}

/// Ends a session because the client of one of its requests left, and may have missed packets. The
/// request is still answered, because each request has a place reserved for its answer.
pub(super) fn on_poll_gone(worker: &mut Worker, id: SessionId) {
    if let Some(slot) = located(worker, id, Mail::PollGone) {
        worker.remove(slot, Reason::Client);
    }
}

/// Has a session answer the request that waits for packets without any.
pub(super) fn on_poll_release(worker: &mut Worker, id: SessionId) {
    if let Some(slot) = located(worker, id, Mail::PollRelease) {
        worker.on(slot, |session, ctx, _| session.on_poll_release(ctx));
    }
}

/// Returns the slot of a session on long-polling. Passes the mail on if the session has moved to
/// another worker.
fn located(worker: &mut Worker, id: SessionId, mail: fn(SessionId) -> Mail) -> Option<u32> {
    let id = worker.forwards.locate(id, &worker.connections, worker.now.monotonic());
    if id.worker != worker.id {
        // If the mailbox has no room, a session whose client left ends later, because its heartbeat
        // fails.
        let _ = worker.shared.interfaces.broker.mailboxes.control(id.worker, mail(id));
        return None;
    }
    polling_slot(&mut worker.connections, &id).ok()
}

fn post(worker: &mut Worker, id: &SessionId, body: Received) -> Result<(), PollRefusal> {
    let slot = polling_slot(&mut worker.connections, id)?;
    worker.local.received = body.clone();
    let taken = take_packets(worker, id, &body);
    worker.local.received = Received::default();
    let Err(Violation(why)) = taken else { return Ok(()) };
    tracing::debug!(why, "closing a session because its client broke the protocol");
    worker.close(slot, Close { code: None, text: "", reason: Reason::Protocol });
    Err(PollRefusal::BadRequest)
}

fn take_packets(worker: &mut Worker, id: &SessionId, body: &[u8]) -> Result<(), Violation> {
    let body = std::str::from_utf8(body).map_err(|_| Violation("payload is not UTF-8"))?;
    let mut parts = packets(body).peekable();
    while let Some(part) = parts.next() {
        // The session is looked up for each packet, because the packet before may have ended it.
        let Some((ConnId { slot, .. }, _)) = worker.connections.find(id) else { return Ok(()) };
        let part = part?;
        let next = worker.on(slot, |session, ctx, _| session.on_packet(ctx, part));
        let Some(next) = next.transpose()? else { return Ok(()) };
        match next {
            // The packets that follow would have to move as well. No client sends any before the
            // answer to its CONNECT.
            Next::Migrate { auth, .. } if parts.peek().is_some() => {
                worker.handle(slot, |session, ctx, _| session.enter_anew(ctx, &auth));
            }
            next => {
                worker.apply(slot, next, &[]);
            }
        }
    }
    Ok(())
}

/// Returns the slot of a session whose transport is long-polling now.
fn polling_slot(connections: &mut Connections, id: &SessionId) -> Result<u32, PollRefusal> {
    let (ConnId { slot, .. }, connection) =
        connections.find(id).ok_or(PollRefusal::UnknownSession)?;
    match connection.session().and_then(Session::polling) {
        Some(_) => Ok(slot),
        None => Err(PollRefusal::BadRequest),
    }
}
