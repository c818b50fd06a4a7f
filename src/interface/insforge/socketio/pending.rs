//! Events with binary attachments.

use super::event::{Event, event};
use super::inline::{InlineError, inline};
use crate::interface::insforge::violation::Violation;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::AckId;

/// An event whose attachments arrive in the packets behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    namespace: Box<str>,
    ack: Option<AckId>,
    data: Box<str>,
    missing: usize,
    bytes: usize,
    attachments: Vec<Vec<u8>>,
}

impl Pending {
    /// Creates an event that waits for `missing` attachments. `data` is the JSON array of its name
    /// and arguments.
    pub(super) fn new(namespace: &str, ack: Option<AckId>, data: &str, missing: usize) -> Self {
        Self {
            namespace: namespace.into(),
            ack,
            data: data.into(),
            missing,
            bytes: data.len(),
            attachments: Vec::new(),
        }
    }

    /// Adds the next attachment. Returns true if it was the last. The attachments of an event that
    /// is [too large](Self::is_too_large) are not kept.
    pub fn attach(&mut self, attachment: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(attachment.len());
        match self.is_too_large() {
            true => self.attachments = Vec::new(),
            false => self.attachments.push(attachment.to_vec()),
        }
        self.missing -= 1;
        self.missing == 0
    }

    /// Returns whether text and attachments together exceed [`MESSAGE_BYTES_MAX`].
    pub fn is_too_large(&self) -> bool {
        self.bytes > MESSAGE_BYTES_MAX
    }

    /// Returns the bytes of its text and of the attachments that have arrived.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the event. Its arguments have placeholders in place of the attachments.
    ///
    /// # Errors
    /// If the event is malformed. [`decode`](super::decode) has excluded that.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }

    /// Returns the attachments that have arrived, in order.
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }

    /// Returns the event with each placeholder replaced by its attachment, in the JSON form of a
    /// Node.js buffer: `{"type":"Buffer","data":[1,2]}`. The rest of the text stays as it is.
    ///
    /// # Errors
    /// If a placeholder names no attachment, or the text would exceed [`MESSAGE_BYTES_MAX`], as
    /// that of an event without attachments may not.
    pub fn inlined(&self) -> Result<Inlined, InlineError> {
        if self.is_too_large() {
            return Err(InlineError::TooLarge);
        }
        let data = inline(&self.data, &self.attachments, MESSAGE_BYTES_MAX)?;
        Ok(Inlined { namespace: self.namespace.clone(), ack: self.ack, data })
    }
}

/// An event whose attachments are part of its JSON.
#[derive(Debug)]
pub struct Inlined {
    namespace: Box<str>,
    ack: Option<AckId>,
    data: String,
}

impl Inlined {
    /// Returns the event.
    ///
    /// # Errors
    /// If the event is malformed. [`decode`](super::decode) has excluded that.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }
}
