//! Calls that platforms have registered, as the bucket has them that all nodes follow. The bucket
//! forgets each when it expires, and its revocation at the same time.

use serde::{Deserialize, Serialize};

use super::name::hex;
use crate::message::{Invocation, Millis};

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    id: Box<str>,
    expires: Millis,
    #[serde(borrow)]
    description: Option<std::borrow::Cow<'a, str>>,
}

/// Returns the key of an id in the bucket. Ids may have characters that keys may not have.
pub fn key(id: &str) -> String {
    hex(id.as_bytes())
}

/// Returns a registered or revoked call as JSON text.
pub fn encode(invocation: &Invocation) -> String {
    let Invocation { id, expires, description } = invocation;
    let description = description.as_deref().map(Into::into);
    let text = Text { id: id.clone(), expires: *expires, description };
    serde_json::to_string(&text).expect("strings and numbers serialize")
}

/// Reads a registered or revoked call; `None` if it is not as this release writes it.
pub fn decode(text: &[u8]) -> Option<Invocation> {
    let Text { id, expires, description } = serde_json::from_slice(text).ok()?;
    let description = description.map(|text| text.into_owned().into());
    Some(Invocation { id, expires, description })
}

/// Returns for how many seconds the bucket must keep what expires at this time.
pub fn seconds_left(expires: Millis, now: Millis) -> u64 {
    expires.saturating_sub(now).div_ceil(1_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocations_are_read_back() {
        for description in [None, Some("{\"a\":\"\\u00e9\"}".into())] {
            let invocation = Invocation { id: "a.*>".into(), expires: 7, description };
            assert_eq!(decode(encode(&invocation).as_bytes()), Some(invocation));
        }
        assert_eq!(decode(b"{\"id\":\"a\"}"), None);
    }

    #[test]
    fn ids_have_keys_of_their_own() {
        assert_eq!((key("a.*"), key("A")), ("612e2a".to_owned(), "41".to_owned()));
    }

    #[test]
    fn the_bucket_keeps_what_has_not_expired() {
        assert_eq!(
            [1_000, 1_001, 2_000, 2_001, 9].map(|at| seconds_left(at, 1_000)),
            [1, 1, 1, 2, 1]
        );
    }
}
