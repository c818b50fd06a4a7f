//! Packets of clients of each interface, the way in which sessions decode them, and publications
//! besides the one of [`super::publication`].

use std::sync::{Arc, LazyLock};

use fanfare::broker::publish::message_id;
use fanfare::codec::json::{Document, Scratch};
use fanfare::codec::websocket::{Decoder, Message};
use fanfare::config::{Config, Limits};
use fanfare::interface::forge::wire as forge;
use fanfare::interface::insforge::command::Command;
use fanfare::interface::insforge::wire::Request;
use fanfare::interface::insforge::{engineio, socketio, wire as insforge};
use fanfare::interface::m2::wire as m2;
use fanfare::limits::MESSAGE_BYTES_MAX;
use fanfare::message::{Channel, Content, Member, MemberId, Publication};

use super::{AT, CHANNEL, EVENT, PAYLOAD};

/// The limits of a node that is not configured. They are made once, because making them costs more
/// than a step.
static LIMITS: LazyLock<Limits> = LazyLock::new(|| Config::defaults().limits);

/// A topic id of the usual length.
const TOPIC: &str = "Qm3AAAAAAAAAAAAAAAAAAA";

/// The message of M2 that subscribes to a resource.
pub(crate) const M2_SUBSCRIBE: &str =
    r#"{"action":"subscribe","resource":{"type":"kvStore","id":"World:store:key"}}"#;

/// Returns the packet of Socket.IO that subscribes to [`CHANNEL`].
pub(crate) fn subscribe() -> String {
    format!(r#"4217["REALTIME_SUBSCRIBE",{{"channel":"{CHANNEL}"}}]"#)
}

/// Returns the packet of Socket.IO that publishes on [`CHANNEL`].
pub(crate) fn publish() -> String {
    format!(
        r#"4218["REALTIME_PUBLISH",{{"channel":"{CHANNEL}","event":"{EVENT}","payload":{PAYLOAD}}}]"#
    )
}

/// Returns the message of Forge that publishes an event.
pub(crate) fn forge_publish() -> String {
    let payload = json_string(PAYLOAD);
    format!(
        r#"{{"type":"publish","id":4,"channel":"{CHANNEL}","payload":{payload},"options":{{}}}}"#
    )
}

/// Parses a packet as a worker's session does.
pub(crate) fn command(packet: &str) -> Command {
    let Ok(engineio::Packet::Message(data)) = engineio::decode(packet) else {
        panic!("not a message: {packet}")
    };
    let Ok(socketio::Packet::Event(event)) = socketio::decode(data) else {
        panic!("not an event: {data}")
    };
    let Request::Command(command) = insforge::request(&event, &LIMITS, |payload| payload.into())
    else {
        panic!("not a command: {data}")
    };
    command
}

/// Parses [`M2_SUBSCRIBE`] as a session of M2 does, and returns the length of the resource's id.
pub(crate) fn read_m2_subscribe(message: &str, scratch: &mut Scratch) -> usize {
    let document = Document::from_text(message, scratch).expect("it is an object");
    let Ok(m2::Request::Subscribe(_, id)) = m2::read(&document) else {
        panic!("not a subscribe: {message}")
    };
    id.len()
}

/// Parses a publish as a session of Forge does, and returns the length of its payload.
pub(crate) fn read_forge_publish(message: &str, scratch: &mut Scratch) -> usize {
    let document = Document::from_text(message, scratch).expect("it is an object");
    let Ok(forge::Request::Publish { payload, .. }) = forge::read(&document).request else {
        panic!("not a publish: {message}")
    };
    payload.raw().len()
}

/// Copies a client's text frame into the buffer, as the kernel does in a node, and decodes it there.
/// The text has `bytes` bytes.
pub(crate) fn unmask(decoder: &mut Decoder, buffer: &mut [u8], sent: &[u8], bytes: usize) {
    buffer.copy_from_slice(sent);
    let mut at = 0;
    let message = decoder.next(buffer, &mut at, MESSAGE_BYTES_MAX);
    assert!(matches!(message, Ok(Some(Message::Text(text))) if text.len() == bytes));
    assert_eq!(decoder.next(buffer, &mut at, MESSAGE_BYTES_MAX), Ok(None));
}

/// Returns an event of Forge with the same payload.
pub(crate) fn event() -> Publication {
    let content = Content::Event { payload: json_string(PAYLOAD).into() };
    Publication::new(message_id(AT, &mut rand::rng()), Channel::topic(TOPIC), AT, content)
}

/// Returns the announcement of a new member.
pub(crate) fn joined() -> Publication {
    let member = Member { id: MemberId::Connection([1; 15]), joined_at: AT };
    let content = Content::Joined(Arc::new(member), None);
    Publication::new(message_id(AT, &mut rand::rng()), Channel::from(CHANNEL), AT, content)
}

/// Returns a text as a JSON string.
fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}
