//! Mailboxes: the sending and the receiving end of a thread's bounded queue.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::doorbell::Doorbell;
use super::reservation::{Bounded, Credits, Depth, Reservation};

/// The kind of place that a piece of mail uses in a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Publications and announcements of presence.
    Publication,
    /// All other mail, for which places are kept apart.
    Control,
}

/// The sending end of a bounded queue to one thread, for all threads including that one.
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

/// The numbers of places of a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Places for publications and announcements of presence.
    pub publications: usize,
    /// Places for control mail.
    pub control: usize,
}

/// Creates a mailbox.
///
/// # Errors
/// If the system gives no event descriptor.
pub(super) fn mailbox<M>(capacity: Capacity) -> std::io::Result<(Arc<Mailbox<M>>, Inbox<M>)> {
    let Capacity { publications, control } = capacity;
    // Only reserved places are used, so that the credits bound it. A bounded queue would hold the
    // memory of all places at all times: 0.7 MB for each worker.
    let (sender, receiver) = unbounded();
    let mailbox = Arc::new(Mailbox {
        queue: sender,
        publications: Credits::new(publications),
        control: Credits::new(control),
        doorbell: Doorbell::new()?,
    });
    Ok((mailbox.clone(), Inbox { queue: receiver, mailbox }))
}

impl<M> Mailbox<M> {
    pub(super) fn credits(&self, slot: Slot) -> &Credits {
        match slot {
            Slot::Publication => &self.publications,
            Slot::Control => &self.control,
        }
    }

    /// Reserves a place. Returns `None` if none is free.
    pub fn reserve(&self, slot: Slot) -> Option<Reservation<'_, Self>> {
        self.credits(slot).take().then(|| Reservation::new(self, slot))
    }

    /// Puts an answer into the place that was [promised](Reservation::promise) to its sender, and
    /// wakes the owner.
    pub fn answer(&self, mail: M) {
        self.put(mail);
        self.wake();
    }

    /// Returns how many places of a kind are free at the moment.
    pub fn free(&self, slot: Slot) -> usize {
        self.credits(slot).free()
    }

    /// Returns whether more than half of the places for publications are free.
    pub fn is_half_free(&self) -> bool {
        2 * self.free(Slot::Publication) > self.publications.all()
    }

    pub(super) fn depth(&self, queue: &'static str, number: usize, slot: Slot) -> Depth {
        let name = match slot {
            Slot::Publication => "publication",
            Slot::Control => "control",
        };
        self.credits(slot).depth(queue, number, name)
    }

    /// Puts mail into the queue. The sender must have a place for it.
    pub(super) fn put(&self, mail: M) {
        // The owner outlives the senders except when the whole node stops. Then its mail is of no
        // use any more.
        let _ = self.queue.send(mail);
    }

    /// Wakes the owner if it sleeps.
    pub fn wake(&self) {
        self.doorbell.wake();
    }

    /// Returns the bell, for the owner.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

impl<M> Bounded for Mailbox<M> {
    type Place = Slot;

    fn release(&self, slot: Slot) {
        self.credits(slot).give();
    }
}

impl<M> Reservation<'_, Mailbox<M>> {
    /// Posts mail without waking the owner: [`Mailbox::wake`] must follow once no lock is held.
    pub fn post(self, mail: M) {
        let (mailbox, _) = self.consume();
        mailbox.put(mail);
    }

    /// Posts mail and wakes the owner.
    pub fn send(self, mail: M) {
        let mailbox = self.queue();
        self.post(mail);
        mailbox.wake();
    }

    /// Leaves the place to another thread, which was asked something and puts its
    /// [answer](Mailbox::answer) there.
    pub fn promise(self) {
        self.consume();
    }
}

impl<M> Inbox<M> {
    /// Takes the next piece of mail, and releases its place, whose kind `slot_of` returns.
    pub fn take(&self, slot_of: impl FnOnce(&M) -> Slot) -> Option<M> {
        let mail = self.queue.try_recv().ok()?;
        self.mailbox.release(slot_of(&mail));
        Some(mail)
    }

    /// Returns whether no mail is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns how many pieces of mail are queued.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns the sending end.
    pub fn mailbox(&self) -> &Arc<Mailbox<M>> {
        &self.mailbox
    }
}
