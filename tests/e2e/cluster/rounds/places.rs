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
