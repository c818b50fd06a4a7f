//! Whether a node delivers in the order of the stream across all of its channels.
//!
//! Each channel is always delivered in its order. Across channels that is not so while something is
//! missing, because only the channels that lack something wait.

use super::name::Seq;

/// The order in which a node has delivered messages.
#[derive(Debug, Default)]
pub struct Sequence {
    /// The highest sequence that was delivered in this epoch.
    highest: Seq,
}

impl Sequence {
    /// Notes that a new epoch has begun, whose sequences are another stream's.
    pub fn begin_epoch(&mut self) {
        self.highest = 0;
    }

    /// Notes that these messages are delivered next. Returns, for each, whether everything before
    /// it in the stream that concerns the node was delivered before it, and nothing from behind it.
    /// `is_whole` says that, with the last of them, no channel lacks anything.
    pub fn deliver(&mut self, seqs: &[Seq], is_whole: bool) -> Vec<bool> {
        let mut in_order = vec![false; seqs.len()];
        let mut lowest_behind = Seq::MAX;
        for (at, seq) in seqs.iter().enumerate().rev() {
            in_order[at] = is_whole && *seq < lowest_behind;
            lowest_behind = lowest_behind.min(*seq);
        }
        for (seq, is_in_order) in seqs.iter().zip(&mut in_order) {
            *is_in_order &= *seq > self.highest;
            self.highest = self.highest.max(*seq);
        }
        in_order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_overtakes_or_comes_late_is_not_in_order() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.deliver(&[3, 7], true), [true, true]);
        assert_eq!(sequence.deliver(&[9, 12, 10, 11, 13], true), [true, false, false, false, true]);
        assert_eq!(sequence.deliver(&[14], false), [false], "something before it may be missing");
        assert_eq!(sequence.deliver(&[13, 15], true), [false, true]);
        sequence.begin_epoch();
        assert_eq!(sequence.deliver(&[2], true), [true]);
    }

    proptest! {
        /// A client that remembers a place in order has received all up to there, and nothing else.
        #[test]
        fn a_place_in_order_is_all_that_was_delivered(
            seqs in proptest::sample::subsequence((1..40).collect::<Vec<Seq>>(), 0..40)
                .prop_shuffle(),
            batches in proptest::collection::vec(1..4_usize, 0..20),
        ) {
            let (mut sequence, mut told, mut rest) = (Sequence::default(), Vec::new(), &seqs[..]);
            for size in batches.into_iter().chain([seqs.len()]) {
                let (batch, left) = rest.split_at(size.min(rest.len()));
                rest = left;
                // Nothing is missing if no lower one comes later.
                let highest = seqs[..seqs.len() - rest.len()].iter().max();
                let is_whole = rest.iter().all(|one| Some(one) > highest);
                told.extend(sequence.deliver(batch, is_whole));
            }
            for (at, is_in_order) in told.iter().enumerate() {
                let before: Vec<_> = seqs[..at].iter().filter(|one| **one > seqs[at]).collect();
                let behind: Vec<_> = seqs[at..].iter().filter(|one| **one < seqs[at]).collect();
                let is_prefix = before.is_empty() && behind.is_empty();
                prop_assert!(!is_in_order || is_prefix, "{seqs:?} {told:?}");
            }
        }
    }
}
