//! Writes the messages that clients receive. An `id` is that of the answered request.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Fault;
use crate::codec::json::push_json;
use crate::interface::forge::nouns::TokenError;
use crate::interface::rest::{UNAVAILABLE, UNKNOWN};
use crate::message::{AckId, Channel, MessageId, Millis, Publication, Reply};

/// Returns the answer to a subscribe or an unsubscribe that the broker has carried out or refused.
/// `None` for an unsubscribe without an id, and for replies of other interfaces.
pub fn reply(reply: &Reply, id: Option<AckId>) -> Option<String> {
    match reply {
        Reply::Subscribed { channel, last, .. } => {
            let mut out = begin("subscribed", id);
            out.push_str(r#","topic":"#);
            push_json(&mut out, channel.as_str());
            let _ = match last {
                Some(last) => write!(out, r#","last":"{last}"}}"#),
                None => write!(out, r#","last":null}}"#),
            };
            Some(out)
        }
        Reply::Unsubscribed => id.map(|id| begin("unsubscribed", Some(id)) + "}"),
        Reply::Refused { refusal, .. } => Some(error(id, &Fault::from(*refusal))),
        Reply::Authenticated | Reply::Published(_) => None,
    }
}

/// Returns the answer to a `connect`. `expires_at` is when the proof expires, in seconds since the
/// epoch. `node` names this start of the node, which keeps events for `replay_seconds`.
pub fn connected(
    id: Option<AckId>,
    key: [u8; 9],
    expires_at: u64,
    (node, replay_seconds): (u64, u32),
) -> String {
    let name = URL_SAFE_NO_PAD.encode(key);
    let mut out = begin("connected", id);
    let _ = write!(out, r#","connectionId":"{name}","expiresAt":{expires_at}"#);
    let _ = write!(out, r#","replaySeconds":{replay_seconds},"node":"{node:016x}"}}"#);
    out
}

/// Returns the answer to a `publish`, with the event's id and timestamp in milliseconds since the
/// epoch; `None` if the topic has no subscribers.
pub fn published(id: Option<AckId>, event: Option<(MessageId, Millis)>) -> String {
    let mut out = begin("published", id);
    let _ = match event {
        Some((event, at)) => write!(out, r#","eventId":"{event}","eventTimestamp":"{at}"}}"#),
        None => write!(out, r#","eventId":null,"eventTimestamp":null}}"#),
    };
    out
}

/// Returns the answer to a refused request.
pub fn error(id: Option<AckId>, fault: &Fault) -> String {
    let mut out = begin("error", id);
    let made;
    let (message, code) = match fault {
        Fault::Message => ("Invalid message format", "INVALID_MESSAGE"),
        Fault::Input(problem) => (*problem, "INVALID_INPUT"),
        Fault::Channel(problem) => {
            made = format!("channel: {problem}");
            (made.as_str(), "INVALID_INPUT")
        }
        Fault::LongChannel(bytes_max) => {
            made = format!("channel: String must contain at most {bytes_max} byte(s)");
            (made.as_str(), "INVALID_INPUT")
        }
        Fault::Unauthorized(_) => ("Unauthorized request", "UNAUTHORIZED"),
        Fault::OtherContext => ("Unauthorized request", "CONTEXT_MISMATCH"),
        Fault::Token(error) => {
            made = error.to_string();
            (made.as_str(), error.code())
        }
        Fault::PublishFailed(_) => ("Error publishing event to channel", "PUBLISH_FAILED"),
        Fault::PayloadTooLarge => ("The payload is too long", "PAYLOAD_TOO_LARGE"),
        Fault::MessageTooLarge => ("The message is too long", "PAYLOAD_TOO_LARGE"),
        Fault::ConnectionRate => ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
        Fault::RateLimited => ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
        Fault::Overloaded => ("The node is overloaded; try again in a second", "OVERLOADED"),
        Fault::Unavailable => (UNAVAILABLE, "UNAVAILABLE"),
        Fault::Unknown(_) => (UNKNOWN, "UNKNOWN"),
        Fault::TooManySubscriptions => {
            ("This connection has as many subscriptions as it may", "TOO_MANY_SUBSCRIPTIONS")
        }
    };
    let detail_made;
    let detail = match fault {
        Fault::Unauthorized(detail) | Fault::PublishFailed(detail) => Some(detail.as_str()),
        Fault::OtherContext => Some("The token is for another place; open a new connection for it"),
        Fault::ConnectionRate => Some("This connection publishes too often"),
        Fault::Unknown(id) => {
            detail_made = format!("Publish it again with the eventId {id}");
            Some(detail_made.as_str())
        }
        _ => None,
    };
    push_error(&mut out, message, code, detail);
    out
}

/// Returns an event with a payload in JSON. `replay` is the id of the subscribe whose replay the
/// event is part of; `None` for a live event, which is the same for all subscribers of the topic.
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

/// Bytes of an event besides its payload, at most, so that writing one allocates once.
pub(super) const EVENT_BYTES: usize = 200;

/// Returns the notice that a subscription lost events; `count` is `None` if the number is unknown.
pub fn gap(topic: &Channel, count: Option<u64>) -> String {
    match count {
        Some(count) => subscription_error(topic, &format!("{count} events were lost"), "GAP"),
        None => subscription_error(topic, "Events may have been lost", "GAP"),
    }
}

/// Returns the notice that a subscription has ended because its token has expired.
pub fn token_expired(topic: &Channel) -> String {
    let error = TokenError::Expired;
    subscription_error(topic, &error.to_string(), error.code())
}

fn subscription_error(topic: &Channel, message: &str, code: &str) -> String {
    let mut out = begin("subscription_error", None);
    out.push_str(r#","topic":"#);
    push_json(&mut out, topic.as_str());
    push_error(&mut out, message, code, None);
    out
}

fn begin(kind: &str, id: Option<AckId>) -> String {
    let mut out = format!(r#"{{"type":"{kind}""#);
    if let Some(id) = id {
        let _ = write!(out, r#","id":{id}"#);
    }
    out
}

fn push_error(out: &mut String, message: &str, code: &str, detail: Option<&str>) {
    out.push_str(r#","error":{"message":"#);
    push_json(out, message);
    let _ = write!(out, r#","code":"{code}""#);
    if let Some(detail) = detail {
        out.push_str(r#","detail":"#);
        push_json(out, detail);
    }
    out.push_str("}}");
}
