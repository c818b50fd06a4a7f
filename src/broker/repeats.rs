//! Publications that a publisher may send again under the same id, on channels that this node
//! orders. A cluster's stream remembers those of its own channels.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::directory::Published;
use crate::limits::{REPEATS_MAX, REPEATS_MS};
use crate::message::{Millis, RepeatKey};

/// The publications of the last [`REPEATS_MS`] whose publishers named them. Only their publishers
/// wait for the lock.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    published: HashMap<RepeatKey, Published>,
    /// The keys, each with the time at which it is forgotten.
    order: VecDeque<(Millis, RepeatKey)>,
    /// Publications that were forgotten before their time.
    evicted: u64,
}

impl Repeats {
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        // A thread that panics under the lock ends the node.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of publications that are known.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// Returns whether no publication is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many publications were forgotten before their time, because there were
    /// [`REPEATS_MAX`].
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }
}

impl Known {
    /// Returns what became of the publication with this key; `None` if it is not known.
    pub(super) fn find(&mut self, key: RepeatKey, now: Millis) -> Option<Published> {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_one();
        }
        self.published.get(&key).copied()
    }

    /// Notes what became of a publication that is not known. At the bound the oldest one is
    /// forgotten.
    pub(super) fn note(&mut self, key: RepeatKey, published: Published, now: Millis) {
        if self.order.len() >= REPEATS_MAX {
            self.forget_one();
            self.evicted += 1;
        }
        self.published.insert(key, published);
        self.order.push_back((now + REPEATS_MS, key));
    }

    fn forget_one(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.published.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Channel, MessageId};

    fn key(number: usize) -> RepeatKey {
        RepeatKey::of(&["user", "a"], &Channel::from("c"), MessageId::from_u128(number as u128))
    }

    #[test]
    fn publications_are_known_for_a_while_and_up_to_a_bound() {
        let repeats = Repeats::default();
        let published = Published { offset: 7, ..Published::default() };
        let mut known = repeats.lock();
        known.note(key(0), published, 1_000);
        assert_eq!(known.find(key(0), 1_000 + REPEATS_MS - 1), Some(published));
        assert_eq!(known.find(key(1), 1_000), None);
        assert_eq!(known.find(key(0), 1_000 + REPEATS_MS), None);
        (0..=REPEATS_MAX).for_each(|number| known.note(key(number), published, 1_000));
        assert_eq!(known.find(key(0), 1_000), None, "the oldest made way");
        assert_eq!(known.find(key(1), 1_000), Some(published));
        assert_eq!(known.find(key(REPEATS_MAX), 1_000), Some(published));
        drop(known);
        assert_eq!((repeats.len(), repeats.evicted()), (REPEATS_MAX, 1));
    }
}
