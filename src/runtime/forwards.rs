//! Where requests of long-polling sessions are passed on to that went on at other workers.

use std::collections::{HashMap, VecDeque};

use crate::limits::FORWARDS_MAX;
use crate::message::{Millis, SessionId, SessionKey, WorkerId};

/// In the place of the slot in the id of a session that came from another worker: it is found by
/// the secret part of its id.
pub(super) const BY_KEY: u32 = u32::MAX;

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
    /// Whether there are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.to.len() >= FORWARDS_MAX
    }

    /// Returns the id of a session where it is now; `None` if its requests are not passed on.
    pub(super) fn find(&self, session: &SessionId) -> Option<SessionId> {
        let Forward { worker, .. } = *self.to.get(&session.key)?;
        Some(SessionId { worker, slot: BY_KEY, key: session.key })
    }

    /// Passes the requests of a session on until then, in milliseconds since the node started.
    pub(super) fn add(&mut self, key: SessionKey, worker: WorkerId, until: Millis) {
        self.to.insert(key, Forward { worker, until });
        self.order.push_back((until, key));
    }

    /// Notes that the client of a session still asks.
    pub(super) fn renew(&mut self, key: &SessionKey, until: Millis) {
        if let Some(forward) = self.to.get_mut(key) {
            forward.until = until;
        }
    }

    /// Forgets the sessions whose clients have stopped asking.
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
