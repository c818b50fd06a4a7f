//! Events of clients: name and arguments.

use std::borrow::Cow;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::interface::insforge::violation::Violation;
use crate::message::AckId;

/// Event names that Socket.IO reserves for itself. No event may have one of them.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// An event with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The namespace that the event is sent to.
    pub namespace: &'a str,
    /// The id of the acknowledgement that the client requests; `None` if it requests none.
    pub ack: Option<AckId>,
    /// The event's name. A name that is a number is its JSON text.
    pub name: Cow<'a, str>,
    /// The first argument, as JSON text.
    pub first: Option<&'a str>,
    /// All arguments, as JSON texts separated by commas; empty if the event has none.
    pub arguments: &'a str,
}

/// Parses an event from `data`, the JSON array of its name and arguments.
///
/// # Errors
/// If `data` is not such an array, or the name is reserved.
pub(super) fn event<'a>(
    namespace: &'a str,
    ack: Option<AckId>,
    data: &'a str,
) -> Result<Event<'a>, Violation> {
    let mut json = serde_json::Deserializer::from_str(data);
    let head = json.deserialize_seq(HeadVisitor).map_err(|_| Violation("event is not an array"))?;
    json.end().map_err(|_| Violation("text after the event"))?;
    let name: Cow<'a, str> = match head.name.get() {
        name if name.starts_with('"') => text(head.name).ok_or(Violation("bad event name"))?,
        name if name.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Cow::Borrowed(name),
        _ => return Err(Violation("event name is not a string")),
    };
    if RESERVED_EVENTS.contains(&&*name) {
        return Err(Violation("reserved event name"));
    }
    let first = head.first.map(RawValue::get);
    let arguments = match first {
        // `first` is a slice of `data`, and only the closing bracket follows the last argument.
        Some(first) => {
            let start = first.as_ptr().addr() - data.as_ptr().addr();
            data[start..].trim_end().strip_suffix(']').unwrap_or_default()
        }
        None => "",
    };
    Ok(Event { namespace, ack, name, first, arguments })
}

/// Returns the string that a JSON text holds; `None` if it is another value.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// The name and the first argument of an event. The other arguments are only checked, because a
/// packet can hold half a million of them and their copies would take memory.
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
