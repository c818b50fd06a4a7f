//! Parses the messages of clients.

use super::{Fault, Selection};
use crate::codec::json::{Document, Object, Text, Value};
use crate::interface::forge::nouns::{Entity, channel_problem};
use crate::message::{AckId, MessageId, ReplayWish, given_id};

/// Largest id of a request: 2^53 - 1, the largest integer that a double holds exactly.
const ID_MAX: f64 = 9_007_199_254_740_991.0;

/// A message of a client, parsed as a request.
#[derive(Debug)]
pub struct Said<'t, 'a> {
    /// The id of the request, which the answer repeats; `None` if it is missing or not valid.
    pub id: Option<AckId>,
    /// The request, or why it is refused.
    pub request: Result<Request<'t, 'a>, Fault>,
}

/// A request of a client.
#[derive(Debug)]
pub enum Request<'t, 'a> {
    /// Proves a context with this context token, or renews the proof.
    Connect(&'a str),
    /// Subscribes to a channel.
    Subscribe {
        /// The channel, within the caller's scope or global.
        to: Target<'a>,
        /// The earlier events that the client wants.
        replay: ReplayWish,
    },
    /// Publishes an event on a channel.
    Publish {
        /// The channel, within the caller's scope or global.
        to: Target<'a>,
        /// The payload, a JSON string.
        payload: Text<'t, 'a>,
        /// The id that the publisher has given the event; `None` for a new one.
        id: Option<MessageId>,
    },
    /// Unsubscribes from the topic with this id.
    Unsubscribe(&'a str),
}

/// The channel of a request, as the client describes it.
#[derive(Debug)]
pub struct Target<'a> {
    /// The name, which is valid.
    pub channel: &'a str,
    /// Whether the client means the global channel of that name.
    pub is_global: bool,
    /// The realtime token whose claims narrow the topic.
    pub token: Option<&'a str>,
    /// The entities that replace the default scope; `None` for the default scope.
    pub overrides: Option<Vec<Entity>>,
}

/// Parses a message. Its refusal carries an id only if the message has a valid one.
pub fn read<'t, 'a>(document: &'t Document<'a>) -> Said<'t, 'a> {
    let object = document.object();
    // One walk for the members of most messages. A walk for each costs a publish 1,000
    // instructions more.
    let names = ["type", "id", "channel", "global", "options"];
    let [kind, id, channel, global, options] = object.members(&names);
    match (id.and_then(read_id), kind) {
        (None, _) => Said { id: None, request: Err(Fault::Message) },
        (id, Some(Value::Text(kind))) => {
            let place = Place { channel, global, options };
            Said { id, request: read_request(kind.value, object, place) }
        }
        (id, _) => Said { id, request: Err(Fault::Message) },
    }
}

fn read_id(value: Value<'_, '_>) -> Option<AckId> {
    let Value::Number(number) = value else { return None };
    let is_id = number.fract() == 0.0 && (0.0..=ID_MAX).contains(&number);
    is_id.then_some(number as AckId)
}

fn read_request<'t, 'a>(
    kind: &str,
    object: Object<'t, 'a>,
    place: Place<'t, 'a>,
) -> Result<Request<'t, 'a>, Fault> {
    match kind {
        "connect" => match object.get("contextToken") {
            Some(Value::Text(token)) => Ok(Request::Connect(token.value)),
            _ => Err(Fault::Input("contextToken: Expected string")),
        },
        "subscribe" => {
            let replay = place.options;
            Ok(Request::Subscribe { to: place.read()?, replay: read_replay(replay)? })
        }
        "publish" => match object.members(&["payload", "eventId"]) {
            [Some(Value::Text(payload)), id] => {
                let to = place.read()?;
                let id = given(id).map_err(Fault::Input)?;
                Ok(Request::Publish { to, payload, id })
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

/// Reads the id that a publisher gives its event, which may be absent or `null`.
///
/// # Errors
/// A text for the publisher if the value is not an id.
pub fn given(member: Option<Value<'_, '_>>) -> Result<Option<MessageId>, &'static str> {
    let id = match member {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_text().and_then(|text| given_id(text.value)),
    };
    id.map(Some).ok_or("eventId: Expected a UUID that is not nil")
}

/// The members of a message that describe a channel, not checked yet.
struct Place<'t, 'a> {
    channel: Option<Value<'t, 'a>>,
    global: Option<Value<'t, 'a>>,
    options: Option<Value<'t, 'a>>,
}

impl<'a> Place<'_, 'a> {
    fn read(self) -> Result<Target<'a>, Fault> {
        let Some(Value::Text(channel)) = self.channel else {
            return Err(Fault::Input("channel: Expected string"));
        };
        let channel = channel.value;
        if let Some(problem) = channel_problem(channel) {
            return Err(Fault::Channel(problem));
        }
        let is_global = match self.global {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_global)) => is_global,
            Some(_) => return Err(Fault::Input("global: Expected boolean")),
        };
        let Selection { token, overrides } = Selection::read(self.options, is_global)?;
        Ok(Target { channel, is_global, token, overrides })
    }
}

fn read_replay(options: Option<Value<'_, '_>>) -> Result<ReplayWish, Fault> {
    let Some(Value::Object(options)) = options else { return Ok(ReplayWish::default()) };
    let [seconds, after] = options.members(&["replaySeconds", "after"]);
    let seconds = match seconds {
        None | Some(Value::Null) => 0,
        // The cast saturates. The session lowers the value to what the node keeps.
        Some(Value::Number(seconds)) if seconds >= 0.0 => seconds.ceil() as u32,
        Some(_) => return Err(Fault::Input("replaySeconds: Expected a number, 0 or more")),
    };
    let after = match after {
        None | Some(Value::Null) => None,
        Some(Value::Text(id)) => {
            let id = MessageId::try_parse(id.value);
            Some(id.map_err(|_| Fault::Input("after: Expected the id of an event"))?)
        }
        Some(_) => return Err(Fault::Input("after: Expected string")),
    };
    Ok(ReplayWish { seconds, after, behind: None })
}
