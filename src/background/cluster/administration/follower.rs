//! The bucket of what administrators set for all nodes, as the store of a node follows it.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::kv::{self, Operation, Watch};
use async_nats::jetstream::stream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::Post;
use crate::background::admin::sharing::{Administration, Call, State};
use crate::background::cluster::control::{Control, ControlError};
use crate::background::store::{Followed, Following};
use crate::cluster::admin::{Entry, Key};
use crate::limits::{ADMIN_BATCH_MAX, NATS_CALL_MS};
use crate::mailbox::StoreRefusal;

/// Why the bucket cannot be followed.
#[derive(Debug)]
pub(super) enum Lost {
    /// NATS does not answer, refuses, or has another bucket now.
    Bucket(String),
    /// The writer does not answer.
    Store(StoreRefusal),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(problem) => f.write_str(problem),
            Self::Store(refusal) => write!(f, "the store does not take it ({refusal:?})"),
        }
    }
}

/// What the consumer of the bucket brings; `None` if it has ended.
pub(super) type Next = Option<Result<kv::Entry, kv::WatcherError>>;

/// A bucket that the store follows.
pub(super) struct Follower {
    watch: Watch,
    /// How far the store has followed.
    at: Followed,
    /// Whether the next changes replace all that the store has of the cluster.
    is_anew: bool,
}

impl Follower {
    /// Opens the bucket and follows it up to its present end. A bucket that is empty, because its
    /// servers have lost it, gets what the store has.
    pub(super) async fn begin(
        administration: &mut Administration,
        post: &Post,
    ) -> Result<Self, Lost> {
        let Post { control, cluster, .. } = post;
        let bucket = control.administration().await?;
        let asked = administration.ask(Call::State).await.map_err(Lost::Store)?;
        let State { followed, entries, .. } = asked.map_err(Lost::Store)?;
        let (mut life, mut last) = end(control).await?;
        let own = followed.filter(|followed| followed.cluster == **cluster);
        if let Some(own) = &own
            && own.bucket != life
            && last == 0
        {
            restore(&bucket, &entries).await?;
            (life, last) = end(control).await?;
        }
        let here = own.filter(|own| own.bucket == life);
        if let Some(here) = &here
            && here.revision > last
        {
            let lost = here.revision - last;
            tracing::error!(lost, "NATS has lost changes that administrators made for all nodes");
        }
        let here = here.filter(|here| here.revision <= last);
        let is_anew = here.is_none();
        let at =
            here.unwrap_or(Followed { cluster: (**cluster).into(), bucket: life, revision: 0 });
        let watch = bucket.watch_all_from_revision(at.revision + 1).await;
        let watch = watch.map_err(|error| Lost::Bucket(error.to_string()))?;
        let mut follower = Self { watch, at, is_anew };
        follower.reach(administration, last).await?;
        tell_set_aside(administration).await;
        Ok(follower)
    }

    /// Returns how far the store has followed.
    pub(super) fn revision(&self) -> u64 {
        self.at.revision
    }

    /// Waits for the next change. Nothing is lost if this is given up meanwhile.
    pub(super) async fn next(&mut self) -> Next {
        self.watch.next().await
    }

    /// Follows up to the present end of the bucket.
    pub(super) async fn catch_up(
        &mut self,
        administration: &Administration,
        post: &Post,
    ) -> Result<(), Lost> {
        let (life, last) = end(&post.control).await?;
        if life != self.at.bucket {
            return Err(another());
        }
        self.reach(administration, last).await
    }

    /// Looks whether the bucket is still the same, which the consumer does not tell.
    pub(super) async fn look(&mut self, control: &Control) -> Result<(), Lost> {
        let (life, last) = end(control).await?;
        if life == self.at.bucket && last >= self.at.revision { Ok(()) } else { Err(another()) }
    }

    async fn reach(&mut self, administration: &Administration, last: u64) -> Result<(), Lost> {
        if self.is_anew && last == 0 {
            self.store(Vec::new(), 0, administration).await?;
        }
        while self.at.revision < last {
            let next = timeout(Duration::from_millis(NATS_CALL_MS), self.watch.next()).await;
            let next = next.map_err(|_| Lost::Bucket("NATS does not send it".to_owned()))?;
            self.take(next, administration).await?;
        }
        Ok(())
    }

    /// Has the store take a change, and those that are there already. This must be awaited to its
    /// end.
    pub(super) async fn take(
        &mut self,
        first: Next,
        administration: &Administration,
    ) -> Result<(), Lost> {
        let mut entries = Vec::new();
        let mut revision = self.at.revision;
        let mut next = Some(first);
        while let Some(entry) = next {
            let entry = entry.ok_or_else(|| Lost::Bucket("the consumer has ended".to_owned()))?;
            let entry = entry.map_err(|error| Lost::Bucket(error.to_string()))?;
            revision = entry.revision;
            entries.extend(read(&entry));
            let has_room = entries.len() < ADMIN_BATCH_MAX;
            next = if has_room { self.watch.next().now_or_never() } else { None };
        }
        self.store(entries, revision, administration).await
    }

    async fn store(
        &mut self,
        entries: Vec<(Key, Option<Entry>)>,
        revision: u64,
        administration: &Administration,
    ) -> Result<(), Lost> {
        let to = Followed { revision, ..self.at.clone() };
        let following = Following { to: to.clone(), is_anew: self.is_anew, entries };
        let taken = administration.ask(|answer| Call::Follow(following, answer)).await;
        taken.flatten().map_err(Lost::Store)?;
        (self.at, self.is_anew) = (to, false);
        Ok(())
    }
}

/// Reads a change; `None` if it is of a later release.
fn read(entry: &kv::Entry) -> Option<(Key, Option<Entry>)> {
    let key = Key::read(&entry.key);
    let read = key.and_then(|key| match entry.operation {
        Operation::Put => Entry::decode(key, &entry.value).map(|entry| (key, Some(entry))),
        Operation::Delete | Operation::Purge => Some((key, None)),
    });
    if read.is_none() {
        let (key, revision) = (&entry.key, entry.revision);
        tracing::error!(key, revision, "this release cannot read what an administrator set");
    }
    read
}

/// Returns what tells this life of the bucket from others, and its last revision.
pub(super) async fn end(control: &Control) -> Result<(String, u64), Lost> {
    end_of(control, &control.settings().prefix.administration()).await
}

/// Returns what tells this life of a bucket from others, and its last revision.
pub(super) async fn end_of(control: &Control, bucket: &str) -> Result<(String, u64), Lost> {
    let name = format!("KV_{bucket}");
    let info: Option<stream::Info> = control.info(&name).await?;
    let info = info.ok_or_else(another)?;
    Ok((info.created.unix_timestamp_nanos().to_string(), info.state.last_sequence))
}

fn another() -> Lost {
    Lost::Bucket("its bucket was deleted or made anew, or has lost something".to_owned())
}

/// Puts what the store has into an empty bucket. Another node may do so at the same time.
async fn restore(bucket: &kv::Store, entries: &[Entry]) -> Result<(), Lost> {
    let count = entries.len();
    tracing::warn!(count, "NATS has lost what administrators set; this node puts back what it has");
    for entry in entries {
        let put = bucket.create(entry.key().text(), entry.encode().into()).await;
        match put {
            Ok(_) => {}
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {}
            Err(error) => return Err(Lost::Bucket(error.to_string())),
        }
    }
    Ok(())
}

/// Says what was set on the node alone and is not shared.
async fn tell_set_aside(administration: &Administration) {
    let state = administration.ask(Call::State).await;
    let Ok(Ok(State { set_aside, entries, .. })) = state else { return };
    let unshared = set_aside.iter().filter(|entry| !entries.contains(entry)).count();
    if unshared > 0 {
        tracing::warn!(
            unshared,
            "definitions, policies or the retention that were set on this node alone are not in \
             effect; to share them: fanfare cluster import"
        );
    }
}

impl From<ControlError> for Lost {
    fn from(error: ControlError) -> Self {
        Self::Bucket(error.to_string())
    }
}
