//! What a channel keeps of its latest publications, for who subscribes later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits::{
    REPLAY_BYTES_MAX, REPLAY_OVERHEAD_BYTES, REPLAY_PUBLICATIONS_MAX, REPLAY_TOTAL_BYTES_MAX,
};
use crate::message::{Content, Millis, Nanos, Publication};

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// What all rings of a node hold together.
#[derive(Debug, Default)]
pub struct Budget {
    bytes: AtomicUsize,
    evicted: AtomicU64,
}

impl Budget {
    /// Bytes of the publications that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Publications that were let go before their time, because there was no room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| Some(taken + bytes).filter(|sum| *sum <= REPLAY_TOTAL_BYTES_MAX);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The latest publications of one channel, in order: all of them since the first that it holds.
///
/// Whoever drops one must have emptied it, so that the budget is right.
#[derive(Debug, Default)]
pub struct Ring {
    kept: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// For how long the channel keeps them.
    keep: Millis,
}

impl Ring {
    /// Keeps a publication, for as long as its channel says. The oldest make room for it.
    pub fn push(&mut self, publication: &Arc<Publication>, budget: &Budget) {
        self.keep = Millis::from(publication.options.replay_seconds) * 1_000;
        self.expire(accepted(publication), budget);
        let weight = weight(publication);
        while self.kept.len() >= REPLAY_PUBLICATIONS_MAX || self.bytes + weight > REPLAY_BYTES_MAX {
            if !self.evict(budget) {
                break;
            }
        }
        while !budget.take(weight) {
            if !self.evict(budget) {
                budget.evicted.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.bytes += weight;
        self.kept.push_back(publication.clone());
    }

    /// The publications of the last `seconds`, the oldest first.
    pub fn since(&self, seconds: u32, now: Millis) -> Vec<Arc<Publication>> {
        let keep = Millis::from(seconds) * 1_000;
        let old = self.kept.iter().take_while(|one| accepted(one) + keep <= now).count();
        self.kept.range(old..).cloned().collect()
    }

    /// Lets go of what is older than the channel keeps it. True where nothing is left.
    pub fn expire(&mut self, now: Millis, budget: &Budget) -> bool {
        while self.kept.front().is_some_and(|oldest| accepted(oldest) + self.keep <= now) {
            self.let_go(budget);
        }
        self.kept.is_empty()
    }

    /// Lets go of everything.
    pub fn clear(&mut self, budget: &Budget) {
        while self.let_go(budget) {}
    }

    /// Lets go of the oldest before its time. False where there is none.
    fn evict(&mut self, budget: &Budget) -> bool {
        let was_there = self.let_go(budget);
        budget.evicted.fetch_add(u64::from(was_there), Ordering::Relaxed);
        was_there
    }

    fn let_go(&mut self, budget: &Budget) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        let weight = weight(&oldest);
        self.bytes -= weight;
        budget.give(weight);
        true
    }
}

fn accepted(publication: &Publication) -> Millis {
    publication.accepted / NANOS_PER_MILLI
}

/// Bytes that a publication counts for.
fn weight(publication: &Publication) -> usize {
    let payload = match &publication.content {
        Content::Message { payload, .. } | Content::Event { payload } => payload.len(),
        Content::Joined(_) | Content::Left(_) => 0,
    };
    REPLAY_OVERHEAD_BYTES + payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Channel, ChannelOptions, MessageId, Sender};

    fn publication(number: u64, at: Millis, bytes: usize) -> Arc<Publication> {
        let content = Content::Message {
            event: "e".into(),
            payload: "1".repeat(bytes).into(),
            sender: Sender::System,
        };
        let id = MessageId::from_u128(number.into());
        let options = ChannelOptions { replay_seconds: 10, ..ChannelOptions::default() };
        let publication = Publication::new(id, Channel::from("c"), 0, content).under(options);
        Arc::new(publication.accepted(at * NANOS_PER_MILLI))
    }

    fn numbers(publications: &[Arc<Publication>]) -> Vec<u128> {
        publications.iter().map(|one| one.id.as_u128()).collect()
    }

    #[test]
    fn what_is_younger_than_asked_for_is_there_in_order() {
        let (mut ring, budget) = (Ring::default(), Budget::default());
        for number in 0..5 {
            ring.push(&publication(number, 1_000 * number, 1), &budget);
        }
        assert_eq!(numbers(&ring.since(10, 4_000)), [0, 1, 2, 3, 4]);
        assert_eq!(numbers(&ring.since(2, 4_000)), [3, 4], "two seconds ago is too long ago");
        assert_eq!(numbers(&ring.since(2, 3_999)), [2, 3, 4]);
        assert!(ring.since(0, 4_000).is_empty());
        assert!(!ring.expire(11_000, &budget));
        assert_eq!(numbers(&ring.since(100, 11_000)), [2, 3, 4], "it is gone for good");
        assert!(ring.expire(14_000, &budget));
        assert_eq!((budget.bytes(), budget.evicted()), (0, 0));
    }

    #[test]
    fn the_oldest_make_room_in_a_channel() {
        let (mut ring, budget) = (Ring::default(), Budget::default());
        let all = REPLAY_PUBLICATIONS_MAX as u64 + 3;
        (0..all).for_each(|number| ring.push(&publication(number, 0, 1), &budget));
        assert_eq!(ring.since(10, 0).len(), REPLAY_PUBLICATIONS_MAX);
        assert_eq!((numbers(&ring.since(10, 0))[0], budget.evicted()), (3, 3));
        ring.push(&publication(all, 0, 700_000), &budget);
        ring.push(&publication(all + 1, 0, 700_000), &budget);
        assert_eq!(numbers(&ring.since(10, 0)), [u128::from(all) + 1]);
        ring.clear(&budget);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn where_the_node_has_no_room_the_newest_goes_too() {
        let (large, budget) = (publication(0, 0, 1_000_000), Budget::default());
        let mut rings: Vec<Ring> = Vec::new();
        while budget.evicted() == 0 {
            let mut ring = Ring::default();
            ring.push(&large, &budget);
            rings.push(ring);
        }
        assert!(budget.bytes() <= REPLAY_TOTAL_BYTES_MAX);
        assert!(budget.bytes() > REPLAY_TOTAL_BYTES_MAX - 1_000_000 - REPLAY_OVERHEAD_BYTES);
        assert_eq!(budget.evicted(), 1);
        assert!(rings.last().expect("there are some").since(10, 0).is_empty());
        let first = &mut rings[0];
        first.push(&publication(1, 0, 1_000_000), &budget);
        assert_eq!(numbers(&first.since(10, 0)), [1], "a channel has what it gives up itself");
        rings.iter_mut().for_each(|ring| ring.clear(&budget));
        assert_eq!(budget.bytes(), 0);
    }

    proptest! {
        #[test]
        fn it_holds_an_unbroken_run_up_to_the_newest_and_the_budget_is_right(
            steps in prop::collection::vec((0..3_000_u64, 1..400_000_usize), 1..400),
        ) {
            let (mut ring, budget, mut now) = (Ring::default(), Budget::default(), 0);
            let mut all = Vec::new();
            for (number, (pause, bytes)) in (0..).zip(steps) {
                now += pause;
                ring.push(&publication(number, now, bytes), &budget);
                all.push((number, now, bytes + REPLAY_OVERHEAD_BYTES));
                let kept = ring.since(10, now);
                let due: Vec<_> = all.iter().filter(|one| one.1 + 10_000 > now).collect();
                let weights = due.iter().rev().scan(0, |sum, one| {
                    *sum += one.2;
                    Some(*sum)
                });
                let fit = weights.take_while(|sum| *sum <= REPLAY_BYTES_MAX).count();
                let fit = fit.min(REPLAY_PUBLICATIONS_MAX);
                let expected: Vec<_> =
                    due[due.len() - fit..].iter().map(|one| u128::from(one.0)).collect();
                prop_assert_eq!(numbers(&kept), expected);
                prop_assert_eq!(budget.bytes(), ring.bytes);
            }
            ring.clear(&budget);
            prop_assert_eq!((budget.bytes(), ring.bytes), (0, 0));
        }
    }
}
