//! Documents, each the latest state of a resource, and reads of them.

use std::sync::Arc;

use bytestring::ByteString;

use super::{Channel, ConnId, Millis};

/// Names a document by its resource and the user that may receive it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DocumentKey {
    /// The channel of the resource.
    pub resource: Channel,
    /// The one user that may receive the document; `None` for the shared document.
    pub audience: Option<Arc<str>>,
}

/// The state of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// The resource, and the user that may receive the document.
    pub key: DocumentKey,
    /// Its owner or author, as the writer named them.
    pub user_id: Option<Box<str>>,
    /// JSON text, unchanged; `None` if the document was deleted.
    pub data: Option<ByteString>,
    /// The version: the one that the writer gave, or else the time of the write. It is later than
    /// the version before it.
    pub version: Millis,
}

/// A request to write or to delete a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentWrite {
    /// The resource, and the user that may receive the document.
    pub key: DocumentKey,
    /// The document's owner or author.
    pub user_id: Option<Box<str>>,
    /// JSON text, a slice of what was received; `None` deletes the document.
    pub data: Option<ByteString>,
    /// The version that the writer gave: the write is dropped unless it is later than the stored
    /// one. `None` makes the store choose the version.
    pub version: Option<Millis>,
}

impl DocumentWrite {
    /// Returns the bytes of its texts.
    pub fn bytes(&self) -> usize {
        let audience = self.key.audience.as_ref().map_or(0, |user| user.len());
        let user = self.user_id.as_ref().map_or(0, |user| user.len());
        let data = self.data.as_ref().map_or(0, |data| data.len());
        self.key.resource.as_str().len() + audience + user + data
    }
}

/// The result of a write, as the document before it decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decided {
    /// The write is valid under this version.
    Version(Millis),
    /// The version in the write is not later than this one, which stays.
    Stale(Millis),
    /// There is no document to delete.
    Missing,
    /// There is no room for one more document.
    Full,
}

impl DocumentWrite {
    /// Decides on the write. `before` is the version that the document has, and whether it is there
    /// or was deleted; `None` if it was never written or is forgotten. `forgotten` is the latest
    /// version among forgotten documents, 0 if none was forgotten. Without a version of its own the
    /// write gets `now`, or the version behind the one before if that is later.
    pub fn decide(
        &self,
        before: Option<(Millis, bool)>,
        forgotten: Millis,
        has_room: bool,
        now: Millis,
    ) -> Decided {
        let (last, was_there) = before.unwrap_or((forgotten, false));
        // If nothing was ever written or forgotten, any version is later.
        let is_first = before.is_none() && last == 0;
        if !is_first && self.version.is_some_and(|given| given <= last) {
            return Decided::Stale(last);
        }
        match self.data {
            None if !was_there => Decided::Missing,
            Some(_) if !was_there && !has_room => Decided::Full,
            _ => Decided::Version(self.version.unwrap_or(now.max(last + 1))),
        }
    }
}

/// The documents of a resource that one subscriber may receive, as far as the store remembers them.
/// Deleted ones are included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// The shared document, which every user may receive.
    pub shared: Option<T>,
    /// The user's own document.
    pub personal: Option<T>,
}

/// Neither document. (A derived implementation would ask for `T: Default`.)
impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { shared: None, personal: None }
    }
}

impl<T> Found<T> {
    /// Converts each of the documents that exist.
    pub fn map<U>(self, form: impl Fn(T) -> U) -> Found<U> {
        Found { shared: self.shared.map(&form), personal: self.personal.map(&form) }
    }
}

/// A request to read the current documents of a resource for a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// The connection of the subscriber.
    pub connection: ConnId,
    /// The channel of the resource.
    pub resource: Channel,
    /// Tells this load from other loads of the same worker.
    pub question: u64,
    /// Whether to read the shared document.
    pub shared: bool,
    /// The user whose own document to read; `None` to read no such document.
    pub user: Option<Arc<str>>,
}
