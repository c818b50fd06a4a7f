//! Publishing over REST (decision table: `POST /api/realtime/messages`).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::{self, Read};
use super::{ApiError, Reply};
use crate::limits::{CHANNEL_BYTES_MAX, EVENT_BYTES_MAX};
use crate::message::{
    Audience, MessageId, Millis, event_name_problem, iso_millis, payload_problem,
};

/// A publication that somebody wants made. Borrows from the request's body where it can.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// The concrete name, 1 to [`CHANNEL_BYTES_MAX`] bytes.
    pub channel: Cow<'a, str>,
    /// 1 to [`EVENT_BYTES_MAX`] bytes, and none of the reserved names.
    pub event: Cow<'a, str>,
    /// Any JSON value, byte for byte as it was sent.
    pub payload: &'a RawValue,
}

impl<'a> Publish<'a> {
    /// Parses the body of `POST /api/realtime/messages`.
    ///
    /// # Errors
    ///
    /// 400 with the issues of all fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let [channel, event, payload] = fields::object(body, &["channel", "event", "payload"])?;
        let read = (
            fields::required("channel", channel)
                .and_then(|value| fields::nonempty("channel", value, CHANNEL_BYTES_MAX)),
            fields::required("event", event).and_then(read_event),
            fields::required("payload", payload).and_then(read_payload),
        );
        let (Ok(channel), Ok(event), Ok(payload)) = read else {
            let (channel, event, payload) = read;
            return Err(fields::refuse([channel.err(), event.err(), payload.err()]));
        };
        Ok(Self { channel, event, payload })
    }
}

impl Reply {
    /// 201: the publication is on its way to this audience.
    pub fn published(id: MessageId, at: Millis, audience: Audience) -> Self {
        let mut id_text = uuid::Uuid::encode_buffer();
        let body = Published {
            message_id: id.hyphenated().encode_lower(&mut id_text),
            timestamp: &iso_millis(at),
            audience: AudienceJson {
                total: audience.total(),
                websocket: audience.websocket,
                polling: audience.polling,
            },
        };
        Self::json(201, &body)
    }
}

fn read_event(value: &RawValue) -> Read<Cow<'_, str>> {
    let event = fields::nonempty("event", value, EVENT_BYTES_MAX)?;
    match event_name_problem(&event) {
        None => Ok(event),
        Some(problem) => Err(format!("event: {problem}")),
    }
}

fn read_payload(value: &RawValue) -> Read<&RawValue> {
    match payload_problem(value.get()) {
        None => Ok(value),
        Some(problem) => Err(format!("payload: {problem}")),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Published<'a> {
    message_id: &'a str,
    timestamp: &'a str,
    audience: AudienceJson,
}

#[derive(Serialize)]
struct AudienceJson {
    total: u32,
    websocket: u32,
    polling: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let refusal = Publish::parse(body.as_bytes()).unwrap_err();
        assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"));
        refusal.to_string()
    }

    #[test]
    fn a_publication_is_read_without_copying() {
        let body = br#"{"event":"moved","channel":"order:1","payload": {"b":1.0, "a":[ ]} }"#;
        let publish = Publish::parse(body).unwrap();
        assert!(matches!(publish.channel, Cow::Borrowed("order:1")));
        assert!(matches!(publish.event, Cow::Borrowed("moved")));
        assert_eq!(publish.payload.get(), r#"{"b":1.0, "a":[ ]}"#);
    }

    #[test]
    fn any_json_value_is_a_payload() {
        for payload in ["null", "0", "-1.5e300", "\"\\ud83d\\ude00\"", "[]", "false", "{\"a\":{}}"]
        {
            let body = format!(r#"{{"channel":"c","event":"e","payload":{payload}}}"#);
            assert_eq!(Publish::parse(body.as_bytes()).unwrap().payload.get(), payload);
        }
    }

    #[test]
    fn names_are_unescaped() {
        let body = br#"{"channel":"a\tb\u00e9","event":"\"e\"","payload":0}"#;
        let publish = Publish::parse(body).unwrap();
        assert_eq!((&*publish.channel, &*publish.event), ("a\tbé", "\"e\""));
    }

    #[test]
    fn issues_are_named() {
        let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
        let table = [
            ("{}", "channel: Required, event: Required, payload: Required"),
            (
                r#"{"channel":"","event":"","payload":1}"#,
                "channel: String must contain at least 1 character(s), \
                 event: String must contain at least 1 character(s)",
            ),
            (r#"{"channel":"c","event":"e"}"#, "payload: Required"),
            (
                r#"{"channel":1,"event":{},"payload":1}"#,
                "channel: Expected string, received number, \
                 event: Expected string, received object",
            ),
            (
                r#"{"channel":"c","event":"connect","payload":1}"#,
                "event: Event name is reserved by Socket.IO",
            ),
            (
                r#"{"channel":"c","event":"presence\u003ajoin","payload":1}"#,
                "event: Event name is reserved for the server",
            ),
            (
                &format!(r#"{{"channel":"{long}","event":"{long}","payload":1}}"#),
                "channel: String must contain at most 512 byte(s), \
                 event: String must contain at most 512 byte(s)",
            ),
        ];
        for (body, message) in table {
            assert_eq!(refused(body), message, "{body}");
        }
    }

    #[test]
    fn the_audience_is_told() {
        let id = MessageId::from_u128(0x660e_8400_e29b_41d4_a716_4466_5544_0000);
        let reply = Reply::published(id, 1_777_136_400_123, Audience { websocket: 4, polling: 1 });
        assert_eq!(reply.status, 201);
        assert_eq!(
            reply.body,
            r#"{"messageId":"660e8400-e29b-41d4-a716-446655440000","#.to_owned()
                + r#""timestamp":"2026-04-25T17:00:00.123Z","#
                + r#""audience":{"total":5,"websocket":4,"polling":1}}"#
        );
    }
}
