//! The schema of the store's file, and the way to it from earlier releases.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
use super::fault::failed;

/// The steps from each schema version to the next, the first of them from an empty file. Steps that
/// were released never change.
pub(super) const SCHEMA: [&str; 8] = [
    include_str!("schema/1_channels.sql"),
    include_str!("schema/2_options.sql"),
    include_str!("schema/3_history.sql"),
    include_str!("schema/4_policies.sql"),
    include_str!("schema/5_documents.sql"),
    include_str!("schema/6_order.sql"),
    include_str!("schema/7_cluster.sql"),
    include_str!("schema/8_places.sql"),
];
/// The schema that this release writes, kept in the file's `user_version`.
pub(super) const SCHEMA_VERSION: i64 = SCHEMA.len() as i64;

/// Brings the file to the schema of this release.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let path = || path.to_owned();
    match make_schema(connection).map_err(|fault| failed(&path(), fault))? {
        SCHEMA_VERSION => Ok(()),
        ..=0 => Err(StoreError::Corrupt {
            path: path(),
            reason: "it holds tables of another program".into(),
        }),
        found => Err(StoreError::Newer { path: path(), found, known: SCHEMA_VERSION }),
    }
}

/// Takes the steps that the file lacks, all or none. Returns the version that is in the file
/// afterwards; it differs from ours if the file must not be changed.
fn make_schema(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_ours = (version == 0) == (tables == 0);
    let Some(steps) = usize::try_from(version).ok().and_then(|done| SCHEMA.get(done..)) else {
        return Ok(version);
    };
    if !is_ours || steps.is_empty() {
        return Ok(version);
    }
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(SCHEMA_VERSION)
}
