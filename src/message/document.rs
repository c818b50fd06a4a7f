//! Documents, each the latest state of a resource, and reads of them.

use std::sync::Arc;

use super::{Channel, ConnId, Millis};

/// Names a document: its resource, and whose it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DocumentKey {
    /// The channel of the resource.
    pub resource: Channel,
    /// The only user who is told of it; everybody, where there is none.
    pub audience: Option<Arc<str>>,
}

/// The state of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Which.
    pub key: DocumentKey,
    /// Its owner or author, as the writer says.
    pub user_id: Option<Box<str>>,
    /// JSON text, unchanged; none once it is deleted.
    pub data: Option<Box<str>>,
    /// When it was written, and later than the version before it.
    pub version: Millis,
}

/// A document is to be written, or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentWrite {
    /// Which.
    pub key: DocumentKey,
    /// Its owner or author.
    pub user_id: Option<Box<str>>,
    /// JSON text; none to delete it.
    pub data: Option<Box<str>>,
    /// Its version, where the writer gives one: then it is dropped unless it is the latest.
    pub version: Option<Millis>,
}

impl DocumentWrite {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let audience = self.key.audience.as_ref().map_or(0, |user| user.len());
        let said = [&self.user_id, &self.data].map(|text| text.as_ref().map_or(0, |it| it.len()));
        self.key.resource.as_str().len() + audience + said.iter().sum::<usize>()
    }
}

/// The documents of a resource that a subscriber is told of. Of each, what the store remembers: one
/// that was deleted, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// The one for everybody.
    pub shared: Option<T>,
    /// The user's own.
    pub personal: Option<T>,
}

/// Nothing, whatever it would be.
impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { shared: None, personal: None }
    }
}

impl<T> Found<T> {
    /// The same in another form.
    pub fn map<U>(self, form: impl Fn(T) -> U) -> Found<U> {
        Found { shared: self.shared.map(&form), personal: self.personal.map(&form) }
    }
}

/// The current documents of a resource are to be read for a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// Who subscribed.
    pub connection: ConnId,
    /// To what.
    pub resource: Channel,
    /// Tells this question from others of the same worker.
    pub question: u64,
    /// Whether the document for everybody is wanted.
    pub shared: bool,
    /// Whose own document is wanted.
    pub user: Option<Arc<str>>,
}
