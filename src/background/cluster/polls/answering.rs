//! Requests of other nodes, whose clients have sessions of this one.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;

use super::Desk;
use crate::cluster::polls::{Ack, Reply, Word};
use crate::limits::{CLUSTER_POLL_ANSWER_MS, CLUSTER_POLL_PART_BYTES};
use crate::mailbox::{Mail, PollRefusal, Polled};
use crate::message::{NodeTag, SessionId};
use crate::metrics::{Counter, Counters};

/// Counts a request of another node as under way until it is answered.
struct UnderWay<'a>(&'a Counter);

impl<'a> UnderWay<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.cluster_polls_answered.add(1);
        counters.cluster_polls_under_way.add(1);
        Self(&counters.cluster_polls_under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl Desk {
    /// Does what another node says.
    pub(super) async fn answer(self: Rc<Self>, message: Message) {
        // All nodes say this, or they would not have joined.
        let Some(word) = Word::decode(message.payload) else { return };
        let session = word.session();
        let is_here = session.worker.index() < self.mailboxes.workers.len();
        match (word, message.reply) {
            (_, Some(reply)) if !is_here => self.say(reply, Reply::Unknown.encode()).await,
            (Word::Gone(_), _) if is_here => self.post(session, Mail::PollGone).await,
            (Word::Release(_), _) if is_here => self.post(session, Mail::PollRelease).await,
            (Word::Get(_, asker), Some(reply)) => {
                let _under_way = UnderWay::new(&self.counters);
                let answer = self.ask_worker(session, None, Some(asker)).await;
                self.reply(reply, answer, (session, asker)).await;
            }
            (Word::Post(_, body), Some(reply)) => {
                let _under_way = UnderWay::new(&self.counters);
                // A copy, because a part of it may live longer than what it was received with.
                let body = Bytes::copy_from_slice(&body);
                let answer = self.ask_worker(session, Some(body), None).await;
                self.reply(reply, answer, (session, self.tag)).await;
            }
            _ => {}
        }
    }

    /// Asks the worker of a session. If the node that asks is silent, the session ends, and with
    /// that its waiting poll.
    async fn ask_worker(
        &self,
        session: SessionId,
        body: Option<Bytes>,
        asker: Option<NodeTag>,
    ) -> Result<Polled, PollRefusal> {
        let put = self
            .tickets
            .inquiry()
            .and_then(|inquiry| inquiry.put(|ticket| (self.ask)(session, body, ticket)).ok());
        let Some(((), mut answering)) = put else {
            self.counters.cluster_polls_refused.add(1);
            return Err(PollRefusal::Overloaded);
        };
        let Some(asker) = asker else { return answering.await };
        tokio::select! {
            biased;
            answer = &mut answering => return answer,
            () = self.silent(asker) => self.post(session, Mail::PollGone).await,
        }
        answering.await
    }

    /// Answers another node. If its client may have missed packets, the session ends.
    async fn reply(
        &self,
        reply: Subject,
        answer: Result<Polled, PollRefusal>,
        (session, asker): (SessionId, NodeTag),
    ) {
        let short = match answer {
            Ok(Polled::Payload(payload)) => {
                let mut delivering = pin!(self.deliver(reply, &payload));
                let ack = tokio::select! {
                    biased;
                    ack = &mut delivering => ack,
                    () = self.silent(asker) => None,
                };
                if ack.is_none() {
                    self.counters.cluster_polls_lost.add(1);
                }
                if ack != Some(Ack::Received) {
                    self.post(session, Mail::PollGone).await;
                }
                return;
            }
            Ok(Polled::Taken) => Reply::Taken,
            Err(PollRefusal::UnknownSession) => Reply::Unknown,
            Err(PollRefusal::BadRequest) => Reply::Unfit,
            // No request of another node opens a session.
            Err(PollRefusal::TooMany | PollRefusal::Overloaded) => Reply::Overloaded,
        };
        self.say(reply, short.encode()).await;
    }

    /// Sends the parts of an answer. Returns what the other node says in the end; `None` if it does
    /// not answer.
    async fn deliver(&self, mut reply: Subject, payload: &[u8]) -> Option<Ack> {
        let mut parts = payload.chunks(CLUSTER_POLL_PART_BYTES).peekable();
        loop {
            let part = Bytes::copy_from_slice(parts.next().unwrap_or_default());
            let is_last = parts.peek().is_none();
            let (word, patience) = match is_last {
                true => (Reply::Last(part), self.patience.receipt),
                false => (Reply::Part(part), Duration::from_millis(CLUSTER_POLL_ANSWER_MS)),
            };
            let message = self.request(reply, word.encode(), patience).await.ok()?;
            match (Ack::decode(&message.payload)?, message.reply) {
                (Ack::Next, Some(next)) if !is_last => reply = next,
                (Ack::Received, _) if !is_last => return None,
                (ack, _) => return Some(ack),
            }
        }
    }
}
