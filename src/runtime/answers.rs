//! Sends the answers of HTTP connections: those to requests that were ready together as one batch.

use std::cell::RefCell;
use std::rc::Rc;

use super::http_connection::{HttpConnection, HttpTerms};
use super::http_poller::Watched;
use super::transmit::{Offers, Outcome, Transmit, Transmitter};
use crate::limits::SEND_BATCH_MAX;
use crate::message::{ConnId, WorkerId};

/// The connections of an acceptor whose answers are still to be sent, and its way to sockets.
#[derive(Debug)]
pub(super) struct Answers {
    /// At most [`SEND_BATCH_MAX`] connections. With so many they are sent at once.
    #[allow(clippy::vec_box, reason = "the poller keeps connections in boxes")]
    waiting: RefCell<Vec<Box<HttpConnection>>>,
    sending: RefCell<(Transmitter, Outcome)>,
    terms: Rc<HttpTerms>,
}

impl Answers {
    /// Creates a way to sockets for the thread of an acceptor.
    pub(super) fn new(transmitter: Transmitter, terms: Rc<HttpTerms>) -> Self {
        let sending = RefCell::new((transmitter, Outcome::default()));
        Self { waiting: RefCell::default(), sending, terms }
    }

    /// Keeps a connection until its answers are sent. Then it waits for its next request.
    pub(super) fn push(&self, connection: Box<HttpConnection>) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(connection);
        if waiting.len() >= SEND_BATCH_MAX {
            drop(waiting);
            self.send();
        }
    }

    /// Sends the answers of all connections that wait. One whose client does not take all of them
    /// goes on in a task of its own.
    pub(super) fn send(&self) {
        let mut waiting = self.waiting.take();
        if waiting.is_empty() {
            return;
        }
        let mut sending = self.sending.borrow_mut();
        let (transmitter, outcome) = &mut *sending;
        waiting.retain_mut(|connection| connection.seal().is_ok());
        let ids: Vec<_> = waiting.iter().map(|connection| name(connection.slot())).collect();
        let mut offers = Offers::new(&ids);
        for connection in &waiting {
            let (socket, bytes) = connection.offer();
            offers.add(socket, [bytes].into_iter());
        }
        transmitter.transmit(&offers, outcome);
        let Outcome { taken, failed_late } = outcome;
        for id in failed_late.drain(..) {
            tracing::error!(?id, "the kernel reported an answer too late; its client is closed");
            self.terms.poller.close(id.slot);
        }
        for (mut connection, taken) in waiting.drain(..).zip(taken) {
            match connection.note_taken(*taken) {
                Ok(()) if connection.has_answered() => connection.park(),
                Ok(()) => drop(monoio::spawn(send_rest(connection))),
                Err(_) => {}
            }
        }
        self.waiting.replace(waiting);
    }
}

/// Sends what a client has not taken at once.
async fn send_rest(mut connection: Box<HttpConnection>) {
    if connection.flush().await.is_ok() {
        connection.park();
    }
}

/// Returns the name of a connection in a batch.
fn name(slot: u32) -> ConnId {
    ConnId { worker: WorkerId(0), slot, generation: 0 }
}
