//! Writes publications, in both message shapes.

use std::fmt::Write as _;

use super::presence::presence_event;
use super::push_meta_end;
use super::spread::push_spread;
use crate::codec::json::push_json;
use crate::interface::insforge::recovery::push_mark;
use crate::interface::insforge::socketio;
use crate::message::{Content, Encoding, Mark, Publication, Sender};

/// Returns the packet for a publication: a message in the documented shape or the SDK's, or a
/// presence event, which is the same in both encodings. A client that may resume later is told to
/// remember `mark`.
pub fn publication(publication: &Publication, encoding: Encoding, mark: &Mark) -> String {
    let (event, mut body) = match (&publication.content, encoding) {
        (Content::Message { event, payload, sender }, Encoding::Sdk) => {
            (&**event, spread(publication, payload, sender))
        }
        _ => documented(publication),
    };
    if publication.is_recoverable && matches!(publication.content, Content::Message { .. }) {
        // The stock client remembers this last argument as its offset and sends it when it connects
        // again (connection state recovery).
        body.push_str(r#",""#);
        push_mark(&mut body, mark);
        body.push('"');
    }
    socketio::event_text("/", event, &body)
}

/// Returns the event's name and the JSON of a publication as the public documentation shows it.
pub fn documented(publication: &Publication) -> (&str, String) {
    match &publication.content {
        Content::Message { event, payload, sender } => {
            (event, message(publication, payload, sender))
        }
        Content::Joined(member, _) => ("presence:join", presence_event(publication, member)),
        Content::Left(member, _) => ("presence:leave", presence_event(publication, member)),
        Content::Event { .. } | Content::Document { .. } => {
            unreachable!("no channel of InsForge has events of Forge or documents")
        }
    }
}

/// Returns a message in the documented shape:
/// `{channel,messageId,senderType,senderId,payload}`.
fn message(publication: &Publication, payload: &str, sender: &Sender) -> String {
    let mut out = String::with_capacity(payload.len() + 200);
    out.push_str(r#"{"channel":"#);
    push_json(&mut out, publication.channel.as_str());
    let (kind, id) = sender.parts();
    let _ = write!(out, r#","messageId":"{}","senderType":"{kind}","senderId":"#, publication.id);
    match id {
        Some(id) => push_json(&mut out, id),
        None => out.push_str("null"),
    }
    let _ = write!(out, r#","payload":{payload}}}"#);
    out
}

/// Returns a message as the SDK reads it: the payload's own keys, then `meta`.
fn spread(publication: &Publication, payload: &str, sender: &Sender) -> String {
    let mut out = String::with_capacity(payload.len() + 250);
    out.push('{');
    push_spread(&mut out, payload);
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(r#""meta":{"channel":"#);
    push_json(&mut out, &format!("realtime:{}", publication.channel.as_str()));
    let (kind, id) = sender.parts();
    let _ = write!(out, r#","senderType":"{kind}""#);
    if let Some(id) = id {
        out.push_str(r#","senderId":"#);
        push_json(&mut out, id);
    }
    push_meta_end(&mut out, publication.id, publication.at);
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Channel, MessageId};

    fn made(payload: &str, sender: Sender) -> Publication {
        let content = Content::Message { event: "e".into(), payload: payload.into(), sender };
        Publication::new(MessageId::nil(), Channel::from("order:1"), 1_777_136_400_123, content)
    }

    fn told(one: &Publication, encoding: Encoding) -> String {
        publication(one, encoding, &one.mark())
    }

    fn sdk(payload: &str) -> serde_json::Value {
        let text = told(&made(payload, Sender::System), Encoding::Sdk);
        let packet: serde_json::Value = serde_json::from_str(&text[2..]).expect("valid JSON");
        packet[1].clone()
    }

    #[test]
    fn the_documented_shape() {
        let text = told(&made(r#"{"a":1}"#, Sender::User(Some("u1".into()))), Encoding::Documented);
        assert_eq!(
            text,
            r#"42["e",{"channel":"order:1","messageId":"00000000-0000-0000-0000-000000000000","senderType":"user","senderId":"u1","payload":{"a":1}}]"#
        );
    }

    #[test]
    fn the_sdk_shape_with_its_order_of_keys() {
        let text = told(&made(r#"{"id":"123"}"#, Sender::System), Encoding::Sdk);
        assert_eq!(
            text,
            r#"42["e",{"id":"123","meta":{"channel":"realtime:order:1","senderType":"system","messageId":"00000000-0000-0000-0000-000000000000","timestamp":"2026-04-25T17:00:00.123Z"}}]"#
        );
    }

    #[test]
    fn keys_that_only_javascript_can_hold_are_kept() {
        let text = told(&made(r#"{"a":1,"\ud800":2}"#, Sender::System), Encoding::Sdk);
        assert!(text.starts_with(r#"42["e",{"a":1,"\ud800":2,"meta":{"#), "{text}");
    }

    #[test]
    fn spreads_as_javascript_does() {
        assert_eq!(sdk("[1,[2]]")["1"], serde_json::json!([2]));
        assert_eq!(sdk(r#""ab""#)["1"], "b");
        assert_eq!(sdk("{ }").as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(sdk(r#"{"meta":{"forged":1},"x":2}"#)["x"], 2);
        assert_eq!(sdk(r#"{"\u006deta":1,"x":2}"#)["meta"]["channel"], "realtime:order:1");
        for scalar in ["5", "null", "true"] {
            assert_eq!(sdk(scalar).as_object().map(serde_json::Map::len), Some(1));
        }
        let astral = told(&made(r#""😀""#, Sender::System), Encoding::Sdk);
        assert!(astral.contains(r#""0":"\ud83d","1":"\ude00""#), "{astral}");
    }

    proptest! {
        #[test]
        fn whatever_is_published_stays_json(key: String, text: String, n: f64, channel: String) {
            let payload = serde_json::json!({ key: text, "n": n }).to_string();
            let content = Content::Message {
                event: "e\"x".into(),
                payload: payload.as_str().into(),
                sender: Sender::User(Some(channel.as_str().into())),
            };
            let p = Publication::new(MessageId::nil(), Channel::from(&*channel), 0, content);
            for encoding in [Encoding::Documented, Encoding::Sdk] {
                let out = told(&p, encoding);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&out[2..]).is_ok(), "{out}");
            }
        }
    }
}
