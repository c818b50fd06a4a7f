//! The messages of M2 Realtime: JSON text messages, one object each, over a plain WebSocket.
//! [`handshake`](super::handshake) reads the headers and the subprotocol of the handshake before
//! that.
//!
//! A client sends `{"action","resource":{"type","id"}}`. The action is `subscribe` or
//! `unsubscribe`; the type is `kvStore`, `collection` or `liveConfig`; other members are ignored. A
//! subscribe is answered with the current documents of the resource, or with a warning if there are
//! none. An unsubscribe is not answered. Each update is sent as a document; a deletion is a
//! document whose data is `null`. A refused message is answered with an error and does not end the
//! connection.

use super::limits::RESOURCE_BYTES_MAX;
use super::nouns::{ResourceKind, resource_of};
use crate::codec::json::{Document, Value, push_json};
use crate::message::{Document as State, iso_millis};

#[cfg(test)]
mod tests;

/// A parsed message: an action with the kind and the id of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Subscribes to a resource and asks for its current documents.
    Subscribe(ResourceKind, &'a str),
    /// Unsubscribes from a resource.
    Unsubscribe(ResourceKind, &'a str),
}

/// Why the node refuses a message. The client receives the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The message is malformed, or its action or type is unknown.
    #[error("Invalid message format")]
    Message,
    /// The message is longer than any may be; the connection is closed.
    #[error("Message too long")]
    TooLong,
    /// The id of the resource is longer than [`RESOURCE_BYTES_MAX`], or than the configuration
    /// allows.
    #[error("Resource id too long")]
    IdTooLong,
    /// The connection has as many subscriptions as it may have.
    #[error("Too many subscriptions")]
    TooManySubscriptions,
    /// A queue of the node is full.
    #[error("Overloaded")]
    Overloaded,
    /// The documents of the resource could not be read from the store.
    #[error("Resource unavailable")]
    Unavailable,
}

/// Parses a message.
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

/// Returns the message with a document, which is the same for all its subscribers.
pub fn document(document: &State) -> String {
    let State { key, user_id, data, version } = document;
    let (kind, id) =
        resource_of(&key.resource).expect("the channel of a document is that of a resource");
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

/// Bytes of a document besides data and id, if the user has a usual length. More cost a
/// reallocation.
const DOCUMENT_BYTES: usize = 160;

/// Returns the warning that a resource has no document. As in the original, it does not say which.
pub fn not_found(kind: ResourceKind) -> String {
    let title = title(kind);
    format!(
        "{{\"warning\":\"resource_not_found\",\"message\":\"{title} resource doesn't currently \
         exist, subscription was still made successfully\"}}"
    )
}

/// Returns the name of a kind of resource for people.
pub fn title(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::KvStore => "KVStore",
        ResourceKind::Collection => "Collection",
        ResourceKind::LiveConfig => "LiveConfig",
    }
}

/// Returns the answer to a refused message.
pub fn error(fault: Fault) -> String {
    format!(r#"{{"error":"{fault}"}}"#)
}
