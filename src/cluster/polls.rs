//! What nodes tell each other of long-polling requests that reach another node than that of their
//! session.
//!
//! A node passes a request on as a request of NATS, a [`Word`]. It is answered with a [`Reply`].
//! Packets are sent in parts, each of which asks for an [`Ack`]: first for the next part, and in
//! the end for whether the client has received all. If that is not said, the session ends, because
//! the client may have missed packets.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::limits::CLUSTER_POLL_HEAD_BYTES;
use crate::message::{NodeTag, SessionId, WorkerId};

const GET: u8 = b'g';
const POST: u8 = b'p';
const GONE: u8 = b'x';
const RELEASE: u8 = b'r';

/// Bytes of a session's id.
const SESSION_BYTES: usize = 14;
const _: () = assert!(1 + SESSION_BYTES + 4 <= CLUSTER_POLL_HEAD_BYTES);

/// What a node tells the node of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// A client asks for packets, at the node with this tag.
    Get(SessionId, NodeTag),
    /// A client sends packets.
    Post(SessionId, Bytes),
    /// A client has left, and may have missed packets: the session ends.
    Gone(SessionId),
    /// The poll that waits is to be answered without packets, because the node of its client stops.
    Release(SessionId),
}

impl Word {
    /// Returns the session that it is for.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Get(session, _)
            | Self::Post(session, _)
            | Self::Gone(session)
            | Self::Release(session) => *session,
        }
    }

    /// Returns the bytes of a message.
    pub fn encode(&self) -> Bytes {
        let (kind, rest): (u8, &[u8]) = match self {
            Self::Get(_, asker) => (GET, &asker.0),
            Self::Post(_, body) => (POST, body),
            Self::Gone(_) => (GONE, &[]),
            Self::Release(_) => (RELEASE, &[]),
        };
        let SessionId { worker, slot, key } = self.session();
        let mut bytes = Vec::with_capacity(1 + SESSION_BYTES + rest.len());
        bytes.put_u8(kind);
        bytes.put_u8(worker.0);
        bytes.put_u32(slot);
        bytes.put_slice(&key);
        bytes.put_slice(rest);
        bytes.into()
    }

    /// Reads a message. Returns `None` for one that [`Word::encode`] cannot have returned.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 1 + SESSION_BYTES {
            return None;
        }
        let kind = bytes.get_u8();
        let (worker, slot) = (WorkerId(bytes.get_u8()), bytes.get_u32());
        let mut session = SessionId { worker, slot, key: Default::default() };
        bytes.copy_to_slice(&mut session.key);
        match (kind, &*bytes) {
            (GET, rest) => Some(Self::Get(session, NodeTag(rest.try_into().ok()?))),
            (POST, _) => Some(Self::Post(session, bytes)),
            (GONE, []) => Some(Self::Gone(session)),
            (RELEASE, []) => Some(Self::Release(session)),
            _ => None,
        }
    }
}

/// What the node of a session answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A part of the packets, after which others come.
    Part(Bytes),
    /// The last part of the packets, or all of them.
    Last(Bytes),
    /// The packets of a POST were taken.
    Taken,
    /// There is no such session.
    Unknown,
    /// The session cannot serve the request.
    Unfit,
    /// The node has too much to do.
    Overloaded,
}

const PART: u8 = b'm';
const LAST: u8 = b'l';

impl Reply {
    /// Returns the bytes of a message.
    pub fn encode(&self) -> Bytes {
        let (kind, part): (u8, &[u8]) = match self {
            Self::Part(part) => (PART, part),
            Self::Last(part) => (LAST, part),
            Self::Taken => (b't', &[]),
            Self::Unknown => (b'u', &[]),
            Self::Unfit => (b'b', &[]),
            Self::Overloaded => (b'o', &[]),
        };
        let mut bytes = Vec::with_capacity(1 + part.len());
        bytes.put_u8(kind);
        bytes.put_slice(part);
        bytes.into()
    }

    /// Reads a message. Returns `None` for one that [`Reply::encode`] cannot have returned.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        match (bytes.get_u8(), &*bytes) {
            (PART, _) => Some(Self::Part(bytes)),
            (LAST, _) => Some(Self::Last(bytes)),
            (b't', []) => Some(Self::Taken),
            (b'u', []) => Some(Self::Unknown),
            (b'b', []) => Some(Self::Unfit),
            (b'o', []) => Some(Self::Overloaded),
            _ => None,
        }
    }
}

/// What a node says to a part of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// It waits for the next part.
    Next,
    /// The client has received the whole answer.
    Received,
    /// The client may not have received it.
    Missed,
}

impl Ack {
    /// Returns the bytes of a message.
    pub fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Next => b"n",
            Self::Received => b"r",
            Self::Missed => b"m",
        })
    }

    /// Reads a message. Returns `None` for one that [`Ack::encode`] cannot have returned.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        [Self::Next, Self::Received, Self::Missed].into_iter().find(|ack| *ack.encode() == *bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session() -> SessionId {
        SessionId { worker: WorkerId(3), slot: 0x0102_0304, key: *b"secretkey" }
    }

    #[test]
    fn the_bytes_never_change() {
        // All nodes and all versions must agree on them.
        let bytes = |word: Word| word.encode().to_vec();
        let id = b"\x03\x01\x02\x03\x04secretkey";
        assert_eq!(
            bytes(Word::Get(session(), NodeTag(*b"tagg"))),
            [b"g", &id[..], b"tagg"].concat()
        );
        let body = Bytes::from_static(b"42[]");
        assert_eq!(bytes(Word::Post(session(), body)), [b"p", &id[..], b"42[]"].concat());
        assert_eq!(bytes(Word::Gone(session())), [b"x", &id[..]].concat());
        assert_eq!(bytes(Word::Release(session())), [b"r", &id[..]].concat());
        let part = Bytes::from_static(b"2");
        assert_eq!(*Reply::Part(part.clone()).encode(), *b"m2");
        assert_eq!(*Reply::Last(part).encode(), *b"l2");
        let replies = [Reply::Taken, Reply::Unknown, Reply::Unfit, Reply::Overloaded];
        assert_eq!(replies.map(|reply| reply.encode()).concat(), b"tubo");
        assert_eq!([Ack::Next, Ack::Received, Ack::Missed].map(Ack::encode).concat(), b"nrm");
    }

    #[test]
    fn what_is_short_long_or_unknown_is_nothing() {
        for word in [Word::Get(session(), NodeTag(*b"tagg")), Word::Gone(session())] {
            let bytes = word.encode();
            assert_eq!(Word::decode(bytes.slice(..bytes.len() - 1)), None);
            assert_eq!(Word::decode([&*bytes, b"1"].concat().into()), None);
        }
        let unknown = [b"z", &*Word::Gone(session()).encode().slice(1..)].concat();
        assert_eq!(Word::decode(unknown.into()), None);
        for bytes in ["", "z", "t1"] {
            assert_eq!(Reply::decode(bytes.into()), None, "{bytes}");
            assert_eq!(Ack::decode(bytes.as_bytes()), None, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn words_and_replies_are_read_back(
            worker: u8, slot: u32, key: [u8; 9], tag: [u8; 4], body: Vec<u8>,
        ) {
            let session = SessionId { worker: WorkerId(worker), slot, key };
            let body = Bytes::from(body);
            for word in [
                Word::Get(session, NodeTag(tag)),
                Word::Post(session, body.clone()),
                Word::Gone(session),
                Word::Release(session),
            ] {
                prop_assert_eq!(Word::decode(word.encode()), Some(word));
            }
            for reply in [
                Reply::Part(body.clone()), Reply::Last(body.clone()),
                Reply::Taken, Reply::Unknown, Reply::Unfit, Reply::Overloaded,
            ] {
                prop_assert_eq!(Reply::decode(reply.encode()), Some(reply));
            }
            for ack in [Ack::Next, Ack::Received, Ack::Missed] {
                prop_assert_eq!(Ack::decode(&ack.encode()), Some(ack));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            Ack::decode(&bytes);
            let bytes = Bytes::from(bytes);
            let _ = (Word::decode(bytes.clone()), Reply::decode(bytes));
        }
    }
}
