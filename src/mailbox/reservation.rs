//! Places in bounded queues, reserved before it is known whether they will be needed.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A queue, or several queues, in which places can be reserved.
pub trait Bounded {
    /// Names the places of one reservation.
    type Place: Copy;

    /// Makes reserved places free again.
    fn release(&self, place: Self::Place);
}

/// Reserved places. Using the reservation consumes it; dropping it releases the places.
#[must_use = "dropping a reservation releases it"]
#[derive(Debug)]
pub struct Reservation<'q, Q: Bounded> {
    queue: &'q Q,
    pub(super) place: Q::Place,
}

impl<'q, Q: Bounded> Reservation<'q, Q> {
    /// Creates a reservation of places that the caller has taken in `queue`.
    pub(super) fn new(queue: &'q Q, place: Q::Place) -> Self {
        Self { queue, place }
    }

    /// Returns the queue that the places are in.
    pub fn queue(&self) -> &'q Q {
        self.queue
    }

    /// Ends the reservation and leaves its places taken. The thread that takes the item out of the
    /// queue releases the item's place.
    pub(super) fn consume(self) -> (&'q Q, Q::Place) {
        let parts = (self.queue, self.place);
        mem::forget(self);
        parts
    }
}

impl<Q: Bounded> Drop for Reservation<'_, Q> {
    fn drop(&mut self) {
        self.queue.release(self.place);
    }
}

/// The free places of a queue.
#[derive(Debug)]
pub(super) struct Credits {
    free: AtomicUsize,
    /// The smallest number of free places so far. Written only if there is a new smallest, so that
    /// taking a place costs one more read of the same cache line.
    least: AtomicUsize,
    all: usize,
}

impl Credits {
    pub(super) fn new(all: usize) -> Self {
        Self { free: AtomicUsize::new(all), least: AtomicUsize::new(all), all }
    }

    /// Takes a place. Returns false if none is free.
    pub(super) fn take(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less);
        let Ok(before) = taken else { return false };
        if before <= self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(before - 1, Ordering::Relaxed);
        }
        true
    }

    /// Makes a taken place free again.
    pub(super) fn give(&self) {
        let before = self.free.fetch_add(1, Ordering::AcqRel);
        debug_assert!(before < self.all, "a place is released once");
    }

    /// Takes all free places for good. Returns how many these are.
    pub(super) fn seize(&self) -> usize {
        self.free.swap(0, Ordering::AcqRel)
    }

    pub(super) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    pub(super) fn all(&self) -> usize {
        self.all
    }

    pub(super) fn depth(&self, queue: &'static str, number: usize, slot: &'static str) -> Depth {
        let most = (self.all - self.least.load(Ordering::Relaxed)) as u64;
        let now = (self.all - self.free()) as u64;
        Depth { queue, number, slot, now, most }
    }
}

/// How full a queue is, for its metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Depth {
    /// The role of the thread that owns the queue, or what the queue holds.
    pub queue: &'static str,
    /// The number of that thread, counted from 0.
    pub number: usize,
    /// The kind of mail that the places are for.
    pub slot: &'static str,
    /// Places that are used or reserved.
    pub now: u64,
    /// The largest number of such places so far.
    pub most: u64,
}
