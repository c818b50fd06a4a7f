//! Channels that a cluster's stream orders.
//!
//! Such a channel is *attached* while the node hears its part of the stream. Before that, joins and
//! the leaves behind them are held back in their order: as far as the directory is concerned they
//! have not happened. The directory [notes](Interests) each channel that it begins or ceases to
//! need. The thread that hears the stream asks it what it needs now ([`Directory::needs`]), and
//! tells it what has become of the channel: [`Directory::attached`], [`Directory::unattachable`] or
//! [`Directory::detached`].
//!
//! What the stream has accepted cannot be refused any more. A worker without a place in its mailbox
//! is *behind*: it receives nothing of the channel until it was given what it missed
//! ([`Directory::catch_up`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::attachment::{Attachment, Phase};
use super::entry::{Entry, workers};
use super::{Directory, lock};
use crate::broker::bucket::Bucket;
use crate::broker::budget::Budget;
use crate::broker::takings::{Taken, Takings};
use crate::limits::HELD_JOINS_MAX;
use crate::mailbox::{Interests, Mail, Slot, WorkerMailboxes, WorkerSet};
use crate::message::{
    Behind, Channel, Landed, MarkPlace, Millis, Offset, Publication, Taking, WorkerId,
};

/// The directory's part in a cluster.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) interests: Arc<Interests>,
    /// What this node has taken from buckets that all nodes share.
    takings: Takings,
    /// Joins and leaves that all channels hold back.
    pub(super) held: Budget,
    /// How often the node has begun to count what it tells of the members of a channel.
    pub(super) countings: AtomicU32,
}

impl Stream {
    pub(super) fn new(interests: Arc<Interests>) -> Self {
        Self {
            interests,
            takings: Takings::default(),
            held: Budget::new(HELD_JOINS_MAX),
            countings: AtomicU32::new(0),
        }
    }

    /// Takes a token of a bucket that all nodes share, if one is left.
    pub(super) fn take(
        &self,
        channel: &Channel,
        (bucket, rate): (&mut Bucket, u32),
        now: Millis,
    ) -> bool {
        let taken = self.takings.take(channel, (bucket, rate), now);
        if taken == Taken::First {
            self.interests.wake();
        }
        taken != Taken::Refused
    }

    pub(super) fn note(&self, channel: &Channel, attachment: &mut Attachment) {
        if !std::mem::replace(&mut attachment.is_noted, true) {
            self.interests.note(channel.clone());
        }
    }

    /// Notes that the node does not need a channel any more, unless something is held.
    pub(super) fn let_go(&self, channel: &Channel, attachment: &mut Attachment) {
        if attachment.held.is_empty() && attachment.phase != Phase::Unneeded {
            attachment.phase = Phase::Unneeded;
            self.note(channel, attachment);
        }
    }
}

/// What the thread that hears the stream asks and tells.
impl Directory {
    /// Returns what this node has taken from buckets that all nodes share; `None` without a
    /// cluster.
    pub fn takings(&self) -> Option<&Takings> {
        self.stream.as_ref().map(|stream| &stream.takings)
    }

    /// Notes what another node has taken from a bucket.
    pub fn taken_elsewhere(&self, taking: &Taking, now: Millis) {
        let mut shard = self.shard(&taking.channel);
        let entry = shard.entry(taking.channel.clone()).or_default();
        if entry.shares.is_empty() {
            self.watch(&taking.channel, entry);
        }
        entry.bucket.spend(taking.rate, taking.count, now);
    }

    /// Returns whether the node needs this channel of the stream now. A later change is noted
    /// again.
    pub fn needs(&self, channel: &Channel) -> bool {
        let mut shard = self.shard(channel);
        let attachment = shard.get_mut(channel).and_then(|entry| entry.attachment.as_deref_mut());
        attachment.is_some_and(|attachment| {
            attachment.is_noted = false;
            attachment.phase != Phase::Unneeded
        })
    }

    /// Notes that the node does not hear a channel any more. What the channel keeps for later
    /// subscribers ends here, because later publications would be missing in it.
    pub fn detached(&self, channel: &Channel) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        match entry.attachment.as_ref().map(|attachment| attachment.phase) {
            Some(Phase::Unneeded) => {
                entry.attachment = None;
                entry.clear(&self.budgets);
                self.let_go(&mut shard, channel);
            }
            // It is needed again, and will lack what is published until it is heard.
            Some(Phase::Asked) => {
                entry.clear(&self.budgets);
                entry.attachment.iter_mut().for_each(|one| one.forget_earlier());
                self.begin_roster_again(entry);
            }
            Some(Phase::Attached) | None => {}
        }
    }

    /// Has all channels of the stream attached anew, because the thread that hears it has begun
    /// again.
    pub fn attach_again(&self) {
        let Some(stream) = &self.stream else { return };
        for shard in &self.shards {
            for (channel, entry) in lock(&shard.entries).iter_mut() {
                let Some(attachment) = entry.attachment.as_deref_mut() else { continue };
                if attachment.phase == Phase::Attached {
                    attachment.phase = Phase::Asked;
                    attachment.must_tell_gap = true;
                }
                if let Some(roster) = &mut attachment.roster {
                    // The node may go on under another name for its start.
                    roster.tell_list();
                }
                // An earlier note may be lost with the thread that took it.
                attachment.is_noted = false;
                stream.note(channel, attachment);
            }
        }
        stream.interests.wake();
    }

    /// Wakes the thread that hears the stream, if it sleeps. No lock may be held.
    pub(super) fn wake_stream(&self) {
        if let Some(stream) = &self.stream {
            stream.interests.wake();
        }
    }
}

/// Publications.
impl Directory {
    /// Posts a publication that the stream has accepted at this place. A worker without a place
    /// for it is behind from now on.
    pub fn publish_ordered(
        &self,
        mailboxes: &WorkerMailboxes,
        publication: &Arc<Publication>,
        place: MarkPlace,
    ) -> Landed {
        let offset = place.seq();
        let mut shard = self.shard(&publication.channel);
        let Some(entry) = shard.get_mut(&publication.channel) else { return Landed::default() };
        let Some(attachment) = entry.attachment.as_deref_mut() else { return Landed::default() };
        let mut woken = WorkerSet::default();
        for worker in workers(&entry.shares) {
            if attachment.is_behind(worker) {
                continue;
            }
            match mailboxes.reserve(std::iter::once(worker)) {
                Some(place) => woken.add(place.post(publication, offset)),
                // Without an earlier one since the node hears the channel, it lacks only this.
                None if entry.offset == 0 => attachment.behind.push((worker, offset - 1)),
                None => attachment.behind.push((worker, entry.offset)),
            }
        }
        let is_behind = !attachment.behind.is_empty();
        attachment.epoch = place.epoch();
        (entry.stamped, entry.offset) = (publication.at, offset);
        if entry.kept.publish(publication, &self.budgets) {
            self.watch(&publication.channel, entry);
        }
        if let Some(log) = &mut entry.log {
            log.push(publication, &self.budgets.logs);
        }
        let audience = entry.audience();
        drop(shard);
        mailboxes.wake(woken);
        Landed { audience, is_behind }
    }

    /// Posts a notice to the channel's workers, or to this one, that publications up to this place
    /// may be missing there. They are not behind up to there any more. If all are told, what the
    /// channel keeps for later subscribers ends, because it is not whole. Returns false, and
    /// changes nothing, if a mailbox has no room.
    pub fn tell_gap(
        &self,
        mailboxes: &WorkerMailboxes,
        channel: &Channel,
        worker: Option<(WorkerId, Offset)>,
        now: Millis,
    ) -> bool {
        let mut woken = WorkerSet::default();
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return true };
        let is_told = self.post_gap(mailboxes, (channel, entry), worker, &mut woken);
        if let Some(attachment) = &mut entry.attachment
            && worker.is_none()
        {
            attachment.whole_since = now;
            if let (Some(stream), Some(roster), true) =
                (&self.stream, &mut attachment.roster, is_told)
            {
                // Tidings may be missing as well, on either side.
                roster.ask_lists();
                roster.tell_list();
                stream.note(channel, attachment);
            }
        }
        drop(shard);
        mailboxes.wake(woken);
        is_told
    }

    /// Posts that notice under the lock of the channel's shard.
    pub(super) fn post_gap(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, entry): (&Channel, &mut Entry),
        worker: Option<(WorkerId, Offset)>,
        woken: &mut WorkerSet,
    ) -> bool {
        let Some(attachment) = entry.attachment.as_deref_mut() else { return true };
        let all = workers(&entry.shares).filter(|one| worker.is_none_or(|(only, _)| only == *one));
        let places: Option<Vec<_>> =
            all.map(|one| Some((one, mailboxes.of(one).reserve(Slot::Control)?))).collect();
        let Some(places) = places else { return false };
        match worker {
            None => {
                attachment.behind.clear();
                attachment.heard_from = None;
                attachment.forget_earlier();
            }
            Some((one, up_to)) => {
                let last = entry.offset;
                attachment.behind.retain_mut(|(behind, given)| {
                    if *behind == one {
                        *given = up_to.max(*given);
                    }
                    *behind != one || *given < last
                });
            }
        }
        if worker.is_none() {
            entry.clear(&self.budgets);
            // The stream may have begun again, so that no worker lacks what was before.
            entry.offset = 0;
        }
        for (one, place) in places {
            woken.insert(one);
            place.post(Mail::Gap(Box::new(channel.clone())));
        }
        true
    }

    /// Returns the workers that are behind on a channel.
    pub fn behind(&self, channel: &Channel) -> Vec<Behind> {
        let shard = self.shard(channel);
        let Some(entry) = shard.get(channel) else { return Vec::new() };
        let behind = entry.attachment.iter().flat_map(|attachment| &attachment.behind);
        let up_to = entry.offset;
        behind.map(|&(worker, after)| Behind { worker, after, up_to }).collect()
    }

    /// Gives a worker that is behind what it missed, in order: publications behind the last one
    /// that it was given, without a gap. If these end with the channel's last one, the worker is
    /// not behind any more. Returns whether it is.
    pub fn catch_up(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, worker): (&Channel, WorkerId),
        missed: &[(Offset, Arc<Publication>)],
    ) -> bool {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return false };
        let last = entry.offset;
        let Some(attachment) = entry.attachment.as_deref_mut() else { return false };
        let Some(at) = attachment.behind.iter().position(|(behind, _)| *behind == worker) else {
            return false;
        };
        let mut woken = WorkerSet::default();
        let (_, given) = &mut attachment.behind[at];
        for (offset, publication) in missed {
            if *offset <= *given {
                continue;
            }
            let Some(place) = mailboxes.reserve(std::iter::once(worker)) else { break };
            woken.add(place.post(publication, *offset));
            *given = *offset;
        }
        let is_behind = *given < last;
        if !is_behind {
            attachment.behind.swap_remove(at);
        }
        drop(shard);
        mailboxes.wake(woken);
        is_behind
    }
}
