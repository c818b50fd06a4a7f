//! Finds the places of publications in the one order, which clients do not see.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::histories::{Answer, Fact};

/// Writes the places into a history: those in an order that explains what all subscribers heard.
/// Without such an order some have none, and the checker says why.
///
/// Of publications that no subscriber tells apart, the one that was heard first comes first.
pub(super) fn find(history: &mut [Fact]) {
    let places = order(history);
    for fact in history {
        match fact {
            Fact::Heard { id, place, .. } => *place = places.get(id).copied(),
            // Each publication is attempted once.
            Fact::Answered { attempt, answer: Answer::Stored { place } } => {
                *place = places.get(attempt).copied();
            }
            _ => {}
        }
    }
}

fn order(history: &[Fact]) -> BTreeMap<u64, u64> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut first_heard = BTreeMap::new();
    let mut behind: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (at, fact) in history.iter().enumerate() {
        let Fact::Heard { subscriber, id, .. } = *fact else { continue };
        first_heard.entry(id).or_insert(at);
        if let Some(before) = last.insert(subscriber, id) {
            behind.entry(before).or_default().insert(id);
        }
    }
    let mut waits_for: BTreeMap<u64, usize> = BTreeMap::new();
    for next in behind.values().flatten() {
        *waits_for.entry(*next).or_default() += 1;
    }
    let is_free = |id: &&u64| !waits_for.contains_key(*id);
    let mut free: BinaryHeap<_> =
        first_heard.keys().filter(is_free).map(|id| Reverse((first_heard[id], *id))).collect();
    let mut places = BTreeMap::new();
    while let Some(Reverse((_, id))) = free.pop() {
        places.insert(id, places.len() as u64 + 1);
        for next in behind.remove(&id).into_iter().flatten() {
            let waits = waits_for.entry(next).or_default();
            *waits -= 1;
            if *waits == 0 {
                free.push(Reverse((first_heard[&next], next)));
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histories::{Fault, faults};

    fn joined(subscriber: u64) -> Fact {
        Fact::Joined { subscriber, node: 1, channel: 1 }
    }

    fn stored(id: u64) -> [Fact; 2] {
        let answer = Answer::Stored { place: None };
        let asked = Fact::Asked { attempt: id, id, channel: 1, node: 1 };
        [asked, Fact::Answered { attempt: id, answer }]
    }

    fn heard(subscriber: u64, ids: &[u64]) -> Vec<Fact> {
        ids.iter().map(|&id| Fact::Heard { subscriber, id, place: None }).collect()
    }

    /// Returns the faults of a history in which three subscribers hear publications 1 to 4.
    fn judged(each: [Vec<Fact>; 3]) -> Vec<Fault> {
        let mut history: Vec<_> = [1, 2, 3].map(joined).into();
        history.extend([1, 2, 3, 4].into_iter().flat_map(stored));
        history.extend(each.into_iter().flatten());
        find(&mut history);
        faults(&history)
    }

    #[test]
    fn places_tell_where_something_is_missing() {
        let (all, part) = ([3, 1, 2, 4], [3, 1, 4]);
        let whole = |subscriber| heard(subscriber, &all);
        assert_eq!(judged([whole(1), whole(2), whole(3)]), []);
        let missed = [Fault::Missed { subscriber: 3, id: 2 }];
        assert_eq!(judged([whole(1), whole(2), heard(3, &part)]), missed);
        let gap = Fact::Gap { subscriber: 3 };
        let told = [heard(3, &part[..2]), vec![gap.clone()], heard(3, &part[2..])].concat();
        assert_eq!(judged([whole(1), whole(2), told]), []);
        let told_late = [heard(3, &part), vec![gap]].concat();
        assert_eq!(judged([whole(1), whole(2), told_late]), missed);
        // One that has left is judged by what it heard afterwards.
        let left = vec![Fact::Left { subscriber: 3 }];
        assert_eq!(judged([whole(1), whole(2), [heard(3, &all[..2]), left].concat()]), []);
    }

    #[test]
    fn subscribers_that_disagree_have_no_order() {
        let turned = judged([heard(1, &[1, 2, 3, 4]), heard(2, &[1, 3, 2, 4]), heard(3, &[])]);
        let disorder = |subscriber| Fault::Disorder { subscriber, id: subscriber + 1 };
        assert!(turned.contains(&disorder(1)) && turned.contains(&disorder(2)), "{turned:?}");
    }
}
