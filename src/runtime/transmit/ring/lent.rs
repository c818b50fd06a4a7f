//! Frames that the kernel was lent, so that it can send them without copying them, and that it has
//! not given back yet.
//!
//! A send of one has two completions: the first says how many bytes the socket took, the second,
//! the notice, that the kernel reads the frame no longer. If the first says that no notice follows,
//! it is both.

use io_uring::cqueue;

use super::super::Loans;
use crate::broker::slab::Slab;
use crate::limits::LENT_FRAMES_MAX;
use crate::message::{ConnId, FrameBytes};

/// The bit of a completion's name that no connection's name has: slots stay far below it.
const LENT: u64 = 1 << 31;
/// What the kernel notes in a notice if it has copied the frame.
const COPIED: i32 = i32::MIN;
/// The flag of a completion that is a notice.
const NOTICE: u32 = 1 << 3;

/// The frames that the kernel may still read.
#[derive(Debug, Default)]
pub(super) struct Lent {
    loans: Slab<Loan>,
    /// The number of the present batch.
    batch: u64,
}

#[derive(Debug)]
struct Loan {
    /// Kept for the kernel, which reads it.
    _frame: FrameBytes,
    id: ConnId,
    /// The batch that the send was in; `None` once it is known what the socket took.
    batch: Option<u64>,
}

/// What a completion says of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// What a connection of the present batch took, or why it took nothing.
    Took(ConnId),
    /// The same of a connection of an earlier batch, which it was not known of.
    Late(ConnId),
    /// Nothing more than that a frame was given back.
    GivenBack,
}

impl Drop for Lent {
    /// Keeps the frames for ever, because the kernel may still read them. A ring ends only with the
    /// process, or if it is broken.
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.loans));
    }
}

impl Lent {
    /// Begins the next batch.
    pub(super) fn begin_batch(&mut self) {
        self.batch += 1;
    }

    /// Notes that a frame is lent for a connection. Returns the name of the send in completions, or
    /// `None` if as many are lent as may be.
    pub(super) fn lend(&mut self, frame: &FrameBytes, id: ConnId) -> Option<u64> {
        if self.loans.len() >= LENT_FRAMES_MAX {
            return None;
        }
        let loan = Loan { _frame: frame.clone(), id, batch: Some(self.batch) };
        Some(LENT | u64::from(self.loans.insert(loan)))
    }

    /// Returns whether the kernel may still read a frame.
    pub(super) fn is_any(&self) -> bool {
        !self.loans.is_empty()
    }

    /// Forgets the send of a frame that the kernel has not seen.
    pub(super) fn forget(&mut self, name: u64) {
        self.loans.remove(number(name).unwrap_or(u32::MAX));
    }

    /// Settles a completion. Returns what it says, or `None` if it is of no frame that was lent.
    pub(super) fn settle(
        &mut self,
        (name, result, flags): (u64, i32, u32),
        counts: &mut Loans,
    ) -> Option<Said> {
        let number = number(name)?;
        let loan = self.loans.get_mut(number)?;
        let id = loan.id;
        let is_notice = flags & NOTICE != 0;
        let said = match loan.batch.take() {
            _ if is_notice => Said::GivenBack,
            Some(batch) if batch == self.batch => Said::Took(id),
            _ => Said::Late(id),
        };
        if is_notice {
            let count = if result & COPIED == 0 { &mut counts.spared } else { &mut counts.copied };
            *count += 1;
        }
        if is_notice || !cqueue::more(flags) {
            self.loans.remove(number);
        }
        Some(said)
    }
}

fn number(name: u64) -> Option<u32> {
    u32::try_from(name & !LENT).ok().filter(|_| name & LENT != 0)
}
