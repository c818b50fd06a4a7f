//! The members of a channel, each counted across the connections of one user.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::limits::PRESENCE_MEMBERS_MAX;
use crate::message::{Member, Millis, Snapshot};

/// Identifies a member: a user, or a connection without one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MemberKey {
    /// True for a user, which may have many connections.
    pub is_user: bool,
    /// The user's id, or the socket id of a connection that is a member of its own.
    pub id: Box<str>,
}

/// The members of one channel. Without members it owns no memory.
#[derive(Debug, Default)]
pub struct Presence(Option<Box<Members>>);

#[derive(Debug, Default)]
struct Members {
    by_key: HashMap<MemberKey, Presents>,
    by_age: BTreeMap<u64, Arc<Member>>,
    joined_ever: u64,
    snapshot: Option<Arc<Snapshot>>,
}

#[derive(Debug)]
struct Presents {
    connections: u32,
    age: u64,
}

impl Presence {
    /// Returns whether a join of `key` would add a member that must be announced.
    pub fn would_announce_join(&self, key: &MemberKey) -> bool {
        let is_known = |all: &Members| all.by_key.contains_key(key);
        self.count() < PRESENCE_MEMBERS_MAX && !self.0.as_deref().is_some_and(is_known)
    }

    /// Returns whether a leave of `key` would remove a member, and that must be announced.
    pub fn would_announce_leave(&self, key: &MemberKey) -> bool {
        let presents = self.0.as_ref().and_then(|all| all.by_key.get(key));
        self.count() <= PRESENCE_MEMBERS_MAX
            && presents.is_some_and(|presents| presents.connections == 1)
    }

    /// Counts a connection. Returns the member if it is new.
    pub fn join(&mut self, key: &MemberKey, now: Millis) -> Option<Arc<Member>> {
        let all = self.0.get_or_insert_default();
        if let Some(presents) = all.by_key.get_mut(key) {
            presents.connections += 1;
            return None;
        }
        all.joined_ever += 1;
        let member =
            Arc::new(Member { is_user: key.is_user, presence_id: key.id.clone(), joined_at: now });
        if all.by_age.len() < PRESENCE_MEMBERS_MAX {
            all.snapshot = None;
        }
        all.by_age.insert(all.joined_ever, member.clone());
        all.by_key.insert(key.clone(), Presents { connections: 1, age: all.joined_ever });
        Some(member)
    }

    /// Uncounts a connection. Returns the member if that was its last connection.
    pub fn leave(&mut self, key: &MemberKey) -> Option<Arc<Member>> {
        let all = self.0.as_mut()?;
        let presents = all.by_key.get_mut(key)?;
        presents.connections -= 1;
        if presents.connections > 0 {
            return None;
        }
        let age = presents.age;
        all.by_key.remove(key);
        all.snapshot = None;
        let member = all.by_age.remove(&age);
        if all.by_age.is_empty() {
            self.0 = None;
        }
        member
    }

    /// Returns the number of members.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.by_age.len())
    }

    /// Returns the first [`PRESENCE_MEMBERS_MAX`] members, shared until one of them changes.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        let Some(all) = &mut self.0 else { return Arc::default() };
        let by_age = &all.by_age;
        let snapshot = all.snapshot.get_or_insert_with(|| {
            let first = by_age.values().take(PRESENCE_MEMBERS_MAX).cloned().collect();
            Arc::new(Snapshot::new(first))
        });
        snapshot.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, is_user: bool) -> MemberKey {
        MemberKey { is_user, id: id.into() }
    }

    #[test]
    fn a_user_is_one_member_however_many_connections() {
        let mut presence = Presence::default();
        assert!(presence.join(&key("u", true), 5).is_some());
        assert!(presence.join(&key("u", true), 9).is_none());
        assert_eq!(presence.snapshot().members[0].joined_at, 5);
        assert!(presence.leave(&key("u", true)).is_none());
        assert!(presence.would_announce_leave(&key("u", true)));
        assert!(presence.leave(&key("u", true)).is_some());
        assert_eq!(presence.count(), 0);
    }

    #[test]
    fn a_socket_with_a_users_id_is_somebody_else() {
        let mut presence = Presence::default();
        presence.join(&key("x", true), 1);
        assert!(presence.join(&key("x", false), 2).is_some());
        assert_eq!(presence.count(), 2);
    }

    #[test]
    fn beyond_the_bound_the_snapshot_is_cut_and_shared_and_nothing_is_announced() {
        let mut presence = Presence::default();
        for n in 0..PRESENCE_MEMBERS_MAX {
            assert!(presence.would_announce_join(&key(&n.to_string(), false)));
            presence.join(&key(&n.to_string(), false), 1);
        }
        let full = presence.snapshot();
        assert!(!presence.would_announce_join(&key("late", false)));
        presence.join(&key("late", false), 2);
        assert!(Arc::ptr_eq(&full, &presence.snapshot()), "the newcomer is not among the first");
        assert_eq!(presence.count(), PRESENCE_MEMBERS_MAX + 1);
        assert!(!presence.would_announce_leave(&key("0", false)));
        presence.leave(&key("0", false));
        assert_eq!(presence.snapshot().members.last().expect("many").presence_id, "late".into());
        assert!(presence.would_announce_leave(&key("1", false)));
    }

    #[test]
    fn leaving_without_having_joined_changes_nothing() {
        assert!(Presence::default().leave(&key("ghost", true)).is_none());
    }
}
