//! Documents in the store. The only thread that writes them also gives them their versions.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError};
use crate::limits::{DELETED_DOCUMENTS_FORGOTTEN, DELETED_DOCUMENTS_MAX, DOCUMENTS_MAX};
use crate::message::{Decided, Document, DocumentKey, DocumentWrite, Millis};

/// The result of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// The document as it is from now on.
    Done(Document),
    /// The version in the write is not later than this one, which stays.
    Stale(Millis),
    /// There is no document to delete.
    Missing,
    /// There are as many documents as there may be.
    Full,
}

/// The numbers of documents, and their bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Documents {
    live: u64,
    deleted: u64,
    live_max: u64,
    deleted_max: u64,
}

impl Documents {
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let count = |condition: &str| {
            let query = format!("SELECT count(*) FROM documents {condition}");
            let counted = connection.query_row(&query, [], |row| row.get::<_, i64>(0))?;
            Ok::<_, rusqlite::Error>(counted.unsigned_abs())
        };
        let deleted = count("WHERE data IS NULL")?;
        let live = count("")?.saturating_sub(deleted);
        let (live_max, deleted_max) = (DOCUMENTS_MAX, DELETED_DOCUMENTS_MAX);
        Ok(Self { live, deleted, live_max, deleted_max })
    }

    fn write(
        &mut self,
        connection: &Connection,
        write: &DocumentWrite,
        now: Millis,
    ) -> rusqlite::Result<Written> {
        let before = standing(connection, &write.key)?;
        let has_room = self.has_room();
        let forgotten = if before.is_none() { forgotten(connection)? } else { 0 };
        let version = match write.decide(before, forgotten, has_room, now) {
            Decided::Version(version) => version,
            Decided::Stale(last) => return Ok(Written::Stale(last)),
            Decided::Missing => return Ok(Written::Missing),
            Decided::Full => return Ok(Written::Full),
        };
        let was_there = before.is_some_and(|(_, was_there)| was_there);
        let DocumentWrite { key, user_id, data, .. } = write.clone();
        let document = Document { key, user_id, data, version };
        put(connection, &document)?;
        self.recount(before.is_some(), was_there, document.data.is_some());
        if self.must_forget() {
            self.forget(connection)?;
        }
        Ok(Written::Done(document))
    }

    /// Returns whether there may be one more document.
    pub(super) fn has_room(&self) -> bool {
        self.live < self.live_max
    }

    /// Returns whether there are more deleted documents than are remembered.
    pub(super) fn must_forget(&self) -> bool {
        self.deleted > self.deleted_max
    }

    /// Notes that so many deleted documents were forgotten.
    pub(super) fn forgot(&mut self, number: u64) {
        self.deleted -= number;
    }

    /// Counts anew.
    pub(super) fn recounted(&self, connection: &Connection) -> rusqlite::Result<Self> {
        let Self { live, deleted, .. } = Self::open(connection)?;
        Ok(Self { live, deleted, ..*self })
    }

    #[cfg(test)]
    pub(super) fn bound(&mut self, live_max: u64, deleted_max: u64) {
        (self.live_max, self.deleted_max) = (live_max, deleted_max);
    }

    /// Counts a document that was written.
    pub(super) fn recount(&mut self, was_known: bool, was_there: bool, is_there: bool) {
        match was_there {
            true => self.live -= 1,
            false => self.deleted -= u64::from(was_known),
        }
        match is_there {
            true => self.live += 1,
            false => self.deleted += 1,
        }
    }

    /// Forgets the deleted documents with the oldest versions. A document that is created later
    /// gets a later version than all of them.
    fn forget(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let oldest = "SELECT version FROM documents WHERE data IS NULL
                      ORDER BY version LIMIT 1 OFFSET ?1";
        let oldest = connection.prepare_cached(oldest)?.query_row(
            [DELETED_DOCUMENTS_FORGOTTEN.min(self.deleted).cast_signed() - 1],
            |row| row.get::<_, i64>(0),
        )?;
        let forget = "DELETE FROM documents WHERE data IS NULL AND version <= ?1";
        self.forgot(connection.prepare_cached(forget)?.execute([oldest])? as u64);
        let remember = "UPDATE forgotten_documents SET version = max(version, ?1)";
        connection.prepare_cached(remember)?.execute([oldest])?;
        Ok(())
    }
}

impl Store {
    /// Writes documents in their order, all or none; each write sees the effect of those before it.
    /// A write without a version gets `now`, or the next one behind the version before if that is
    /// later. With `sync` they, and all before them, are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The database's own failures; then nothing was written.
    pub fn write_documents(
        &mut self,
        writes: &[DocumentWrite],
        now: Millis,
        sync: bool,
    ) -> Result<Vec<Written>, StoreError> {
        let mut documents = self.documents;
        let written = self.commit(sync, |transaction| {
            writes.iter().map(|write| documents.write(transaction, write, now)).collect()
        })?;
        self.documents = documents;
        Ok(written)
    }

    /// Returns how many documents there are, without deleted ones.
    pub fn live_documents(&self) -> u64 {
        self.documents.live
    }

    /// Returns a document, even one that was deleted; `None` if the store does not know it.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row makes no sense; the database's own failures.
    pub fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.read(|connection| find(connection, key))
    }
}

/// Returns a document, even one that was deleted; `None` if the store does not know it.
pub(super) fn find(
    connection: &Connection,
    key: &DocumentKey,
) -> rusqlite::Result<Option<Document>> {
    let query = "SELECT version, user_id, data FROM documents
                 WHERE resource = ?1 AND audience = ?2";
    let read = |row: &Row<'_>| {
        let version = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        let (user_id, data) = (row.get(1)?, row.get::<_, Option<String>>(2)?);
        Ok(Document { key: key.clone(), user_id, data: data.map(Into::into), version })
    };
    let mut statement = connection.prepare_cached(query)?;
    statement.query_row(params![key.resource.as_str(), audience(key)], read).optional()
}

/// Returns the version of a document that the store knows, and whether the document is there or was
/// deleted.
fn standing(
    connection: &Connection,
    key: &DocumentKey,
) -> rusqlite::Result<Option<(Millis, bool)>> {
    let query = "SELECT version, data IS NOT NULL FROM documents
                 WHERE resource = ?1 AND audience = ?2";
    let mut statement = connection.prepare_cached(query)?;
    let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
    let found = statement.query_row(params![key.resource.as_str(), audience(key)], row);
    Ok(found.optional()?.map(|(version, is_there)| (u64::try_from(version).unwrap_or(0), is_there)))
}

/// Returns the latest version among forgotten documents; 0 if no document was forgotten.
pub(super) fn forgotten(connection: &Connection) -> rusqlite::Result<Millis> {
    let query = "SELECT version FROM forgotten_documents";
    let version = connection.prepare_cached(query)?.query_row([], |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(version).unwrap_or(0))
}

fn put(connection: &Connection, document: &Document) -> rusqlite::Result<()> {
    let put = "INSERT INTO documents (resource, audience, version, user_id, data)
               VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (resource, audience) DO UPDATE SET
               version = excluded.version, user_id = excluded.user_id, data = excluded.data";
    connection.prepare_cached(put)?.execute(params![
        document.key.resource.as_str(),
        audience(&document.key),
        i64::try_from(document.version).unwrap_or(i64::MAX),
        document.user_id,
        document.data.as_deref(),
    ])?;
    Ok(())
}

/// Returns the audience as rows hold it: empty for a shared document.
pub(super) fn audience(key: &DocumentKey) -> &str {
    key.audience.as_ref().map_or("", Arc::as_ref)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::message::Channel;

    fn fresh() -> (TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("fanfare.db")).unwrap();
        (directory, store)
    }

    fn key(id: &str, audience: Option<&str>) -> DocumentKey {
        let resource = Channel::resource(&format!("o/p///kvStore/{id}"));
        DocumentKey { resource, audience: audience.map(Into::into) }
    }

    fn write(id: &str, data: Option<&str>, version: Option<Millis>) -> DocumentWrite {
        let (key, user_id) = (key(id, None), Some("u".into()));
        DocumentWrite { key, user_id, data: data.map(Into::into), version }
    }

    fn versions(written: &[Written]) -> Vec<Millis> {
        let version = |one: &Written| match one {
            Written::Done(document) => document.version,
            other => panic!("not written: {other:?}"),
        };
        written.iter().map(version).collect()
    }

    #[test]
    fn versions_increase_whatever_the_clock_says() {
        let (directory, mut store) = fresh();
        let one = write("a", Some("1"), None);
        let three = [one.clone(), one.clone(), one.clone()];
        let written = store.write_documents(&three, 1_000, false).unwrap();
        assert_eq!(versions(&written), [1_000, 1_001, 1_002]);
        let written = store.write_documents(std::slice::from_ref(&one), 500, true).unwrap();
        assert_eq!(versions(&written), [1_003]);
        let deleted = store.write_documents(&[write("a", None, None)], 400, false).unwrap();
        assert_eq!(versions(&deleted), [1_004]);
        assert_eq!(store.document(&key("a", None)).unwrap().unwrap().data, None);
        drop(store);
        let mut store = Store::open(directory.path().join("fanfare.db")).unwrap();
        let written = store.write_documents(&[one], 300, false).unwrap();
        assert_eq!(versions(&written), [1_005], "a deleted document is remembered");
    }

    #[test]
    fn what_is_not_later_is_dropped() {
        let (_directory, mut store) = fresh();
        let mut last = |write: DocumentWrite| {
            let written = store.write_documents(&[write], 1_000, false).unwrap();
            written.into_iter().next().unwrap()
        };
        assert!(matches!(last(write("a", Some("1"), Some(5_000))), Written::Done(_)));
        assert_eq!(last(write("a", Some("2"), Some(5_000))), Written::Stale(5_000));
        assert_eq!(last(write("a", None, Some(4_999))), Written::Stale(5_000));
        let Written::Done(next) = last(write("a", Some("3"), None)) else { panic!("it has none") };
        assert_eq!((next.version, next.data.as_deref()), (5_001, Some("3")));
        assert_eq!(last(write("b", None, None)), Written::Missing);
        assert_eq!(store.document(&key("b", None)).unwrap(), None);
    }

    #[test]
    fn a_users_document_is_another_one() {
        let (_directory, mut store) = fresh();
        let shared = write("a", Some("1"), None);
        let own = DocumentWrite { key: key("a", Some("u1")), ..write("a", Some("2"), None) };
        store.write_documents(&[shared, own], 1, false).unwrap();
        let data = |audience| {
            let found = store.document(&key("a", audience)).unwrap();
            found.and_then(|document| document.data)
        };
        assert_eq!(data(None).as_deref(), Some("1"));
        assert_eq!(data(Some("u1")).as_deref(), Some("2"));
        assert_eq!(data(Some("u2")), None);
    }

    #[test]
    fn documents_are_bounded_and_deleted_ones_are_forgotten_in_time() {
        let (_directory, mut store) = fresh();
        (store.documents.live_max, store.documents.deleted_max) = (3, 2);
        let id = |number: u64| format!("d{number}");
        for number in 0..3 {
            store.write_documents(&[write(&id(number), Some("1"), None)], 10, false).unwrap();
        }
        let fourth = write(&id(3), Some("1"), None);
        let refused = store.write_documents(std::slice::from_ref(&fourth), 10, false).unwrap();
        assert_eq!(refused, [Written::Full]);
        let again = store.write_documents(&[write("d0", Some("2"), None)], 10, false).unwrap();
        assert_eq!(versions(&again), [11], "one that is there may be written");
        for number in 0..3 {
            store.write_documents(&[write(&id(number), None, None)], 100, false).unwrap();
        }
        assert_eq!((store.documents.live, store.documents.deleted), (0, 0));
        assert_eq!(store.documents, recounted(&store), "all three had one version");
        let made = store.write_documents(&[fourth], 50, false).unwrap();
        assert_eq!(versions(&made), [101], "later than any that is not remembered");
    }

    fn recounted(store: &Store) -> Documents {
        let counted = store.read(Documents::open).unwrap();
        Documents { live: counted.live, deleted: counted.deleted, ..store.documents }
    }
}
