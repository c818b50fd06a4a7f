//! Time, chance, and what is under way between the parts of the world.

use std::collections::BTreeMap;

use fanfare::message::Millis;

use super::frames::{Account, Item};

/// A source of random numbers: SplitMix64, so that a seed repeats a run whatever crates change.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `least` to `most`.
    pub(super) fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.number() % (most - least + 1)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.number() % count as u64).expect("it is below a usize")
    }

    pub(super) fn has_luck(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len())])
    }
}

/// A way on which everything keeps its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// From a client to its server.
    Up(u64),
    /// From a server to its client.
    Down(u64),
    /// From one server to another. Each account has a connection of its own.
    Route(usize, usize, Account),
    /// From a server to the mirror of a node, by the number of the consumer.
    Mirror(u64),
}

pub(super) struct Clockwork {
    /// Milliseconds since the world began.
    pub(super) now: Millis,
    pub(super) dice: Dice,
    queue: BTreeMap<(Millis, u64), Item>,
    count: u64,
    /// When the last thing on each way arrives.
    ways: BTreeMap<Way, Millis>,
}

impl Clockwork {
    pub(super) fn new(seed: u64) -> Self {
        let (queue, ways) = (BTreeMap::new(), BTreeMap::new());
        Self { now: 0, dice: Dice::new(seed), queue, count: 0, ways }
    }

    /// Lets something happen after a while.
    pub(super) fn after(&mut self, delay: Millis, item: Item) {
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), item);
    }

    /// Sends something on a way, behind everything that is on it.
    pub(super) fn along(&mut self, way: Way, delay: Millis, item: Item) {
        let last = self.ways.entry(way).or_default();
        *last = (*last).max(self.now + delay);
        let delay = *last - self.now;
        self.after(delay, item);
    }

    /// Returns what happens next up to this time, and sets the clock to it.
    pub(super) fn next(&mut self, until: Millis) -> Option<Item> {
        let entry = self.queue.first_entry()?;
        let at = entry.key().0;
        if at > until {
            self.now = until;
            return None;
        }
        self.now = at.max(self.now);
        Some(entry.remove())
    }
}
