//! The sessions that left this worker and whose long-polling requests it passes on.

use std::collections::{HashMap, VecDeque};

use super::connection::Connections;
use crate::limits::FORWARDS_MAX;
use crate::message::{Millis, SessionId, SessionKey, WorkerId};

/// The slot in the id of a session that came from another worker. Such a session is found by the
/// secret part of its id alone.
pub(super) const BY_KEY: u32 = u32::MAX;

/// The workers to which requests of long-polling sessions are passed on.
#[derive(Debug)]
pub(super) struct Forwards {
    to: HashMap<SessionKey, Forward>,
    /// When to check each of them again, in milliseconds since the node started.
    order: VecDeque<(Millis, SessionKey)>,
    /// After how many milliseconds without a request a session's client counts as gone.
    patience: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Forward {
    worker: WorkerId,
    /// When the session's client counts as gone unless it sends another request.
    until: Millis,
}

impl Forwards {
    /// Creates an empty list. A client counts as gone `patience` milliseconds after its last
    /// request.
    pub(super) fn new(patience: Millis) -> Self {
        Self { to: HashMap::new(), order: VecDeque::new(), patience }
    }

    /// Returns whether there are [`FORWARDS_MAX`] of them.
    pub(super) fn is_full(&self) -> bool {
        self.to.len() >= FORWARDS_MAX
    }

    /// Returns the present id of the session that a request names: with its slot here, or with the
    /// worker that it moved to. In the latter case its client counts as present again.
    pub(super) fn locate(
        &mut self,
        session: SessionId,
        connections: &Connections,
        now: Millis,
    ) -> SessionId {
        if session.slot == BY_KEY {
            let slot = connections.slot_by_key(&session.key).unwrap_or(BY_KEY);
            return SessionId { slot, ..session };
        }
        let Some(forward) = self.to.get_mut(&session.key) else { return session };
        forward.until = now + self.patience;
        SessionId { worker: forward.worker, slot: BY_KEY, key: session.key }
    }

    /// Begins to pass on the requests of a session that moves to `worker`. Removes the sessions
    /// whose clients have sent no request in time.
    pub(super) fn add(&mut self, key: SessionKey, worker: WorkerId, now: Millis) {
        self.expire(now);
        let until = now + self.patience;
        self.to.insert(key, Forward { worker, until });
        self.order.push_back((until, key));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_ends_when_its_client_stops_asking() {
        let (mut forwards, connections) = (Forwards::new(100), Connections::new(WorkerId(0)));
        let [one, other, third] = [[1; 9], [2; 9], [3; 9]];
        let session = |key| SessionId { worker: WorkerId(0), slot: 5, key };
        let there = |key| SessionId { worker: WorkerId(1), slot: BY_KEY, key };
        forwards.add(one, WorkerId(1), 0);
        forwards.add(other, WorkerId(1), 10);
        assert_eq!(forwards.locate(session(one), &connections, 90), there(one));
        forwards.add(third, WorkerId(1), 150);
        assert_eq!(forwards.locate(session(one), &connections, 150), there(one));
        assert_eq!(forwards.locate(session(other), &connections, 150), session(other));
        forwards.expire(250);
        assert_eq!((forwards.to.len(), forwards.order.len()), (0, 0));
    }
}
