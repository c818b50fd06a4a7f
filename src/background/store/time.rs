//! Times as SQLite keeps them.

use rusqlite::Row;

use crate::message::Millis;

/// SQLite's integers are signed; its largest is some 292 million years away.
pub(super) fn integer(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

pub(super) fn millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    let at: i64 = row.get(column)?;
    at.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, at))
}
