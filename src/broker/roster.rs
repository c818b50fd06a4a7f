//! The members of one channel on all nodes of a cluster, as one node knows them.
//!
//! Each node tells its own members in the channel's stream: who joins with the first of its
//! connections there, and who leaves with the last one. All nodes take these [`Tidings`] in the one
//! order of the stream, so that they announce the same joins and leaves at the same places among
//! the publications. A member is announced when the first node has it, and when the last one has it
//! no more.
//!
//! Tidings are numbered by the node that tells them. A node that begins to hear a channel asks the
//! others for their lists. A list says up to which number it is right: tidings up to that number
//! are passed over afterwards, and later ones carry it forward. A number that is left out, or a
//! digest of the node's members that differs, shows that something was missed; then the list is
//! asked for again. A list replaces what was known, so that only differences are announced.
//!
//! A subscriber is activated at once. Its own join comes back from the stream a moment later, and
//! is not announced to the connection whose snapshot has it already.
//!
//! The other design, one message for each channel and node with the list of the node's members as
//! state that the stream keeps, needs no questions, but each join of a channel of n members costs n
//! members on the wire. Here a join costs one small message, and an attach one question to each
//! node that has the channel. Of each member a node keeps 40 bytes, and 16 for each node that has
//! it. Channels that do not show presence have no roster.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::presence::Presence;
use crate::limits::{
    PRESENCE_CHANGES_MAX, PRESENCE_MEMBERS_MAX, PRESENCE_PARTS_MAX, PRESENCE_TOLD_BYTES,
};
use crate::message::{
    ConnId, Member, MemberId, MessageId, Millis, News, NodeLife, PresenceMode, Snapshot, Tidings,
    bytes_of, digest,
};

/// The members of one channel on all nodes.
#[derive(Debug)]
pub struct Roster {
    /// Each member once. Its connections are the nodes that have it.
    all: Presence,
    nodes: Vec<Node>,
    /// Members that have joined here and whose join has not come back, each with the connection
    /// whose snapshot has it, and when it joined.
    pending: HashMap<MemberId, (ConnId, Millis)>,
    /// What the other nodes must be told.
    changes: Vec<Change>,
    /// Whether they must be told the whole list.
    must_list: bool,
    /// Whether they must be asked for their lists.
    wants_lists: bool,
    /// Whether a node has not told its list.
    is_partial: bool,
    /// The number of the last tidings of this node.
    number: u64,
    /// The digest of the members that this node has told.
    digest: u64,
}

/// What one node has told.
#[derive(Debug)]
struct Node {
    life: NodeLife,
    number: u64,
    is_doubtful: bool,
    members: HashSet<MemberId>,
    digest: u64,
    /// The number of a list of which parts are missing, and the parts that came.
    list: (u64, u32, Vec<Member>),
}

/// A join or a leave of this node.
#[derive(Debug)]
enum Change {
    Joined(Member),
    Left(Member),
}

/// A join or a leave that subscribers must hear.
#[derive(Debug)]
pub struct Announcement {
    /// The member that has joined or left.
    pub member: Member,
    /// Whether it has joined.
    pub is_join: bool,
    /// The connection that does not hear it, because its snapshot has the member.
    pub except: Option<ConnId>,
}

/// What follows from tidings.
#[derive(Debug, Default)]
pub struct Applied {
    /// What subscribers must hear, in order.
    pub announcements: Vec<Announcement>,
    /// The number of joins and leaves that they do not hear, because there are too many members.
    pub suppressed: u64,
    /// Whether tidings before these are missing.
    pub is_doubtful: bool,
}

impl Roster {
    /// Creates the roster of a node that begins to count its tidings behind this number. If it has
    /// members already, it tells their list first.
    pub fn new(number: u64, has_members: bool) -> Self {
        Self {
            all: Presence::default(),
            nodes: Vec::new(),
            pending: HashMap::new(),
            changes: Vec::new(),
            must_list: has_members,
            wants_lists: false,
            is_partial: false,
            number,
            digest: 0,
        }
    }

    /// Notes a member that has joined here with this connection, its first one.
    pub fn join(&mut self, member: Member, connection: ConnId) {
        if !self.all.has(&member.id) {
            self.pending.insert(member.id.clone(), (connection, member.joined_at));
        }
        self.change(Change::Joined(member));
    }

    /// Notes a member whose last connection here has left.
    pub fn leave(&mut self, member: Member) {
        self.pending.remove(&member.id);
        self.change(Change::Left(member));
    }

    fn change(&mut self, change: Change) {
        if self.changes.len() >= PRESENCE_CHANGES_MAX {
            self.tell_list();
        }
        if !self.must_list {
            self.changes.push(change);
        }
    }

    /// Makes the node tell the list of its members, because others may not know it.
    pub fn tell_list(&mut self) {
        self.must_list = true;
        self.changes = Vec::new();
    }

    /// Makes the node ask the others for their lists, because it may have missed tidings. Until
    /// they have answered, snapshots say that they are not complete.
    pub fn ask_lists(&mut self) {
        self.wants_lists = true;
        self.is_partial = true;
    }

    /// Sets whether a node has not told its list.
    pub fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    /// Returns whether something must be sent.
    pub fn has_news(&self) -> bool {
        self.must_list || self.wants_lists || !self.changes.is_empty()
    }

    /// Returns whether the other nodes must be asked for their lists, once.
    pub fn take_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_lists)
    }

    /// Takes what this node, which has these members, must tell.
    pub fn take(&mut self, own: &Presence, now: Millis, id: MessageId) -> Vec<Tidings> {
        if std::mem::take(&mut self.must_list) {
            self.number += 1;
            self.digest = own.members().iter().fold(0, |all, one| all ^ digest(&one.id));
            return self.list(own, now, id);
        }
        let mut tidings: Vec<Tidings> = Vec::new();
        let mut bytes = 0;
        for change in std::mem::take(&mut self.changes) {
            let (Change::Joined(member) | Change::Left(member)) = &change;
            let size = bytes_of(member);
            bytes += size;
            self.digest ^= digest(&member.id);
            match (tidings.last_mut().map(|last| &mut last.news), change) {
                (Some(News::Joined(members)), Change::Joined(member))
                | (Some(News::Left(members)), Change::Left(member))
                    if bytes <= PRESENCE_TOLD_BYTES =>
                {
                    members.push(member);
                }
                (_, change) => {
                    let news = match change {
                        Change::Joined(member) => News::Joined(vec![member]),
                        Change::Left(member) => News::Left(vec![member]),
                    };
                    bytes = size;
                    self.number += 1;
                    tidings.push(Tidings::new(self.number, id, now, news));
                }
            }
            if let Some(last) = tidings.last_mut() {
                last.digest = Some(self.digest);
            }
        }
        tidings
    }

    /// Returns the list of this node, which has these members, as it is right now.
    pub fn list(&self, own: &Presence, now: Millis, id: MessageId) -> Vec<Tidings> {
        list(own, self.number, now, id)
    }

    /// Returns the members and their number, as far as this mode shows them to a subscriber: with
    /// its own member, if that has joined with this connection. `None` stands for all subscribers
    /// of this node.
    pub fn view(
        &mut self,
        mode: PresenceMode,
        of: Option<(Option<&MemberId>, ConnId)>,
    ) -> (Arc<Snapshot>, usize) {
        if mode == PresenceMode::Off {
            return (Arc::default(), 0);
        }
        let member = |(id, (_, joined_at)): (&MemberId, &(ConnId, Millis))| Member {
            id: id.clone(),
            joined_at: *joined_at,
        };
        let own: Vec<_> = match of {
            Some((id, connection)) => {
                let own = id.and_then(|id| self.pending.get_key_value(id));
                own.filter(|(_, (one, _))| *one == connection).map(member).into_iter().collect()
            }
            None => self.pending.iter().map(member).collect(),
        };
        let count = self.all.count() + own.len();
        if mode == PresenceMode::Count {
            return (Arc::default(), count);
        }
        let shared = self.all.snapshot();
        if own.is_empty() && !self.is_partial {
            return (shared, count);
        }
        let mut members = shared.members.clone();
        let room = PRESENCE_MEMBERS_MAX - members.len();
        members.extend(own.into_iter().take(room));
        let mut snapshot = Snapshot::new(members);
        snapshot.is_partial = self.is_partial;
        (Arc::new(snapshot), count)
    }

    /// Returns the starts of a node, but for the one that lives, that have members here.
    pub fn lives_of<'a>(
        &'a self,
        node: &'a str,
        living: Option<u64>,
    ) -> impl Iterator<Item = &'a NodeLife> {
        let ended = self.nodes.iter().filter(move |one| {
            &*one.life.node == node && Some(one.life.start) != living && !one.members.is_empty()
        });
        ended.map(|one| &one.life)
    }
}

/// Tidings.
impl Roster {
    /// Takes tidings of a node, under the mode of the channel.
    pub fn apply(&mut self, from: &NodeLife, tidings: &Tidings, mode: PresenceMode) -> Applied {
        let mut applied = Applied::default();
        if let News::Gone(life) = &tidings.news {
            if let Some(at) = self.nodes.iter().position(|one| one.life == *life) {
                self.clear(at, mode, &mut applied);
                self.nodes.swap_remove(at);
            }
            return applied;
        }
        let at = self.node(from);
        if self.nodes[at].life != *from {
            if !matches!(tidings.news, News::List { .. }) {
                self.clear(at, mode, &mut applied);
            }
            let node = &mut self.nodes[at];
            (node.life, node.number, node.list) = (from.clone(), 0, Default::default());
        }
        let number = tidings.number;
        let known = self.nodes[at].number;
        if let News::List { part, parts, members } = &tidings.news {
            if number < known {
                applied.is_doubtful = self.nodes[at].is_doubtful;
            } else if let Some(list) = self.nodes[at].assemble(number, (*part, *parts), members) {
                self.replace(at, list, mode, &mut applied);
                let node = &mut self.nodes[at];
                (node.number, node.is_doubtful) = (number, false);
            }
            return applied;
        }
        if number <= known {
            return applied;
        }
        if tidings.is_first() {
            self.clear(at, mode, &mut applied);
            self.nodes[at].is_doubtful = false;
        } else if number != known + 1 {
            self.nodes[at].is_doubtful = true;
        }
        self.nodes[at].number = number;
        match &tidings.news {
            News::Joined(members) => {
                members.iter().for_each(|one| self.add(at, one, mode, &mut applied));
            }
            News::Left(members) => {
                members.iter().for_each(|one| self.remove(at, &one.id, mode, &mut applied));
            }
            News::List { .. } | News::Gone(_) => {}
        }
        let node = &mut self.nodes[at];
        node.is_doubtful |= tidings.digest.is_some_and(|digest| digest != node.digest);
        applied.is_doubtful = node.is_doubtful;
        applied
    }

    /// Forgets nodes that are not among these, because they do not have the channel.
    pub fn keep_only(&mut self, nodes: &[NodeLife], mode: PresenceMode) -> Applied {
        let mut applied = Applied::default();
        for at in (0..self.nodes.len()).rev() {
            let is_kept = nodes.iter().any(|one| one.node == self.nodes[at].life.node);
            if !is_kept {
                self.clear(at, mode, &mut applied);
                self.nodes.swap_remove(at);
            }
        }
        applied
    }

    /// Sorts the members by the time at which they joined, because lists come in any order.
    pub fn sort(&mut self) {
        let mut members = self.all.members();
        members.sort_by_key(|member| member.joined_at);
        let mut all = Presence::default();
        for Member { id, joined_at } in members {
            for _ in self.nodes.iter().filter(|node| node.members.contains(&id)) {
                all.join(&id, joined_at);
            }
        }
        self.all = all;
    }

    /// Returns the place of a node, whatever its start.
    fn node(&mut self, life: &NodeLife) -> usize {
        let found = self.nodes.iter().position(|one| one.life.node == life.node);
        found.unwrap_or_else(|| {
            self.nodes.push(Node {
                life: life.clone(),
                number: 0,
                is_doubtful: false,
                members: HashSet::new(),
                digest: 0,
                list: Default::default(),
            });
            self.nodes.len() - 1
        })
    }

    fn add(&mut self, at: usize, member: &Member, mode: PresenceMode, applied: &mut Applied) {
        if !self.nodes[at].members.insert(member.id.clone()) {
            return;
        }
        self.nodes[at].digest ^= digest(&member.id);
        let is_announced = self.all.would_announce_join(&member.id);
        match self.all.join(&member.id, member.joined_at) {
            Some(member) => {
                let except = self.pending.remove(&member.id).map(|(connection, _)| connection);
                applied.note(mode, is_announced, Announcement { member, is_join: true, except });
            }
            None => self.all.backdate(&member.id, member.joined_at),
        }
    }

    fn remove(&mut self, at: usize, id: &MemberId, mode: PresenceMode, applied: &mut Applied) {
        if !self.nodes[at].members.remove(id) {
            return;
        }
        self.nodes[at].digest ^= digest(id);
        let is_announced = self.all.would_announce_leave(id);
        if let Some(member) = self.all.leave(id) {
            let announcement = Announcement { member, is_join: false, except: None };
            applied.note(mode, is_announced, announcement);
        }
    }

    /// Lets all members of a node leave, on all nodes in the same order.
    fn clear(&mut self, at: usize, mode: PresenceMode, applied: &mut Applied) {
        let ids = self.nodes[at].members.iter().cloned().collect();
        for id in sorted(ids) {
            self.remove(at, &id, mode, applied);
        }
    }

    /// Replaces the members of a node by those of its list.
    fn replace(&mut self, at: usize, list: Vec<Member>, mode: PresenceMode, applied: &mut Applied) {
        let listed: HashSet<_> = list.iter().map(|member| &member.id).collect();
        let members = self.nodes[at].members.iter();
        let gone = members.filter(|id| !listed.contains(id)).cloned().collect();
        for id in sorted(gone) {
            self.remove(at, &id, mode, applied);
        }
        for member in &list {
            self.add(at, member, mode, applied);
        }
    }
}

impl Node {
    /// Takes a part of a list. Returns the list if that was the last part.
    fn assemble(
        &mut self,
        number: u64,
        (part, parts): (u32, u32),
        members: &[Member],
    ) -> Option<Vec<Member>> {
        if part == 0 {
            self.list = (number, 0, Vec::new());
        }
        let (of, next, all) = &mut self.list;
        if (*of, *next) != (number, part) || parts > PRESENCE_PARTS_MAX {
            return None;
        }
        all.extend_from_slice(members);
        *next += 1;
        (part + 1 == parts).then(|| std::mem::take(&mut self.list).2)
    }
}

impl Applied {
    fn note(&mut self, mode: PresenceMode, is_announced: bool, announcement: Announcement) {
        match (mode, is_announced) {
            (PresenceMode::Full, true) => self.announcements.push(announcement),
            (PresenceMode::Full, false) => self.suppressed += 1,
            _ => {}
        }
    }
}

/// Returns the list of a node with these members, whose last tidings have this number.
pub fn list(own: &Presence, number: u64, now: Millis, id: MessageId) -> Vec<Tidings> {
    let (mut parts, mut rest, mut bytes) = (Vec::new(), Vec::new(), 0);
    for member in own.members() {
        let size = bytes_of(&member);
        bytes += size;
        if bytes > PRESENCE_TOLD_BYTES {
            bytes = size;
            parts.push(std::mem::take(&mut rest));
        }
        rest.push(member);
    }
    parts.push(rest);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let parts = (0..).zip(parts).map(|(part, members)| {
        let news = News::List { part, parts: count, members };
        Tidings::new(number, id, now, news)
    });
    parts.collect()
}

/// Returns members in an order that is the same on all nodes.
fn sorted(mut ids: Vec<MemberId>) -> Vec<MemberId> {
    ids.sort_unstable_by(|one, other| match (one, other) {
        (MemberId::User(one), MemberId::User(other)) => one.id.cmp(&other.id),
        (MemberId::Connection(one), MemberId::Connection(other)) => one.cmp(other),
        (one, other) => other.is_user().cmp(&one.is_user()),
    });
    ids
}

#[cfg(test)]
mod tests;
