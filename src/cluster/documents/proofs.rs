//! Proofs that the node's copy of the documents is new enough: the node stores a message of its own
//! behind everything that the stream has, and waits until its copy has come that far. One message
//! is on its way at a time and serves everything that began to wait before it.

use std::collections::VecDeque;

use crate::cluster::name::Seq;
use crate::message::Millis;

/// What waits for proofs.
#[derive(Debug)]
pub struct Proofs<W> {
    /// What waits for the next message.
    next: Vec<Waiting<W>>,
    /// The message on its way, and what waits for it.
    asked: Option<(u64, Vec<Waiting<W>>)>,
    /// Messages that are stored, and what waits until the copy has them.
    stored: VecDeque<(Seq, Vec<Waiting<W>>)>,
    number: u64,
    len: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    what: W,
    ends: Millis,
}

impl<W> Default for Proofs<W> {
    fn default() -> Self {
        Self { next: Vec::new(), asked: None, stored: VecDeque::new(), number: 0, len: 0 }
    }
}

impl<W> Proofs<W> {
    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets something wait until `ends`.
    pub fn wait(&mut self, what: W, ends: Millis) {
        self.len += 1;
        self.next.push(Waiting { what, ends });
    }

    /// Returns the number of a message that is to be stored now.
    pub fn begin(&mut self) -> Option<u64> {
        if self.asked.is_some() || self.next.is_empty() {
            return None;
        }
        self.number += 1;
        self.asked = Some((self.number, std::mem::take(&mut self.next)));
        Some(self.number)
    }

    /// Takes the place of a message. If it is not known to be stored, what waited for it waits for
    /// the next one.
    pub fn answered(&mut self, number: u64, seq: Option<Seq>) {
        let Some((_, waiting)) = self.asked.take_if(|(asked, _)| *asked == number) else { return };
        match seq {
            Some(seq) => self.stored.push_back((seq, waiting)),
            None => self.next.extend(waiting),
        }
    }

    /// Returns what need not wait any longer, because the copy has everything up to `position`.
    pub fn passed(&mut self, position: Seq) -> Vec<W> {
        let mut ready = Vec::new();
        while let Some((_, waiting)) = self.stored.pop_front_if(|(seq, _)| *seq <= position) {
            ready.extend(waiting.into_iter().map(|one| one.what));
        }
        self.len -= ready.len();
        ready
    }

    /// Returns what has waited for too long.
    pub fn expire(&mut self, now: Millis) -> Vec<W> {
        self.remove(|_, ends| ends <= now)
    }

    /// Returns what is `refused` although its time is not over, wherever it waits.
    pub fn refuse(&mut self, refused: impl Fn(&W) -> bool) -> Vec<W> {
        self.remove(|what, _| refused(what))
    }

    /// Lets everything wait for another message, because the stream has lost the earlier ones, or
    /// nothing is known of them.
    pub fn begin_again(&mut self) {
        let stored = std::mem::take(&mut self.stored);
        self.next.extend(stored.into_iter().flat_map(|(_, waiting)| waiting));
        if let Some((_, waiting)) = self.asked.take() {
            self.next.extend(waiting);
        }
    }

    fn remove(&mut self, is_over: impl Fn(&W, Millis) -> bool) -> Vec<W> {
        let asked = self.asked.iter_mut().map(|(_, waiting)| waiting);
        let stored = self.stored.iter_mut().map(|(_, waiting)| waiting);
        let mut removed = Vec::new();
        for waiting in [&mut self.next].into_iter().chain(asked).chain(stored) {
            let over = waiting.extract_if(.., |one| is_over(&one.what, one.ends));
            removed.extend(over.map(|one| one.what));
        }
        self.stored.retain(|(_, waiting)| !waiting.is_empty());
        self.len -= removed.len();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_serves_those_that_wait_before_it_and_no_others() {
        let mut proofs = Proofs::default();
        proofs.wait("a", 100);
        proofs.wait("b", 100);
        let first = proofs.begin().unwrap();
        proofs.wait("c", 100);
        assert_eq!(proofs.begin(), None, "one at a time");
        assert!(proofs.passed(50).is_empty());
        proofs.answered(first, Some(9));
        let second = proofs.begin().unwrap();
        assert!(proofs.passed(8).is_empty());
        assert_eq!(proofs.passed(9), ["a", "b"]);
        proofs.answered(first, Some(10));
        assert!(proofs.passed(99).is_empty(), "that was the answer to the first");
        proofs.answered(second, Some(12));
        assert_eq!(proofs.passed(12), ["c"]);
        assert!(proofs.is_empty());
    }

    #[test]
    fn a_message_without_an_answer_is_repeated_until_time_is_over() {
        let mut proofs = Proofs::default();
        proofs.wait("a", 100);
        proofs.wait("b", 200);
        let first = proofs.begin().unwrap();
        proofs.answered(first, None);
        let second = proofs.begin().unwrap();
        assert_eq!(proofs.expire(100), ["a"]);
        proofs.answered(second, Some(5));
        assert_eq!(proofs.expire(100).len(), 0);
        proofs.begin_again();
        assert!(proofs.passed(99).is_empty(), "the stream has lost it");
        let third = proofs.begin().unwrap();
        proofs.answered(third, Some(1));
        assert_eq!(proofs.refuse(|what| *what == "b"), ["b"]);
        assert_eq!(proofs.len(), 0);
    }
}
