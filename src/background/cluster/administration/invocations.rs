//! Invocations that a platform registers on one node and all nodes know: a task that follows the
//! bucket of them, and puts there what is registered and revoked on this node.
//!
//! No store has invocations. The bucket has the latest word on each id until it expires, and a
//! node that joins reads all of it before it serves.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::kv::{self, Watch};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::{interval, sleep_until, timeout};

use super::confirming::{Confirming, Settled, Word, Words};
use super::follower::{Lost, Next, end_of};
use super::rounds::{self, Followed, Over, Rounds};
use super::{Post, Unput, publish};
use crate::background::admin::sharing::Waiting;
use crate::background::now;
use crate::cluster::invocations::{decode, encode, key, seconds_left};
use crate::limits::{
    ADMIN_ATTEMPTS_MAX, ADMIN_BATCH_MAX, INVOCATIONS_WAITING_MAX, NATS_CALL_MS, REGISTER_LOOK_MS,
};
use crate::mailbox::{Changed, StoreRefusal, Wish};
use crate::message::Invocation;

/// Takes what was registered or revoked on a node.
pub type Take = Arc<dyn Fn(&Invocation) + Send + Sync>;

/// Follows and changes the invocations of all nodes until `over` is told or dropped. `followed` is
/// told when the node knows all of them for the first time.
pub(in crate::background::cluster) async fn run(
    waiting: &mut Waiting,
    take: &Take,
    post: &Post,
    followed: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
) {
    let what = "the invocations of all nodes";
    rounds::run(&mut Invocations { waiting, take, post }, what, followed, over).await;
}

/// The bucket of invocations.
struct Invocations<'a> {
    waiting: &'a mut Waiting,
    take: &'a Take,
    post: &'a Post,
}

impl Rounds for Invocations<'_> {
    async fn round(&mut self, followed: &mut Followed, over: &mut Over) -> Option<Lost> {
        let round = tokio::select! {
            round = Round::begin(self.waiting, self.take, self.post) => round,
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
        self.waiting
    }
}

/// Serves as long as the bucket can be followed.
struct Round<'a> {
    waiting: &'a mut Waiting,
    take: &'a Take,
    post: &'a Post,
    bucket: kv::Store,
    watch: Watch,
    /// What tells this life of the bucket from others.
    life: String,
    /// How far the node has followed.
    revision: u64,
    confirming: Confirming<Wish>,
    words: Words,
}

impl<'a> Round<'a> {
    /// Opens the bucket and follows it up to its present end.
    async fn begin(waiting: &'a mut Waiting, take: &'a Take, post: &'a Post) -> Result<Self, Lost> {
        let words = Words::begin(post, post.control.settings().prefix.invoked()).await?;
        let bucket = post.control.invocations().await?;
        let (life, last) = end_of(&post.control, &bucket.name).await?;
        let watch = bucket.watch_all_from_revision(1).await;
        let watch = watch.map_err(|error| Lost::Bucket(error.to_string()))?;
        let confirming = Confirming::default();
        let mut round =
            Self { waiting, take, post, bucket, watch, life, revision: 0, confirming, words };
        while round.revision < last {
            let patience = Duration::from_millis(NATS_CALL_MS);
            match timeout(patience, round.watch.next()).await {
                Ok(next) => round.take(next)?,
                // The last ones may have expired meanwhile.
                Err(_) if round.newest().await? <= round.revision => break,
                Err(_) => return Err(Lost::Bucket("NATS does not send it".to_owned())),
            }
        }
        round.words.tell(round.revision).await;
        Ok(round)
    }

    /// Returns the revision of the last entry that the bucket has; 0 if it has none.
    async fn newest(&mut self) -> Result<u64, Lost> {
        let name = &self.bucket.stream_name;
        let info = self.post.control.info(name).await?;
        let state = info.map(|info| info.state);
        Ok(state.filter(|state| state.messages > 0).map_or(0, |state| state.last_sequence))
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
                next = self.watch.next() => self.follow(next).await,
                () = sleep_until(due.into()) => {
                    self.overdue().await;
                    Ok(())
                }
                wish = self.waiting.next(),
                    if self.confirming.len() < INVOCATIONS_WAITING_MAX => match wish {
                    Some(wish) => {
                        self.carry_out(wish).await;
                        Ok(())
                    }
                    None => return None,
                },
                _ = look.tick() => self.look().await,
            };
            if let Err(lost) = done {
                self.give_up();
                return Some(lost);
            }
        }
    }

    /// Takes an entry, and those that are there already.
    fn take(&mut self, first: Next) -> Result<(), Lost> {
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(entry) = next {
            let entry = entry.ok_or_else(|| Lost::Bucket("the consumer has ended".to_owned()))?;
            let entry = entry.map_err(|error| Lost::Bucket(error.to_string()))?;
            self.revision = entry.revision;
            match decode(&entry.value) {
                Some(invocation) => (self.take)(&invocation),
                None => tracing::error!(entry.revision, "an invocation cannot be read"),
            }
            taken += 1;
            let has_room = taken < ADMIN_BATCH_MAX;
            next = if has_room { self.watch.next().now_or_never() } else { None };
        }
        Ok(())
    }

    /// Takes what the bucket has, says so, and answers what waited for that.
    async fn follow(&mut self, next: Next) -> Result<(), Lost> {
        self.take(next)?;
        self.confirming.confirmed(&self.post.node, self.revision);
        self.words.tell(self.revision).await;
        self.settle();
        Ok(())
    }

    async fn heard(&mut self, word: Option<Word>) {
        match word {
            Some(Word::Asked) => self.words.tell(self.revision).await,
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

    /// Looks whether the bucket is still the same, which the consumer does not tell.
    async fn look(&mut self) -> Result<(), Lost> {
        let (life, last) = end_of(&self.post.control, &self.bucket.name).await?;
        if life == self.life && last >= self.revision {
            return Ok(());
        }
        Err(Lost::Bucket("its bucket was made anew, or has lost something".to_owned()))
    }

    /// Puts what is registered or revoked. It is known to NATS when this returns, or refused.
    async fn carry_out(&mut self, wish: Wish) {
        let Wish::Invoke(_, invocation) = &wish else { return };
        let put = match invocation.description {
            Some(_) => self.put(invocation, None).await,
            None => self.revoke(invocation).await,
        };
        match put {
            Ok(revision) => {
                self.confirming.add(wish, revision, self.post.nodes());
                self.confirming.confirmed(&self.post.node, self.revision);
            }
            Err(Unput::Refused(refusal)) => self.waiting.refuse(wish, refusal),
            Err(Unput::Behind) => self.waiting.refuse(wish, StoreRefusal::Busy),
        }
    }

    /// Puts a revocation in the place of what is registered.
    async fn revoke(&mut self, wished: &Invocation) -> Result<u64, Unput> {
        for _ in 0..ADMIN_ATTEMPTS_MAX {
            let last = self.bucket.entry(key(&wished.id)).await;
            let last = last.map_err(|_| Unput::Refused(StoreRefusal::Unavailable))?;
            // NATS may have lost what this node still knows.
            let (expected, known) = match last {
                Some(entry) => (entry.revision, decode(&entry.value)),
                None => (0, Some(Invocation { description: Some("".into()), ..wished.clone() })),
            };
            let known = known.filter(|one| one.description.is_some() && one.expires > now());
            let known = known.ok_or(Unput::Refused(StoreRefusal::NotFound))?;
            let revoked = Invocation { description: None, ..known };
            match self.put(&revoked, Some(expected)).await {
                Err(Unput::Behind) => {}
                put => return put,
            }
        }
        Err(Unput::Behind)
    }

    /// Puts an entry, if the last one of the id has this revision. Returns its own revision.
    async fn put(&mut self, invocation: &Invocation, expected: Option<u64>) -> Result<u64, Unput> {
        let subject = format!("$KV.{}.{}", self.bucket.name, key(&invocation.id));
        let mut headers = HeaderMap::new();
        headers.insert("Nats-TTL", format!("{}s", seconds_left(invocation.expires, now())));
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        }
        let text = encode(invocation);
        publish(&self.post.control, subject, headers, text, "an invocation").await
    }

    fn settle(&mut self) {
        let settled = self.confirming.settled();
        self.answer(settled);
    }

    /// Answers what NATS has taken, because no node will confirm any more.
    fn give_up(&mut self) {
        let settled = self.confirming.take_all();
        self.answer(settled);
    }

    fn answer(&self, settled: Vec<Settled<Wish>>) {
        for (wish, unconfirmed) in settled {
            if let Wish::Invoke(ticket, _) = wish {
                self.waiting.mailboxes().answer(ticket, Ok(Changed { now: (), unconfirmed }));
            }
        }
    }
}
