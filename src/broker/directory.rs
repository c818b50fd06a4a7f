//! The channel directory: shared by all threads, it decides a channel's order and knows how many
//! subscribers each worker has.
//!
//! A channel lives in one of `SHARDS` maps behind a short lock. Under the lock there is no I/O,
//! no encoding and no work that grows with the audience: offsets are stamped and mail is posted,
//! one piece per worker concerned, so that every worker sees the channel's events in one order.
//! Places are reserved first; if one is missing nothing happens at all.

mod entry;
mod membership;
mod requests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::retain::Budgets;
use super::window::accepted;
use crate::limits::SWEEP_STEPS;
use crate::mailbox::{Reservation, WorkerMailboxes};
use crate::message::{
    Audience, Channel, Encodings, Millis, PresenceMode, Publication, Refused, Retain, Retained,
    Snapshot,
};

use entry::{Entry, Share, workers};
pub use requests::{Announced, Join, Leave, Published, Subscriber};

/// Locks that channels are spread over. With 256, two of 64 threads meet on one in about one
/// publish in a hundred even if they did nothing else.
const SHARDS: usize = 256;

/// All channels that have subscribers, or keep something for those who come.
#[derive(Debug)]
pub struct Directory {
    shards: Box<[Shard]>,
    hasher: RandomState,
    budgets: Budgets,
}

/// A part of the channels.
#[derive(Debug, Default)]
struct Shard {
    entries: Mutex<HashMap<Channel, Entry>>,
    /// Channels with something that time alone ends, each once. Locked after `entries`.
    watched: Mutex<Vec<Channel>>,
}

impl Default for Directory {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, hasher: RandomState::new(), budgets: Budgets::default() }
    }
}

impl Directory {
    /// The encodings in use on a channel: what is worth encoding before [`Directory::publish`].
    /// A hint; who subscribes afterwards is served all the same.
    pub fn encodings(&self, channel: &Channel) -> Encodings {
        self.shard(channel).get(channel).map(|entry| entry.encodings(channel)).unwrap_or_default()
    }

    /// Whether a client may publish on a channel whose clients together may do so `rate` times a
    /// second, 0 for as often as they like. If so, that is taken note of.
    pub fn admit(&self, channel: &Channel, rate: u32, now: Millis) -> bool {
        if rate == 0 {
            return true;
        }
        let mut shard = self.shard(channel);
        let entry = shard.entry(channel.clone()).or_default();
        if entry.shares.is_empty() {
            self.watch(channel, entry);
        }
        entry.bucket.take(rate, now)
    }

    /// Gives a publication its place and posts it to every worker that has subscribers. `then`
    /// is called under the channel's lock once that is done, so in the channel's order; it must be
    /// quick. A publication that needs a listener and has none is nowhere afterwards.
    ///
    /// # Errors
    /// [`Refused`]: nobody gets it and no offset is used.
    pub fn publish(
        &self,
        mailboxes: &WorkerMailboxes,
        publication: &Arc<Publication>,
        then: impl FnOnce(Audience),
    ) -> Result<Published, Refused> {
        let reserve = |shares: &[Share]| mailboxes.reserve(workers(shares));
        self.publish_with(mailboxes, publication, reserve, then)
    }

    /// Publishes with places that were reserved before, at every worker: those that the publication
    /// does not need stay in `places`.
    ///
    /// # Errors
    /// [`Refused::Late`]: nobody gets it and no offset is used.
    pub fn publish_reserved(
        &self,
        places: &mut Reservation<'_, WorkerMailboxes>,
        publication: &Arc<Publication>,
    ) -> Result<Published, Refused> {
        let mailboxes = places.queue();
        let reserve = |shares: &[Share]| Some(places.split(workers(shares)));
        self.publish_with(mailboxes, publication, reserve, |_| ())
    }

    /// Publishes with the places that `reserve` answers for the channel's shares, under its lock.
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
        let places = reserve(&entry.shares).ok_or(Refused::Overloaded)?;
        entry.stamped = publication.at;
        entry.offset += 1;
        if entry.kept.publish(publication, &self.budgets) {
            self.watch(&publication.channel, entry);
        }
        let posted = places.post(publication, entry.offset);
        let published = Published { offset: entry.offset, audience: entry.audience() };
        then(published.audience);
        drop(shard);
        mailboxes.wake(posted);
        Ok(published)
    }

    /// Retains a value that was read from the store, if the channel has a subscriber and no value
    /// is known. A known value was published, and is as new or newer.
    pub fn learn(&self, channel: &Channel, value: Retained) {
        if let Some(entry) = self.shard(channel).get_mut(channel) {
            entry.kept.learn(value, &self.budgets);
        }
    }

    /// Remembers that a channel has no value any more, without a publication.
    pub fn forget(&self, channel: &Channel) {
        if let Some(entry) = self.shard(channel).get_mut(channel) {
            entry.kept.set(Retained::Absent, &self.budgets);
        }
    }

    /// Who is there, and how many, where anybody is.
    pub fn present(&self, channel: &Channel) -> Option<(Arc<Snapshot>, usize)> {
        let mut shard = self.shard(channel);
        Some(shard.get_mut(channel)?.view(PresenceMode::Full))
    }

    /// Lets go of what channels keep no longer, and of those that have nobody and nothing left. A
    /// call looks at one in [`SWEEP_STEPS`] channels: others with each `step`.
    pub fn sweep(&self, step: usize, now: Millis) {
        for shard in self.shards.iter().skip(step % SWEEP_STEPS).step_by(SWEEP_STEPS) {
            // Outside of the loop, whose head would hold the lock to its end.
            let watched = std::mem::take(&mut *lock(&shard.watched));
            for channel in watched {
                let mut entries = lock(&shard.entries);
                let Some(entry) = entries.get_mut(&channel) else { continue };
                if entry.still_keeps(now, &self.budgets) {
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

    /// Channels that have subscribers, or some who are away.
    pub fn channels(&self) -> usize {
        self.count(|entry| !entry.shares.is_empty())
    }

    /// Channels that have none, and something that is kept for a while.
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

    /// Has a channel looked at when time has passed.
    fn watch(&self, channel: &Channel, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.is_watched, true) {
            lock(&self.home(channel).watched).push(channel.clone());
        }
    }

    /// Forgets a channel that has nobody; what it keeps is kept a while longer.
    fn let_go(&self, entries: &mut HashMap<Channel, Entry>, channel: &Channel) {
        let Some(entry) = entries.get_mut(channel).filter(|entry| entry.shares.is_empty()) else {
            return;
        };
        if entry.keeps_nothing() {
            self.remove(entries, channel);
        } else {
            self.watch(channel, entry);
        }
    }

    fn remove(&self, entries: &mut HashMap<Channel, Entry>, channel: &Channel) {
        if let Some(mut entry) = entries.remove(channel) {
            entry.kept.clear(&self.budgets);
        }
    }

    fn shard(&self, channel: &Channel) -> MutexGuard<'_, HashMap<Channel, Entry>> {
        lock(&self.home(channel).entries)
    }

    fn home(&self, channel: &Channel) -> &Shard {
        let hash = self.hasher.hash_one(channel);
        // The low bits: SHARDS is far below what usize holds.
        &self.shards[hash as usize % SHARDS]
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked under the lock ends the node; until then the counts are still right.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod listener_tests;
