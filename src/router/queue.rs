//! The ways to the cold threads. Into the store: bounded queues whose places are set aside before
//! what they are for is decided, so that what is fanned out always has a place there. For what is
//! asked: bounded queues that refuse where they are full.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::mail::{AcceptorId, Ticket};
use super::mailbox::{Credits, Depth};
use crate::message::{DocumentWrite, Durability, Record};

/// A publication that is to be kept.
#[derive(Debug)]
pub struct Keep {
    /// What.
    pub record: Record,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// Whom to answer; nobody, where the publisher does not wait.
    pub from: Option<(AcceptorId, Ticket)>,
}

/// A document that is to be written.
#[derive(Debug)]
pub struct Write {
    /// What.
    pub what: DocumentWrite,
    /// How safe it must be before its writer is answered.
    pub level: Durability,
    /// Whom to answer.
    pub from: (AcceptorId, Ticket),
}

/// What is bounded by its bytes, too.
pub trait Weighed {
    /// How many it has.
    fn bytes(&self) -> usize;
}

impl Weighed for Keep {
    fn bytes(&self) -> usize {
        self.record.publication.content.bytes()
    }
}

impl Weighed for Write {
    fn bytes(&self) -> usize {
        self.what.bytes()
    }
}

/// The sending end, shared by everybody who has something to store.
#[derive(Debug)]
pub struct WriteQueue<T> {
    queue: Sender<T>,
    places: Credits,
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A place in the queue. It must be used or given back.
#[derive(Clone, Copy, Debug)]
#[must_use = "a place that is neither used nor given back is lost"]
pub struct Place {
    bytes: usize,
}

impl<T: Weighed> WriteQueue<T> {
    /// Of so many, with so many bytes together.
    pub(super) fn new(most: usize, bytes_max: usize) -> (Self, Receiver<T>) {
        let (queue, receiver) = bounded(most);
        let places = Credits::new(most);
        (Self { queue, places, bytes: AtomicUsize::new(0), bytes_max }, receiver)
    }

    /// Sets a place aside for something of so many bytes. `None` at the bounds; anything finds room
    /// in an empty queue.
    pub fn reserve(&self, bytes: usize) -> Option<Place> {
        let place = Place { bytes };
        if !self.places.take() {
            return None;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > self.bytes_max {
            self.release(place);
            return None;
        }
        Some(place)
    }

    /// Gives a place back unused.
    pub fn release(&self, place: Place) {
        self.bytes.fetch_sub(place.bytes, Ordering::Relaxed);
        self.places.give();
    }

    /// Uses a place.
    pub fn post(&self, _place: Place, what: T) {
        // There is a place for every credit, and the writer outlives the publishers.
        let _ = self.queue.try_send(what);
    }

    /// Sets a place aside and uses it. False at the bounds.
    pub fn offer(&self, what: T) -> bool {
        let place = self.reserve(what.bytes());
        let Some(place) = place else { return false };
        self.post(place, what);
        true
    }

    /// The writer has taken this one: its place is free again.
    pub fn taken(&self, what: &T) {
        self.release(Place { bytes: what.bytes() });
    }

    pub(super) fn depth(&self, queue: &'static str, slot: &'static str) -> Depth {
        self.places.depth(queue, 0, slot)
    }
}

/// The sending end of a bounded queue for what may be asked of a thread.
#[derive(Debug)]
pub(super) struct AskQueue<T> {
    queue: Sender<T>,
    /// The most that ever waited.
    most: AtomicUsize,
}

impl<T> AskQueue<T> {
    pub(super) fn new(most: usize) -> (Self, Receiver<T>) {
        let (queue, receiver) = bounded(most);
        (Self { queue, most: AtomicUsize::new(0) }, receiver)
    }

    /// False where the queue is full.
    pub(super) fn offer(&self, what: T) -> bool {
        let taken = self.queue.try_send(what).is_ok();
        self.most.fetch_max(self.queue.len(), Ordering::Relaxed);
        taken
    }

    pub(super) fn depth(&self, queue: &'static str, slot: &'static str) -> Depth {
        let (now, most) = (self.queue.len() as u64, self.most.load(Ordering::Relaxed) as u64);
        Depth { queue, number: 0, slot, now, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Bytes(usize);

    impl Weighed for Bytes {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn places_are_bounded_in_number_and_bytes_and_come_back() {
        let (queue, receiver) = WriteQueue::new(5, 1_000);
        let places: Vec<_> = (0..9).map_while(|_| queue.reserve(2)).collect();
        assert_eq!(places.len(), 5);
        assert!(!queue.offer(Bytes(2)));
        places.into_iter().for_each(|place| queue.release(place));

        assert!(queue.offer(Bytes(1_001)), "an empty queue has room for anything");
        assert!(!queue.offer(Bytes(2)));
        queue.taken(&receiver.recv().unwrap());
        assert!(queue.offer(Bytes(500)) && queue.offer(Bytes(500)) && !queue.offer(Bytes(2)));
    }
}
