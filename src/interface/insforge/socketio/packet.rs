//! Decodes the Socket.IO packets that clients send.

use serde::de::IgnoredAny;

use super::event::{Event, event};
use super::pending::Pending;
use crate::interface::insforge::violation::Violation;
use crate::limits::ATTACHMENTS_MAX;
use crate::message::AckId;

/// A packet from a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// The client enters a namespace.
    Connect {
        /// The namespace to enter.
        namespace: &'a str,
        /// The credential and other data of the client: the text of a JSON object, or empty.
        auth: &'a str,
    },
    /// The client leaves a namespace.
    Disconnect {
        /// The namespace to leave.
        namespace: &'a str,
    },
    /// An event without attachments.
    Event(Event<'a>),
    /// An event whose attachments follow in binary packets.
    Incomplete(Pending),
    /// An acknowledgement of an event of the server. The node never requests one.
    Ack {
        /// The namespace of the acknowledged event.
        namespace: &'a str,
    },
}

/// Decodes the data of a message packet.
///
/// # Errors
/// In the cases in which a stock server closes the transport: an unknown type, a wrong attachment
/// count, invalid JSON, an event that is not an array or has a reserved name.
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
            Ok(Packet::Incomplete(Pending::new(namespace, ack, data, attachments)))
        }
        // The node never requests an acknowledgement, so one with attachments is an error.
        b'6' => Err(Violation("an acknowledgement that was not requested")),
        _ => Err(Violation("unknown or malformed Socket.IO packet")),
    }
}

/// Returns the acknowledgement id that the beginning of an event asks for; `None` if it asks for
/// none, or the id is not whole.
pub fn ack_of_start(start: &str) -> Option<AckId> {
    let rest = match start.as_bytes().first()? {
        b'2' => &start[1..],
        b'5' => attachment_count(&start[1..]).ok()?.1,
        _ => return None,
    };
    let (ack, rest) = ack_id(namespace(rest).1).ok()?;
    ack.filter(|_| rest.starts_with('['))
}

/// Splits the number of attachments from the rest of a packet.
fn attachment_count(text: &str) -> Result<(usize, &str), Violation> {
    let (count, rest) = text.split_once('-').ok_or(Violation("attachment count is missing"))?;
    match count.parse::<usize>() {
        Ok(n) if n > ATTACHMENTS_MAX => Err(Violation("too many attachments")),
        Ok(n) if count.bytes().all(|digit| digit.is_ascii_digit()) => Ok((n, rest)),
        _ => Err(Violation("attachment count is not a number")),
    }
}

/// Splits the namespace from the rest of a packet. Without one, the packet is for `/`.
fn namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

/// Splits the acknowledgement id, if there is one, from the rest of a packet.
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
