//! Proofs that the node's copy of the documents is new enough: the node stores a message of its own
//! behind everything that the stream has, and waits until the consumer of the stream has brought
//! it. One message is on its way at a time and serves everything that began to wait before it.
//!
//! The place of the message alone proves nothing: a stream that has lost messages gives their
//! places to others. Nor does the message, while there are others behind it: a document that was
//! written before it may have been written again, and the stream keeps only the later message. So
//! the consumer must have come to the end of the stream, behind the message.

use std::collections::VecDeque;

use crate::cluster::name::Seq;
use crate::message::Millis;

/// Writes and reads of the desk, each until there is a proof.
#[derive(Debug)]
pub struct Proofs<W> {
    /// Writes and reads that the next message will be for.
    next: Vec<Waiting<W>>,
    /// The number of the message on its way, with the writes and reads that it is for.
    asked: Option<(u64, Vec<Waiting<W>>)>,
    /// The numbers of messages that are stored and that the consumer has not brought, with the
    /// writes and reads that they are for.
    stored: VecDeque<(u64, Vec<Waiting<W>>)>,
    /// The number of the last message.
    number: u64,
    /// The number of the last one that the consumer has brought.
    came: u64,
    /// The number of the last one behind which the consumer has come to the end of the stream.
    proven: u64,
    len: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    what: W,
    ends: Millis,
}

impl<W> Default for Proofs<W> {
    fn default() -> Self {
        let stored = VecDeque::new();
        Self { next: Vec::new(), asked: None, stored, number: 0, came: 0, proven: 0, len: 0 }
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
    /// the next one. Returns whether the stream has lost messages, because the copy was at this
    /// place before, at `position` or behind it.
    pub fn answered(&mut self, number: u64, seq: Option<Seq>, position: Seq) -> bool {
        let asked = self.asked.take_if(|(asked, _)| *asked == number);
        let Some((_, waiting)) = asked else { return false };
        match seq {
            Some(seq) => {
                self.stored.push_back((number, waiting));
                self.came < number && seq <= position
            }
            None => {
                self.next.extend(waiting);
                false
            }
        }
    }

    /// Notes that the consumer has brought the message with this number, if it is one of those.
    pub fn came(&mut self, number: u64) {
        if number <= self.number {
            self.came = self.came.max(number);
        }
    }

    /// Notes that the consumer has come to the end of the stream.
    pub fn caught_up(&mut self) {
        self.proven = self.came;
    }

    /// Returns what need not wait any longer, because the consumer has come to the end of the
    /// stream behind its message.
    pub fn ready(&mut self) -> Vec<W> {
        let (mut ready, proven) = (Vec::new(), self.proven);
        while let Some((_, waiting)) = self.stored.pop_front_if(|(number, _)| *number <= proven) {
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
        assert!(proofs.ready().is_empty());
        assert!(!proofs.answered(first, Some(9), 8));
        let second = proofs.begin().unwrap();
        proofs.came(second + 1);
        assert!(proofs.ready().is_empty(), "that is not one of this node's");
        proofs.came(first);
        assert!(proofs.ready().is_empty(), "there are messages behind it");
        proofs.caught_up();
        assert_eq!(proofs.ready(), ["a", "b"]);
        proofs.answered(first, Some(10), 9);
        assert!(proofs.ready().is_empty(), "that was the answer to the first");
        proofs.came(second);
        proofs.caught_up();
        assert!(!proofs.answered(second, Some(12), 12), "it came before its answer");
        assert_eq!(proofs.ready(), ["c"]);
        assert!(proofs.is_empty());
    }

    #[test]
    fn a_message_without_an_answer_is_repeated_until_time_is_over() {
        let mut proofs = Proofs::default();
        proofs.wait("a", 100);
        proofs.wait("b", 200);
        let first = proofs.begin().unwrap();
        proofs.answered(first, None, 0);
        let second = proofs.begin().unwrap();
        assert_eq!(proofs.expire(100), ["a"]);
        assert!(proofs.answered(second, Some(5), 5), "the copy was there before");
        assert_eq!(proofs.expire(100).len(), 0);
        proofs.begin_again();
        proofs.came(second);
        proofs.caught_up();
        assert!(proofs.ready().is_empty(), "the stream has lost it");
        let third = proofs.begin().unwrap();
        proofs.answered(third, Some(1), 0);
        assert_eq!(proofs.refuse(|what| *what == "b"), ["b"]);
        assert_eq!(proofs.len(), 0);
    }
}
