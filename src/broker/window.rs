//! The window of a channel: its publications of the last seconds.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::{Budget, Deflated};
use crate::limits::{REPLAY_BYTES_MAX, REPLAY_OVERHEAD_BYTES, REPLAY_PUBLICATIONS_MAX};
use crate::message::{Content, MessageId, Millis, Nanos, Publication, Replay, ReplayWish};

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// The latest publications of one channel, in order and without a hole.
///
/// A window must be cleared before it is dropped, so that the budget is right.
#[derive(Debug, Default)]
pub struct Window {
    kept: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// How long the channel keeps a publication.
    keep: Millis,
    /// When the last publication that was dropped early would have expired.
    missing_until: Millis,
}

impl Window {
    /// Adds a publication, which the channel keeps as long as its options say. The oldest ones are
    /// dropped if it does not fit otherwise.
    pub fn push(&mut self, publication: &Arc<Publication>, budget: &Budget) {
        self.keep = Millis::from(publication.options.retain.seconds()) * 1_000;
        self.expire(accepted(publication), budget);
        let weight = weight(publication, budget.deflated);
        while self.kept.len() >= REPLAY_PUBLICATIONS_MAX || self.bytes + weight > REPLAY_BYTES_MAX {
            if !self.evict(budget) {
                break;
            }
        }
        while !budget.take(weight) {
            if !self.evict(budget) {
                self.missing_until = accepted(publication) + self.keep;
                budget.count_evicted();
                return;
            }
        }
        self.bytes += weight;
        self.kept.push_back(publication.clone());
    }

    /// Returns whether the window has this publication.
    pub fn has(&self, id: MessageId) -> bool {
        self.kept.iter().rev().any(|one| one.id == id)
    }

    /// Returns all publications, in order.
    pub fn all(&self) -> Vec<Arc<Publication>> {
        self.kept.iter().cloned().collect()
    }

    /// Returns the publications that a new subscriber asks for. Until `missing_until` earlier ones
    /// may be missing in the window.
    pub fn replay(&self, wish: ReplayWish, now: Millis, missing_until: Millis) -> Replay {
        let missing_until = missing_until.max(self.missing_until);
        let keep = Millis::from(wish.seconds) * 1_000;
        let known = wish.after.map(|after| self.kept.iter().rposition(|one| one.id == after));
        let old = self.kept.iter().take_while(|one| accepted(one) + keep <= now).count();
        let start = old.max(known.flatten().map_or(0, |place| place + 1));
        Replay {
            publications: self.kept.range(start..).cloned().collect(),
            has_gap: wish.seconds > 0 && known == Some(None) && now < missing_until,
            last: self.kept.back().map(|one| one.id),
            is_whole: known.flatten().is_some_and(|place| old <= place + 1),
        }
    }

    /// Drops expired publications. Returns whether the window is empty, and every publication that
    /// was dropped early would have expired, too.
    pub fn expire(&mut self, now: Millis, budget: &Budget) -> bool {
        while self.kept.front().is_some_and(|oldest| accepted(oldest) + self.keep <= now) {
            self.let_go(budget);
        }
        self.kept.is_empty() && now >= self.missing_until
    }

    /// Drops all publications and returns their bytes to the budget.
    pub fn clear(&mut self, budget: &Budget) {
        while self.let_go(budget) {}
    }

    /// Drops the oldest publication before it expires. Returns false if the window is empty.
    fn evict(&mut self, budget: &Budget) -> bool {
        let Some(oldest) = self.kept.front() else { return false };
        self.missing_until = accepted(oldest) + self.keep;
        budget.count_evicted();
        self.let_go(budget)
    }

    /// Drops the oldest publication. Returns false if the window is empty.
    fn let_go(&mut self, budget: &Budget) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        let weight = weight(&oldest, budget.deflated);
        self.bytes -= weight;
        budget.give(weight);
        true
    }
}

/// Returns when a publication was accepted, in milliseconds since the node started.
pub(super) fn accepted(publication: &Publication) -> Millis {
    publication.accepted / NANOS_PER_MILLI
}

/// Returns the bytes that a publication counts for.
fn weight(publication: &Publication, deflated: Deflated) -> usize {
    let payload = match &publication.content {
        Content::Message { payload, .. } | Content::Event { payload } => payload.len(),
        Content::Document { .. } | Content::Joined(..) | Content::Left(..) => 0,
    };
    REPLAY_OVERHEAD_BYTES + payload + deflated.bytes(&publication.channel, payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::REPLAY_TOTAL_BYTES_MAX;
    use crate::message::{Channel, ChannelOptions, Retain, Sender};

    fn publication(number: u64, at: Millis, bytes: usize) -> Arc<Publication> {
        let content = Content::Message {
            event: "e".into(),
            payload: "1".repeat(bytes).into(),
            sender: Sender::System,
        };
        let id = MessageId::from_u128(number.into());
        let options = ChannelOptions { retain: Retain::window(10), ..ChannelOptions::default() };
        let publication = Publication::new(id, Channel::from("c"), 0, content).under(options);
        Arc::new(publication.accepted(at * NANOS_PER_MILLI))
    }

    fn numbers(publications: &[Arc<Publication>]) -> Vec<u128> {
        publications.iter().map(|one| one.id.as_u128()).collect()
    }

    fn since(window: &Window, seconds: u32, now: Millis) -> Vec<Arc<Publication>> {
        window.replay(ReplayWish { seconds, after: None, behind: None }, now, 0).publications
    }

    #[test]
    fn what_came_after_a_known_one_is_all_there_or_its_absence_is_told() {
        let (mut window, budget) = (Window::default(), Budget::new(REPLAY_TOTAL_BYTES_MAX));
        let after = |window: &Window, number, seconds, now| {
            let after = Some(MessageId::from_u128(number));
            let Replay { publications, has_gap, last, is_whole } =
                window.replay(ReplayWish { seconds, after, behind: None }, now, 0);
            (numbers(&publications), has_gap, is_whole, last.map(|id| id.as_u128()))
        };
        assert_eq!(after(&window, 7, 10, 0), (vec![], false, false, None));
        (0..4).for_each(|number| window.push(&publication(number, 1_000 * number, 1), &budget));
        assert_eq!(after(&window, 1, 10, 3_000), (vec![2, 3], false, true, Some(3)));
        assert_eq!(after(&window, 3, 10, 3_000), (vec![], false, true, Some(3)));
        let partly = (vec![2, 3], false, false, Some(3));
        assert_eq!(after(&window, 0, 2, 3_000), partly, "one is too old");
        assert_eq!(after(&window, 9, 10, 3_000), (vec![0, 1, 2, 3], false, false, Some(3)));
        assert_eq!(
            after(&window, 9, 0, 3_000),
            (vec![], false, false, Some(3)),
            "nothing was asked for"
        );
        window.push(&publication(4, 3_000, REPLAY_BYTES_MAX - 2 * REPLAY_OVERHEAD_BYTES), &budget);
        assert_eq!(
            after(&window, 3, 10, 3_000),
            (vec![4], true, false, Some(4)),
            "it was let go of"
        );
        assert_eq!(after(&window, 4, 10, 3_000), (vec![], false, true, Some(4)));
        assert!(!after(&window, 3, 10, 13_000).1, "its time is over in any case");
    }

    #[test]
    fn what_is_younger_than_asked_for_is_there_in_order() {
        let (mut window, budget) = (Window::default(), Budget::new(REPLAY_TOTAL_BYTES_MAX));
        for number in 0..5 {
            window.push(&publication(number, 1_000 * number, 1), &budget);
        }
        assert_eq!(numbers(&since(&window, 10, 4_000)), [0, 1, 2, 3, 4]);
        assert_eq!(numbers(&since(&window, 2, 4_000)), [3, 4], "two seconds ago is too long ago");
        assert_eq!(numbers(&since(&window, 2, 3_999)), [2, 3, 4]);
        assert!(since(&window, 0, 4_000).is_empty());
        assert!(!window.expire(11_000, &budget));
        assert_eq!(numbers(&since(&window, 100, 11_000)), [2, 3, 4], "it is gone for good");
        assert!(window.expire(14_000, &budget));
        assert_eq!((budget.bytes(), budget.evicted()), (0, 0));
    }

    #[test]
    fn the_oldest_make_room_in_a_channel() {
        let (mut window, budget) = (Window::default(), Budget::new(REPLAY_TOTAL_BYTES_MAX));
        let all = REPLAY_PUBLICATIONS_MAX as u64 + 3;
        (0..all).for_each(|number| window.push(&publication(number, 0, 1), &budget));
        assert_eq!(since(&window, 10, 0).len(), REPLAY_PUBLICATIONS_MAX);
        assert_eq!((numbers(&since(&window, 10, 0))[0], budget.evicted()), (3, 3));
        window.push(&publication(all, 0, 700_000), &budget);
        window.push(&publication(all + 1, 0, 700_000), &budget);
        assert_eq!(numbers(&since(&window, 10, 0)), [u128::from(all) + 1]);
        window.clear(&budget);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn where_the_node_has_no_room_the_newest_goes_too() {
        let (large, budget) = (publication(0, 0, 1_000_000), Budget::new(REPLAY_TOTAL_BYTES_MAX));
        let mut windows: Vec<Window> = Vec::new();
        while budget.evicted() == 0 {
            let mut window = Window::default();
            window.push(&large, &budget);
            windows.push(window);
        }
        assert!(budget.bytes() <= REPLAY_TOTAL_BYTES_MAX);
        assert!(budget.bytes() > REPLAY_TOTAL_BYTES_MAX - 1_000_000 - REPLAY_OVERHEAD_BYTES);
        assert_eq!(budget.evicted(), 1);
        assert!(since(windows.last().expect("there are some"), 10, 0).is_empty());
        let first = &mut windows[0];
        first.push(&publication(1, 0, 1_000_000), &budget);
        assert_eq!(numbers(&since(first, 10, 0)), [1], "a channel has what it gives up itself");
        windows.iter_mut().for_each(|window| window.clear(&budget));
        assert_eq!(budget.bytes(), 0);
    }

    proptest! {
        #[test]
        fn it_holds_an_unbroken_run_up_to_the_newest_and_the_budget_is_right(
            steps in prop::collection::vec((0..3_000_u64, 1..400_000_usize), 1..400),
        ) {
            let (mut window, budget) = (Window::default(), Budget::new(REPLAY_TOTAL_BYTES_MAX));
            let mut now = 0;
            let mut all = Vec::new();
            for (number, (pause, bytes)) in (0..).zip(steps) {
                now += pause;
                window.push(&publication(number, now, bytes), &budget);
                all.push((number, now, bytes + REPLAY_OVERHEAD_BYTES));
                let kept = since(&window, 10, now);
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
                prop_assert_eq!(budget.bytes(), window.bytes);
            }
            window.clear(&budget);
            prop_assert_eq!((budget.bytes(), window.bytes), (0, 0));
        }
    }
}
