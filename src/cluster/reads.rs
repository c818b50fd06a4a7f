//! Channels of which something is missing, until it is read.

use std::collections::{BTreeMap, VecDeque};

use super::chain::Missing;
use super::limits::{READ_MS_MAX, READS_MAX};
use super::name::ChannelHash;
use crate::message::Millis;

/// The reads of channels: a bounded number is under way, and others wait, each once.
#[derive(Debug, Default)]
pub struct Reads {
    waiting: VecDeque<ChannelHash>,
    /// What is being read, and when that is given up.
    under_way: BTreeMap<ChannelHash, (Missing, Millis)>,
}

impl Reads {
    /// Returns the number of channels of which something is missing.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Returns whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a channel. The caller appends it once, when its messages begin to wait, and again
    /// only after the end of a read.
    pub fn push(&mut self, channel: ChannelHash) {
        self.waiting.push_back(channel);
    }

    /// Returns the next channel if a read can begin.
    pub fn next_channel(&mut self) -> Option<ChannelHash> {
        if self.under_way.len() >= READS_MAX { None } else { self.waiting.pop_front() }
    }

    /// Notes that a read begins.
    pub fn begin(&mut self, channel: ChannelHash, missing: Missing, now: Millis) {
        self.under_way.insert(channel, (missing, now + READ_MS_MAX));
    }

    /// Ends a read if it is of this range.
    pub fn end(&mut self, channel: ChannelHash, missing: Missing) -> bool {
        let is_this = self.under_way.get(&channel).is_some_and(|(one, _)| *one == missing);
        if is_this {
            self.under_way.remove(&channel);
        }
        is_this
    }

    /// Forgets a channel's read that is under way.
    pub fn forget(&mut self, channel: ChannelHash) {
        self.under_way.remove(&channel);
    }

    /// Ends the reads that took too long, and returns their channels.
    pub fn late(&mut self, now: Millis) -> Vec<ChannelHash> {
        let late = self.under_way.extract_if(.., |_, (_, end)| *end <= now);
        late.map(|(channel, _)| channel).collect()
    }

    /// Returns when the first read is given up; `None` if none is under way.
    pub fn due(&self) -> Option<Millis> {
        self.under_way.values().map(|(_, end)| *end).min()
    }
}
