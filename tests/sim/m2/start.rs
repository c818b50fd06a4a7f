//! One start of the node: the mailboxes that end with it, whatever is in them.

use std::cell::OnceCell;

use fanfare::mailbox::{Capacity, Inbox, Mail, Slot, WorkerMailboxes};
use fanfare::message::WorkerId;

use crate::WORKERS;

pub(super) struct Start {
    pub(super) mailboxes: WorkerMailboxes,
    inboxes: Vec<Inbox<Mail>>,
    /// Places of each mailbox, of each kind.
    slots: usize,
    next: OnceCell<Box<Self>>,
}

impl Start {
    pub(super) fn new(slots: usize) -> Self {
        let capacity = Capacity { publications: slots, control: slots };
        let made = WorkerMailboxes::new(WORKERS, capacity);
        let (mailboxes, inboxes) = made.expect("the system gives event descriptors");
        Self { mailboxes, inboxes, slots, next: OnceCell::new() }
    }

    /// The start after this one.
    pub(super) fn next(&self) -> &Self {
        self.next.get_or_init(|| Box::new(Self::new(self.slots)))
    }

    pub(super) fn take(&self, worker: WorkerId) -> Option<Mail> {
        self.inboxes[worker.index()].take(Mail::slot)
    }

    /// Whether no mail waits, and every place is free.
    pub(super) fn is_idle(&self) -> bool {
        let is_free = |inbox: &Inbox<Mail>| {
            [Slot::Publication, Slot::Control]
                .iter()
                .all(|slot| inbox.mailbox().free(*slot) == self.slots)
        };
        self.inboxes.iter().all(|inbox| inbox.is_empty() && is_free(inbox))
    }
}
