//! A node's copy of the documents of its cluster, in a file of its own. It has what the stream of
//! documents had at some place, and the place.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use super::documents::{self, Documents};
use super::fault::failed;
use super::file;
use super::time::integer;
use crate::cluster::documents::writes::{Before, Standing};
use crate::cluster::documents::{Entry, Floor};
use crate::cluster::name::{NodeName, Seq};
use crate::limits::DELETED_DOCUMENTS_FORGOTTEN;
use crate::message::{Document, DocumentKey, Millis};

/// The schema of the file, kept in its `user_version`. A file with another one is made anew.
const SCHEMA_VERSION: i64 = 1;

/// An open copy.
#[derive(Debug)]
pub struct Copy {
    connection: Connection,
    path: PathBuf,
    documents: Documents,
    position: Position,
}

/// How far a copy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The life of the stream; empty before the first.
    pub life: Box<str>,
    /// The place up to which the copy has everything.
    pub seq: Seq,
    /// The place up to which documents of an earlier life may be in the copy.
    end: Option<Seq>,
}

/// A change of the stream of documents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A message, with its place; `None` if this release cannot read it.
    Message(Seq, Option<Entry>),
    /// The stream had nothing behind the changes before this one. A message in the middle says
    /// less: documents that were written before it may have been written again behind it, and then
    /// their messages before it are gone.
    CaughtUp,
    /// The stream is another one, or has lost messages. It reaches up to this place now.
    Began(Box<str>, Seq),
}

/// What is to be told of a change after it was applied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Whether the change is a document that is later than the one before it.
    pub is_news: bool,
    /// Whether it was behind everything that the copy had.
    pub is_later: bool,
    /// The places of forgotten documents, which are to be removed from the stream by this node.
    pub forgotten: Vec<Seq>,
}

impl Copy {
    /// Opens the copy in this file, and creates it if it is missing.
    ///
    /// # Errors
    /// As [`Store::open`](super::Store::open).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let (mut connection, _) = file::open(path)?;
        let prepare = |connection: &mut Connection| {
            prepare(connection)?;
            Ok((Documents::open(connection)?, position(connection)?))
        };
        let (documents, position) =
            prepare(&mut connection).map_err(|fault| failed(path, fault))?;
        Ok(Self { connection, path: path.to_owned(), documents, position })
    }

    /// Returns how far the copy is.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Applies changes in their order, all or none.
    ///
    /// # Errors
    /// The database's own failures; then nothing was applied.
    pub fn apply(&mut self, changes: &[Change], me: &NodeName) -> Result<Vec<Applied>, StoreError> {
        let apply = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut step = Step {
                connection: &transaction,
                documents: self.documents,
                position: self.position.clone(),
                me,
            };
            let applied: rusqlite::Result<Vec<_>> =
                changes.iter().map(|change| step.apply(change)).collect();
            let applied = applied?;
            step.end()?;
            let Step { documents, position, .. } = step;
            transaction.commit()?;
            Ok((applied, documents, position))
        };
        let (applied, documents, position) = apply().map_err(|fault| failed(&self.path, fault))?;
        (self.documents, self.position) = (documents, position);
        Ok(applied)
    }

    /// Returns what a write of this document is decided by.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn before(&self, key: &DocumentKey) -> Result<Before, StoreError> {
        let read = || {
            let forgotten = documents::forgotten(&self.connection)?;
            Ok(Before {
                standing: standing(&self.connection, key)?,
                forgotten,
                has_room: self.documents.has_room(),
                position: self.position.seq,
            })
        };
        read().map_err(|fault| failed(&self.path, fault))
    }

    /// Returns a document, even one that was deleted; `None` if the copy does not know it.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        documents::find(&self.connection, key).map_err(|fault| failed(&self.path, fault))
    }

    /// Returns the floor for the oldest deleted documents, and the place that the floor before it
    /// must have, if there are more deleted documents than are remembered. Only those with a place
    /// up to `up_to` are forgotten.
    ///
    /// # Errors
    /// The database's own failures.
    pub fn floor(&self, up_to: Seq, me: &NodeName) -> Result<Option<(Floor, Seq)>, StoreError> {
        if !self.documents.must_forget() {
            return Ok(None);
        }
        let last = "SELECT version, seq, up_to FROM forgotten_documents";
        let oldest = "SELECT max(version) FROM (
                      SELECT version FROM documents WHERE data IS NULL AND seq BETWEEN 1 AND ?1
                      ORDER BY version LIMIT ?2)";
        let read = || {
            // A node that reads only the new floor must forget what the last one forgets, too.
            let (forgotten, expected, least) = self.connection.query_row(last, [], |row| {
                Ok((
                    row.get(0).map(unsigned)?,
                    row.get(1).map(unsigned)?,
                    row.get(2).map(unsigned)?,
                ))
            })?;
            let up_to = up_to.max(least);
            let mut statement = self.connection.prepare_cached(oldest)?;
            let bounds = [integer(up_to), integer(DELETED_DOCUMENTS_FORGOTTEN)];
            let version = statement.query_row(bounds, |row| row.get::<_, Option<i64>>(0))?;
            let floor = version.map(|version| {
                let version = unsigned(version).max(forgotten);
                Floor { version, up_to, node: me.clone() }
            });
            Ok(floor.map(|floor| (floor, expected)))
        };
        read().map_err(|fault| failed(&self.path, fault))
    }
}

/// Changes that are applied together.
struct Step<'c> {
    connection: &'c Connection,
    documents: Documents,
    position: Position,
    me: &'c NodeName,
}

impl Step<'_> {
    fn apply(&mut self, change: &Change) -> rusqlite::Result<Applied> {
        let mut applied = Applied::default();
        match change {
            Change::CaughtUp => {}
            Change::Began(life, end) => self.begin(life, *end)?,
            // It came before the consumer was made anew.
            Change::Message(seq, _) if *seq <= self.position.seq => {}
            Change::Message(seq, entry) => {
                match entry {
                    Some(Entry::Document(document)) => {
                        applied.is_news = self.put(document, *seq)?;
                    }
                    Some(Entry::Floor(floor)) => {
                        let forgotten = self.forget(floor, *seq)?;
                        applied.forgotten =
                            if floor.node == *self.me { forgotten } else { Vec::new() };
                    }
                    Some(Entry::Proof(_)) | None => {}
                }
                self.position.seq = *seq;
                applied.is_later = true;
            }
        }
        self.drop_doubtful()?;
        Ok(applied)
    }

    /// Begins again at the first message. What the copy has is doubtful until the stream has told
    /// everything that it has now.
    fn begin(&mut self, life: &str, end: Seq) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE documents SET seq = 0 WHERE seq > 0", [])?;
        self.connection.execute("UPDATE forgotten_documents SET seq = 0, up_to = 0", [])?;
        self.position = Position { life: life.into(), seq: 0, end: Some(end) };
        Ok(())
    }

    /// Drops the documents that this life of the stream does not have. Documents that are created
    /// later get later versions than theirs.
    fn drop_doubtful(&mut self) -> rusqlite::Result<()> {
        if self.position.end.is_none_or(|end| end > self.position.seq) {
            return Ok(());
        }
        self.position.end = None;
        let latest = "SELECT coalesce(max(version), 0) FROM documents WHERE seq = 0";
        let latest = self.connection.query_row(latest, [], |row| row.get(0))?;
        self.remember(latest)?;
        self.connection.execute("DELETE FROM documents WHERE seq = 0", [])?;
        self.documents = self.documents.recounted(self.connection)?;
        Ok(())
    }

    /// Puts a document in place of the one before. Returns whether it is later than that.
    fn put(&mut self, document: &Document, seq: Seq) -> rusqlite::Result<bool> {
        let before = standing(self.connection, &document.key)?;
        let put = "INSERT INTO documents (resource, audience, version, seq, user_id, data)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (resource, audience) DO UPDATE SET version = excluded.version,
                   seq = excluded.seq, user_id = excluded.user_id, data = excluded.data";
        self.connection.prepare_cached(put)?.execute(params![
            document.key.resource.as_str(),
            documents::audience(&document.key),
            integer(document.version),
            integer(seq),
            document.user_id,
            document.data.as_deref(),
        ])?;
        let was_there = before.is_some_and(|before| before.is_there);
        self.documents.recount(before.is_some(), was_there, document.data.is_some());
        Ok(before.is_none_or(|before| before.version < document.version))
    }

    /// Forgets deleted documents. Returns their places.
    fn forget(&mut self, floor: &Floor, seq: Seq) -> rusqlite::Result<Vec<Seq>> {
        let forget = "DELETE FROM documents WHERE data IS NULL AND version <= ?1
                      AND seq BETWEEN 1 AND ?2 RETURNING seq";
        let mut statement = self.connection.prepare_cached(forget)?;
        let bounds = [integer(floor.version), integer(floor.up_to)];
        let places = statement.query_map(bounds, |row| row.get(0).map(unsigned))?;
        let places = places.collect::<rusqlite::Result<Vec<_>>>()?;
        self.documents.forgot(places.len() as u64);
        self.remember(integer(floor.version))?;
        let note = "UPDATE forgotten_documents SET seq = ?1, up_to = ?2";
        self.connection.prepare_cached(note)?.execute([integer(seq), integer(floor.up_to)])?;
        Ok(places)
    }

    fn remember(&self, version: i64) -> rusqlite::Result<()> {
        let remember = "UPDATE forgotten_documents SET version = max(version, ?1)";
        self.connection.prepare_cached(remember)?.execute([version])?;
        Ok(())
    }

    /// Notes how far the copy is.
    fn end(&self) -> rusqlite::Result<()> {
        let Position { life, seq, end } = &self.position;
        let note = "UPDATE position SET life = ?1, seq = ?2, end = ?3";
        let row = params![&**life, integer(*seq), end.map(integer)];
        self.connection.prepare_cached(note)?.execute(row)?;
        Ok(())
    }
}

/// Makes the tables, and makes those of another release anew.
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != SCHEMA_VERSION {
        transaction.execute_batch(
            "DROP TABLE IF EXISTS documents; DROP TABLE IF EXISTS forgotten_documents;
             DROP TABLE IF EXISTS position;",
        )?;
        transaction.execute_batch(include_str!("schema/copy.sql"))?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    connection.query_row("SELECT life, seq, end FROM position", [], |row| {
        let life = row.get::<_, String>(0)?.into();
        let (seq, end) = (row.get(1).map(unsigned)?, row.get::<_, Option<i64>>(2)?);
        Ok(Position { life, seq, end: end.map(unsigned) })
    })
}

fn standing(connection: &Connection, key: &DocumentKey) -> rusqlite::Result<Option<Standing>> {
    let query = "SELECT seq, version, data IS NOT NULL FROM documents
                 WHERE resource = ?1 AND audience = ?2";
    let mut statement = connection.prepare_cached(query)?;
    let row = params![key.resource.as_str(), documents::audience(key)];
    let found = statement.query_row(row, |row| {
        let (seq, version) = (row.get(0).map(unsigned)?, row.get(1).map(unsigned)?);
        Ok(Standing { seq, version, is_there: row.get(2)? })
    });
    found.optional()
}

fn unsigned(value: i64) -> Millis {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
