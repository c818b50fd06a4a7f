//! The members of a channel on all nodes: what this node tells of its own, and what it hears.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attachment::{Attachment, Phase};
use super::entry::{Entry, workers};
use super::stream::Stream;
use super::{Directory, lock};
use crate::broker::presence::Presence;
use crate::broker::roster::{self, Applied, Roster};
use crate::mailbox::{WorkerMailboxes, WorkerSet};
use crate::message::{
    Channel, ConnId, Content, Heard, Left, Member, MessageId, Millis, News, NodeLife, Outgoing,
    PresenceMode, Publication, Tidings,
};

impl Stream {
    /// Makes a channel show the members of all nodes from here on. `own` are those of this node.
    pub(super) fn show_presence(
        &self,
        channel: &Channel,
        attachment: &mut Attachment,
        own: &Presence,
    ) {
        if attachment.roster.is_some() {
            return;
        }
        let mut roster = self.roster(own);
        if attachment.phase != Phase::Asked {
            // Otherwise they are asked before the node is attached.
            roster.ask_lists();
        }
        attachment.roster = Some(Box::new(roster));
        self.note_news(channel, attachment);
    }

    fn roster(&self, own: &Presence) -> Roster {
        let times = self.countings.fetch_add(1, Ordering::Relaxed);
        Roster::new(Tidings::beginning(times + 1), own.count() > 0)
    }

    /// Notes a channel whose members changed.
    pub(super) fn note_news(&self, channel: &Channel, attachment: &mut Attachment) {
        if attachment.roster.as_ref().is_some_and(|roster| roster.has_news()) {
            self.note(channel, attachment);
        }
    }
}

impl Entry {
    fn roster(&mut self) -> Option<&mut Roster> {
        self.attachment.as_mut()?.roster.as_deref_mut()
    }

    /// Returns whether joins and leaves are told to the other nodes.
    pub(super) fn has_roster(&self) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.roster.is_some())
    }
}

/// What this node tells.
impl Directory {
    pub(super) fn tell_join(
        &self,
        channel: &Channel,
        entry: &mut Entry,
        member: &Member,
        connection: ConnId,
    ) {
        if let Some(roster) = entry.roster() {
            roster.join(member.clone(), connection);
        }
        self.note_news(channel, entry);
    }

    pub(super) fn tell_leave(&self, channel: &Channel, entry: &mut Entry, member: &Member) {
        if let Some(roster) = entry.roster() {
            roster.leave(member.clone());
        }
        self.note_news(channel, entry);
    }

    fn note_news(&self, channel: &Channel, entry: &mut Entry) {
        if let (Some(stream), Some(attachment)) = (&self.stream, &mut entry.attachment) {
            stream.note_news(channel, attachment);
        }
    }

    /// Forgets the members of other nodes, because the node does not hear the channel.
    pub(super) fn begin_roster_again(&self, entry: &mut Entry) {
        if let (Some(stream), Some(attachment)) = (&self.stream, &mut entry.attachment)
            && let Some(roster) = &mut attachment.roster
        {
            **roster = stream.roster(&entry.presence);
        }
    }

    /// Returns whether the members of a channel on all nodes are shown here.
    pub fn shows_presence(&self, channel: &Channel) -> bool {
        self.shard(channel).get(channel).is_some_and(Entry::has_roster)
    }

    /// Takes what the node must tell of its members of a channel, if it hears the channel.
    pub fn outgoing(&self, channel: &Channel, now: Millis, id: MessageId) -> Outgoing {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return Outgoing::default() };
        let attachment = entry.attachment.as_deref_mut();
        let attachment = attachment.filter(|one| one.phase != Phase::Asked);
        let roster = attachment.and_then(|attachment| attachment.roster.as_mut());
        let Some(roster) = roster.filter(|roster| roster.has_news()) else {
            return Outgoing::default();
        };
        let wants_lists = roster.take_wish();
        Outgoing { tidings: roster.take(&entry.presence, now, id), wants_lists }
    }

    /// Returns the list of the node's members of a channel, for a node that asks for it.
    pub fn list(&self, channel: &Channel, now: Millis, id: MessageId) -> Vec<Tidings> {
        let countings = self.stream.as_ref().map(|one| one.countings.load(Ordering::Relaxed));
        let number = Tidings::beginning(countings.unwrap_or(0));
        let shard = self.shard(channel);
        let Some(entry) = shard.get(channel) else {
            return roster::list(&Presence::default(), number, now, id);
        };
        match entry.attachment.as_ref().and_then(|attachment| attachment.roster.as_ref()) {
            Some(roster) => roster.list(&entry.presence, now, id),
            None => roster::list(&entry.presence, number, now, id),
        }
    }

    /// Makes the node tell the list of its members of a channel, because what it told may be lost.
    pub fn tell_list(&self, channel: &Channel) {
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return };
        if let Some(roster) = entry.roster() {
            roster.tell_list();
        }
        self.note_news(channel, entry);
    }
}

/// What this node hears.
impl Directory {
    /// Takes tidings about the members of a channel, and announces joins and leaves. `mode` is that
    /// of the channel's definition; `None` if no definition governs it any more.
    pub fn told(
        &self,
        mailboxes: &WorkerMailboxes,
        channel: &Channel,
        (from, tidings): (&NodeLife, &Tidings),
        mode: Option<PresenceMode>,
    ) -> Heard {
        let apply = |roster: &mut Roster, mode| roster.apply(from, tidings, mode);
        self.change(mailboxes, (channel, mode), tidings, apply)
    }

    /// Forgets nodes that do not have a channel any more, and announces that their members have
    /// left. `nodes` are those that have it; `None` if that is not known. Sets whether the list of
    /// one of them is missing.
    pub fn listed(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, mode): (&Channel, Option<PresenceMode>),
        (nodes, is_partial): (Option<&[NodeLife]>, bool),
        (at, id): (Millis, MessageId),
    ) -> Heard {
        let news = News::Left(Vec::new());
        let tidings = Tidings::new(0, id, at, news);
        self.change(mailboxes, (channel, mode), &tidings, |roster, mode| {
            roster.set_partial(is_partial);
            let applied =
                nodes.map_or_else(Applied::default, |nodes| roster.keep_only(nodes, mode));
            roster.sort();
            applied
        })
    }

    /// Changes the roster of a channel and announces what has changed.
    fn change(
        &self,
        mailboxes: &WorkerMailboxes,
        (channel, mode): (&Channel, Option<PresenceMode>),
        tidings: &Tidings,
        change: impl FnOnce(&mut Roster, PresenceMode) -> Applied,
    ) -> Heard {
        let mut woken = WorkerSet::default();
        let mut shard = self.shard(channel);
        let Some(entry) = shard.get_mut(channel) else { return Heard::default() };
        let Some(attachment) = entry.attachment.as_deref_mut() else { return Heard::default() };
        if let Some(stream) = &self.stream
            && mode.is_some_and(|mode| mode != PresenceMode::Off)
        {
            // Its definition may have begun to show members after its subscribers here had joined.
            stream.show_presence(channel, attachment, &entry.presence);
        }
        let mode = mode.unwrap_or(entry.presence_mode);
        let Some(roster) = &mut attachment.roster else { return Heard::default() };
        let Applied { announcements, suppressed, is_doubtful } = change(roster, mode);
        let mut is_behind = false;
        for one in announcements {
            let id = tidings.announcement(&one.member.id);
            let member = Arc::new(one.member);
            let content = match one.is_join {
                true => Content::Joined(member, one.except),
                false => Content::Left(member, one.except),
            };
            let event = Arc::new(Publication::new(id, channel.clone(), tidings.at, content));
            for worker in workers(&entry.shares) {
                let has_all = !attachment.is_behind(worker);
                let place = mailboxes.reserve(std::iter::once(worker)).filter(|_| has_all);
                match place {
                    Some(place) => woken.add(place.post(&event, entry.offset)),
                    None => is_behind = true,
                }
            }
        }
        // A worker that missed an announcement is told so with the next gap, when it has room.
        attachment.must_tell_gap |= is_behind;
        drop(shard);
        mailboxes.wake(woken);
        Heard { is_behind, is_doubtful, suppressed }
    }

    /// Returns the channels on which starts of a node have members, but for the one that lives;
    /// `None` if none does. It looks through all channels.
    pub fn members_of(&self, node: &str, living: Option<u64>) -> Vec<Left> {
        let mut found = Vec::new();
        for shard in &self.shards {
            for (channel, entry) in lock(&shard.entries).iter() {
                let roster = entry.attachment.as_ref().and_then(|one| one.roster.as_ref());
                let lives = roster.into_iter().flat_map(|roster| roster.lives_of(node, living));
                found.extend(lives.map(|life| (channel.clone(), life.clone())));
            }
        }
        found
    }
}
