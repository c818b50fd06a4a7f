//! Arrivals at a worker besides mail: sockets and long-polling requests from acceptors, and
//! sessions from other workers.
//!
//! [`Mail`] cannot hold them, because `mailbox` may not import sessions. So an arrival is put into
//! its worker's list first. Then the mail that announces it is posted into a reserved place. The
//! list is thus bounded by the mailbox and has the same order.

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::wire::Wire;
use crate::broker::received::Received;
use crate::interface::Session;
use crate::interface::http::Poll;
use crate::mailbox::{Mail, Mailbox, PollTicket, Reservation};
use crate::message::WorkerId;

/// An arrival at a worker.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A socket that has left HTTP.
    Socket(Newcomer),
    /// A request of a long-polling client, which waits for its answer.
    Poll(Asked),
    /// A session that moves here from another worker.
    Session(Migrant),
}

/// A socket that has left HTTP, with its session.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) wire: Wire,
    /// The response to the request; empty if it was sent already, or if the session answers.
    pub(super) head: Vec<u8>,
    /// Bytes that were read after the request.
    pub(super) leftover: Vec<u8>,
    pub(super) session: Session,
}

/// A long-polling request and the right to answer it.
#[derive(Debug)]
pub(super) struct Asked {
    /// The right to answer. It is used exactly once, even if the client has left.
    pub(super) ticket: PollTicket,
    /// The session to open, or the session whose packets the client sends or receives.
    pub(super) poll: Poll<Session>,
    /// The body of the request; packets if `poll` is [`Poll::Post`].
    pub(super) body: Received,
}

/// A session that moves to the worker which keeps what its client wants to resume.
#[derive(Debug)]
pub(super) struct Migrant {
    /// The session's socket; `None` on long-polling.
    pub(super) wire: Option<Wire>,
    /// Bytes that were read after the client's CONNECT packet.
    pub(super) leftover: Vec<u8>,
    /// On long-polling, frames that the client has not fetched, such as a heartbeat. No delivery is
    /// among them.
    pub(super) unfetched: Vec<Vec<u8>>,
    pub(super) session: Session,
    /// The data of the CONNECT packet.
    pub(super) auth: Box<str>,
}

/// The arrivals of all workers.
#[derive(Debug)]
pub struct Arrivals(Vec<(Sender<Arrival>, Receiver<Arrival>)>);

impl Arrivals {
    /// Creates an empty list for each of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| unbounded()).collect())
    }

    /// Puts an arrival into a worker's list and announces it in `place`, which is reserved in that
    /// worker's mailbox.
    pub(super) fn post(
        &self,
        worker: WorkerId,
        place: Reservation<'_, Mailbox<Mail>>,
        arrival: Arrival,
    ) {
        // Sending fails only without a receiver, and `self` holds one.
        let _ = self.0[worker.index()].0.send(arrival);
        place.send(Mail::Arrive);
    }

    /// Takes the next arrival out of a worker's list; `None` if the list is empty.
    pub(super) fn take(&self, worker: WorkerId) -> Option<Arrival> {
        self.0[worker.index()].1.try_recv().ok()
    }
}
