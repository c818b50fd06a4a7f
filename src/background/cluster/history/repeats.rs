//! Messages that were published again on this node, and that another one may have.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::background::histories::Gathering;
use crate::cluster::history::{Answer, Question};
use crate::limits::CLUSTER_REPEAT_ASK_MS;
use crate::mailbox::{Keep, Mailboxes, StoreRefusal};
use crate::message::{Attempt, MessageName};

/// A message that has its place in the queue to history. If no node is found that has it, it goes
/// back into that queue.
struct Repeat {
    keep: Option<Keep>,
    mailboxes: Arc<Mailboxes>,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if let Some(keep) = self.keep.take() {
            put_back(keep, &self.mailboxes);
        }
    }
}

/// Has this node keep a message.
fn put_back(mut keep: Keep, mailboxes: &Mailboxes) {
    keep.record.attempt = Attempt::Checked;
    mailboxes.history.fulfil(keep);
}

impl Repeat {
    /// Answers the publisher, because another node has the message.
    fn confirm(mut self) {
        let Some(keep) = self.keep.take() else { return };
        self.mailboxes.history.taken(&keep);
        if let Some(ticket) = keep.ticket {
            self.mailboxes.answer(ticket, keep.level);
        }
    }
}

impl Shared {
    /// Looks for a message on the other nodes. If none has it, this one keeps it.
    pub(super) async fn check(self: Arc<Self>, keep: Keep) {
        let (name, level) = (MessageName::of(&keep.record.publication), keep.level);
        let repeat = Repeat { keep: Some(keep), mailboxes: self.mailboxes.clone() };
        let Some(name) = name else { return };
        let begin = Instant::now();
        let mut others = self.nodes();
        others.remove(&self.post.node);
        for after in CLUSTER_REPEAT_ASK_MS {
            if others.is_empty() {
                break;
            }
            sleep_until(begin + Duration::from_millis(after)).await;
            let question = Question::Has(name.clone(), level);
            let questions = others.iter().map(|node| (node.clone(), question.clone()));
            for (node, answer) in self.ask_all(questions).await {
                match answer {
                    Some(Answer::Has(true)) => {
                        self.counters.cluster_history_repeats.add(1);
                        return repeat.confirm();
                    }
                    Some(_) => {}
                    None => drop(others.remove(&node)),
                }
            }
        }
    }
}

impl Gathering {
    /// Closes the way to the task, refuses the callers that wait there, and has this node keep the
    /// messages that other nodes may have.
    pub(in crate::background::cluster) fn give_up(&mut self) {
        self.open(false);
        while let Ok(asked) = self.asked.try_recv() {
            asked.refuse(&self.mailboxes, StoreRefusal::Busy);
        }
        while let Ok(keep) = self.repeats.try_recv() {
            put_back(keep, &self.mailboxes);
        }
    }
}
