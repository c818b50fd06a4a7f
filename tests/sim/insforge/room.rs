//! What is known of a channel without looking at the node: how it behaves, what it keeps, and who
//! is there.

use std::collections::BTreeSet;

use fanfare::limits::{REPLAY_BYTES_MAX, REPLAY_OVERHEAD_BYTES, REPLAY_PUBLICATIONS_MAX};
use fanfare::message::{ChannelOptions, PresenceMode};

#[derive(Default)]
pub(super) struct Room {
    pub(super) options: ChannelOptions,
    kept: Vec<Kept>,
    /// For how many milliseconds it keeps them.
    keep: u64,
    pub(super) members: BTreeSet<Box<str>>,
}

/// A publication that a channel keeps for new subscribers.
#[derive(Clone, Copy)]
struct Kept {
    number: u64,
    at: u64,
    bytes: usize,
}

impl Room {
    /// A publication was accepted.
    pub(super) fn keep(&mut self, number: u64, payload_bytes: usize, now: u64) {
        self.keep = u64::from(self.options.replay_seconds) * 1_000;
        self.sweep(now);
        if self.keep == 0 {
            return;
        }
        let bytes = payload_bytes + REPLAY_OVERHEAD_BYTES;
        let is_full = |kept: &[Kept]| {
            let all: usize = kept.iter().map(|one| one.bytes).sum();
            kept.len() >= REPLAY_PUBLICATIONS_MAX || all + bytes > REPLAY_BYTES_MAX
        };
        while !self.kept.is_empty() && is_full(&self.kept) {
            self.kept.remove(0);
        }
        self.kept.push(Kept { number, at: now, bytes });
    }

    /// What is kept no longer may be swept out.
    pub(super) fn sweep(&mut self, now: u64) {
        let keep = self.keep;
        self.kept.retain(|one| one.at + keep > now);
    }

    /// What a new subscriber hears of what was before.
    pub(super) fn replay(&self, now: u64) -> Vec<u64> {
        let keep = u64::from(self.options.replay_seconds) * 1_000;
        let young = self.kept.iter().skip_while(|one| one.at + keep <= now);
        young.map(|one| one.number).collect()
    }

    /// How many members a new subscriber is told of by name, and how many there are.
    pub(super) fn present(&self) -> (usize, usize) {
        let present = self.members.len();
        match self.options.presence {
            PresenceMode::Full => (present, present),
            PresenceMode::Count => (0, present),
            PresenceMode::Off => (0, 0),
        }
    }
}
