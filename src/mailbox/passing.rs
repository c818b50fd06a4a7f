//! Long-polling requests on their way to another node of the cluster, that of their session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::inbox::{Inbox, Mailbox, Slot};
use super::mail::PollTicket;
use super::ticket::{Answered, Tickets};
use crate::message::{NodeTag, Refused, SessionId};

/// A long-polling request of a session of another node.
#[derive(Debug)]
pub struct AwayPoll {
    /// The node of the session.
    pub node: NodeTag,
    /// The session, as that node names it.
    pub session: SessionId,
    /// The packets that the client sends; `None` if it asks for packets.
    pub body: Option<Bytes>,
}

/// What acceptors post to the thread that passes requests on.
#[derive(Debug)]
pub enum Passing {
    /// A request with its number, and the right to answer it.
    Asked(u64, AwayPoll, PollTicket),
    /// The end of the request with this number, and whether its client has received the answer.
    Ended(u64, bool),
}

/// The way of acceptors to that thread.
#[derive(Debug)]
pub struct PassingQueue {
    mailbox: Arc<Mailbox<Passing>>,
    next: AtomicU64,
}

/// What that thread takes from the rest of the node.
#[derive(Debug)]
pub struct PassingEnds {
    /// Requests of this node's clients.
    pub asked: Inbox<Passing>,
    /// Answers to its own questions, as those of an acceptor.
    pub answers: Inbox<Answered>,
    /// The table of these questions.
    pub tickets: Tickets,
}

/// Tells that thread whether the client of a request has received the answer. If it is dropped
/// before, the client may have missed packets, so that the session ends.
#[must_use = "dropping it ends the session"]
#[derive(Debug)]
pub struct Receipt {
    mailbox: Arc<Mailbox<Passing>>,
    number: u64,
    is_received: bool,
}

impl PassingQueue {
    /// Creates the way into this mailbox.
    pub(super) fn new(mailbox: Arc<Mailbox<Passing>>) -> Self {
        Self { mailbox, next: AtomicU64::new(0) }
    }

    /// Passes a request on.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if too many are under way.
    pub fn pass(&self, poll: AwayPoll, ticket: PollTicket) -> Result<Receipt, Refused> {
        let place = self.mailbox.reserve(Slot::Control).ok_or(Refused::Overloaded)?;
        let end = self.mailbox.reserve(Slot::Control).ok_or(Refused::Overloaded)?;
        end.promise();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        place.send(Passing::Asked(number, poll, ticket));
        Ok(Receipt { mailbox: self.mailbox.clone(), number, is_received: false })
    }

    /// Wakes the thread, because the node stops.
    pub fn ring(&self) {
        self.mailbox.doorbell().ring();
    }

    /// Returns the sending end.
    pub(super) fn mailbox(&self) -> &Mailbox<Passing> {
        &self.mailbox
    }
}

impl Receipt {
    /// Tells that the client has received the answer.
    pub fn received(mut self) {
        self.is_received = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.mailbox.answer(Passing::Ended(self.number, self.is_received));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLUSTER_POLLS_PASSED_MAX;
    use crate::mailbox::{AcceptorId, Mailboxes, PollRefusal, Polled};
    use crate::message::WorkerId;

    fn poll() -> AwayPoll {
        let session = SessionId { worker: WorkerId(0), slot: 1, key: [2; 9] };
        AwayPoll { node: NodeTag(*b"node"), session, body: None }
    }

    #[test]
    fn each_request_that_is_passed_on_ends_and_each_has_room_to() {
        let (mut mailboxes, _inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let PassingEnds { asked, tickets, .. } = mailboxes.open_passing().unwrap();
        let acceptor = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        let passing = mailboxes.passing.as_ref().unwrap();
        let pass = |tickets: &Tickets| {
            let inquiry = tickets.inquiry::<Result<Polled, PollRefusal>>().expect("it has a place");
            inquiry.put(|ticket| passing.pass(poll(), ticket)).ok().map(|(receipt, _)| receipt)
        };
        let all = 0..CLUSTER_POLLS_PASSED_MAX;
        let mut receipts: Vec<_> = all.clone().filter_map(|_| pass(&acceptor)).collect();
        assert_eq!(receipts.len(), all.len());
        assert!(pass(&tickets).is_none(), "too many are under way");
        for number in all.clone() {
            let Some(Passing::Asked(asked, ..)) = asked.take(|_| Slot::Control) else {
                panic!("it was passed on")
            };
            assert_eq!(asked, number as u64);
        }
        receipts.pop().unwrap().received();
        drop(receipts);
        let ends = std::iter::from_fn(|| asked.take(|_| Slot::Control));
        let received: Vec<_> = ends.map(|end| matches!(end, Passing::Ended(_, true))).collect();
        assert_eq!(received.len(), all.len());
        assert_eq!(received.iter().filter(|received| **received).count(), 1);
        assert!(pass(&tickets).is_some(), "none is under way any more");
    }
}
