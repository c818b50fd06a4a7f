//! Reads the events of clients as commands.

use std::borrow::Cow;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::Limits;
use crate::interface::insforge::command::Command;
use crate::interface::insforge::socketio::{Event, text};
use crate::message::{
    Channel, Encoding, MessageId, Refusal, event_name_problem, given_id, payload_problem,
};

/// An event of a client, read as a command of InsForge Realtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A command whose arguments are valid.
    Command(Command),
    /// A newer credential, as the text of a JSON object.
    Authenticate(Box<str>),
    /// A command with an invalid argument: its channel, if that is valid, and the refusal.
    Invalid(Option<Channel>, Refusal),
    /// An event whose name is not a command's.
    Unknown,
}

/// The argument of all commands. Keys that a command does not use are ignored.
#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given", rename = "messageId")]
    message_id: Option<&'a RawValue>,
}

/// Reads the value of a key that is present as `Some`, even if it is `null`, because `null` is a
/// valid payload.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// The commands that have a channel.
#[derive(Clone, Copy)]
enum Kind {
    Subscribe(Encoding),
    Unsubscribe,
    Publish,
}

/// Reads an event as a command. Event names in `REALTIME_…` and `realtime:…` form are equivalent,
/// but the form used to subscribe selects the shape of the delivered messages. `keep` returns a
/// payload that outlives the event.
pub fn request(
    event: &Event<'_>,
    limits: &Limits,
    keep: impl FnOnce(&str) -> ByteString,
) -> Request {
    let kind = match &*event.name {
        "realtime:subscribe" => Kind::Subscribe(Encoding::Sdk),
        "REALTIME_SUBSCRIBE" => Kind::Subscribe(Encoding::Documented),
        "realtime:unsubscribe" | "REALTIME_UNSUBSCRIBE" => Kind::Unsubscribe,
        "realtime:publish" | "REALTIME_PUBLISH" => Kind::Publish,
        "realtime:auth" | "REALTIME_AUTH" => return authenticate(event.first),
        _ => return Request::Unknown,
    };
    let Some(argument) = event.first.filter(|first| first.starts_with('{')) else {
        return Request::Invalid(None, Refusal::Invalid("Expected an object with a channel"));
    };
    let Ok(argument) = serde_json::from_str::<Argument<'_>>(argument) else {
        return Request::Invalid(None, Refusal::Invalid("Each key may appear only once"));
    };
    let channel = match channel(argument.channel, limits.channel_bytes) {
        Ok(channel) => channel,
        Err(refusal) => return Request::Invalid(None, refusal),
    };
    match kind {
        Kind::Subscribe(encoding) => Request::Command(Command::Subscribe { channel, encoding }),
        Kind::Unsubscribe => Request::Command(Command::Unsubscribe { channel }),
        Kind::Publish => match publish(&argument, limits.payload_bytes) {
            Ok((event, payload, id)) => {
                let (event, payload) = (event.into(), keep(payload));
                Request::Command(Command::Publish { channel, event, payload, id })
            }
            Err(refusal) => Request::Invalid(Some(channel), refusal),
        },
    }
}

fn authenticate(argument: Option<&str>) -> Request {
    match argument {
        Some(argument) if argument.starts_with('{') => Request::Authenticate(argument.into()),
        _ => Request::Invalid(None, Refusal::Invalid("Expected an object with a token")),
    }
}

fn channel(raw: Option<&RawValue>, bytes_max: usize) -> Result<Channel, Refusal> {
    let raw = raw.ok_or(Refusal::Invalid("channel: Required"))?;
    let name = text(raw).ok_or(Refusal::Invalid("channel: Expected string"))?;
    if name.is_empty() {
        return Err(Refusal::Invalid("channel: String must contain at least 1 character(s)"));
    }
    if name.len() > bytes_max {
        return Err(Refusal::LongChannel(bytes_max));
    }
    Ok(Channel::from(&*name))
}

/// Returns the event name, the payload and the given id of a publish.
fn publish<'a>(
    argument: &Argument<'a>,
    payload_bytes_max: usize,
) -> Result<(Cow<'a, str>, &'a str, Option<MessageId>), Refusal> {
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
    if payload.get().len() > payload_bytes_max {
        return Err(Refusal::LongPayload(payload_bytes_max));
    }
    let id = match argument.message_id {
        Some(raw) if raw.get() != "null" => {
            let id = text(raw).and_then(|id| given_id(&id));
            Some(id.ok_or(Refusal::Invalid("messageId: Expected a UUID that is not nil"))?)
        }
        _ => None,
    };
    Ok((event, payload.get(), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(event: &Event<'_>) -> Request {
        request(event, &Config::defaults().limits, |payload| payload.into())
    }

    fn event<'a>(name: &'a str, first: Option<&'a str>) -> Event<'a> {
        let arguments = first.unwrap_or_default();
        Event { namespace: "/", ack: None, name: name.into(), first, arguments }
    }

    #[test]
    fn both_dialects_say_the_same_and_choose_the_shape() {
        let argument = Some(r#"{"channel":"a","extra":1}"#);
        let channel = Channel::from("a");
        for (name, encoding) in
            [("realtime:subscribe", Encoding::Sdk), ("REALTIME_SUBSCRIBE", Encoding::Documented)]
        {
            let command = Command::Subscribe { channel: channel.clone(), encoding };
            assert_eq!(read(&event(name, argument)), Request::Command(command));
        }
        for name in ["realtime:unsubscribe", "REALTIME_UNSUBSCRIBE"] {
            let command = Command::Unsubscribe { channel: channel.clone() };
            assert_eq!(read(&event(name, argument)), Request::Command(command));
        }
        for name in ["realtime:publish", "REALTIME_PUBLISH"] {
            let argument = r#"{"channel":"a","event":"x","payload":{"n": 1e400}}"#;
            let command = Command::Publish {
                id: None,
                channel: channel.clone(),
                event: "x".into(),
                payload: r#"{"n": 1e400}"#.into(),
            };
            assert_eq!(read(&event(name, Some(argument))), Request::Command(command));
        }
        assert_eq!(read(&event("chat", argument)), Request::Unknown);
    }

    #[test]
    fn null_is_a_payload() {
        let argument = r#"{"channel":"a","event":"x","payload":null}"#;
        let command = Command::Publish {
            channel: "a".into(),
            event: "x".into(),
            payload: "null".into(),
            id: None,
        };
        assert_eq!(read(&event("realtime:publish", Some(argument))), Request::Command(command));
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
            let got = read(&event("realtime:publish", argument));
            let Request::Invalid(_, Refusal::Invalid(_)) = got else {
                panic!("{argument:?}: {got:?}")
            };
        }
    }
}
