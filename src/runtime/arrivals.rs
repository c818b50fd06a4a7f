//! What arrives at a worker besides mail: sockets and long-polling requests from acceptors, and
//! sessions from other workers.
//!
//! Mail holds nouns that all threads know, and none of these is one of them. An arrival is put into
//! the list of its worker first, and the mail that announces it is posted afterwards into a place
//! that was reserved, so that the list is bounded by the mailbox and stands in its order.

use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::interface::Session;
use crate::interface::http::Poll;
use crate::mailbox::{Mail, Mailbox, PollTicket, Reservation};
use crate::message::WorkerId;

/// Something that a worker takes over.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A socket that has left HTTP.
    Socket(Newcomer),
    /// A long-polling request.
    Poll(Asked),
    /// A session that another worker had.
    Session(Migrant),
}

/// A socket that has left HTTP, and its session.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// The socket.
    pub(super) socket: OwnedFd,
    /// The response to its request; empty if the client has it already.
    pub(super) head: Vec<u8>,
    /// Bytes that were read past the request.
    pub(super) leftover: Vec<u8>,
    /// The session.
    pub(super) session: Session,
}

/// A long-polling request.
#[derive(Debug)]
pub(super) struct Asked {
    /// Answered once, also if the client is gone.
    pub(super) ticket: PollTicket,
    /// What the client asks for.
    pub(super) poll: Poll<Session>,
    /// The packets that it sends.
    pub(super) body: Vec<u8>,
}

/// A session that goes on at another worker, which knows what its client wants to resume.
#[derive(Debug)]
pub(super) struct Migrant {
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

    /// Puts an arrival into a worker's list, and announces it in `place`, which is one of the
    /// worker's mailbox.
    pub(super) fn post(
        &self,
        worker: WorkerId,
        place: Reservation<'_, Mailbox<Mail>>,
        arrival: Arrival,
    ) {
        // It fails only without a receiver, and this holds one.
        let _ = self.0[worker.index()].0.send(arrival);
        place.send(Mail::Arrive);
    }

    /// Takes the next arrival out of a worker's list.
    pub(super) fn take(&self, worker: WorkerId) -> Option<Arrival> {
        self.0[worker.index()].1.try_recv().ok()
    }
}
