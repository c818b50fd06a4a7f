//! Reads of documents from the store: which clients of a worker wait for one, and which reads are
//! under way.

use std::collections::VecDeque;

use super::limits::LOADS_OUTDATED_MAX;
use super::waiters::{Waiters, Wants};
use crate::interface::shared::Shared;
use crate::limits::LOADS_PER_WORKER_MAX;
use crate::mailbox::Slot;
use crate::message::{Channel, ConnId, Load, Publication, WorkerId};

pub use super::waiters::Waiter;

/// The reads that a worker's clients wait for. At most
/// [`LOADS_PER_WORKER_MAX`] of them are under way at once.
#[derive(Debug, Default)]
pub struct PendingLoads {
    waiters: Waiters,
    /// Reads that wait until fewer are under way.
    waiting: VecDeque<Load>,
    under_way: usize,
}

impl PendingLoads {
    /// Asks the store for what a client wants to know of a resource, as soon as there is room for
    /// the answer.
    pub fn begin(&mut self, shared: &Shared, connection: ConnId, resource: &Channel, wants: Wants) {
        let Self { waiters, waiting, .. } = self;
        let Some(load) = waiters.begin(resource, connection, wants) else { return };
        waiting.push_back(load);
        if waiting.len() > 2 * waiters.len() + LOADS_OUTDATED_MAX {
            waiting.retain(|load| waiters.is_wanted(load));
        }
        self.ask(shared, connection.worker);
    }

    /// Puts as many questions to the store as may be under way.
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
                // The node stops: clients are told nothing any more.
                return;
            }
            *under_way += 1;
        }
    }

    /// Counts a read that was answered. Returns what its client waits for; `None` if it no longer
    /// does.
    pub fn answered(&mut self, load: &Load) -> Option<Waiter> {
        self.under_way -= 1;
        self.waiters.take(load)
    }

    /// A document was put into the outboxes of all subscribers that it is for, but of those for
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

    /// Whether no client waits for a document and no read is under way.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.waiting.is_empty() && self.under_way == 0
    }

    /// A client has left a resource.
    pub fn end(&mut self, resource: &Channel, connection: ConnId) {
        self.waiters.end(resource, connection);
    }
}
