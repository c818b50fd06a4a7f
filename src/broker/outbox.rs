//! Frames that a connection has not taken yet.
//!
//! An idle connection's outbox owns no memory. Frames are pointers to bytes shared by everybody
//! who gets them; only how much of the first one was sent is the connection's own.

use std::collections::VecDeque;

use super::outgoing::Outgoing;
use super::shedding::{Lost, Verdict};
use crate::limits::{LATEST_FRAMES_MAX, OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX, OUTBOX_ROOM_MIN};

/// Frames that left an outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// All of them.
    pub frames: u64,
    /// Those that were deliveries.
    pub deliveries: u64,
}

impl Gone {
    /// One more.
    pub fn count(&mut self, frame: &impl Outgoing) {
        self.frames += 1;
        self.deliveries += u64::from(frame.is_delivery());
    }
}

/// The queue of one connection, bounded in bytes and frames.
#[derive(Debug)]
pub struct Outbox<F> {
    first: Option<F>,
    // Boxed, because it exists only where a second frame waits: 8 bytes on an idle connection.
    rest: Option<Box<Queue<F>>>,
    bytes: u32,
    sent_of_first: u32,
}

/// All frames but the first.
#[derive(Debug)]
struct Queue<F> {
    frames: VecDeque<F>,
    /// With how many frames it is worth looking for outdated ones.
    crowded_at: usize,
}

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), crowded_at: LATEST_FRAMES_MAX }
    }
}

/// The outbox is at its bound, and has no room for this frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<F>(pub F);

/// Queues that connections gave back, for the next that needs one: a burst allocates nothing once
/// the worker is warm.
#[derive(Debug)]
pub struct Spares<F>(
    #[allow(clippy::vec_box, reason = "what is kept is the box: making one is what is saved")]
    Vec<Box<Queue<F>>>,
);

/// Queues kept for reuse by one worker.
const SPARES_MAX: usize = 1_024;
/// A queue that grew beyond so many frames is freed instead of kept.
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
    /// [`Full`] at [`OUTBOX_BYTES_MAX`] or [`OUTBOX_FRAMES_MAX`]; the outbox is unchanged. A frame
    /// of any size fits an empty outbox.
    pub fn push(&mut self, frame: F, spares: &mut Spares<F>) -> Result<(), Full<F>> {
        let bytes = self.bytes as usize + frame.as_ref().len();
        let Ok(counted) = u32::try_from(bytes) else { return Err(Full(frame)) };
        if self.first.is_none() {
            self.bytes = counted;
            self.first = Some(frame);
            return Ok(());
        }
        if bytes > OUTBOX_BYTES_MAX || self.len() >= OUTBOX_FRAMES_MAX {
            return Err(Full(frame));
        }
        self.bytes = counted;
        self.rest.get_or_insert_with(|| spares.0.pop().unwrap_or_default()).frames.push_back(frame);
        Ok(())
    }

    /// Takes out what the channels of waiting publications can do without, so that a frame which
    /// was refused has room: all but the latest of some, then the oldest of others until half of
    /// the outbox is free. A frame that was sent in part stays.
    ///
    /// None, and the outbox is unchanged, where less than a [`OUTBOX_ROOM_MIN`]th of it would be
    /// free then: looking through all of it must be paid for by what comes before the next time.
    /// Nor where the notices of what went would leave too little for the frame.
    pub fn make_room(&mut self, incoming: &F) -> Option<Lost> {
        let waiting = self.take_waiting();
        let mut verdict = Verdict::new(self.first.as_ref(), &waiting);
        verdict.conflate(&waiting, Some(incoming));
        verdict.drop_oldest(&waiting);
        let (frames, bytes) = verdict.stays();
        let (notice_frames, notice_bytes) = verdict.notices(&waiting);
        let has_room = frames + notice_frames < OUTBOX_FRAMES_MAX
            && bytes + notice_bytes + incoming.as_ref().len() <= OUTBOX_BYTES_MAX;
        let needed = incoming.as_ref().len().max(OUTBOX_BYTES_MAX / OUTBOX_ROOM_MIN);
        if !has_room
            || frames > OUTBOX_FRAMES_MAX - OUTBOX_FRAMES_MAX / OUTBOX_ROOM_MIN
            || bytes + needed > OUTBOX_BYTES_MAX
        {
            self.put_back(waiting);
            return None;
        }
        let (waiting, lost) = verdict.carry_out(waiting);
        self.put_back(waiting);
        Some(lost)
    }

    /// Whether so much waits that [`Outbox::conflate`] is worth its while, if the consumer takes
    /// nothing at the moment.
    pub fn is_crowded(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.frames.len() >= rest.crowded_at)
    }

    /// Takes out what later publications made outdated, where their channels want that. The outbox
    /// is crowded again when it has doubled.
    pub fn conflate(&mut self) -> Lost {
        let waiting = self.take_waiting();
        let mut verdict = Verdict::new(self.first.as_ref(), &waiting);
        verdict.conflate(&waiting, None);
        let (waiting, lost) = verdict.carry_out(waiting);
        self.put_back(waiting);
        lost
    }

    /// Frames and bytes that half of an outbox has room for besides what waits.
    pub fn free_half(&self) -> (usize, usize) {
        let frames = (OUTBOX_FRAMES_MAX / 2).saturating_sub(self.len());
        (frames, (OUTBOX_BYTES_MAX / 2).saturating_sub(self.bytes as usize))
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.frames.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether a part of the first frame was sent already: it must be finished, whatever happens.
    pub fn is_partly_sent(&self) -> bool {
        self.sent_of_first > 0
    }

    /// The bytes to send next, in order: the rest of the first frame, then the others.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let sent = self.sent_of_first as usize;
        let first = self.first.iter().map(move |frame| &frame.as_ref()[sent..]);
        first.chain(self.rest.iter().flat_map(|rest| rest.frames.iter().map(AsRef::as_ref)))
    }

    /// Takes note that `sent` bytes went out. Answers which frames were finished.
    pub fn advance(&mut self, sent: usize, spares: &mut Spares<F>) -> Gone {
        let mut left = sent;
        let mut finished = Gone::default();
        while let Some(first) = &self.first {
            let missing = first.as_ref().len() - self.sent_of_first as usize;
            if left < missing {
                // Below the length of a frame, which fits u32 by `push`.
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

    /// Takes the next frame whole, for transports that do not send pieces.
    pub fn pop(&mut self, spares: &mut Spares<F>) -> Option<F> {
        let frame = self.pop_front();
        self.give_back(spares);
        frame
    }

    /// Drops everything that waits. Answers what that was.
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
        // Cannot wrap: every frame was counted when it came.
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

    /// Takes all frames out that can be told from each other still: one that was sent in part
    /// stays.
    fn take_waiting(&mut self) -> VecDeque<F> {
        let mut waiting = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.frames));
        if !self.is_partly_sent()
            && let Some(first) = self.first.take()
        {
            waiting.get_or_insert_default().push_front(first);
        }
        waiting.unwrap_or_default()
    }

    /// Puts frames back that were taken out, or what has become of them.
    fn put_back(&mut self, mut waiting: VecDeque<F>) {
        if self.first.is_none() {
            self.first = waiting.pop_front();
        }
        let all = self.first.iter().chain(&waiting);
        let bytes: usize = all.map(|frame| frame.as_ref().len()).sum();
        debug_assert!(waiting.is_empty() || self.rest.is_some(), "they came from there");
        // Notices are shorter than four thousand million bytes together, like all that waits.
        self.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(rest) = &mut self.rest {
            rest.crowded_at = crowded_at(waiting.len());
            rest.frames = waiting;
        }
    }
}

/// With how many frames an outbox is crowded that holds so many once it was looked through.
fn crowded_at(frames: usize) -> usize {
    LATEST_FRAMES_MAX.max(2 * frames)
}

#[cfg(test)]
mod slow_tests;

#[cfg(test)]
mod tests;
