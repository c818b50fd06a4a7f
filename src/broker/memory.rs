//! The bound on the memory that clients make the node hold, all together.
//!
//! A connection whose client takes nothing may hold at most as much as is free. So one client may
//! fill a large outbox on a node at rest, a thousand clients may fill small ones, and the sum stays
//! within the budget: as it fills up, a connection may hold less, and those that hold the most are
//! closed first. Switches share the buffers of their ports in this way ("dynamic thresholds").
//!
//! What the node keeps for other reasons (windows, retained documents, queues to the store) has
//! parts of the budget as bounds of its own, so that half of it is left for connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::received::Buffers;
use crate::limits::{
    HELD_BYTES_MIN, LOOK_MS, MEMORY_PART_DIVISOR, MEMORY_SHORT_DIVISOR, OUTBOX_BYTES_MAX,
    REQUESTS_DIVISOR, REQUESTS_GRANT_BYTES, SHORT_REQUEST_BYTES, SOCKET_BYTES,
};
use crate::message::{Millis, WorkerId};

/// The memory that clients make the node hold. All threads share it.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    /// Bytes that were allocated when the node began to serve.
    base: AtomicUsize,
    /// Bytes in use at the last [`Memory::note`].
    used: AtomicUsize,
    /// The highest of them so far.
    used_most: AtomicUsize,
    /// [`Memory::share`] when the workers were last asked to look through their connections, or a
    /// higher one since.
    looked_at: AtomicUsize,
    /// How often the workers were asked to look through their connections.
    looks: AtomicU64,
    /// When they were last asked, in milliseconds since the node started.
    last_look: AtomicU64,
    /// By worker: sockets that take nothing at the moment.
    blocked: Vec<AtomicUsize>,
    /// Bytes that are granted to acceptors for requests.
    requests: AtomicUsize,
    refused: AtomicU64,
    /// The received buffers that payloads keep alive.
    pub buffers: Buffers,
}

impl Memory {
    /// Creates a budget of `bytes_max` bytes for a node with so many workers.
    pub fn new(bytes_max: usize, workers: usize) -> Self {
        Self {
            bytes_max,
            base: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            used_most: AtomicUsize::new(0),
            looked_at: AtomicUsize::new(OUTBOX_BYTES_MAX),
            looks: AtomicU64::new(0),
            last_look: AtomicU64::new(0),
            blocked: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            requests: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            buffers: Buffers::default(),
        }
    }

    /// Creates a budget without a bound.
    pub fn unbounded() -> Self {
        Self::new(usize::MAX, 0)
    }

    /// Begins to count: the bytes that are allocated already are not held for clients.
    pub fn begin(&self, allocated: usize) {
        self.base.store(allocated, Ordering::Relaxed);
        self.used_most.store(0, Ordering::Relaxed);
    }

    /// Returns the size of the budget, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns the bound of one of the things that the node keeps for other reasons than that a
    /// client does not take it, in bytes: `bytes_max`, or less on a small budget.
    pub fn part(&self, bytes_max: usize) -> usize {
        bytes_max.min(self.bytes_max / MEMORY_PART_DIVISOR)
    }

    /// Returns the bytes in use when they were last noted.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the most bytes that were in use so far.
    pub fn used_most(&self) -> usize {
        self.used_most.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that were refused because too little was free.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn free(&self) -> usize {
        self.bytes_max.saturating_sub(self.used())
    }

    /// Returns how many bytes a connection may hold whose client takes nothing.
    pub fn share(&self) -> usize {
        self.free().clamp(HELD_BYTES_MIN, OUTBOX_BYTES_MAX)
    }

    /// Returns whether the node may hold another `bytes` bytes. If not, counts a refusal.
    pub fn admit(&self, bytes: usize) -> bool {
        let is_free = bytes <= self.free();
        if !is_free {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Changes how many bytes are granted to an acceptor for the requests of its connections, from
    /// `granted` to at least `held`. Grants are whole multiples of [`REQUESTS_GRANT_BYTES`], so
    /// that acceptors seldom write what they share. Returns the new grant.
    pub fn grant_requests(&self, granted: usize, held: usize) -> usize {
        let fitting = held.next_multiple_of(REQUESTS_GRANT_BYTES);
        match fitting.checked_sub(granted) {
            Some(0) => return granted,
            Some(more) => drop(self.requests.fetch_add(more, Ordering::Relaxed)),
            None if granted - fitting == REQUESTS_GRANT_BYTES => return granted,
            None => drop(self.requests.fetch_sub(granted - fitting, Ordering::Relaxed)),
        }
        fitting
    }

    /// Returns how many bytes one request may have. Requests have a part of the budget, of which a
    /// quarter is for short ones, and a longer one may have twice as much as is free of the rest.
    pub fn request_max(&self) -> usize {
        let (part, held) =
            (self.bytes_max / REQUESTS_DIVISOR, self.requests.load(Ordering::Relaxed));
        let short = if held < part { SHORT_REQUEST_BYTES } else { 0 };
        (part / 4 * 3).saturating_sub(held).saturating_mul(2).max(short)
    }

    /// Returns whether so little is free that connections whose clients take nothing are closed,
    /// however little they hold.
    pub fn is_short(&self) -> bool {
        self.free() < self.bytes_max / MEMORY_SHORT_DIVISOR
    }

    /// Returns how many bytes must be freed until twice as much is free as when the node is short.
    pub fn missing(&self) -> usize {
        (self.bytes_max / MEMORY_SHORT_DIVISOR).saturating_mul(2).saturating_sub(self.free())
    }

    /// Notes the bytes that the process has allocated, and adds what the kernel holds for sockets
    /// that take nothing. Returns true if the workers must look through their connections, because
    /// a connection may hold half of what it could when they did so last, or because the node has
    /// been short of memory for [`LOOK_MS`] since.
    pub fn note(&self, allocated: usize, now: Millis) -> bool {
        let blocked: usize = self.blocked.iter().map(|one| one.load(Ordering::Relaxed)).sum();
        let used = allocated.saturating_sub(self.base.load(Ordering::Relaxed));
        let used = used.saturating_add(blocked * SOCKET_BYTES);
        self.used.store(used, Ordering::Relaxed);
        if used > self.used_most() {
            self.used_most.store(used, Ordering::Relaxed);
        }
        let (share, looked_at) = (self.share(), self.looked_at.load(Ordering::Relaxed));
        let has_halved = share <= looked_at / 2;
        let is_due = now >= self.last_look.load(Ordering::Relaxed) + LOOK_MS;
        if share > looked_at || has_halved {
            self.looked_at.store(share, Ordering::Relaxed);
        }
        let must_look = has_halved || (is_due && self.is_short());
        if !must_look {
            return false;
        }
        self.last_look.store(now, Ordering::Relaxed);
        self.looks.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Returns how often the workers were asked to look through their connections.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Sets how many sockets of a worker take nothing at the moment.
    pub fn set_blocked(&self, worker: WorkerId, sockets: usize) {
        if let Some(blocked) = self.blocked.get(worker.index()) {
            blocked.store(sockets, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_connection_may_hold_what_is_free_between_two_bounds() {
        let memory = Memory::new(100 * MIB, 1);
        memory.begin(5 * MIB);
        memory.note(5 * MIB, 0);
        assert_eq!((memory.used(), memory.share()), (0, OUTBOX_BYTES_MAX));
        memory.note(95 * MIB, 0);
        assert_eq!((memory.used(), memory.share()), (90 * MIB, 10 * MIB));
        memory.note(300 * MIB, 0);
        assert_eq!((memory.share(), memory.used_most()), (HELD_BYTES_MIN, 295 * MIB));
        memory.note(0, 0);
        assert_eq!((memory.used(), memory.used_most()), (0, 295 * MIB));
    }

    #[test]
    fn sockets_that_take_nothing_count_for_what_the_kernel_holds() {
        let memory = Memory::new(100 * MIB, 2);
        memory.set_blocked(WorkerId(0), 10);
        memory.set_blocked(WorkerId(1), 5);
        memory.note(MIB, 0);
        assert_eq!(memory.used(), MIB + 15 * SOCKET_BYTES);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_counted() {
        let memory = Memory::new(100 * MIB, 0);
        memory.note(99 * MIB, 0);
        assert_eq!((memory.admit(MIB), memory.admit(MIB + 1), memory.refused()), (true, false, 1));
        assert!(Memory::unbounded().admit(usize::MAX));
    }

    #[test]
    fn a_request_may_have_twice_what_is_free_for_requests() {
        let memory = Memory::new(800 * 1024 * 1024, 1);
        assert_eq!(memory.request_max(), 150 * MIB);
        let granted = memory.grant_requests(0, 40 * MIB + 1);
        assert_eq!(granted, 40 * MIB + REQUESTS_GRANT_BYTES);
        assert_eq!(memory.request_max(), 2 * (75 * MIB - granted));
        assert_eq!(memory.grant_requests(granted, 40 * MIB), granted, "kept for the next request");
        assert_eq!(memory.grant_requests(granted, 0), 0);
        let granted = memory.grant_requests(0, 99 * MIB);
        assert_eq!(memory.request_max(), SHORT_REQUEST_BYTES);
        memory.grant_requests(granted, 100 * MIB);
        assert_eq!(memory.request_max(), 0);
    }

    #[test]
    fn workers_look_when_the_share_has_halved_and_while_memory_is_short() {
        let memory = Memory::new(100 * MIB, 0);
        assert!(!memory.note(90 * MIB, 10_000), "a share of 10 MiB");
        assert!(memory.note(92 * MIB, 10_000), "8 MiB, half of an outbox");
        assert!(!memory.note(95 * MIB, 10_000));
        assert!(memory.note(96 * MIB, 10_000));
        assert!(!memory.note(97 * MIB, 10_999), "short, but they have just looked");
        assert!(memory.note(97 * MIB, 11_000));
        assert!(!memory.note(50 * MIB, 20_000));
        assert!(memory.note(92 * MIB, 20_000), "halved once more");
        assert_eq!(memory.looks(), 4);
    }

    #[test]
    fn what_is_missing_leaves_the_node_no_longer_short() {
        let memory = Memory::new(160 * MIB, 0);
        memory.note(149 * MIB, 0);
        assert!(!memory.is_short());
        memory.note(155 * MIB, 0);
        assert_eq!((memory.is_short(), memory.missing()), (true, 15 * MIB));
        memory.note((155 - 15) * MIB, 0);
        assert_eq!((memory.is_short(), memory.missing()), (false, 0));
    }
}
