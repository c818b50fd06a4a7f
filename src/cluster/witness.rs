//! What a node remembers of a stream's latest messages, to notice that the stream has lost them.
//!
//! A stream that loses its last messages gives their places away again. A node that has heard one
//! of the lost messages, or was told that one of its own was stored, finds another message there.
//! Sequences alone do not tell: by the time the node looks, others may have written beyond the
//! highest one that it knows.

use std::collections::BTreeMap;

use super::limits::{LEADER_NOTICE_MS, WITNESS_MS};
use super::name::Seq;
use crate::message::Millis;

/// The latest messages of one stream that the node knows: the last one of each [`WITNESS_MS`], for
/// as long as it may take to hear of a new leader. If anything was lost, the last one was.
#[derive(Debug, Default)]
pub struct Witness {
    marks: BTreeMap<Seq, Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// When the node learned of the message.
    since: Millis,
    /// The time at which the stream stored the message; `None` if the node only knows that the
    /// stream acknowledged it.
    stored: Option<Millis>,
}

impl Witness {
    /// Notes a message that came live. `stored` is the time at which the stream stored it. Returns
    /// false if the stream had another message at this place before.
    pub fn heard(&mut self, seq: Seq, stored: Millis, now: Millis) -> bool {
        let mark = Mark { since: now, stored: Some(stored) };
        if let Some(known) = self.marks.get_mut(&seq) {
            let is_same = known.stored.is_none_or(|known| known == stored);
            known.stored = known.stored.or(Some(stored));
            return is_same;
        }
        self.note(seq, mark);
        true
    }

    /// Notes that the stream has acknowledged a message of this node at this place.
    pub fn acked(&mut self, seq: Seq, now: Millis) {
        if !self.marks.contains_key(&seq) {
            self.note(seq, Mark { since: now, stored: None });
        }
    }

    /// Returns whether a message of the stream at this place is not the one that was there.
    /// `is_own` says whether this node sent it.
    pub fn contradicts(&self, seq: Seq, stored: Millis, is_own: bool) -> bool {
        let Some(mark) = self.marks.get(&seq) else { return false };
        mark.stored.map_or(!is_own, |known| known != stored)
    }

    /// Forgets everything, because a new epoch of the stream began.
    pub fn reset(&mut self) {
        self.marks.clear();
    }

    /// Keeps a mark in the place of the one before it, if that is of the same time.
    fn note(&mut self, seq: Seq, mark: Mark) {
        let Some(mut last) = self.marks.last_entry() else {
            self.marks.insert(seq, mark);
            return;
        };
        let is_later = *last.key() < seq;
        if is_later && last.get().since / WITNESS_MS == mark.since / WITNESS_MS {
            last.insert(mark);
            let (_, mark) = last.remove_entry();
            self.marks.insert(seq, mark);
        } else if is_later {
            self.marks.insert(seq, mark);
        }
        let is_old = |one: &Mark| one.since + LEADER_NOTICE_MS < mark.since;
        while self.marks.len() > 1 && self.marks.first_entry().is_some_and(|one| is_old(one.get()))
        {
            self.marks.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_message_in_the_place_of_one_that_was_heard_is_noticed() {
        let mut witness = Witness::default();
        assert!(witness.heard(7, 1_000, 0));
        assert!(witness.heard(7, 1_000, 1), "the same one again");
        assert!(!witness.contradicts(7, 1_000, false));
        assert!(witness.contradicts(7, 1_001, false) && !witness.heard(7, 1_001, 2));
        assert!(!witness.contradicts(6, 5, false), "not remembered");
        witness.reset();
        assert!(!witness.contradicts(7, 1_001, false));
    }

    #[test]
    fn a_foreign_message_in_the_place_of_an_own_one_is_noticed() {
        let mut witness = Witness::default();
        witness.acked(7, 0);
        assert!(!witness.contradicts(7, 1_000, true) && witness.contradicts(7, 1_000, false));
        // Then it comes live.
        assert!(witness.heard(7, 1_000, 1));
        assert!(witness.contradicts(7, 1_001, true));
    }

    #[test]
    fn one_message_is_remembered_of_each_time_and_for_a_while() {
        let mut witness = Witness::default();
        for now in 0..3 * LEADER_NOTICE_MS {
            witness.heard(now + 1, now, now);
        }
        let most = usize::try_from(LEADER_NOTICE_MS / WITNESS_MS).unwrap() + 2;
        assert!(witness.marks.len() <= most, "{}", witness.marks.len());
        let last = 3 * LEADER_NOTICE_MS;
        assert!(witness.contradicts(last, 0, false));
        assert!(!witness.contradicts(last - 1, 0, false), "it gave way to the last one");
        // What runs back takes no place of what was heard before.
        witness.acked(last - 1, 3 * LEADER_NOTICE_MS);
        assert!(!witness.contradicts(last - 1, 0, false));
        // However long nothing comes, the last one stays.
        witness.heard(last + 1, 9, 10 * LEADER_NOTICE_MS);
        assert!(witness.contradicts(last + 1, 8, false));
    }
}
