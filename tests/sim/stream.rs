//! Compares what a client hears of its channels with what it should hear.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;

/// A message that a client receives about a channel.
pub(crate) trait Heard: PartialEq + Debug {
    /// Returns the count of a gap notice; `None` for other messages.
    fn gap(&self) -> Option<u64>;

    /// Returns whether it may change places with other such messages that the same call caused.
    fn is_unordered(&self) -> bool {
        false
    }
}

/// A message that a client should hear.
#[derive(Debug)]
pub(crate) struct Due<H> {
    pub(crate) heard: H,
    /// Whether a client that does not keep up may receive a gap notice instead.
    pub(crate) may_be_lost: bool,
    /// The number of the call that caused it.
    pub(crate) call: u64,
}

/// The messages that one client heard and those that it should hear, by channel and in order.
#[derive(Debug)]
pub(crate) struct Streams<H> {
    heard: HashMap<usize, Vec<H>>,
    due: HashMap<usize, Vec<Due<H>>>,
    /// Losses counted by gap notices that came before the client entered. Some of the publications
    /// may have been due to it.
    told_before: HashMap<usize, u64>,
}

impl<H> Default for Streams<H> {
    fn default() -> Self {
        Self { heard: HashMap::new(), due: HashMap::new(), told_before: HashMap::new() }
    }
}

impl<H: Heard> Streams<H> {
    /// Records what the client heard.
    pub(crate) fn hear(&mut self, channel: usize, heard: H) {
        self.heard.entry(channel).or_default().push(heard);
    }

    /// Records a gap notice from before the client entered. Not all that it counts need be due.
    pub(crate) fn told_before(&mut self, channel: usize, count: u64) {
        *self.told_before.entry(channel).or_default() += count;
    }

    /// Adds what the client should hear, behind everything else of the channel.
    pub(crate) fn expect(&mut self, channel: usize, due: Due<H>) {
        self.due.entry(channel).or_default().push(due);
    }

    /// Removes the last expectation of this message.
    pub(crate) fn expect_no_more(&mut self, channel: usize, heard: &H) {
        let due = self.due.get_mut(&channel).expect("it was expected");
        let last = due.iter().rposition(|due| due.heard == *heard);
        due.remove(last.expect("it was expected"));
    }

    /// Checks a client that has taken all its frames: it has heard each message once and in order,
    /// or gap notices with the right count no later than where the first publication is missing.
    /// Returns how many publications are missing.
    pub(crate) fn check(&self) -> u64 {
        let (none, mut all) = (Vec::new(), 0);
        for (channel, due) in &self.due {
            let heard = self.heard.get(channel).unwrap_or(&none);
            let before = self.told_before.get(channel).copied().unwrap_or_default();
            let mut rest = due.iter().collect();
            let Gaps { mut missing, told } = follow(heard, &mut rest, before);
            missing += rest.into_iter().map(lost).sum::<u64>();
            let is_told = (told..=told + before).contains(&missing);
            assert!(is_told, "left: what is missing is told of: {heard:?}, {due:?}");
            all += missing;
        }
        self.check_nothing_else();
        all
    }

    /// Checks a client whose connection has ended: it has heard a beginning of what it should.
    pub(crate) fn check_so_far(&self) {
        for (channel, due) in &self.due {
            let Some(heard) = self.heard.get(channel) else { continue };
            let before = self.told_before.get(channel).copied().unwrap_or_default();
            follow(heard, &mut due.iter().collect(), before);
        }
        self.check_nothing_else();
    }

    fn check_nothing_else(&self) {
        let unexpected = self.heard.keys().find(|channel| !self.due.contains_key(channel));
        assert_eq!(unexpected, None, "left: nothing else is heard");
    }
}

/// How many publications were missing, and how many of them gap notices counted.
struct Gaps {
    missing: u64,
    told: u64,
}

/// Removes from `rest` what is due up to the last message heard. Earlier gap notices counted
/// `before` losses.
fn follow<H: Heard>(heard: &[H], rest: &mut VecDeque<&Due<H>>, before: u64) -> Gaps {
    let mut gaps = Gaps { missing: 0, told: 0 };
    'heard: for one in heard {
        if let Some(count) = one.gap() {
            gaps.told += count;
            continue;
        }
        while let Some(next) = rest.pop_front() {
            if next.heard == *one {
                continue 'heard;
            }
            if let Some(at) = rest.iter().position(|other| is_as_good(next, other, one)) {
                rest[at] = next;
                continue 'heard;
            }
            gaps.missing += lost(next);
            let Gaps { missing, told } = gaps;
            let is_told = missing <= told + before;
            assert!(is_told, "left: {missing} missing, {told} told of: {heard:?}");
        }
        panic!("left: unexpected: {one:?}, {heard:?}");
    }
    gaps
}

/// Returns whether `heard`, which is due as `other`, may come in the place of `next`.
fn is_as_good<H: Heard>(next: &Due<H>, other: &Due<H>, heard: &H) -> bool {
    let are_unordered = next.heard.is_unordered() && other.heard.is_unordered();
    other.heard == *heard && are_unordered && next.call == other.call
}

fn lost<H: Heard>(due: &Due<H>) -> u64 {
    assert!(due.may_be_lost, "left out: {due:?}");
    1
}
