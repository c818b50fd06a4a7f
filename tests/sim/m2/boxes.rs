//! Mailboxes with few slots, and room at all of them for a document that is committed before it is
//! fanned out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use fanfare::engine::Mailboxes;
use fanfare::message::{Activation, Deactivation, Delivery, Found, Load, Publication, WorkerId};

use crate::WORKERS;

/// What waits in one.
#[derive(Debug)]
pub(super) enum Mail {
    Deliver(Delivery),
    Activate(Activation),
    Deactivate(Deactivation),
    /// What the store has; nothing, where it could not be read.
    Loaded(Load, Option<Found<Arc<Publication>>>),
}

/// All of them.
pub(super) struct Boxes([Mailbox; WORKERS]);

struct Mailbox {
    waiting: RefCell<VecDeque<Mail>>,
    publications: Cell<usize>,
    control: Cell<usize>,
    slots: usize,
}

impl Mailbox {
    fn new(slots: usize) -> Self {
        let (publications, control) = (Cell::new(slots), Cell::new(slots));
        Self { waiting: RefCell::default(), publications, control, slots }
    }

    fn post(&self, mail: Mail) {
        self.waiting.borrow_mut().push_back(mail);
    }
}

fn reserve(slots: &Cell<usize>) -> bool {
    let left = slots.get().checked_sub(1);
    left.is_some_and(|left| {
        slots.set(left);
        true
    })
}

fn release(slots: &Cell<usize>) {
    slots.set(slots.get() + 1);
}

impl Boxes {
    pub(super) fn new(slots: usize) -> Self {
        Self(std::array::from_fn(|_| Mailbox::new(slots)))
    }

    pub(super) fn take(&self, worker: usize) -> Option<Mail> {
        let mailbox = &self.0[worker];
        let mail = mailbox.waiting.borrow_mut().pop_front()?;
        release(match mail {
            Mail::Deliver(_) => &mailbox.publications,
            _ => &mailbox.control,
        });
        Some(mail)
    }

    /// The answer to a load; who asked has reserved its slot.
    pub(super) fn loaded(&self, load: Load, found: Option<Found<Arc<Publication>>>) {
        self.0[load.connection.worker.index()].post(Mail::Loaded(load, found));
    }

    /// Whether nothing waits, and every slot is free.
    pub(super) fn are_empty(&self) -> bool {
        self.0.iter().all(|mailbox| {
            let slots = [&mailbox.publications, &mailbox.control];
            let is_empty = mailbox.waiting.borrow().is_empty();
            assert!(!is_empty || slots.iter().all(|free| free.get() <= mailbox.slots));
            is_empty && slots.iter().all(|free| free.get() == mailbox.slots)
        })
    }

    /// A slot for a publication at every worker, or nothing.
    pub(super) fn room(&self) -> Option<Room> {
        let mut room = Room::default();
        for (mailbox, taken) in self.0.iter().zip(room.0.get_mut()) {
            *taken = reserve(&mailbox.publications);
        }
        if room.0.get() == [true; WORKERS] {
            return Some(room);
        }
        self.give_back(&room);
        None
    }

    /// Takes back what was not used of a room.
    pub(super) fn give_back(&self, room: &Room) {
        for (mailbox, taken) in self.0.iter().zip(room.0.take()) {
            if taken {
                release(&mailbox.publications);
            }
        }
    }
}

/// Slots that are set aside, by worker.
#[derive(Debug, Default)]
pub(super) struct Room(Cell<[bool; WORKERS]>);

/// A room, as whoever publishes into it sees it.
pub(super) struct Within<'a>(pub(super) &'a Boxes, pub(super) &'a Room);

impl Mailboxes for Boxes {
    fn reserve_publication(&self, worker: WorkerId) -> bool {
        reserve(&self.0[worker.index()].publications)
    }
    fn release_publication(&self, worker: WorkerId) {
        release(&self.0[worker.index()].publications);
    }
    fn reserve_control(&self, worker: WorkerId) -> bool {
        reserve(&self.0[worker.index()].control)
    }
    fn release_control(&self, worker: WorkerId) {
        release(&self.0[worker.index()].control);
    }
    fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        self.0[worker.index()].post(Mail::Deliver(delivery));
    }
    fn activate(&self, activation: Activation) {
        self.0[activation.connection.worker.index()].post(Mail::Activate(activation));
    }
    fn deactivate(&self, deactivation: Deactivation) {
        self.0[deactivation.connection.worker.index()].post(Mail::Deactivate(deactivation));
    }
    fn ring(&self, _worker: WorkerId) {}
}

impl Mailboxes for Within<'_> {
    fn reserve_publication(&self, _worker: WorkerId) -> bool {
        true
    }
    fn release_publication(&self, _worker: WorkerId) {}
    fn reserve_control(&self, worker: WorkerId) -> bool {
        self.0.reserve_control(worker)
    }
    fn release_control(&self, worker: WorkerId) {
        self.0.release_control(worker);
    }
    fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        let Self(boxes, Room(taken)) = self;
        let mut left = taken.get();
        assert!(std::mem::take(&mut left[worker.index()]), "a slot is used once");
        taken.set(left);
        boxes.deliver(worker, delivery);
    }
    fn activate(&self, activation: Activation) {
        self.0.activate(activation);
    }
    fn deactivate(&self, deactivation: Deactivation) {
        self.0.deactivate(deactivation);
    }
    fn ring(&self, _worker: WorkerId) {}
}

/// For those whose mail nobody reads.
pub(super) struct Nowhere;

impl Mailboxes for Nowhere {
    fn reserve_publication(&self, _worker: WorkerId) -> bool {
        true
    }
    fn release_publication(&self, _worker: WorkerId) {}
    fn reserve_control(&self, _worker: WorkerId) -> bool {
        true
    }
    fn release_control(&self, _worker: WorkerId) {}
    fn deliver(&self, _worker: WorkerId, _delivery: Delivery) {}
    fn activate(&self, _activation: Activation) {}
    fn deactivate(&self, _deactivation: Deactivation) {}
    fn ring(&self, _worker: WorkerId) {}
}
