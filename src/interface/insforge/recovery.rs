//! Connection state recovery: how a client names its earlier session and the last publication that
//! it received.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::message::{Mark, MarkPlace, MessageId, PrivateId, Replays, WorkerId};

/// A client's request to resume a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The id of the session.
    pub id: PrivateId,
    /// The last publication that the client received; `None` if it received none.
    pub offset: Option<Mark>,
}

/// Reads a request to resume a session from the data of a CONNECT packet. Returns `None` if the
/// data has no such request, or if its ids do not have the form of this node's ids.
pub fn resume(auth: &str) -> Option<Resume> {
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        pid: Cow<'a, str>,
        #[serde(borrow, default)]
        offset: Option<Cow<'a, str>>,
    }
    let auth: Auth<'_> = serde_json::from_str(auth).ok()?;
    let offset = match auth.offset {
        Some(offset) => Some(decode_mark(&offset)?),
        None => None,
    };
    Some(Resume { id: decode_id(&auth.pid)?, offset })
}

/// Appends a mark as clients see it: the text of a UUID, or 16 or 19 characters.
pub fn push_mark(out: &mut String, mark: &Mark) {
    match mark {
        // A failure of writing to a string is impossible.
        Mark::Id(id) => drop(write!(out, "{id}")),
        Mark::Place(place) => URL_SAFE_NO_PAD.encode_string(place.to_bytes(), out),
        Mark::Replays(place, replays) => {
            let mut bytes = [0; MarkPlace::BYTES + Replays::BYTES];
            let (first, last) = bytes.split_at_mut(MarkPlace::BYTES);
            first.copy_from_slice(&place.to_bytes());
            last.copy_from_slice(&replays.to_bytes());
            URL_SAFE_NO_PAD.encode_string(bytes, out);
        }
    }
}

fn decode_mark(text: &str) -> Option<Mark> {
    if let Ok(id) = MessageId::try_parse(text) {
        return Some(Mark::Id(id));
    }
    let mut bytes = [0; MarkPlace::BYTES + Replays::BYTES];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    let (place, replays) = bytes[..length].split_at_checked(MarkPlace::BYTES)?;
    let place = MarkPlace::from_bytes(place)?;
    match replays {
        [] => Some(Mark::Place(place)),
        replays => Some(Mark::Replays(place, Replays::from_bytes(replays)?)),
    }
}

/// Returns the id as its client sees it: 32 characters.
pub fn encode_id(id: &PrivateId) -> String {
    let mut bytes = [0; 24];
    bytes[0] = id.worker.0;
    bytes[1..9].copy_from_slice(&id.start.to_be_bytes());
    bytes[9..].copy_from_slice(&id.key);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_id(text: &str) -> Option<PrivateId> {
    let mut bytes = [0; 24];
    if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != bytes.len() {
        return None;
    }
    let (worker, rest) = bytes.split_first()?;
    let (start, key) = rest.split_first_chunk()?;
    let key = key.try_into().ok()?;
    Some(PrivateId { worker: WorkerId(*worker), start: u64::from_be_bytes(*start), key })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wishes_are_read() {
        let id = PrivateId { worker: WorkerId(3), start: u64::MAX - 1, key: [9; 15] };
        let pid = encode_id(&id);
        assert_eq!(pid.len(), 32);
        let told = format!(r#"{{"token":"t","pid":"{pid}"}}"#);
        assert_eq!(resume(&told), Some(Resume { id, offset: None }));
        let offset = "660e8400-e29b-71d4-a716-446655440000";
        let told = format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#);
        let offset = MessageId::try_parse(offset).ok().map(Mark::Id);
        assert_eq!(resume(&told), Some(Resume { id, offset }));
        for none in [
            "{}".to_owned(),
            r#"{"pid":5}"#.to_owned(),
            r#"{"pid":"x"}"#.to_owned(),
            format!(r#"{{"pid":"{pid}","offset":"Q80Q5Wq"}}"#),
            format!(r#"{{"pid":"{pid}A"}}"#),
            format!(r#"{{"pid":"{pid}","offset":5}}"#),
        ] {
            assert_eq!(resume(&none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_surprise(text: String) {
            let _ = resume(&text);
            let _ = decode_id(&text);
            let _ = decode_mark(&text);
        }

        #[test]
        fn marks_are_read_as_they_were_told(id: u128, epoch: u32, seq: u64, replays: [u8; 2]) {
            let place = MarkPlace::new(epoch, seq);
            let replays = Replays::from_bytes(&replays).expect("there are two bytes");
            let all = [
                (Mark::Id(MessageId::from_u128(id)), 36),
                (Mark::Place(place), 16),
                (Mark::Replays(place, replays), 19),
            ];
            for (mark, length) in all {
                let mut text = String::new();
                push_mark(&mut text, &mark);
                prop_assert_eq!((text.len(), decode_mark(&text)), (length, Some(mark)));
            }
        }
    }
}
