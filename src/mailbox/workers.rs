//! The mailboxes of all workers, and places for one publication in many of them.

use std::sync::Arc;

use super::inbox::{Capacity, Inbox, Mailbox, Slot, mailbox};
use super::mail::Mail;
use super::reservation::{Bounded, Reservation};
use crate::limits::WORKERS_MAX;
use crate::message::{Delivery, Offset, Publication, WorkerId};

/// A set of workers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WorkerSet([u64; 4]);

const _: () = assert!(WORKERS_MAX <= 256, "every worker has a bit");

impl WorkerSet {
    /// Adds a worker. It may be in the set already.
    pub fn insert(&mut self, worker: WorkerId) {
        self.0[worker.index() / 64] |= 1 << (worker.index() % 64);
    }

    /// Adds the workers of another set.
    pub fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(bits, more)| *bits |= more);
    }

    fn contains(self, worker: WorkerId) -> bool {
        self.0[worker.index() / 64] & (1 << (worker.index() % 64)) != 0
    }

    fn remove(&mut self, worker: WorkerId) {
        self.0[worker.index() / 64] &= !(1 << (worker.index() % 64));
    }

    /// Calls `each` for every worker of the set.
    fn for_each(self, mut each: impl FnMut(WorkerId)) {
        for (word, mut bits) in (0u8..).zip(self.0) {
            while bits != 0 {
                // The number of trailing zeros is below 64.
                let bit = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
                each(WorkerId(word * 64 + bit));
                bits &= bits - 1;
            }
        }
    }
}

/// The mailboxes of all workers, by worker.
#[derive(Debug)]
pub struct WorkerMailboxes(Vec<Arc<Mailbox<Mail>>>);

impl WorkerMailboxes {
    /// Creates mailboxes of that capacity for `workers` workers.
    ///
    /// # Errors
    /// If the system gives no event descriptors.
    pub fn new(workers: usize, capacity: Capacity) -> std::io::Result<(Self, Vec<Inbox<Mail>>)> {
        let pairs = (0..workers).map(|_| mailbox(capacity));
        let (mailboxes, inboxes) = pairs.collect::<std::io::Result<(Vec<_>, Vec<_>)>>()?;
        Ok((Self(mailboxes), inboxes))
    }

    /// Returns how many workers there are.
    #[allow(clippy::len_without_is_empty, reason = "a node has at least one worker")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns a worker's mailbox.
    pub fn of(&self, worker: WorkerId) -> &Mailbox<Mail> {
        &self.0[worker.index()]
    }

    /// Iterates over all mailboxes, in the order of the workers' ids.
    pub fn iter(&self) -> impl Iterator<Item = &Mailbox<Mail>> {
        self.0.iter().map(Arc::as_ref)
    }

    /// Reserves a place for a publication at each of these workers, which must all be different.
    /// Returns `None` if one of them has no free place; then none is reserved.
    pub fn reserve(
        &self,
        workers: impl Iterator<Item = WorkerId>,
    ) -> Option<Reservation<'_, Self>> {
        let mut reserved = Reservation::new(self, WorkerSet::default());
        for worker in workers {
            if !self.of(worker).credits(Slot::Publication).take() {
                return None;
            }
            reserved.place.insert(worker);
        }
        Some(reserved)
    }

    /// Reserves a place for a publication at every worker. A document is committed between this and
    /// its fan-out, so that the fan-out cannot fail.
    pub fn reserve_all(&self) -> Option<Reservation<'_, Self>> {
        // WORKERS_MAX is 256 at most, so that u8 holds every worker's number.
        self.reserve((0..=u8::MAX).map(WorkerId).take(self.0.len()))
    }

    /// Wakes those of these workers that sleep.
    pub fn wake(&self, workers: WorkerSet) {
        workers.for_each(|worker| self.of(worker).wake());
    }

    /// Ends the wait of every worker, whether it sleeps already or not.
    pub fn ring_all(&self) {
        self.0.iter().for_each(|mailbox| mailbox.doorbell().ring());
    }
}

impl Bounded for WorkerMailboxes {
    type Place = WorkerSet;

    fn release(&self, workers: WorkerSet) {
        workers.for_each(|worker| self.of(worker).release(Slot::Publication));
    }
}

impl Reservation<'_, WorkerMailboxes> {
    /// Splits off the places at these workers. The reservation must have a place at each of them.
    pub fn split(&mut self, workers: impl Iterator<Item = WorkerId>) -> Self {
        let mut split = Reservation::new(self.queue(), WorkerSet::default());
        for worker in workers {
            debug_assert!(self.place.contains(worker), "a place can be split off once");
            self.place.remove(worker);
            split.place.insert(worker);
        }
        split
    }

    /// Posts a publication with its offset to all workers of the reservation. Returns the workers
    /// to [wake](WorkerMailboxes::wake) once no lock is held.
    #[must_use = "the workers must be woken"]
    pub fn post(self, publication: &Arc<Publication>, offset: Offset) -> WorkerSet {
        let (mailboxes, workers) = self.consume();
        workers.for_each(|worker| {
            let delivery = Delivery { publication: publication.clone(), offset };
            mailboxes.of(worker).put(Mail::Deliver(delivery));
        });
        workers
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::{Channel, Content};

    const CAPACITY: Capacity = Capacity { publications: 1, control: 1 };

    fn publication() -> Arc<Publication> {
        let content = Content::Event { payload: "1".into() };
        Arc::new(Publication::new(Uuid::nil(), Channel::from("c"), 0, content))
    }

    #[test]
    fn a_place_at_each_worker_is_reserved_or_none_at_all() {
        let (mailboxes, _inboxes) = WorkerMailboxes::new(2, CAPACITY).unwrap();
        let (first, second) = (mailboxes.of(WorkerId(0)), mailboxes.of(WorkerId(1)));
        let other = second.reserve(Slot::Publication);
        assert!(other.is_some() && mailboxes.reserve_all().is_none());
        assert_eq!(first.free(Slot::Publication), 1);
        drop(other);
        let all = mailboxes.reserve_all();
        assert!(all.is_some() && mailboxes.reserve_all().is_none());
        drop(all);
        assert!(mailboxes.reserve_all().is_some());
    }

    #[test]
    fn what_is_split_off_is_used_and_the_rest_is_released() {
        let (mailboxes, inboxes) = WorkerMailboxes::new(2, CAPACITY).unwrap();
        let (first, second) = (mailboxes.of(WorkerId(0)), mailboxes.of(WorkerId(1)));
        let mut all = mailboxes.reserve_all().expect("nobody has any of it");
        let woken = all.split(std::iter::once(WorkerId(0))).post(&publication(), 1);
        assert_eq!((first.free(Slot::Publication), second.free(Slot::Publication)), (0, 0));
        drop(all);
        assert_eq!((first.free(Slot::Publication), second.free(Slot::Publication)), (0, 1));
        let mut expected = WorkerSet::default();
        expected.insert(WorkerId(0));
        assert_eq!(woken, expected);
        assert!(inboxes[0].take(Mail::slot).is_some());
        assert_eq!(first.free(Slot::Publication), 1);
    }

    #[test]
    fn a_set_visits_each_of_its_workers_once() {
        let all = [0, 1, 63, 64, 191, 192, 249].map(WorkerId);
        let mut set = WorkerSet::default();
        all.into_iter().rev().for_each(|worker| set.insert(worker));
        let mut visited = Vec::new();
        set.for_each(|worker| visited.push(worker));
        assert_eq!(visited, all);
        all.into_iter().for_each(|worker| set.remove(worker));
        assert_eq!(set, WorkerSet::default());
    }
}
