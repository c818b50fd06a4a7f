//! Sessions that change workers: a client that wants to come back to what another worker knows is
//! brought there before its CONNECT is answered. Its socket goes; on long-polling its requests go
//! on arriving here, where its session id says, and are passed on.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use super::close::{self, Reason};
use super::conn::{Connection, Kind, Polling, Session};
use super::send::{Sent, send_waiting};
use super::{Worker, polling, read, session, upgrade};
use crate::limits::FORWARDS_MAX;
use crate::mailbox::{Handover, Mail, Move, Purpose, Slot};
use crate::message::{App, ConnId, Millis, SessionId, SessionKey, WorkerId};

/// In the place of the slot in the id of a session that came from another worker: it is found by
/// its key.
pub(super) const BY_KEY: u32 = u32::MAX;

/// A session that is to go on elsewhere.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) connection: ConnId,
    pub(super) to: WorkerId,
    /// The data of its CONNECT packet.
    pub(super) auth: Box<str>,
}

/// Where requests of long-polling sessions are passed on to that were here.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    to: HashMap<SessionKey, Forward>,
    /// When to look at each again.
    order: VecDeque<(Millis, SessionKey)>,
}

#[derive(Clone, Copy, Debug)]
struct Forward {
    worker: WorkerId,
    /// When its client counts as gone, unless it asks again.
    until: Millis,
}

impl Forwards {
    /// The id of a session where it is now.
    fn find(&self, session: &SessionId) -> Option<SessionId> {
        let Forward { worker, .. } = *self.to.get(&session.key)?;
        Some(SessionId { worker, slot: BY_KEY, key: session.key })
    }

    fn add(&mut self, key: SessionKey, worker: WorkerId, until: Millis) {
        self.to.insert(key, Forward { worker, until });
        self.order.push_back((until, key));
    }

    fn renew(&mut self, key: &SessionKey, until: Millis) {
        if let Some(forward) = self.to.get_mut(key) {
            forward.until = until;
        }
    }

    fn expire(&mut self, now: Millis) {
        while let Some((at, key)) = self.order.front().copied()
            && at <= now
        {
            self.order.pop_front();
            match self.to.get(&key) {
                Some(forward) if forward.until > now => self.order.push_back((forward.until, key)),
                _ => drop(self.to.remove(&key)),
            }
        }
    }
}

/// Lets a session go on elsewhere. Where it cannot, its client is let in here as a new one, and
/// this is false.
pub(super) fn depart(worker: &mut Worker, departure: Departure) -> bool {
    let Departure { connection: id, to, auth } = departure;
    let hub = worker.hub.clone();
    let mailbox = hub.mailboxes.workers.of(to);
    let place = if may_go(worker, id) { mailbox.reserve(Slot::Control) } else { None };
    let Some(place) = place else {
        worker.counters.not_recovered.add(1);
        tracing::debug!("a client is not recovered: it cannot be brought to where its session is");
        session::enter_anew(worker, id, &auth);
        return false;
    };
    let Some((socket, leftover, Kind::Session(session))) = take(worker, id, to) else {
        return true;
    };
    let (is_polling, key) = (session.polling.is_some(), session.key);
    close::gauge(&worker.counters, App::Insforge, session.transport()).sub(1);
    let Polling { waiting, probe, is_upgrading } =
        session.polling.map(|it| *it).unwrap_or_default();
    let moved = Move { socket, leftover, key, waiting, is_upgrading, auth };
    place.send(Mail::Move(Box::new(moved)));
    if is_polling {
        let until = until(worker);
        worker.forwards.expire(worker.now);
        worker.forwards.add(key, to, until);
    }
    if let Some(probe) = probe {
        send_after(worker, probe, SessionId { worker: to, slot: BY_KEY, key });
    }
    true
}

/// Whether nothing holds a session here.
fn may_go(worker: &mut Worker, id: ConnId) -> bool {
    worker.forwards.to.len() < FORWARDS_MAX && has_sent_all(worker, id)
}

/// Sends what waits, so that nothing of it has to move.
fn has_sent_all(worker: &mut Worker, id: ConnId) -> bool {
    let Some(connection) = worker.connections.by_id(id) else { return false };
    let Connection { socket: Some(socket), outbox, .. } = connection else {
        return connection.outbox.is_empty();
    };
    send_waiting(socket, outbox, &mut worker.drain.spares, &worker.counters) == Sent::All
}

/// Takes a connection out of this worker, on its way to another.
fn take(worker: &mut Worker, id: ConnId, to: WorkerId) -> Option<(Option<OwnedFd>, Vec<u8>, Kind)> {
    let connection = worker.connections.remove(id.slot)?;
    if let Some(socket) = &connection.socket {
        worker.poller.remove(socket);
    }
    worker.hub.mailboxes.unassign(worker.id);
    worker.hub.mailboxes.assign_to(to);
    Some((connection.socket, connection.decoder.into_rest(), connection.kind))
}

/// Sends the WebSocket that offers to carry a session after it. Where that cannot be done the offer
/// ends, and the session stays on long-polling.
fn send_after(worker: &mut Worker, probe: ConnId, session: SessionId) {
    let hub = worker.hub.clone();
    let mailbox = hub.mailboxes.workers.of(session.worker);
    let place = if has_sent_all(worker, probe) { mailbox.reserve(Slot::Control) } else { None };
    let Some(place) = place else {
        return close::gracefully(worker, probe.slot, None, Reason::Protocol);
    };
    let Some((Some(socket), leftover, _)) = take(worker, probe, session.worker) else { return };
    let purpose = Purpose::Probe(session);
    place.send(Mail::Adopt(Box::new(Handover { socket, leftover, accept: None, purpose })));
}

/// Goes on with a session that comes from another worker.
pub(super) fn arrive(worker: &mut Worker, moved: Move) {
    let Move { socket, mut leftover, key, waiting, is_upgrading, auth } = moved;
    let mut session = Session::new(App::Insforge, worker.now, &worker.hub.timings);
    if socket.is_none() {
        session.key = key;
        session.polling = Some(Box::new(Polling { waiting, probe: None, is_upgrading }));
    }
    close::gauge(&worker.counters, App::Insforge, session.transport()).add(1);
    let kind = Kind::Session(session);
    let id = match socket {
        Some(socket) => match upgrade::insert(worker, socket, kind) {
            Some(id) => id,
            None => return,
        },
        None => {
            let id = worker.connections.insert(Connection::new(None, kind));
            worker.connections.find_by_key(key, id.slot);
            worker.schedule(id.slot);
            id
        }
    };
    session::enter(worker, id, &auth);
    polling::release(worker, id.slot);
    read::feed(worker, id, &mut leftover);
}

/// The id of a session as this worker knows it, or of where it went from here.
pub(super) fn locate(worker: &mut Worker, session: SessionId) -> SessionId {
    if session.slot == BY_KEY {
        let slot = worker.connections.slot_by_key(&session.key).unwrap_or(BY_KEY);
        return SessionId { slot, ..session };
    }
    let Some(there) = worker.forwards.find(&session) else { return session };
    let until = until(worker);
    worker.forwards.renew(&session.key, until);
    there
}

/// When the client of a session that is asked for now counts as gone, unless it asks again.
fn until(worker: &Worker) -> Millis {
    let timings = &worker.hub.timings;
    worker.now + 2 * (timings.ping_interval_ms + timings.ping_timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_ask_again_is_given_up() {
        let mut forwards = Forwards::default();
        let (one, other) = ([1; 9], [2; 9]);
        forwards.add(one, WorkerId(1), 100);
        forwards.add(other, WorkerId(1), 110);
        forwards.renew(&one, 200);
        forwards.expire(150);
        let session = |key| SessionId { worker: WorkerId(0), slot: 5, key };
        let there = SessionId { worker: WorkerId(1), slot: BY_KEY, key: one };
        assert_eq!(forwards.find(&session(one)), Some(there));
        assert_eq!(forwards.find(&session(other)), None);
        forwards.expire(200);
        assert_eq!((forwards.to.len(), forwards.order.len()), (0, 0));
    }
}
