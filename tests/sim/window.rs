//! The model of a channel's window, which never reads the node's own.

use fanfare::limits::{REPLAY_BYTES_MAX, REPLAY_OVERHEAD_BYTES, REPLAY_PUBLICATIONS_MAX};

#[derive(Default)]
pub(crate) struct Window {
    kept: Vec<Kept>,
    /// How many milliseconds a publication is kept.
    keep: u64,
    /// When the last publication that was dropped for want of room would have expired.
    missing_until: u64,
}

struct Kept {
    number: u64,
    at: u64,
    bytes: usize,
}

impl Window {
    /// Adds an accepted publication, and keeps publications for `seconds` seconds from now on.
    pub(crate) fn push(&mut self, number: u64, payload_bytes: usize, now: u64, seconds: u32) {
        self.keep = u64::from(seconds) * 1_000;
        self.sweep(now);
        if self.keep == 0 {
            return self.kept.clear();
        }
        let bytes = payload_bytes + REPLAY_OVERHEAD_BYTES;
        let is_full = |kept: &[Kept]| {
            let all: usize = kept.iter().map(|one| one.bytes).sum();
            kept.len() >= REPLAY_PUBLICATIONS_MAX || all + bytes > REPLAY_BYTES_MAX
        };
        while !self.kept.is_empty() && is_full(&self.kept) {
            self.missing_until = self.kept.remove(0).at + self.keep;
        }
        self.kept.push(Kept { number, at: now, bytes });
    }

    /// Drops publications that are older than the window.
    pub(crate) fn sweep(&mut self, now: u64) {
        let keep = self.keep;
        self.kept.retain(|one| one.at + keep > now);
    }

    /// Returns the publications of the last `seconds` seconds, without those up to `after`.
    pub(crate) fn replay(&self, seconds: u32, after: Option<u64>, now: u64) -> Vec<u64> {
        let keep = u64::from(seconds) * 1_000;
        let young = self.kept.iter().skip_while(|one| one.at + keep <= now);
        let young: Vec<u64> = young.map(|one| one.number).collect();
        let known = self.kept.iter().rposition(|one| Some(one.number) == after);
        let old = self.kept.len() - young.len();
        young[known.map_or(0, |known| (known + 1).saturating_sub(old))..].to_vec()
    }

    /// Returns whether a publication behind `after` may be missing.
    pub(crate) fn has_gap(&self, after: u64, now: u64) -> bool {
        now < self.missing_until && self.kept.iter().all(|one| one.number != after)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
