//! Lengths of delivered frames.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Number of frames by length on the wire, header included. A run has few different lengths,
/// usually one, so the counts are exact.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrameLengths(BTreeMap<usize, u64>);

impl FrameLengths {
    /// Counts a frame of this length, header included.
    pub(crate) fn note(&mut self, frame_bytes: usize) {
        *self.0.entry(frame_bytes).or_default() += 1;
    }

    /// Adds the counts of another process or thread.
    pub(crate) fn add(&mut self, other: &Self) {
        for (frame_bytes, count) in &other.0 {
            *self.0.entry(*frame_bytes).or_default() += count;
        }
    }

    /// Returns the smallest length that at least half of the frames do not exceed; `None` if there
    /// are no frames.
    pub(crate) fn median(&self) -> Option<usize> {
        let half = self.0.values().sum::<u64>().div_ceil(2);
        let mut seen = 0;
        self.0.iter().find_map(|(frame_bytes, count)| {
            seen += count;
            (seen >= half).then_some(*frame_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lengths: &[usize]) -> FrameLengths {
        let mut frames = FrameLengths::default();
        lengths.iter().for_each(|length| frames.note(*length));
        frames
    }

    #[test]
    fn the_median_is_a_length_that_was_seen() {
        assert_eq!(counted(&[]).median(), None);
        assert_eq!(counted(&[7]).median(), Some(7));
        assert_eq!(counted(&[9, 1, 5]).median(), Some(5));
        assert_eq!(counted(&[9, 1, 5, 9]).median(), Some(5));
        assert_eq!(counted(&[9, 1, 9]).median(), Some(9));
    }

    #[test]
    fn counts_of_others_add_up_and_survive_the_way() {
        let mut here = counted(&[1, 2]);
        let there = serde_json::to_string(&counted(&[2, 3, 3])).unwrap();
        here.add(&serde_json::from_str(&there).unwrap());
        assert_eq!(here, counted(&[1, 2, 2, 3, 3]));
    }
}
