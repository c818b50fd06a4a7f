//! Packets for clients.

use std::fmt::Write as _;

use crate::codec::json::push_json;
use crate::message::AckId;

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
