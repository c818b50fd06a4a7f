//! What a store has followed of the settings that all nodes of a cluster share, and what was set on
//! its node alone before.

use rusqlite::{Connection, OptionalExtension, params};

use super::time::integer;
use super::{Store, StoreError, channels, history, policies};
use crate::cluster::admin::{Entry, Key};
use crate::message::Permissions;

/// How far a store has followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// The id of the cluster.
    pub cluster: String,
    /// Tells the cluster's bucket from one that was made anew.
    pub bucket: String,
    /// Every change up to this one is in the store.
    pub revision: u64,
}

/// Changes of what all nodes share, in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Following {
    /// Where the store is afterwards.
    pub to: Followed,
    /// Whether what the store has of the cluster is dropped before.
    pub is_anew: bool,
    /// The entries; `None` for one that was deleted.
    pub entries: Vec<(Key, Option<Entry>)>,
}

impl Store {
    /// Returns how far the store has followed; `None` if it follows no cluster.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn followed(&self) -> Result<Option<Followed>, StoreError> {
        self.read(followed)
    }

    /// Takes changes, all or none. What was set on this node alone is set aside if the store did
    /// not follow a cluster before.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn follow(&self, following: &Following) -> Result<(), StoreError> {
        let Following { to, is_anew, entries } = following;
        self.transact(|connection| {
            let before = followed(connection)?;
            let is_own = before.is_none();
            if is_own {
                set_aside(connection)?;
            }
            if is_own || *is_anew || before.is_some_and(|before| before.cluster != to.cluster) {
                clear(connection)?;
            }
            for (key, entry) in entries {
                put(connection, *key, entry.as_ref())?;
            }
            connection.execute("DELETE FROM followed", [])?;
            let row = params![to.cluster, to.bucket, integer(to.revision)];
            connection.execute("INSERT INTO followed VALUES (?1, ?2, ?3)", row)?;
            Ok(())
        })
    }

    /// Returns what is set and in effect, without what a node has in any case.
    ///
    /// # Errors
    /// `Corrupt` if a row makes no sense; the database's own failures.
    pub fn administered(&self) -> Result<Vec<Entry>, StoreError> {
        self.read(administered)
    }

    /// Returns what was set on this node alone before it followed a cluster.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn set_aside(&self) -> Result<Vec<Entry>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare("SELECT key, value FROM set_aside ORDER BY key")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>()?;
            let read =
                |(key, value): (String, String)| Entry::decode(Key::read(&key)?, value.as_bytes());
            Ok(rows.into_iter().filter_map(read).collect())
        })
    }
}

fn followed(connection: &Connection) -> rusqlite::Result<Option<Followed>> {
    let query = "SELECT cluster, bucket, revision FROM followed";
    let row = connection.query_row(query, [], |row| {
        let revision: i64 = row.get(2)?;
        let revision = revision.cast_unsigned();
        Ok(Followed { cluster: row.get(0)?, bucket: row.get(1)?, revision })
    });
    row.optional()
}

fn administered(connection: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut entries: Vec<_> = channels::all(connection)?.into_iter().map(Entry::Channel).collect();
    entries.push(Entry::Permissions(policies::all(connection)?));
    entries.push(Entry::Retention(history::retention(connection)?));
    entries.retain(|entry| !entry.is_default());
    Ok(entries)
}

fn set_aside(connection: &Connection) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT OR REPLACE INTO set_aside VALUES (?1, ?2)")?;
    for entry in administered(connection)? {
        insert.execute(params![entry.key().text(), entry.encode()])?;
    }
    Ok(())
}

fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM channels", [])?;
    policies::replace(connection, &Permissions::default())?;
    history::set_retention(connection, None)
}

fn put(connection: &Connection, key: Key, entry: Option<&Entry>) -> rusqlite::Result<()> {
    match (key, entry) {
        // A definition that has the pattern now gets another one, or is deleted, by a later change.
        (_, Some(Entry::Channel(definition))) => channels::put(connection, definition),
        (_, Some(Entry::Permissions(permissions))) => policies::replace(connection, permissions),
        (_, Some(Entry::Retention(days))) => history::set_retention(connection, *days),
        (Key::Channel(id), None) => {
            let delete = "DELETE FROM channels WHERE id = ?1";
            connection.execute(delete, [id.to_string()]).map(drop)
        }
        (Key::Permissions, None) => policies::replace(connection, &Permissions::default()),
        (Key::Retention, None) => history::set_retention(connection, None),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::channels::tests::{channel, fresh};
    use super::*;

    fn to(cluster: &str, revision: u64) -> Followed {
        Followed { cluster: cluster.into(), bucket: "b".into(), revision }
    }

    fn follow(store: &Store, to: &Followed, is_anew: bool, entries: &[(Key, Option<Entry>)]) {
        let following = Following { to: to.clone(), is_anew, entries: entries.to_vec() };
        store.follow(&following).unwrap();
        assert_eq!(store.followed().unwrap().as_ref(), Some(to));
    }

    fn put(entry: &Entry) -> (Key, Option<Entry>) {
        (entry.key(), Some(entry.clone()))
    }

    #[test]
    fn what_was_set_on_the_node_alone_is_set_aside_once() {
        let (_directory, path, mut store) = fresh();
        let (own, theirs) = (channel(1, "own"), Entry::Channel(channel(2, "theirs")));
        store.insert_channel(&own).unwrap();
        store.set_retention(Some(3)).unwrap();
        let before = store.administered().unwrap();
        assert_eq!(before, [Entry::Channel(own), Entry::Retention(Some(3))]);
        assert_eq!(store.followed().unwrap(), None);
        follow(&store, &to("c", 4), false, &[put(&theirs)]);
        assert_eq!(store.set_aside().unwrap(), before);
        assert_eq!(store.administered().unwrap(), std::slice::from_ref(&theirs));
        drop(store);
        let store = Store::open(&path).unwrap();
        follow(&store, &to("c", 5), false, &[]);
        assert_eq!(store.administered().unwrap(), [theirs]);
        // Another cluster has nothing of this one, and what was the node's own is what it was.
        follow(&store, &to("d", 1), false, &[]);
        assert_eq!(store.administered().unwrap(), []);
        assert_eq!(store.set_aside().unwrap(), before);
    }

    #[test]
    fn changes_replace_and_delete_and_patterns_move() {
        let (_directory, _, store) = fresh();
        let [a, b] = [channel(1, "x"), channel(2, "y")];
        let [a, b] = [Entry::Channel(a), Entry::Channel(b)];
        follow(&store, &to("c", 2), false, &[put(&a), put(&b)]);
        // The first one has got another pattern, and the second one its pattern; the bucket has
        // kept only the later change of the first one, behind the change of the second one.
        let [a, b] = [Entry::Channel(channel(1, "z")), Entry::Channel(channel(2, "x"))];
        follow(&store, &to("c", 5), false, &[put(&b), put(&a)]);
        let mut all = store.administered().unwrap();
        all.sort_by_key(Entry::key);
        assert_eq!(all, [a.clone(), b]);
        follow(&store, &to("c", 6), false, &[(Key::Channel(Uuid::from_u128(2)), None)]);
        assert_eq!(store.administered().unwrap(), [a]);
        follow(&store, &to("c", 7), true, &[put(&Entry::Retention(Some(1)))]);
        assert_eq!(store.administered().unwrap(), [Entry::Retention(Some(1))]);
        follow(&store, &to("c", 8), false, &[(Key::Retention, None)]);
        assert_eq!(store.administered().unwrap(), []);
    }
}
