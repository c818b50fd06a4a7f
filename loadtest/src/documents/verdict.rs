//! Compares the documents that clients received with those that were written.

use std::ops::Range;

use crate::api::m2::Version;
use crate::documents::audience::Seen;
use crate::documents::field::Field;
use crate::documents::watcher::Watch;
use crate::documents::writer::{Outcome, Writes};

/// The updates of all clients, added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdict {
    /// Kept writes, each counted once per client that watches its document.
    pub(crate) expected: u64,
    /// Updates that arrived, summed over all clients.
    pub(crate) received: u64,
    /// Kept writes that were skipped in favour of a later one.
    pub(crate) conflated: u64,
    /// Documents whose last write a client does not know in the end, counted per client.
    pub(crate) lost: u64,
    /// Documents whose last known state is a refused write, counted per client.
    pub(crate) despite_refusal: u64,
    /// Writes that have the same version as another write of the same document.
    pub(crate) same_version: u64,
}

impl Verdict {
    /// Compares what the clients have seen with the writes.
    pub(crate) fn of(field: Field, writes: &Writes, seen: &Seen) -> Self {
        Self::judged(field, &writes.outcomes, &seen.watches)
    }

    fn judged(field: Field, outcomes: &[Outcome], watches: &[Watch]) -> Self {
        let history = History::new(field, outcomes);
        let mut verdict = Self { same_version: history.same_version(), ..Self::default() };
        watches.iter().for_each(|watch| verdict.add(watch, &history, outcomes));
        verdict
    }

    fn add(&mut self, watch: &Watch, history: &History, outcomes: &[Outcome]) {
        let kept = history.of(watch.resource);
        let before = kept.partition_point(|write| write.version <= watch.found);
        let expected = (kept.len() - before) as u64;
        let outcome = watch.write.and_then(|write| outcomes.get(usize::try_from(write).ok()?));
        // A later version is also right if it came from a write whose outcome is unknown, since the
        // server may have kept that write last.
        let is_last = kept.last().is_none_or(|last| {
            let same = watch.version == last.version && watch.write == Some(last.sequence);
            same || (watch.version > last.version && outcome == Some(&Outcome::Unknown))
        });
        let lost = u64::from(!is_last);
        self.expected += expected;
        self.received += u64::from(watch.updates);
        self.conflated += expected.saturating_sub(u64::from(watch.updates) + lost);
        self.lost += lost;
        self.despite_refusal += u64::from(outcome == Some(&Outcome::Refused));
    }
}

/// A write that the server kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    resource: u32,
    version: Version,
    sequence: u64,
}

/// All kept writes, sorted by document and version.
struct History(Vec<Kept>);

impl History {
    fn new(field: Field, outcomes: &[Outcome]) -> Self {
        let kept = (0..).zip(outcomes).filter_map(|(sequence, outcome)| match outcome {
            Outcome::Version(version) => {
                Some(Kept { resource: field.written(sequence), version: *version, sequence })
            }
            Outcome::Refused | Outcome::Unknown => None,
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable();
        Self(kept)
    }

    fn of(&self, resource: u32) -> &[Kept] {
        let end = |below: fn(u32, u32) -> bool| {
            self.0.partition_point(|write| below(write.resource, resource))
        };
        let range: Range<usize> = end(|one, other| one < other)..end(|one, other| one <= other);
        &self.0[range]
    }

    fn same_version(&self) -> u64 {
        let same = |pair: &&[Kept]| {
            (pair[0].resource, pair[0].version) == (pair[1].resource, pair[1].version)
        };
        self.0.windows(2).filter(same).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with only one document, which all writes are for.
    const ONE: Field = Field { seed: 1, resources: 1, subscriptions: 1 };

    fn version(second: u32) -> Version {
        format!("2024-01-30T15:50:{second:02}.000Z").parse().unwrap()
    }

    fn kept(seconds: &[u32]) -> Vec<Outcome> {
        seconds.iter().map(|second| Outcome::Version(version(*second))).collect()
    }

    fn watch(seen: u32, write: u64, updates: u32) -> Watch {
        Watch { version: version(seen), write: Some(write), updates, ..Watch::default() }
    }

    fn judged(outcomes: &[Outcome], watch: Watch) -> Verdict {
        Verdict::judged(ONE, outcomes, &[watch])
    }

    #[test]
    fn who_knows_the_last_write_has_lost_nothing() {
        let all = judged(&kept(&[1, 2, 3]), watch(3, 2, 3));
        assert_eq!(all, Verdict { expected: 3, received: 3, ..Verdict::default() });
        // The connections do not preserve the order of writes, so only the order of versions
        // counts.
        let last = judged(&kept(&[1, 3, 2]), watch(3, 1, 1));
        assert_eq!(last, Verdict { expected: 3, received: 1, conflated: 2, ..Verdict::default() });
        assert_eq!(judged(&[], Watch::default()), Verdict::default());
    }

    #[test]
    fn who_does_not_has_lost_it() {
        let nothing = judged(&kept(&[1, 2]), Watch::default());
        assert_eq!((nothing.lost, nothing.conflated), (1, 1));
        let early = judged(&kept(&[1, 2, 3]), watch(2, 1, 2));
        assert_eq!((early.lost, early.conflated, early.received), (1, 0, 2));
        let other_data = judged(&kept(&[1, 2]), watch(2, 0, 2));
        assert_eq!(other_data.lost, 1, "the last version with the data of another write");
        let from_nowhere = judged(&kept(&[1, 2]), watch(3, 1, 2));
        assert_eq!(from_nowhere.lost, 1, "a version that no answer named");
    }

    #[test]
    fn what_was_there_at_the_subscribe_stands_for_those_before() {
        let outcomes = kept(&[1, 2, 3]);
        let found = Watch { found: version(2), ..watch(3, 2, 1) };
        assert_eq!(
            judged(&outcomes, found),
            Verdict { expected: 1, received: 1, ..Verdict::default() }
        );
        let late = Watch { found: version(3), ..watch(3, 2, 0) };
        assert_eq!(judged(&outcomes, late), Verdict::default());
    }

    #[test]
    fn writes_that_were_not_kept_are_not_missed_and_refused_ones_not_heard() {
        let outcomes = [kept(&[1]), vec![Outcome::Refused, Outcome::Unknown]].concat();
        assert_eq!(judged(&outcomes, watch(1, 0, 1)).lost, 0);
        assert_eq!(judged(&outcomes, watch(9, 2, 2)).lost, 0, "an unanswered write may be kept");
        let refused = judged(&outcomes, watch(9, 1, 2));
        assert_eq!((refused.lost, refused.despite_refusal), (1, 1));
    }

    #[test]
    fn versions_of_one_document_must_differ() {
        assert_eq!(judged(&kept(&[1, 2, 2, 3]), watch(3, 3, 3)).same_version, 1);
        let many = Field { seed: 1, resources: 1_000_000, subscriptions: 1 };
        assert_eq!(Verdict::judged(many, &kept(&[1, 1, 1]), &[]).same_version, 0);
    }

    #[test]
    fn documents_are_told_apart() {
        let field = Field { seed: 7, resources: 50, subscriptions: 1 };
        let outcomes: Vec<_> = (0..500).map(|at| Outcome::Version(version(at % 60))).collect();
        let history = History::new(field, &outcomes);
        for resource in 0..50 {
            let plain = (0..500).filter(|at| field.written(*at) == resource).count();
            assert_eq!(history.of(resource).len(), plain);
            assert!(history.of(resource).iter().all(|write| write.resource == resource));
        }
    }
}
