//! Long-polling requests that acceptors forward (contract sections 7.2 and 7.4).

use super::close::{self, Reason};
use super::conn::Session;
use super::{Worker, moving, session, upgrade};
use crate::engine::outbox::Gone;
use crate::mailbox::{Mail, Poll, PollRefusal, PollRequest, PollTicket, Polled, Slot};
use crate::message::{ConnId, SessionId};
use crate::protocol::Violation;
use crate::protocol::engineio::{self, Part};
use crate::wire;

/// Answers a request, or keeps it until there is something to say.
pub(super) fn on_request(worker: &mut Worker, poll: Poll) {
    let Some(poll) = pass_on(worker, poll) else { return };
    let Poll { ticket, request } = poll;
    let answer = match request {
        PollRequest::Open(app) => match upgrade::open_polling(worker, app) {
            Some(opening) => Ok(Polled::Payload(opening.into_bytes())),
            None => Err(PollRefusal::Overloaded),
        },
        PollRequest::Get(session) => return get(worker, ticket, &session),
        PollRequest::Post(session, body) => post(worker, &session, &body).map(|()| Polled::Taken),
    };
    worker.hub.mailboxes.answer(ticket, answer);
}

/// Hands a request on whose session went to another worker; else it is ours.
fn pass_on(worker: &mut Worker, mut poll: Poll) -> Option<Poll> {
    let (PollRequest::Get(session) | PollRequest::Post(session, _)) = &mut poll.request else {
        return Some(poll);
    };
    *session = moving::locate(worker, *session);
    let there = session.worker;
    if there == worker.id {
        return Some(poll);
    }
    let mailboxes = &worker.hub.mailboxes;
    match mailboxes.workers.of(there).reserve(Slot::Control) {
        Some(place) => place.send(Mail::Poll(Box::new(poll))),
        None => mailboxes.answer(poll.ticket, Err(PollRefusal::Overloaded)),
    }
    None
}

/// The client of a request went away: it may have missed packets, so the session is over. Its
/// request is answered all the same, because every request's answer has a place set aside.
pub(super) fn on_gone(worker: &mut Worker, id: SessionId) {
    let id = moving::locate(worker, id);
    if id.worker != worker.id {
        // Where there is no room for it the session ends with its heartbeat instead.
        let _ = worker.hub.mailboxes.control(id.worker, Mail::PollGone(id));
        return;
    }
    let Some((conn_id, connection)) = worker.connections.session(&id) else { return };
    if connection.session().is_some_and(|session| session.polling.is_some()) {
        close::now(worker, conn_id.slot, Reason::Client);
    }
}

fn get(worker: &mut Worker, ticket: PollTicket, id: &SessionId) {
    let polling = match polling_session(worker, id) {
        Ok((_, session)) => session.polling.as_mut(),
        Err(refusal) => return worker.hub.mailboxes.answer(ticket, Err(refusal)),
    };
    let Some(polling) = polling else { return };
    if polling.waiting.is_some() {
        // Two polls at once are a protocol error that ends the session, for both.
        close::now(worker, id.slot, Reason::Protocol);
        return worker.hub.mailboxes.answer(ticket, Err(PollRefusal::BadRequest));
    }
    polling.waiting = Some(ticket);
    release(worker, id.slot);
}

fn post(worker: &mut Worker, id: &SessionId, body: &[u8]) -> Result<(), PollRefusal> {
    polling_session(worker, id)?;
    let handled = match std::str::from_utf8(body) {
        Ok(body) => take_packets(worker, id, body),
        Err(_) => Err(Violation("payload is not UTF-8")),
    };
    let Err(Violation(why)) = handled else { return Ok(()) };
    tracing::debug!(why, "closing a session that broke its protocol");
    close::now(worker, id.slot, Reason::Protocol);
    Err(PollRefusal::BadRequest)
}

fn take_packets(worker: &mut Worker, id: &SessionId, body: &str) -> Result<(), Violation> {
    let mut parts = engineio::payload(body).peekable();
    while let Some(part) = parts.next() {
        // Looked up for each packet: the one before may have ended the session or renewed its id.
        let Some((conn_id, _)) = worker.connections.session(id) else { return Ok(()) };
        let handled = match part? {
            Part::Text(text) => session::on_packet(worker, conn_id, text),
            Part::Binary(data) => session::on_binary(worker, conn_id, &data),
        };
        worker.heir = None;
        handled?;
        if let Some(departure) = worker.departing.take() {
            match parts.peek() {
                // What follows would have to follow it; nobody sends that before the answer.
                Some(_) => session::enter_anew(worker, conn_id, &departure.auth),
                None => drop(moving::depart(worker, departure)),
            }
        }
    }
    Ok(())
}

/// A session that is on long-polling now. Its deadlines are looked at first, so that a session
/// that is over is over, however coarse the timer.
fn polling_session<'w>(
    worker: &'w mut Worker,
    id: &SessionId,
) -> Result<(ConnId, &'w mut Session), PollRefusal> {
    let (conn_id, _) = worker.connections.session(id).ok_or(PollRefusal::UnknownSession)?;
    session::on_time(worker, conn_id);
    let session = worker.session(conn_id).ok_or(PollRefusal::UnknownSession)?;
    match session.polling {
        Some(_) => Ok((conn_id, session)),
        None => Err(PollRefusal::BadRequest),
    }
}

/// Answers the request that waits, if there is something to say: what is in the outbox, or that
/// the session is about to move.
pub(super) fn release(worker: &mut Worker, slot: u32) {
    let Some(connection) = worker.connections.get_mut(slot) else { return };
    let is_empty = connection.outbox.is_empty();
    let Some(polling) = connection.session().and_then(|session| session.polling.as_mut()) else {
        return;
    };
    if is_empty && !polling.is_upgrading {
        return;
    }
    let Some(waiting) = polling.waiting.take() else { return worker.drain.relieve(connection) };
    let mut payload = Vec::new();
    let mut taken = Gone::default();
    while let Some(frame) = connection.outbox.pop(&mut worker.drain.spares) {
        taken.count(&frame);
        let bytes = frame.as_ref();
        match wire::frame::is_binary(bytes) {
            true => engineio::append_binary(&mut payload, wire::frame::payload(bytes)),
            false => engineio::append_text(&mut payload, wire::frame::payload(bytes)),
        }
    }
    if taken.frames == 0 {
        payload.extend_from_slice(engineio::NOOP.as_bytes());
    }
    worker.counters.frames_sent.add(taken.frames);
    worker.counters.delivered.add(taken.deliveries);
    worker.hub.mailboxes.answer(waiting, Ok(Polled::Payload(payload)));
}
