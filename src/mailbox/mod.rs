//! Where threads meet: bounded mailboxes with doorbells, and the closed lists of what may be posted
//! ([`Mail`] to a worker, [`Answered`] to an acceptor, [`Wish`], [`Keep`], [`Write`] and [`Load`]
//! to the writer of the store, [`Query`] to its reader, [`Question`] to the policies).
//!
//! A sender [reserves](Reservation) a place before it decides anything and uses it afterwards, so
//! that posting cannot fail and no thread waits. A reservation that is not used is released when it
//! is dropped. One queue holds publications and control mail, so that they keep their order. Places
//! for each are counted apart, so that a flood of publications cannot block joins.

mod answers;
mod doorbell;
mod inbox;
mod interests;
mod mail;
mod passing;
mod questions;
mod queue;
mod reservation;
mod ticket;
mod workers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Receiver;

use crate::limits::{
    CLUSTER_POLLS_ANSWERED_MAX, CLUSTER_POLLS_PASSED_MAX, DOCUMENT_QUEUE_BYTES_MAX,
    DOCUMENT_QUEUE_MAX, HISTORY_QUEUE_BYTES_MAX, HISTORY_QUEUE_MAX, HTTP_CONNECTIONS_MAX,
    LOADS_PER_WORKER_MAX, MAILBOX_CONTROL_MAX, POLICY_QUEUE_MAX, POSTGRES_ANSWERS_MAX,
    READER_QUEUE_MAX, SESSION_ASKS_MAX, STORE_QUEUE_MAX, STREAM_QUEUE_BYTES_MAX, STREAM_QUEUE_MAX,
};
use crate::message::{Load, Question, RecoveryKey, Refused, SessionWish, StreamPlace, WorkerId};

pub use answers::{
    Changed, Gathered, Health, PollRefusal, Polled, StoreRefusal, StoreResult, Written,
};
pub use doorbell::Doorbell;
use inbox::mailbox;
pub use inbox::{Capacity, Inbox, Mailbox, Slot};
pub use interests::Interests;
pub use mail::{JoinRefused, Loaded, Mail, PollTicket};
pub use passing::{AwayPoll, Passing, PassingEnds, PassingQueue, Receipt};
pub use questions::{
    Keep, Keeping, Publisher, Query, SessionAsk, StoreChange, Submitted, Wish, Write,
};
use queue::AskQueue;
pub use queue::{Weighed, WriteQueue};
pub use reservation::{Bounded, Depth, Reservation};
pub use ticket::{AcceptorId, Answer, Answered, Inquiry, Pending, Ticket, Tickets};
pub use workers::{WorkerMailboxes, WorkerSet};

/// The sending ends of all mailboxes and queues of the node.
#[derive(Debug)]
pub struct Mailboxes {
    /// The mailboxes of the workers.
    pub workers: WorkerMailboxes,
    /// The mailboxes of the acceptors, by number. Behind them are those of other threads that ask
    /// like acceptors.
    pub acceptors: Vec<Arc<Mailbox<Answered>>>,
    /// The number of these threads.
    others: usize,
    /// The way of long-polling requests to the nodes of their sessions; `None` if they are refused
    /// at other nodes, or without a cluster.
    pub passing: Option<PassingQueue>,
    /// The queue of publications to history.
    pub history: WriteQueue<Keep>,
    /// The queue of documents to the store.
    pub documents: WriteQueue<Write>,
    /// The way to the cluster's stream; `None` without a cluster.
    pub stream: Option<StreamQueue>,
    side: AskQueue<Wish>,
    policies: AskQueue<Question>,
    reader: AskQueue<Query>,
    loads: AskQueue<Load>,
    connections: Vec<AtomicU32>,
}

/// The way of publications to the cluster's stream.
#[derive(Debug)]
pub struct StreamQueue {
    /// Publications that the stream has not answered yet: the thread of the cluster releases the
    /// place of one only when it is settled.
    pub publications: WriteQueue<Submitted>,
    /// The channels that the node needs from the stream, with the bell of that thread.
    pub interests: Arc<Interests>,
    /// See [`StreamQueue::latest`].
    latest: Mutex<StreamPlace>,
    sessions: AskQueue<SessionAsk>,
}

impl StreamQueue {
    /// Notes a place in the stream behind which all publications will be that this node has not
    /// given to history yet.
    pub fn note(&self, place: StreamPlace) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = place.max(*latest);
    }

    /// Returns the latest place in the stream that was noted. In history, that is the place of what
    /// the stream does not order.
    pub fn latest(&self) -> StreamPlace {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread of the cluster takes from the rest of the node.
#[derive(Debug)]
pub struct StreamEnds {
    /// Publications for the stream.
    pub submitted: Receiver<Submitted>,
    /// Wishes for sessions.
    pub sessions: Receiver<SessionAsk>,
}

/// What the thread that publishes rows of a database has for its questions.
#[derive(Debug)]
pub struct CaptureEnds {
    /// Mail with the answers of other threads.
    pub answers: Inbox<Answered>,
    /// The table of the questions.
    pub tickets: Tickets,
}

/// The receiving ends, handed to their threads at start.
#[derive(Debug)]
pub struct Inboxes {
    /// The inboxes of the workers, by number.
    pub workers: Vec<Inbox<Mail>>,
    /// The inboxes of the acceptors, by number.
    pub acceptors: Vec<Inbox<Answered>>,
    /// Requests to the writer of the store.
    pub side: Receiver<Wish>,
    /// Publications to be kept in history.
    pub history: Receiver<Keep>,
    /// Documents to be written.
    pub documents: Receiver<Write>,
    /// Reads of documents for subscribers.
    pub loads: Receiver<Load>,
    /// Questions to the policies.
    pub policies: Receiver<Question>,
    /// Queries to the reader of the store.
    pub reader: Receiver<Query>,
}

impl Mailboxes {
    /// Creates the mailboxes of these numbers of workers and acceptors. A worker's mailbox has
    /// `publications` places for publications. The queues to history and to documents have at most
    /// `queue_bytes_max` bytes each, even if their own bounds are higher.
    ///
    /// # Errors
    /// If the system gives no event descriptors.
    pub fn new(
        workers: usize,
        acceptors: usize,
        publications: usize,
        queue_bytes_max: usize,
    ) -> std::io::Result<(Self, Inboxes)> {
        let capacity = Capacity { publications, control: MAILBOX_CONTROL_MAX };
        let (worker_boxes, worker_inboxes) = WorkerMailboxes::new(workers, capacity)?;
        let capacity = Capacity { publications: 0, control: HTTP_CONNECTIONS_MAX };
        let (acceptor_boxes, acceptor_inboxes) = (0..acceptors)
            .map(|_| mailbox(capacity))
            .collect::<std::io::Result<(Vec<_>, Vec<_>)>>()?;
        let (side, wishes) = AskQueue::new(STORE_QUEUE_MAX);
        let (history, records) =
            WriteQueue::new(HISTORY_QUEUE_MAX, HISTORY_QUEUE_BYTES_MAX.min(queue_bytes_max));
        let (documents, writes) =
            WriteQueue::new(DOCUMENT_QUEUE_MAX, DOCUMENT_QUEUE_BYTES_MAX.min(queue_bytes_max));
        let (loads, asked) = AskQueue::new(workers * LOADS_PER_WORKER_MAX);
        let (policies, questions) = AskQueue::new(POLICY_QUEUE_MAX);
        let (reader, queries) = AskQueue::new(READER_QUEUE_MAX);
        let connections = (0..workers).map(|_| AtomicU32::new(0)).collect();
        let mailboxes = Self {
            workers: worker_boxes,
            acceptors: acceptor_boxes,
            others: 0,
            passing: None,
            history,
            documents,
            stream: None,
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
        Ok((mailboxes, inboxes))
    }

    /// Opens the way to the cluster's stream, before any other thread has these mailboxes. Returns
    /// what the thread of the cluster takes.
    ///
    /// # Errors
    /// If the system gives no event descriptor.
    pub fn open_stream(&mut self) -> std::io::Result<StreamEnds> {
        let (publications, outgoing) = WriteQueue::new(STREAM_QUEUE_MAX, STREAM_QUEUE_BYTES_MAX);
        let interests = Arc::new(Interests::new()?);
        let (sessions, asked) = AskQueue::new(SESSION_ASKS_MAX);
        let latest = Mutex::default();
        self.stream = Some(StreamQueue { publications, interests, latest, sessions });
        Ok(StreamEnds { submitted: outgoing, sessions: asked })
    }

    /// Opens the way of long-polling requests to the nodes of their sessions, before any other
    /// thread has these mailboxes. Its thread asks workers as an acceptor does.
    ///
    /// # Errors
    /// If the system gives no event descriptors.
    pub fn open_passing(&mut self) -> std::io::Result<PassingEnds> {
        // Each request has a place for itself and one for its end.
        let capacity = Capacity { publications: 0, control: 2 * CLUSTER_POLLS_PASSED_MAX };
        let (passing, asked) = mailbox(capacity)?;
        let capacity = Capacity { publications: 0, control: CLUSTER_POLLS_ANSWERED_MAX };
        let (own, answers) = mailbox(capacity)?;
        let number = u8::try_from(self.acceptors.len()).expect("there are at most WORKERS_MAX");
        let tickets = Tickets::new(AcceptorId(number), own.clone());
        self.acceptors.push(own);
        self.others += 1;
        self.passing = Some(PassingQueue::new(passing));
        Ok(PassingEnds { asked, answers, tickets })
    }

    /// Opens a mailbox for the answers to the thread that publishes rows of a database, which asks
    /// as an acceptor does, before any other thread has these mailboxes.
    ///
    /// # Errors
    /// If the system gives no event descriptor.
    pub fn open_capture(&mut self) -> std::io::Result<CaptureEnds> {
        let capacity = Capacity { publications: 0, control: POSTGRES_ANSWERS_MAX };
        let (own, answers) = mailbox(capacity)?;
        let number = u8::try_from(self.acceptors.len()).expect("there are at most WORKERS_MAX");
        let tickets = Tickets::new(AcceptorId(number), own.clone());
        self.acceptors.push(own);
        self.others += 1;
        Ok(CaptureEnds { answers, tickets })
    }

    /// Returns how many acceptors there are, without other threads that ask like them.
    pub fn acceptor_threads(&self) -> usize {
        self.acceptors.len() - self.others
    }

    /// Posts control mail to a worker and wakes it.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if the worker's mailbox has no free place.
    pub fn control(&self, worker: WorkerId, mail: Mail) -> Result<(), Refused> {
        let place = self.workers.of(worker).reserve(Slot::Control).ok_or(Refused::Overloaded)?;
        place.send(mail);
        Ok(())
    }

    /// Posts a request to the writer of the store.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if its queue is full.
    pub fn wish(&self, wish: Wish) -> Result<(), Refused> {
        self.side.offer(wish)
    }

    /// Asks the policies. The thread that evaluates them posts a [`Mail::Verdict`] into `answer`,
    /// which is a control place of the worker that asks.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if its queue is full.
    pub fn ask(
        &self,
        question: Question,
        answer: Reservation<'_, Mailbox<Mail>>,
    ) -> Result<(), Refused> {
        self.policies.offer(question)?;
        answer.promise();
        Ok(())
    }

    /// Asks the store for the current documents of a resource. The writer posts a [`Mail::Loaded`]
    /// into `answer`, which is a control place of the worker that asks.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if the queue is full: it has [`LOADS_PER_WORKER_MAX`] places for
    /// each worker.
    pub fn load(&self, load: Load, answer: Reservation<'_, Mailbox<Mail>>) -> Result<(), Refused> {
        self.loads.offer(load)?;
        answer.promise();
        Ok(())
    }

    /// Asks the thread of the cluster about a session that all nodes share. It answers with a
    /// [`Mail::Session`], unless the session has ended.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if its queue or the worker's mailbox is full, or without a cluster.
    pub fn ask_session(
        &self,
        worker: WorkerId,
        session: RecoveryKey,
        wish: SessionWish,
    ) -> Result<(), Refused> {
        let stream = self.stream.as_ref().ok_or(Refused::Overloaded)?;
        let is_answered = !matches!(wish, SessionWish::End(_));
        let place = is_answered.then(|| self.workers.of(worker).reserve(Slot::Control));
        let place = match place {
            Some(None) => return Err(Refused::Overloaded),
            place => place.flatten(),
        };
        let ask = SessionAsk { session, worker, wish };
        stream.sessions.offer(ask)?;
        place.into_iter().for_each(Reservation::<Mailbox<Mail>>::promise);
        stream.interests.wake();
        Ok(())
    }

    /// Posts a query to the reader of the store.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if its queue is full.
    pub fn query(&self, query: Query) -> Result<(), Refused> {
        self.reader.offer(query)
    }

    /// Returns how full every queue is.
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths = Vec::new();
        for (number, mailbox) in self.workers.iter().enumerate() {
            depths.push(mailbox.depth("worker", number, Slot::Publication));
            depths.push(mailbox.depth("worker", number, Slot::Control));
        }
        for (number, mailbox) in self.acceptors.iter().enumerate() {
            depths.push(mailbox.depth("acceptor", number, Slot::Control));
        }
        if let Some(passing) = &self.passing {
            depths.push(passing.mailbox().depth("passing", 0, Slot::Control));
        }
        depths.push(self.history.depth("history", "publication"));
        if let Some(stream) = &self.stream {
            depths.push(stream.publications.depth("stream", "publication"));
            depths.push(stream.sessions.depth("stream", "session"));
        }
        // The samples of one metric must stand together.
        depths.push(self.documents.depth("documents", "write"));
        depths.push(self.loads.depth("documents", "load"));
        depths.push(self.side.depth("side", "wish"));
        depths.push(self.reader.depth("reader", "query"));
        depths.push(self.policies.depth("policies", "question"));
        depths
    }

    /// Answers a question of an acceptor, which reserved a place for the answer when it asked.
    pub fn answer<T: Answer>(&self, ticket: Ticket<T>, answer: T) {
        let (acceptor, answered) = ticket.answered(answer);
        self.acceptors[usize::from(acceptor.0)].answer(answered);
    }

    /// Counts a connection at the worker that has the fewest, and returns that worker.
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

    /// Counts a connection at a worker.
    pub fn assign_to(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Uncounts a connection that is gone or never reached its worker.
    pub fn unassign(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the connections of all workers, including those that have not arrived there yet.
    pub fn connections(&self) -> u64 {
        self.connections.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }
}
