//! Ids that publishers give their publications, and what a publication and its repetition have in
//! common.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Channel, MessageId, Space};

/// Bytes of the text of an id that a publisher gives.
pub const GIVEN_ID_BYTES: usize = 36;

/// Reads an id that a publisher gives its publication: a UUID with hyphens. Returns `None` if the
/// text is not one, or is the nil UUID, which names no publication.
pub fn given_id(text: &str) -> Option<MessageId> {
    let id = MessageId::try_parse(text).ok()?;
    (text.len() == GIVEN_ID_BYTES && !id.is_nil()).then_some(id)
}

/// Names a publication among all others of the last minutes: publications with one key are
/// published once.
///
/// It is a hash of the publisher's credential, the channel and the id. A publisher knows the ids of
/// other publishers, because subscribers receive them. With the credential in the hash it cannot
/// suppress their publications.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RepeatKey(u128);

impl RepeatKey {
    /// Returns the key of a publication with this id. The texts of `publisher` together tell one
    /// credential from all others that may publish in the channel's namespace.
    pub fn of(publisher: &[&str], channel: &Channel, id: MessageId) -> Self {
        let space: &[u8] = match channel.space() {
            Space::Channels => b"channel",
            Space::Topics => b"topic",
            Space::Resources => b"resource",
        };
        let mut hash = Sha256::new();
        let parts = publisher.iter().map(|part| part.as_bytes());
        for part in parts.chain([space, channel.as_str().as_bytes(), id.as_bytes()]) {
            // The lengths keep the parts apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        Self(u128::from_be_bytes(std::array::from_fn(|at| digest[at])))
    }
}

/// Shows the key as 32 hexadecimal digits.
impl fmt::Display for RepeatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_with_hyphens() {
        let id = "660E8400-e29b-41d4-a716-446655440000";
        assert_eq!(given_id(id).unwrap().to_string(), id.to_lowercase());
        let nil = "00000000-0000-0000-0000-000000000000";
        for text in ["", "x", nil, "660e8400e29b41d4a716446655440000", &format!("{{{id}}}")] {
            assert_eq!(given_id(text), None, "{text}");
        }
    }

    #[test]
    fn credential_channel_and_id_make_the_key() {
        let (one, other) = (MessageId::from_u128(1), MessageId::from_u128(2));
        let channel = |name: &str| Channel::from(name);
        let keys = [
            RepeatKey::of(&["user", "a"], &channel("c"), one),
            RepeatKey::of(&["user", "a"], &channel("c"), other),
            RepeatKey::of(&["user", "a"], &channel("d"), one),
            RepeatKey::of(&["user", "a"], &Channel::topic("c"), one),
            RepeatKey::of(&["user", "b"], &channel("c"), one),
            RepeatKey::of(&["user", "", "a"], &channel("c"), one),
            RepeatKey::of(&["usera"], &channel("c"), one),
            RepeatKey::of(&["user", "achannel"], &channel("c"), one),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(keys[0], RepeatKey::of(&["user", "a"], &channel("c"), one));
        assert_eq!(keys[0].to_string().len(), 32);
    }
}
