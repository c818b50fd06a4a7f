//! Packets from clients.

use serde::de::IgnoredAny;

use super::event::{Event, event};
use super::pending::Pending;
use crate::interface::insforge::violation::Violation;
use crate::limits::ATTACHMENTS_MAX;
use crate::message::AckId;

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
            Ok(Packet::Incomplete(Pending::new(namespace, ack, data, attachments)))
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
