//! All outboxes of a worker: frames are added here, and connections with frames to send are in one
//! list until the turn drains them.

use std::collections::VecDeque;

use super::link::{Link, Progress};
use crate::broker::outbox::{Full, Spares};
use crate::broker::outgoing::Outgoing;
use crate::broker::shedding::Lost;
use crate::limits::{OUTBOX_BYTES_MAX, STATE_OUTBOX_BYTES_MAX};
use crate::message::ConnId;

/// Connections that have frames to send, and the state that all outboxes of a worker share.
#[derive(Debug)]
pub struct Outboxes<F> {
    dirty: VecDeque<u32>,
    /// Connections that hold too much.
    doomed: Vec<(u32, Excess)>,
    /// What a connection may hold whose client takes nothing, in bytes.
    share: usize,
    /// Sockets that take nothing at the moment.
    blocked: usize,
    /// Losses that are not counted in the metrics yet.
    lost: Lost,
    /// Queues for the next outboxes that need one.
    pub spares: Spares<F>,
    /// Connections that have taken all their frames and have stale documents.
    pub stale: Vec<ConnId>,
}

/// The bound that a connection exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// The bound of an outbox.
    Outbox,
    /// The connection's share of the node's memory.
    Memory,
}

impl<F> Default for Outboxes<F> {
    fn default() -> Self {
        Self {
            dirty: VecDeque::new(),
            doomed: Vec::new(),
            share: OUTBOX_BYTES_MAX,
            blocked: 0,
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
        if link.progress == Progress::Doomed {
            return false;
        }
        if frame.is_state() && Self::is_left_stale(link, &frame) {
            self.lost.conflated += 1;
            return true;
        }
        let reload = link.is_stale().then(|| frame.clone());
        let bytes_max = self.bytes_max(link);
        if let Err(Full(frame)) = link.outbox.push(frame, bytes_max, &mut self.spares)
            && let Err(frame) = self.shed_and_push(link, frame, bytes_max)
        {
            if Self::mark_stale(link, &frame) {
                self.lost.conflated += 1;
                return true;
            }
            let is_short = bytes_max + link.sealed() < OUTBOX_BYTES_MAX;
            self.doom(slot, link, if is_short { Excess::Memory } else { Excess::Outbox });
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

    /// Returns how many bytes the outbox of a connection may have: [`OUTBOX_BYTES_MAX`], or the
    /// connection's share of the node's memory if its client takes nothing and it holds more.
    fn bytes_max(&self, link: &Link<F>) -> usize {
        // Nothing is sealed and not sent while the socket takes everything.
        if !link.is_blocked && link.socket.is_some() {
            return OUTBOX_BYTES_MAX;
        }
        let is_within = link.outbox.bytes() <= self.share || link.outbox.own_bytes() <= self.share;
        let most = if is_within { OUTBOX_BYTES_MAX } else { self.share };
        most.saturating_sub(link.sealed())
    }

    /// Sets what a connection may hold whose client takes nothing, in bytes.
    pub fn set_share(&mut self, share: usize) {
        self.share = share;
    }

    /// Notes that a connection must be closed, because it holds too much.
    pub fn doom(&mut self, slot: u32, link: &mut Link<F>, excess: Excess) {
        link.progress = Progress::Doomed;
        self.doomed.push((slot, excess));
    }

    /// Notes that a socket takes nothing at the moment.
    pub fn block(&mut self, link: &mut Link<F>) {
        if !link.is_blocked {
            link.is_blocked = true;
            self.blocked += 1;
        }
    }

    /// Notes that a socket takes something again, or has ended. Returns false if it was not
    /// blocked.
    pub fn unblock(&mut self, link: &mut Link<F>) -> bool {
        if !link.is_blocked {
            return false;
        }
        link.is_blocked = false;
        if link.progress == Progress::Stuck {
            link.progress = Progress::Moving;
        }
        self.blocked -= 1;
        true
    }

    /// Returns how many sockets take nothing at the moment.
    pub fn blocked(&self) -> usize {
        self.blocked
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
    fn shed_and_push(&mut self, link: &mut Link<F>, frame: F, bytes_max: usize) -> Result<(), F> {
        let Some(lost) = link.outbox.shed(&frame, bytes_max) else { return Err(frame) };
        self.lost.add(lost);
        link.outbox.push(frame, bytes_max, &mut self.spares).map_err(|Full(frame)| frame)
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

    /// Returns the next connection that holds too much, and the bound that it exceeded.
    pub fn next_doomed(&mut self) -> Option<(u32, Excess)> {
        self.doomed.pop()
    }

    /// Returns what the outboxes lost since the last call; `None` if that is nothing.
    pub fn take_lost(&mut self) -> Option<Lost> {
        (self.lost != Lost::default()).then(|| std::mem::take(&mut self.lost))
    }

    /// Returns how many connections have to be drained.
    pub fn waiting(&self) -> usize {
        self.dirty.len()
    }

    /// Returns whether no connection has to be drained.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }
}
