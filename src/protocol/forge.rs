//! Forge Realtime for subscribers (contract section 3.1): JSON text messages, one object each.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::socketio::push_json;
use crate::message::{
    AckId, Channel, Entity, MessageId, Millis, OVERRIDES_PROBLEM, Publication, Refusal, ReplayWish,
    Reply, forge_channel_problem, overrides,
};
use crate::wire::json::{Document, Object, Text, Value};

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
    /// The client has not proved that it may.
    Unauthorized,
    /// A newer context token is that of another place.
    OtherContext,
    /// A realtime token is no good, for this reason.
    Token(&'static str),
    /// The event cannot be published from this context.
    PublishFailed,
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
    if let Some(problem) = forge_channel_problem(channel) {
        return Err(Fault::Input(problem));
    }
    let is_global = match object.get("global") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_global)) => is_global,
        Some(_) => return Err(Fault::Input("global: Expected boolean")),
    };
    let options = match object.get("options") {
        None | Some(Value::Null) => {
            return Ok(Target { channel, is_global, token: None, overrides: None });
        }
        Some(Value::Object(options)) => options,
        Some(_) => return Err(Fault::Input("options: Expected object")),
    };
    let token = match options.get("token") {
        None | Some(Value::Null) => None,
        Some(Value::Text(token)) => Some(token.value).filter(|token| !token.is_empty()),
        Some(_) => return Err(Fault::Input("token: Expected string")),
    };
    let overrides = if is_global { None } else { read_overrides(options)? };
    Ok(Target { channel, is_global, token, overrides })
}

fn read_overrides(options: Object<'_, '_>) -> Result<Option<Vec<Entity>>, Fault> {
    let entities = match options.get("contextOverrides") {
        None => return Ok(None),
        Some(Value::Array(names)) => {
            overrides(names.map(|name| name.as_text().map(|text| text.value)))
        }
        Some(_) => None,
    };
    entities.map(Some).ok_or(Fault::Input(OVERRIDES_PROBLEM))
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

/// The client's context is proved until then, in seconds since the epoch.
pub fn connected(id: Option<AckId>, key: [u8; 9], expires_at: u64) -> String {
    let name = URL_SAFE_NO_PAD.encode(key);
    let mut out = begin("connected", id);
    let _ = write!(out, r#","connectionId":"{name}","expiresAt":{expires_at}}}"#);
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
    let token_error;
    let (message, code) = match fault {
        Fault::Message => ("Invalid message format", "INVALID_MESSAGE"),
        Fault::Input(problem) => (*problem, "INVALID_INPUT"),
        Fault::Unauthorized => ("Unauthorized request", "UNAUTHORIZED"),
        Fault::OtherContext => ("Unauthorized request", "CONTEXT_MISMATCH"),
        Fault::Token(code) => {
            token_error = format!("Realtime token validation failed: {code}");
            (token_error.as_str(), *code)
        }
        Fault::PublishFailed => ("Error publishing event to channel", "PUBLISH_FAILED"),
        Fault::PayloadTooLarge => ("The payload is too long", "PAYLOAD_TOO_LARGE"),
        Fault::RateLimited => ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
        Fault::Overloaded => ("The node is overloaded; try again in a second", "OVERLOADED"),
        Fault::TooManySubscriptions => {
            ("This connection has as many subscriptions as it may", "TOO_MANY_SUBSCRIPTIONS")
        }
    };
    push_error(&mut out, message, code);
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
    let message = "Realtime token validation failed: TOKEN_EXPIRED";
    subscription_error(topic, message, "TOKEN_EXPIRED")
}

fn subscription_error(topic: &Channel, message: &str, code: &str) -> String {
    let mut out = begin("subscription_error", None);
    out.push_str(r#","topic":"#);
    push_json(&mut out, topic.as_str());
    push_error(&mut out, message, code);
    out
}

fn begin(kind: &str, id: Option<AckId>) -> String {
    let mut out = format!(r#"{{"type":"{kind}""#);
    if let Some(id) = id {
        let _ = write!(out, r#","id":{id}"#);
    }
    out
}

fn push_error(out: &mut String, message: &str, code: &str) {
    out.push_str(r#","error":{"message":"#);
    push_json(out, message);
    let _ = write!(out, r#","code":"{code}"}}}}"#);
}
