//! Sessions that the nodes of a cluster share: passes answers on to them, and lets them tell the
//! other nodes what they are.

use super::worker::Worker;
use crate::interface::resuming;
use crate::limits::TURN_MAIL_MAX;
use crate::message::{SessionTold, SessionWord};

impl Worker {
    /// Passes the answer to what was asked for a session on to it.
    pub(super) fn session_told(&mut self, SessionTold { session: key, what }: SessionTold) {
        let shared = self.shared.clone();
        match what {
            SessionWord::Shared(answer) => {
                let detached = self.local.detached.as_ref();
                let id = detached.and_then(|detached| detached.connection(&key));
                match id.filter(|id| self.connections.by_id(*id).is_some()) {
                    Some(id) => {
                        self.handle(id.slot, |session, ctx, _| session.on_shared(ctx, answer));
                    }
                    None => {
                        let which = (&key, self.now.monotonic());
                        let local = &mut self.local;
                        resuming::answered_away(local, &shared.interfaces, which, answer);
                    }
                }
            }
            SessionWord::Taken(id, taken) => {
                let taken = taken.map(|taken| *taken);
                let rest = match self.connections.by_id(id).is_some() {
                    true => {
                        self.on(id.slot, |session, ctx, _| session.on_taken(ctx, taken)).flatten()
                    }
                    false => taken.ok(),
                };
                if let Some(taken) = rest {
                    let session = (taken.session, taken.now);
                    resuming::give_back(&shared.interfaces, self.id, key, session);
                }
            }
        }
    }

    /// Lets sessions tell the other nodes what they are, whose time for that has come.
    pub(super) fn share_sessions(&mut self) {
        for _ in 0..TURN_MAIL_MAX {
            let Some(detached) = &mut self.local.detached else { return };
            let Some(due) = detached.next_to_share(self.now.monotonic()) else { return };
            let id = detached.connection(&due.key);
            match id.filter(|id| self.connections.by_id(*id).is_some()) {
                Some(id) => {
                    self.on(id.slot, |session, ctx, _| session.share(ctx, due.is_again));
                }
                None => {
                    let shared = self.shared.clone();
                    let (which, now) = ((due.key, due.is_again), self.now.monotonic());
                    resuming::share_away(&mut self.local, &shared.interfaces, which, now);
                }
            }
        }
    }
}
