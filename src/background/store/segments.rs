//! Finds messages without an index over the rows of history.
//!
//! Positions are divided into segments of 4,096. Once a segment is complete it is tallied: for each
//! definition and event name in it, how many messages there are and at which places. Sixteen
//! segments form one of the next level, whose tallies are the sums. So a search passes over
//! segments without matches, and a count adds up few numbers.
//!
//! An index for each filter would be written at another place for every row: with a thousand
//! definitions nearly every row of a batch costs a page of the log for each index. Appending a row
//! took 54 µs with three indexes and takes 9 µs with tallies, which are written once, in their
//! order, for a whole segment.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::limits::TALLIES_MERGED_MAX;
use crate::message::Position;

/// Positions in a segment of each level, as powers of two. A lowest segment must not be large,
/// because a query that cuts through it reads it row by row, and it is tallied in one go.
const LEVEL_BITS: [u32; TOP as usize + 1] = [12, 16, 20, 24];
/// The highest level; the lowest is 0.
pub(super) const TOP: u8 = 3;
const BOTTOM_POSITIONS: usize = 1 << LEVEL_BITS[0];
/// Bytes of a bitmap with a bit for each place of a lowest segment.
const BITMAP_BYTES: usize = BOTTOM_POSITIONS / 8;

/// A run of positions that begins at a multiple of its length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Segment {
    pub(super) level: u8,
    pub(super) number: Position,
}

impl Segment {
    /// Returns the segment of a level that holds this position.
    pub(super) fn holding(level: u8, position: Position) -> Self {
        Self { level, number: position >> bits(level) }
    }

    /// Returns its first position.
    pub(super) fn first(self) -> Position {
        self.number << bits(self.level)
    }

    /// Returns the position behind its last.
    pub(super) fn end(self) -> Position {
        (self.number + 1) << bits(self.level)
    }

    /// Returns the segments of the level below that it consists of; none at the lowest level.
    pub(super) fn parts(self) -> impl DoubleEndedIterator<Item = Self> {
        let numbers = match self.level.checked_sub(1) {
            Some(below) => self.first() >> bits(below)..self.end() >> bits(below),
            None => 0..0,
        };
        numbers.map(move |number| Self { level: self.level - 1, number })
    }

    fn position(self, place: u16) -> Position {
        self.first() + Position::from(place)
    }

    fn place(self, position: Position) -> u16 {
        u16::try_from(position - self.first()).expect("a lowest segment has fewer positions")
    }
}

fn bits(level: u8) -> u32 {
    LEVEL_BITS[usize::from(level)]
}

/// Numbers of messages and of webhook calls, or changes of these numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: i64,
    pub(super) wh_audience: i64,
    pub(super) wh_delivered: i64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.wh_audience += other.wh_audience;
        self.wh_delivered += other.wh_delivered;
    }
}

/// The number of webhooks that took a message, counted after the message was appended.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) position: Position,
    pub(super) channel_id: Uuid,
    pub(super) event_name: Box<str>,
    pub(super) count: u32,
}

/// Returns the position behind all complete segments. Messages from there on are found row by row.
pub(super) fn tail(connection: &Connection) -> rusqlite::Result<Position> {
    end_of_level(connection, 0)
}

/// Returns the position behind all messages that there ever were, as far as the file still knows.
pub(super) fn end_of_history(connection: &Connection) -> rusqlite::Result<Position> {
    let newest = "SELECT coalesce(max(position), 0) FROM messages";
    let mut end: Position = connection.query_row(newest, [], |row| row.get(0))?;
    end += 1;
    for level in 0..=TOP {
        end = end.max(end_of_level(connection, level)?);
    }
    Ok(end)
}

fn end_of_level(connection: &Connection, level: u8) -> rusqlite::Result<Position> {
    let newest = "SELECT max(number) FROM segments WHERE level = ?1";
    let number: Option<Position> = connection.query_row(newest, [level], |row| row.get(0))?;
    Ok(number.map_or(0, |number| Segment { level, number }.end()))
}

/// Tallies every segment that became complete when the next position moved from `from` to `to`.
/// Those before are tallied already, so `from` lies in the first that was not complete.
pub(super) fn complete(
    connection: &Connection,
    from: Position,
    to: Position,
) -> rusqlite::Result<()> {
    let first = Segment::holding(0, from).number;
    for number in first..Segment::holding(0, to).number {
        let bottom = Segment { level: 0, number };
        tally(connection, bottom)?;
        for level in 1..=TOP {
            let above = Segment::holding(level, bottom.first());
            if above.end() != bottom.end() {
                break;
            }
            merge(connection, above)?;
        }
    }
    Ok(())
}

/// Adds to the tallies of complete segments. Other segments have no tallies, and nothing is added.
pub(super) fn count_delivered(
    connection: &Connection,
    delivered: &[Delivered],
) -> rusqlite::Result<()> {
    let update = "UPDATE tallies SET wh_delivered = wh_delivered + ?5
                  WHERE level = ?1 AND segment = ?2 AND channel_id = ?3 AND event_name = ?4";
    let mut update = connection.prepare_cached(update)?;
    for level in 0..=TOP {
        let mut sums: BTreeMap<(Segment, Uuid, &str), u64> = BTreeMap::new();
        for one in delivered {
            let segment = Segment::holding(level, one.position);
            let key = (segment, one.channel_id, &*one.event_name);
            *sums.entry(key).or_default() += u64::from(one.count);
        }
        for ((segment, channel_id, event_name), sum) in sums {
            let id = channel_id.as_bytes();
            update.execute(params![level, segment.number, id, event_name, sum.cast_signed()])?;
        }
    }
    Ok(())
}

/// Records that the messages at these positions are gone. Complete segments that lose messages lose
/// their tallies, too: the oldest messages are removed first, so the rest of such a segment follows
/// soon, and until then it is found row by row. Keeping tallies right instead cost ten times as
/// much as removing the rows.
pub(super) fn forget(connection: &Connection, removed: &[Position]) -> rusqlite::Result<()> {
    let delete = "DELETE FROM tallies WHERE level = ?1 AND segment = ?2";
    let update = "UPDATE segments SET is_tallied = FALSE, messages = messages - ?3
                  WHERE level = ?1 AND number = ?2";
    let empty = "DELETE FROM segments WHERE level = ?1 AND number = ?2 AND messages = 0";
    for level in 0..=TOP {
        let mut losses: BTreeMap<Segment, i64> = BTreeMap::new();
        for position in removed {
            *losses.entry(Segment::holding(level, *position)).or_default() += 1;
        }
        for (segment, loss) in losses {
            let key = params![level, segment.number];
            if header(connection, segment)?.is_some_and(|header| header.is_tallied) {
                connection.prepare_cached(delete)?.execute(key)?;
            }
            connection.prepare_cached(update)?.execute(params![level, segment.number, loss])?;
            connection.prepare_cached(empty)?.execute(key)?;
        }
    }
    Ok(())
}

/// The header of a complete segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) messages: i64,
    /// No message was published earlier, in milliseconds since the Unix epoch.
    pub(super) first_at: i64,
    /// No message was published later, in the same unit.
    pub(super) last_at: i64,
    /// Whether the segment has its tallies.
    pub(super) is_tallied: bool,
}

/// Returns what is known of a segment; `None` if it is not complete, or empty.
pub(super) fn header(
    connection: &Connection,
    segment: Segment,
) -> rusqlite::Result<Option<Header>> {
    let query = "SELECT messages, first_at, last_at, is_tallied FROM segments
                 WHERE level = ?1 AND number = ?2";
    let mut query = connection.prepare_cached(query)?;
    let read = query.query_row(params![segment.level, segment.number], |row| {
        Ok(Header {
            messages: row.get(0)?,
            first_at: row.get(1)?,
            last_at: row.get(2)?,
            is_tallied: row.get(3)?,
        })
    });
    read.optional()
}

/// Returns the positions that a tally's places stand for, ascending.
pub(super) fn positions(segment: Segment, places: &[u8]) -> Vec<Position> {
    decode(places).into_iter().map(|place| segment.position(place)).collect()
}

#[derive(Default)]
struct Held {
    tally: Tally,
    places: Vec<u16>,
}

/// Creates the tallies of a lowest segment from its rows.
fn tally(connection: &Connection, segment: Segment) -> rusqlite::Result<()> {
    let mut all: BTreeMap<([u8; 16], Box<str>), Held> = BTreeMap::new();
    let (mut messages, mut first_at, mut last_at) = (0, i64::MAX, 0);
    let query = "SELECT position, channel_id, event_name, wh_audience, wh_delivered, created_at
                 FROM messages WHERE position >= ?1 AND position < ?2";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([segment.first(), segment.end()])?;
    while let Some(row) = rows.next()? {
        let held = all.entry((row.get(1)?, row.get(2)?)).or_default();
        let (wh_audience, wh_delivered) = (row.get(3)?, row.get(4)?);
        held.tally.add(Tally { messages: 1, wh_audience, wh_delivered });
        held.places.push(segment.place(row.get(0)?));
        let at: i64 = row.get(5)?;
        (messages, first_at, last_at) = (messages + 1, first_at.min(at), last_at.max(at));
    }
    if messages == 0 {
        return Ok(());
    }
    let insert = "INSERT INTO tallies VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut insert = connection.prepare_cached(insert)?;
    for ((channel_id, event_name), Held { tally, places }) in all {
        insert.execute(params![
            segment.number,
            channel_id,
            event_name,
            tally.messages,
            tally.wh_audience,
            tally.wh_delivered,
            encode(&places),
        ])?;
    }
    let insert = "INSERT INTO segments VALUES (0, ?1, ?2, ?3, ?4, TRUE)";
    connection.prepare_cached(insert)?.execute([segment.number, messages, first_at, last_at])?;
    Ok(())
}

/// Creates the tallies of a segment from those of its parts, if all parts have theirs and these are
/// at most [`TALLIES_MERGED_MAX`].
fn merge(connection: &Connection, segment: Segment) -> rusqlite::Result<()> {
    let (first, last) = bounds(segment);
    let below = segment.level - 1;
    let count = "SELECT count(*) FROM (SELECT 1 FROM tallies
                 WHERE level = ?1 AND segment BETWEEN ?2 AND ?3 LIMIT ?4)";
    let merged_max = i64::from(TALLIES_MERGED_MAX);
    let count: i64 = connection
        .prepare_cached(count)?
        .query_row(params![below, first, last, merged_max + 1], |row| row.get(0))?;
    let insert = "INSERT INTO segments
                  SELECT ?1, ?2, sum(messages), min(first_at), max(last_at), min(is_tallied) AND ?6
                  FROM segments WHERE level = ?3 AND number BETWEEN ?4 AND ?5
                  HAVING count(*) > 0";
    let may = count <= merged_max;
    connection.prepare_cached(insert)?.execute(params![
        segment.level,
        segment.number,
        below,
        first,
        last,
        may
    ])?;
    if !header(connection, segment)?.is_some_and(|header| header.is_tallied) {
        return Ok(());
    }
    let insert = "INSERT INTO tallies
                  SELECT ?1, ?2, channel_id, event_name,
                         sum(messages), sum(wh_audience), sum(wh_delivered), NULL
                  FROM tallies WHERE level = ?3 AND segment BETWEEN ?4 AND ?5
                  GROUP BY channel_id, event_name";
    connection.prepare_cached(insert)?.execute(params![
        segment.level,
        segment.number,
        below,
        first,
        last
    ])?;
    Ok(())
}

/// Returns the numbers of its first and last part.
fn bounds(segment: Segment) -> (Position, Position) {
    let mut parts = segment.parts();
    let first = parts.next().expect("a segment above the lowest level has parts");
    (first.number, parts.next_back().map_or(first.number, |last| last.number))
}

/// Encodes places as a bit for each place of the segment, or as two bytes for each place in the
/// list, whichever is shorter. All bitmaps have one length, and numbers are written only below it,
/// so that the length tells them apart.
fn encode(places: &[u16]) -> Vec<u8> {
    if 2 * places.len() < BITMAP_BYTES {
        return places.iter().flat_map(|place| place.to_le_bytes()).collect();
    }
    let mut bits = vec![0; BITMAP_BYTES];
    for place in places {
        bits[usize::from(place / 8)] |= 1 << (place % 8);
    }
    bits
}

fn decode(bytes: &[u8]) -> Vec<u16> {
    if bytes.len() < BITMAP_BYTES {
        let numbers = bytes.as_chunks::<2>().0;
        return numbers.iter().map(|number| u16::from_le_bytes(*number)).collect();
    }
    let mut places = Vec::new();
    for (at, byte) in (0u16..).zip(bytes) {
        places.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| 8 * at + bit));
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_consist_of_those_below() {
        let top = Segment::holding(TOP, 20_000_000);
        assert_eq!((top.first(), top.end()), (1 << 24, 2 << 24));
        let parts: Vec<_> = top.parts().collect();
        assert_eq!(parts.len(), 16);
        assert_eq!((parts[0].first(), parts[15].end()), (top.first(), top.end()));
        assert!(parts.windows(2).all(|pair| pair[0].end() == pair[1].first()));
        assert_eq!(Segment { level: 0, number: 5 }.parts().count(), 0);
    }

    proptest! {
        #[test]
        fn places_are_read_as_they_were_written(
            places in prop::collection::btree_set(0..4_096u16, 0..600),
        ) {
            let places: Vec<u16> = places.into_iter().collect();
            let bytes = encode(&places);
            prop_assert!(bytes.len() <= BITMAP_BYTES);
            prop_assert_eq!(decode(&bytes), places);
        }
    }
}
