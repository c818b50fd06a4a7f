//! Encodes the Socket.IO packets that the node sends to clients.

use std::fmt::Write as _;

use crate::codec::json::push_json;
use crate::message::AckId;

/// Returns the packet that tells a client that it has entered a namespace: `40{"sid":"…"}`.
pub fn connected(namespace: &str, socket_id: &str) -> String {
    let mut out = head('0', namespace);
    // Socket ids are base64, so they need no escaping in JSON.
    let _ = write!(out, r#"{{"sid":"{socket_id}"}}"#);
    out
}

/// Returns the packet that tells a client that it has entered the main namespace, with the private
/// id by which it can resume its session after a cut: `40{"sid":"…","pid":"…"}`.
pub fn connected_for_good(socket_id: &str, private_id: &str) -> String {
    format!(r#"40{{"sid":"{socket_id}","pid":"{private_id}"}}"#)
}

/// Returns the packet that refuses a CONNECT: `44{"message":"…"}`. A code and a text for people, if
/// there are any, become its `data`.
pub fn connect_error(namespace: &str, message: &str, data: Option<(&str, &str)>) -> String {
    let mut out = head('4', namespace);
    out.push_str(r#"{"message":"#);
    push_json(&mut out, message);
    if let Some((code, why)) = data {
        out.push_str(r#","data":{"code":"#);
        push_json(&mut out, code);
        out.push_str(r#","message":"#);
        push_json(&mut out, why);
        out.push('}');
    }
    out.push('}');
    out
}

/// Returns the packet of an event: `42["name",…]`. `arguments` are JSON texts separated by commas.
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

/// Returns the packet of an acknowledgement: `43<id>[…]`. `arguments` are JSON texts separated by
/// commas.
pub fn ack_text(namespace: &str, id: AckId, arguments: &str) -> String {
    let mut out = head('3', namespace);
    let _ = write!(out, "{id}[{arguments}]");
    out
}

/// Returns the packet of an event or acknowledgement, changed so that it announces `attachments`
/// binary packets behind it.
pub fn with_attachments(text: &str, attachments: usize) -> String {
    let kind = if text.starts_with("42") { '5' } else { '6' };
    format!("4{kind}{attachments}-{}", &text[2..])
}

/// Returns the beginning of a packet of this kind: up to the namespace and its comma, which are
/// left out for `/`.
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
