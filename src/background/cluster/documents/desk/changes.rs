//! Applying changes of the stream to the copy, fanning them out, and forgetting deleted documents.

use std::time::Duration;

use super::Desk;
use crate::background::News;
use crate::background::cluster::documents::Ask;
use crate::background::store::copy::{Applied, Change};
use crate::cluster::documents::Entry;
use crate::cluster::name::Seq;
use crate::limits::{
    CLUSTER_CHANGES_BYTES, CLUSTER_CHANGES_RETRY_MS, CLUSTER_FORGET_BATCH, CLUSTER_FORGET_MS,
    DOCUMENT_BATCH_MAX,
};
use crate::message::Millis;

/// Which deletions are old enough to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The place at which the copy was at least [`CLUSTER_FORGET_MS`] ago.
    settled: Seq,
    /// The place at which it was at a later time.
    last: Seq,
    marked: Millis,
    /// Whether a floor is on its way.
    raising: bool,
    /// Places that are to be removed from the stream.
    remove: Vec<Seq>,
}

impl Marks {
    /// Returns the place up to which deletions are old enough.
    fn settled(&mut self, position: Seq, now: Millis) -> Seq {
        if self.marked + CLUSTER_FORGET_MS <= now {
            (self.settled, self.last, self.marked) = (self.last, position, now);
        }
        self.settled
    }

    /// Notes that no floor is on its way.
    pub(super) fn raised(&mut self) {
        self.raising = false;
    }

    /// Forgets places, because the stream is another one.
    fn forget(&mut self) {
        (self.settled, self.last) = (0, 0);
        self.remove.clear();
    }
}

impl<S: Fn() -> bool> Desk<S> {
    /// Returns how long there is nothing to do, unless something arrives.
    pub(super) fn pause(&self) -> Duration {
        match self.held.is_empty() {
            true => super::SLEEP,
            false => Duration::from_millis(CLUSTER_CHANGES_RETRY_MS),
        }
    }

    /// Applies changes that are there together, and fans out the documents among them.
    pub(super) fn apply(&mut self, announce: &impl Fn(News<'_>)) {
        let mailboxes = self.mailboxes.clone();
        let (mut changes, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        while changes.len() < DOCUMENT_BATCH_MAX
            && bytes < CLUSTER_CHANGES_BYTES
            && let Some(change) =
                self.held.pop_front().or_else(|| self.inside.changes.try_recv().ok())
        {
            let place = match &change {
                Change::Message(_, Some(Entry::Document(document))) => {
                    let Some(place) = mailboxes.workers.reserve_all() else {
                        self.held.push_front(change);
                        break;
                    };
                    bytes += document.data.as_ref().map_or(0, |data| data.len());
                    Some(place)
                }
                _ => None,
            };
            changes.push(change);
            places.push(place);
        }
        if changes.is_empty() {
            return self.forget();
        }
        let applied = match self.copy.apply(&changes, &self.me) {
            Ok(applied) => applied,
            Err(error) => {
                self.say(&error);
                changes.into_iter().rev().for_each(|change| self.held.push_front(change));
                return;
            }
        };
        let position = self.copy.position();
        self.inside.outside.note_reached(&position.life, position.seq);
        for ((change, place), applied) in changes.into_iter().zip(places).zip(applied) {
            let Applied { is_news, is_later, forgotten } = applied;
            self.marks.remove.extend(forgotten);
            match change {
                Change::Message(seq, Some(Entry::Document(document))) => {
                    self.writes.passed(&document.key, seq);
                    if let Some(place) = place.filter(|_| is_news) {
                        self.counters.cluster_documents_applied.add(1);
                        announce(News::Document(document, place));
                    }
                }
                Change::Began(..) => {
                    self.marks.forget();
                    self.proofs.begin_again();
                    self.counters.cluster_documents_again.add(1);
                }
                Change::Message(_, Some(Entry::Proof(text))) if is_later => {
                    self.proofs.came(text.wrapping_sub(self.first_proof));
                }
                Change::CaughtUp => self.proofs.caught_up(),
                Change::Message(..) => {}
            }
        }
        self.forget();
    }

    /// Raises the floor if there are too many deleted documents, and removes forgotten ones from
    /// the stream.
    fn forget(&mut self) {
        let now = self.clock();
        let position = self.position();
        let settled = self.marks.settled(position, now);
        let asks = &self.inside.asks;
        if !self.marks.remove.is_empty() && asks.capacity() > asks.max_capacity() / 2 {
            let at = self.marks.remove.len().saturating_sub(CLUSTER_FORGET_BATCH);
            let batch = self.marks.remove.split_off(at);
            // What could not be asked for stays in the stream, and does no harm there.
            let _ = asks.try_send(Ask::Remove(batch));
        }
        if self.marks.raising || !self.marks.remove.is_empty() || settled == 0 {
            return;
        }
        match self.copy.floor(settled, &self.me) {
            Ok(None) => {}
            Ok(Some((floor, expected))) => {
                self.marks.raising = asks.try_send(Ask::Raise(floor, expected)).is_ok();
            }
            Err(error) => self.say(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_settled_when_it_is_old_enough() {
        let mut marks = Marks::default();
        assert_eq!(marks.settled(5, CLUSTER_FORGET_MS), 0);
        assert_eq!(marks.settled(9, 2 * CLUSTER_FORGET_MS - 1), 0);
        assert_eq!(marks.settled(9, 2 * CLUSTER_FORGET_MS), 5);
        assert_eq!(marks.settled(12, 2 * CLUSTER_FORGET_MS + 1), 5);
        marks.forget();
        assert_eq!(marks.settled(1, 3 * CLUSTER_FORGET_MS), 0);
    }
}
