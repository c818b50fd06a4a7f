//! Events that wait for their attachments.

use super::event::{Event, event};
use crate::interface::insforge::violation::Violation;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::AckId;

/// An event that waits for its attachments.
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
    /// Creates it without its attachments, of which there are `missing`.
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

    /// Takes the next attachment. True when it was the last.
    ///
    /// # Errors
    /// When text and attachments together exceed [`MESSAGE_BYTES_MAX`].
    pub fn attach(&mut self, attachment: &[u8]) -> Result<bool, Violation> {
        self.bytes += attachment.len();
        if self.bytes > MESSAGE_BYTES_MAX {
            return Err(Violation("attachments are too large"));
        }
        self.attachments.push(attachment.to_vec());
        self.missing -= 1;
        Ok(self.missing == 0)
    }

    /// The event, its arguments with placeholders where the attachments belong.
    ///
    /// # Errors
    /// None that [`decode`] or [`Pending::inlined`] does not find.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }

    /// What came.
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }

    /// The event's array with each attachment as JSON shows a Node buffer:
    /// `{"type":"Buffer","data":[1,2]}`.
    ///
    /// # Errors
    /// A placeholder that names no attachment.
    pub fn inlined(&self) -> Result<Inlined, Violation> {
        let mut data: serde_json::Value =
            serde_json::from_str(&self.data).map_err(|_| Violation("event is not JSON"))?;
        inline(&mut data, &self.attachments)?;
        let data = data.to_string();
        Ok(Inlined { namespace: self.namespace.clone(), ack: self.ack, data })
    }
}

/// A binary event as plain JSON.
#[derive(Debug)]
pub struct Inlined {
    namespace: Box<str>,
    ack: Option<AckId>,
    data: String,
}

impl Inlined {
    /// The event.
    ///
    /// # Errors
    /// None that was not found before.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }
}

fn inline(value: &mut serde_json::Value, attachments: &[Vec<u8>]) -> Result<(), Violation> {
    use serde_json::Value;
    match value {
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = object.get("num").and_then(Value::as_u64);
            let attachment = number
                .and_then(|number| attachments.get(usize::try_from(number).ok()?))
                .ok_or(Violation("placeholder without attachment"))?;
            *value = serde_json::json!({ "type": "Buffer", "data": attachment });
            Ok(())
        }
        Value::Object(object) => object.values_mut().try_for_each(|v| inline(v, attachments)),
        Value::Array(array) => array.iter_mut().try_for_each(|v| inline(v, attachments)),
        _ => Ok(()),
    }
}
