//! Times as SQLite keeps them.

use rusqlite::Row;

use crate::message::Millis;

/// Returns a time as one of SQLite's signed integers, the largest of which is some 292 million
/// years away.
pub(super) fn integer(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Reads a time; negative ones are errors.
pub(super) fn millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    let at: i64 = row.get(column)?;
    at.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, at))
}
