//! How far a round is, for the threads of its clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(super) struct Stage {
    is_quiet: AtomicBool,
    settles: AtomicBool,
    is_over: AtomicBool,
    entered: AtomicUsize,
    settled: AtomicUsize,
    /// The last publication on each channel.
    last: Mutex<BTreeMap<u64, u64>>,
}

/// Lets all threads end when it is dropped, also by a panic.
pub(super) struct Ending<'s>(pub(super) &'s Stage);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Stage { is_quiet, settles, is_over, .. } = self.0;
        [is_quiet, settles, is_over].iter().for_each(|flag| flag.store(true, SeqCst));
    }
}

/// A subscriber that has not ended.
pub(super) struct Entered<'s>(&'s Stage);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.entered.fetch_sub(1, SeqCst);
    }
}

impl Stage {
    /// Ends the publishing.
    pub(super) fn quieten(&self) {
        self.is_quiet.store(true, SeqCst);
    }

    /// Returns whether nothing more is to be published.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet.load(SeqCst)
    }

    /// Lets subscribers come and go no longer.
    pub(super) fn settle(&self) {
        self.settles.store(true, SeqCst);
    }

    /// Returns whether subscribers that are there stay, and others end.
    pub(super) fn settles(&self) -> bool {
        self.settles.load(SeqCst)
    }

    /// Returns whether everything is to end at once.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Notes a subscriber.
    pub(super) fn enter(&self) -> Entered<'_> {
        self.entered.fetch_add(1, SeqCst);
        Entered(self)
    }

    /// Notes that a subscriber stays until it has heard the last publication.
    pub(super) fn settled(&self) {
        self.settled.fetch_add(1, SeqCst);
    }

    /// Returns whether every subscriber has settled or ended.
    pub(super) fn is_settled(&self) -> bool {
        self.entered.load(SeqCst) <= self.settled.load(SeqCst)
    }

    /// Returns whether every subscriber has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.entered.load(SeqCst) == 0
    }

    /// Notes the last publication on a channel.
    pub(super) fn ends_with(&self, channel: u64, id: u64) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(channel, id);
    }

    /// Returns the last publication on a channel; `None` if that is still to come.
    pub(super) fn last(&self, channel: u64) -> Option<u64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&channel).copied()
    }
}
