//! The channel directory: shared by all threads, it decides a channel's order and knows how many
//! subscribers each worker has.
//!
//! A channel lives in one of `SHARDS` maps behind a short lock. Under the lock there is no I/O,
//! no encoding and no work that grows with the audience: offsets are stamped and mail is posted,
//! one piece per worker concerned, so that every worker sees the channel's events in one order.
//! Places are reserved first; if one is missing nothing happens at all.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::Bucket;
use super::presence::{MemberKey, Presence};
use super::retain::{Budgets, Kept};
use super::window::accepted;
use crate::limits::SWEEP_STEPS;
use crate::mailbox::{Mail, Reservation, Slot, WorkerMailboxes, WorkerSet};
use crate::message::{
    AckId, Activation, Audience, Channel, ChannelOptions, ConnId, Content, Deactivation, Encoding,
    Encodings, MessageId, Millis, Offset, PresenceMode, Publication, Refused, ReplayWish, Retain,
    Retained, Snapshot, Transport, WorkerId,
};

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

/// One channel.
#[derive(Debug, Default)]
struct Entry {
    offset: Offset,
    shares: Vec<Share>,
    presence: Presence,
    /// What the last join went by, for leaves after the definition is gone.
    presence_mode: PresenceMode,
    /// What its clients may still publish.
    bucket: Bucket,
    /// What it keeps for later subscribers.
    kept: Kept,
    /// Until when somebody whose connection was lost counts as listening.
    lingers_until: Millis,
    /// The timestamp of its latest publication, where they must not run back.
    stamped: Millis,
    /// Whether it stands in its shard's list of those.
    is_watched: bool,
}

/// A worker's part of a channel's audience.
#[derive(Debug)]
struct Share {
    worker: WorkerId,
    /// By the encodings' places.
    websocket: [u32; Encoding::PER_SPACE],
    /// The same.
    polling: [u32; Encoding::PER_SPACE],
    /// Subscribers whose connection was cut and who may come back: they are in no audience, but
    /// the worker is given what they miss.
    away: u32,
}

impl Share {
    fn count(&mut self, encoding: Encoding, transport: Transport) -> &mut u32 {
        match transport {
            Transport::WebSocket => &mut self.websocket[encoding.place()],
            Transport::Polling => &mut self.polling[encoding.place()],
        }
    }

    fn is_empty(&self) -> bool {
        self.away == 0 && self.websocket.iter().chain(&self.polling).all(|count| *count == 0)
    }
}

/// A connection in a channel, as the directory counts it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The connection.
    pub connection: ConnId,
    /// Its frames.
    pub encoding: Encoding,
    /// Its transport.
    pub transport: Transport,
    /// As whom it is present, unless it does not count.
    pub member: Option<MemberKey>,
}

/// A wish to subscribe.
#[derive(Debug)]
pub struct Join<'a> {
    /// Where.
    pub channel: &'a Channel,
    /// Who.
    pub subscriber: &'a Subscriber,
    /// The encoding under which the connection is subscribed already, where it is: then only its
    /// frames change and it is acknowledged again.
    pub already: Option<Encoding>,
    /// How the channel behaves.
    pub options: ChannelOptions,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// Whether it comes back to a subscription that it had before its connection was cut.
    pub comes_back: bool,
    /// What it asks for of what was before.
    pub replay: ReplayWish,
    /// The id of the announcement that may follow.
    pub announcement: MessageId,
    /// Now.
    pub now: Millis,
    /// Now, on the clock by which publications are accepted.
    pub clock: Millis,
}

/// A wish to hear no more.
#[derive(Debug)]
pub struct Leave<'a> {
    /// Where.
    pub channel: &'a Channel,
    /// Who.
    pub subscriber: &'a Subscriber,
    /// Whether the connection lives on, and so must be told where its subscription ended.
    pub lives_on: bool,
    /// What the channel tells of presence; none where no definition governs it any more.
    pub presence: Option<PresenceMode>,
    /// Until when it counts as somebody who listens, on the clock by which publications are
    /// accepted; 0 for no longer.
    pub lingers_until: Millis,
    /// Whom to acknowledge.
    pub reply: Option<AckId>,
    /// The id of the announcement that may follow.
    pub announcement: MessageId,
    /// Now.
    pub now: Millis,
}

/// What the others in the channel were told of a join or leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// What there was to tell, or nothing because no member came or went.
    Yes,
    /// Nothing, because too many are present for announcements.
    Suppressed,
}

impl Announced {
    fn of(mode: PresenceMode, member_changed: bool, announced: bool) -> Self {
        let is_due = mode == PresenceMode::Full && member_changed;
        if is_due && !announced { Self::Suppressed } else { Self::Yes }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Published {
    /// Its place in the channel; 0 where nobody is subscribed and nothing is kept.
    pub offset: Offset,
    /// Whom it was posted to.
    pub audience: Audience,
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
        let shard = self.shard(channel);
        let mut encodings = Encodings::default();
        for share in shard.get(channel).into_iter().flat_map(|entry| &entry.shares) {
            for &encoding in channel.encodings() {
                if share.websocket[encoding.place()] + share.polling[encoding.place()] > 0 {
                    encodings.insert(encoding);
                }
            }
        }
        encodings
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

    /// Counts a subscriber and posts its activation, and the announcement if it is a new member.
    /// What is published from here on reaches it; nothing from before does.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if a mailbox concerned has no place: nothing changed.
    pub fn join(&self, mailboxes: &WorkerMailboxes, join: &Join<'_>) -> Result<Announced, Refused> {
        let subscriber = join.subscriber;
        let worker = subscriber.connection.worker;
        let mut shard = self.shard(join.channel);
        let place = mailboxes.of(worker).reserve(Slot::Control).ok_or(Refused::Overloaded)?;
        let entry = shard.entry(join.channel.clone()).or_default();
        // Who was waited for is taken to be this one.
        entry.lingers_until = 0;
        let mode = join.options.presence;
        // Who is subscribed already stays present as it was.
        let newcomer = subscriber.member.as_ref().filter(|_| join.already.is_none());
        let announced = mode == PresenceMode::Full
            && newcomer.is_some_and(|member| entry.presence.would_announce_join(member));
        let announcing = match announced {
            // An entry without shares needs no places, so the entry that stays here is not empty.
            true => Some(mailboxes.reserve(workers(&entry.shares)).ok_or(Refused::Overloaded)?),
            false => None,
        };
        entry.presence_mode = mode;
        let newcomer = newcomer.and_then(|member| entry.presence.join(member, join.now));
        let (presence, present) = entry.view(mode);
        let replay = entry.kept.replay(join.replay, join.clock);
        place.post(Mail::Activate(Box::new(Activation {
            connection: subscriber.connection,
            channel: join.channel.clone(),
            encoding: subscriber.encoding,
            reply: join.reply,
            is_again: join.already.is_some(),
            comes_back: join.comes_back,
            presence,
            present,
            replay,
            retained: entry.kept.value(),
        })));
        let mut posted = WorkerSet::default();
        let told = Announced::of(mode, newcomer.is_some(), announced);
        if let (Some(member), Some(places)) = (newcomer, announcing) {
            let content = Content::Joined(member);
            let event =
                Publication::new(join.announcement, join.channel.clone(), join.now, content)
                    .except(subscriber.connection);
            posted = places.post(&Arc::new(event), entry.offset);
        }
        if let Some(encoding) = join.already {
            entry.uncount(worker, encoding, subscriber.transport);
        }
        entry.count(worker, subscriber.encoding, subscriber.transport);
        drop(shard);
        posted.insert(worker);
        mailboxes.wake(posted);
        Ok(told)
    }

    /// Uncounts a subscriber, tells those who stay, and posts the end of its subscription.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if a mailbox concerned has no place: nothing changed, and the caller
    /// must come again.
    pub fn leave(
        &self,
        mailboxes: &WorkerMailboxes,
        leave: &Leave<'_>,
    ) -> Result<Announced, Refused> {
        let subscriber = leave.subscriber;
        let worker = subscriber.connection.worker;
        let mut shard = self.shard(leave.channel);
        let Some(entry) = shard.get_mut(leave.channel) else { return Ok(Announced::Yes) };
        let place = match leave.lives_on {
            true => Some(mailboxes.of(worker).reserve(Slot::Control).ok_or(Refused::Overloaded)?),
            false => None,
        };
        let mode = leave.presence.unwrap_or(entry.presence_mode);
        let member = subscriber.member.as_ref();
        let announced = mode == PresenceMode::Full
            && member.is_some_and(|member| entry.presence.would_announce_leave(member));
        let announcing = match announced {
            true => Some(mailboxes.reserve(workers(&entry.shares)).ok_or(Refused::Overloaded)?),
            false => None,
        };
        if let Some(place) = place {
            // Before the announcement: who leaves is not told that it left.
            place.post(Mail::Deactivate(Box::new(Deactivation {
                connection: subscriber.connection,
                channel: leave.channel.clone(),
                reply: leave.reply,
            })));
        }
        let mut posted = WorkerSet::default();
        let gone = member.and_then(|member| entry.presence.leave(member));
        let told = Announced::of(mode, gone.is_some(), announced);
        if let (Some(member), Some(places)) = (gone, announcing) {
            let content = Content::Left(member);
            let event =
                Publication::new(leave.announcement, leave.channel.clone(), leave.now, content)
                    .except(subscriber.connection);
            posted = places.post(&Arc::new(event), entry.offset);
        }
        if leave.lives_on {
            posted.insert(worker);
        }
        entry.uncount(worker, subscriber.encoding, subscriber.transport);
        entry.lingers_until = entry.lingers_until.max(leave.lingers_until);
        self.let_go(&mut shard, leave.channel);
        drop(shard);
        mailboxes.wake(posted);
        Ok(told)
    }

    /// A subscriber goes on over WebSocket instead of long-polling.
    pub fn upgrade(&self, channel: &Channel, worker: WorkerId, encoding: Encoding) {
        let mut shard = self.shard(channel);
        if let Some(entry) = shard.get_mut(channel) {
            entry.count(worker, encoding, Transport::WebSocket);
            entry.uncount(worker, encoding, Transport::Polling);
        }
    }

    /// A subscriber's connection was cut, and it may come back: its worker goes on being given what
    /// is published, whether it has other subscribers or not. To be called while the subscriber is
    /// still counted, so that nothing falls between.
    pub fn away(&self, channel: &Channel, worker: WorkerId) {
        let mut shard = self.shard(channel);
        let entry = shard.entry(channel.clone()).or_default();
        entry.share(worker).away += 1;
    }

    /// The same subscriber is back, or is waited for no longer.
    pub fn back(&self, channel: &Channel, worker: WorkerId) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        let Some(at) = entry.shares.iter().position(|share| share.worker == worker) else { return };
        let away = &mut entry.shares[at].away;
        debug_assert!(*away > 0, "who comes back was away");
        *away = away.saturating_sub(1);
        entry.tidy(at);
        self.let_go(&mut shard, channel);
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

/// The workers that have a part of a channel's audience.
fn workers(shares: &[Share]) -> impl Iterator<Item = WorkerId> {
    shares.iter().map(|share| share.worker)
}

impl Entry {
    /// Who is there and how many, as a subscriber is told.
    fn view(&mut self, mode: PresenceMode) -> (Arc<Snapshot>, usize) {
        match mode {
            PresenceMode::Full => (self.presence.snapshot(), self.presence.count()),
            PresenceMode::Count => (Arc::default(), self.presence.count()),
            PresenceMode::Off => (Arc::default(), 0),
        }
    }

    /// Whether anybody listens, or is about to come back.
    fn is_listened_to(&self, now: Millis) -> bool {
        !self.shares.is_empty() || now < self.lingers_until
    }

    /// Whether nothing of it outlives its last subscriber.
    fn keeps_nothing(&self) -> bool {
        !self.kept.outlives_subscribers()
            && self.bucket.is_new()
            && self.lingers_until == 0
            && !self.is_watched
    }

    /// Lets go of what is too old. Whether time has anything more to end: what is kept, or, where
    /// nobody is subscribed, what keeps clients from publishing faster by coming anew, or who may
    /// come back.
    fn still_keeps(&mut self, now: Millis, budgets: &Budgets) -> bool {
        self.kept.expire(now, budgets);
        let is_waited_for = !self.bucket.is_full(now) || now < self.lingers_until;
        self.kept.outlives_subscribers() || (self.shares.is_empty() && is_waited_for)
    }

    fn audience(&self) -> Audience {
        let mut audience = Audience::default();
        for share in &self.shares {
            audience.websocket += share.websocket.iter().sum::<u32>();
            audience.polling += share.polling.iter().sum::<u32>();
        }
        audience
    }

    fn count(&mut self, worker: WorkerId, encoding: Encoding, transport: Transport) {
        *self.share(worker).count(encoding, transport) += 1;
    }

    /// A worker's share, made where it has none.
    fn share(&mut self, worker: WorkerId) -> &mut Share {
        let at = self.shares.iter().position(|share| share.worker == worker).unwrap_or_else(|| {
            // Most channels have one share, or two: no room for others that may come.
            self.shares.reserve_exact(1);
            self.shares.push(Share { worker, websocket: [0; _], polling: [0; _], away: 0 });
            self.shares.len() - 1
        });
        &mut self.shares[at]
    }

    /// Removes a share that nobody needs any more.
    fn tidy(&mut self, at: usize) {
        if self.shares[at].is_empty() {
            self.shares.swap_remove(at);
        }
    }

    fn uncount(&mut self, worker: WorkerId, encoding: Encoding, transport: Transport) {
        let Some(at) = self.shares.iter().position(|share| share.worker == worker) else { return };
        let count = self.shares[at].count(encoding, transport);
        debug_assert!(*count > 0, "a subscriber is uncounted once");
        *count = count.saturating_sub(1);
        self.tidy(at);
    }
}

#[cfg(test)]
mod listener_tests;
