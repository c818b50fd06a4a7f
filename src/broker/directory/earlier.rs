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
use crate::message::{Channel, Millis, Offset, Publication, Space, Transport};

/// Publications of a channel, as the stream has them.
#[derive(Debug)]
pub struct Filling {
    /// The publications in order, each with its offset and its age in milliseconds. They may be
    /// older than the start of the node.
    pub publications: Vec<(Offset, Millis, Arc<Publication>)>,
    /// Since when none is missing, in milliseconds since the node started.
    pub whole_since: Millis,
}

impl Entry {
    /// Returns whether a subscriber needs earlier publications that the stream may have and the
    /// channel does not keep. The first stream needs them, because its position is to be known on
    /// other nodes: that of the last publication.
    pub(super) fn lacks_earlier(&self, join: &Join<'_>, logs: &ChannelLogs) -> bool {
        let is_stream = join.subscriber.transport == Transport::EventStream && logs.keep > 0;
        // A session that is resumed has its missed publications from elsewhere, and may not wait.
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
        window > 0 && !is_whole && !is_read
    }

    fn lacks_in_log(&self, join: &Join<'_>) -> bool {
        let Some(log) = &self.log else { return true };
        // Nil names a time instead, of which the window alone knows.
        let after = join.replay.after.filter(|after| !after.is_nil());
        after.is_some_and(|after| !log.knows(after))
    }
}

impl Directory {
    /// Begins the log of a channel, if the join of a stream waits for what is earlier, so that
    /// nothing is missing between that and the join.
    pub(super) fn keep_from_now(&self, entry: &mut Entry, join: &Join<'_>) {
        if join.subscriber.transport != Transport::EventStream {
            return;
        }
        if entry.log.is_none() {
            entry.log = self.budgets.logs.begin(join.announcement);
        }
        if let Some(log) = &mut entry.log {
            log.linger(join.clock + EARLIER_MS_MAX);
            self.watch(join.channel, entry);
        }
    }

    /// Returns whether the node hears the channel, and a subscriber waits for what is earlier.
    pub fn lacks_earlier(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel);
        let attachment = shard.get(channel).and_then(|entry| entry.attachment.as_deref());
        attachment.is_some_and(|one| one.phase == Phase::Attached && one.earlier == Earlier::Wanted)
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
        if attachment.held.iter().any(|held| is_behind_one_of(held, &later)) {
            attachment.earlier = Earlier::Wanted;
            return;
        }
        attachment.earlier = Earlier::Read;
        let is_window_whole = attachment.whole_since <= filling.whole_since;
        attachment.whole_since = attachment.whole_since.min(filling.whole_since);
        let is_for_stream = attachment.held.iter().any(is_stream);
        let mut must_watch = false;
        if let (true, Some(log)) = (is_for_stream, &mut entry.log) {
            let all: Vec<_> = earlier.iter().map(|(.., one)| one.clone()).collect();
            log.fill(&all, &self.budgets.logs);
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

fn is_stream(held: &Held) -> bool {
    held.subscriber().transport == Transport::EventStream
}

/// Returns whether a request continues behind one of these publications.
fn is_behind_one_of(held: &Held, later: &[(Offset, Millis, Arc<Publication>)]) -> bool {
    let Held::Join(join) = held else { return false };
    join.replay.after.is_some_and(|after| later.iter().any(|(.., one)| one.id == after))
}
