//! A node's own claim of one channel: what the stream of claims has of it, and what it should have.
//!
//! Each claim and each end of one expects the sequence of the one before it. A message that was
//! delayed on the way, perhaps behind a server that stood still, is then refused by the stream
//! instead of undoing a later one.

use super::ack::Refusal;
use super::flight::Outcome;
use super::name::Seq;

/// The node's claim of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnClaim {
    /// The sequence of the last message of the claim's subject, as far as the node knows.
    seq: Seq,
    /// Whether the stream should say that the node listens.
    wants: bool,
    /// Whether it says so; `None` if that is not known.
    has: Option<bool>,
    /// Whether a message is under way.
    is_flying: bool,
    /// Whether the claim waits to be sent.
    pub is_queued: bool,
}

/// The claim of a channel that the node has not claimed.
impl Default for OwnClaim {
    fn default() -> Self {
        Self { seq: 0, wants: false, has: Some(false), is_flying: false, is_queued: false }
    }
}

impl OwnClaim {
    /// Sets whether the node listens.
    pub fn want(&mut self, listens: bool) {
        self.wants = listens;
    }

    /// Returns whether the node wants the claim and the stream has it.
    pub fn is_held(&self) -> bool {
        self.wants && self.has == Some(true)
    }

    /// Returns whether the stream has acknowledged the claim at this place or before.
    pub fn is_held_since(&self, seq: Seq) -> bool {
        self.is_held() && self.seq <= seq
    }

    /// Returns whether the node wants no claim and the stream has none.
    pub fn is_gone(&self) -> bool {
        !self.wants && self.has == Some(false) && !self.is_flying
    }

    /// Returns whether the node wants the claim and the stream may not have it.
    pub fn is_missing(&self) -> bool {
        self.wants && self.has != Some(true)
    }

    /// Returns whether a message must be sent.
    pub fn must_send(&self) -> bool {
        !self.is_flying && self.has != Some(self.wants)
    }

    /// Notes that a message is sent now. Returns what it says, and the sequence that it expects.
    pub fn sent(&mut self) -> (bool, Seq) {
        self.is_flying = true;
        self.has = None;
        (self.wants, self.seq)
    }

    /// Takes what became of a message that said whether the node listens. Returns false if it must
    /// be tried again after a while.
    pub fn answered(&mut self, listens: bool, outcome: Outcome) -> bool {
        self.is_flying = false;
        match outcome {
            Outcome::Stored { seq, .. } | Outcome::Late(seq) => {
                self.seq = seq;
                self.has = Some(listens);
                true
            }
            Outcome::Refused(Refusal::Moved(last)) => {
                // Only the node writes there, and those that end the claims of dead nodes.
                let has_moved = last != self.seq;
                self.seq = last;
                has_moved
            }
            Outcome::Refused(_) | Outcome::Unknown => false,
        }
    }

    /// Notes that the stream has a message of the claim's subject which another node wrote: it
    /// ended the claim. Returns whether the claim was taken from the node.
    pub fn ended(&mut self, seq: Seq) -> bool {
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        let was_held = self.has == Some(true);
        if !self.is_flying {
            self.has = Some(false);
        }
        was_held && self.wants
    }

    /// Notes that the stream has lost all claims.
    pub fn lost(&mut self) {
        self.seq = 0;
        self.has = if self.is_flying { None } else { Some(false) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(seq: Seq) -> Outcome {
        Outcome::Stored { seq, duplicate: false, runs_back: false }
    }

    fn moved(last: Seq) -> Outcome {
        Outcome::Refused(Refusal::Moved(last))
    }

    #[test]
    fn a_claim_is_held_when_it_is_stored() {
        let mut claim = OwnClaim::default();
        assert!(claim.is_gone() && !claim.must_send());
        claim.want(true);
        assert!(claim.must_send() && claim.is_missing());
        assert_eq!(claim.sent(), (true, 0));
        assert!(!claim.must_send() && !claim.is_held());
        assert!(claim.answered(true, stored(5)));
        assert!(claim.is_held() && !claim.must_send());
        claim.want(false);
        assert_eq!(claim.sent(), (false, 5));
        claim.want(true);
        assert!(claim.answered(false, stored(6)));
        assert!(claim.must_send() && !claim.is_held(), "wanted again meanwhile");
    }

    #[test]
    fn a_claim_that_another_node_ended_is_taken() {
        let mut claim = OwnClaim::default();
        claim.want(true);
        claim.sent();
        claim.answered(true, stored(5));
        assert!(!claim.ended(5) && claim.is_held(), "its own message");
        assert!(claim.ended(9) && claim.is_missing());
        assert_eq!(claim.sent(), (true, 9));
        claim.answered(true, stored(10));
        claim.lost();
        assert!(claim.is_missing());
        assert_eq!(claim.sent(), (true, 0));
    }

    /// A subject whose last message is compared before another one is stored. Messages may be
    /// delayed for any time.
    #[derive(Default)]
    struct Subject {
        last: Seq,
        listens: bool,
        next: Seq,
        delayed: Vec<(bool, Seq)>,
    }

    impl Subject {
        fn store(&mut self, listens: bool, expected: Seq) -> Outcome {
            if expected != self.last {
                return moved(self.last);
            }
            self.next += 1;
            (self.last, self.listens) = (self.next, listens);
            stored(self.next)
        }
    }

    proptest! {
        #[test]
        fn what_is_held_is_in_the_stream_whatever_is_delayed(
            steps in proptest::collection::vec(0..8_u8, 0..80)
        ) {
            let (mut claim, mut subject) = (OwnClaim::default(), Subject::default());
            for step in steps {
                match step {
                    0 => claim.want(true),
                    1 => claim.want(false),
                    2 | 3 if claim.must_send() => {
                        let (listens, expected) = claim.sent();
                        let outcome = subject.store(listens, expected);
                        claim.answered(listens, outcome);
                    }
                    // The answer is lost, and the message is stored now, later or never.
                    4 | 5 if claim.must_send() => {
                        let (listens, expected) = claim.sent();
                        if step == 4 {
                            subject.store(listens, expected);
                        } else {
                            subject.delayed.push((listens, expected));
                        }
                        claim.answered(listens, Outcome::Unknown);
                    }
                    6 => {
                        if let Some((listens, expected)) = subject.delayed.pop() {
                            subject.store(listens, expected);
                        }
                    }
                    // Another node ends it, and the mirror says so.
                    7 if subject.listens => {
                        subject.store(false, subject.last);
                        claim.ended(subject.last);
                    }
                    _ => {}
                }
                prop_assert!(!claim.is_held() || subject.listens, "held and not in the stream");
                prop_assert!(!claim.is_gone() || !subject.listens, "gone and in the stream");
            }
            for _ in 0..4 {
                if claim.must_send() {
                    let (listens, expected) = claim.sent();
                    let outcome = subject.store(listens, expected);
                    claim.answered(listens, outcome);
                }
            }
            prop_assert!(!claim.must_send());
            prop_assert_eq!(claim.is_held(), subject.listens);
        }
    }
}
