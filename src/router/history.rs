//! The way into history: a bounded queue whose places are set aside before a publication is
//! stamped, so that what is fanned out always has a place there.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::mail::{AcceptorId, Ticket};
use super::mailbox::{Credits, Depth};
use crate::limits::{HISTORY_QUEUE_BYTES_MAX, HISTORY_QUEUE_MAX};
use crate::message::{Durability, Publication, Record};

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

/// The sending end, shared by everybody who publishes.
#[derive(Debug)]
pub struct HistoryQueue {
    queue: Sender<Keep>,
    places: Credits,
    bytes: AtomicUsize,
}

/// A place in the queue. It must be used or given back.
#[derive(Clone, Copy, Debug)]
#[must_use = "a place that is neither used nor given back is lost"]
pub struct HistoryPlace {
    bytes: usize,
}

impl HistoryQueue {
    pub(super) fn new() -> (Self, Receiver<Keep>) {
        let (queue, records) = bounded(HISTORY_QUEUE_MAX);
        let places = Credits::new(HISTORY_QUEUE_MAX);
        (Self { queue, places, bytes: AtomicUsize::new(0) }, records)
    }

    /// Sets a place aside. `None` at [`HISTORY_QUEUE_MAX`] or [`HISTORY_QUEUE_BYTES_MAX`]; a
    /// publication of any size finds room in an empty queue.
    pub fn reserve(&self, publication: &Publication) -> Option<HistoryPlace> {
        let place = HistoryPlace { bytes: publication.content.bytes() };
        if !self.places.take() {
            return None;
        }
        let before = self.bytes.fetch_add(place.bytes, Ordering::Relaxed);
        if before > 0 && before + place.bytes > HISTORY_QUEUE_BYTES_MAX {
            self.release(place);
            return None;
        }
        Some(place)
    }

    /// Gives a place back unused.
    pub fn release(&self, place: HistoryPlace) {
        self.bytes.fetch_sub(place.bytes, Ordering::Relaxed);
        self.places.give();
    }

    /// Uses a place.
    pub fn post(&self, _place: HistoryPlace, keep: Keep) {
        // There is a place for every credit, and the writer outlives the publishers.
        let _ = self.queue.try_send(keep);
    }

    /// The writer has taken this one: its place is free again.
    pub fn taken(&self, keep: &Keep) {
        self.release(HistoryPlace { bytes: keep.record.publication.content.bytes() });
    }

    pub(super) fn depth(&self) -> Depth {
        self.places.depth("history", 0, "publication")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::message::{Channel, Content, Sender};

    fn publication(bytes: usize) -> Arc<Publication> {
        let content = Content::Message {
            event: "e".into(),
            payload: "x".repeat(bytes - 1).into(),
            sender: Sender::System,
        };
        Arc::new(Publication::new(Uuid::nil(), Channel::from("c"), 0, content))
    }

    #[test]
    fn places_are_bounded_in_number_and_bytes_and_come_back() {
        let (queue, _records) = HistoryQueue::new();
        let small = publication(2);
        let places: Vec<_> = (0..HISTORY_QUEUE_MAX).map_while(|_| queue.reserve(&small)).collect();
        assert_eq!(places.len(), HISTORY_QUEUE_MAX);
        assert!(queue.reserve(&small).is_none());
        places.into_iter().for_each(|place| queue.release(place));

        let most = publication(HISTORY_QUEUE_BYTES_MAX + 1);
        let place = queue.reserve(&most).expect("an empty queue has room for anything");
        assert!(queue.reserve(&small).is_none());
        queue.release(place);
        let half = publication(HISTORY_QUEUE_BYTES_MAX / 2);
        let (first, second) = (queue.reserve(&half), queue.reserve(&half));
        assert!(first.is_some() && second.is_some() && queue.reserve(&small).is_none());
    }
}
