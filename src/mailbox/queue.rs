//! The queues of the background threads. In those to the store a publisher reserves a place first,
//! so that everything that is fanned out has a place there. Those for questions refuse what finds
//! no place.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::questions::{Keep, Submitted, Write};
use super::reservation::{Bounded, Credits, Depth, Reservation};
use crate::message::Refused;

/// An item that is bounded by its bytes, too.
pub trait Weighed {
    /// Returns the number of its bytes.
    fn bytes(&self) -> usize;
}

impl Weighed for Keep {
    fn bytes(&self) -> usize {
        self.record.publication.content.bytes()
    }
}

impl Weighed for Submitted {
    fn bytes(&self) -> usize {
        self.publication.content.bytes()
    }
}

impl Weighed for Write {
    fn bytes(&self) -> usize {
        self.what.bytes()
    }
}

/// The sending end of a queue to the store, which is bounded in number and in bytes.
#[derive(Debug)]
pub struct WriteQueue<T> {
    queue: Sender<T>,
    places: Credits,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl<T: Weighed> WriteQueue<T> {
    /// Creates a queue of at most `most` items, which have at most `bytes_max` bytes together.
    pub(super) fn new(most: usize, bytes_max: usize) -> (Self, Receiver<T>) {
        // Only reserved places are used, so that the credits bound it. A bounded queue would hold
        // the memory of all places at all times.
        let (queue, receiver) = unbounded();
        let places = Credits::new(most);
        (Self { queue, places, bytes: AtomicUsize::new(0), bytes_max }, receiver)
    }

    /// Reserves a place for an item of `bytes` bytes. Returns `None` at the bounds; an empty queue
    /// has a place for an item of any size.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation<'_, Self>> {
        if !self.places.take() {
            return None;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Reservation::new(self, bytes);
        let fits = before == 0 || before + bytes <= self.bytes_max;
        fits.then_some(place)
    }

    /// Reserves a place and uses it.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] at the bounds.
    pub fn offer(&self, what: T) -> Result<(), Refused> {
        self.reserve(what.bytes()).ok_or(Refused::Overloaded)?.post(what);
        Ok(())
    }

    /// Closes the queue by taking its free places for good. Calls `empty` to have queued items
    /// taken out, until no place is used or reserved: then nothing can follow. Returns false if
    /// that is not so when `empty` returns false.
    pub fn close(&self, mut empty: impl FnMut() -> bool) -> bool {
        let mut seized = self.places.seize();
        while seized < self.places.all() {
            if !empty() {
                return false;
            }
            seized += self.places.seize();
        }
        true
    }

    /// Releases the place of an item that the writer has taken out.
    pub fn taken(&self, what: &T) {
        self.release(what.bytes());
    }

    /// Puts an item into a promised place.
    pub fn fulfil(&self, what: T) {
        // This fails only if the writer is gone, which outlives the publishers.
        let _ = self.queue.send(what);
    }

    /// Releases a promised place of an item of `bytes` bytes.
    pub fn give_up(&self, bytes: usize) {
        self.release(bytes);
    }

    pub(super) fn depth(&self, queue: &'static str, slot: &'static str) -> Depth {
        self.places.depth(queue, 0, slot)
    }
}

impl<T> Bounded for WriteQueue<T> {
    /// Bytes of the item.
    type Place = usize;

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.places.give();
    }
}

impl<T: Weighed> Reservation<'_, WriteQueue<T>> {
    /// Puts the item into the queue.
    pub fn post(self, what: T) {
        let (queue, _) = self.consume();
        queue.fulfil(what);
    }

    /// Keeps the place for an item that another thread puts into it later.
    pub fn promise(self) {
        self.consume();
    }
}

/// The sending end of a bounded queue of questions to a thread.
#[derive(Debug)]
pub(super) struct AskQueue<T> {
    queue: Sender<T>,
    /// The largest number of queued items so far.
    most: AtomicUsize,
}

impl<T> AskQueue<T> {
    pub(super) fn new(most: usize) -> (Self, Receiver<T>) {
        let (queue, receiver) = bounded(most);
        (Self { queue, most: AtomicUsize::new(0) }, receiver)
    }

    /// Puts the item into the queue.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if the queue is full.
    pub(super) fn offer(&self, what: T) -> Result<(), Refused> {
        let taken = self.queue.try_send(what).map_err(|_| Refused::Overloaded);
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
        assert_eq!(queue.offer(Bytes(2)), Err(Refused::Overloaded));
        drop(places);

        assert_eq!(queue.offer(Bytes(1_001)), Ok(()), "an empty queue has room for anything");
        assert_eq!(queue.offer(Bytes(2)), Err(Refused::Overloaded));
        queue.taken(&receiver.recv().unwrap());
        let offered = [500, 500, 2].map(|bytes| queue.offer(Bytes(bytes)));
        assert_eq!(offered, [Ok(()), Ok(()), Err(Refused::Overloaded)]);
    }

    #[test]
    fn a_closed_queue_ends_with_what_had_a_place() {
        let (queue, receiver) = WriteQueue::new(3, 1_000);
        queue.offer(Bytes(1)).unwrap();
        let mut reserved = queue.reserve(2);
        let mut taken = Vec::new();
        let is_closed = queue.close(|| {
            assert_eq!(queue.offer(Bytes(9)), Err(Refused::Overloaded));
            if let Ok(item) = receiver.try_recv() {
                queue.taken(&item);
                taken.push(item.0);
            } else {
                reserved.take().unwrap().post(Bytes(2));
            }
            true
        });
        assert!(is_closed);
        assert_eq!(taken, [1, 2]);

        let (queue, _receiver) = WriteQueue::<Bytes>::new(3, 1_000);
        let _reserved = queue.reserve(2);
        assert!(!queue.close(|| false));
    }
}
