//! All outboxes of a worker: frames are added here, and connections with frames to send are in one
//! list until the turn drains them.

use std::collections::VecDeque;

use super::link::Link;
use crate::broker::outbox::{Full, Spares};
use crate::broker::outgoing::Outgoing;
use crate::broker::shedding::Lost;
use crate::limits::STATE_OUTBOX_BYTES_MAX;
use crate::message::ConnId;

/// Connections that have frames to send, and the state that all outboxes of a worker share.
#[derive(Debug)]
pub struct Outboxes<F> {
    dirty: VecDeque<u32>,
    /// Connections whose outbox overflowed.
    doomed: Vec<u32>,
    /// Losses that are not counted in the metrics yet.
    lost: Lost,
    /// Queues for the next outboxes that need one.
    pub spares: Spares<F>,
    /// Connections that have taken all their frames and have stale documents.
    pub stale: Vec<ConnId>,
}

impl<F> Default for Outboxes<F> {
    fn default() -> Self {
        Self {
            dirty: VecDeque::new(),
            doomed: Vec::new(),
            lost: Lost::default(),
            spares: Spares::default(),
            stale: Vec::new(),
        }
    }
}

impl<F: Outgoing + Clone> Outboxes<F> {
    /// Puts a frame into the outbox of the connection in `slot`. Returns false if the connection
    /// cannot take it: it is too slow and will be closed.
    pub fn push(&mut self, slot: u32, link: &mut Link<F>, frame: F) -> bool {
        if link.is_doomed {
            return false;
        }
        if frame.is_state() && Self::is_left_stale(link, &frame) {
            self.lost.conflated += 1;
            return true;
        }
        let reload = link.is_stale().then(|| frame.clone());
        if let Err(Full(frame)) = link.outbox.push(frame, &mut self.spares)
            && let Err(frame) = self.shed_and_push(link, frame)
        {
            if Self::mark_stale(link, &frame) {
                self.lost.conflated += 1;
                return true;
            }
            link.is_doomed = true;
            self.doomed.push(slot);
            return false;
        }
        if let Some(document) = reload.as_ref().and_then(Outgoing::expendable) {
            link.with_stale(|stale| stale.sent(document));
        }
        if link.is_blocked {
            self.relieve(link);
        }
        self.mark(slot, link);
        true
    }

    /// Decides whether to leave a document stale, because the connection takes nothing at the
    /// moment and much is in its outbox. The document is read again when the client has taken its
    /// frames.
    fn is_left_stale(link: &mut Link<F>, frame: &F) -> bool {
        let waits = link.outbox.bytes() + frame.as_ref().len();
        link.is_blocked
            && waits > STATE_OUTBOX_BYTES_MAX
            && !link.outbox.is_empty()
            && Self::mark_stale(link, frame)
    }

    /// Marks a document as stale. Returns false if the frame is not a document's.
    fn mark_stale(link: &mut Link<F>, frame: &F) -> bool {
        let Some(document) = frame.expendable().filter(|_| frame.is_state()) else { return false };
        link.with_stale(|stale| stale.mark(document))
    }

    /// Puts a frame into a full outbox, in place of frames that their channels can do without.
    #[cold]
    fn shed_and_push(&mut self, link: &mut Link<F>, frame: F) -> Result<(), F> {
        let Some(lost) = link.outbox.shed(&frame) else { return Err(frame) };
        self.lost.add(lost);
        link.outbox.push(frame, &mut self.spares).map_err(|Full(frame)| frame)
    }

    /// Drops outdated publications from the outbox of a connection that takes nothing at the
    /// moment, once the outbox is crowded.
    pub fn relieve(&mut self, link: &mut Link<F>) {
        if link.outbox.is_crowded() {
            self.lost.add(link.outbox.conflate());
        }
    }

    /// Notes that a connection must be drained before the turn ends.
    pub fn mark(&mut self, slot: u32, link: &mut Link<F>) {
        if !link.is_dirty && !link.is_blocked {
            link.is_dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Returns the next connection to drain.
    pub fn next_dirty(&mut self) -> Option<u32> {
        self.dirty.pop_front()
    }

    /// Returns the next connection whose outbox overflowed.
    pub fn next_doomed(&mut self) -> Option<u32> {
        self.doomed.pop()
    }

    /// Returns what the outboxes lost since the last call; `None` if that is nothing.
    pub fn take_lost(&mut self) -> Option<Lost> {
        (self.lost != Lost::default()).then(|| std::mem::take(&mut self.lost))
    }

    /// Returns whether no connection has to be drained.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }
}
