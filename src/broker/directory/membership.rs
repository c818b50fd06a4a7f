//! Joins and leaves: how subscribers and detached sessions are counted.

use std::sync::Arc;

use super::Directory;
use super::entry::{Entry, workers};
use super::holding::Leaving;
use super::requests::{Announced, Join, Leave};
use crate::mailbox::{Mail, Slot, WorkerMailboxes, WorkerSet};
use crate::message::{
    Activation, Channel, ConnId, Content, Encoding, PresenceMode, Publication, Refused, Transport,
    WorkerId,
};

impl Directory {
    /// Counts a subscriber and posts its activation, and an announcement if it is a new member. The
    /// subscriber receives what is published from here on, and nothing from before.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if a mailbox has no free place. Then nothing changed.
    pub fn join(&self, mailboxes: &WorkerMailboxes, join: &Join<'_>) -> Result<Announced, Refused> {
        let mut shard = self.shard(join.channel);
        let entry = shard.entry(join.channel.clone()).or_default();
        let connection = join.subscriber.connection;
        let is_refused = self.is_refused(join.channel, connection);
        let uncounted;
        let join = if is_refused {
            uncounted = Join { already: None, ..*join };
            &uncounted
        } else {
            join
        };
        let done = match self.holds_join(entry, join) {
            Ok(true) => Ok((Announced::Yes, WorkerSet::default())),
            Ok(false) => self.join_now(mailboxes, entry, join),
            Err(refused) => Err(refused),
        };
        if done.is_err() {
            // It may have been created for nothing.
            self.let_go(&mut shard, join.channel);
        } else if is_refused {
            self.forget_refusal(join.channel, connection);
        }
        drop(shard);
        let (told, posted) = done?;
        mailboxes.wake(posted);
        self.wake_stream();
        Ok(told)
    }

    /// Carries out a join under the lock of the channel's shard. Returns the workers to wake once
    /// the lock is not held.
    pub(super) fn join_now(
        &self,
        mailboxes: &WorkerMailboxes,
        entry: &mut Entry,
        join: &Join<'_>,
    ) -> Result<(Announced, WorkerSet), Refused> {
        let subscriber = join.subscriber;
        let worker = subscriber.connection.worker;
        let place = mailboxes.of(worker).reserve(Slot::Control).ok_or(Refused::Overloaded)?;
        // The listener that lingered is assumed to be this one.
        entry.lingers_until = 0;
        let mode = join.options.presence;
        // A subscriber that joins again stays the member that it was.
        let newcomer = subscriber.member.as_ref().filter(|_| join.already.is_none());
        // In a cluster a join is announced when the stream brings it back.
        let is_told = entry.has_roster();
        let announced = mode == PresenceMode::Full
            && !is_told
            && newcomer.is_some_and(|member| entry.presence.would_announce_join(member));
        let announcing = match announced {
            // Without shares this needs no place and cannot fail, so that no empty entry stays
            // here.
            true => Some(mailboxes.reserve(workers(&entry.shares)).ok_or(Refused::Overloaded)?),
            false => None,
        };
        entry.presence_mode = mode;
        let newcomer = newcomer.and_then(|member| entry.presence.join(member, join.now));
        if is_told && let Some(member) = &newcomer {
            self.tell_join(join.channel, entry, member, subscriber.connection);
        }
        let (presence, present) = entry.view(mode, Some(subscriber));
        let replay = entry.replay(join, &self.budgets);
        if entry.log.is_some() {
            self.watch(join.channel, entry);
        }
        place.post(Mail::Activate(Box::new(Activation {
            connection: subscriber.connection,
            channel: join.channel.clone(),
            encoding: subscriber.encoding,
            reply: join.reply,
            is_again: join.already.is_some(),
            comes_back: join.comes_back,
            place: entry.place(),
            presence,
            present,
            replay,
            retained: entry.kept.value(),
        })));
        let mut posted = WorkerSet::default();
        let told = Announced::of(mode, newcomer.is_some() && !is_told, announced);
        if let (Some(member), Some(places)) = (newcomer, announcing) {
            let content = Content::Joined(Arc::new(member), Some(subscriber.connection));
            let event =
                Publication::new(join.announcement, join.channel.clone(), join.now, content);
            posted = places.post(&Arc::new(event), entry.offset);
        }
        if let Some(encoding) = join.already {
            entry.uncount(worker, encoding, subscriber.transport);
        }
        entry.count(worker, subscriber.encoding, subscriber.transport);
        posted.insert(worker);
        Ok((told, posted))
    }

    /// Uncounts a subscriber, announces that if a member left, and posts the end of its
    /// subscription.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if a mailbox has no free place. Then nothing changed, and the caller
    /// must try again.
    pub fn leave(
        &self,
        mailboxes: &WorkerMailboxes,
        leave: &Leave<'_>,
    ) -> Result<Announced, Refused> {
        let mut shard = self.shard(leave.channel);
        let Some(entry) = shard.get_mut(leave.channel) else { return Ok(Announced::Yes) };
        let (told, posted) = match self.holds_leave(entry, leave) {
            Leaving::Held => (Announced::Yes, WorkerSet::default()),
            Leaving::Counted => self.leave_now(mailboxes, entry, leave)?,
            Leaving::Uncounted => {
                let place = leave.reserve_end(mailboxes)?;
                self.forget_refusal(leave.channel, leave.subscriber.connection);
                (Announced::Yes, leave.post_end(place))
            }
        };
        self.let_go(&mut shard, leave.channel);
        drop(shard);
        mailboxes.wake(posted);
        self.wake_stream();
        Ok(told)
    }

    /// Carries out a leave of a connection that is counted, under the lock of the channel's shard.
    /// Returns the workers to wake once the lock is not held.
    pub(super) fn leave_now(
        &self,
        mailboxes: &WorkerMailboxes,
        entry: &mut Entry,
        leave: &Leave<'_>,
    ) -> Result<(Announced, WorkerSet), Refused> {
        let subscriber = leave.subscriber;
        let worker = subscriber.connection.worker;
        let place = leave.reserve_end(mailboxes)?;
        let mode = leave.presence.unwrap_or(entry.presence_mode);
        let member = subscriber.member.as_ref();
        let is_told = entry.has_roster();
        let announced = mode == PresenceMode::Full
            && !is_told
            && member.is_some_and(|member| entry.presence.would_announce_leave(member));
        let announcing = match announced {
            true => Some(mailboxes.reserve(workers(&entry.shares)).ok_or(Refused::Overloaded)?),
            false => None,
        };
        // Before the announcement, so that the leaving connection does not receive it.
        let ended = leave.post_end(place);
        let mut posted = WorkerSet::default();
        let gone = member.and_then(|member| entry.presence.leave(member));
        let told = Announced::of(mode, gone.is_some() && !is_told, announced);
        if is_told && let Some(member) = &gone {
            self.tell_leave(leave.channel, entry, member);
        }
        if let (Some(member), Some(places)) = (gone, announcing) {
            let content = Content::Left(Arc::new(member), Some(subscriber.connection));
            let event =
                Publication::new(leave.announcement, leave.channel.clone(), leave.now, content);
            posted = places.post(&Arc::new(event), entry.offset);
        }
        posted.add(ended);
        let (encoding, transport) = entry.counted_as(subscriber);
        entry.uncount(worker, encoding, transport);
        match (subscriber.transport, &mut entry.log) {
            (Transport::EventStream, Some(log)) => log.linger(leave.lingers_until),
            (Transport::EventStream, None) => {}
            _ => entry.lingers_until = entry.lingers_until.max(leave.lingers_until),
        }
        Ok((told, posted))
    }

    /// Counts a subscriber under WebSocket instead of long-polling. `encoding` is that of its last
    /// join.
    pub fn upgrade(&self, channel: &Channel, connection: ConnId, encoding: Encoding) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        // A subscriber whose join is held back is not counted yet, nor one whose join was refused.
        let is_refused = self.is_refused(channel, connection);
        let counted = match &mut entry.attachment {
            Some(attachment) => attachment.upgrade(connection, encoding),
            None => Some(encoding),
        };
        if let Some(encoding) = counted.filter(|_| !is_refused) {
            entry.count(connection.worker, encoding, Transport::WebSocket);
            entry.uncount(connection.worker, encoding, Transport::Polling);
        }
    }

    /// Counts a detached session, so that its worker goes on receiving what is published on the
    /// channel, with other subscribers or without. Must be called while the subscriber is still
    /// counted, so that no publication is missed in between.
    pub fn away(&self, channel: &Channel, worker: WorkerId) {
        let mut shard = self.shard(channel);
        let entry = shard.entry(channel.clone()).or_default();
        entry.count_detached(worker);
    }

    /// Uncounts a detached session that was resumed or discarded.
    pub fn back(&self, channel: &Channel, worker: WorkerId) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        if entry.uncount_detached(worker) {
            self.let_go(&mut shard, channel);
        }
    }
}
