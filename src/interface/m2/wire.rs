//! The messages of M2 Realtime: JSON text messages, one object each, over a plain
//! WebSocket. [`handshake`](super::handshake) reads what a client says of itself before that.
//!
//! A client sends `{"action","resource":{"type","id"}}`, with `subscribe` or `unsubscribe` for the
//! action and `kvStore`, `collection` or `liveConfig` for the type; members beyond these are passed
//! over. A subscribe is answered with the current document of the resource, or with the warning
//! that there is none; an unsubscribe with nothing. Every update is a document, and so is a
//! deletion, with `null` for its data. A message that makes no sense is answered with an error, and
//! the connection lives on.

use super::limits::RESOURCE_BYTES_MAX;
use super::nouns::{ResourceKind, resource_of};
use crate::codec::json::{Document, Value, push_json};
use crate::message::{Document as State, iso_millis};

#[cfg(test)]
mod tests;

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// To hear of a resource, and its state now.
    Subscribe(ResourceKind, &'a str),
    /// To hear of it no longer.
    Unsubscribe(ResourceKind, &'a str),
}

/// Why a message is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It makes no sense.
    Message,
    /// The resource's id is longer than it may be.
    IdTooLong,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
    /// The node has no room at the moment.
    Overloaded,
    /// The state of the resource could not be read.
    Unavailable,
}

/// Reads a message.
///
/// # Errors
/// [`Fault::Message`] or [`Fault::IdTooLong`].
pub fn read<'a>(document: &Document<'a>) -> Result<Request<'a>, Fault> {
    let [action, resource] = document.object().members(&["action", "resource"]);
    let request = match action.and_then(Value::as_text).map(|action| action.value) {
        Some("subscribe") => Request::Subscribe,
        Some("unsubscribe") => Request::Unsubscribe,
        _ => return Err(Fault::Message),
    };
    let Some(Value::Object(resource)) = resource else { return Err(Fault::Message) };
    let [kind, id] = resource.members(&["type", "id"]).map(|member| member?.as_text());
    let kind = kind.and_then(|kind| ResourceKind::named(kind.value)).ok_or(Fault::Message)?;
    let id = id.filter(|id| !id.value.is_empty()).ok_or(Fault::Message)?;
    if id.value.len() > RESOURCE_BYTES_MAX {
        return Err(Fault::IdTooLong);
    }
    Ok(request(kind, id.value))
}

/// A document, for everybody who is told of it.
pub fn document(document: &State) -> String {
    let State { key, user_id, data, version } = document;
    let (kind, id) = resource_of(&key.resource).expect("a document is that of a resource");
    let data = data.as_deref().unwrap_or("null");
    let mut out = String::with_capacity(data.len() + id.len() + DOCUMENT_BYTES);
    out.push_str(r#"{"userId":"#);
    match user_id {
        Some(user) => push_json(&mut out, user),
        None => out.push_str("null"),
    }
    out.push_str(r#","resource":{"type":""#);
    out.push_str(kind.name());
    out.push_str(r#"","id":"#);
    push_json(&mut out, id);
    out.push_str(r#"},"data":"#);
    out.push_str(data);
    out.push_str(r#","version":""#);
    out.push_str(&iso_millis(*version));
    out.push_str(r#""}"#);
    out
}

/// Bytes of a document besides its data and its id, with a user of usual length.
const DOCUMENT_BYTES: usize = 160;

/// The warning that a resource has no document. It names none, as in the original.
pub fn not_found(kind: ResourceKind) -> String {
    let title = title(kind);
    format!(
        "{{\"warning\":\"resource_not_found\",\"message\":\"{title} resource doesn't currently \
         exist, subscription was still made successfully\"}}"
    )
}

/// What people call a kind of resource.
pub fn title(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::KvStore => "KVStore",
        ResourceKind::Collection => "Collection",
        ResourceKind::LiveConfig => "LiveConfig",
    }
}

/// A message was not carried out.
pub fn error(fault: Fault) -> String {
    let error = match fault {
        Fault::Message => "Invalid message format",
        Fault::IdTooLong => "Resource id too long",
        Fault::TooManySubscriptions => "Too many subscriptions",
        Fault::Overloaded => "Overloaded",
        Fault::Unavailable => "Resource unavailable",
    };
    format!(r#"{{"error":"{error}"}}"#)
}
