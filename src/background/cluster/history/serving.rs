//! What this node answers when others ask for its share.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use tokio::time::sleep;

use super::{Shared, apart};
use crate::cluster::history::parts::{WORKING, cut};
use crate::cluster::history::{Answer, Question, Refusal};
use crate::limits::{CLUSTER_HISTORY_APART_BYTES, CLUSTER_HISTORY_WORKING_MS};

impl Shared {
    /// Answers a question. Says meanwhile that the node is looking for the answer.
    pub(super) async fn answer(self: Arc<Self>, message: Message) {
        self.counters.cluster_history_answered.add(1);
        let Message { reply: Some(reply), payload, .. } = message else { return };
        let client = self.post.control.client();
        let answer = match Question::decode(&payload) {
            Some(question) => {
                let mut looking = pin!(self.own.ask(question, self.post.node.clone()));
                loop {
                    tokio::select! {
                        answer = &mut looking => break answer,
                        () = sleep(Duration::from_millis(CLUSTER_HISTORY_WORKING_MS)) => {
                            let _ = client.publish(reply.clone(), WORKING.into()).await;
                        }
                    }
                }
            }
            None => Answer::Refused(Refusal::Failed),
        };
        let Some(bytes) = apart(is_long(&answer), move || answer.encode()).await else { return };
        for part in cut(&bytes) {
            // The node that asks notices that something is missing.
            let _ = client.publish(reply.clone(), part.into()).await;
        }
    }

    /// Refuses a question, because too many are being answered.
    pub(super) async fn refuse(&self, message: &Message) {
        self.counters.cluster_history_refused.add(1);
        let Some(reply) = &message.reply else { return };
        for part in cut(&Answer::Refused(Refusal::Busy).encode()) {
            let _ = self.post.control.client().publish(reply.clone(), part.into()).await;
        }
    }
}

/// Returns whether the bytes of an answer take long to write.
fn is_long(answer: &Answer) -> bool {
    let bytes = match answer {
        Answer::Read(messages) => messages.iter().map(|(_, one)| one.payload.len()).sum(),
        Answer::Counted(share) => share.events.iter().map(|(name, _)| name.len()).sum(),
        _ => 0,
    };
    bytes > CLUSTER_HISTORY_APART_BYTES
}
