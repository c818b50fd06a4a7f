//! A coarse timer wheel with the deadlines of a worker's connections. Each connection has one live
//! entry.
//!
//! Entries are not removed when a deadline changes. A connection remembers the tick of its live
//! entry; its entries at other ticks are ignored.

use crate::message::Millis;

/// The length of a tick in milliseconds: a deadline is noticed at most this late.
pub(super) const TICK: Millis = 16;
/// The number of ticks on the wheel. They cover 65 seconds, which is more than a default heartbeat.
const SLOTS: usize = 4_096;

/// The number of a tick, counted since the node started. 0 stands for no entry.
pub(super) type Tick = u64;

#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<u32>>,
    /// A bit for each slot of the wheel, set if the slot has entries.
    filled: [u64; SLOTS / 64],
    /// The next tick to handle.
    current: Tick,
}

impl Wheel {
    /// Creates an empty wheel whose first tick is the one after `now`.
    pub(super) fn new(now: Millis) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, filled: [0; SLOTS / 64], current: now / TICK + 1 }
    }

    /// Enters a deadline for a connection's slot and returns its tick. A deadline beyond the
    /// wheel's end is entered at the end, and must be entered again when that comes.
    pub(super) fn enter(&mut self, slot: u32, deadline: Millis) -> Tick {
        let last = self.current + SLOTS as Tick - 1;
        let tick = deadline.div_ceil(TICK).clamp(self.current, last);
        let place = place(tick);
        self.slots[place].push(slot);
        self.filled[place / 64] |= 1 << (place % 64);
        tick
    }

    /// Takes the entries of the next tick that is due: the tick and the connections' slots. `None`
    /// if no entry is due.
    pub(super) fn due(&mut self, now: Millis) -> Option<(Tick, Vec<u32>)> {
        while self.current * TICK <= now {
            let tick = self.current;
            // Skips empty ticks a word at a time, because there are many after a long sleep.
            let place = place(tick);
            if self.filled[place / 64] >> (place % 64) == 0 {
                self.current = (tick + (64 - place as Tick % 64)).min(now / TICK + 1);
                continue;
            }
            self.current += 1;
            if self.filled[place / 64] & (1 << (place % 64)) != 0 {
                self.filled[place / 64] &= !(1 << (place % 64));
                return Some((tick, std::mem::take(&mut self.slots[place])));
            }
        }
        None
    }

    /// Returns when the next entry is due, in milliseconds since the node started; `None` if there
    /// is no entry.
    pub(super) fn next(&self) -> Option<Millis> {
        let start = place(self.current);
        (0..=SLOTS / 64)
            .find_map(|step| {
                let word = (start / 64 + step) % (SLOTS / 64);
                let mut bits = self.filled[word];
                if step == 0 {
                    bits &= u64::MAX << (start % 64);
                } else if step == SLOTS / 64 {
                    bits &= !(u64::MAX << (start % 64));
                }
                (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
            })
            .map(|found| {
                let ahead = (found + SLOTS - start) % SLOTS;
                (self.current + ahead as Tick) * TICK
            })
    }
}

fn place(tick: Tick) -> usize {
    tick as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_due(wheel: &mut Wheel, now: Millis) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some((_, slots)) = wheel.due(now) {
            due.extend(slots);
        }
        due
    }

    #[test]
    fn nothing_comes_early_and_nothing_later_than_a_tick() {
        let mut wheel = Wheel::new(1_000);
        wheel.enter(7, 1_300);
        assert!(wheel.next().is_some_and(|at| (1_300..1_300 + TICK).contains(&at)));
        assert!(all_due(&mut wheel, 1_299).is_empty());
        assert_eq!(all_due(&mut wheel, 1_300 + TICK), [7]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_in_the_past_comes_at_once() {
        let mut wheel = Wheel::new(5_000);
        wheel.enter(1, 10);
        assert_eq!(all_due(&mut wheel, 5_000 + TICK), [1]);
    }

    #[test]
    fn beyond_the_end_it_comes_up_to_be_entered_again() {
        let mut wheel = Wheel::new(0);
        let tick = wheel.enter(1, 1_000_000);
        assert!(tick * TICK < 1_000_000);
        assert_eq!(all_due(&mut wheel, 1_000_000), [1]);
    }

    proptest! {
        #[test]
        fn every_entry_comes_up_once_in_its_time(
            deadlines in prop::collection::vec(0u64..60_000, 1..50),
            steps in prop::collection::vec(1u64..3_000, 1..80),
        ) {
            let mut wheel = Wheel::new(0);
            for (slot, deadline) in (0u32..).zip(&deadlines) {
                wheel.enter(slot, *deadline);
            }
            let (mut now, mut seen) = (0, vec![0; deadlines.len()]);
            for step in steps {
                now += step;
                for slot in all_due(&mut wheel, now) {
                    seen[slot as usize] += 1;
                    prop_assert!(deadlines[slot as usize] <= now);
                }
                let expected = deadlines.iter().filter(|d| **d + TICK <= now).count();
                prop_assert!(seen.iter().filter(|n| **n == 1).count() >= expected);
                prop_assert!(seen.iter().all(|n| *n <= 1));
            }
        }
    }
}
