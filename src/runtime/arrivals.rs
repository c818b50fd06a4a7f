//! What arrives at a worker besides mail: sessions from other workers, with their sockets.
//!
//! Mail holds nouns that all threads know, and a session is not one of them. An arrival is put into
//! the list of its worker first, and the mail that announces it is posted afterwards into a place
//! that was reserved, so that the list is bounded by the mailbox and stands in its order.

use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::interface::Session;
use crate::message::WorkerId;

/// A session that goes on at another worker, which knows what its client wants to resume.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its socket; `None` on long-polling.
    pub(super) socket: Option<OwnedFd>,
    /// Bytes that were read past the client's CONNECT packet.
    pub(super) leftover: Vec<u8>,
    /// The session.
    pub(super) session: Session,
    /// The data of the CONNECT packet.
    pub(super) auth: Box<str>,
}

/// The arrivals of all workers.
#[derive(Debug)]
pub struct Arrivals(Vec<(Sender<Arrival>, Receiver<Arrival>)>);

impl Arrivals {
    /// Creates the empty lists of so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| unbounded()).collect())
    }

    /// Puts an arrival into a worker's list. The mail that announces it must follow.
    pub(super) fn push(&self, worker: WorkerId, arrival: Arrival) {
        // It fails only without a receiver, and this holds one.
        let _ = self.0[worker.index()].0.send(arrival);
    }

    /// Takes the next arrival out of a worker's list.
    pub(super) fn take(&self, worker: WorkerId) -> Option<Arrival> {
        self.0[worker.index()].1.try_recv().ok()
    }
}
