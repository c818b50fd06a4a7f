//! Whether all subscribers of a channel received its publications in one order.
//!
//! What a subscriber received arrived in the order of numbers, except the publications that its
//! tally holds as late. So two subscribers can differ only in those that came late to one of them.

use std::collections::HashMap;

use crate::tally::Tally;

/// Subscribers of a whole run whose late publications are compared in full. Each may take as long as
/// a run has publications, while the others take no time.
const COMPARED_MAX: usize = 1_000;

/// Two publications that two subscribers of a channel received in different orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    /// The number of the channel, if channels are numbered.
    pub(crate) channel: Option<u32>,
    /// The nodes of the two subscribers, by their places in the list of nodes.
    pub(crate) nodes: [usize; 2],
    /// The publications in the order of the first subscriber.
    pub(crate) publications: [u64; 2],
}

/// The orders of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// Subscribers whose order was compared with that of another one of their channel.
    pub(crate) compared: usize,
    /// Subscribers with late publications beyond what is compared.
    pub(crate) not_compared: usize,
    /// Subscribers of which so much came late that only a part of it is known.
    pub(crate) partly_known: usize,
    pub(crate) difference: Option<Difference>,
}

impl Order {
    /// Compares the subscribers, each with the place of its node. The standard is the subscriber of a
    /// channel that received the most. If even this one lacks publications, the run has lost some.
    pub(crate) fn of<'a>(subscribers: impl IntoIterator<Item = (usize, &'a Tally)>) -> Self {
        let mut channels: HashMap<Option<u32>, Vec<(usize, &Tally)>> = HashMap::new();
        for (node, tally) in subscribers {
            channels.entry(tally.channel).or_default().push((node, tally));
        }
        let mut channels: Vec<_> = channels.into_iter().collect();
        channels.sort_unstable_by_key(|(channel, _)| *channel);
        let mut order = Self::default();
        let mut budget = COMPARED_MAX;
        for (channel, all) in channels {
            order.partly_known += all.iter().filter(|(_, tally)| tally.is_partly_known()).count();
            // The first of those that received as much.
            let standard = all.iter().rev().max_by_key(|(_, tally)| tally.received());
            let Some((node, standard)) = standard else { continue };
            for (other_node, other) in &all {
                if order.difference.is_some() {
                    return order;
                }
                if other.late() == standard.late() {
                    order.compared += 1;
                    continue;
                }
                if budget == 0 {
                    order.not_compared += 1;
                    continue;
                }
                budget -= 1;
                order.compared += 1;
                order.difference = difference(standard, other).map(|publications| {
                    let nodes = [*node, *other_node];
                    Difference { channel, nodes, publications }
                });
            }
        }
        order
    }
}

/// Returns the first two publications that both received and that `other` received the other way
/// round than `one`.
fn difference(one: &Tally, other: &Tally) -> Option<[u64; 2]> {
    let (in_one, in_other) = (Places::of(one), Places::of(other));
    for stretch in stretches(one, other) {
        let both = stretch
            .filter_map(|number| Some((in_one.place(number)?, in_other.place(number)?, number)));
        let mut both: Vec<_> = both.collect();
        both.sort_unstable();
        let swapped = both.windows(2).find(|pair| pair[1].1 < pair[0].1);
        if let Some(pair) = swapped {
            return Some([pair[0].2, pair[1].2]);
        }
    }
    None
}

/// Returns the numbers among which a late publication came in one of the two, in ascending ranges
/// that do not overlap. All outside of a range are before or behind all in it, in both.
fn stretches(one: &Tally, other: &Tally) -> Vec<std::ops::Range<u64>> {
    let late = one.late().iter().chain(other.late());
    let mut stretches: Vec<_> = late.map(|late| late.number..late.next).collect();
    stretches.sort_unstable_by_key(|stretch| stretch.start);
    let mut merged: Vec<std::ops::Range<u64>> = Vec::new();
    for stretch in stretches {
        match merged.last_mut() {
            Some(last) if stretch.start < last.end => last.end = last.end.max(stretch.end),
            _ => merged.push(stretch),
        }
    }
    merged
}

/// The places of what one subscriber received.
struct Places<'a> {
    tally: &'a Tally,
    late: HashMap<u64, (u64, usize)>,
}

impl<'a> Places<'a> {
    fn of(tally: &'a Tally) -> Self {
        let late = tally.late().iter().enumerate();
        // A late one came behind the highest number so far, and behind those that were late before.
        let late = late.map(|(turn, late)| (late.number, (late.next - 1, turn + 1)));
        Self { tally, late: late.collect() }
    }

    /// Returns a place that sorts as the arrivals; `None` for a publication that did not arrive, or
    /// whose place is not known.
    fn place(&self, number: u64) -> Option<(u64, usize)> {
        let late = self.late.get(&number).copied();
        late.or_else(|| self.tally.came_in_order(number).then_some((number, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: &[u64]) -> Tally {
        heard_on(None, numbers)
    }

    fn heard_on(channel: Option<u32>, numbers: &[u64]) -> Tally {
        let mut tally = Tally::of_channel(channel);
        for number in numbers {
            tally.note(*number);
        }
        tally
    }

    /// Compares subscribers of one channel, each at a node of its own.
    fn order(all: &[&[u64]]) -> Order {
        let tallies: Vec<_> = all.iter().map(|numbers| heard(numbers)).collect();
        Order::of(tallies.iter().enumerate())
    }

    fn swapped(all: &[&[u64]]) -> Option<([usize; 2], [u64; 2])> {
        order(all).difference.map(|it| (it.nodes, it.publications))
    }

    #[test]
    fn the_same_order_is_one_order_whatever_the_numbers() {
        assert_eq!(swapped(&[&[0, 1, 2], &[0, 1, 2]]), None);
        assert_eq!(swapped(&[&[3, 0, 2, 1, 4], &[3, 0, 2, 1, 4]]), None);
        assert_eq!(order(&[&[0, 1], &[0, 1], &[]]).compared, 3);
    }

    #[test]
    fn losses_and_repeats_are_no_difference_of_order() {
        assert_eq!(swapped(&[&[0, 1, 2, 3], &[1, 3], &[], &[0]]), None);
        assert_eq!(swapped(&[&[0, 1, 2, 3], &[0, 1, 0, 2, 1, 3]]), None);
        // 3 came before 1 to both; only one of them has a hole for 2, and one of them lacks 0.
        assert_eq!(swapped(&[&[0, 3, 2, 1, 4], &[3, 1, 4]]), None);
        // The second lacks what 1 was late behind.
        assert_eq!(swapped(&[&[0, 2, 1, 3], &[0, 1, 3]]), None);
    }

    #[test]
    fn the_first_two_that_are_swapped_are_named() {
        assert_eq!(swapped(&[&[0, 1, 2, 3], &[0, 2, 1, 3]]), Some(([0, 1], [1, 2])));
        assert_eq!(swapped(&[&[0, 2, 1, 3], &[0, 1, 2, 3]]), Some(([0, 1], [2, 1])));
        assert_eq!(swapped(&[&[2, 1, 0], &[2, 0, 1], &[2, 1, 0]]), Some(([0, 1], [1, 0])));
        let (straight, late) = ([0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 1, 3, 4, 6, 7, 5]);
        let (same, wrong) = ([0, 2, 1, 3, 4, 6, 5, 7], [0, 2, 1, 3, 4, 5, 7, 6]);
        assert_eq!(swapped(&[&late, &same]), Some(([0, 1], [7, 5])));
        assert_eq!(swapped(&[&late, &late, &wrong]), Some(([0, 2], [6, 7])));
        assert_eq!(swapped(&[&straight, &straight, &wrong]), Some(([0, 2], [1, 2])));
    }

    #[test]
    fn the_standard_is_the_one_that_received_the_most() {
        assert_eq!(swapped(&[&[1], &[0, 2, 1], &[1, 2]]), Some(([1, 2], [2, 1])));
    }

    #[test]
    fn channels_are_compared_each_by_itself() {
        let on = |channel, numbers: &[u64]| heard_on(Some(channel), numbers);
        let tallies = [on(1, &[0, 1]), on(0, &[1, 0]), on(1, &[0, 1]), on(0, &[1, 0])];
        assert_eq!(Order::of(tallies.iter().map(|tally| (0, tally))).difference, None);
        let tallies = [&tallies[..], &[on(1, &[1, 0])]].concat();
        let difference = Order::of(tallies.iter().map(|tally| (0, tally))).difference.unwrap();
        assert_eq!((difference.channel, difference.publications), (Some(1), [0, 1]));
    }

    #[test]
    fn a_plain_comparison_of_lists_finds_the_same() {
        // A simple generator suffices to try many orders with losses and repeats.
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 61
        };
        let mut found = 0;
        for _ in 0..5_000 {
            let lists: [Vec<u64>; 2] = [(); 2].map(|()| (0..6).map(|_| draw()).collect());
            let first = |list: &[u64], number| list.iter().position(|it| *it == number);
            let places = |number| Some((first(&lists[0], number)?, first(&lists[1], number)?));
            let mut both: Vec<_> = (0..8).filter_map(places).collect();
            both.sort_unstable();
            let differs = both.windows(2).any(|pair| pair[1].1 < pair[0].1);
            let difference = difference(&heard(&lists[0]), &heard(&lists[1]));
            assert_eq!(difference.is_some(), differs, "{lists:?}: {difference:?}");
            found += usize::from(differs);
            if let Some([one, other]) = difference {
                let [a, b] = [one, other].map(|number| places(number).expect("both have it"));
                assert!(a.0 < b.0 && a.1 > b.1, "{lists:?}: {one} and {other}");
            }
        }
        assert!((500..4_500).contains(&found), "{found}");
    }

    #[test]
    fn only_so_many_are_compared_in_full() {
        let standard = heard(&[0, 2, 1, 3]);
        let others = vec![heard(&[0, 2, 3]); COMPARED_MAX + 2];
        let all = std::iter::once(&standard).chain(&others);
        let order = Order::of(all.map(|tally| (0, tally)));
        assert_eq!((order.compared, order.not_compared), (COMPARED_MAX + 1, 2));
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        let many = 2 * crate::tally::LATE_MAX as u64;
        let turned: Vec<_> = (0..many).flat_map(|at| [2 * at + 1, 2 * at]).collect();
        let tallies = [heard(&turned), heard(&turned)];
        let order = Order::of(tallies.iter().enumerate());
        assert_eq!((order.partly_known, order.difference), (2, None));
        let straight: Vec<_> = (0..2 * many).collect();
        let order = Order::of([(0, &tallies[0]), (1, &heard(&straight))]);
        assert_eq!(order.difference.map(|it| it.publications), Some([1, 0]));
    }
}
