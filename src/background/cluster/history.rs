//! One history of all nodes: a task that asks the others what they keep, and answers what they ask.
//!
//! Each node keeps what was published through it. A page is found in rounds of questions that all
//! nodes are asked at once ([`crate::cluster::history`]): where the page begins, which messages
//! each node has from there on, and then those that are on the page. If a node is silent, the
//! search begins again without it, and the answer names it.

mod asking;
mod repeats;
mod serving;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::administration::Post;
use super::entries::Register;
use crate::background::histories::{Gathering, Own, UNNAMED};
use crate::cluster::history::parts::{Come, Parts};
use crate::cluster::history::{Answer, Question, Refusal};
use crate::cluster::limits::NODES_MAX;
use crate::cluster::name::NodeName;
use crate::limits::{
    CLUSTER_HISTORY_ANSWERING_MAX, CLUSTER_HISTORY_APART_BYTES, CLUSTER_HISTORY_ASKING_MAX,
    CLUSTER_HISTORY_PAGES_MAX, CLUSTER_HISTORY_SILENCE_MS, CLUSTER_HISTORY_UNHEARD_MS,
    CLUSTER_REPEATS_ASKING_MAX, REGISTER_LOOK_MS, REGISTER_RETRY_MS,
};
use crate::mailbox::Mailboxes;
use crate::metrics::Counters;

/// The place of the task in the cluster.
pub(super) struct Desk {
    pub(super) post: Arc<Post>,
    pub(super) register: Register,
    /// The other nodes that were in the register when this one joined.
    pub(super) nodes: Vec<NodeName>,
    pub(super) counters: Arc<Counters>,
}

/// What all questions share.
struct Shared {
    post: Arc<Post>,
    counters: Arc<Counters>,
    own: Own,
    mailboxes: Arc<Mailboxes>,
    /// Nodes that have a share of history, as far as is known: this one, those in the register, and
    /// those that were heard.
    known: Mutex<BTreeSet<NodeName>>,
    /// Whether there are more than [`NODES_MAX`], so that some are not known.
    is_crowded: AtomicBool,
    /// Bounds the memory for pages.
    pages: Semaphore,
}

/// Serves until `over` is told or dropped.
pub(super) async fn run(gathering: &mut Gathering, desk: Desk, mut over: oneshot::Receiver<()>) {
    let Desk { post, register, nodes, counters } = desk;
    let (own, mailboxes) = (gathering.own.clone(), gathering.mailboxes.clone());
    let known = Mutex::new(nodes.into_iter().chain([post.node.clone()]).collect());
    let (is_crowded, pages) = (AtomicBool::new(false), Semaphore::new(CLUSTER_HISTORY_PAGES_MAX));
    let shared = Arc::new(Shared { post, counters, own, mailboxes, known, is_crowded, pages });
    let mut watching = JoinSet::new();
    watching.spawn(shared.clone().watch(register));
    gathering.open(true);
    while let Ended::Connection = serve(gathering, &shared, &mut over).await {
        tokio::select! {
            () = sleep(Duration::from_millis(REGISTER_RETRY_MS)) => {}
            _ = &mut over => break,
        }
    }
    gathering.give_up();
}

/// Why the task does not serve any more.
enum Ended {
    Connection,
    Node,
}

async fn serve(
    gathering: &mut Gathering,
    shared: &Arc<Shared>,
    over: &mut oneshot::Receiver<()>,
) -> Ended {
    let subject = shared.post.control.settings().prefix.history(&shared.post.node);
    let Ok(mut questions) = shared.post.control.client().subscribe(subject).await else {
        return Ended::Connection;
    };
    // What is under way at the end is given up: callers are refused.
    let (mut asking, mut checking, mut answering) =
        (JoinSet::new(), JoinSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            _ = &mut *over => return Ended::Node,
            question = questions.next() => match question {
                Some(question) if answering.len() < CLUSTER_HISTORY_ANSWERING_MAX => {
                    answering.spawn(shared.clone().answer(question));
                }
                Some(question) => shared.refuse(&question).await,
                None => return Ended::Connection,
            },
            asked = gathering.asked.recv(), if asking.len() < CLUSTER_HISTORY_ASKING_MAX => {
                let Some(asked) = asked else { return Ended::Node };
                asking.spawn(shared.clone().gather(asked));
            }
            keep = gathering.repeats.recv(), if checking.len() < CLUSTER_REPEATS_ASKING_MAX => {
                let Some(keep) = keep else { return Ended::Node };
                checking.spawn(shared.clone().check(keep));
            }
            Some(_) = answering.join_next() => {}
            Some(_) = asking.join_next() => {}
            Some(_) = checking.join_next() => {}
        }
    }
}

impl Shared {
    /// Notes which nodes are in the register and which are heard.
    async fn watch(self: Arc<Self>, register: Register) {
        loop {
            // Without an answer, what is known already holds.
            if let Ok(nodes) = register.nodes().await {
                self.note(nodes.into_iter().map(|one| one.origin.node));
            }
            let until = sleep(Duration::from_millis(REGISTER_LOOK_MS));
            let mut peers = self.post.peers.clone();
            tokio::pin!(until);
            loop {
                self.note(peers.borrow_and_update().iter().cloned());
                tokio::select! {
                    () = &mut until => break,
                    changed = peers.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    fn note(&self, nodes: impl Iterator<Item = NodeName>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for node in nodes {
            if known.len() < NODES_MAX {
                known.insert(node);
            } else if !known.contains(&node) {
                self.is_crowded.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Returns the names of nodes that have not answered, and [`UNNAMED`] if there may be others.
    fn names(&self, silent: &BTreeSet<NodeName>) -> Vec<Box<str>> {
        let unnamed = self.is_crowded.load(Ordering::Relaxed).then_some(UNNAMED);
        silent.iter().map(NodeName::as_str).chain(unnamed).map(Into::into).collect()
    }

    /// Returns the nodes that are known.
    fn nodes(&self) -> BTreeSet<NodeName> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks nodes at once, each its own question. Of a node that does not answer in time, the
    /// answer is `None`.
    async fn ask_all(
        &self,
        questions: impl IntoIterator<Item = (NodeName, Question)>,
    ) -> Vec<(NodeName, Option<Answer>)> {
        let asking = questions.into_iter().map(|(node, question)| async move {
            let answer = self.ask(&node, question).await;
            (node, answer)
        });
        join_all(asking).await
    }

    async fn ask(&self, node: &NodeName, question: Question) -> Option<Answer> {
        if *node == self.post.node {
            return Some(self.own.ask(question, node.clone()).await);
        }
        self.counters.cluster_history_asked.add(1);
        let answer = self.ask_other(node, &question).await;
        if matches!(answer, None | Some(Answer::Refused(Refusal::Failed))) {
            self.counters.cluster_history_unanswered.add(1);
        }
        answer
    }

    async fn ask_other(&self, node: &NodeName, question: &Question) -> Option<Answer> {
        let client = self.post.control.client();
        if client.connection_state() != State::Connected {
            return None;
        }
        let prefix = &self.post.control.settings().prefix;
        let answers = prefix.history_answers(&self.post.node, rand::random());
        let mut messages = client.subscribe(answers.clone()).await.ok()?;
        let (subject, body) = (prefix.history(node), question.encode());
        client.publish_with_reply(subject, answers, body.into()).await.ok()?;
        // One that is not heard may have just begun, or its node may have.
        let is_heard = self.post.peers.borrow().contains(node);
        let patience =
            if is_heard { CLUSTER_HISTORY_SILENCE_MS } else { CLUSTER_HISTORY_UNHEARD_MS };
        let bytes = receive(&mut messages, Duration::from_millis(patience)).await?;
        let is_long = bytes.len() > CLUSTER_HISTORY_APART_BYTES;
        apart(is_long, move || Answer::decode(&bytes)).await?
    }
}

/// Receives an answer. Returns `None` if the node is silent for too long, does not run, or sends
/// something else.
async fn receive(messages: &mut Subscriber, patience: Duration) -> Option<Vec<u8>> {
    let mut parts = Parts::default();
    loop {
        let next = timeout(patience, messages.next());
        let Message { payload, status, .. } = next.await.ok()??;
        if status == Some(StatusCode::NO_RESPONDERS) {
            return None;
        }
        match parts.take(payload) {
            Come::Part => {}
            Come::Whole(bytes) => return Some(bytes),
            Come::Broken => return None,
        }
    }
}

/// Does some work on a thread of its own if it takes long, because the thread of the cluster must
/// not. Returns `None` if the work has failed.
async fn apart<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if is_long { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}
