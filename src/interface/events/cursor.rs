//! Cursors as clients see them: the opaque text of `id:` and `Last-Event-ID`.
//!
//! A cursor names channels by a hash of their name, because clients are not to read it. It is
//! either a message of one channel, in frames that all streams of that channel share, or the
//! position in each channel of one stream.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::limits::{CHANNELS_MAX, CURSOR_BYTES_MAX};
use crate::broker::cursor::{Cursor, Position};
use crate::message::{Channel, MessageId, Now};

/// The first byte of a cursor of one message.
const MESSAGE: u8 = 1;
/// The first byte of a cursor of all channels of a stream.
const STREAM: u8 = 2;
/// The kinds of a position, in a cursor of a stream.
const UNKNOWN: u8 = 0;
const SINCE: u8 = 1;
const BEHIND: u8 = 2;
const NEW: u8 = 3;

/// The longest position: hash, kind, and a message's id or two clocks.
const POSITION_BYTES: usize = 4 + 1 + 16;

const _: () = assert!(
    (1 + 8 + CHANNELS_MAX * POSITION_BYTES).div_ceil(3) * 4 <= CURSOR_BYTES_MAX,
    "every cursor that is sent is short enough to be read"
);

/// The positions up to which a client says that it has received its channels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// The start of the node that the positions are from; `None` if they hold for any.
    start: Option<u64>,
    positions: Vec<(u32, Position)>,
}

impl Received {
    /// Returns the position in a channel. It is unknown if the client does not mention the channel,
    /// or is from before the node started.
    pub fn position(&self, channel: &Channel, start: u64) -> Position {
        let hash = hash(channel);
        let found = self.positions.iter().find(|(named, _)| *named == hash);
        match found {
            Some((_, Position::Since(_))) if self.start != Some(start) => Position::Unknown,
            Some((_, position)) => *position,
            None => Position::Unknown,
        }
    }
}

/// Returns the cursor behind a message, for a client that hears one channel.
pub fn of_message(channel: &Channel, id: MessageId) -> String {
    let mut bytes = vec![MESSAGE];
    bytes.extend(hash(channel).to_be_bytes());
    bytes.extend(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the cursor of a stream.
pub fn of_stream(cursor: &Cursor) -> String {
    let mut bytes = vec![STREAM];
    bytes.extend(cursor.start.to_be_bytes());
    for (channel, position) in &cursor.positions {
        bytes.extend(hash(channel).to_be_bytes());
        match position {
            Position::New => bytes.push(NEW),
            Position::Unknown => bytes.push(UNKNOWN),
            Position::Since(now) => {
                bytes.push(SINCE);
                bytes.extend(now.nanos.to_be_bytes());
                bytes.extend(now.wall.to_be_bytes());
            }
            Position::Behind(id) => {
                bytes.push(BEHIND);
                bytes.extend(id.as_bytes());
            }
        }
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; `None` for any text that is not one.
pub fn read(text: &str) -> Option<Received> {
    if text.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let mut rest = &bytes[..];
    match take::<1>(&mut rest)? {
        [MESSAGE] => {
            let hash = u32::from_be_bytes(take(&mut rest)?);
            let id = MessageId::from_bytes(take(&mut rest)?);
            let positions = vec![(hash, Position::Behind(id))];
            rest.is_empty().then_some(Received { start: None, positions })
        }
        [STREAM] => {
            let start = Some(u64::from_be_bytes(take(&mut rest)?));
            let mut positions = Vec::new();
            while !rest.is_empty() {
                positions.push(position(&mut rest)?);
            }
            Some(Received { start, positions })
        }
        _ => None,
    }
}

fn position(rest: &mut &[u8]) -> Option<(u32, Position)> {
    let hash = u32::from_be_bytes(take(rest)?);
    let position = match take::<1>(rest)? {
        [NEW] => Position::New,
        [UNKNOWN] => Position::Unknown,
        [SINCE] => {
            let nanos = u64::from_be_bytes(take(rest)?);
            Position::Since(Now { nanos, wall: u64::from_be_bytes(take(rest)?) })
        }
        [BEHIND] => Position::Behind(MessageId::from_bytes(take(rest)?)),
        _ => return None,
    };
    Some((hash, position))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

/// Returns what a cursor says instead of a channel's name. Two channels with the same hash make
/// positions that are not found, which is told as a gap. A release may change the hash: then a
/// cursor from before it leads to a gap, too.
fn hash(channel: &Channel) -> u32 {
    let mut hasher = DefaultHasher::new();
    channel.as_str().hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::from(name)
    }

    fn positions() -> impl Strategy<Value = Position> {
        prop_oneof![
            Just(Position::New),
            Just(Position::Unknown),
            any::<(u64, u64)>().prop_map(|(nanos, wall)| Position::Since(Now { nanos, wall })),
            any::<u128>().prop_map(|id| Position::Behind(MessageId::from_u128(id))),
        ]
    }

    #[test]
    fn a_message_names_its_place_in_its_own_channel() {
        let id = MessageId::from_u128(7);
        let received = read(&of_message(&channel("a"), id)).expect("it is a cursor");
        for start in [0, 9] {
            assert_eq!(received.position(&channel("a"), start), Position::Behind(id));
            assert_eq!(received.position(&channel("b"), start), Position::Unknown);
        }
    }

    #[test]
    fn a_moment_holds_for_one_start_of_the_node() {
        let since = Position::Since(Now { nanos: 5, wall: 6 });
        let cursor = Cursor { start: 9, positions: [(channel("a"), since)].into() };
        let received = read(&of_stream(&cursor)).expect("it is a cursor");
        assert_eq!(received.position(&channel("a"), 9), since);
        assert_eq!(received.position(&channel("a"), 8), Position::Unknown);
    }

    #[test]
    fn other_texts_are_no_cursors() {
        let good = of_message(&channel("a"), MessageId::nil());
        let long = "A".repeat(CURSOR_BYTES_MAX + 1);
        for text in ["", "0", "42", "AA", "AQ", "{}", &good[1..], &(good.clone() + "AA"), &long] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in prop::collection::vec(positions(), 0..=CHANNELS_MAX)) {
            let named = all.iter().enumerate();
            let positions: Box<[_]> =
                named.map(|(at, position)| (channel(&format!("c{at}")), *position)).collect();
            let cursor = Cursor { start: 3, positions };
            let text = of_stream(&cursor);
            prop_assert!(text.len() <= CURSOR_BYTES_MAX);
            let received = read(&text).expect("it is a cursor");
            for (channel, position) in &cursor.positions {
                prop_assert_eq!(received.position(channel, 3), *position);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = read(&text);
        }
    }
}
