//! Writes answers to commands, and gap notices.

use std::fmt::Write as _;

use super::presence::push_presence;
use crate::codec::json::push_json;
use crate::interface::insforge::socketio;
use crate::interface::rest::{UNAVAILABLE, UNKNOWN};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::{AckId, Channel, Refusal, Reply};

const TOO_LARGE: &str = "The message is longer than 1000000 bytes; the connection is closed";
const _: () = assert!(MESSAGE_BYTES_MAX == 1_000_000, "the message above names the bound");

/// Returns the packet that answers a command: an acknowledgement if the client requested one,
/// otherwise a `realtime:error` event for a refusal. Returns `None` for a success without a
/// requested acknowledgement.
pub fn reply(reply: &Reply, ack: Option<AckId>) -> Option<String> {
    let mut out = String::with_capacity(128);
    match (reply, ack) {
        (Reply::Refused { channel, refusal }, Some(ack)) => {
            out.push_str(r#"{"ok":false"#);
            push_channel(&mut out, channel.as_ref());
            out.push_str(r#","error":{"#);
            push_refusal(&mut out, *refusal);
            out.push_str("}}");
            Some(socketio::ack_text("/", ack, &out))
        }
        (Reply::Refused { channel, refusal }, None) => {
            out.push('{');
            push_refusal(&mut out, *refusal);
            push_channel(&mut out, channel.as_ref());
            out.push('}');
            Some(socketio::event_text("/", "realtime:error", &out))
        }
        (_, None) => None,
        (Reply::Subscribed { channel, presence, present, .. }, Some(ack)) => {
            // In one piece, because the members may be long.
            let _ = write!(out, r#"43{ack}[{{"ok":true"#);
            push_channel(&mut out, Some(channel));
            out.push(',');
            push_presence(&mut out, presence, *present);
            out.push_str("}]");
            Some(out)
        }
        (Reply::Authenticated, Some(ack)) => Some(socketio::ack_text("/", ack, r#"{"ok":true}"#)),
        (Reply::Unsubscribed, Some(ack)) => Some(socketio::ack_text("/", ack, r#"{"ok":true}"#)),
        (Reply::Published(id), Some(ack)) => {
            let _ = write!(out, r#"{{"ok":true,"messageId":"{id}"}}"#);
            Some(socketio::ack_text("/", ack, &out))
        }
    }
}

fn push_channel(out: &mut String, channel: Option<&Channel>) {
    if let Some(channel) = channel {
        out.push_str(r#","channel":"#);
        push_json(out, channel.as_str());
    }
}

fn push_refusal(out: &mut String, refusal: Refusal) {
    let made;
    let (code, message) = match refusal {
        Refusal::Invalid(message) => ("INVALID_INPUT", message),
        Refusal::SubscribeUnauthorized => {
            ("REALTIME_UNAUTHORIZED", "Not authorized to subscribe to this channel")
        }
        Refusal::SubscribeUndefined => (
            "REALTIME_UNAUTHORIZED",
            "Not authorized to subscribe to this channel: no enabled channel definition matches it",
        ),
        Refusal::PublishUnauthorized => {
            ("REALTIME_UNAUTHORIZED", "Not authorized to publish to this channel")
        }
        Refusal::PublishUndefined => (
            "REALTIME_UNAUTHORIZED",
            "Not authorized to publish to this channel: no enabled channel definition matches it",
        ),
        Refusal::NotSubscribed => {
            ("REALTIME_NOT_SUBSCRIBED", "Must subscribe to channel before publishing messages")
        }
        Refusal::Unauthenticated(why) => {
            made = format!("Invalid credential: {why}; the previous one stays in force");
            ("REALTIME_UNAUTHORIZED", made.as_str())
        }
        Refusal::OtherIdentity => (
            "REALTIME_UNAUTHORIZED",
            "The credential belongs to another client; connect again with it",
        ),
        Refusal::Expired => ("TOKEN_EXPIRED", "The token has expired; connect again with another"),
        Refusal::Overloaded | Refusal::HistoryFull => {
            ("OVERLOADED", "The node is overloaded, try again in a second")
        }
        Refusal::TooManySubscriptions => {
            ("TOO_MANY_SUBSCRIPTIONS", "This connection has reached its limit of subscriptions")
        }
        Refusal::TooLarge => ("PAYLOAD_TOO_LARGE", TOO_LARGE),
        Refusal::LongChannel(bytes_max) => {
            made = format!("channel: longer than {bytes_max} bytes");
            ("INVALID_INPUT", made.as_str())
        }
        Refusal::LongPayload(bytes_max) => {
            made = format!("payload: longer than {bytes_max} bytes");
            ("PAYLOAD_TOO_LARGE", made.as_str())
        }
        Refusal::ConnectionRate => {
            ("RATE_LIMITED", "The publish rate of this connection is exceeded")
        }
        Refusal::RateLimited => ("RATE_LIMITED", "The publish rate of this channel is exceeded"),
        Refusal::Unavailable => ("BACKPLANE_UNAVAILABLE", UNAVAILABLE),
        Refusal::Unknown(_) => ("BACKPLANE_UNKNOWN", UNKNOWN),
    };
    let _ = write!(out, r#""code":"{code}","message":"{message}""#);
    if let Refusal::Unknown(id) = refusal {
        let _ = write!(out, r#","messageId":"{id}""#);
    }
}

/// Returns the gap notice: the event that tells a subscriber that it lost `count` publications of a
/// channel, or, if the number is not known, that it may have lost some because its node did.
pub fn gap(channel: &Channel, count: Option<u64>) -> String {
    let mut out = String::with_capacity(200);
    let message = match count {
        Some(_) => "This connection did not keep up and lost publications of the channel",
        None => "The node may have lost publications of the channel",
    };
    let _ = write!(out, r#"{{"code":"REALTIME_GAP","message":"{message}""#);
    push_channel(&mut out, Some(channel));
    let _ = match count {
        Some(count) => write!(out, r#","count":{count}}}"#),
        None => write!(out, r#","count":null}}"#),
    };
    socketio::event_text("/", "realtime:error", &out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::interface::insforge::tests::member;
    use crate::message::Snapshot;

    #[test]
    fn a_gap_names_channel_and_count() {
        let text = gap(&Channel::from("a\"b"), Some(12));
        let packet: serde_json::Value = serde_json::from_str(&text[2..]).expect("valid JSON");
        assert_eq!(packet[0], "realtime:error");
        let told = ["code", "channel", "count"].map(|key| packet[1][key].clone());
        assert_eq!(serde_json::json!(told), serde_json::json!(["REALTIME_GAP", "a\"b", 12]));
        assert!(packet[1]["message"].is_string());
    }

    #[test]
    fn replies() {
        let refused =
            Reply::Refused { channel: Some(Channel::from("c")), refusal: Refusal::NotSubscribed };
        assert!(reply(&refused, None).expect("an event").starts_with(r#"42["realtime:error",{"#));
        assert!(
            reply(&refused, Some(3))
                .expect("an ack")
                .starts_with(r#"433[{"ok":false,"channel":"c","error":{"code":"REALTIME_NOT"#)
        );
        assert_eq!(reply(&Reply::Unsubscribed, None), None);
        let presence = Arc::new(Snapshot::new(vec![member("u")]));
        let whole = Reply::Subscribed {
            channel: "c".into(),
            presence: presence.clone(),
            present: 1,
            last: None,
        };
        assert_eq!(
            reply(&whole, Some(0)).expect("an ack"),
            r#"430[{"ok":true,"channel":"c","presence":{"members":[{"type":"user","presenceId":"u","joinedAt":"1970-01-01T00:00:00.000Z"}]}}]"#
        );
        let cut = Reply::Subscribed { channel: "c".into(), presence, present: 9, last: None };
        assert!(reply(&cut, Some(0)).expect("an ack").contains(r#"],"count":9,"truncated":true}"#));
    }
}
