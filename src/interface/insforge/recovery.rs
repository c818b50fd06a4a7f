//! Connection state recovery: how a client names its earlier session and the last publication that
//! it received.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::message::{MessageId, PrivateId, WorkerId};

/// A client's request to resume a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The id of the session.
    pub id: PrivateId,
    /// The last publication that the client received; `None` if it received none.
    pub offset: Option<MessageId>,
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
    let offset = auth.offset.map(|offset| MessageId::try_parse(&offset)).transpose().ok()?;
    Some(Resume { id: decode_id(&auth.pid)?, offset })
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
        let offset = MessageId::try_parse(offset).ok();
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
        }
    }
}
