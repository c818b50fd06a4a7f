//! Documents in the cluster's stream of documents, which keeps the latest message of each subject:
//! one for every document, deleted ones included, one for the floor of forgotten documents, and one
//! of each node that proves how new its copy is.
//!
//! - [`writes`] takes a write to the stream: its version is decided by the document that the stream
//!   has, which the stream proves by comparing the sequence.
//! - [`proofs`] lets reads and refusals wait until the node's copy has everything that the stream
//!   had when they began.

pub mod proofs;
pub mod writes;

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use super::limits::LINE_BYTES_MAX;
use super::name::{ChannelHash, NodeName, Prefix, Seq, decimal};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::{Channel, Document, DocumentKey, Millis};

/// The version of messages that this release writes, and the latest that it reads.
const VERSION: u32 = 1;

/// The subjects of the stream of documents. It is a bucket of keys and values to the tools of NATS.
#[derive(Clone, Debug)]
pub struct Places {
    bucket: String,
}

/// What a message of the stream says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The document, or its deletion.
    Document(Document),
    /// Deleted documents are forgotten.
    Floor(Floor),
    /// Nothing but its place in the stream, and a number by which its node recognizes it; 0 for
    /// another text.
    Proof(u64),
}

/// Deleted documents that are forgotten: those that are not later than `version` and have their
/// place in the stream up to `up_to`. Documents that are written later get later versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Floor {
    /// The latest version that is forgotten.
    pub version: Millis,
    /// A deletion behind this place is too young to be forgotten: a write whose version was decided
    /// before the deletion may still be on its way.
    pub up_to: Seq,
    /// The node that removes the forgotten documents from the stream.
    pub node: NodeName,
}

/// Why a message of the stream is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// A later release wrote it.
    Version,
    /// It is not as this release writes it. The text says what is wrong.
    Malformed(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    v: u32,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    audience: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    version: Millis,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

#[derive(Serialize, Deserialize)]
struct FloorText<'a> {
    v: u32,
    version: Millis,
    up_to: Seq,
    #[serde(borrow)]
    node: Cow<'a, str>,
}

impl Places {
    /// Returns the places of the cluster with this prefix.
    pub fn new(prefix: &Prefix) -> Self {
        Self { bucket: format!("{prefix}_doc") }
    }

    /// Returns the name of the stream.
    pub fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// Returns the subjects of all messages of the stream, with a wildcard.
    pub fn stored(&self) -> String {
        format!("$KV.{}.>", self.bucket)
    }

    /// Returns the subject of a document.
    pub fn document(&self, key: &DocumentKey) -> String {
        let resource = ChannelHash::of(&key.resource);
        match &key.audience {
            None => format!("$KV.{}.d.{resource}", self.bucket),
            Some(user) => {
                let user = ChannelHash::of(&Channel::resource(user));
                format!("$KV.{}.d.{resource}.{user}", self.bucket)
            }
        }
    }

    /// Returns the subject of the floor.
    pub fn floor(&self) -> String {
        format!("$KV.{}.floor", self.bucket)
    }

    /// Returns the subject of a node's proofs.
    pub fn proof(&self, node: &NodeName) -> String {
        format!("$KV.{}.proof.{node}", self.bucket)
    }

    /// Reads a message of the stream.
    ///
    /// # Errors
    /// If this release cannot read it.
    pub fn read(&self, subject: &str, body: &Bytes) -> Result<Entry, Unread> {
        let rest = subject.strip_prefix("$KV.").and_then(|rest| rest.strip_prefix(&*self.bucket));
        let rest = rest.and_then(|rest| rest.strip_prefix('.'));
        let rest = rest.ok_or(Unread::Malformed("subject"))?;
        if rest == "floor" {
            return floor(body).map(Entry::Floor);
        }
        if rest.starts_with("proof.") {
            let number = str::from_utf8(body).ok().and_then(decimal);
            return Ok(Entry::Proof(number.unwrap_or(0)));
        }
        let document = document(body)?;
        if self.document(&document.key) != subject {
            return Err(Unread::Malformed("the document is not that of the subject"));
        }
        Ok(Entry::Document(document))
    }
}

/// Returns the body of a document's message; `None` if it would be too long.
pub fn encode(document: &Document) -> Option<Vec<u8>> {
    let Document { key, user_id, data, version } = document;
    let line = Line {
        v: VERSION,
        resource: key.resource.as_str().into(),
        audience: key.audience.as_deref().map(Into::into),
        user: user_id.as_deref().map(Into::into),
        version: *version,
        gone: data.is_none(),
    };
    let mut body = serde_json::to_vec(&line).ok()?;
    let data = data.as_deref().unwrap_or_default();
    if body.len() > LINE_BYTES_MAX || data.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    body.push(b'\n');
    body.extend_from_slice(data.as_bytes());
    Some(body)
}

fn document(body: &Bytes) -> Result<Document, Unread> {
    let end = body.iter().take(LINE_BYTES_MAX + 1).position(|byte| *byte == b'\n');
    let end = end.ok_or(Unread::Malformed("no first line"))?;
    let line: Line<'_> =
        serde_json::from_slice(&body[..end]).map_err(|_| Unread::Malformed("first line"))?;
    if line.v > VERSION {
        return Err(Unread::Version);
    }
    let data = body.slice(end + 1..);
    if data.len() > MESSAGE_BYTES_MAX {
        return Err(Unread::Malformed("too long"));
    }
    let data = ByteString::try_from(data).map_err(|_| Unread::Malformed("not UTF-8"))?;
    let key = DocumentKey {
        resource: Channel::resource(&line.resource),
        audience: line.audience.as_deref().map(Into::into),
    };
    let data = (!line.gone).then_some(data);
    Ok(Document { key, user_id: line.user.as_deref().map(Into::into), data, version: line.version })
}

impl Floor {
    /// Returns the body of the floor's message.
    pub fn encode(&self) -> String {
        let Self { version, up_to, node } = self;
        format!("{{\"v\":{VERSION},\"version\":{version},\"up_to\":{up_to},\"node\":\"{node}\"}}")
    }
}

fn floor(body: &[u8]) -> Result<Floor, Unread> {
    let malformed = Unread::Malformed("floor");
    let FloorText { v, version, up_to, node } =
        serde_json::from_slice(body).map_err(|_| malformed)?;
    if v > VERSION {
        return Err(Unread::Version);
    }
    let node = NodeName::read(&node).ok_or(malformed)?;
    Ok(Floor { version, up_to, node })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::new(&Prefix::read("ff").unwrap())
    }

    fn a_document(audience: Option<&str>, data: Option<&str>) -> Document {
        let resource = Channel::resource("o/p///kvStore/ä \"b\"");
        let key = DocumentKey { resource, audience: audience.map(Into::into) };
        let data = data.map(Into::into);
        Document { key, user_id: Some("u\\".into()), data, version: 1_700_000_000_123 }
    }

    #[test]
    fn documents_and_deletions_are_read_back_from_their_own_subject_only() {
        let places = places();
        for document in [
            a_document(None, Some("{\n}")),
            a_document(Some("u"), Some("0")),
            a_document(Some("u"), None),
        ] {
            let body = Bytes::from(encode(&document).unwrap());
            let subject = places.document(&document.key);
            let read = places.read(&subject, &body);
            assert_eq!(read, Ok(Entry::Document(document.clone())), "{subject}");
            let other = a_document(Some("v"), None);
            let read = places.read(&places.document(&other.key), &body);
            assert!(matches!(read, Err(Unread::Malformed(_))), "{read:?}");
        }
        assert_eq!(places.stream(), "KV_ff_doc");
        let shared = places.document(&a_document(None, None).key);
        assert!(shared.starts_with("$KV.ff_doc.d."), "{shared}");
    }

    #[test]
    fn the_bytes_never_change() {
        // All nodes and all versions must agree on them, and streams keep them.
        let text = |document| String::from_utf8(encode(&document).unwrap()).unwrap();
        let mut shared = a_document(None, Some("{}"));
        shared.user_id = None;
        let resource = r#""resource":"o/p///kvStore/ä \"b\"""#;
        let version = r#""version":1700000000123"#;
        assert_eq!(text(shared), format!("{{\"v\":1,{resource},{version}}}\n{{}}"));
        let people = r#""audience":"u","user":"u\\""#;
        let line = format!("{{\"v\":1,{resource},{people},{version}");
        assert_eq!(text(a_document(Some("u"), Some("0"))), format!("{line}}}\n0"));
        assert_eq!(text(a_document(Some("u"), None)), format!("{line},\"gone\":true}}\n"));
        let floor = Floor { version: 5, up_to: 7, node: NodeName::read("n1").unwrap() };
        assert_eq!(floor.encode(), r#"{"v":1,"version":5,"up_to":7,"node":"n1"}"#);
    }

    #[test]
    fn floors_and_proofs_are_read_back() {
        let node = NodeName::read("n1").unwrap();
        let floor = Floor { version: 5, up_to: 7, node: node.clone() };
        let body = Bytes::from(floor.encode());
        let places = places();
        assert_eq!(places.read(&places.floor(), &body), Ok(Entry::Floor(floor)));
        assert_eq!(places.read(&places.proof(&node), &"12".into()), Ok(Entry::Proof(12)));
        assert_eq!(places.read(&places.proof(&node), &"-".into()), Ok(Entry::Proof(0)));
    }

    #[test]
    fn what_another_release_or_program_wrote_is_told_apart() {
        let places = places();
        let document = a_document(None, Some("1"));
        let subject = places.document(&document.key);
        let text = String::from_utf8(encode(&document).unwrap()).unwrap();
        let later = text.replace("\"v\":1", "\"v\":2");
        assert_eq!(places.read(&subject, &later.into()), Err(Unread::Version));
        for body in ["", "\n", "{}\n1", &text[1..]] {
            let read = places.read(&subject, &Bytes::copy_from_slice(body.as_bytes()));
            assert!(matches!(read, Err(Unread::Malformed(_))), "{body}: {read:?}");
        }
        let read = places.read("$KV.gg_doc.floor", &Bytes::new());
        assert_eq!(read, Err(Unread::Malformed("subject")));
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let longest = "1".repeat(MESSAGE_BYTES_MAX);
        assert!(encode(&a_document(None, Some(&longest))).is_some());
        let longer = longest + "1";
        assert!(encode(&a_document(None, Some(&longer))).is_none());
    }
}
