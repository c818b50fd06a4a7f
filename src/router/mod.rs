//! Where threads meet: bounded mailboxes with doorbells, and the closed lists of what may be
//! posted ([`Mail`] to a worker, [`Answer`] to an acceptor, [`Wish`] and [`Keep`] to the side,
//! [`Query`] to the reader of history, [`Question`] to the policies).
//!
//! A slot is reserved before anything is decided and used afterwards, so posting cannot fail and
//! nobody waits. Publications and control mail have credits of their own over one queue: one
//! queue keeps their order, two credits keep a flood of publications from blocking joins.

mod mail;
mod mailbox;
mod queue;
mod room;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::Receiver;

use crate::limits::{
    DOCUMENT_QUEUE_BYTES_MAX, DOCUMENT_QUEUE_MAX, HISTORY_QUEUE_BYTES_MAX, HISTORY_QUEUE_MAX,
    HTTP_CONNECTIONS_MAX, LOADS_PER_WORKER_MAX, MAILBOX_CONTROL_MAX, POLICY_QUEUE_MAX,
    READER_QUEUE_MAX, STORE_QUEUE_MAX,
};
use crate::message::{Load, Question, WorkerId};

pub use mail::{
    Accepted, AcceptorId, Answer, AnswerBody, DocumentOutcome, Handover, HistoryAnswer,
    HistoryRefusal, Loaded, Mail, Move, PermissionsOutcome, Poll, PollRefusal, PollRequest,
    Purpose, Query, StoreChange, StoreOutcome, Ticket, Wish,
};
pub use mailbox::{Depth, Doorbell, Inbox, Mailbox, Slot, mailbox};
use queue::AskQueue;
pub use queue::{Keep, Place, Weighed, Write, WriteQueue};
pub use room::Room;

/// The sending ends of every mailbox in the node.
#[derive(Debug)]
pub struct Router {
    /// By worker.
    pub workers: Vec<Arc<Mailbox<Mail>>>,
    /// By acceptor.
    pub acceptors: Vec<Arc<Mailbox<Answer>>>,
    /// The way into history.
    pub history: WriteQueue<Keep>,
    /// The way of documents into the store.
    pub documents: WriteQueue<Write>,
    side: AskQueue<Wish>,
    policies: AskQueue<Question>,
    reader: AskQueue<Query>,
    loads: AskQueue<Load>,
    connections: Vec<AtomicU32>,
}

/// The receiving ends, handed to their threads at start.
#[derive(Debug)]
pub struct Inboxes {
    /// By worker.
    pub workers: Vec<Inbox<Mail>>,
    /// By acceptor.
    pub acceptors: Vec<Inbox<Answer>>,
    /// The side's.
    pub side: Receiver<Wish>,
    /// What is to be kept in history.
    pub history: Receiver<Keep>,
    /// Documents that are to be written.
    pub documents: Receiver<Write>,
    /// Documents that are to be read for subscribers.
    pub loads: Receiver<Load>,
    /// The policies'.
    pub policies: Receiver<Question>,
    /// The reader's.
    pub reader: Receiver<Query>,
}

impl Router {
    /// Mailboxes for so many workers and acceptors; a worker's holds so many publications.
    ///
    /// # Errors
    /// When the system gives no event descriptors.
    pub fn new(
        workers: usize,
        acceptors: usize,
        publications: usize,
    ) -> std::io::Result<(Self, Inboxes)> {
        let (worker_boxes, worker_inboxes) = (0..workers)
            .map(|_| mailbox(publications, MAILBOX_CONTROL_MAX))
            .collect::<std::io::Result<(Vec<_>, Vec<_>)>>()?;
        let (acceptor_boxes, acceptor_inboxes) = (0..acceptors)
            .map(|_| mailbox(0, HTTP_CONNECTIONS_MAX))
            .collect::<std::io::Result<(Vec<_>, Vec<_>)>>()?;
        let (side, wishes) = AskQueue::new(STORE_QUEUE_MAX);
        let (history, records) = WriteQueue::new(HISTORY_QUEUE_MAX, HISTORY_QUEUE_BYTES_MAX);
        let (documents, writes) = WriteQueue::new(DOCUMENT_QUEUE_MAX, DOCUMENT_QUEUE_BYTES_MAX);
        let (loads, asked) = AskQueue::new(workers * LOADS_PER_WORKER_MAX);
        let (policies, questions) = AskQueue::new(POLICY_QUEUE_MAX);
        let (reader, queries) = AskQueue::new(READER_QUEUE_MAX);
        let connections = (0..workers).map(|_| AtomicU32::new(0)).collect();
        let router = Self {
            workers: worker_boxes,
            acceptors: acceptor_boxes,
            history,
            documents,
            loads,
            side,
            policies,
            reader,
            connections,
        };
        let inboxes = Inboxes {
            workers: worker_inboxes,
            acceptors: acceptor_inboxes,
            side: wishes,
            history: records,
            documents: writes,
            loads: asked,
            policies: questions,
            reader: queries,
        };
        Ok((router, inboxes))
    }

    /// Wakes every worker, whatever it waits for.
    pub fn wake_workers(&self) {
        self.workers.iter().for_each(|mailbox| mailbox.doorbell().strike());
    }

    /// The mailbox of a worker.
    pub fn worker(&self, worker: WorkerId) -> &Mailbox<Mail> {
        &self.workers[worker.index()]
    }

    /// Posts control mail to a worker and wakes it. False when its reserve is used up.
    pub fn control(&self, worker: WorkerId, mail: Mail) -> bool {
        let mailbox = self.worker(worker);
        if !mailbox.reserve(Slot::Control) {
            return false;
        }
        mailbox.post(mail);
        mailbox.ring();
        true
    }

    /// Asks something of the side. False when its queue is full.
    pub fn wish(&self, wish: Wish) -> bool {
        self.side.offer(wish)
    }

    /// Asks the policies something; a [`Mail::Verdict`] answers, into a control slot that the
    /// worker has reserved in its mailbox. False when their queue is full.
    pub fn ask(&self, question: Question) -> bool {
        self.policies.offer(question)
    }

    /// Asks for the current documents of a resource; [`Mail::Loaded`] answers, into a control slot
    /// that the worker has reserved in its mailbox. A worker that has no more than
    /// [`LOADS_PER_WORKER_MAX`] of them under way finds room.
    pub fn load(&self, load: Load) -> bool {
        self.loads.offer(load)
    }

    /// Room for a publication at every worker. `None` where a mailbox is full.
    pub fn room(&self) -> Option<Room<'_>> {
        Room::reserve(self)
    }

    /// Asks something of the reader of history. False when its queue is full.
    pub fn query(&self, query: Query) -> bool {
        self.reader.offer(query)
    }

    /// How full every queue is.
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths = Vec::new();
        for (number, mailbox) in self.workers.iter().enumerate() {
            depths.push(mailbox.depth("worker", number, Slot::Publication));
            depths.push(mailbox.depth("worker", number, Slot::Control));
        }
        for (number, mailbox) in self.acceptors.iter().enumerate() {
            depths.push(mailbox.depth("acceptor", number, Slot::Control));
        }
        depths.push(self.history.depth("history", "publication"));
        depths.push(self.documents.depth("documents", "write"));
        depths.push(self.loads.depth("documents", "load"));
        depths.push(self.side.depth("side", "wish"));
        depths.push(self.reader.depth("reader", "query"));
        depths.push(self.policies.depth("policies", "question"));
        depths
    }

    /// Posts an answer into the slot that its acceptor reserved when it asked.
    pub fn answer(&self, acceptor: AcceptorId, answer: Answer) {
        let mailbox = &self.acceptors[usize::from(acceptor.0)];
        mailbox.post(answer);
        mailbox.ring();
    }

    /// The worker with the fewest connections, which now has one more.
    pub fn assign(&self) -> WorkerId {
        let least = self
            .connections
            .iter()
            .enumerate()
            .min_by_key(|(_, count)| count.load(Ordering::Relaxed))
            .map_or(0, |(index, _)| index);
        self.connections[least].fetch_add(1, Ordering::Relaxed);
        WorkerId(u8::try_from(least).expect("WORKERS_MAX is below 256"))
    }

    /// A worker that is given has one connection more.
    pub fn assign_to(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of that worker is gone, or never came.
    pub fn unassign(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections of all workers, those on their way included.
    pub fn connections(&self) -> u64 {
        self.connections.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }
}
