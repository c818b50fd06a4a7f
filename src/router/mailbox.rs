//! Bounded queues whose places are reserved before they are used, and the bells that wake their
//! owners.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};

/// Which of a mailbox's credits a piece of mail uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Publications and announcements of presence.
    Publication,
    /// Everything else.
    Control,
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
pub(super) struct Credits {
    free: AtomicUsize,
    /// The least that was ever free. Written when there is a new least, which is seldom, so that
    /// taking a slot costs one more read of the same cache line.
    least: AtomicUsize,
    all: usize,
}

impl Credits {
    pub(super) fn new(all: usize) -> Self {
        Self { free: AtomicUsize::new(all), least: AtomicUsize::new(all), all }
    }

    pub(super) fn take(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less);
        let Ok(before) = taken else { return false };
        if before <= self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(before - 1, Ordering::Relaxed);
        }
        true
    }

    pub(super) fn give(&self) {
        let before = self.free.fetch_add(1, Ordering::AcqRel);
        debug_assert!(before < self.all, "a slot is given back once");
    }

    fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    pub(super) fn depth(&self, queue: &'static str, number: usize, slot: &'static str) -> Depth {
        let most = (self.all - self.least.load(Ordering::Relaxed)) as u64;
        let now = (self.all - self.free()) as u64;
        Depth { queue, number, slot, now, most }
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
        self.credits(slot).free()
    }

    /// Whether more than half of the places for publications are free.
    pub fn is_half_free(&self) -> bool {
        2 * self.free(Slot::Publication) > self.publications.all
    }

    pub(super) fn depth(&self, queue: &'static str, number: usize, slot: Slot) -> Depth {
        let name = match slot {
            Slot::Publication => "publication",
            Slot::Control => "control",
        };
        self.credits(slot).depth(queue, number, name)
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
