//! Forge Realtime for subscribers (contract section 3.1): JSON text messages, one object each.

use std::fmt::Write as _;

use super::socketio::push_json;
use crate::message::{AckId, Channel, Publication};

/// An event, for everybody who hears its topic; or for one subscription that asked for what was
/// before it, named by the id of its request.
pub fn event(publication: &Publication, payload: &str, replay: Option<AckId>) -> String {
    let mut out = String::with_capacity(payload.len() + EVENT_BYTES);
    out.push_str(r#"{"type":"event","topic":"#);
    push_json(&mut out, publication.channel.as_str());
    if let Some(id) = replay {
        let _ = write!(out, r#","replay":{id}"#);
    }
    let (id, at) = (publication.id, publication.at);
    let _ = write!(out, r#","eventId":"{id}","eventTimestamp":"{at}","payload":{payload}}}"#);
    out
}

/// Bytes of an event besides its payload.
const EVENT_BYTES: usize = 160;

/// The news that a subscription lost events: so many, where that is known.
pub fn gap(topic: &Channel, count: Option<u64>) -> String {
    let message = match count {
        Some(count) => format!("{count} events were lost"),
        None => "Events may have been lost".to_owned(),
    };
    subscription_error(topic, &message, "GAP")
}

fn subscription_error(topic: &Channel, message: &str, code: &str) -> String {
    let mut out = String::from(r#"{"type":"subscription_error","topic":"#);
    push_json(&mut out, topic.as_str());
    out.push_str(r#","error":{"message":"#);
    push_json(&mut out, message);
    let _ = write!(out, r#","code":"{code}"}}}}"#);
    out
}
