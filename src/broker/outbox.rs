//! Outboxes: frames that a connection has not taken yet.
//!
//! An idle connection's outbox owns no memory. Frames are pointers to bytes that all receivers
//! share; only the number of sent bytes of the first frame is the connection's own.

use std::collections::VecDeque;

use super::outgoing::Outgoing;
use super::shedding::{Lost, Plan};
use crate::limits::{
    LATEST_FRAMES_MAX, OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX, OUTBOX_FREE_DIVISOR, SAMPLED_FRAMES,
};
use crate::message::FrameBytes;

/// The numbers of frames that left an outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// All frames, deliveries or not.
    pub frames: u64,
    /// Frames that were deliveries.
    pub deliveries: u64,
}

impl Gone {
    /// Counts one frame that leaves the outbox.
    pub fn count(&mut self, frame: &impl Outgoing) {
        self.frames += 1;
        self.deliveries += u64::from(frame.is_delivery());
    }
}

/// The queue of one connection, bounded in bytes and frames.
#[derive(Debug)]
pub struct Outbox<F> {
    first: Option<F>,
    // Boxed, because few connections have a second frame: 8 bytes on an idle connection.
    rest: Option<Box<Queue<F>>>,
    bytes: u32,
    sent_of_first: u32,
}

/// All frames but the first.
#[derive(Debug)]
struct Queue<F> {
    frames: VecDeque<F>,
    /// The number of frames at which to look for outdated ones.
    crowded_at: usize,
}

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), crowded_at: LATEST_FRAMES_MAX }
    }
}

/// A frame that was not accepted, because the outbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<F>(pub F);

/// Queues of outboxes that became empty, for the next ones that need one: a burst allocates nothing
/// once the worker is warm.
#[derive(Debug)]
pub struct Spares<F>(
    #[allow(clippy::vec_box, reason = "reusing a queue saves the allocation of its box")]
    Vec<Box<Queue<F>>>,
);

/// Queues that one worker keeps for reuse.
const SPARES_MAX: usize = 1_024;
/// A queue with a larger capacity is freed instead of kept.
const SPARE_FRAMES_MAX: usize = 64;

impl<F> Default for Spares<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F> Default for Outbox<F> {
    fn default() -> Self {
        Self { first: None, rest: None, bytes: 0, sent_of_first: 0 }
    }
}

impl<F: Outgoing> Outbox<F> {
    /// Adds a frame behind the others.
    ///
    /// # Errors
    /// [`Full`] at `bytes_max`, at most [`OUTBOX_BYTES_MAX`], or at [`OUTBOX_FRAMES_MAX`]; the
    /// outbox is unchanged. A frame of any size fits into an empty outbox.
    pub fn push(
        &mut self,
        frame: F,
        bytes_max: usize,
        spares: &mut Spares<F>,
    ) -> Result<(), Full<F>> {
        let bytes = self.bytes as usize + frame.as_ref().len();
        let Ok(counted) = u32::try_from(bytes) else { return Err(Full(frame)) };
        if self.first.is_none() {
            self.bytes = counted;
            self.first = Some(frame);
            return Ok(());
        }
        if bytes > bytes_max || self.len() >= OUTBOX_FRAMES_MAX {
            return Err(Full(frame));
        }
        self.bytes = counted;
        self.rest.get_or_insert_with(|| spares.0.pop().unwrap_or_default()).frames.push_back(frame);
        Ok(())
    }

    /// Drops publications that their channels can do without, to make space for a frame that was
    /// refused: all but the latest of some channels, then the oldest of others until half of the
    /// outbox, which may have `bytes_max` bytes, is free. A frame that was sent in part stays.
    ///
    /// Returns `None`, and leaves the outbox unchanged, if less than one part in
    /// [`OUTBOX_FREE_DIVISOR`] would be free afterwards: the cost of looking through the whole
    /// outbox must be spread over the frames that come before the next time. The same if the gap
    /// notices would leave too little space for the frame.
    pub fn shed(&mut self, incoming: &F, bytes_max: usize) -> Option<Lost> {
        let waiting = self.take_waiting();
        let mut plan = Plan::new(self.first.as_ref(), &waiting);
        plan.conflate(&waiting, Some(incoming));
        plan.drop_oldest(&waiting, bytes_max);
        let (frames, bytes) = plan.stays();
        let (notice_frames, notice_bytes) = plan.notices(&waiting);
        let fits = frames + notice_frames < OUTBOX_FRAMES_MAX
            && bytes + notice_bytes + incoming.as_ref().len() <= bytes_max;
        let needed = incoming.as_ref().len().max(bytes_max / OUTBOX_FREE_DIVISOR);
        if !fits
            || frames > OUTBOX_FRAMES_MAX - OUTBOX_FRAMES_MAX / OUTBOX_FREE_DIVISOR
            || bytes + needed > bytes_max
        {
            self.put_back(waiting);
            return None;
        }
        let (waiting, lost) = plan.carry_out(waiting);
        self.put_back(waiting);
        Some(lost)
    }

    /// Returns whether the outbox has so many frames that [`Outbox::conflate`] is worth its cost,
    /// if the consumer takes nothing at the moment.
    pub fn is_crowded(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.frames.len() >= rest.crowded_at)
    }

    /// Drops publications that later ones made outdated, on channels that allow it. The outbox is
    /// crowded again when it has doubled.
    pub fn conflate(&mut self) -> Lost {
        let waiting = self.take_waiting();
        let mut plan = Plan::new(self.first.as_ref(), &waiting);
        plan.conflate(&waiting, None);
        let (waiting, lost) = plan.carry_out(waiting);
        self.put_back(waiting);
        lost
    }

    /// Returns how many frames and bytes can be added until the outbox is half full.
    pub fn free_half(&self) -> (usize, usize) {
        let frames = (OUTBOX_FRAMES_MAX / 2).saturating_sub(self.len());
        (frames, (OUTBOX_BYTES_MAX / 2).saturating_sub(self.bytes as usize))
    }

    /// Estimates the bytes that the node would save if the outbox were empty: a frame that waits in
    /// several outboxes counts in parts. At most [`SAMPLED_FRAMES`] frames are looked at.
    pub fn own_bytes(&self) -> usize {
        let frames = self.first.iter().chain(self.rest.iter().flat_map(|rest| &rest.frames));
        let (mut own, mut all) = (0, 0);
        for frame in frames.step_by(self.len().div_ceil(SAMPLED_FRAMES).max(1)) {
            let bytes = frame.as_ref().len();
            (own, all) = (own + bytes / frame.sharers(), all + bytes);
        }
        (self.bytes() as u64 * own as u64).checked_div(all as u64).unwrap_or_default() as usize
    }

    /// Returns the bytes of the frames in the outbox.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Returns the number of frames in the outbox.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.frames.len())
    }

    /// Returns whether the outbox has no frames.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns whether a frame is a delivery.
    pub fn has_deliveries(&self) -> bool {
        let rest = self.rest.iter().flat_map(|rest| &rest.frames);
        self.first.iter().chain(rest).any(Outgoing::is_delivery)
    }

    /// Returns whether a part of the first frame was sent. Then its rest must be sent, too.
    pub fn is_partly_sent(&self) -> bool {
        self.sent_of_first > 0
    }

    /// Iterates over the bytes to send next, in order: the rest of the first frame, then the
    /// others.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let sent = self.sent_of_first as usize;
        let first = self.first.iter().map(move |frame| &frame.as_ref()[sent..]);
        first.chain(self.rest.iter().flat_map(|rest| rest.frames.iter().map(AsRef::as_ref)))
    }

    /// Returns what is left of the first frame and all of its bytes, if at least `min` are left.
    pub fn lendable(&self, min: usize) -> Option<(&[u8], &FrameBytes)> {
        let bytes = self.first.as_ref()?.bytes()?;
        let rest = &bytes[self.sent_of_first as usize..];
        (rest.len() >= min).then_some((rest, bytes))
    }

    /// Removes `sent` bytes that were sent. Returns which frames were finished.
    pub fn advance(&mut self, sent: usize, spares: &mut Spares<F>) -> Gone {
        let mut left = sent;
        let mut finished = Gone::default();
        while let Some(first) = &self.first {
            let missing = first.as_ref().len() - self.sent_of_first as usize;
            if left < missing {
                // Less than the length of a frame, which fits into u32 by `push`.
                self.sent_of_first += u32::try_from(left).unwrap_or(u32::MAX);
                break;
            }
            left -= missing;
            finished.count(first);
            self.pop_front();
        }
        self.give_back(spares);
        finished
    }

    /// Removes and returns the next frame, for transports that send whole frames only.
    pub fn pop(&mut self, spares: &mut Spares<F>) -> Option<F> {
        let frame = self.pop_front();
        self.give_back(spares);
        frame
    }

    /// Drops all frames. Returns how many there were.
    pub fn clear(&mut self, spares: &mut Spares<F>) -> Gone {
        let mut dropped = Gone::default();
        while let Some(frame) = self.pop_front() {
            dropped.count(&frame);
        }
        self.give_back(spares);
        dropped
    }

    fn pop_front(&mut self) -> Option<F> {
        let next = self.rest.as_mut().and_then(|rest| rest.frames.pop_front());
        let frame = std::mem::replace(&mut self.first, next)?;
        // Cannot wrap, because every frame was counted when it was added.
        self.bytes -= u32::try_from(frame.as_ref().len()).unwrap_or(self.bytes);
        self.sent_of_first = 0;
        Some(frame)
    }

    fn give_back(&mut self, spares: &mut Spares<F>) {
        let Some(rest) = &mut self.rest else { return };
        rest.crowded_at = rest.crowded_at.min(crowded_at(rest.frames.len()));
        if rest.frames.is_empty()
            && let Some(rest) = self.rest.take()
            && rest.frames.capacity() <= SPARE_FRAMES_MAX
            && spares.0.len() < SPARES_MAX
        {
            spares.0.push(rest);
        }
    }

    /// Removes all frames that may be dropped. A frame that was sent in part stays.
    fn take_waiting(&mut self) -> VecDeque<F> {
        let mut waiting = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.frames));
        if !self.is_partly_sent()
            && let Some(first) = self.first.take()
        {
            waiting.get_or_insert_default().push_front(first);
        }
        waiting.unwrap_or_default()
    }

    /// Puts back the frames that [`Outbox::take_waiting`] removed, or what is left of them.
    fn put_back(&mut self, mut waiting: VecDeque<F>) {
        if self.first.is_none() {
            self.first = waiting.pop_front();
        }
        let all = self.first.iter().chain(&waiting);
        let bytes: usize = all.map(|frame| frame.as_ref().len()).sum();
        debug_assert!(
            waiting.is_empty() || self.rest.is_some(),
            "only a queue holds more than the first frame"
        );
        // The notices fit into u32 together, like all other frames.
        self.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(rest) = &mut self.rest {
            rest.crowded_at = crowded_at(waiting.len());
            rest.frames = waiting;
        }
    }
}

/// Returns the number of frames at which an outbox is crowded that has `frames` after outdated ones
/// were dropped.
fn crowded_at(frames: usize) -> usize {
    LATEST_FRAMES_MAX.max(2 * frames)
}

#[cfg(test)]
mod slow_tests;

#[cfg(test)]
mod tests;
