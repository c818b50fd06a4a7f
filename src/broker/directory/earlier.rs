//! What the stream has of a channel from before the node heard it.
//!
//! A subscriber that asks for earlier publications waits until they are read, and then receives
//! them like those that the node kept.

use std::sync::Arc;

use super::Directory;
use super::attachment::{Earlier, Held, Phase};
use super::entry::Entry;
use super::requests::Join;
use crate::broker::channel_log::ChannelLogs;
use crate::limits::EARLIER_MS_MAX;
use crate::message::{Channel, Millis, Nanos, Offset, Publication, ReplayWish, Space, Transport};

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// Publications of a channel, as the stream has them.
#[derive(Debug)]
pub struct Filling {
    /// The publications in order, each with its offset and its age in milliseconds. They may be
    /// older than the start of the node.
    pub publications: Vec<(Offset, Millis, Arc<Publication>)>,
    /// The place behind which they are all.
    pub behind: Offset,
    /// Since when none is missing, in milliseconds since the node started; `None` if only those
    /// behind a place were read.
    pub whole_since: Option<Millis>,
}

impl Entry {
    /// Returns whether a subscriber needs earlier publications that the stream may have and the
    /// channel does not keep. The first stream needs them, because its position is to be known on
    /// other nodes: that of the last publication.
    pub(super) fn lacks_earlier(&self, join: &Join<'_>, logs: &ChannelLogs) -> bool {
        if let Some(behind) = join.replay.behind {
            return self.log.as_ref().is_none_or(|log| !log.covers(behind));
        }
        let is_stream = join.subscriber.transport == Transport::EventStream && logs.keep > 0;
        // A session that its own worker resumes has its missed publications from there, and may not
        // wait.
        let may_lack = !join.comes_back && join.channel.space() != Space::Resources;
        may_lack && (self.lacks_in_window(join) || is_stream && self.lacks_in_log(join))
    }

    fn lacks_in_window(&self, join: &Join<'_>) -> bool {
        // Without a replay the subscriber needs the last publication, as its position.
        let seconds = join.options.retain.seconds().max(join.replay.seconds);
        let window = Millis::from(seconds) * 1_000;
        let attachment = self.attachment.as_deref();
        let heard = attachment.filter(|one| one.phase == Phase::Attached);
        let is_whole = heard.is_some_and(|one| one.whole_since + window <= join.clock);
        let is_read = attachment.is_some_and(|one| one.earlier == Earlier::Read);
        window > 0 && (!is_whole && !is_read || self.is_passed_by(join))
    }

    /// Returns whether the channel does not know how far the subscriber has come. Another node may
    /// have sent it what this one has not received yet.
    fn is_passed_by(&self, join: &Join<'_>) -> bool {
        let after = join.replay.after.filter(|after| !after.is_nil());
        let is_in_log = |after| self.log.as_ref().is_some_and(|log| log.knows(after));
        after.is_some_and(|after| !is_in_log(after) && !self.kept.has(after))
    }

    fn lacks_in_log(&self, join: &Join<'_>) -> bool {
        let Some(log) = &self.log else { return true };
        // Nil names a time instead, of which the window alone knows.
        let after = join.replay.after.filter(|after| !after.is_nil());
        after.is_some_and(|after| !log.knows(after))
    }
}

impl Directory {
    /// Begins the log of a channel, if a join that is answered from it waits for what is earlier,
    /// so that nothing is missing between that and the join.
    pub(super) fn keep_from_now(&self, entry: &mut Entry, join: &Join<'_>) {
        if join.subscriber.transport != Transport::EventStream && join.replay.behind.is_none() {
            return;
        }
        if entry.log.is_none() {
            entry.log = self.budgets.logs.begin(join.announcement, entry.heard_behind());
        }
        if let Some(log) = &mut entry.log {
            log.linger(join.clock + EARLIER_MS_MAX);
            self.watch(join.channel, entry);
        }
    }

    /// Returns the place behind which subscribers wait for what is earlier, or 0 if they wait for
    /// all of it. `None` if none waits, or the node does not hear the channel.
    pub fn lacks_earlier(&self, channel: &Channel) -> Option<Offset> {
        let shard = self.shard(channel);
        let attachment = shard.get(channel)?.attachment.as_deref()?;
        if (attachment.phase, attachment.earlier) != (Phase::Attached, Earlier::Wanted) {
            return None;
        }
        let all = attachment.held.iter().filter_map(replay_of);
        Some(all.map(|replay| replay.behind.unwrap_or(0)).min().unwrap_or(0))
    }

    /// Lets a channel keep what the stream has of it, up to the last publication that the node has
    /// received; the rest comes by itself. If `filling` is `None`, because it cannot be read,
    /// subscribers get what the channel keeps. A client that has received on another node what this
    /// one has not received yet goes on waiting. The caller must [carry on](Directory::carry_on).
    pub fn fill(&self, channel: &Channel, filling: Option<Filling>) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        let offset = entry.offset;
        let Some(attachment) = entry.attachment.as_deref_mut() else { return };
        // What was read before the node heard the channel may lack what came until then.
        if (attachment.phase, attachment.earlier) != (Phase::Attached, Earlier::Wanted) {
            return;
        }
        attachment.earlier = Earlier::Unread;
        let up_to = if offset == 0 { attachment.heard_from } else { Some(offset) };
        let (Some(up_to), Some(filling)) = (up_to, filling) else { return };
        let mut earlier = filling.publications;
        let received = earlier.partition_point(|(offset, ..)| *offset <= up_to);
        let later = earlier.split_off(received);
        let has = |replay: ReplayWish| match (replay.behind, replay.after) {
            (Some(behind), _) => {
                let is_in_log = entry.log.as_ref().is_some_and(|log| log.covers(behind));
                is_in_log || filling.behind <= behind
            }
            (None, _) if filling.whole_since.is_none() => false,
            (None, Some(after)) if !after.is_nil() => {
                let is_in_log = entry.log.as_ref().is_some_and(|log| log.knows(after));
                let is_read = earlier.iter().any(|(.., one)| one.id == after);
                is_in_log || is_read || entry.kept.has(after)
            }
            (None, _) => true,
        };
        // Each must be looked at.
        let waits = |held: &mut Held| is_behind_one_of(held, &later) || is_read_too_soon(held, has);
        if attachment.held.iter_mut().map(waits).fold(false, |any, one| any | one) {
            attachment.earlier = Earlier::Wanted;
            return;
        }
        // By a clock that is ahead, they would be younger than the requests that wait for them, and
        // would be sent to clients that asked for no replay.
        let asked_at = attachment.held.iter().filter_map(asked_at).min();
        let latest = asked_at.map_or(Nanos::MAX, |clock| clock.saturating_mul(NANOS_PER_MILLI));
        for one in earlier.iter_mut().filter_map(|(.., one)| Arc::get_mut(one)) {
            one.accepted = one.accepted.min(latest);
        }
        let mut is_window_whole = true;
        if let Some(since) = filling.whole_since {
            attachment.earlier = Earlier::Read;
            is_window_whole = attachment.whole_since <= since;
            attachment.whole_since = attachment.whole_since.min(since);
        }
        let is_for_log = attachment.held.iter().any(|held| is_stream(held) || is_resumed(held));
        let mut must_watch = false;
        if let (true, Some(log)) = (is_for_log, &mut entry.log) {
            let all: Vec<_> = earlier.iter().map(|(.., one)| one.clone()).collect();
            log.fill(&all, filling.behind, &self.budgets.logs);
            must_watch = true;
        }
        if !is_window_whole {
            earlier
                .retain(|(_, age, one)| *age < Millis::from(one.options.retain.seconds()) * 1_000);
            let young: Vec<_> = earlier.into_iter().map(|(.., one)| one).collect();
            must_watch |= entry.kept.fill(&young, &self.budgets);
        }
        if must_watch {
            self.watch(channel, entry);
        }
    }
}

fn asked_at(held: &Held) -> Option<Millis> {
    let Held::Join(join) = held else { return None };
    Some(join.clock)
}

fn is_stream(held: &Held) -> bool {
    held.subscriber().transport == Transport::EventStream
}

/// Returns whether a request is that of a session that is resumed.
fn is_resumed(held: &Held) -> bool {
    replay_of(held).is_some_and(|replay| replay.behind.is_some())
}

fn replay_of(held: &Held) -> Option<ReplayWish> {
    match held {
        Held::Join(join) => Some(join.replay),
        Held::Leave(_) => None,
    }
}

/// Returns whether a read did not find what a request asks for, and a later one may: the read may
/// have begun before the request.
fn is_read_too_soon(held: &mut Held, has: impl Fn(ReplayWish) -> bool) -> bool {
    let Held::Join(join) = held else { return false };
    let has_been_read_for = std::mem::replace(&mut join.has_been_read_for, true);
    !has_been_read_for && !has(join.replay)
}

/// Returns whether a request continues behind one of these publications.
fn is_behind_one_of(held: &Held, later: &[(Offset, Millis, Arc<Publication>)]) -> bool {
    replay_of(held)
        .and_then(|replay| replay.after)
        .is_some_and(|after| later.iter().any(|(.., one)| one.id == after))
}
