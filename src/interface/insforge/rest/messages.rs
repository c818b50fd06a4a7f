//! The REST call that publishes: `POST /api/realtime/messages`.

pub(super) mod batch;
mod ordered;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::broker::publish::{Submission, ToKeep};
use crate::broker::received::Received;
use crate::codec::json::push_number;
use crate::config::Limits;
use crate::interface::http::HttpContext;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply, durability};
use crate::limits::EVENT_BYTES_MAX;
use crate::message::{
    Channel, ChannelDefinition, Content, Credential, Durability, MessageId, Millis, Refused,
    RepeatKey, Sender, Spread, event_name_problem, iso_millis, payload_problem, push_iso_millis,
};

/// A publication from a back end. It borrows from the request's body, except texts with escapes.
#[derive(Clone, Debug)]
struct Publish<'a> {
    /// The channel's name, which is not empty.
    pub channel: Cow<'a, str>,
    /// The event name, 1 to [`EVENT_BYTES_MAX`] bytes and not reserved.
    pub event: Cow<'a, str>,
    /// The payload: any JSON value, byte for byte as it was sent.
    pub payload: &'a RawValue,
    /// The id that the publisher has given the publication; `None` for a new one.
    pub id: Option<MessageId>,
}

impl<'a> Publish<'a> {
    /// Parses the body of `POST /api/realtime/messages`.
    ///
    /// # Errors
    /// 400 with the issues of all fields; 413 if the payload is too long.
    fn parse(body: &'a [u8], limits: &Limits) -> Result<Self, ApiError> {
        let names = ["channel", "event", "payload", "messageId"];
        let [channel, event, payload, id] = fields::object(body, &names)?;
        let read = (
            fields::required("channel", channel)
                .and_then(|value| fields::nonempty("channel", value, limits.channel_bytes)),
            fields::required("event", event).and_then(read_event),
            fields::required("payload", payload).and_then(read_payload),
            fields::id("messageId", id),
        );
        let (Ok(channel), Ok(event), Ok(payload), Ok(id)) = read else {
            let (channel, event, payload, id) = read;
            return Err(fields::refuse([channel.err(), event.err(), payload.err(), id.err()]));
        };
        if payload.get().len() > limits.payload_bytes {
            return Err(ApiError::payload_too_long("payload", limits.payload_bytes));
        }
        Ok(Self { channel, event, payload, id })
    }
}

/// The data about a publication that its publisher receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt<'a> {
    /// The id that subscribers and history know the publication by.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the epoch.
    pub at: Millis,
    /// The number of subscribers that it was posted to, and on which nodes of the cluster.
    pub spread: &'a Spread,
    /// Whether the cluster's stream has ordered it. Otherwise the answer names no nodes.
    pub is_ordered: bool,
    /// The level of durability that it has reached.
    pub level: Durability,
}

impl Receipt<'_> {
    /// Returns the reply to a publisher that asked for this level.
    fn reply(&self, http: &HttpContext<'_>, level: Durability) -> Reply {
        match self.level >= level {
            true => Reply::published(self, http.buffer.take()),
            false => Reply::not_kept(self),
        }
    }
}

/// Publishes for a back end what `part` of the body holds. The publisher needs no subscription. A
/// definition must govern the channel. For a durability above `memory`, the publisher is answered
/// after the store has reached that level or failed to.
pub(super) async fn publish(
    http: &HttpContext<'_>,
    query: Option<&str>,
    body: &Received,
    part: &[u8],
) -> Result<Reply, ApiError> {
    let level = durability(query)?;
    let wanted = Publish::parse(part, &http.shared.config.limits)?;
    let definition = http.shared.broker.definitions.load().find(&wanted.channel).cloned();
    let definition = definition.ok_or_else(ApiError::channel_not_found)?;
    let level = level_on(&definition, level)?;
    let payload = http.keep(body, wanted.payload.get());
    let to_keep = ToKeep { definition: &definition, level, ticket: None };
    let channel = Channel::from(&*wanted.channel);
    let is_ordered = http.shared.broker.is_ordered(definition.options);
    let id = wanted.id.unwrap_or_else(|| http.message_id());
    let is_named = is_ordered || wanted.id.is_some();
    let submission = Submission {
        repeat: is_named.then(|| RepeatKey::of(&Credential::BACK_END, &channel, id)),
        channel,
        content: Content::Message {
            event: wanted.event.as_ref().into(),
            payload,
            sender: Sender::System,
        },
        options: definition.options,
        id,
        now: http.now,
        is_recoverable: http.shared.recovery.is_some(),
        history: (!definition.options.ephemeral).then_some(to_keep),
    };
    if is_ordered {
        return ordered::publish(http, submission, level).await;
    }
    let submit = |ticket| {
        let published = http.shared.publish(submission.answered(ticket));
        published.map_err(|refused| refuse(http, refused))
    };
    let ((publication, published), pending) = match level {
        Durability::Memory => (submit(None)?, None),
        _ => {
            let (done, pending) = http.inquiry()?.put(|ticket| submit(Some(ticket)))?;
            (done, Some(pending))
        }
    };
    http.counters.publications_http.add(1);
    let reached = match pending {
        None => Durability::Memory,
        Some(pending) => pending.await,
    };
    let (id, audience) = (publication.id, published.audience);
    let spread = Spread { audience, ..Spread::default() };
    let receipt =
        Receipt { id, at: http.now.wall, spread: &spread, is_ordered: false, level: reached };
    Ok(receipt.reply(http, level))
}

/// Counts a refusal and returns its error.
fn refuse(http: &HttpContext<'_>, refused: Refused) -> ApiError {
    match refused {
        Refused::Overloaded | Refused::Late => http.counters.refused_overloaded.add(1),
        Refused::HistoryFull => http.counters.refused_history_queue.add(1),
    }
    ApiError::overloaded()
}

/// Returns the durability that a publication must reach. By default that is `stored`, or `memory`
/// if the channel is ephemeral.
///
/// # Errors
/// 400 if the publisher asks for more than `memory` on an ephemeral channel.
fn level_on(
    definition: &ChannelDefinition,
    asked: Option<Durability>,
) -> Result<Durability, ApiError> {
    match (definition.options.ephemeral, asked) {
        (true, None | Some(Durability::Memory)) => Ok(Durability::Memory),
        (true, Some(_)) => Err(ApiError::invalid_input(
            "durability: The channel is ephemeral and keeps nothing; only 'memory' can be reached",
        )),
        (false, asked) => Ok(asked.unwrap_or(Durability::Stored)),
    }
}

impl Reply {
    /// Returns 201: the publication has reached its durability. The body is written into `buffer`.
    pub fn published(receipt: &Receipt<'_>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let mut body = String::from_utf8(buffer).unwrap_or_default();
        let Receipt { id, at, spread, is_ordered, level } = receipt;
        let audience = spread.audience;
        body.push_str(r#"{"messageId":""#);
        body.push_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
        body.push_str(r#"","timestamp":""#);
        push_iso_millis(&mut body, *at);
        for (name, count) in [
            (r#"","audience":{"total":"#, audience.total()),
            (r#","websocket":"#, audience.websocket),
            (r#","polling":"#, audience.polling),
            (r#","sse":"#, audience.sse),
        ] {
            body.push_str(name);
            push_number(&mut body, count.into());
        }
        if *is_ordered {
            ordered::push_nodes(&mut body, spread);
        }
        body.push_str(r#"},"durability":""#);
        body.push_str(level.name());
        body.push_str(r#""}"#);
        Self::of(201, body)
    }

    /// Returns 500: the publication was delivered, but it has not reached its durability. The reply
    /// says that it was delivered, because a second attempt would deliver it twice.
    pub fn not_kept(receipt: &Receipt<'_>) -> Self {
        let body = NotKept {
            error: "NOT_STORED",
            message: "The publication was delivered, but history could not keep it",
            status_code: 500,
            next_actions: "Check the node's log for the cause; publishing it again would deliver it twice",
            delivered: true,
            published: Published::from(receipt),
        };
        Self::json(500, &body)
    }
}

impl From<&Receipt<'_>> for Published {
    fn from(receipt: &Receipt<'_>) -> Self {
        let Receipt { id, at, spread, level, .. } = receipt;
        let audience = spread.audience;
        Self {
            message_id: id.to_string(),
            timestamp: iso_millis(*at),
            audience: AudienceJson {
                total: audience.total(),
                websocket: audience.websocket,
                polling: audience.polling,
                sse: audience.sse,
            },
            durability: level.name(),
        }
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
struct Published {
    message_id: String,
    timestamp: String,
    audience: AudienceJson,
    durability: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotKept {
    error: &'static str,
    message: &'static str,
    status_code: u16,
    next_actions: &'static str,
    delivered: bool,
    #[serde(flatten)]
    published: Published,
}

#[derive(Serialize)]
struct AudienceJson {
    total: u32,
    websocket: u32,
    polling: u32,
    sse: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::limits::CHANNEL_BYTES_MAX;
    use crate::message::Audience;

    fn parse(body: &[u8]) -> Result<Publish<'_>, ApiError> {
        Publish::parse(body, &Config::defaults().limits)
    }

    fn refused(body: &str) -> String {
        let refusal = parse(body.as_bytes()).unwrap_err();
        assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"));
        refusal.to_string()
    }

    #[test]
    fn a_publication_is_read_without_copying() {
        let body = br#"{"event":"moved","channel":"order:1","payload": {"b":1.0, "a":[ ]} }"#;
        let publish = parse(body).unwrap();
        assert!(matches!(publish.channel, Cow::Borrowed("order:1")));
        assert!(matches!(publish.event, Cow::Borrowed("moved")));
        assert_eq!(publish.payload.get(), r#"{"b":1.0, "a":[ ]}"#);
    }

    #[test]
    fn any_json_value_is_a_payload() {
        for payload in ["null", "0", "-1.5e300", "\"\\ud83d\\ude00\"", "[]", "false", "{\"a\":{}}"]
        {
            let body = format!(r#"{{"channel":"c","event":"e","payload":{payload}}}"#);
            assert_eq!(parse(body.as_bytes()).unwrap().payload.get(), payload);
        }
    }

    #[test]
    fn names_are_unescaped() {
        let body = br#"{"channel":"a\tb\u00e9","event":"\"e\"","payload":0}"#;
        let publish = parse(body).unwrap();
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

    fn spread() -> Spread {
        let audience = Audience { websocket: 4, polling: 1, sse: 2 };
        Spread { audience, ..Spread::default() }
    }

    fn receipt(spread: &Spread, level: Durability) -> Receipt<'_> {
        let id = MessageId::from_u128(0x660e_8400_e29b_41d4_a716_4466_5544_0000);
        Receipt { id, at: 1_777_136_400_123, spread, is_ordered: false, level }
    }

    const TOLD: &str = r#""messageId":"660e8400-e29b-41d4-a716-446655440000","timestamp":"2026-04-25T17:00:00.123Z","audience":{"total":7,"websocket":4,"polling":1,"sse":2}"#;

    #[test]
    fn audience_and_durability_are_told() {
        let reply =
            Reply::published(&receipt(&spread(), Durability::Stored), b"of before".to_vec());
        assert_eq!(reply.status, 201);
        assert_eq!(reply.body, format!(r#"{{{TOLD},"durability":"stored"}}"#));
    }

    #[test]
    fn nodes_are_told_in_a_cluster() {
        let unknown = vec!["n3".into(), "n4".into()];
        let told = |spread: Spread| {
            let receipt = Receipt { is_ordered: true, ..receipt(&spread, Durability::Memory) };
            let body = Reply::published(&receipt, Vec::new()).body;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            (body["audience"]["nodes"].clone(), body["audience"]["unknown"].clone())
        };
        let whole = Spread { nodes: 2, is_named: true, ..spread() };
        assert_eq!(told(whole.clone()), (json!(2), json!(null)));
        assert_eq!(told(Spread::default()), (json!(0), json!(["*"])));
        assert_eq!(told(Spread { unknown, ..whole.clone() }), (json!(2), json!(["n3", "n4"])));
        assert_eq!(told(Spread { is_named: false, ..whole }), (json!(2), json!(["*"])));
    }

    #[test]
    fn what_was_delivered_and_not_kept_is_no_success() {
        let reply = Reply::not_kept(&receipt(&spread(), Durability::Memory));
        assert_eq!(reply.status, 500);
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["statusCode"], 500);
        let end = format!(r#""delivered":true,{TOLD},"durability":"memory"}}"#);
        assert!(reply.body.ends_with(&end), "{}", reply.body);
    }

    #[test]
    fn levels_are_named_in_the_query() {
        assert_eq!(durability(None), Ok(None));
        assert_eq!(durability(Some("a=b")), Ok(None));
        assert_eq!(durability(Some("a=b&durability=synced")), Ok(Some(Durability::Synced)));
        assert_eq!(durability(Some("durability=mem%6Fry")), Ok(Some(Durability::Memory)));
        let message = "durability: Invalid enum value. Expected 'memory' | 'stored' | 'synced'";
        for query in ["durability=", "durability", "durability=Stored"] {
            let refusal = durability(Some(query)).unwrap_err();
            assert_eq!((refusal.status(), refusal.to_string().as_str()), (400, message));
        }
    }
}
