//! The places of messages in a cluster's stream.
//!
//! Only places that are later than the one before are written. A message that the stream has at an
//! earlier one, because it has answered late, counts as being where the last one was. So the places
//! of a node rise with its positions, and the histories of several nodes can be merged.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::message::{Position, StreamPlace};

/// Returns the place of the message at a position; the first place of all if that is before the
/// first message of a stream.
pub(super) fn at(connection: &Connection, position: Position) -> rusqlite::Result<StreamPlace> {
    let query = "SELECT position, epoch, sequence FROM places WHERE position <= ?1
                 ORDER BY position DESC LIMIT 1";
    let found = connection.prepare_cached(query)?.query_row([position], read).optional()?;
    Ok(found.map_or_else(StreamPlace::default, |(_, place)| place))
}

/// Returns the position behind all that have a place of their own.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<Position> {
    let last = "SELECT coalesce(max(position), 0) FROM places";
    connection.query_row(last, [], |row| row.get(0)).map(|last: Position| last + 1)
}

/// Notes the place of the message at a position.
pub(super) fn insert(
    connection: &Connection,
    position: Position,
    place: StreamPlace,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO places VALUES (?1, ?2, ?3)";
    let StreamPlace { epoch, seq } = place;
    let row = params![position, epoch.cast_signed(), seq.cast_signed()];
    connection.prepare_cached(insert)?.execute(row)?;
    Ok(())
}

/// Returns the first position whose place is `place` or later; the last position of all if there is
/// none.
pub(super) fn first_from(
    connection: &Connection,
    place: StreamPlace,
) -> rusqlite::Result<Position> {
    if place == StreamPlace::default() {
        return Ok(Position::MIN);
    }
    let query = "SELECT position, epoch, sequence FROM places WHERE position >= ?1
                 ORDER BY position LIMIT 1";
    let mut query = connection.prepare_cached(query)?;
    let mut next = |position: Position| query.query_row([position], read).optional();
    // Everything before `low` is earlier, and `found` is not.
    let (mut low, mut high) = (0, end(connection)?);
    let mut found = Position::MAX;
    while low < high {
        let middle = low + (high - low) / 2;
        match next(middle)? {
            Some((position, at)) if at < place => low = position + 1,
            Some((position, _)) => (found, high) = (position, middle),
            None => high = middle,
        }
    }
    Ok(found)
}

/// Forgets the places before the oldest message, but for the last of them, which is that of the
/// oldest message.
pub(super) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    let delete = "DELETE FROM places WHERE position < (
                      SELECT max(position) FROM places WHERE position <= coalesce(
                          (SELECT min(position) FROM messages), 9223372036854775807))";
    connection.prepare_cached(delete)?.execute([])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<(Position, StreamPlace)> {
    let (epoch, seq): (i64, i64) = (row.get(1)?, row.get(2)?);
    let place = StreamPlace { epoch: epoch.cast_unsigned(), seq: seq.cast_unsigned() };
    Ok((row.get(0)?, place))
}
