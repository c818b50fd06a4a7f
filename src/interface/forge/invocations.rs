//! The invocations that a platform has registered: each id has a context until it expires.
//!
//! All threads share them, in `SHARDS` maps with a lock each. Contexts are returned by pointer.
//! Registering an invocation removes expired ones, so no timer is needed.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::INVOCATIONS_MAX;
use super::nouns::Context;
use crate::message::Millis;

/// Locks that the ids are spread over. Each publish of a back end looks up one id, which takes less
/// than a microsecond.
const SHARDS: usize = 64;

/// The registered invocations. Times are in milliseconds on the monotonic clock.
#[derive(Debug)]
pub struct Invocations {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Entries of all shards, and reservations for entries that are about to be inserted.
    count: AtomicUsize,
}

/// The refusal of an invocation: [`INVOCATIONS_MAX`] are registered and none has expired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    /// The ids in order of expiry, so that removing expired entries visits no others.
    expiries: BTreeSet<(Millis, Arc<str>)>,
}

#[derive(Debug)]
struct Entry {
    context: Arc<Context>,
    expires: Millis,
}

impl Default for Invocations {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), count: AtomicUsize::new(0) }
    }
}

impl Invocations {
    /// Registers a context under an id until `expires`. It replaces an earlier context of the same
    /// id.
    ///
    /// # Errors
    /// [`Full`] if there is no room even after all expired entries were removed.
    pub fn put(
        &self,
        id: &str,
        context: Arc<Context>,
        expires: Millis,
        now: Millis,
    ) -> Result<(), Full> {
        let entry = Entry { context, expires };
        let Err(entry) = self.try_put(id, entry, now) else { return Ok(()) };
        for shard in &self.shards {
            self.forget_expired(&mut lock(shard), now);
        }
        self.try_put(id, entry, now).map_err(|_| Full)
    }

    /// Registers a context that another node has admitted, even if there is no room: nodes that
    /// admit the last ones at once may go beyond the bound by as many.
    pub fn put_admitted(&self, id: &str, context: Arc<Context>, expires: Millis, now: Millis) {
        let entry = Entry { context, expires };
        let Err(entry) = self.try_put(id, entry, now) else { return };
        self.count.fetch_add(1, Ordering::Relaxed);
        self.shard(id).insert(id, entry);
    }

    /// Returns whether an invocation could be registered under an id, after removing expired ones.
    pub fn has_room(&self, id: &str, now: Millis) -> bool {
        if self.len() < INVOCATIONS_MAX || self.get(id, now).is_some() {
            return true;
        }
        for shard in &self.shards {
            self.forget_expired(&mut lock(shard), now);
        }
        self.len() < INVOCATIONS_MAX
    }

    /// Returns the context of an id; `None` if the id is unknown or has expired.
    pub fn get(&self, id: &str, now: Millis) -> Option<Arc<Context>> {
        let shard = self.shard(id);
        let entry = shard.entries.get(id).filter(|entry| entry.expires > now)?;
        Some(Arc::clone(&entry.context))
    }

    /// Removes an invocation. Returns false if the id is unknown or has expired.
    pub fn remove(&self, id: &str, now: Millis) -> bool {
        let mut shard = self.shard(id);
        let removed = shard.remove(id);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed.is_some_and(|entry| entry.expires > now)
    }

    /// Returns the number of entries, including expired ones that were not removed yet.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers an entry, or returns it if there is no room for one more.
    fn try_put(&self, id: &str, entry: Entry, now: Millis) -> Result<(), Entry> {
        let mut shard = self.shard(id);
        self.forget_expired(&mut shard, now);
        if shard.remove(id).is_none() && !self.reserve() {
            return Err(entry);
        }
        shard.insert(id, entry);
        Ok(())
    }

    fn reserve(&self) -> bool {
        let more = |count| (count < INVOCATIONS_MAX).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn forget_expired(&self, shard: &mut Shard, now: Millis) {
        while shard.expiries.first().is_some_and(|(expires, _)| *expires <= now) {
            if let Some((_, id)) = shard.expiries.pop_first() {
                shard.entries.remove(&id);
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, Shard> {
        // Any part of a hash is as good as any other.
        let at = self.hasher.hash_one(id) as usize % self.shards.len();
        lock(&self.shards[at])
    }
}

/// Locks a shard, even if a thread has panicked under the lock: its entries are consistent.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn insert(&mut self, id: &str, entry: Entry) {
        let id: Arc<str> = id.into();
        self.expiries.insert((entry.expires, Arc::clone(&id)));
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        let (id, entry) = self.entries.remove_entry(id)?;
        self.expiries.remove(&(entry.expires, id));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(installation: &str) -> Arc<Context> {
        Arc::new(Context {
            installation: installation.into(),
            account: None,
            place: r#"{"ctx":{},"module":"m"}"#.into(),
            entities: Box::default(),
            reads_global: None,
            is_ui: true,
            expires_at: 0,
        })
    }

    fn installation(invocations: &Invocations, id: &str, now: Millis) -> Option<Box<str>> {
        invocations.get(id, now).map(|context| context.installation.clone())
    }

    #[test]
    fn an_id_stands_for_the_last_context_until_it_expires() {
        let invocations = Invocations::default();
        invocations.put("a", context("one"), 100, 0).unwrap();
        invocations.put("a", context("two"), 50, 10).unwrap();
        assert_eq!(installation(&invocations, "a", 49).as_deref(), Some("two"));
        assert_eq!(installation(&invocations, "a", 50), None);
        assert_eq!(installation(&invocations, "b", 0), None);
        assert!(!invocations.remove("a", 50), "it stands for nothing any more");
        assert!(invocations.is_empty(), "and takes no room from then on");
    }

    #[test]
    fn whoever_registers_forgets_what_has_expired() {
        let invocations = Invocations::default();
        for at in 0..1_000 {
            invocations.put(&format!("old-{at}"), context("x"), 10, 0).unwrap();
        }
        for at in 0..1_000 {
            invocations.put(&format!("new-{at}"), context("x"), 20, 10).unwrap();
        }
        assert!(invocations.len() < 1_100, "{}", invocations.len());
    }

    #[test]
    fn a_full_table_takes_no_more_until_something_goes() {
        let invocations = Invocations::default();
        let shared = context("x");
        for at in 0..INVOCATIONS_MAX {
            let expires = if at == 0 { 10 } else { 20 };
            invocations.put(&format!("{at}"), Arc::clone(&shared), expires, 0).unwrap();
        }
        assert_eq!(invocations.put("more", Arc::clone(&shared), 20, 9), Err(Full));
        assert_eq!(invocations.len(), INVOCATIONS_MAX);
        assert_eq!(invocations.put("7", context("again"), 30, 9), Ok(()), "it had its place");
        assert_eq!(invocations.put("more", Arc::clone(&shared), 20, 10), Ok(()), "one has expired");
        assert_eq!(invocations.put("still more", Arc::clone(&shared), 20, 10), Err(Full));
        assert!(invocations.remove("5", 10));
        assert_eq!(invocations.put("still more", shared, 20, 10), Ok(()));
        assert_eq!(invocations.len(), INVOCATIONS_MAX);
        assert_eq!(installation(&invocations, "7", 29).as_deref(), Some("again"));
    }

    #[test]
    fn threads_together_do_not_go_beyond_the_bound() {
        let invocations = Invocations::default();
        let shared = context("x");
        let each = INVOCATIONS_MAX / 2;
        let taken: usize = std::thread::scope(|scope| {
            let fill = |thread: usize| {
                let (invocations, shared) = (&invocations, &shared);
                let put = move |at: usize| {
                    let id = format!("{thread}/{at}");
                    usize::from(invocations.put(&id, Arc::clone(shared), 10, 0).is_ok())
                };
                scope.spawn(move || (0..each).map(put).sum::<usize>())
            };
            let threads: Vec<_> = (0..3).map(fill).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, invocations.len()), (INVOCATIONS_MAX, INVOCATIONS_MAX));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put { id: u8, lives: Millis },
        Get { id: u8 },
        Remove { id: u8 },
        Wait { ms: Millis },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 0..9_u64).prop_map(|(id, lives)| Step::Put { id, lives }),
            (0..6_u8).prop_map(|id| Step::Get { id }),
            (0..6_u8).prop_map(|id| Step::Remove { id }),
            (1..4_u64).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_whose_entries_expire(steps in prop::collection::vec(step(), 0..60)) {
            let invocations = Invocations::default();
            let mut model: HashMap<u8, (usize, Millis)> = HashMap::new();
            let mut now = 0;
            for (at, step) in steps.into_iter().enumerate() {
                model.retain(|_, (_, expires)| *expires > now);
                match step {
                    Step::Put { id, lives } => {
                        let context = context(&at.to_string());
                        let put = invocations.put(&id.to_string(), context, now + lives, now);
                        prop_assert_eq!(put, Ok(()));
                        model.insert(id, (at, now + lives));
                        model.retain(|_, (_, expires)| *expires > now);
                    }
                    Step::Get { id } => {
                        let found = installation(&invocations, &id.to_string(), now);
                        let expected = model.get(&id).map(|(at, _)| at.to_string());
                        prop_assert_eq!(found.as_deref(), expected.as_deref());
                    }
                    Step::Remove { id } => {
                        let removed = invocations.remove(&id.to_string(), now);
                        prop_assert_eq!(removed, model.remove(&id).is_some());
                    }
                    Step::Wait { ms } => now += ms,
                }
                prop_assert!(invocations.len() >= model.len());
            }
            // All remaining entries have expired by then, and removing an id removes its entry.
            let end = now + 100;
            for id in 0..6_u8 {
                prop_assert!(!invocations.remove(&id.to_string(), end));
            }
            prop_assert!(invocations.is_empty());
            let left: usize = invocations.shards.iter().map(|s| lock(s).expiries.len()).sum();
            prop_assert_eq!(left, 0);
        }
    }
}
