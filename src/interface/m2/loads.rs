//! Reads of documents from the store, for one worker: which subscriptions wait for documents, and
//! which reads are queued or under way.

use std::collections::VecDeque;

use super::limits::LOADS_OUTDATED_MAX;
use super::waiters::{Waiters, Wants};
use crate::interface::shared::Shared;
use crate::limits::LOADS_PER_WORKER_MAX;
use crate::mailbox::Slot;
use crate::message::{Channel, ConnId, Load, Publication, WorkerId};

pub use super::waiters::Waiter;

/// The reads that a worker's subscriptions wait for. At most [`LOADS_PER_WORKER_MAX`] of them are
/// under way at once.
#[derive(Debug, Default)]
pub struct PendingLoads {
    waiters: Waiters,
    /// Queued reads, which wait until fewer are under way.
    waiting: VecDeque<Load>,
    under_way: usize,
}

impl PendingLoads {
    /// Queues a read of the documents that a subscription wants, unless a read that serves it is
    /// pending, and asks the store as far as there is room.
    pub fn begin(&mut self, shared: &Shared, connection: ConnId, resource: &Channel, wants: Wants) {
        let Self { waiters, waiting, .. } = self;
        let Some(load) = waiters.begin(resource, connection, wants) else { return };
        waiting.push_back(load);
        if waiting.len() > 2 * waiters.len() + LOADS_OUTDATED_MAX {
            waiting.retain(|load| waiters.is_wanted(load));
        }
        self.ask(shared, connection.worker);
    }

    /// Asks the store for queued reads, until as many are under way as may be or the mailbox has no
    /// room for another answer.
    pub fn ask(&mut self, shared: &Shared, worker: WorkerId) {
        let mailbox = shared.broker.mailboxes.workers.of(worker);
        let Self { waiters, waiting, under_way } = self;
        while *under_way < LOADS_PER_WORKER_MAX
            && let Some(load) = waiting.pop_front()
        {
            if !waiters.is_wanted(&load) {
                continue;
            }
            let Some(place) = mailbox.reserve(Slot::Control) else {
                return waiting.push_front(load);
            };
            if shared.broker.mailboxes.load(load, place).is_err() {
                // The node stops, and clients receive no more documents.
                return;
            }
            *under_way += 1;
        }
    }

    /// Counts an answered read. Returns the subscription that waits for it; `None` if it has ended
    /// or has asked again.
    pub fn answered(&mut self, load: &Load) -> Option<Waiter> {
        self.under_way -= 1;
        self.waiters.take(load)
    }

    /// Notes that a document was put into the outboxes of all its subscribers, except those for
    /// which it `is_stale`.
    pub fn note_published(
        &mut self,
        publication: &Publication,
        is_stale: impl FnMut(ConnId) -> bool,
    ) {
        if !self.waiters.is_empty() {
            self.waiters.published(publication, is_stale);
        }
    }

    /// Returns whether no subscription waits and no read is queued or under way.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.waiting.is_empty() && self.under_way == 0
    }

    /// Forgets the subscription of a client that has left a resource.
    pub fn end(&mut self, resource: &Channel, connection: ConnId) {
        self.waiters.end(resource, connection);
    }
}
