//! Forge Realtime for subscribers: JSON text messages, one object each, over
//! `GET /forge/realtime/v1/ws` with the subprotocol [`SUBPROTOCOL`].
//!
//! A client proves its context in the handshake (`Authorization: Bearer …`) or in its first
//! message, within [`CONNECT_MS`](super::limits::CONNECT_MS), and again before it
//! expires; who does not is closed with 4401. `id` is a whole number of the client's own, up to
//! 2^53 - 1, and answers name it. Members that are not known are passed over.
//!
//! - `connect` with `contextToken` is answered with `connected`, `connectionId`, `expiresAt` and
//!   `replaySeconds`, for how long events are kept: who was away for longer may have missed some;
//!   and `node`, which tells one start of the node from others: what was kept before is gone. A
//!   later `connect` must be of the same place.
//! - `subscribe` with `channel`, and perhaps `global` and `options`, with `subscribed`, `topic` and
//!   `last`, the newest event that is kept.
//! - `publish` with `channel` and `payload`, and perhaps `global` and `options`, with `published`,
//!   `eventId` and `eventTimestamp`, both `null` where nobody listens.
//! - `unsubscribe` with `topic`, with `unsubscribed`.
//!
//! `options` are `token` and `contextOverrides`, and for a subscription `replaySeconds` with
//! `after`, an event's id: what came later than that is replayed, or all that is younger where it
//! is not kept any more. What was refused is answered with `error: {message, code, detail?}`.
//!
//! Unasked come `event` (`topic`, `eventId`, `eventTimestamp`, `payload`, and `replay` with the id
//! of the request where it is from before) and `subscription_error`, with the code `GAP` where
//! events are missing, or `TOKEN_EXPIRED` where the subscription has ended with its token.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::codec::json::push_json;
use crate::codec::json::{Document, Object, Text, Value};
use crate::interface::forge::nouns::{
    Entity, OVERRIDES_PROBLEM, TokenError, channel_problem, overrides,
};
use crate::message::{AckId, Channel, MessageId, Millis, Publication, Refusal, ReplayWish, Reply};

/// The subprotocol that a client may ask for in its handshake.
pub const SUBPROTOCOL: &str = "forge-realtime.v1";
/// Largest id of a request: the largest integer that every JSON reader takes for itself.
const ID_MAX: f64 = 9_007_199_254_740_991.0;

/// What a client says, and under which id.
#[derive(Debug)]
pub struct Said<'t, 'a> {
    /// The id to answer under, where one could be read.
    pub id: Option<AckId>,
    /// What it asks for, or what is wrong with that.
    pub request: Result<Request<'t, 'a>, Fault>,
}

/// What a client asks for.
#[derive(Debug)]
pub enum Request<'t, 'a> {
    /// To be who its context token says, or to go on being so.
    Connect(&'a str),
    /// To hear a channel.
    Subscribe {
        /// Which.
        to: Target<'a>,
        /// With what was before.
        replay: ReplayWish,
    },
    /// To have an event heard.
    Publish {
        /// Where.
        to: Target<'a>,
        /// The payload.
        payload: Text<'t, 'a>,
    },
    /// To hear a topic no longer.
    Unsubscribe(&'a str),
}

/// The channel that a client means, as it says so.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its name.
    pub channel: &'a str,
    /// Whether it is the global one of that name.
    pub is_global: bool,
    /// The realtime token that narrows it.
    pub token: Option<&'a str>,
    /// What is to be the scope instead of the whole context.
    pub overrides: Option<Vec<Entity>>,
}

/// Why a message is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It makes no sense.
    Message,
    /// It asks for something that there is not; the text says what.
    Input(&'static str),
    /// No channel can have this name, for this reason.
    Channel(&'static str),
    /// The client has not proved that it may; the text says what is wrong with its proof.
    Unauthorized(String),
    /// A newer context token is that of another place.
    OtherContext,
    /// A realtime token is no good, for this reason.
    Token(TokenError),
    /// The event cannot be published from this context; the text says why.
    PublishFailed(String),
    /// The payload is longer than it may be.
    PayloadTooLarge,
    /// The installation does too much.
    RateLimited,
    /// The node has no room at the moment.
    Overloaded,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
}

impl From<Refusal> for Fault {
    /// Of those refusals that subscribing and unsubscribing know.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManySubscriptions => Self::TooManySubscriptions,
            _ => Self::Overloaded,
        }
    }
}

impl From<SelectionFault> for Fault {
    fn from(fault: SelectionFault) -> Self {
        Self::Input(match fault {
            SelectionFault::Options(_) => "options: Expected object",
            SelectionFault::Token(_) => "token: Expected string",
            SelectionFault::Overrides => OVERRIDES_PROBLEM,
        })
    }
}

/// Reads a message.
pub fn read<'t, 'a>(document: &'t Document<'a>) -> Said<'t, 'a> {
    let object = document.object();
    match object.get("id").and_then(read_id) {
        Some(id) => Said { id: Some(id), request: read_request(object) },
        None => Said { id: None, request: Err(Fault::Message) },
    }
}

fn read_id(value: Value<'_, '_>) -> Option<AckId> {
    let Value::Number(number) = value else { return None };
    let is_id = number.fract() == 0.0 && (0.0..=ID_MAX).contains(&number);
    is_id.then_some(number as AckId)
}

fn read_request<'t, 'a>(object: Object<'t, 'a>) -> Result<Request<'t, 'a>, Fault> {
    let Some(Value::Text(kind)) = object.get("type") else { return Err(Fault::Message) };
    match kind.value {
        "connect" => match object.get("contextToken") {
            Some(Value::Text(token)) => Ok(Request::Connect(token.value)),
            _ => Err(Fault::Input("contextToken: Expected string")),
        },
        "subscribe" => {
            let to = read_target(object)?;
            Ok(Request::Subscribe { to, replay: read_replay(object)? })
        }
        "publish" => match object.get("payload") {
            Some(Value::Text(payload)) => {
                Ok(Request::Publish { to: read_target(object)?, payload })
            }
            _ => Err(Fault::Input("payload: Expected string")),
        },
        "unsubscribe" => match object.get("topic") {
            Some(Value::Text(topic)) => Ok(Request::Unsubscribe(topic.value)),
            _ => Err(Fault::Input("topic: Expected string")),
        },
        _ => Err(Fault::Message),
    }
}

fn read_target<'a>(object: Object<'_, 'a>) -> Result<Target<'a>, Fault> {
    let Some(Value::Text(channel)) = object.get("channel") else {
        return Err(Fault::Input("channel: Expected string"));
    };
    let channel = channel.value;
    if let Some(problem) = channel_problem(channel) {
        return Err(Fault::Channel(problem));
    }
    let is_global = match object.get("global") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_global)) => is_global,
        Some(_) => return Err(Fault::Input("global: Expected boolean")),
    };
    let Selection { token, overrides } = Selection::read(object.get("options"), is_global)?;
    Ok(Target { channel, is_global, token, overrides })
}

/// What `options` select on a channel, over HTTP as over a socket.
#[derive(Debug, Default)]
pub struct Selection<'a> {
    /// The realtime token whose claims narrow the topic.
    pub token: Option<&'a str>,
    /// What is to be the scope instead of the whole context; never on a global channel.
    pub overrides: Option<Vec<Entity>>,
}

/// The member that is not what it must be. Each interface has words of its own for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelectionFault {
    /// `options`, which is a value of this kind and no object.
    Options(&'static str),
    /// `token`, which is a value of this kind and no string.
    Token(&'static str),
    /// `contextOverrides`, which is no array of names of entities.
    Overrides,
}

impl<'a> Selection<'a> {
    /// Reads the member `options`, which may be absent or null.
    ///
    /// # Errors
    /// The first member that is not what it must be. `contextOverrides` of a global channel mean
    /// nothing, and are not looked at.
    pub fn read(options: Option<Value<'_, 'a>>, is_global: bool) -> Result<Self, SelectionFault> {
        let options = match options {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(options)) => options,
            Some(other) => return Err(SelectionFault::Options(other.kind())),
        };
        let [token, names] = options.members(&["token", "contextOverrides"]);
        let token = match token {
            None | Some(Value::Null) => None,
            // An empty one is none to Forge's client as well.
            Some(Value::Text(token)) => Some(token.value).filter(|token| !token.is_empty()),
            Some(other) => return Err(SelectionFault::Token(other.kind())),
        };
        let overrides = match names {
            Some(names) if !is_global => Some(entities(names).ok_or(SelectionFault::Overrides)?),
            _ => None,
        };
        Ok(Self { token, overrides })
    }
}

fn entities(names: Value<'_, '_>) -> Option<Vec<Entity>> {
    let Value::Array(names) = names else { return None };
    overrides(names.map(|name| name.as_text().map(|text| text.value)))
}

fn read_replay(object: Object<'_, '_>) -> Result<ReplayWish, Fault> {
    let Some(Value::Object(options)) = object.get("options") else {
        return Ok(ReplayWish::default());
    };
    let seconds = match options.get("replaySeconds") {
        None | Some(Value::Null) => 0,
        // More than the node keeps is as good as all of it.
        Some(Value::Number(seconds)) if seconds >= 0.0 => seconds.ceil() as u32,
        Some(_) => return Err(Fault::Input("replaySeconds: Expected a number, 0 or more")),
    };
    let after = match options.get("after") {
        None | Some(Value::Null) => None,
        Some(Value::Text(id)) => {
            let id = MessageId::try_parse(id.value);
            Some(id.map_err(|_| Fault::Input("after: Expected the id of an event"))?)
        }
        Some(_) => return Err(Fault::Input("after: Expected string")),
    };
    Ok(ReplayWish { seconds, after })
}

/// The answer to a request that the engine has carried out.
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

/// The client's context is proved until then, in seconds since the epoch. The node, by this start
/// of it, keeps events for so many seconds for who misses them.
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

/// The event was published, or nobody listens.
pub fn published(id: Option<AckId>, event: Option<(MessageId, Millis)>) -> String {
    let mut out = begin("published", id);
    let _ = match event {
        Some((event, at)) => write!(out, r#","eventId":"{event}","eventTimestamp":"{at}"}}"#),
        None => write!(out, r#","eventId":null,"eventTimestamp":null}}"#),
    };
    out
}

/// A request was not carried out.
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
        Fault::Unauthorized(_) => ("Unauthorized request", "UNAUTHORIZED"),
        Fault::OtherContext => ("Unauthorized request", "CONTEXT_MISMATCH"),
        Fault::Token(error) => {
            made = error.to_string();
            (made.as_str(), error.code())
        }
        Fault::PublishFailed(_) => ("Error publishing event to channel", "PUBLISH_FAILED"),
        Fault::PayloadTooLarge => ("The payload is too long", "PAYLOAD_TOO_LARGE"),
        Fault::RateLimited => ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
        Fault::Overloaded => ("The node is overloaded; try again in a second", "OVERLOADED"),
        Fault::TooManySubscriptions => {
            ("This connection has as many subscriptions as it may", "TOO_MANY_SUBSCRIPTIONS")
        }
    };
    let detail = match fault {
        Fault::Unauthorized(detail) | Fault::PublishFailed(detail) => Some(detail.as_str()),
        Fault::OtherContext => Some("The token is for another place; connect anew for that"),
        _ => None,
    };
    push_error(&mut out, message, code, detail);
    out
}

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

/// Bytes of an event besides its payload, at most.
const EVENT_BYTES: usize = 200;

/// The news that a subscription lost events: so many, where that is known.
pub fn gap(topic: &Channel, count: Option<u64>) -> String {
    match count {
        Some(count) => subscription_error(topic, &format!("{count} events were lost"), "GAP"),
        None => subscription_error(topic, "Events may have been lost", "GAP"),
    }
}

/// The news that a subscription has ended with its token.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::codec::json::Scratch;
    use crate::message::{Content, Snapshot};

    const EVENT: &str = "0190163d-8694-7000-8000-000000000001";

    /// What a message is taken for, in words.
    fn understood(text: &str) -> String {
        let mut scratch = Scratch::default();
        let Ok(document) = Document::from_text(text, &mut scratch) else {
            return "no object".into();
        };
        let Said { id, request } = read(&document);
        let request = match request {
            Ok(Request::Connect(token)) => format!("connect {token}"),
            Ok(Request::Unsubscribe(topic)) => format!("unsubscribe {topic}"),
            Ok(Request::Subscribe { to, replay: ReplayWish { seconds, after } }) => {
                format!("subscribe {} {seconds} {after:?}", described(&to))
            }
            Ok(Request::Publish { to, payload }) => {
                format!("publish {} {}", described(&to), payload.raw())
            }
            Err(fault) => format!("{fault:?}"),
        };
        format!("{id:?} {request}")
    }

    fn described(to: &Target<'_>) -> String {
        let Target { channel, is_global, token, overrides } = to;
        format!("{channel} {is_global} {token:?} {overrides:?}")
    }

    #[test]
    fn requests_are_understood() {
        let table = [
            (
                r#"{"type":"connect","id":1,"contextToken":"t","else":123456789012345678901234567890}"#,
                "Some(1) connect t",
            ),
            (r#"{"id":0,"type":"unsubscribe","topic":"q"}"#, "Some(0) unsubscribe q"),
            (
                r#"{"type":"subscribe","id":2,"channel":"c"}"#,
                "Some(2) subscribe c false None None 0 None",
            ),
            (
                r#"{"type":"subscribe","id":2,"channel":"c","global":true,"options":
                    {"token":"","contextOverrides":["nothing"],"replaySeconds":0.2}}"#,
                "Some(2) subscribe c true None None 1 None",
            ),
            (
                r#"{"type":"subscribe","id":9007199254740991,"channel":"c","global":null,"options":
                    {"token":"t","contextOverrides":["issue","board","issue"],"replaySeconds":1e99}}"#,
                "Some(9007199254740991) subscribe c false Some(\"t\") Some([Issue, Board]) \
                 4294967295 None",
            ),
            (
                r#"{"type":"publish","id":4,"channel":"c","payload":"\u0061\/ 1e400","options":null}"#,
                r#"Some(4) publish c false None None "\u0061\/ 1e400""#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(understood(text), expected, "{text}");
        }
        let after = format!(
            r#"{{"type":"subscribe","id":1,"channel":"c","options":{{"after":"{EVENT}"}}}}"#
        );
        let expected = format!("Some(1) subscribe c false None None 0 Some({EVENT})");
        assert_eq!(understood(&after), expected);
    }

    #[test]
    fn what_makes_no_sense_is_said_to() {
        for text in [
            "{}",
            r#"{"type":"connect","contextToken":"t"}"#,
            r#"{"type":"connect","id":-1,"contextToken":"t"}"#,
            r#"{"type":"connect","id":1.5,"contextToken":"t"}"#,
            r#"{"type":"connect","id":9007199254740992,"contextToken":"t"}"#,
            r#"{"type":"connect","id":"1","contextToken":"t"}"#,
        ] {
            assert_eq!(understood(text), "None Message", "{text}");
        }
        for text in [r#"{"id":1}"#, r#"{"id":1,"type":5}"#, r#"{"id":1,"type":"Connect"}"#] {
            assert_eq!(understood(text), "Some(1) Message", "{text}");
        }
        for (members, problem) in [
            (r#""type":"connect""#, "contextToken: Expected string"),
            (r#""type":"unsubscribe","topic":1"#, "topic: Expected string"),
            (r#""type":"subscribe""#, "channel: Expected string"),
            (r#""type":"publish","channel":"c""#, "payload: Expected string"),
            (r#""type":"publish","channel":"c","payload":{}"#, "payload: Expected string"),
            (r#""type":"subscribe","channel":"c","global":1"#, "global: Expected boolean"),
            (r#""type":"subscribe","channel":"c","options":[]"#, "options: Expected object"),
            (
                r#""type":"subscribe","channel":"c","options":{"contextOverrides":"issue"}"#,
                OVERRIDES_PROBLEM,
            ),
            (
                r#""type":"subscribe","channel":"c","options":{"contextOverrides":null}"#,
                OVERRIDES_PROBLEM,
            ),
            (
                r#""type":"subscribe","channel":"c","options":{"replaySeconds":-1}"#,
                "replaySeconds: Expected a number, 0 or more",
            ),
            (
                r#""type":"subscribe","channel":"c","options":{"after":"x"}"#,
                "after: Expected the id of an event",
            ),
        ] {
            let expected = format!("Some(1) Input({problem:?})");
            assert_eq!(understood(&format!(r#"{{"id":1,{members}}}"#)), expected, "{members}");
        }
    }

    fn publication(payload: &str) -> Publication {
        let id = MessageId::try_parse(EVENT).expect("it is one");
        let content = Content::Event { payload: payload.into() };
        Publication::new(id, Channel::topic("Qm3"), 1_719_999_999_999, content)
    }

    #[test]
    fn an_event_is_as_documented() {
        let live = event(&publication(r#""{\"a\":1}""#), r#""{\"a\":1}""#, None);
        let rest = r#""eventTimestamp":"1719999999999","payload":"{\"a\":1}"}"#;
        let expected = format!(r#"{{"type":"event","topic":"Qm3","eventId":"{EVENT}",{rest}"#);
        assert_eq!(live, expected);
        assert!(live.len() <= EVENT_BYTES, "no second allocation");
        let again = event(&publication(r#""x""#), r#""x""#, Some(2));
        assert!(again.starts_with(r#"{"type":"event","topic":"Qm3","replay":2,"eventId":"#));
    }

    #[test]
    fn answers_are_as_documented() {
        let subscribed = |last| Reply::Subscribed {
            channel: Channel::topic("Qm3"),
            presence: std::sync::Arc::<Snapshot>::default(),
            present: 0,
            last,
        };
        let id = MessageId::try_parse(EVENT).expect("it is one");
        let table = [
            (
                reply(&subscribed(None), Some(2)),
                json!({ "type": "subscribed", "id": 2, "topic": "Qm3", "last": null }),
            ),
            (
                reply(&subscribed(Some(id)), Some(2)),
                json!({ "type": "subscribed", "id": 2, "topic": "Qm3", "last": EVENT }),
            ),
            (reply(&Reply::Unsubscribed, Some(5)), json!({ "type": "unsubscribed", "id": 5 })),
            (
                Some(published(Some(4), Some((id, 17)))),
                json!({ "type": "published", "id": 4, "eventId": EVENT, "eventTimestamp": "17" }),
            ),
            (
                Some(published(Some(4), None)),
                json!({ "type": "published", "id": 4, "eventId": null, "eventTimestamp": null }),
            ),
            (
                Some(connected(None, [0; 9], 1_719_999_999, (5, 60))),
                json!({ "type": "connected", "connectionId": "AAAAAAAAAAAA", "expiresAt": 1_719_999_999, "replaySeconds": 60, "node": "0000000000000005" }),
            ),
            (
                Some(error(Some(2), &Fault::Token(TokenError::Expired))),
                json!({ "type": "error", "id": 2, "error": {
                    "message": "Realtime token validation failed: TOKEN_EXPIRED",
                    "code": "TOKEN_EXPIRED",
                } }),
            ),
            (
                Some(gap(&Channel::topic("Qm3"), Some(7))),
                json!({ "type": "subscription_error", "topic": "Qm3", "error": {
                    "message": "7 events were lost", "code": "GAP",
                } }),
            ),
        ];
        for (text, expected) in table {
            let text = text.expect("there is something to say");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), expected);
        }
        assert_eq!(reply(&Reply::Unsubscribed, None), None, "nobody asked");
    }

    proptest! {
        #[test]
        fn a_payload_arrives_as_it_was_sent(payload: String) {
            let raw = serde_json::to_string(&payload).expect("text is JSON");
            let message = format!(r#"{{"type":"publish","id":1,"channel":"c","payload": {raw} }}"#);
            let mut scratch = Scratch::default();
            let document = Document::from_text(&message, &mut scratch).expect("it is an object");
            let Ok(Request::Publish { payload: read, .. }) = read(&document).request else {
                panic!("{message}");
            };
            prop_assert_eq!(read.raw(), &raw);
            let text = event(&publication(&raw), read.raw(), None);
            let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(event["payload"].as_str(), Some(&*payload));
        }
    }
}
