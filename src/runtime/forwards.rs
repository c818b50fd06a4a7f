//! The sessions that left this worker and whose long-polling requests it passes on.

use std::collections::{HashMap, VecDeque};

use crate::limits::FORWARDS_MAX;
use crate::message::{Millis, SessionId, SessionKey, WorkerId};

/// The slot in the id of a session that came from another worker. Such a session is found by the
/// secret part of its id alone.
pub(super) const BY_KEY: u32 = u32::MAX;

/// The workers to which requests of long-polling sessions are passed on.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    to: HashMap<SessionKey, Forward>,
    /// When to check each of them again, in milliseconds since the node started.
    order: VecDeque<(Millis, SessionKey)>,
}

#[derive(Clone, Copy, Debug)]
struct Forward {
    worker: WorkerId,
    /// When the session's client counts as gone unless it sends another request.
    until: Millis,
}

impl Forwards {
    /// Returns whether there are [`FORWARDS_MAX`] of them.
    pub(super) fn is_full(&self) -> bool {
        self.to.len() >= FORWARDS_MAX
    }

    /// Returns the id of a session at its present worker; `None` if its requests are not passed on.
    pub(super) fn find(&self, session: &SessionId) -> Option<SessionId> {
        let Forward { worker, .. } = *self.to.get(&session.key)?;
        Some(SessionId { worker, slot: BY_KEY, key: session.key })
    }

    /// Begins to pass on the requests of a session, until `until` in milliseconds since the node
    /// started.
    pub(super) fn add(&mut self, key: SessionKey, worker: WorkerId, until: Millis) {
        self.to.insert(key, Forward { worker, until });
        self.order.push_back((until, key));
    }

    /// Extends the time of a session whose client sent another request.
    pub(super) fn renew(&mut self, key: &SessionKey, until: Millis) {
        if let Some(forward) = self.to.get_mut(key) {
            forward.until = until;
        }
    }

    /// Removes the sessions whose clients have sent no request in time.
    pub(super) fn expire(&mut self, now: Millis) {
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
