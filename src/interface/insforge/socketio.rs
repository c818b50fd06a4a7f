//! Socket.IO, protocol 5, server side: packets, and the collecting of
//! binary attachments. The text handled here is the data of an Engine.IO message packet; the text
//! made here is the whole Engine.IO packet.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::violation::Violation;
use crate::codec::json::push_json;
use crate::limits::{ATTACHMENTS_MAX, MESSAGE_BYTES_MAX};
use crate::message::AckId;

/// Event names that mean something to Socket.IO itself; they never travel as events.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A packet from a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// Enter a namespace; `auth` is a JSON object, or empty.
    Connect {
        /// Which.
        namespace: &'a str,
        /// JSON text.
        auth: &'a str,
    },
    /// Leave a namespace.
    Disconnect {
        /// Which.
        namespace: &'a str,
    },
    /// An event, complete.
    Event(Event<'a>),
    /// An event whose attachments follow.
    Incomplete(Pending),
    /// The answer to an event of ours. The node asks for none.
    Ack {
        /// Where.
        namespace: &'a str,
    },
}

/// An event with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Where.
    pub namespace: &'a str,
    /// The acknowledgement that the client waits for.
    pub ack: Option<AckId>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// The first argument, JSON text.
    pub first: Option<&'a str>,
    /// All arguments, JSON texts with commas between.
    pub arguments: &'a str,
}

/// An event that waits for its attachments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    namespace: Box<str>,
    ack: Option<AckId>,
    data: Box<str>,
    missing: usize,
    bytes: usize,
    attachments: Vec<Vec<u8>>,
}

/// Reads the data of a message packet.
///
/// # Errors
/// Whatever a stock server closes the transport for: an unknown type, a wrong attachment count,
/// JSON that does not parse, an event that is no array or has a reserved name.
pub fn decode(text: &str) -> Result<Packet<'_>, Violation> {
    let kind = *text.as_bytes().first().ok_or(Violation("empty Socket.IO packet"))?;
    if !kind.is_ascii_digit() {
        return Err(Violation("unknown Socket.IO packet type"));
    }
    let rest = &text[1..];
    let (attachments, rest) = match kind {
        b'5' | b'6' => attachment_count(rest)?,
        _ => (0, rest),
    };
    let (namespace, rest) = namespace(rest);
    let (ack, data) = ack_id(rest)?;
    match kind {
        b'0' if ack.is_none() => connect(namespace, data),
        b'1' if ack.is_none() && data.is_empty() => Ok(Packet::Disconnect { namespace }),
        b'2' => event(namespace, ack, data).map(Packet::Event),
        b'3' if ack.is_some() => array(data).map(|()| Packet::Ack { namespace }),
        b'5' if attachments == 0 => event(namespace, ack, data).map(Packet::Event),
        b'5' => {
            event(namespace, ack, data)?;
            Ok(Packet::Incomplete(Pending {
                namespace: namespace.into(),
                ack,
                data: data.into(),
                missing: attachments,
                bytes: data.len(),
                attachments: Vec::new(),
            }))
        }
        // The node never asks a client for an acknowledgement, so none with attachments is due.
        b'6' => Err(Violation("acknowledgement of nothing")),
        _ => Err(Violation("unknown or malformed Socket.IO packet")),
    }
}

fn attachment_count(text: &str) -> Result<(usize, &str), Violation> {
    let (count, rest) = text.split_once('-').ok_or(Violation("attachment count is missing"))?;
    match count.parse::<usize>() {
        Ok(n) if n > ATTACHMENTS_MAX => Err(Violation("too many attachments")),
        Ok(n) if count.bytes().all(|digit| digit.is_ascii_digit()) => Ok((n, rest)),
        _ => Err(Violation("attachment count is not a number")),
    }
}

fn namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

fn ack_id(text: &str) -> Result<(Option<AckId>, &str), Violation> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let id = text[..digits].parse().map_err(|_| Violation("acknowledgement id is too large"))?;
    Ok((Some(id), &text[digits..]))
}

fn connect<'a>(namespace: &'a str, auth: &'a str) -> Result<Packet<'a>, Violation> {
    let is_object = auth.trim_start().starts_with('{');
    if !auth.is_empty() && (!is_object || serde_json::from_str::<IgnoredAny>(auth).is_err()) {
        return Err(Violation("CONNECT payload is not an object"));
    }
    Ok(Packet::Connect { namespace, auth })
}

fn array(data: &str) -> Result<(), Violation> {
    match serde_json::from_str::<Vec<IgnoredAny>>(data) {
        Ok(_) => Ok(()),
        Err(_) => Err(Violation("payload is not an array")),
    }
}

fn event<'a>(
    namespace: &'a str,
    ack: Option<AckId>,
    data: &'a str,
) -> Result<Event<'a>, Violation> {
    let mut json = serde_json::Deserializer::from_str(data);
    let head = json.deserialize_seq(HeadVisitor).map_err(|_| Violation("event is not an array"))?;
    json.end().map_err(|_| Violation("text after the event"))?;
    let name: Cow<'a, str> = match head.name.get() {
        text if text.starts_with('"') => {
            serde_json::from_str::<Text<'a>>(text).map_err(|_| Violation("bad event name"))?.0
        }
        text if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Cow::Borrowed(text),
        _ => return Err(Violation("event name is not a string")),
    };
    if RESERVED_EVENTS.contains(&&*name) {
        return Err(Violation("reserved event name"));
    }
    let first = head.first.map(RawValue::get);
    let arguments = match first {
        // The first argument is a part of `data`, and only the closing bracket follows the last.
        Some(first) => {
            let start = first.as_ptr().addr() - data.as_ptr().addr();
            data[start..].trim_end().strip_suffix(']').unwrap_or_default()
        }
        None => "",
    };
    Ok(Event { namespace, ack, name, first, arguments })
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The name and first argument of an event; the other arguments are checked and left where they
/// are, so that a packet of half a million of them costs no memory.
struct Head<'a> {
    name: &'a RawValue,
    first: Option<&'a RawValue>,
}

struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = Head<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array that begins with an event name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Head<'de>, A::Error> {
        let missing = || serde::de::Error::invalid_length(0, &"an event name");
        let name = items.next_element::<&RawValue>()?.ok_or_else(missing)?;
        let first = items.next_element::<&RawValue>()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Head { name, first })
    }
}

impl Pending {
    /// Takes the next attachment. True when it was the last.
    ///
    /// # Errors
    /// When text and attachments together exceed [`MESSAGE_BYTES_MAX`].
    pub fn attach(&mut self, attachment: &[u8]) -> Result<bool, Violation> {
        self.bytes += attachment.len();
        if self.bytes > MESSAGE_BYTES_MAX {
            return Err(Violation("attachments are too large"));
        }
        self.attachments.push(attachment.to_vec());
        self.missing -= 1;
        Ok(self.missing == 0)
    }

    /// The event, its arguments with placeholders where the attachments belong.
    ///
    /// # Errors
    /// None that [`decode`] or [`Pending::inlined`] does not find.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }

    /// What came.
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }

    /// The event's array with each attachment as JSON shows a Node buffer:
    /// `{"type":"Buffer","data":[1,2]}`.
    ///
    /// # Errors
    /// A placeholder that names no attachment.
    pub fn inlined(&self) -> Result<Inlined, Violation> {
        let mut data: serde_json::Value =
            serde_json::from_str(&self.data).map_err(|_| Violation("event is not JSON"))?;
        inline(&mut data, &self.attachments)?;
        let data = data.to_string();
        Ok(Inlined { namespace: self.namespace.clone(), ack: self.ack, data })
    }
}

/// A binary event as plain JSON.
#[derive(Debug)]
pub struct Inlined {
    namespace: Box<str>,
    ack: Option<AckId>,
    data: String,
}

impl Inlined {
    /// The event.
    ///
    /// # Errors
    /// None that was not found before.
    pub fn event(&self) -> Result<Event<'_>, Violation> {
        event(&self.namespace, self.ack, &self.data)
    }
}

fn inline(value: &mut serde_json::Value, attachments: &[Vec<u8>]) -> Result<(), Violation> {
    use serde_json::Value;
    match value {
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = object.get("num").and_then(Value::as_u64);
            let attachment = number
                .and_then(|number| attachments.get(usize::try_from(number).ok()?))
                .ok_or(Violation("placeholder without attachment"))?;
            *value = serde_json::json!({ "type": "Buffer", "data": attachment });
            Ok(())
        }
        Value::Object(object) => object.values_mut().try_for_each(|v| inline(v, attachments)),
        Value::Array(array) => array.iter_mut().try_for_each(|v| inline(v, attachments)),
        _ => Ok(()),
    }
}

/// `40{"sid":"…"}`: the client is in the namespace.
pub fn connected(namespace: &str, socket_id: &str) -> String {
    let mut out = head('0', namespace);
    // Socket ids are base64: nothing in them needs escaping.
    let _ = write!(out, r#"{{"sid":"{socket_id}"}}"#);
    out
}

/// `40{"sid":"…","pid":"…"}`: the client has entered the main namespace, and may come back to what
/// it has there after a cut.
pub fn connected_for_good(socket_id: &str, private_id: &str) -> String {
    format!(r#"40{{"sid":"{socket_id}","pid":"{private_id}"}}"#)
}

/// `44{"message":"…"}`: the client may not enter.
pub fn connect_error(namespace: &str, message: &str) -> String {
    let mut out = head('4', namespace);
    out.push_str(r#"{"message":"#);
    push_json(&mut out, message);
    out.push('}');
    out
}

/// `42["name",…]`: an event whose arguments are JSON text.
pub fn event_text(namespace: &str, name: &str, arguments: &str) -> String {
    let mut out = head('2', namespace);
    out.push('[');
    push_json(&mut out, name);
    if !arguments.is_empty() {
        out.push(',');
        out.push_str(arguments);
    }
    out.push(']');
    out
}

/// `43<id>[…]`: an acknowledgement whose arguments are JSON text.
pub fn ack_text(namespace: &str, id: AckId, arguments: &str) -> String {
    let mut out = head('3', namespace);
    let _ = write!(out, "{id}[{arguments}]");
    out
}

/// Makes an event or acknowledgement text announce `attachments` binary frames.
pub fn with_attachments(text: &str, attachments: usize) -> String {
    let kind = if text.starts_with("42") { '5' } else { '6' };
    format!("4{kind}{attachments}-{}", &text[2..])
}

fn head(kind: char, namespace: &str) -> String {
    let mut out = String::with_capacity(64);
    out.push('4');
    out.push(kind);
    if namespace != "/" {
        out.push_str(namespace);
        out.push(',');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Event<'_> {
        match decode(text) {
            Ok(Packet::Event(event)) => event,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn events_with_everything() {
        let event = parsed(r#"2/custom,17["na\u006de", {"a":1} , [2],"x"] "#);
        assert_eq!((event.namespace, event.ack), ("/custom", Some(17)));
        assert_eq!(event.name, "name");
        assert_eq!(event.first, Some(r#"{"a":1}"#));
        assert_eq!(event.arguments, r#"{"a":1} , [2],"x""#);
        let bare = parsed(r#"2["e"]"#);
        assert_eq!((bare.namespace, bare.ack, bare.first, bare.arguments), ("/", None, None, ""));
        assert_eq!(parsed("2[5,1]").name, "5");
    }

    #[test]
    fn connects_and_disconnects() {
        assert_eq!(decode("0"), Ok(Packet::Connect { namespace: "/", auth: "" }));
        let auth = r#"{"token":"x"}"#;
        assert_eq!(decode(r#"0/a,{"token":"x"}"#), Ok(Packet::Connect { namespace: "/a", auth }));
        assert_eq!(decode("1/a,"), Ok(Packet::Disconnect { namespace: "/a" }));
        assert_eq!(decode("1"), Ok(Packet::Disconnect { namespace: "/" }));
    }

    #[test]
    fn violations() {
        for bad in [
            "",
            "x",
            "9",
            "2",
            "2{}",
            "2[",
            "2[]",
            "2[{}]",
            "2[null]",
            r#"2["a"]x"#,
            r#"2["connect"]"#,
            r#"2["disconnecting",1]"#,
            "0[]",
            "0\"x\"",
            "0{",
            "1{}",
            "3[]",
            "31{}",
            "4{}",
            r#"511-["a"]"#,
            r#"5-["a"]"#,
            r#"5+1-["a"]"#,
            r#"5["a"]"#,
            "61-1[]",
            r#"299999999999999999999["a"]"#,
        ] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attachments_are_collected_and_can_be_inlined() {
        let text =
            r#"52-3["bin",{"a":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}]"#;
        let Ok(Packet::Incomplete(mut pending)) = decode(text) else { panic!("incomplete") };
        assert_eq!(pending.attach(&[1]), Ok(false));
        assert_eq!(pending.attach(&[2, 3]), Ok(true));
        assert_eq!(pending.event().expect("valid").ack, Some(3));
        let inlined = pending.inlined().expect("both are there");
        let event = inlined.event().expect("valid");
        assert_eq!(event.first, Some(r#"{"a":{"data":[2,3],"type":"Buffer"}}"#));
    }

    #[test]
    fn attachments_are_bounded_together() {
        let Ok(Packet::Incomplete(mut pending)) = decode(r#"52-["b"]"#) else { panic!("text") };
        assert_eq!(pending.attach(&vec![0; MESSAGE_BYTES_MAX - 5]), Ok(false));
        assert!(pending.attach(&[0; 9]).is_err());
    }

    #[test]
    fn a_placeholder_must_name_an_attachment() {
        let Ok(Packet::Incomplete(mut pending)) =
            decode(r#"51-["b",{"_placeholder":true,"num":7}]"#)
        else {
            panic!("text")
        };
        assert_eq!(pending.attach(&[0]), Ok(true));
        assert!(pending.inlined().is_err());
    }

    #[test]
    fn texts() {
        assert_eq!(connected("/", "abc"), r#"40{"sid":"abc"}"#);
        assert_eq!(connect_error("/x", "no\"pe"), r#"44/x,{"message":"no\"pe"}"#);
        assert_eq!(event_text("/", "e", "1,2"), r#"42["e",1,2]"#);
        assert_eq!(ack_text("/x", 7, "1"), "43/x,7[1]");
        assert_eq!(with_attachments(r#"42["e"]"#, 1), r#"451-["e"]"#);
        assert_eq!(with_attachments("437[1]", 2), "462-7[1]");
    }

    proptest! {
        #[test]
        fn no_text_is_a_surprise(text: String, kind in "[0-9]{1,2}-?/?[a-z]?,?[0-9]?") {
            let _ = decode(&text);
            let _ = decode(&format!("{kind}{text}"));
        }
    }
}
