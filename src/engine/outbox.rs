//! Frames that a connection has not taken yet.
//!
//! An idle connection's outbox owns no memory. Frames are pointers to bytes shared by everybody
//! who gets them; only how much of the first one was sent is the connection's own.

use std::collections::VecDeque;

use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX};

/// What an outbox holds.
pub trait Outgoing: AsRef<[u8]> {
    /// Whether it is a subscriber's share of a publication, which is accounted for one by one.
    fn is_delivery(&self) -> bool;
}

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
    #[allow(clippy::box_collection, reason = "an idle connection pays for the pointer alone")]
    rest: Option<Box<VecDeque<F>>>,
    bytes: u32,
    sent_of_first: u32,
}

/// The outbox is at its bound: the consumer is too slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Queues that connections gave back, for the next that needs one: a burst allocates nothing once
/// the worker is warm.
#[derive(Debug)]
pub struct Spares<F>(
    #[allow(clippy::vec_box, reason = "what is kept is the box: making one is what is saved")]
    Vec<Box<VecDeque<F>>>,
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
    pub fn push(&mut self, frame: F, spares: &mut Spares<F>) -> Result<(), Full> {
        let length = frame.as_ref().len();
        if self.first.is_none() {
            self.bytes = u32::try_from(length).map_err(|_| Full)?;
            self.first = Some(frame);
            return Ok(());
        }
        let bytes = self.bytes as usize + length;
        if bytes > OUTBOX_BYTES_MAX || self.len() >= OUTBOX_FRAMES_MAX {
            return Err(Full);
        }
        self.bytes = u32::try_from(bytes).map_err(|_| Full)?;
        self.rest.get_or_insert_with(|| spares.0.pop().unwrap_or_default()).push_back(frame);
        Ok(())
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
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
        first.chain(self.rest.iter().flat_map(|rest| rest.iter().map(AsRef::as_ref)))
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
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        let frame = std::mem::replace(&mut self.first, next)?;
        // Cannot wrap: every frame was counted when it came.
        self.bytes -= u32::try_from(frame.as_ref().len()).unwrap_or(self.bytes);
        self.sent_of_first = 0;
        Some(frame)
    }

    fn give_back(&mut self, spares: &mut Spares<F>) {
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty())
            && let Some(rest) = self.rest.take()
            && rest.capacity() <= SPARE_FRAMES_MAX
            && spares.0.len() < SPARES_MAX
        {
            spares.0.push(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that are a delivery where the first of them is even.
    #[derive(Debug, PartialEq)]
    struct Bytes(Vec<u8>);

    impl AsRef<[u8]> for Bytes {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Outgoing for Bytes {
        fn is_delivery(&self) -> bool {
            self.0[0].is_multiple_of(2)
        }
    }

    #[test]
    fn an_idle_outbox_is_small() {
        assert!(size_of::<Outbox<Box<Bytes>>>() <= 24);
    }

    #[test]
    fn refuses_at_the_bound_of_bytes_and_stays_as_it_was() {
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        outbox.push(Bytes(vec![0; OUTBOX_BYTES_MAX]), &mut spares).expect("the first always fits");
        assert_eq!(outbox.push(Bytes(vec![1]), &mut spares), Err(Full));
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn refuses_at_the_bound_of_frames() {
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        for _ in 0..OUTBOX_FRAMES_MAX {
            outbox.push(Bytes(vec![0]), &mut spares).expect("below the bound");
        }
        assert_eq!(outbox.push(Bytes(vec![0]), &mut spares), Err(Full));
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_takes_the_bytes_come_out_in_order(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..20),
            takes in prop::collection::vec(1usize..60, 1..400),
        ) {
            let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
            let expected = frames.concat();
            let all = Gone {
                frames: frames.len() as u64,
                deliveries: frames.iter().filter(|frame| frame[0] % 2 == 0).count() as u64,
            };
            for frame in frames {
                outbox.push(Bytes(frame), &mut spares).expect("far below the bounds");
            }
            let (mut out, mut finished) = (Vec::new(), Gone::default());
            for take in takes {
                let waiting: Vec<u8> = outbox.slices().flatten().copied().collect();
                let taken = take.min(waiting.len());
                out.extend_from_slice(&waiting[..taken]);
                let now = outbox.advance(taken, &mut spares);
                finished.frames += now.frames;
                finished.deliveries += now.deliveries;
            }
            prop_assert_eq!(&expected[..out.len()], &out[..]);
            let dropped = outbox.clear(&mut spares);
            prop_assert_eq!(finished.frames + dropped.frames, all.frames);
            prop_assert_eq!(finished.deliveries + dropped.deliveries, all.deliveries);
            prop_assert!(outbox.is_empty() && !outbox.is_partly_sent());
            prop_assert_eq!(outbox.bytes, 0);
            prop_assert_eq!(dropped.frames == 0, out.len() == expected.len());
        }
    }
}
