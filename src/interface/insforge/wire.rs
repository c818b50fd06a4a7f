//! InsForge Realtime over Socket.IO: events to commands; replies,
//! publications and presence to packets. Both event-name dialects and both message shapes.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::socketio::{self, Event};
use crate::codec::json::push_json;
use crate::interface::insforge::command::Command;
use crate::limits::CHANNEL_BYTES_MAX;
use crate::message::{
    AckId, Channel, Content, Encoding, Member, MessageId, Millis, Publication, Refusal, Reply,
    Sender, Snapshot, event_name_problem, iso_millis, payload_problem,
};

/// What an event from a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A command.
    Command(Command),
    /// A newer credential, as JSON.
    Authenticate(Box<str>),
    /// A command by name, but not by its argument.
    Invalid(Option<Channel>, Refusal),
    /// Not an event of this API.
    Unknown,
}

/// The argument of all commands; keys that a command does not use are ignored.
#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    payload: Option<&'a RawValue>,
}

/// A key that is there, be its value `null`: null is a payload like any other.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// Reads an event. `REALTIME_…` and `realtime:…` mean the same, and for a subscription they choose
/// the shape of what is delivered.
pub fn request(event: &Event<'_>) -> Request {
    let parse: fn(&Argument<'_>, Channel) -> Result<Command, Refusal> = match &*event.name {
        "realtime:subscribe" => {
            |_, channel| Ok(Command::Subscribe { channel, encoding: Encoding::Sdk })
        }
        "REALTIME_SUBSCRIBE" => {
            |_, channel| Ok(Command::Subscribe { channel, encoding: Encoding::Documented })
        }
        "realtime:unsubscribe" | "REALTIME_UNSUBSCRIBE" => {
            |_, channel| Ok(Command::Unsubscribe { channel })
        }
        "realtime:publish" | "REALTIME_PUBLISH" => publish,
        "realtime:auth" | "REALTIME_AUTH" => return authenticate(event.first),
        _ => return Request::Unknown,
    };
    let Some(argument) = event.first.filter(|first| first.starts_with('{')) else {
        return Request::Invalid(None, Refusal::Invalid("Expected an object with a channel"));
    };
    let Ok(argument) = serde_json::from_str::<Argument<'_>>(argument) else {
        return Request::Invalid(None, Refusal::Invalid("Expected every key once"));
    };
    let channel = match channel(argument.channel) {
        Ok(channel) => channel,
        Err(refusal) => return Request::Invalid(None, refusal),
    };
    match parse(&argument, channel.clone()) {
        Ok(command) => Request::Command(command),
        Err(refusal) => Request::Invalid(Some(channel), refusal),
    }
}

fn authenticate(argument: Option<&str>) -> Request {
    match argument {
        Some(argument) if argument.starts_with('{') => Request::Authenticate(argument.into()),
        _ => Request::Invalid(None, Refusal::Invalid("Expected an object with a token")),
    }
}

fn channel(raw: Option<&RawValue>) -> Result<Channel, Refusal> {
    let raw = raw.ok_or(Refusal::Invalid("channel: Required"))?;
    let name: Cow<'_, str> = text(raw).ok_or(Refusal::Invalid("channel: Expected string"))?;
    if name.is_empty() {
        return Err(Refusal::Invalid("channel: String must contain at least 1 character(s)"));
    }
    if name.len() > CHANNEL_BYTES_MAX {
        return Err(Refusal::Invalid("channel: longer than 512 bytes"));
    }
    Ok(Channel::from(&*name))
}

fn publish(argument: &Argument<'_>, channel: Channel) -> Result<Command, Refusal> {
    let raw = argument.event.ok_or(Refusal::Invalid("event: Required"))?;
    let event = text(raw).ok_or(Refusal::Invalid("event: Expected string"))?;
    if event.is_empty() {
        return Err(Refusal::Invalid("event: String must contain at least 1 character(s)"));
    }
    if let Some(problem) = event_name_problem(&event) {
        return Err(Refusal::Invalid(problem));
    }
    let payload = argument.payload.ok_or(Refusal::Invalid("payload: Required"))?;
    if let Some(problem) = payload_problem(payload.get()) {
        return Err(Refusal::Invalid(problem));
    }
    Ok(Command::Publish { channel, event: event.into(), payload: payload.get().into() })
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// The answer to a command, if there is anything to say: an acknowledgement where the client waits
/// for one, else `realtime:error` for a refusal, else nothing.
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
            out.push_str(r#"{"ok":true"#);
            push_channel(&mut out, Some(channel));
            out.push(',');
            push_presence(&mut out, presence, *present);
            out.push('}');
            Some(socketio::ack_text("/", ack, &out))
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
    let (code, message) = match refusal {
        Refusal::Invalid(message) => ("INVALID_INPUT", message),
        Refusal::SubscribeUnauthorized => {
            ("REALTIME_UNAUTHORIZED", "Not authorized to subscribe to this channel")
        }
        Refusal::PublishUnauthorized => {
            ("REALTIME_UNAUTHORIZED", "Not authorized to publish to this channel")
        }
        Refusal::NotSubscribed => {
            ("REALTIME_NOT_SUBSCRIBED", "Must subscribe to channel before publishing messages")
        }
        Refusal::Unauthenticated => {
            ("REALTIME_UNAUTHORIZED", "Invalid credential; the one before stays in force")
        }
        Refusal::OtherIdentity => {
            ("REALTIME_UNAUTHORIZED", "The credential is somebody else's; connect again with it")
        }
        Refusal::Expired => ("TOKEN_EXPIRED", "The token has expired; connect again with another"),
        Refusal::Overloaded | Refusal::HistoryFull => {
            ("OVERLOADED", "The node is overloaded, try again in a second")
        }
        Refusal::TooManySubscriptions => (
            "TOO_MANY_SUBSCRIPTIONS",
            "This connection is subscribed to as many channels as it may",
        ),
        Refusal::RateLimited => {
            ("RATE_LIMITED", "Clients publish on this channel more often than they may")
        }
    };
    let _ = write!(out, r#""code":"{code}","message":"{message}""#);
}

/// The event that tells a subscriber that it lost so many publications of a channel.
pub fn gap(channel: &Channel, count: u64) -> String {
    let mut out = String::with_capacity(200);
    let message = "This connection did not keep up and lost publications of the channel";
    let _ = write!(out, r#"{{"code":"REALTIME_GAP","message":"{message}""#);
    push_channel(&mut out, Some(channel));
    let _ = write!(out, r#","count":{count}}}"#);
    socketio::event_text("/", "realtime:error", &out)
}

fn member(member: &Member) -> String {
    let kind = if member.is_user { "user" } else { "anonymous" };
    let mut out = format!(r#"{{"type":"{kind}","presenceId":"#);
    push_json(&mut out, &member.presence_id);
    let _ = write!(out, r#","joinedAt":"{}"}}"#, iso_millis(member.joined_at));
    out
}

/// The packet for a publication: the documented shape or the SDK's, or a presence event, which is
/// the same for both.
pub fn publication(publication: &Publication, encoding: Encoding) -> String {
    match &publication.content {
        Content::Message { event, payload, sender } => {
            let mut body = match encoding {
                Encoding::Documented => documented(publication, payload, sender),
                _ => spread(publication, payload, sender),
            };
            if publication.is_recoverable {
                // The client keeps it as its place in what it has received (section 7.7).
                let _ = write!(body, r#","{}""#, publication.id);
            }
            socketio::event_text("/", event, &body)
        }
        Content::Joined(member) => presence_event(publication, "presence:join", member),
        Content::Left(member) => presence_event(publication, "presence:leave", member),
        Content::Event { .. } | Content::Document { .. } => {
            unreachable!("no channel of InsForge has events of Forge or documents")
        }
    }
}

/// `{channel,messageId,senderType,senderId,payload}`: the public document's message.
fn documented(publication: &Publication, payload: &str, sender: &Sender) -> String {
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

/// The payload's own keys, then `meta`: what the SDK reads.
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

fn push_meta_end(out: &mut String, id: MessageId, at: Millis) {
    let at = iso_millis(at);
    let _ = write!(out, r#","messageId":"{id}","timestamp":"{at}"}}"#);
}

fn presence_event(publication: &Publication, name: &str, who: &Member) -> String {
    let mut out = format!(r#"{{"member":{},"meta":{{"channel":"#, member(who));
    push_json(&mut out, publication.channel.as_str());
    out.push_str(r#","senderType":"system""#);
    push_meta_end(&mut out, publication.id, publication.at);
    out.push('}');
    socketio::event_text("/", name, &out)
}

/// Who is there, for a client that comes back after a cut: in the place of the joins and leaves
/// that it missed.
pub fn presence_sync(
    channel: &Channel,
    presence: &Snapshot,
    present: usize,
    (id, at): (MessageId, Millis),
) -> String {
    let mut out = String::from("{");
    push_presence(&mut out, presence, present);
    out.push_str(r#","meta":{"channel":"#);
    push_json(&mut out, channel.as_str());
    out.push_str(r#","senderType":"system""#);
    push_meta_end(&mut out, id, at);
    out.push('}');
    socketio::event_text("/", "presence:sync", &out)
}

fn push_presence(out: &mut String, presence: &Snapshot, present: usize) {
    let members = presence.json(|members| {
        let members: Vec<String> = members.iter().map(|m| member(m)).collect();
        members.join(",")
    });
    let _ = write!(out, r#""presence":{{"members":[{members}]"#);
    if presence.members.len() < present {
        let _ = write!(out, r#","count":{present},"truncated":true"#);
    }
    out.push('}');
}

/// The payload's entries as `{...payload}` has them in JavaScript: an object's keys but `meta`, an
/// array's places, a string's UTF-16 units, nothing of anything else.
fn push_spread(out: &mut String, payload: &str) {
    match payload.as_bytes().first() {
        Some(b'{') => push_object(out, payload),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(payload).unwrap_or_default();
            for (place, item) in items.iter().enumerate() {
                let _ = write!(out, r#"{}"{place}":{item}"#, comma(place));
            }
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(payload).unwrap_or_default();
            for (place, unit) in text.encode_utf16().enumerate() {
                let _ = write!(out, r#"{}"{place}":"#, comma(place));
                match char::from_u32(u32::from(unit)) {
                    Some(c) => push_json(out, c.encode_utf8(&mut [0; 4])),
                    None => {
                        let _ = write!(out, r#""\u{unit:04x}""#);
                    }
                }
            }
        }
        _ => {}
    }
}

fn comma(place: usize) -> &'static str {
    if place == 0 { "" } else { "," }
}

fn push_object(out: &mut String, payload: &str) {
    let entries = match serde_json::from_str::<Entries<'_>>(payload) {
        Ok(Entries(entries)) if entries.iter().any(|(key, _)| key == "meta") => entries,
        // Between the braces it is already what is wanted: the common case copies once. So do keys
        // that only JavaScript can hold: there the last of two equal keys counts, which is ours.
        _ => return out.push_str(payload[1..payload.len() - 1].trim()),
    };
    let kept = entries.iter().filter(|(key, _)| key != "meta");
    for (place, (key, value)) in kept.enumerate() {
        out.push_str(comma(place));
        push_json(out, key);
        let _ = write!(out, ":{value}");
    }
}

/// An object's entries in their order, duplicates and all.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    entries.push((key.0, value));
                }
                Ok(Entries(entries))
            }
        }
        json.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::message::{MessageId, Snapshot};

    fn event<'a>(name: &'a str, first: Option<&'a str>) -> Event<'a> {
        let arguments = first.unwrap_or_default();
        Event { namespace: "/", ack: None, name: name.into(), first, arguments }
    }

    fn message(payload: &str, sender: Sender) -> Publication {
        let content = Content::Message { event: "e".into(), payload: payload.into(), sender };
        Publication::new(MessageId::nil(), Channel::from("order:1"), 1_777_136_400_123, content)
    }

    fn sdk(payload: &str) -> serde_json::Value {
        let text = publication(&message(payload, Sender::System), Encoding::Sdk);
        let packet: serde_json::Value = serde_json::from_str(&text[2..]).expect("valid JSON");
        packet[1].clone()
    }

    #[test]
    fn both_dialects_say_the_same_and_choose_the_shape() {
        let argument = Some(r#"{"channel":"a","extra":1}"#);
        let channel = Channel::from("a");
        for (name, encoding) in
            [("realtime:subscribe", Encoding::Sdk), ("REALTIME_SUBSCRIBE", Encoding::Documented)]
        {
            let command = Command::Subscribe { channel: channel.clone(), encoding };
            assert_eq!(request(&event(name, argument)), Request::Command(command));
        }
        for name in ["realtime:unsubscribe", "REALTIME_UNSUBSCRIBE"] {
            let command = Command::Unsubscribe { channel: channel.clone() };
            assert_eq!(request(&event(name, argument)), Request::Command(command));
        }
        for name in ["realtime:publish", "REALTIME_PUBLISH"] {
            let argument = r#"{"channel":"a","event":"x","payload":{"n": 1e400}}"#;
            let command = Command::Publish {
                channel: channel.clone(),
                event: "x".into(),
                payload: r#"{"n": 1e400}"#.into(),
            };
            assert_eq!(request(&event(name, Some(argument))), Request::Command(command));
        }
        assert_eq!(request(&event("chat", argument)), Request::Unknown);
    }

    #[test]
    fn null_is_a_payload() {
        let argument = r#"{"channel":"a","event":"x","payload":null}"#;
        let command =
            Command::Publish { channel: "a".into(), event: "x".into(), payload: "null".into() };
        assert_eq!(request(&event("realtime:publish", Some(argument))), Request::Command(command));
    }

    #[test]
    fn malformed_arguments_are_refused_not_fatal() {
        for argument in [
            None,
            Some("null"),
            Some("5"),
            Some("[]"),
            Some("{}"),
            Some(r#"{"channel":5}"#),
            Some(r#"{"channel":null}"#),
            Some(r#"{"channel":""}"#),
            Some(r#"{"channel":"a","channel":"b"}"#),
            Some(r#"{"channel":"a"}"#),
            Some(r#"{"channel":"a","event":5,"payload":1}"#),
            Some(r#"{"channel":"a","event":"x"}"#),
            Some(r#"{"channel":"a","event":"disconnect","payload":1}"#),
            Some(r#"{"channel":"a","event":"presence:join","payload":1}"#),
        ] {
            let got = request(&event("realtime:publish", argument));
            let Request::Invalid(_, Refusal::Invalid(_)) = got else {
                panic!("{argument:?}: {got:?}")
            };
        }
    }

    #[test]
    fn the_documented_shape() {
        let text = publication(
            &message(r#"{"a":1}"#, Sender::User(Some("u1".into()))),
            Encoding::Documented,
        );
        assert_eq!(
            text,
            r#"42["e",{"channel":"order:1","messageId":"00000000-0000-0000-0000-000000000000","senderType":"user","senderId":"u1","payload":{"a":1}}]"#
        );
    }

    #[test]
    fn the_sdk_shape_with_its_order_of_keys() {
        let text = publication(&message(r#"{"id":"123"}"#, Sender::System), Encoding::Sdk);
        assert_eq!(
            text,
            r#"42["e",{"id":"123","meta":{"channel":"realtime:order:1","senderType":"system","messageId":"00000000-0000-0000-0000-000000000000","timestamp":"2026-04-25T17:00:00.123Z"}}]"#
        );
    }

    #[test]
    fn keys_that_only_javascript_can_hold_are_kept() {
        let text = publication(&message(r#"{"a":1,"\ud800":2}"#, Sender::System), Encoding::Sdk);
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
        let astral = publication(&message(r#""😀""#, Sender::System), Encoding::Sdk);
        assert!(astral.contains(r#""0":"\ud83d","1":"\ude00""#), "{astral}");
    }

    #[test]
    fn a_gap_names_channel_and_count() {
        let text = gap(&Channel::from("a\"b"), 12);
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
        let member = Member { is_user: true, presence_id: "u".into(), joined_at: 0 };
        let presence = Arc::new(Snapshot::new(vec![Arc::new(member)]));
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
            for encoding in Encoding::ALL {
                let out = publication(&p, encoding);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&out[2..]).is_ok(), "{out}");
            }
        }
    }
}
