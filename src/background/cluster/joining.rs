//! A node's place in its cluster: it joins, stays in the register while it serves, and leaves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::administration::invocations;
use super::administration::{self, Peers, Post};
use super::control::{self, Control};
use super::documents::Outside;
use super::entries::Found;
use super::history::{self, Desk};
use super::polls::Hearing;
use super::register::{self, Candidate, JoinError, Joined, NotJoined, Outcome};
use super::seat::{Ask, News, Seat};
use super::sessions::Asked;
use super::settings::Settings;
use crate::background::Administering;
use crate::background::histories::Gatherer;
use crate::cluster::name::{Incarnation, NodeName, Stream};
use crate::cluster::wire::Origin;
use crate::config::Effective;
use crate::limits::{REGISTER_LOOK_MS, REGISTER_REFUSED_MS, REGISTER_RETRY_MS};
use crate::message::Millis;
use crate::metrics::Counters;

/// A node that is to be part of a cluster.
pub struct Member {
    /// The name, which no other node of the cluster may have.
    pub name: NodeName,
    /// When it started, in milliseconds since the epoch.
    pub started: Millis,
    /// What it is set up with, which reloads replace.
    pub effective: Arc<ArcSwap<Effective>>,
    /// How it connects, and what the streams are to be.
    pub control: control::Settings,
    /// Returns the longest time for which clients may ask for what they have missed, by the
    /// configuration and by the definitions of channels.
    pub window: Box<dyn Fn() -> Duration + Send + Sync>,
    /// The ways to the writer, which stores what administrators set, and passes on what platforms
    /// register.
    pub administration: Administering,
    /// Takes what a platform has registered or revoked on a node.
    pub take_invocation: super::Take,
    /// The way to the thread of documents.
    pub documents: Arc<Outside>,
    /// The way of wishes for sessions.
    pub sessions: Arc<Asked>,
    /// The way to the threads of the store, for what all nodes keep of history.
    pub history: Gatherer,
    /// Where the thread is told which nodes are heard that passes long-polling requests on; `None`
    /// without one.
    pub polls: Option<Hearing>,
}

/// What an attempt to join has come to.
pub(super) enum Attempt {
    /// The node is part of the cluster.
    Joined(Box<Place>),
    /// It may not be for this reason.
    Refused(NotJoined),
    /// It is not known whether it may.
    Failed(JoinError),
}

/// The place of a start of the node in the cluster.
pub(super) struct Place {
    pub(super) origin: Origin,
    pub(super) joined: Box<Joined>,
    control: Control,
}

impl Member {
    /// Returns what the thread must know to serve in this place.
    pub(super) fn settings(&self, place: &Place, seat: Seat) -> Settings {
        let effective = self.effective.load();
        let cluster = &effective.config.cluster;
        Settings {
            line: self.control.line.clone(),
            prefix: cluster.prefix.as_str().into(),
            origin: place.origin.clone(),
            registered: place.joined.revision,
            patience: cluster.publish_timeout_ms,
            audience_patience: cluster.audience_ms,
            seat: Some(seat),
            documents: Some(self.documents.clone()),
            sessions: Some(self.sessions.clone()),
        }
    }

    async fn join_as(&self, control: &Control, origin: &Origin) -> Result<Outcome, JoinError> {
        let effective = self.effective.load_full();
        let candidate = Candidate { origin, started: self.started, effective: &effective };
        register::join(control, candidate, (self.window)()).await
    }

    /// Tries to join as a new start of the node.
    async fn try_join(&self) -> Result<Result<Place, NotJoined>, JoinError> {
        let origin = Origin { node: self.name.clone(), incarnation: Incarnation(rand::random()) };
        let control = Control::connect(self.control.clone()).await?;
        let outcome = self.join_as(&control, &origin).await?;
        Ok(match outcome {
            Outcome::Joined(joined) => Ok(Place { origin, joined, control }),
            Outcome::NotJoined(refused) => Err(refused),
        })
    }

    /// Tries to join until the node has joined, and tells what each attempt has come to.
    pub(super) async fn join(self: Arc<Self>, told: mpsc::Sender<Attempt>) {
        loop {
            let (attempt, pause) = match self.try_join().await {
                Ok(Ok(place)) => (Attempt::Joined(Box::new(place)), None),
                Ok(Err(refused)) => (Attempt::Refused(refused), Some(REGISTER_REFUSED_MS)),
                Err(error) => (Attempt::Failed(error), Some(REGISTER_RETRY_MS)),
            };
            let (Ok(()), Some(pause)) = (told.send(attempt).await, pause) else { return };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Keeps the node in the register and the streams alive, and follows what administrators set,
    /// until the thread of the cluster ends or the node must register again. Then takes the node
    /// out of the register.
    pub(super) async fn stay(
        self: Arc<Self>,
        place: Place,
        mut asks: mpsc::Receiver<Ask>,
        news: mpsc::Sender<News>,
        (peers, counters): (Peers, Arc<Counters>),
    ) {
        let Place { origin, joined, control } = &place;
        let (over, is_over) = oneshot::channel();
        let (all, has_all) = oneshot::channel();
        let (cluster, node) = (joined.cluster.as_str().into(), origin.node.clone());
        let heard = peers.clone();
        let post = Arc::new(Post { control: control.clone(), cluster, node, peers });
        let for_history = post.clone();
        let (administration, shared) = (self.administration.changes.clone(), post.clone());
        let following = tokio::spawn(async move {
            administration::run(&mut *administration.lock().await, &shared, all, is_over).await;
        });
        let (over_too, is_over) = oneshot::channel();
        let (every, has_every) = oneshot::channel();
        let (waiting, take) =
            (self.administration.invocations.clone(), self.take_invocation.clone());
        let invoked = tokio::spawn(async move {
            let mut waiting = waiting.lock().await;
            invocations::run(&mut waiting, &take, &post, every, is_over).await;
        });
        let (over_history, is_over) = oneshot::channel();
        let (history, register) = (self.history.clone(), joined.register.clone());
        let nodes = joined.nodes.iter().map(|one| one.origin.node.clone()).collect();
        let gathered = tokio::spawn(async move {
            let desk = Desk { post: for_history, register, nodes, counters };
            history::run(&mut *history.lock().await, desk, is_over).await;
        });
        let (order, claims) = joined.anchors;
        for (stream, anchor) in [(Stream::Order, order), (Stream::Claims, claims)] {
            if let Some(anchor) = anchor {
                let _ = news.send(News::Remembered(stream, anchor)).await;
            }
        }
        // Before, the node would serve without what administrators and platforms have set.
        let has_all = tokio::select! {
            has_all = async { tokio::join!(has_all, has_every) } => {
                has_all.0.is_ok() && has_all.1.is_ok()
            }
            () = until_over(&mut asks) => false,
        };
        let mut revision = joined.revision;
        let hearing = self.polls.clone().filter(|_| has_all);
        let hearing = hearing.map(|hearing| tokio::spawn(hearing.follow(heard)));
        if has_all {
            let _ = news.send(News::Joined(Ok(()))).await;
            self.keep(&place, &mut asks, &mut revision).await;
        }
        drop((news, over, over_too, over_history));
        hearing.into_iter().for_each(|hearing| hearing.abort());
        for task in [following, invoked, gathered] {
            let Err(error) = task.await else { continue };
            tracing::error!(%error, "a task of the cluster has failed");
        }
        let leaving = joined.register.remove(&origin.node, revision);
        if timeout(Duration::from_millis(REGISTER_RETRY_MS), leaving).await.is_err() {
            tracing::warn!("the node could not be taken out of the register of the cluster");
        }
    }

    /// Keeps the node in the register and the streams alive, until the thread of the cluster ends
    /// or the node must register again.
    async fn keep(&self, place: &Place, asks: &mut mpsc::Receiver<Ask>, revision: &mut u64) {
        let Place { origin, joined, control } = place;
        let mut look = interval(Duration::from_millis(REGISTER_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = String::new();
        loop {
            let done = tokio::select! {
                _ = look.tick() => self.look(control, joined, origin, revision).await,
                ask = asks.recv() => match ask {
                    Some(Ask::Remember(stream, anchor)) => {
                        joined.register.remember(stream, anchor).await.map_err(JoinError::from)
                    }
                    Some(Ask::Look) => {
                        look.reset_immediately();
                        Ok(())
                    }
                    Some(Ask::Again) | None => return,
                },
            };
            let text = done.err().map(|error| error.to_string()).unwrap_or_default();
            if !text.is_empty() && text != trouble {
                tracing::warn!("the register of the cluster cannot be kept: {text}");
            }
            trouble = text;
        }
    }

    /// Refuses what administrators and platforms wish for, because the node has no place in the
    /// cluster.
    pub(super) fn refuse_wishes(&self) {
        if let Ok(mut administration) = self.administration.changes.try_lock() {
            administration.waiting.refuse_all();
        }
        if let Ok(mut invocations) = self.administration.invocations.try_lock() {
            invocations.refuse_all();
        }
        // What was passed on when the task ended.
        if let Ok(mut history) = self.history.try_lock() {
            history.give_up();
        }
    }

    /// Refuses what workers wish for sessions, for the same reason.
    pub(super) fn refuse_sessions(&self) {
        self.sessions.refuse_all();
    }

    /// Makes what the servers may have lost again: the streams, and the node's entry. Enters what a
    /// reload has changed.
    async fn look(
        &self,
        control: &Control,
        joined: &Joined,
        origin: &Origin,
        revision: &mut u64,
    ) -> Result<(), JoinError> {
        // An error means that the register is gone, or that joining fails, too.
        if let Ok(Found { revision: expected, value: Some(entered) }) =
            joined.register.node(&origin.node).await
        {
            control.prepare((self.window)()).await?;
            let effective = self.effective.load_full();
            let candidate = Candidate { origin, started: self.started, effective: &effective };
            register::update(joined, candidate, (&entered, expected), revision).await?;
            return Ok(());
        }
        match self.join_as(control, origin).await? {
            Outcome::Joined(joined) => *revision = joined.revision,
            Outcome::NotJoined(refused) => tracing::error!("{refused}"),
        }
        Ok(())
    }
}

/// Waits until the thread of the cluster ends, or the node must register again.
async fn until_over(asks: &mut mpsc::Receiver<Ask>) {
    while !matches!(asks.recv().await, Some(Ask::Again) | None) {}
}
