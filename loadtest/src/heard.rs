//! Counts of received publications, and how threads and processes add them up.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::lengths::FrameLengths;
use crate::stamp::Reader;
use crate::timeline::Recent;

/// Latencies are recorded from 1 µs to 10 minutes with three significant digits.
pub(crate) const LATENCY_NS: (u64, u64) = (1_000, 600_000_000_000);

/// The counts and latencies of all clients of one thread, added up.
pub(crate) struct Heard {
    /// Time from a publication's due time to its reading, in ns. Only publications that were due in
    /// the measured window count.
    pub(crate) latency: Histogram<u64>,
    /// The same by the second, since this thread last shared them.
    pub(crate) recent: Recent,
    /// Publications received, without repeats.
    pub(crate) received: u64,
    /// Lengths of the frames of those publications.
    pub(crate) frames: FrameLengths,
    /// Heartbeats received.
    pub(crate) pings: u64,
    /// Events without a stamp: mostly presence.
    pub(crate) other_events: u64,
    /// The first error from the server, and their number.
    pub(crate) errors: (Option<String>, u64),
    /// Publications that were due before this time are checked but not timed.
    pub(crate) measure_from_ns: u64,
    pub(crate) reader: Reader,
    mask: u32,
    /// Buffer in which clients assemble the frame that they send.
    pub(crate) frame: Vec<u8>,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self {
            latency: histogram(),
            recent: Recent::default(),
            received: 0,
            frames: FrameLengths::default(),
            pings: 0,
            other_events: 0,
            errors: (None, 0),
            measure_from_ns: u64::MAX,
            reader: Reader::new(),
            mask: 0x9E37_79B9,
            frame: Vec::new(),
        }
    }

    /// Returns a form that can be sent to another process. It holds only the histogram's non-empty
    /// buckets.
    pub(crate) fn digest(&self) -> Digest {
        let buckets = self.latency.iter_recorded();
        Digest {
            latency: buckets.map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
            received: self.received,
            frames: self.frames.clone(),
            pings: self.pings,
            other_events: self.other_events,
            errors: self.errors.clone(),
        }
    }

    /// Adds the counts of another process. Nothing is lost, because all histograms have the same
    /// buckets.
    pub(crate) fn add_digest(&mut self, digest: Digest) -> Result<()> {
        let mut other = Self { received: digest.received, pings: digest.pings, ..Self::new() };
        for (value, count) in digest.latency {
            other.latency.record_n(value, count)?;
        }
        other.frames = digest.frames;
        other.other_events = digest.other_events;
        other.errors = digest.errors;
        self.add(other)
    }

    /// Adds the counts of another thread.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        self.latency.add(other.latency)?;
        self.received += other.received;
        self.frames.add(&other.frames);
        self.pings += other.pings;
        self.other_events += other.other_events;
        self.errors.0 = self.errors.0.take().or(other.errors.0);
        self.errors.1 += other.errors.1;
        Ok(())
    }

    /// Records the latency of a publication if it was due in the measured window.
    pub(crate) fn time(&mut self, due_ns: u64, read_ns: u64) {
        let Some(after_ns) = due_ns.checked_sub(self.measure_from_ns) else {
            return;
        };
        let latency_ns = read_ns.saturating_sub(due_ns);
        self.latency.saturating_record(latency_ns);
        self.recent.record(after_ns, latency_ns);
    }

    /// Counts a complaint and keeps the first.
    pub(crate) fn complain(&mut self, complaint: &[u8]) {
        self.errors.1 += 1;
        self.errors.0.get_or_insert_with(|| String::from_utf8_lossy(complaint).into_owned());
    }

    /// Assembles the next frame in `frame`, with a new mask.
    pub(crate) fn write(&mut self, payload: &[u8], write: fn(&mut Vec<u8>, &[u8], [u8; 4])) {
        let mask = self.next_mask();
        self.frame.clear();
        write(&mut self.frame, payload, mask);
    }

    fn next_mask(&mut self) -> [u8; 4] {
        // Xorshift. A mask needs no secrecy here; it only has to make the server unmask.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_ne_bytes()
    }
}

/// Returns an empty histogram for latencies.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 3)
        .expect("these bounds are constants that the histogram accepts")
}

/// The counts and latencies of one process's clients, in a form that can be sent to another.
#[derive(Serialize, Deserialize)]
pub(crate) struct Digest {
    latency: Vec<(u64, u64)>,
    received: u64,
    frames: FrameLengths,
    pings: u64,
    other_events: u64,
    errors: (Option<String>, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_processes_heard_adds_up_exactly() {
        let mut here = Heard::new();
        let mut there = Heard::new();
        let mut whole = Heard::new();
        for step in 1..5_000_u64 {
            let latency = step * step * 97;
            whole.latency.record(latency).unwrap();
            let half = if step % 3 == 0 { &mut here } else { &mut there };
            half.latency.record(latency).unwrap();
            half.received += 1;
            half.frames.note(if step == 1 { 100 } else { 50 });
        }
        there.errors = (Some("late".to_owned()), 2);
        let digest = serde_json::to_string(&there.digest()).unwrap();
        here.add_digest(serde_json::from_str(&digest).unwrap()).unwrap();
        assert_eq!(here.latency, whole.latency);
        assert_eq!(here.latency.max(), whole.latency.max());
        assert_eq!((here.received, here.errors.1), (4_999, 2));
        assert_eq!(here.frames.median(), Some(50));
    }
}
