//! Long-polling requests that reach another node than that of their session: a thread that passes
//! this node's on, and asks the workers for other nodes.
//!
//! It acts as an acceptor for clients of other nodes. What nodes say to each other is in
//! [`crate::cluster::polls`]. Nothing is lost in silence: if packets may not have reached the
//! client, the session ends.

mod answering;
mod asking;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, Request, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::administration::Peers;
use super::control::{self, Control};
use crate::background::mail::{ring, until_mail};
use crate::cluster::name::NodeName;
use crate::cluster::polls::Word;
use crate::limits::{
    CLUSTER_POLL_LOOK_MS, CLUSTER_POLL_MAIL_MAX, CLUSTER_POLL_MAIL_RETRY_MS, REGISTER_RETRY_MS,
};
use crate::mailbox::{Inbox, Mail, Mailboxes, Passing, PassingEnds, PollTicket, Slot, Tickets};
use crate::message::{NodeTag, Refused, SessionId};
use crate::metrics::Counters;

/// The other nodes that are heard; `None` before the node has joined.
type Heard = Option<Vec<NodeTag>>;

/// Where the node's place in the cluster says which other nodes are heard.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<watch::Sender<Heard>>);

/// The end of the thread.
#[derive(Debug)]
pub struct Ear(watch::Receiver<Heard>);

/// Opens the way.
pub fn hearing() -> (Hearing, Ear) {
    let (told, heard) = watch::channel(None);
    (Hearing(Arc::new(told)), Ear(heard))
}

impl Hearing {
    /// Tells which nodes are heard, as long as `peers` does.
    pub(super) async fn follow(self, mut peers: Peers) {
        loop {
            let tags = peers.borrow_and_update().iter().map(NodeName::tag).collect();
            self.0.send_replace(Some(tags));
            if peers.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Asks the worker of a session, which answers under the ticket. With a body the client sends
/// packets, otherwise it asks for packets.
pub type Ask = dyn Fn(SessionId, Option<Bytes>, PollTicket) -> Result<(), Refused> + Send;

/// What the thread needs of its node.
pub struct Part {
    /// What stands for this node in ids of sessions.
    pub tag: NodeTag,
    /// How it connects to NATS.
    pub control: control::Settings,
    /// What it takes from acceptors and workers.
    pub ends: PassingEnds,
    /// The mailboxes of all threads.
    pub mailboxes: Arc<Mailboxes>,
    /// How it asks workers.
    pub ask: Box<Ask>,
    /// Returns whether the node is stopping.
    pub is_stopping: Box<dyn Fn() -> bool + Send>,
    /// What it knows of other nodes.
    pub ear: Ear,
    /// How long other nodes may take.
    pub patience: Patience,
}

/// How long other nodes may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To answer a poll.
    pub poll: Duration,
    /// To tell whether their client has received an answer.
    pub receipt: Duration,
}

/// The state that all requests share.
struct Desk {
    tag: NodeTag,
    control: control::Settings,
    tickets: Tickets,
    mailboxes: Arc<Mailboxes>,
    ask: Box<Ask>,
    patience: Patience,
    heard: watch::Receiver<Heard>,
    counters: Arc<Counters>,
    /// The connection, once the node has joined and takes requests of other nodes.
    client: RefCell<Option<Client>>,
    /// How often the connection was made.
    connects: watch::Sender<u64>,
    is_stopping: watch::Sender<bool>,
    /// Take the ends of requests that were passed on, by number.
    ends: RefCell<HashMap<u64, oneshot::Sender<bool>>>,
}

/// Passes requests on, and answers those of other nodes, as long as the process lives.
///
/// # Errors
/// If the system gives no runtime or no descriptors.
pub fn serve(part: Part, counters: Arc<Counters>) -> io::Result<()> {
    let Part { tag, control, ends, mailboxes, ask, is_stopping, ear, patience } = part;
    let PassingEnds { asked, answers, tickets } = ends;
    let desk = Rc::new(Desk {
        tag,
        control,
        tickets,
        mailboxes,
        ask,
        patience,
        heard: ear.0,
        counters,
        client: RefCell::default(),
        connects: watch::Sender::new(0),
        is_stopping: watch::Sender::new(false),
        ends: RefCell::default(),
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        tokio::try_join!(
            desk.clone().take_asked(asked, is_stopping),
            desk.clone().take_answers(answers),
            desk.clone().listen(),
        )?;
        Ok(())
    })
}

/// Why a request to another node has failed.
enum Failed {
    /// No such node runs.
    NoNode,
    /// It may have been carried out.
    Silent,
}

impl Desk {
    /// Takes what acceptors post.
    async fn take_asked(
        self: Rc<Self>,
        inbox: Inbox<Passing>,
        is_stopping: Box<dyn Fn() -> bool + Send>,
    ) -> io::Result<()> {
        let ring = ring(&inbox)?;
        loop {
            for _ in 0..CLUSTER_POLL_MAIL_MAX {
                match inbox.take(|_| Slot::Control) {
                    Some(Passing::Asked(number, poll, ticket)) => {
                        let (end, ended) = oneshot::channel();
                        self.ends.borrow_mut().insert(number, end);
                        spawn_local(self.clone().pass_on(poll, ticket, ended));
                    }
                    Some(Passing::Ended(number, is_received)) => {
                        let end = self.ends.borrow_mut().remove(&number);
                        // A request whose answer had no packets may be over already.
                        let _ = end.map(|end| end.send(is_received));
                    }
                    None => break,
                }
            }
            if is_stopping() {
                self.is_stopping.send_replace(true);
            }
            until_mail(&inbox, &ring).await;
        }
    }

    /// Takes the answers of workers.
    async fn take_answers(
        self: Rc<Self>,
        inbox: Inbox<crate::mailbox::Answered>,
    ) -> io::Result<()> {
        let ring = ring(&inbox)?;
        loop {
            for _ in 0..CLUSTER_POLL_MAIL_MAX {
                let Some(answer) = inbox.take(|_| Slot::Control) else { break };
                self.tickets.settle(answer);
            }
            until_mail(&inbox, &ring).await;
        }
    }

    /// Takes requests of other nodes, once this one has joined.
    async fn listen(self: Rc<Self>) -> io::Result<()> {
        if self.heard.clone().wait_for(Option::is_some).await.is_err() {
            pending::<()>().await;
        }
        let mut trouble = String::new();
        let client = loop {
            let inbox = self.control.prefix.poll_answers();
            match Control::connect_with_inbox(self.control.clone(), inbox).await {
                Ok(control) => break control.client().clone(),
                Err(error) => {
                    let text = error.to_string();
                    if text != trouble {
                        tracing::warn!("long-polling requests cannot be passed on: {text}");
                    }
                    trouble = text;
                    sleep(Duration::from_millis(REGISTER_RETRY_MS)).await;
                }
            }
        };
        let subject = self.control.prefix.polls(self.tag);
        loop {
            if let Ok(words) = client.subscribe(subject.clone()).await {
                self.client.replace(Some(client.clone()));
                self.serve(&client, words).await;
            }
            sleep(Duration::from_millis(REGISTER_RETRY_MS)).await;
        }
    }

    /// Serves as long as the subscription lasts.
    async fn serve(self: &Rc<Self>, client: &Client, mut words: Subscriber) {
        let mut look = interval(Duration::from_millis(CLUSTER_POLL_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = words.next() => match message {
                    Some(message) => drop(spawn_local(self.clone().answer(message))),
                    None => return,
                },
                _ = look.tick() => {
                    let connects = client.statistics().connects.load(Ordering::Relaxed);
                    self.connects.send_if_modified(|last| {
                        std::mem::replace(last, connects) != connects
                    });
                }
            }
        }
    }

    /// Returns the connection to NATS; `None` while it is lost.
    fn client(&self) -> Option<Client> {
        let client = self.client.borrow().clone();
        client.filter(|client| client.connection_state() == State::Connected)
    }

    /// Asks another node, on a subject of its own or on that for an answer.
    async fn request(
        &self,
        subject: impl Into<async_nats::Subject>,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<Message, Failed> {
        let client = self.client().ok_or(Failed::Silent)?;
        let request = Request::new().payload(bytes).timeout(Some(patience));
        let answer = client.send_request(subject.into(), request).await;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Failed::NoNode,
            _ => Failed::Silent,
        })
    }

    /// Sends a message to another node, which may be lost.
    async fn say(&self, subject: impl Into<async_nats::Subject>, bytes: Bytes) {
        let Some(client) = self.client() else { return };
        let _ = client.publish(subject.into(), bytes).await;
    }

    /// Tells a node something about one of its sessions.
    async fn tell(&self, node: NodeTag, word: &Word) {
        self.say(self.control.prefix.polls(node), word.encode()).await;
    }

    /// Waits until a node that is heard is silent.
    async fn silent(&self, node: NodeTag) {
        let mut heard = self.heard.clone();
        let is_heard = |tags: &Heard| tags.iter().flatten().any(|tag| *tag == node);
        if heard.wait_for(is_heard).await.is_ok()
            && heard.wait_for(|tags| !is_heard(tags)).await.is_ok()
        {
            return;
        }
        // The other end outlives the thread.
        pending::<()>().await;
    }

    /// Posts mail about a session of this node to its worker.
    async fn post(&self, session: SessionId, mail: fn(SessionId) -> Mail) {
        while self.mailboxes.control(session.worker, mail(session)).is_err() {
            sleep(Duration::from_millis(CLUSTER_POLL_MAIL_RETRY_MS)).await;
        }
    }
}
