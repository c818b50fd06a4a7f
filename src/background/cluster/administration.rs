//! What administrators set for all nodes: a task that follows the cluster's bucket of it, and puts
//! changes there.
//!
//! A change is planned against what the writer's store has followed, at one revision of the bucket,
//! and put only if the bucket is still there. So all nodes make the same changes in one order, and
//! a definition whose pattern is taken, on whatever node, is refused. The node that put it waits
//! until it has followed the change itself, and until the other nodes say that they have, for a
//! while: the answer names those that did not.

mod confirming;
mod follower;
pub(super) mod import;
pub(super) mod invocations;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use tokio::sync::{oneshot, watch};
use tokio::time::{interval, sleep_until};

use super::control::Control;
use crate::background::admin::sharing::{Administration, Call, Plan, Waiting};
use crate::background::admin::{Planned, answer};
use crate::cluster::admin::Entry;
use crate::cluster::name::NodeName;
use crate::limits::{
    ADMIN_ATTEMPTS_MAX, ADMIN_ENTRY_BYTES_MAX, ADMIN_WAITING_MAX, REGISTER_LOOK_MS,
};
use crate::mailbox::{StoreRefusal, Wish};
use confirming::{Confirming, Settled, Word, Words};
use follower::{Follower, Lost, Next};
use rounds::{Followed, Over, Rounds};

/// The other nodes that are heard.
pub(super) type Peers = watch::Receiver<Vec<NodeName>>;

/// What the task needs to know of the node's place in the cluster.
pub(super) struct Post {
    pub(super) control: Control,
    /// The id of the cluster.
    pub(super) cluster: Arc<str>,
    pub(super) node: NodeName,
    pub(super) peers: Peers,
}

/// Follows and changes what all nodes share until `over` is told or dropped. `followed` is told
/// when the store has all of it for the first time.
pub(super) async fn run(
    administration: &mut Administration,
    post: &Post,
    followed: oneshot::Sender<()>,
    over: Over,
) {
    let what = "what administrators set for all nodes";
    rounds::run(&mut Shared { administration, post }, what, followed, over).await;
}

/// The bucket of what administrators set.
struct Shared<'a> {
    administration: &'a mut Administration,
    post: &'a Post,
}

impl Rounds for Shared<'_> {
    async fn round(&mut self, followed: &mut Followed, over: &mut Over) -> Option<Lost> {
        let round = tokio::select! {
            round = Round::begin(self.administration, self.post) => round,
            _ = &mut *over => return None,
        };
        match round {
            Ok(round) => {
                followed.tell();
                round.serve(over).await
            }
            Err(lost) => Some(lost),
        }
    }

    fn waiting(&mut self) -> &mut Waiting {
        &mut self.administration.waiting
    }
}

/// Serves as long as the bucket can be followed.
struct Round<'a> {
    administration: &'a mut Administration,
    post: &'a Post,
    follower: Follower,
    confirming: Confirming<(Wish, Entry)>,
    words: Words,
}

impl<'a> Round<'a> {
    async fn begin(administration: &'a mut Administration, post: &'a Post) -> Result<Self, Lost> {
        let words = Words::begin(post, post.control.settings().prefix.followed()).await?;
        let follower = Follower::begin(administration, post).await?;
        words.tell(follower.revision()).await;
        let confirming = Confirming::default();
        Ok(Self { administration, post, follower, confirming, words })
    }

    /// Returns why the bucket cannot be followed any more; `None` if the node ends.
    async fn serve(mut self, over: &mut oneshot::Receiver<()>) -> Option<Lost> {
        let mut look = interval(Duration::from_millis(REGISTER_LOOK_MS));
        loop {
            let due = self.confirming.due();
            let done = tokio::select! {
                biased;
                _ = &mut *over => {
                    self.give_up();
                    return None;
                }
                word = self.words.next() => match word {
                    Ok(word) => {
                        self.heard(word).await;
                        Ok(())
                    }
                    Err(lost) => Err(lost),
                },
                next = self.follower.next() => self.follow(next).await,
                () = sleep_until(due.into()) => {
                    self.overdue().await;
                    Ok(())
                }
                wish = self.administration.waiting.next(),
                    if self.confirming.len() < ADMIN_WAITING_MAX => match wish {
                    Some(wish) => self.carry_out(wish).await,
                    None => return None,
                },
                _ = look.tick() => self.follower.look(&self.post.control).await,
            };
            if let Err(lost) = done {
                self.give_up();
                return Some(lost);
            }
        }
    }

    /// Answers those whose changes are made, because no node will confirm any more.
    fn give_up(&mut self) {
        let all = self.confirming.take_all();
        self.answer(all);
    }

    fn answer(&self, settled: Vec<Settled<(Wish, Entry)>>) {
        for ((wish, entry), unconfirmed) in settled {
            answer(self.administration.waiting.mailboxes(), wish, Ok(entry), unconfirmed);
        }
    }

    /// Plans and puts a change. The change is made everywhere when this returns, or refused, or the
    /// administrator was told that it is not known.
    async fn carry_out(&mut self, wish: Wish) -> Result<(), Lost> {
        let mut wish = wish;
        for _ in 0..ADMIN_ATTEMPTS_MAX {
            let asked = self.administration.ask(|answer| Call::Plan(wish, answer)).await;
            let (returned, plan) = asked.map_err(Lost::Store)?;
            wish = returned;
            let plan = match plan {
                Ok(plan) => plan,
                Err(refusal) => return self.refused(wish, refusal),
            };
            let Plan { revision, planned: Planned { entry, is_deletion } } = plan;
            match put(&self.post.control, &entry, is_deletion, revision).await {
                Ok(revision) => {
                    self.confirming.add((wish, entry), revision, self.post.nodes());
                    return Ok(());
                }
                Err(Unput::Behind) => {
                    self.follower.catch_up(self.administration, self.post).await?;
                }
                Err(Unput::Refused(refusal)) => return self.refused(wish, refusal),
            }
        }
        self.refused(wish, StoreRefusal::Busy)
    }

    fn refused(&self, wish: Wish, refusal: StoreRefusal) -> Result<(), Lost> {
        self.administration.waiting.refuse(wish, refusal);
        Ok(())
    }

    /// Has the store take changes, says that they are in force here, and answers what waited for
    /// that.
    async fn follow(&mut self, next: Next) -> Result<(), Lost> {
        self.follower.take(next, self.administration).await?;
        self.confirming.confirmed(&self.post.node, self.follower.revision());
        self.words.tell(self.follower.revision()).await;
        self.settle();
        Ok(())
    }

    async fn heard(&mut self, word: Option<Word>) {
        match word {
            Some(Word::Asked) => self.words.tell(self.follower.revision()).await,
            Some(Word::Followed(node, revision)) => {
                self.confirming.confirmed(&node, revision);
                self.settle();
            }
            None => {}
        }
    }

    /// Asks nodes that have not confirmed, or goes on without them.
    async fn overdue(&mut self) {
        if self.confirming.must_ask() {
            self.words.ask().await;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let settled = self.confirming.settled();
        self.answer(settled);
    }
}

impl Post {
    /// Returns the nodes that are to confirm a change: this one, and those that are heard.
    fn nodes(&self) -> Vec<NodeName> {
        let own = std::iter::once(&self.node);
        own.chain(self.peers.borrow().iter()).cloned().collect()
    }
}

/// Why a change was not put.
pub(super) enum Unput {
    /// The bucket is further than it was when the change was planned.
    Behind,
    /// It is refused, or not known.
    Refused(StoreRefusal),
}

/// Puts a change into the bucket if its last revision is this one. Returns the change's own.
pub(super) async fn put(
    control: &Control,
    entry: &Entry,
    is_deletion: bool,
    expected: u64,
) -> Result<u64, Unput> {
    let bucket = control.settings().prefix.administration();
    let subject = format!("$KV.{bucket}.{}", entry.key().text());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", expected.to_string());
    let text = if is_deletion {
        headers.insert("KV-Operation", "DEL");
        String::new()
    } else {
        entry.encode()
    };
    if text.len() > ADMIN_ENTRY_BYTES_MAX {
        let problem = format!("Longer than {ADMIN_ENTRY_BYTES_MAX} bytes");
        return Err(Unput::Refused(StoreRefusal::Invalid(problem)));
    }
    publish(control, subject, headers, text, "a change of an administrator").await
}

/// Publishes an entry of a bucket, which is `what` for the log. Returns its revision.
async fn publish(
    control: &Control,
    subject: String,
    headers: HeaderMap,
    text: String,
    what: &str,
) -> Result<u64, Unput> {
    let sent = control.context().publish_with_headers(subject, headers, text.into()).await;
    let stored = match sent {
        Ok(sent) => sent.await,
        Err(error) => Err(error),
    };
    stored.map(|stored| stored.sequence).map_err(|error| match error.kind() {
        PublishErrorKind::WrongLastSequence => Unput::Behind,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            Unput::Refused(StoreRefusal::Unknown)
        }
        _ => {
            tracing::warn!(%error, "NATS refuses {what}");
            Unput::Refused(StoreRefusal::Unavailable)
        }
    })
}
