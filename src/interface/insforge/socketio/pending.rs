//! Events with binary attachments.

use super::event::{Event, event};
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

    /// Adds the next attachment. Returns true if it was the last.
    ///
    /// # Errors
    /// If text and attachments together exceed [`MESSAGE_BYTES_MAX`].
    pub fn attach(&mut self, attachment: &[u8]) -> Result<bool, Violation> {
        self.bytes += attachment.len();
        if self.bytes > MESSAGE_BYTES_MAX {
            return Err(Violation("attachments are too large"));
        }
        self.attachments.push(attachment.to_vec());
        self.missing -= 1;
        Ok(self.missing == 0)
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
    /// Node.js buffer: `{"type":"Buffer","data":[1,2]}`.
    ///
    /// # Errors
    /// If a placeholder names no attachment.
    pub fn inlined(&self) -> Result<Inlined, Violation> {
        let mut data: serde_json::Value =
            serde_json::from_str(&self.data).map_err(|_| Violation("event is not JSON"))?;
        inline(&mut data, &self.attachments)?;
        let data = data.to_string();
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

/// Replaces the placeholders in `value` by the attachments that they name.
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
