//! Requests of long-polling clients, which acceptors forward: to the session here, or to the worker
//! that it went to.

use super::connection::{Connection, State};
use super::migrate;
use super::worker::Worker;
use crate::interface::insforge::engineio;
use crate::interface::insforge::violation::Violation;
use crate::interface::next::{Close, Next, Reason};
use crate::interface::{Session, insforge};
use crate::limits::POLLING_SESSIONS_MAX;
use crate::mailbox::{Mail, Poll, PollRefusal, PollRequest, PollTicket, Polled, Slot};
use crate::message::{App, ConnId, SessionId};

/// Answers a request, or lets its session keep it until there is something to say.
pub(super) fn on_poll(worker: &mut Worker, poll: Poll) {
    let Some(Poll { ticket, request }) = pass_on(worker, poll) else { return };
    let answer = match request {
        PollRequest::Open(app) => match open(worker, app) {
            Some(opening) => Ok(Polled::Payload(opening.into_bytes())),
            None => Err(PollRefusal::Overloaded),
        },
        PollRequest::Get(session) => return get(worker, ticket, &session),
        PollRequest::Post(session, body) => post(worker, &session, &body).map(|()| Polled::Taken),
    };
    worker.shared.mailboxes.answer(ticket, answer);
}

fn get(worker: &mut Worker, ticket: PollTicket, session: &SessionId) {
    let slot = match polling_slot(worker, session) {
        Ok(slot) => slot,
        Err(refusal) => return worker.shared.mailboxes.answer(ticket, Err(refusal)),
    };
    if let Some(next) = worker.on(slot, |session, ctx, _| session.on_poll(ctx, ticket)) {
        worker.apply(slot, next, &[]);
    }
}

/// Hands a request on whose session went to another worker; else it is ours.
fn pass_on(worker: &mut Worker, mut poll: Poll) -> Option<Poll> {
    let (PollRequest::Get(session) | PollRequest::Post(session, _)) = &mut poll.request else {
        return Some(poll);
    };
    *session = migrate::locate(worker, *session);
    let there = session.worker;
    if there == worker.id {
        return Some(poll);
    }
    let mailboxes = &worker.shared.mailboxes;
    match mailboxes.workers.of(there).reserve(Slot::Control) {
        Some(place) => place.send(Mail::Poll(Box::new(poll))),
        None => mailboxes.answer(poll.ticket, Err(PollRefusal::Overloaded)),
    }
    None
}

/// Opens a session on long-polling. `None` at [`POLLING_SESSIONS_MAX`].
fn open(worker: &mut Worker, app: App) -> Option<String> {
    let Worker { shared, local, now, .. } = worker;
    let session = insforge::Session::polling(app, *now, &shared.timings, &mut local.random);
    let gauge = session.gauge(&local.counters);
    if gauge.get() >= POLLING_SESSIONS_MAX {
        shared.mailboxes.unassign(worker.id);
        return None;
    }
    gauge.add(1);
    local.counters.opened.add(1);
    let key = *session.key();
    let state = State::Open(Session::Insforge(session));
    let id = worker.connections.insert(Connection::new(None, state));
    let session_id = SessionId { worker: worker.id, slot: id.slot, key };
    worker.on(id.slot, |_, _, _| ());
    Some(engineio::open(&session_id, true, &worker.shared.timings))
}

/// The client of a request went away: it may have missed packets, so the session is over. Its
/// request is answered all the same, because every request's answer has a place reserved.
pub(super) fn on_poll_gone(worker: &mut Worker, id: SessionId) {
    let id = migrate::locate(worker, id);
    if id.worker != worker.id {
        // If there is no room for it the session ends with its heartbeat instead.
        let _ = worker.shared.mailboxes.control(id.worker, Mail::PollGone(id));
        return;
    }
    let Some((conn_id, connection)) = worker.connections.find(&id) else { return };
    if connection.session().is_some_and(|session| session.polling().is_some()) {
        worker.remove(conn_id.slot, Reason::Client);
    }
}

fn post(worker: &mut Worker, id: &SessionId, body: &[u8]) -> Result<(), PollRefusal> {
    let slot = polling_slot(worker, id)?;
    let handled = match std::str::from_utf8(body) {
        Ok(body) => take_packets(worker, id, body),
        Err(_) => Err(Violation("payload is not UTF-8")),
    };
    let Err(Violation(why)) = handled else { return Ok(()) };
    tracing::debug!(why, "closing a session that broke its protocol");
    worker.close(slot, Close { code: None, text: "", reason: Reason::Protocol });
    Err(PollRefusal::BadRequest)
}

fn take_packets(worker: &mut Worker, id: &SessionId, body: &str) -> Result<(), Violation> {
    let mut parts = engineio::payload(body).peekable();
    while let Some(part) = parts.next() {
        // Looked up for each packet: the one before may have ended the session.
        let Some((ConnId { slot, .. }, _)) = worker.connections.find(id) else { return Ok(()) };
        let part = part?;
        let next = worker.on(slot, |session, ctx, _| session.on_packet(ctx, part));
        let Some(next) = next.transpose()? else { return Ok(()) };
        match next {
            // What follows would have to follow the session; no client sends that before the
            // answer to its CONNECT.
            Next::Migrate { auth, .. } if parts.peek().is_some() => {
                let next = worker.on(slot, |session, ctx, _| session.enter_anew(ctx, &auth));
                next.and_then(|next| worker.apply(slot, next, &[]));
            }
            next => {
                worker.apply(slot, next, &[]);
            }
        }
    }
    Ok(())
}

/// The slot of a session that is on long-polling now. It is told the time first, so that a session
/// that is over is over, however coarse the timer.
fn polling_slot(worker: &mut Worker, id: &SessionId) -> Result<u32, PollRefusal> {
    let (conn_id, _) = worker.connections.find(id).ok_or(PollRefusal::UnknownSession)?;
    worker.deadline(conn_id.slot);
    let connection = worker.connections.by_id(conn_id);
    let session = connection.and_then(Connection::session).ok_or(PollRefusal::UnknownSession)?;
    match session.polling() {
        Some(_) => Ok(conn_id.slot),
        None => Err(PollRefusal::BadRequest),
    }
}
