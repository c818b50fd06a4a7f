//! Where threads meet: bounded mailboxes with doorbells, and the closed lists of what may be
//! posted ([`Mail`] to a worker, [`Answer`] to an acceptor, [`Wish`] to the side).
//!
//! A slot is reserved before anything is decided and used afterwards, so posting cannot fail and
//! nobody waits. Publications and control mail have credits of their own over one queue: one
//! queue keeps their order, two credits keep a flood of publications from blocking joins.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};
use uuid::Uuid;

use crate::limits::{HTTP_CONNECTIONS_MAX, MAILBOX_CONTROL_MAX, STORE_QUEUE_MAX};
use crate::message::{
    Activation, App, ChannelChange, ChannelDefinition, Deactivation, Delivery, Millis, SessionId,
    WorkerId,
};

/// Everything that can be posted to a worker.
#[derive(Debug)]
pub enum Mail {
    /// A publication for the local subscribers of its channel.
    Deliver(Delivery),
    /// A subscription begins here.
    Activate(Box<Activation>),
    /// A subscription ends here.
    Deactivate(Box<Deactivation>),
    /// A socket changes hands.
    Adopt(Box<Handover>),
    /// A long-polling request.
    Poll(Box<Poll>),
    /// The client of a long-polling request of this session went away.
    PollGone(SessionId),
    /// Somebody wants to know whether this worker still takes its mail.
    Probe(AcceptorId, Ticket),
}

/// Which of a mailbox's credits a piece of mail uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Publications and announcements of presence.
    Publication,
    /// Everything else.
    Control,
}

impl Mail {
    /// The kind of slot it stands in.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Deliver(_) => Slot::Publication,
            _ => Slot::Control,
        }
    }
}

/// What an upgraded socket is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A new Engine.IO session on WebSocket.
    EngineIo(App),
    /// An offer to carry an existing session from long-polling to WebSocket.
    Probe(SessionId),
    /// Echo of WebSocket messages, for conformance suites.
    Echo,
}

/// A socket whose HTTP part is over.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: OwnedFd,
    /// Bytes that were already read past the request.
    pub leftover: Vec<u8>,
    /// The Sec-WebSocket-Accept value to answer with.
    pub accept: String,
    /// What it is for.
    pub purpose: Purpose,
}

/// One request of a long-polling client.
#[derive(Debug)]
pub struct Poll {
    /// Where the answer goes.
    pub from: AcceptorId,
    /// Under which ticket.
    pub ticket: Ticket,
    /// What is asked.
    pub request: PollRequest,
}

/// What a long-polling client asks.
#[derive(Debug)]
pub enum PollRequest {
    /// A new session.
    Open(App),
    /// Whatever waits for it, or will.
    Get(SessionId),
    /// Packets from it.
    Post(SessionId, Vec<u8>),
}

/// An HTTP-serving role, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AcceptorId(pub u8);

/// Names a request that waits at an acceptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Place in the acceptor's table.
    pub slot: u32,
    /// Which of the place's lives.
    pub generation: u32,
}

/// Everything that can be posted to an acceptor: the answer to a ticket.
#[derive(Debug)]
pub struct Answer {
    /// Which request.
    pub ticket: Ticket,
    /// Its answer.
    pub body: AnswerBody,
}

/// The answers.
#[derive(Debug)]
pub enum AnswerBody {
    /// From a worker: an Engine.IO payload for the client.
    Payload(Vec<u8>),
    /// From a worker: packets were taken.
    Taken,
    /// From a worker: the request was wrong.
    PollRefused(PollRefusal),
    /// From the side: what the store did.
    Stored(StoreOutcome),
    /// From anybody who was probed: all is well.
    Alive,
    /// From the side: the store does not work, and why.
    Ailing(&'static str),
}

/// Why a long-polling request failed (contract section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollRefusal {
    /// No such session.
    UnknownSession,
    /// The session exists, the request does not fit it.
    BadRequest,
    /// The worker has as many sessions as it may.
    Overloaded,
}

/// Everything that can be asked of the side. Answers go to the acceptor that asked, under its
/// ticket.
#[derive(Debug)]
pub enum Wish {
    /// A change of what is stored.
    Change(AcceptorId, Ticket, StoreChange),
    /// Whether the store works.
    Probe(AcceptorId, Ticket),
    /// The end: what was wished before is carried out and made safe, what comes after is not.
    Stop,
}

/// Changes to channel definitions.
#[derive(Debug)]
pub enum StoreChange {
    /// A new definition.
    Insert(ChannelDefinition),
    /// The definition of that id is changed, at that time.
    Update(Uuid, ChannelChange, Millis),
    /// No more definition of that id.
    Delete(Uuid),
}

/// What came of a change.
#[derive(Debug)]
pub enum StoreOutcome {
    /// Done; the definition as it is (or was, when deleted).
    Done(Box<ChannelDefinition>),
    /// There is no definition of that id.
    NotFound,
    /// Another definition has this pattern.
    Duplicate(String),
    /// The number of definitions is at its bound.
    Full,
    /// The store is busy; the same change may work a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}

/// Rings the thread that sleeps behind a mailbox, and only then.
#[derive(Debug)]
pub struct Doorbell {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Doorbell {
    fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { event, sleeping: AtomicBool::new(false) })
    }

    /// Wakes the owner if it sleeps. To be called after posting.
    pub fn ring(&self) {
        // Pairs with the fence in `sleep`: either the owner sees the mail or this sees it asleep.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.strike();
        }
    }

    /// Wakes the owner's next wait whether it sleeps or not.
    pub fn strike(&self) {
        // The counter cannot overflow within the node's life, so the write cannot fail.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// The owner says that it is about to sleep. False means that mail came meanwhile.
    pub fn sleep(&self, nothing_waits: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if nothing_waits() {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// The owner is awake again.
    pub fn woke(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Unstrikes it, for an owner whose wait does not do that by itself.
    pub fn silence(&self) {
        // Without a strike there is nothing to read, which is as good.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Becomes readable when the bell is struck.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.event
    }
}

/// A count of free slots.
#[derive(Debug)]
struct Credits {
    free: AtomicUsize,
    /// The least that was ever free. Written when there is a new least, which is seldom, so that
    /// taking a slot costs one more read of the same cache line.
    least: AtomicUsize,
    all: usize,
}

impl Credits {
    fn new(all: usize) -> Self {
        Self { free: AtomicUsize::new(all), least: AtomicUsize::new(all), all }
    }

    fn take(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less);
        let Ok(before) = taken else { return false };
        if before <= self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(before - 1, Ordering::Relaxed);
        }
        true
    }

    fn give(&self) {
        let before = self.free.fetch_add(1, Ordering::AcqRel);
        debug_assert!(before < self.all, "a slot is given back once");
    }
}

/// How full a queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Depth {
    /// Whose it is.
    pub queue: &'static str,
    /// Which of those.
    pub number: usize,
    /// What waits there.
    pub slot: &'static str,
    /// How much waits, or has its place reserved.
    pub now: u64,
    /// The most that ever did.
    pub most: u64,
}

/// A bounded queue to one thread, from all others and from itself.
#[derive(Debug)]
pub struct Mailbox<M> {
    queue: Sender<M>,
    publications: Credits,
    control: Credits,
    doorbell: Doorbell,
}

/// The receiving end of a [`Mailbox`].
#[derive(Debug)]
pub struct Inbox<M> {
    queue: Receiver<M>,
    mailbox: Arc<Mailbox<M>>,
}

/// A mailbox and its receiving end, with so many slots of each kind.
///
/// # Errors
/// When the system gives no event descriptor.
pub fn mailbox<M>(
    publications: usize,
    control: usize,
) -> std::io::Result<(Arc<Mailbox<M>>, Inbox<M>)> {
    let (sender, receiver) = bounded(publications + control);
    let mailbox = Arc::new(Mailbox {
        queue: sender,
        publications: Credits::new(publications),
        control: Credits::new(control),
        doorbell: Doorbell::new()?,
    });
    Ok((mailbox.clone(), Inbox { queue: receiver, mailbox }))
}

impl<M> Mailbox<M> {
    fn credits(&self, slot: Slot) -> &Credits {
        match slot {
            Slot::Publication => &self.publications,
            Slot::Control => &self.control,
        }
    }

    /// Sets a slot aside. False when none is left.
    pub fn reserve(&self, slot: Slot) -> bool {
        self.credits(slot).take()
    }

    /// Gives a reserved slot back unused.
    pub fn release(&self, slot: Slot) {
        self.credits(slot).give();
    }

    /// Slots of that kind that are free at the moment.
    pub fn free(&self, slot: Slot) -> usize {
        self.credits(slot).free.load(Ordering::Relaxed)
    }

    /// Whether more than half of the places for publications are free.
    pub fn is_half_free(&self) -> bool {
        2 * self.free(Slot::Publication) > self.publications.all
    }

    fn depth(&self, queue: &'static str, number: usize, slot: Slot) -> Depth {
        let credits = self.credits(slot);
        let most = (credits.all - credits.least.load(Ordering::Relaxed)) as u64;
        let now = (credits.all - self.free(slot)) as u64;
        let slot = match slot {
            Slot::Publication => "publication",
            Slot::Control => "control",
        };
        Depth { queue, number, slot, now, most }
    }

    /// Puts mail into a reserved slot, without waking the owner: [`Mailbox::ring`] follows when no
    /// lock is held.
    pub fn post(&self, mail: M) {
        // The queue has a place for every credit, and the owner outlives the senders except when
        // the whole node stops; then mail for it means nothing any more.
        let _ = self.queue.try_send(mail);
    }

    /// Wakes the owner if it sleeps.
    pub fn ring(&self) {
        self.doorbell.ring();
    }

    /// The bell itself, for its owner.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

impl<M> Inbox<M> {
    /// The next piece of mail. Its slot is free again once `slot_of` has named it.
    pub fn take(&self, slot_of: impl FnOnce(&M) -> Slot) -> Option<M> {
        let mail = self.queue.try_recv().ok()?;
        self.mailbox.release(slot_of(&mail));
        Some(mail)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Mail that waits.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The sending end.
    pub fn mailbox(&self) -> &Arc<Mailbox<M>> {
        &self.mailbox
    }
}

/// The sending ends of every mailbox in the node.
#[derive(Debug)]
pub struct Router {
    /// By worker.
    pub workers: Vec<Arc<Mailbox<Mail>>>,
    /// By acceptor.
    pub acceptors: Vec<Arc<Mailbox<Answer>>>,
    side: Sender<Wish>,
    side_waiting_max: AtomicUsize,
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
        let (side, wishes) = bounded(STORE_QUEUE_MAX);
        let connections = (0..workers).map(|_| AtomicU32::new(0)).collect();
        let router = Self {
            workers: worker_boxes,
            acceptors: acceptor_boxes,
            side,
            side_waiting_max: AtomicUsize::new(0),
            connections,
        };
        let inboxes =
            Inboxes { workers: worker_inboxes, acceptors: acceptor_inboxes, side: wishes };
        Ok((router, inboxes))
    }

    /// Wakes every hot thread, whatever it waits for.
    pub fn wake_all(&self) {
        self.workers.iter().for_each(|mailbox| mailbox.doorbell.strike());
        self.acceptors.iter().for_each(|mailbox| mailbox.doorbell.strike());
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
        let taken = self.side.try_send(wish).is_ok();
        self.side_waiting_max.fetch_max(self.side.len(), Ordering::Relaxed);
        taken
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
        let (now, most) = (self.side.len(), self.side_waiting_max.load(Ordering::Relaxed));
        let (now, most) = (now as u64, most as u64);
        depths.push(Depth { queue: "side", number: 0, slot: "wish", now, most });
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

    /// Connections of a worker, those on their way included.
    pub fn connections(&self, worker: WorkerId) -> u32 {
        self.connections[worker.index()].load(Ordering::Relaxed)
    }
}
