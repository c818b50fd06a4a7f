//! What a channel keeps for new subscribers, as far as can be known without looking at it.

use fanfare::limits::{REPLAY_BYTES_MAX, REPLAY_OVERHEAD_BYTES, REPLAY_PUBLICATIONS_MAX};

#[derive(Default)]
pub(crate) struct Window {
    kept: Vec<Kept>,
    /// For how many milliseconds.
    keep: u64,
    /// Until when something would have been kept that had to make room.
    missing_until: u64,
}

struct Kept {
    number: u64,
    at: u64,
    bytes: usize,
}

impl Window {
    /// A publication was accepted, which is to be kept for so many seconds.
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

    /// What is kept no longer may be swept out.
    pub(crate) fn sweep(&mut self, now: u64) {
        let keep = self.keep;
        self.kept.retain(|one| one.at + keep > now);
    }

    /// What somebody hears who wants the publications of so many seconds, or those of them that
    /// came after this one.
    pub(crate) fn replay(&self, seconds: u32, after: Option<u64>, now: u64) -> Vec<u64> {
        let keep = u64::from(seconds) * 1_000;
        let young = self.kept.iter().skip_while(|one| one.at + keep <= now);
        let young: Vec<u64> = young.map(|one| one.number).collect();
        let known = self.kept.iter().rposition(|one| Some(one.number) == after);
        let old = self.kept.len() - young.len();
        young[known.map_or(0, |known| (known + 1).saturating_sub(old))..].to_vec()
    }

    /// Whether something may be missing behind that one.
    pub(crate) fn has_gap(&self, after: u64, now: u64) -> bool {
        now < self.missing_until && self.kept.iter().all(|one| one.number != after)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
