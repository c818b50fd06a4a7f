//! The members of a channel, each counted across the connections of one user.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Found;

use crate::limits::PRESENCE_MEMBERS_MAX;
use crate::message::{Member, MemberId, Millis, Snapshot};

/// The members of one channel. Without members it owns no memory.
#[derive(Debug, Default)]
pub struct Presence(Option<Box<Members>>);

/// Members in places that are chained by age. A join or a leave touches its own place and the two
/// beside it, however many members there are.
#[derive(Debug)]
struct Members {
    by_id: HashTable<u32>,
    hasher: RandomState,
    places: Vec<Place>,
    /// Heads of the chains; [`NONE`] if a chain is empty. Free places are chained by `after`.
    oldest: u32,
    newest: u32,
    free: u32,
    /// The first members, until one of them changes.
    snapshot: Option<Arc<Snapshot>>,
}

/// A member, or a free place.
#[derive(Debug)]
struct Place {
    member: Member,
    connections: u32,
    before: u32,
    after: u32,
    /// Whether a snapshot has named the member. While a snapshot is kept, these are its members.
    is_named: bool,
}

/// Marks the end of a chain.
const NONE: u32 = u32::MAX;

impl Presence {
    /// Returns whether a join of `id` would add a member that must be announced.
    pub fn would_announce_join(&self, id: &MemberId) -> bool {
        self.count() < PRESENCE_MEMBERS_MAX && self.place(id).is_none()
    }

    /// Returns whether a leave of `id` would remove a member, and that must be announced.
    pub fn would_announce_leave(&self, id: &MemberId) -> bool {
        self.count() <= PRESENCE_MEMBERS_MAX
            && self.place(id).is_some_and(|place| place.connections == 1)
    }

    /// Counts a connection. Returns the member if it is new.
    pub fn join(&mut self, id: &MemberId, now: Millis) -> Option<Member> {
        self.0.get_or_insert_with(Box::default).join(id, now)
    }

    /// Uncounts a connection. Returns the member if that was its last connection.
    pub fn leave(&mut self, id: &MemberId) -> Option<Member> {
        let all = self.0.as_mut()?;
        let left = all.leave(id);
        if all.by_id.is_empty() {
            self.0 = None;
        }
        left
    }

    /// Returns whether `id` is a member.
    pub fn has(&self, id: &MemberId) -> bool {
        self.place(id).is_some()
    }

    /// Returns all members in order of first joining.
    pub fn members(&self) -> Vec<Member> {
        let Some(all) = &self.0 else { return Vec::new() };
        let mut members = Vec::with_capacity(all.by_id.len());
        let mut next = all.oldest;
        while next != NONE {
            let place = &all.places[next as usize];
            members.push(place.member.clone());
            next = place.after;
        }
        members
    }

    /// Notes that a member has joined at this time at the latest.
    pub fn backdate(&mut self, id: &MemberId, at: Millis) {
        let Some(all) = &mut self.0 else { return };
        let Members { by_id, hasher, places, snapshot, .. } = &mut **all;
        let is_same = |place: &u32| places[*place as usize].member.id == *id;
        let Some(&place) = by_id.find(hasher.hash_one(id), is_same) else { return };
        let place = &mut places[place as usize];
        if at < place.member.joined_at {
            place.member.joined_at = at;
            if place.is_named {
                *snapshot = None;
            }
        }
    }

    /// Returns the number of members.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.by_id.len())
    }

    /// Returns the first [`PRESENCE_MEMBERS_MAX`] members, shared until one of them changes.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        let Some(all) = &mut self.0 else { return Arc::default() };
        if let Some(snapshot) = &all.snapshot {
            return snapshot.clone();
        }
        let snapshot = Arc::new(Snapshot::new(all.name_first()));
        all.snapshot = Some(snapshot.clone());
        snapshot
    }

    fn place(&self, id: &MemberId) -> Option<&Place> {
        let all = self.0.as_ref()?;
        let hash = all.hasher.hash_one(id);
        let place = all.by_id.find(hash, |place| all.places[*place as usize].member.id == *id)?;
        Some(&all.places[*place as usize])
    }
}

impl Default for Members {
    fn default() -> Self {
        Self {
            by_id: HashTable::new(),
            hasher: RandomState::new(),
            places: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free: NONE,
            snapshot: None,
        }
    }
}

impl Members {
    fn join(&mut self, id: &MemberId, now: Millis) -> Option<Member> {
        let Self { by_id, hasher, places, .. } = self;
        let hash = hasher.hash_one(id);
        let is_same = |place: &u32| places[*place as usize].member.id == *id;
        let hash_of = |place: &u32| hasher.hash_one(&places[*place as usize].member.id);
        let vacant = match by_id.entry(hash, is_same, hash_of) {
            Found::Occupied(place) => {
                places[*place.get() as usize].connections += 1;
                return None;
            }
            Found::Vacant(vacant) => vacant,
        };
        let at = match self.free {
            NONE => u32::try_from(places.len()).expect("a channel has fewer than 2^32 members"),
            free => free,
        };
        vacant.insert(at);
        if by_id.len() <= PRESENCE_MEMBERS_MAX {
            self.snapshot = None;
        }
        let member = Member { id: id.clone(), joined_at: now };
        let before = std::mem::replace(&mut self.newest, at);
        let place =
            Place { member: member.clone(), connections: 1, before, after: NONE, is_named: false };
        match places.get_mut(at as usize) {
            Some(free) => {
                self.free = free.after;
                *free = place;
            }
            None => {
                if places.is_empty() {
                    // Many channels have one member, and never a second one.
                    places.reserve_exact(1);
                }
                places.push(place);
            }
        }
        *self.after(before) = at;
        Some(member)
    }

    fn leave(&mut self, id: &MemberId) -> Option<Member> {
        let Self { by_id, hasher, places, .. } = self;
        let is_same = |place: &u32| places[*place as usize].member.id == *id;
        let entry = by_id.find_entry(hasher.hash_one(id), is_same).ok()?;
        let at = *entry.get();
        let place = &mut places[at as usize];
        place.connections -= 1;
        if place.connections > 0 {
            return None;
        }
        entry.remove();
        // A free place must not hold a credential.
        let id = std::mem::replace(&mut place.member.id, MemberId::Connection([0; 15]));
        let (before, after) = (place.before, std::mem::replace(&mut place.after, self.free));
        self.free = at;
        if place.is_named {
            self.snapshot = None;
        }
        let joined_at = place.member.joined_at;
        *self.after(before) = after;
        match after {
            NONE => self.newest = before,
            after => self.places[after as usize].before = before,
        }
        Some(Member { id, joined_at })
    }

    /// Returns where the chain goes on behind a place, or its head.
    fn after(&mut self, before: u32) -> &mut u32 {
        match before {
            NONE => &mut self.oldest,
            before => &mut self.places[before as usize].after,
        }
    }

    /// Returns the first members for a snapshot.
    fn name_first(&mut self) -> Vec<Member> {
        let mut first = Vec::with_capacity(self.by_id.len().min(PRESENCE_MEMBERS_MAX));
        let mut next = self.oldest;
        while next != NONE && first.len() < PRESENCE_MEMBERS_MAX {
            let place = &mut self.places[next as usize];
            place.is_named = true;
            first.push(place.member.clone());
            next = place.after;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Credential, Role};

    fn user(id: &str) -> MemberId {
        let (id, role) = (id.into(), Role::Authenticated);
        let credential = Credential { id, email: None, role, is_user: true, expires_at: None };
        MemberId::User(Arc::new(credential))
    }

    fn connection(number: usize) -> MemberId {
        let mut key = [0; 15];
        key[..8].copy_from_slice(&number.to_be_bytes());
        MemberId::Connection(key)
    }

    fn of(members: usize) -> Presence {
        let mut presence = Presence::default();
        for number in 0..members {
            assert!(presence.join(&connection(number), 1).is_some());
        }
        presence
    }

    fn named(presence: &mut Presence) -> Vec<MemberId> {
        presence.snapshot().members.iter().map(|member| member.id.clone()).collect()
    }

    #[test]
    fn a_place_is_small() {
        // The memory of anonymous subscribers depends on it.
        assert_eq!(size_of::<Place>(), 40);
    }

    #[test]
    fn a_user_is_one_member_however_many_connections() {
        let mut presence = Presence::default();
        assert!(presence.join(&user("u"), 5).is_some());
        assert!(presence.join(&user("u"), 9).is_none());
        assert_eq!(presence.snapshot().members[0].joined_at, 5);
        assert!(presence.leave(&user("u")).is_none());
        assert!(presence.would_announce_leave(&user("u")));
        assert!(presence.leave(&user("u")).is_some());
        assert_eq!(presence.count(), 0);
    }

    #[test]
    fn beyond_the_bound_the_snapshot_is_cut_and_shared_and_nothing_is_announced() {
        let mut presence = Presence::default();
        for n in 0..PRESENCE_MEMBERS_MAX {
            assert!(presence.would_announce_join(&connection(n)));
            presence.join(&connection(n), 1);
        }
        let full = presence.snapshot();
        let late = connection(PRESENCE_MEMBERS_MAX);
        assert!(!presence.would_announce_join(&late));
        presence.join(&late, 2);
        assert!(Arc::ptr_eq(&full, &presence.snapshot()), "the newcomer is not among the first");
        assert_eq!(presence.count(), PRESENCE_MEMBERS_MAX + 1);
        assert!(!presence.would_announce_leave(&connection(0)));
        presence.leave(&connection(0));
        assert_eq!(named(&mut presence).last(), Some(&late));
        assert!(presence.would_announce_leave(&connection(1)));
    }

    #[test]
    fn who_is_not_among_the_first_comes_and_goes_without_a_new_snapshot() {
        let mut presence = of(10_000);
        let first = presence.snapshot();
        for number in 10_000..10_100 {
            presence.join(&connection(number), 2);
            assert!(Arc::ptr_eq(&first, &presence.snapshot()), "{number} has joined");
            presence.leave(&connection(number));
            assert!(Arc::ptr_eq(&first, &presence.snapshot()), "{number} has left");
        }
        presence.leave(&connection(PRESENCE_MEMBERS_MAX - 1));
        let next = presence.snapshot();
        assert_eq!(next.members.last().map(|member| &member.id), Some(&connection(256)));
        presence.leave(&connection(256));
        assert!(!Arc::ptr_eq(&next, &presence.snapshot()), "it was among the first by then");
    }

    #[test]
    fn members_keep_their_order_while_others_come_and_go() {
        let mut presence = Presence::default();
        let mut expected = Vec::new();
        let mut random = 1_usize;
        for round in 0..4_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let id = connection(random >> 32 & 511);
            match expected.iter().position(|one| *one == id) {
                Some(at) => {
                    assert_eq!(presence.leave(&id).map(|member| member.id), Some(id), "{round}");
                    expected.remove(at);
                }
                None => {
                    assert!(presence.join(&id, round).is_some());
                    expected.push(id);
                }
            }
            let first = expected.len().min(PRESENCE_MEMBERS_MAX);
            assert_eq!(named(&mut presence), expected[..first], "{round}");
            assert_eq!(presence.count(), expected.len());
        }
        assert!(expected.len() > 200, "{}", expected.len());
    }

    #[test]
    fn leaving_without_having_joined_changes_nothing() {
        assert!(Presence::default().leave(&user("ghost")).is_none());
        let mut presence = of(2);
        assert!(presence.leave(&user("ghost")).is_none());
        assert_eq!(presence.count(), 2);
    }
}
