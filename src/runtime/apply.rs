//! Hands the bytes of a connection to its session, and carries out what events ask of the runtime.

use super::connection::Connection;
use super::worker::Worker;
use super::{migrate, upgrade};
use crate::codec::websocket::Decoder;
use crate::interface::Session;
use crate::interface::context::Context;
use crate::interface::next::{Next, Reason};

impl Worker {
    /// Hands received bytes to the connection's session until they are used up or the connection
    /// has ended. Returns the slot that now owns the socket; `None` if the connection has ended.
    pub fn receive(&mut self, mut slot: u32, bytes: &mut [u8]) -> Option<u32> {
        let mut at = 0;
        loop {
            let next = self
                .on(slot, |session, ctx, decoder| session.on_bytes(ctx, decoder, bytes, &mut at));
            match next {
                Some(Next::Stay) => return Some(slot),
                Some(next) => slot = self.apply(slot, next, &bytes[at..])?,
                // If the connection is being closed, its bytes are discarded.
                None => return self.connections.get_mut(slot).map(|_| slot),
            }
        }
    }

    /// Calls the session in a slot with an event that no bytes follow, and carries out what it asks
    /// for.
    pub(super) fn handle(
        &mut self,
        slot: u32,
        event: impl FnOnce(&mut Session, &mut Context<'_>, &mut Decoder) -> Next,
    ) {
        if let Some(next) = self.on(slot, event) {
            self.apply(slot, next, &[]);
        }
    }

    /// Carries out what an event asked of the runtime. `rest` are the bytes after the message that
    /// caused the event. Returns the slot that now owns the socket; `None` if the connection has
    /// ended or moved.
    pub(super) fn apply(&mut self, slot: u32, next: Next, rest: &[u8]) -> Option<u32> {
        match next {
            Next::Stay => {}
            Next::Close(close) => self.close(slot, close),
            Next::Renew => self.connections.renew(slot),
            Next::Migrate { to, auth } => {
                let next = migrate::depart(self, slot, (to, &auth), rest)?;
                return self.apply(slot, next, rest);
            }
            Next::Offer { session, step } => return upgrade::offer(self, slot, &session, step),
            Next::Displace { old, resuming } => {
                let held = self.connections.by_id(old).and_then(Connection::session);
                let is_theirs = held.is_some_and(|one| one.holds(&resuming.credential));
                if is_theirs {
                    self.remove(old.slot, Reason::Client);
                }
                let next = self
                    .on(slot, |session, ctx, _| session.on_displaced(ctx, &resuming, is_theirs));
                return self.apply(slot, next?, rest);
            }
        }
        self.connections.get_mut(slot).map(|_| slot)
    }
}
