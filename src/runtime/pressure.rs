//! Keeps what clients make the node hold within `memory.client_bytes`: notes how much that is, and
//! closes the connections that hold the most.

use std::cmp::Reverse;

use super::connection::{Connection, State};
use super::worker::Worker;
use crate::broker::link::Progress;
use crate::interface::next::Reason;
use crate::limits::{LOOK_CLOSES_MAX, LOOK_MS, SOCKET_BYTES};
use crate::message::Millis;

impl Worker {
    /// Notes the memory in use, as `allocated` counts it, at most once a millisecond. If a worker
    /// has asked for it, looks through the connections and closes those that hold too much.
    pub fn watch_memory(&mut self, allocated: impl Fn() -> usize) {
        let now = self.now.monotonic();
        if self.watch.noted == now {
            return;
        }
        self.watch.noted = now;
        if self.note(&allocated) {
            self.shared.interfaces.broker.mailboxes.workers.ring_all();
        }
        let looks = self.shared.interfaces.broker.memory.looks();
        if looks != self.watch.looked && self.look(&allocated) {
            self.watch.looked = looks;
        }
    }

    /// Returns when the memory must be noted again, in milliseconds since the node started; `None`
    /// if that has time until the next turn.
    pub(super) fn next_note(&self) -> Option<Millis> {
        let memory = &self.shared.interfaces.broker.memory;
        let is_due = memory.looks() != self.watch.looked;
        let wait = if is_due { 1 } else { LOOK_MS };
        (is_due || memory.is_short()).then(|| self.now.monotonic() + wait)
    }

    fn note(&mut self, allocated: impl Fn() -> usize) -> bool {
        let memory = &self.shared.interfaces.broker.memory;
        memory.set_blocked(self.id, self.local.outboxes.blocked());
        let must_look = memory.note(allocated(), self.now.monotonic());
        self.local.outboxes.set_share(memory.share());
        must_look
    }

    /// Closes the connections that hold more than their share. While the node is short of memory,
    /// also closes those whose clients have taken nothing since the look before, first those that
    /// hold the most. Returns false if there are more of them than [`LOOK_CLOSES_MAX`].
    fn look(&mut self, allocated: impl Fn() -> usize) -> bool {
        let memory = &self.shared.interfaces.broker.memory;
        let (share, is_short) = (memory.share(), memory.is_short());
        let now = self.now.monotonic();
        let marks = is_short && now >= self.watch.marked + LOOK_MS;
        // Marks of an earlier shortage say nothing about this one.
        let are_recent = now < self.watch.marked + 3 * LOOK_MS;
        if marks {
            self.watch.marked = now;
        }
        let mut found = Vec::new();
        for slot in self.connections.taken().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            let bytes = held(connection);
            // A session on long-polling takes nothing between two polls, and is not marked for it.
            let may_stick = bytes > 0 && connection.link.socket.is_some();
            let is_stuck = may_stick && connection.link.progress == Progress::Stuck;
            if bytes > share || (marks && are_recent && is_stuck) {
                found.push((bytes, slot));
            }
            if marks {
                connection.link.progress =
                    if may_stick { Progress::Stuck } else { Progress::Moving };
            }
        }
        found.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        for (closed, (bytes, slot)) in found.into_iter().enumerate() {
            self.note(&allocated);
            let memory = &self.shared.interfaces.broker.memory;
            if bytes <= memory.share() && memory.missing() == 0 {
                break;
            }
            if closed == LOOK_CLOSES_MAX {
                return false;
            }
            self.remove(slot, Reason::Memory);
        }
        true
    }
}

/// Returns the bytes that a connection holds because its client does not take what it is sent, or
/// does not finish what it sends. 0 if the client keeps up.
fn held(connection: &Connection) -> usize {
    let Connection { decoder, link, state, sealed } = connection;
    let is_full = link.is_blocked || link.socket.is_none();
    let queued = if is_full { link.outbox.own_bytes() + link.sealed() } else { 0 };
    let in_kernel = if link.is_blocked { SOCKET_BYTES } else { 0 };
    let unfinished = match state {
        State::Open(session) => session.held_bytes(),
        State::Closing { .. } => 0,
    };
    let incomplete = sealed.as_ref().map_or(0, |sealed| sealed.held_bytes());
    queued + in_kernel + decoder.held_bytes() + unfinished + incomplete
}
