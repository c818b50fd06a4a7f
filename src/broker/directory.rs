//! The channel directory, shared by all threads: it decides the order of a channel's events and
//! counts the subscribers of each worker.
//!
//! A channel is in one of `SHARDS` maps behind a short lock. Under the lock there is no I/O, no
//! encoding and no work that grows with the audience: offsets are stamped and mail is posted, one
//! piece for each worker concerned, so that every worker sees the channel's events in one order.
//! Places in mailboxes are reserved first; if one is missing, nothing happens.

mod attachment;
mod earlier;
mod entry;
mod holding;
mod membership;
mod present;
mod reorder;
mod requests;
mod stream;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel_log::ChannelLogs;
use super::retain::Budgets;
use super::window::accepted;
use crate::limits::SWEEP_STEPS;
use crate::mailbox::{Interests, Reservation, WorkerMailboxes};
use crate::message::{
    Audience, Channel, ConnId, Encodings, Millis, PresenceMode, Publication, Refused, Retain,
    Retained, Snapshot,
};

pub use earlier::Filling;
use entry::{Entry, Share, workers};
pub use requests::{Announced, Join, Leave, Published, Subscriber};
use stream::Stream;

/// Maps that channels are spread over. With 256, two of 64 threads that do nothing but publish
/// contend for one in about one publish in a hundred.
const SHARDS: usize = 256;

/// All channels that have subscribers or keep something for later ones.
#[derive(Debug)]
pub struct Directory {
    shards: Box<[Shard]>,
    hasher: RandomState,
    budgets: Budgets,
    /// Set in a cluster.
    stream: Option<Stream>,
}

/// A part of the channels.
#[derive(Debug, Default)]
struct Shard {
    entries: Mutex<HashMap<Channel, Entry>>,
    /// Channels from which a sweep may have to drop something, each once. Locked after `entries`.
    watched: Mutex<Vec<Channel>>,
    /// Connections that are not counted in these channels, although their workers think so: the
    /// refusal of a join is in the worker's mailbox. Locked after `entries`.
    refused: Mutex<HashSet<(Channel, ConnId)>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(Budgets::default())
    }
}

impl Directory {
    /// Makes a new directory keep the publications of channels with streams for `keep`
    /// milliseconds, in at most `bytes_max` bytes, so that streams can resume.
    pub fn with_logs(mut self, keep: Millis, bytes_max: usize) -> Self {
        let deflated = self.budgets.logs.budget.deflated;
        let ChannelLogs { keep, budget } = ChannelLogs::new(keep, bytes_max);
        self.budgets.logs = ChannelLogs { keep, budget: budget.with_deflated(deflated) };
        self
    }

    /// Makes a new directory one of a cluster: channels wait for a stream, and `interests` learns
    /// which.
    pub fn in_cluster(mut self, interests: Arc<Interests>) -> Self {
        self.stream = Some(Stream::new(interests));
        self
    }

    /// Creates a directory without channels. What channels keep for later subscribers stays within
    /// `budgets`.
    pub fn new(budgets: Budgets) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, hasher: RandomState::new(), budgets, stream: None }
    }

    /// Returns the encodings in use on a channel: those in which to encode before
    /// [`Directory::publish`]. The answer is a hint: a subscriber that joins meanwhile receives the
    /// publication, too.
    pub fn encodings(&self, channel: &Channel) -> Encodings {
        self.shard(channel).get(channel).map(|entry| entry.encodings(channel)).unwrap_or_default()
    }

    /// Decides whether a client may publish on a channel whose clients together may publish `rate`
    /// times a second; 0 is no limit. If so, counts the publish.
    pub fn admit(&self, channel: &Channel, rate: u32, now: Millis) -> bool {
        if rate == 0 {
            return true;
        }
        let mut shard = self.shard(channel);
        let entry = shard.entry(channel.clone()).or_default();
        if entry.shares.is_empty() {
            self.watch(channel, entry);
        }
        match &self.stream {
            None => entry.bucket.take(rate, now),
            Some(stream) => stream.take(channel, (&mut entry.bucket, rate), now),
        }
    }

    /// Gives a publication its offset and posts it to every worker that has subscribers. Then calls
    /// `then` under the channel's lock, so in the channel's order; it must be quick. A publication
    /// that needs a listener is dropped, without a call of `then`, if the channel has no listener.
    ///
    /// # Errors
    /// [`Refused`]: no subscriber receives it and no offset is used.
    pub fn publish(
        &self,
        mailboxes: &WorkerMailboxes,
        publication: &Arc<Publication>,
        then: impl FnOnce(Audience),
    ) -> Result<Published, Refused> {
        let reserve = |shares: &[Share]| mailboxes.reserve(workers(shares));
        self.publish_with(mailboxes, publication, reserve, then)
    }

    /// Publishes with places that were reserved before at every worker. Those that the publication
    /// does not need stay in `places`.
    ///
    /// # Errors
    /// [`Refused::Late`]: no subscriber receives it and no offset is used.
    pub fn publish_reserved(
        &self,
        places: &mut Reservation<'_, WorkerMailboxes>,
        publication: &Arc<Publication>,
    ) -> Result<Published, Refused> {
        let mailboxes = places.queue();
        let reserve = |shares: &[Share]| Some(places.split(workers(shares)));
        self.publish_with(mailboxes, publication, reserve, |_| ())
    }

    /// Publishes with the places that `reserve` returns for the channel's shares, under its lock.
    fn publish_with<'m>(
        &self,
        mailboxes: &'m WorkerMailboxes,
        publication: &Arc<Publication>,
        reserve: impl FnOnce(&[Share]) -> Option<Reservation<'m, WorkerMailboxes>>,
        then: impl FnOnce(Audience),
    ) -> Result<Published, Refused> {
        let mut shard = self.shard(&publication.channel);
        let entry = match shard.get_mut(&publication.channel) {
            Some(entry) => entry,
            None if publication.content.needs_listener() => return Ok(Published::default()),
            None if matches!(publication.options.retain, Retain::Window { .. }) => {
                shard.entry(publication.channel.clone()).or_default()
            }
            None => {
                then(Audience::default());
                return Ok(Published::default());
            }
        };
        if publication.content.needs_listener() {
            if !entry.is_listened_to(accepted(publication)) {
                return Ok(Published::default());
            }
            if publication.content.is_stamped_in_order() && publication.at < entry.stamped {
                return Err(Refused::Late);
            }
        }
        // The stream has ordered the channel until now, and a worker lacks something of it.
        let is_behind = entry.attachment.as_ref().is_some_and(|one| !one.behind.is_empty());
        let places = reserve(&entry.shares).filter(|_| !is_behind).ok_or(Refused::Overloaded)?;
        entry.stamped = publication.at;
        entry.offset += 1;
        if entry.kept.publish(publication, &self.budgets) {
            self.watch(&publication.channel, entry);
        }
        if let Some(log) = &mut entry.log {
            log.push(publication, &self.budgets.logs);
        }
        let posted = places.post(publication, entry.offset);
        let published = Published { offset: entry.offset, audience: entry.audience() };
        then(published.audience);
        drop(shard);
        mailboxes.wake(posted);
        Ok(published)
    }

    /// Retains a value that was read from the store, if the directory has the channel and its value
    /// is unknown. A known value was published, so it is as new or newer.
    pub fn learn(&self, channel: &Channel, value: Retained) {
        if let Some(entry) = self.shard(channel).get_mut(channel) {
            entry.kept.learn(value, &self.budgets);
        }
    }

    /// Notes that a channel has no value any more, without a publication.
    pub fn forget(&self, channel: &Channel) {
        if let Some(entry) = self.shard(channel).get_mut(channel) {
            entry.kept.set(Retained::Absent, &self.budgets);
        }
    }

    /// Returns the members of a channel and their number; `None` if the directory has no such
    /// channel.
    pub fn present(&self, channel: &Channel) -> Option<(Arc<Snapshot>, usize)> {
        let mut shard = self.shard(channel);
        Some(shard.get_mut(channel)?.view(PresenceMode::Full, None))
    }

    /// Drops expired publications, and channels that have no subscriber and keep nothing. A call
    /// covers one in [`SWEEP_STEPS`] shards, so that as many calls with consecutive values of
    /// `step` cover all.
    pub fn sweep(&self, step: usize, now: Millis) {
        for shard in self.shards.iter().skip(step % SWEEP_STEPS).step_by(SWEEP_STEPS) {
            // Taken before the loop, whose head would hold the lock to the loop's end.
            let watched = std::mem::take(&mut *lock(&shard.watched));
            for channel in watched {
                let mut entries = lock(&shard.entries);
                let Some(entry) = entries.get_mut(&channel) else { continue };
                let still_keeps = entry.still_keeps(now, &self.budgets);
                self.end_linger(&channel, entry, now);
                if still_keeps {
                    lock(&shard.watched).push(channel);
                    continue;
                }
                entry.is_watched = false;
                if entry.shares.is_empty() {
                    self.remove(&mut entries, &channel);
                }
            }
        }
    }

    /// Lets the cluster's stream go on without a channel, if no client comes back any more.
    fn end_linger(&self, channel: &Channel, entry: &mut Entry, now: Millis) {
        let is_over = entry.shares.is_empty() && entry.log.is_none() && entry.lingers_until <= now;
        if let (true, Some(stream), Some(attachment)) =
            (is_over, &self.stream, &mut entry.attachment)
        {
            entry.lingers_until = 0;
            stream.let_go(channel, attachment);
            stream.interests.wake();
        }
    }

    /// Returns the number of channels with subscribers or detached sessions.
    pub fn channels(&self) -> usize {
        self.count(|entry| !entry.shares.is_empty())
    }

    /// Returns the number of channels without either, which keep something for a while.
    pub fn kept(&self) -> usize {
        self.count(|entry| entry.shares.is_empty())
    }

    /// Returns the bytes that all channels keep for later subscribers.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    fn count(&self, is_one: impl Fn(&Entry) -> bool) -> usize {
        let count = |shard: &Shard| lock(&shard.entries).values().filter(|one| is_one(one)).count();
        self.shards.iter().map(count).sum()
    }

    /// Makes the next sweeps look at a channel.
    fn watch(&self, channel: &Channel, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.is_watched, true) {
            lock(&self.home(channel).watched).push(channel.clone());
        }
    }

    /// Removes a channel that has no subscriber, or lets sweeps do so once it keeps nothing more.
    fn let_go(&self, entries: &mut HashMap<Channel, Entry>, channel: &Channel) {
        let Some(entry) = entries.get_mut(channel).filter(|entry| entry.shares.is_empty()) else {
            return;
        };
        // Sweeps notice when a client whose connection was lost does not come back.
        let lingers = entry.lingers_until > 0 || entry.log.is_some();
        if let (Some(stream), Some(attachment)) = (&self.stream, &mut entry.attachment)
            && !lingers
        {
            stream.let_go(channel, attachment);
        }
        if entry.keeps_nothing() {
            self.remove(entries, channel);
        } else {
            self.watch(channel, entry);
        }
    }

    fn remove(&self, entries: &mut HashMap<Channel, Entry>, channel: &Channel) {
        if let Some(mut entry) = entries.remove(channel) {
            entry.clear(&self.budgets);
        }
    }

    fn shard(&self, channel: &Channel) -> MutexGuard<'_, HashMap<Channel, Entry>> {
        lock(&self.home(channel).entries)
    }

    fn home(&self, channel: &Channel) -> &Shard {
        let hash = self.hasher.hash_one(channel);
        // The low bits, of which SHARDS needs eight.
        &self.shards[hash as usize % SHARDS]
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics under the lock ends the node; until then the counts are still right.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod earlier_tests;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod listener_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod stream_tests;
