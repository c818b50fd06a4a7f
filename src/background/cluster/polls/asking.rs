//! Requests of this node's clients for sessions of other nodes.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{Desk, Failed};
use crate::cluster::polls::{Ack, Reply, Word};
use crate::limits::{
    CLUSTER_POLL_ANSWER_BYTES_MAX, CLUSTER_POLL_ANSWER_MS, CLUSTER_POLL_RELEASE_MS,
};
use crate::mailbox::{AwayPoll, PollRefusal, PollTicket, Polled};
use crate::message::NodeTag;

/// The answer for a client.
struct Answer {
    polled: Result<Polled, PollRefusal>,
    /// Where the node of the session waits for whether the client has received its packets.
    receipt: Option<Subject>,
}

impl From<Result<Polled, PollRefusal>> for Answer {
    fn from(polled: Result<Polled, PollRefusal>) -> Self {
        Self { polled, receipt: None }
    }
}

impl Desk {
    /// Passes a request on to the node of its session, and answers it. `ended` is told whether the
    /// client has received the answer, or that it has left before.
    pub(super) async fn pass_on(
        self: Rc<Self>,
        poll: AwayPoll,
        ticket: PollTicket,
        mut ended: oneshot::Receiver<bool>,
    ) {
        let AwayPoll { node, session, body } = poll;
        let is_get = body.is_none();
        let word = match body {
            Some(body) => Word::Post(session, body),
            None => Word::Get(session, self.tag),
        };
        let (mut end, mut is_released) = (None, false);
        let mut asking = pin!(self.ask_node(node, &word));
        let Answer { polled, receipt } = loop {
            tokio::select! {
                biased;
                answer = &mut asking => break answer,
                is_received = &mut ended, if end.is_none() => {
                    let is_received = is_received.unwrap_or(false);
                    end = Some(is_received);
                    if !is_received {
                        self.tell(node, &Word::Gone(session)).await;
                    }
                }
                () = self.must_release(), if is_get && !is_released => {
                    is_released = true;
                    self.tell(node, &Word::Release(session)).await;
                }
            }
        };
        self.mailboxes.answer(ticket, polled);
        let Some(receipt) = receipt else { return };
        let is_received = match end {
            Some(is_received) => is_received,
            None => ended.await.unwrap_or(false),
        };
        let ack = if is_received { Ack::Received } else { Ack::Missed };
        self.say(receipt, ack.encode()).await;
    }

    /// Asks the node of a session.
    async fn ask_node(&self, node: NodeTag, word: &Word) -> Answer {
        if self.client().is_none() {
            self.counters.cluster_polls_refused.add(1);
            return Err(PollRefusal::Overloaded).into();
        }
        self.counters.cluster_polls_passed.add(1);
        let mut connects = self.connects.subscribe();
        let received = tokio::select! {
            biased;
            received = self.receive(node, word) => received,
            () = self.silent(node) => Err(Failed::Silent),
            // Without a change, this never ends: the other end is this desk's.
            _ = connects.changed() => Err(Failed::Silent),
        };
        match received {
            Ok(answer) => answer,
            Err(Failed::NoNode) => Err(PollRefusal::UnknownSession).into(),
            Err(Failed::Silent) => {
                self.counters.cluster_polls_unanswered.add(1);
                self.tell(node, &Word::Gone(word.session())).await;
                Err(PollRefusal::UnknownSession).into()
            }
        }
    }

    /// Puts a request, and receives all parts of the answer.
    async fn receive(&self, node: NodeTag, word: &Word) -> Result<Answer, Failed> {
        let short = Duration::from_millis(CLUSTER_POLL_ANSWER_MS);
        let patience = if let Word::Get(..) = word { self.patience.poll } else { short };
        let subject = self.control.prefix.polls(node);
        let mut message = self.request(subject, word.encode(), patience).await?;
        let mut payload = Vec::new();
        loop {
            let reply = Reply::decode(message.payload).ok_or(Failed::Silent)?;
            let (part, is_last) = match reply {
                Reply::Part(part) => (part, false),
                Reply::Last(part) => (part, true),
                Reply::Taken => return Ok(Ok(Polled::Taken).into()),
                Reply::Unknown => return Ok(Err(PollRefusal::UnknownSession).into()),
                Reply::Unfit => return Ok(Err(PollRefusal::BadRequest).into()),
                Reply::Overloaded => return Ok(Err(PollRefusal::Overloaded).into()),
            };
            payload.extend_from_slice(&part);
            let next = message.reply.ok_or(Failed::Silent)?;
            if payload.len() > CLUSTER_POLL_ANSWER_BYTES_MAX {
                return Err(Failed::Silent);
            }
            if is_last {
                return Ok(Answer { polled: Ok(Polled::Payload(payload)), receipt: Some(next) });
            }
            let part = self.request(next, Ack::Next.encode(), short).await;
            message = part.map_err(|_| Failed::Silent)?;
        }
    }

    /// Waits until the node stops, and a little longer.
    async fn must_release(&self) {
        // It cannot fail, because the other end is this desk's.
        let _ = self.is_stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
        sleep(Duration::from_millis(CLUSTER_POLL_RELEASE_MS)).await;
    }
}
