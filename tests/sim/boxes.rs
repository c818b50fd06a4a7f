//! Mailboxes with few slots.

use std::cell::RefCell;
use std::collections::VecDeque;

use fanfare::engine::Mailboxes;
use fanfare::message::{Activation, Deactivation, Delivery, WorkerId};

use crate::WORKERS;

/// What waits in one.
#[derive(Debug)]
pub(crate) enum Mail {
    Deliver(Delivery),
    Activate(Activation),
    Deactivate(Deactivation),
}

/// All of them, and a count of what is reserved and not used.
#[derive(Default)]
pub(crate) struct Boxes {
    pub(crate) waiting: RefCell<Vec<VecDeque<Mail>>>,
    publications: RefCell<Vec<usize>>,
    control: RefCell<Vec<usize>>,
    pub(crate) reserved: RefCell<i64>,
}

impl Boxes {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            waiting: RefCell::new((0..WORKERS).map(|_| VecDeque::new()).collect()),
            publications: RefCell::new(vec![slots; WORKERS]),
            control: RefCell::new(vec![slots; WORKERS]),
            reserved: RefCell::new(0),
        }
    }

    pub(crate) fn take(&self, worker: usize) -> Option<Mail> {
        let mail = self.waiting.borrow_mut()[worker].pop_front()?;
        match mail {
            Mail::Deliver(_) => self.publications.borrow_mut()[worker] += 1,
            _ => self.control.borrow_mut()[worker] += 1,
        }
        Some(mail)
    }

    fn reserve(&self, slots: &RefCell<Vec<usize>>, worker: WorkerId) -> bool {
        let free = &mut slots.borrow_mut()[worker.index()];
        if *free == 0 {
            return false;
        }
        *free -= 1;
        *self.reserved.borrow_mut() += 1;
        true
    }

    fn release(&self, slots: &RefCell<Vec<usize>>, worker: WorkerId) {
        slots.borrow_mut()[worker.index()] += 1;
        *self.reserved.borrow_mut() -= 1;
    }

    fn post(&self, worker: WorkerId, mail: Mail) {
        *self.reserved.borrow_mut() -= 1;
        self.waiting.borrow_mut()[worker.index()].push_back(mail);
    }
}

impl Mailboxes for Boxes {
    fn reserve_publication(&self, worker: WorkerId) -> bool {
        self.reserve(&self.publications, worker)
    }
    fn release_publication(&self, worker: WorkerId) {
        self.release(&self.publications, worker);
    }
    fn reserve_control(&self, worker: WorkerId) -> bool {
        self.reserve(&self.control, worker)
    }
    fn release_control(&self, worker: WorkerId) {
        self.release(&self.control, worker);
    }
    fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        self.post(worker, Mail::Deliver(delivery));
    }
    fn activate(&self, activation: Activation) {
        self.post(activation.connection.worker, Mail::Activate(activation));
    }
    fn deactivate(&self, deactivation: Deactivation) {
        self.post(deactivation.connection.worker, Mail::Deactivate(deactivation));
    }
    fn ring(&self, _worker: WorkerId) {}
}
