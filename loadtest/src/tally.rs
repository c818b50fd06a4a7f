//! Compares the publications that reached each subscriber with those that were published.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Late publications of one subscriber whose places are kept.
pub(crate) const LATE_MAX: usize = 1_000;

/// A publication that arrived after a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Late {
    pub(crate) number: u64,
    /// The number after the highest that had arrived.
    pub(crate) next: u64,
}

/// The sequence numbers that one subscriber has received.
///
/// Publications usually arrive in order, so only the gaps are stored.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// The number of the subscriber's channel, if channels are numbered.
    pub(crate) channel: Option<u32>,
    next: u64,
    missing: Vec<Range<u64>>,
    duplicated: u64,
    reordered: u64,
    /// The first late publications, in the order of their arrivals.
    late: Vec<Late>,
    /// Numbers that hold all late publications beyond those.
    unplaced: Range<u64>,
    /// Publications that gap notices named as left out.
    announced: u64,
    /// Whether the connection was lost.
    cut: bool,
}

impl Tally {
    /// Returns the empty tally of a subscriber of a numbered channel, or of the only one.
    pub(crate) fn of_channel(channel: Option<u32>) -> Self {
        Self { channel, ..Self::default() }
    }

    /// Records a gap notice; `None` if it does not say how many publications were left out.
    pub(crate) fn announce(&mut self, count: Option<u64>) {
        self.announced = self.announced.saturating_add(count.unwrap_or(u64::MAX));
    }

    /// Records that the connection was lost.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    /// Records an arrival. Returns false if this publication had arrived before.
    pub(crate) fn note(&mut self, sequence: u64) -> bool {
        if sequence < self.next {
            return self.note_late(sequence);
        }
        if sequence > self.next {
            self.missing.push(self.next..sequence);
        }
        self.next = sequence + 1;
        true
    }

    fn note_late(&mut self, sequence: u64) -> bool {
        let at = self.missing.partition_point(|hole| hole.end <= sequence);
        let Some(hole) = self.missing.get(at).filter(|hole| hole.contains(&sequence)).cloned()
        else {
            self.duplicated += 1;
            return false;
        };
        let left = [hole.start..sequence, sequence + 1..hole.end];
        self.missing.splice(at..=at, left.into_iter().filter(|part| !part.is_empty()));
        self.reordered += 1;
        if self.late.len() < LATE_MAX {
            self.late.push(Late { number: sequence, next: self.next });
        } else if self.unplaced.is_empty() {
            self.unplaced = sequence..sequence + 1;
        } else {
            let Range { start, end } = self.unplaced;
            self.unplaced = start.min(sequence)..end.max(sequence + 1);
        }
        true
    }

    /// Returns the first late publications, in the order of their arrivals.
    pub(crate) fn late(&self) -> &[Late] {
        &self.late
    }

    /// Whether there were more of them.
    pub(crate) fn is_partly_known(&self) -> bool {
        !self.unplaced.is_empty()
    }

    /// Whether a publication that is not among the first late ones arrived before all with higher
    /// numbers. False if its place is not known.
    pub(crate) fn came_in_order(&self, sequence: u64) -> bool {
        let at = self.missing.partition_point(|hole| hole.end <= sequence);
        let is_missing = self.missing.get(at).is_some_and(|hole| hole.contains(&sequence));
        sequence < self.next && !is_missing && !self.unplaced.contains(&sequence)
    }

    /// Returns how many publications have arrived.
    pub(crate) fn received(&self) -> u64 {
        let missing: u64 = self.missing.iter().map(|hole| hole.end - hole.start).sum();
        self.next - missing
    }
}

/// How the server answered a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// 2xx: every subscriber must receive the publication once.
    Accepted,
    /// 503: no subscriber may receive it.
    Refused,
    /// No answer came: subscribers may or may not receive it.
    Unanswered,
}

/// For each sequence number, how many publications before it were accepted, and how many refused.
pub(crate) struct Outcomes {
    accepted_before: Vec<u64>,
    refused_before: Vec<u64>,
}

impl Outcomes {
    /// Adds up the outcomes, which are in the order of sequence numbers.
    pub(crate) fn new(outcomes: &[Outcome]) -> Self {
        let running = |wanted: Outcome| {
            let mut sum = 0;
            let steps = outcomes.iter().map(|outcome| {
                sum += u64::from(*outcome == wanted);
                sum
            });
            std::iter::once(0).chain(steps.collect::<Vec<_>>()).collect()
        };
        Self {
            accepted_before: running(Outcome::Accepted),
            refused_before: running(Outcome::Refused),
        }
    }

    /// Adds the accepted publications that a subscriber lacks to the intervals in which they were
    /// due. `starts` are the first publications of the intervals and the end of the last one. If
    /// publications are `states`, only those after the last that arrived are lacking.
    pub(crate) fn add_lost(&self, tally: &Tally, starts: &[u64], states: bool, lost: &mut [u64]) {
        let tail = tally.next.min(self.sent())..self.sent();
        let holes = tally.missing.iter().filter(|_| !states).chain(std::iter::once(&tail));
        for hole in holes.filter(|hole| within(&self.accepted_before, hole) > 0) {
            for (ends, count) in starts.windows(2).zip(lost.iter_mut()) {
                let part = hole.start.max(ends[0])..hole.end.min(ends[1]);
                if part.start < part.end {
                    *count += within(&self.accepted_before, &part);
                }
            }
        }
    }

    /// Returns the number of all publications.
    pub(crate) fn sent(&self) -> u64 {
        self.accepted_before.len() as u64 - 1
    }

    /// Returns the number of publications that the server accepted.
    pub(crate) fn accepted(&self) -> u64 {
        *self.accepted_before.last().expect("it starts with the zero before the first")
    }

    /// Returns the number of publications that the server refused with 503.
    pub(crate) fn refused(&self) -> u64 {
        *self.refused_before.last().expect("it starts with the zero before the first")
    }
}

/// The deliveries of many subscribers, added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Deliveries {
    /// Accepted publications times subscribers.
    pub(crate) expected: u64,
    /// Accepted publications that arrived, each counted once per subscriber.
    pub(crate) received: u64,
    /// Accepted publications that never arrived.
    pub(crate) lost: u64,
    /// Of these, publications that a gap notice named.
    pub(crate) announced: u64,
    /// Of the others, publications that were missed because the subscriber's connection was lost.
    pub(crate) cut_off: u64,
    /// Accepted publications that were skipped in favour of a later state. Only counted if the API
    /// delivers states.
    pub(crate) conflated: u64,
    /// Arrivals after the first one of the same publication.
    pub(crate) duplicated: u64,
    /// Publications that arrived after a later one.
    pub(crate) reordered: u64,
    /// Refused publications that arrived nevertheless.
    pub(crate) despite_refusal: u64,
}

impl Deliveries {
    /// Adds one subscriber. If publications are `states`, a later one may replace earlier ones, but
    /// the last one must arrive.
    pub(crate) fn add(&mut self, tally: &Tally, outcomes: &Outcomes, states: bool) {
        let end = outcomes.sent();
        let tail = tally.next.min(end)..end;
        let missing = |counted_before: &[u64]| {
            let holes: u64 = tally.missing.iter().map(|hole| within(counted_before, hole)).sum();
            (holes, within(counted_before, &tail))
        };
        let (in_holes, at_end) = missing(&outcomes.accepted_before);
        let (conflated, lost) = if states { (in_holes, at_end) } else { (0, in_holes + at_end) };
        let (refused_in_holes, refused_at_end) = missing(&outcomes.refused_before);
        let rightly_missing = refused_in_holes + refused_at_end;
        self.expected += outcomes.accepted();
        self.received += outcomes.accepted() - in_holes - at_end;
        self.lost += lost;
        let announced = tally.announced.min(lost);
        self.announced += announced;
        self.cut_off += if tally.cut { lost - announced } else { 0 };
        self.conflated += conflated;
        self.duplicated += tally.duplicated;
        self.reordered += tally.reordered;
        self.despite_refusal += outcomes.refused() - rightly_missing;
    }

    /// Adds the deliveries of other subscribers.
    pub(crate) fn merge(&mut self, other: Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.announced += other.announced;
        self.cut_off += other.cut_off;
        self.conflated += other.conflated;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.despite_refusal += other.despite_refusal;
    }
}

fn within(counted_before: &[u64], range: &Range<u64>) -> u64 {
    let before = |at: u64| {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(counted_before.len() - 1);
        counted_before[at]
    };
    before(range.end) - before(range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequences: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for sequence in sequences {
            tally.note(*sequence);
        }
        tally
    }

    fn judged(sequences: &[u64], outcomes: &[Outcome]) -> Deliveries {
        let mut deliveries = Deliveries::default();
        deliveries.add(&seen(sequences), &Outcomes::new(outcomes), false);
        deliveries
    }

    #[test]
    fn a_state_stands_for_those_before_it() {
        let mut deliveries = Deliveries::default();
        deliveries.add(&seen(&[1, 2, 5]), &Outcomes::new(&[Outcome::Accepted; 7]), true);
        assert_eq!((deliveries.received, deliveries.conflated, deliveries.lost), (3, 3, 1));
    }

    #[test]
    fn an_orderly_run_is_clean() {
        let clean = Deliveries { expected: 4, received: 4, ..Deliveries::default() };
        assert_eq!(judged(&[0, 1, 2, 3], &[Outcome::Accepted; 4]), clean);
    }

    #[test]
    fn losses_count_at_the_start_in_the_middle_and_at_the_end() {
        let judged = judged(&[1, 2, 5], &[Outcome::Accepted; 8]);
        assert_eq!((judged.expected, judged.received, judged.lost), (8, 3, 5));
        assert_eq!((judged.duplicated, judged.reordered), (0, 0));
    }

    #[test]
    fn a_loss_is_silent_unless_a_notice_or_the_end_of_the_connection_tells_it() {
        let of = |announced: Option<Option<u64>>, cut: bool| {
            let mut tally = seen(&[1, 2, 5]);
            announced.into_iter().for_each(|count| tally.announce(count));
            if cut {
                tally.cut();
            }
            let mut deliveries = Deliveries::default();
            deliveries.add(&tally, &Outcomes::new(&[Outcome::Accepted; 8]), false);
            (deliveries.lost, deliveries.announced, deliveries.cut_off)
        };
        assert_eq!(of(None, false), (5, 0, 0));
        assert_eq!(of(Some(Some(3)), false), (5, 3, 0));
        assert_eq!(of(Some(Some(3)), true), (5, 3, 2));
        assert_eq!(of(None, true), (5, 0, 5));
        // A notice without a number may stand for any; one that names more tells all.
        assert_eq!(of(Some(None), true), (5, 5, 0));
        assert_eq!(of(Some(Some(9)), false), (5, 5, 0));
    }

    #[test]
    fn losses_belong_to_the_interval_in_which_they_were_due() {
        use Outcome::{Accepted, Refused};
        let outcomes = [Accepted, Accepted, Refused, Accepted, Accepted, Accepted, Accepted];
        let outcomes = Outcomes::new(&outcomes);
        // Publication 0 belongs to the warm-up; 2 was refused.
        let lost = |states| {
            let mut lost = [0; 3];
            outcomes.add_lost(&seen(&[4]), &[1, 3, 5, 7], states, &mut lost);
            lost
        };
        assert_eq!(lost(false), [1, 1, 2]);
        assert_eq!(lost(true), [0, 0, 2]);
    }

    #[test]
    fn late_arrivals_fill_their_hole_and_are_reordered() {
        let judged = judged(&[0, 6, 3, 1, 5, 2, 4], &[Outcome::Accepted; 7]);
        assert_eq!((judged.lost, judged.duplicated, judged.reordered), (0, 0, 5));
    }

    #[test]
    fn a_second_arrival_is_a_duplicate_even_when_it_first_came_late() {
        let mut tally = seen(&[0, 2, 1]);
        assert!(!tally.note(1));
        assert!(!tally.note(2));
        assert!(tally.note(3));
        assert_eq!((tally.duplicated, tally.reordered), (2, 1));
    }

    #[test]
    fn refused_publications_are_neither_expected_nor_lost() {
        use Outcome::{Accepted, Refused, Unanswered};
        let outcomes = [Accepted, Refused, Accepted, Unanswered, Refused, Accepted];
        let clean = judged(&[0, 2, 5], &outcomes);
        assert_eq!((clean.expected, clean.received, clean.lost), (3, 3, 0));
        assert_eq!(clean.despite_refusal, 0);
        let leaky = judged(&[0, 1, 2, 3, 5], &outcomes);
        assert_eq!((leaky.received, leaky.lost, leaky.despite_refusal), (3, 0, 1));
    }

    #[test]
    fn holes_agree_with_a_plain_list_whatever_the_order() {
        // A simple generator suffices to try many orders with repeats.
        let mut state = 7_u64;
        for _ in 0..500 {
            let mut plain = [0_u64; 32];
            let mut tally = Tally::default();
            for _ in 0..40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let sequence = state >> 59;
                let first = plain[sequence as usize] == 0;
                plain[sequence as usize] += 1;
                assert_eq!(tally.note(sequence), first);
            }
            let mut deliveries = Deliveries::default();
            deliveries.add(&tally, &Outcomes::new(&[Outcome::Accepted; 32]), false);
            let received = plain.iter().filter(|count| **count > 0).count() as u64;
            assert_eq!(deliveries.received, received);
            assert_eq!(deliveries.duplicated, 40 - received);
        }
    }
}
