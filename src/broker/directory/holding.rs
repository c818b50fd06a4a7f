//! Joins and leaves of channels that a cluster's stream orders: they are held back until the node
//! hears the channel, and then carried out or refused in their order.

use super::attachment::{Attachment, Earlier, Held, Phase};
use super::entry::Entry;
use super::requests::{HeldJoin, HeldLeave, Join, Leave};
use super::{Announced, Directory, lock};
use crate::limits::RELEASED_AT_ONCE_MAX;
use crate::mailbox::{JoinRefused, Mail, Slot, WorkerMailboxes, WorkerSet};
use crate::message::{
    AckId, Channel, ChannelOrder, ConnId, Encoding, MarkPlace, Millis, PresenceMode, Refused, Space,
};

/// What becomes of a leave.
pub(super) enum Leaving {
    /// The connection is counted, and must be uncounted.
    Counted,
    /// The connection is not counted: the leave must be answered, and changes nothing.
    Uncounted,
    /// It is held back, or nothing is left to do.
    Held,
}

/// Joins and leaves.
impl Directory {
    /// Holds a join back, if its channel has to be attached first, or the worker of its connection
    /// is behind. Returns false if it must be carried out now.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if [`HELD_JOINS_MAX`](crate::limits::HELD_JOINS_MAX) are held.
    pub(super) fn holds_join(&self, entry: &mut Entry, join: &Join<'_>) -> Result<bool, Refused> {
        let Some(stream) = &self.stream else { return Ok(false) };
        let connection = join.subscriber.connection;
        if entry.attachment.is_none() {
            // A channel whose order has changed is attached by `Directory::reorder`.
            if join.options.order == ChannelOrder::Local || !entry.shares.is_empty() {
                return Ok(false);
            }
        }
        let lacks = entry.lacks_earlier(join, &self.budgets.logs);
        let attachment = entry.attachment.get_or_insert_default();
        if join.options.presence != PresenceMode::Off && join.channel.space() == Space::Channels {
            stream.show_presence(join.channel, attachment, &entry.presence);
        }
        // Its worker has what it missed, and the mail that resumes its session would not wait.
        let is_in_log = join.comes_back && join.replay.behind.is_none();
        let must_wait = attachment.phase != Phase::Attached
            || lacks
            || (!attachment.held.is_empty() && !is_in_log)
            || attachment.is_behind(connection.worker);
        if !must_wait {
            return Ok(false);
        }
        if is_in_log {
            return Err(Refused::Overloaded);
        }
        if !stream.held.take(1) {
            return Err(Refused::Overloaded);
        }
        if attachment.phase != Phase::Attached {
            attachment.phase = Phase::Asked;
            stream.note(join.channel, attachment);
        }
        if lacks {
            attachment.earlier = Earlier::Wanted;
            stream.note(join.channel, attachment);
        }
        attachment.hold(join.already, Held::Join(HeldJoin::of(join)));
        if lacks {
            self.keep_from_now(entry, join);
        }
        Ok(true)
    }

    /// Returns what becomes of a leave. It is held back if a join of its connection is.
    pub(super) fn holds_leave(&self, entry: &mut Entry, leave: &Leave<'_>) -> Leaving {
        let connection = leave.subscriber.connection;
        let attachment = entry.attachment.as_deref_mut();
        let attachment = attachment.filter(|one| one.connections.contains_key(&connection));
        match attachment {
            None if self.is_refused(leave.channel, connection) => Leaving::Uncounted,
            None => Leaving::Counted,
            Some(attachment) if leave.lives_on => {
                attachment.hold(None, Held::Leave(HeldLeave::of(leave)));
                Leaving::Held
            }
            Some(attachment) => {
                let is_counted = attachment.end(connection);
                self.forget_refusal(leave.channel, connection);
                if is_counted { Leaving::Counted } else { Leaving::Held }
            }
        }
    }

    /// Returns whether a join of the connection was refused and its worker does not know yet, so
    /// that the worker thinks that the connection is counted.
    pub(super) fn is_refused(&self, channel: &Channel, connection: ConnId) -> bool {
        self.stream.is_some()
            && lock(&self.home(channel).refused).contains(&(channel.clone(), connection))
    }

    /// Notes that the worker knows of the refusal, or has changed what it thinks.
    pub fn forget_refusal(&self, channel: &Channel, connection: ConnId) {
        if self.stream.is_some() {
            lock(&self.home(channel).refused).remove(&(channel.clone(), connection));
        }
    }

    /// Notes that the node hears the channel behind this place, since `now`, in milliseconds since
    /// it started. Carries out requests that were held, as [`Directory::carry_on`] does.
    pub fn attached(
        &self,
        mailboxes: &WorkerMailboxes,
        channel: &Channel,
        from: MarkPlace,
        now: Millis,
    ) -> usize {
        self.carry_out(mailboxes, channel, Some((from, now)))
    }

    /// Carries out requests that were held, if the node hears the channel: at most
    /// [`RELEASED_AT_ONCE_MAX`], so that the lock is held for a short time. Returns how many are
    /// left. The caller must try again until none is: mailboxes may have no room, and workers may
    /// be behind.
    pub fn carry_on(&self, mailboxes: &WorkerMailboxes, channel: &Channel) -> usize {
        self.carry_out(mailboxes, channel, None)
    }

    fn carry_out(
        &self,
        mailboxes: &WorkerMailboxes,
        channel: &Channel,
        heard_since: Option<(MarkPlace, Millis)>,
    ) -> usize {
        let Some(stream) = &self.stream else { return 0 };
        let mut woken = WorkerSet::default();
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return 0 };
        let Some(attachment) = entry.attachment.as_deref_mut() else { return 0 };
        if heard_since.is_none() && attachment.phase != Phase::Attached {
            return 0;
        }
        let must_tell_gap = std::mem::take(&mut attachment.must_tell_gap);
        if must_tell_gap && !self.post_gap(mailboxes, (channel, entry), None, &mut woken) {
            if let Some(attachment) = &mut entry.attachment {
                attachment.must_tell_gap = true;
            }
            return 1;
        }
        let Some(attachment) = entry.attachment.as_deref_mut() else { return 0 };
        if attachment.phase == Phase::Asked {
            attachment.phase = Phase::Attached;
            if let Some((from, now)) = heard_since {
                (attachment.heard_from, attachment.whole_since) = (Some(from.seq()), now);
                attachment.epoch = from.epoch();
            }
            // What was before is history, which no worker lacks.
            entry.offset = 0;
            stream.note_news(channel, attachment);
        }
        for _ in 0..RELEASED_AT_ONCE_MAX {
            if !self.release(mailboxes, (channel, entry), &mut woken) {
                break;
            }
        }
        let left = entry.attachment.as_ref().map_or(0, |attachment| attachment.held.len());
        self.let_go(&mut shard, channel);
        drop(shard);
        mailboxes.wake(woken);
        stream.interests.wake();
        left
    }

    /// Carries out the next held request. Returns false if no request is held, or its worker is
    /// behind or has no room.
    fn release(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, entry): (&Channel, &mut Entry),
        woken: &mut WorkerSet,
    ) -> bool {
        let Some(attachment) = entry.attachment.as_deref_mut() else { return false };
        let Some(next) = attachment.held.front() else { return false };
        let is_behind = attachment.is_behind(next.subscriber().connection.worker);
        if is_behind || attachment.earlier == Earlier::Wanted {
            return false;
        }
        let Some(held) = attachment.next() else { return false };
        self.try_held(mailboxes, (channel, entry), (held, true), woken)
    }

    /// Carries out or answers a request that was held first, unless its connection has ended. If
    /// `is_heard` is false, a join of a connection that is not counted is refused. Returns false,
    /// and holds the request first again, if a mailbox has no room.
    fn try_held(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, entry): (&Channel, &mut Entry),
        (held, is_heard): (Held, bool),
        woken: &mut WorkerSet,
    ) -> bool {
        let Some(stream) = &self.stream else { return false };
        let connection = held.subscriber().connection;
        let (lives, counted) =
            entry.attachment.as_ref().map_or((true, None), |one| one.waiting(connection));
        let is_refused = matches!(held, Held::Join(_)) && counted.is_none() && !is_heard;
        let done = match (&held, counted) {
            _ if !lives => Ok(WorkerSet::default()),
            (Held::Join(join), None) if is_refused => {
                refuse(mailboxes, (channel, connection), join.reply)
            }
            (Held::Join(join), already) => {
                let join = Join { already, ..join.to_join(channel) };
                self.join_now(mailboxes, entry, &join).map(posted)
            }
            (Held::Leave(leave), Some(_)) => {
                self.leave_now(mailboxes, entry, &leave.to_leave(channel)).map(posted)
            }
            (Held::Leave(leave), None) => {
                let leave = leave.to_leave(channel);
                leave.reserve_end(mailboxes).map(|place| leave.post_end(place))
            }
        };
        let attachment = entry.attachment.get_or_insert_default();
        let Ok(posted) = done else {
            attachment.held.push_front(held);
            return false;
        };
        let mut refused = lock(&self.home(channel).refused);
        match is_refused && lives {
            true => refused.insert((channel.clone(), connection)),
            // The worker has thought so since it made this request.
            false => refused.remove(&(channel.clone(), connection)),
        };
        attachment.settle(&held, !is_refused, &stream.held);
        woken.add(posted);
        true
    }

    /// Gives up requests that are held, because the node cannot hear the channel at the moment: at
    /// most [`RELEASED_AT_ONCE_MAX`]. Joins are refused. Requests of a connection that is counted
    /// already are carried out, because it stays a subscriber, which will be told of the gap.
    /// Returns whether the caller must try again: if there may be more, or if a mailbox has no
    /// room.
    pub fn unattachable(&self, mailboxes: &WorkerMailboxes, channel: &Channel) -> bool {
        let Some(stream) = &self.stream else { return false };
        let mut woken = WorkerSet::default();
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return false };
        let mut must_go_on = true;
        for _ in 0..RELEASED_AT_ONCE_MAX {
            let attachment = entry.attachment.as_deref_mut();
            let attachment = attachment.filter(|one| one.phase != Phase::Attached);
            let Some(held) = attachment.and_then(Attachment::next) else {
                must_go_on = false;
                break;
            };
            if !self.try_held(mailboxes, (channel, entry), (held, false), &mut woken) {
                break;
            }
        }
        if let Some(attachment) = entry.attachment.as_deref_mut()
            && attachment.phase == Phase::Asked
            && !entry.shares.is_empty()
        {
            // It has subscribers from before the thread began again.
            stream.note(channel, attachment);
        }
        self.let_go(&mut shard, channel);
        drop(shard);
        mailboxes.wake(woken);
        stream.interests.wake();
        must_go_on
    }
}

impl Attachment {
    /// Notes that a connection has ended. What is held of it is passed over. Returns whether it is
    /// counted.
    fn end(&mut self, connection: ConnId) -> bool {
        let Some(waiting) = self.connections.get_mut(&connection) else { return false };
        waiting.has_ended = true;
        waiting.counted.is_some()
    }

    /// Returns whether a connection lives, as far as its held requests know, and the encoding under
    /// which it is counted; `None` if it is not counted.
    fn waiting(&self, connection: ConnId) -> (bool, Option<Encoding>) {
        let waiting = self.connections.get(&connection);
        waiting.map_or((true, None), |waiting| {
            (!waiting.has_ended, waiting.counted.map(|(encoding, _)| encoding))
        })
    }
}

fn posted((_, posted): (Announced, WorkerSet)) -> WorkerSet {
    posted
}

/// Posts the refusal of a join.
fn refuse(
    mailboxes: &WorkerMailboxes,
    (channel, connection): (&Channel, ConnId),
    reply: Option<AckId>,
) -> Result<WorkerSet, Refused> {
    let mailbox = mailboxes.of(connection.worker);
    let place = mailbox.reserve(Slot::Control).ok_or(Refused::Overloaded)?;
    let channel = channel.clone();
    place.post(Mail::JoinRefused(Box::new(JoinRefused { connection, channel, reply })));
    let mut posted = WorkerSet::default();
    posted.insert(connection.worker);
    Ok(posted)
}
