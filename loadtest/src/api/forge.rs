//! Forge Realtime: JSON messages for clients, HTTP with an invocation for publishers.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, Packet, Reply, Script, Step, Word, header_value};
use crate::handshake::Handshake;
use crate::http;
use crate::publisher::Schedule;
use crate::stamp::{STAMP_BYTES, Template};
use crate::target::Target;

const PATH: &str = "/forge/realtime/v1/ws";
const SUBPROTOCOL: &str = "forge-realtime.v1";
/// The usual start of an event. An event that begins differently is recognized too, only slower.
const EVENT: &[u8] = br#"{"type":"event","#;

/// The floor's first message.
pub(super) const GREETING: &str =
    r#"{"type":"connected","connectionId":"floor","expiresAt":4102444800}"#;

/// Ids and times of a node differ from publication to publication, but have the same length.
const TOPIC: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const EVENT_ID: &str = "00000000-0000-7000-8000-000000000000";
const EVENT_TIMESTAMP: &str = "1000000000000";

/// The members by which a message is recognized.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    id: Option<u64>,
    error: Option<MessageError>,
}

/// Why a subscription misses events or has ended.
#[derive(Deserialize)]
struct MessageError {
    code: String,
    #[serde(default)]
    message: String,
}

/// An answer to a publication, whose member `eventId` is null if the topic has no subscriber.
#[derive(Deserialize)]
struct Published {
    #[serde(rename = "eventId")]
    event_id: Option<String>,
}

/// Returns the script of a client. The client sends its token in the upgrade request, and the
/// server then greets it.
pub(super) fn script(
    target: &Target,
    context_token: Option<&str>,
    channel: Option<&str>,
) -> Result<Script> {
    let token = context_token.map(|token| header_value(token, "context token")).transpose()?;
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|it| ("Authorization", it.as_str())).collect();
    let subscribe = |channel| json!({ "type": "subscribe", "id": 1, "channel": channel });
    let subscribe = channel.map(|channel| subscribe(channel).to_string());
    let subscribed = channel.map(|_| Step { awaited: Word::Subscribed, answer: None });
    let connected = Step { awaited: Word::Connected, answer: subscribe };
    Ok(Script {
        api: Api::Forge,
        handshake: Handshake::upgrade(target, PATH, Some(SUBPROTOCOL), &headers),
        opening: None,
        steps: [connected].into_iter().chain(subscribed).collect(),
        plain: None,
    })
}

/// Returns the request of a publication, to be stamped.
pub(super) fn request(target: &Target, invocation: &str, schedule: &Schedule) -> Result<Template> {
    let invocation = header_value(invocation, "invocation")?;
    ensure!(!invocation.contains(','), "an invocation must not contain a comma");
    let before = format!(r#"{{"name":{},"payload":"#, Value::from(schedule.channel.as_str()));
    // The three bytes are the quotes of the payload and the closing brace of the body.
    let body_bytes = before.len() + schedule.payload_bytes + 3;
    let credential = format!("forge-proxy-authorization: Forge as=app,id={invocation}");
    let head = http::head(target, "POST /forge/realtime/v1/publish", &credential, body_bytes);
    payload(&format!("{head}{before}"), schedule.payload_bytes, "}")
}

/// Classifies a message from the server.
pub(super) fn read(text: &[u8]) -> Packet<'_> {
    if text.starts_with(EVENT) {
        return Packet::Event(text);
    }
    let message = serde_json::from_slice::<Message>(text);
    match message.as_ref().map(|message| message.kind.as_str()) {
        Ok("connected") => Packet::Word(Word::Connected),
        Ok("subscribed") => Packet::Word(Word::Subscribed),
        Ok("event") => Packet::Event(text),
        Ok("subscription_error") => Packet::Complaint(text),
        Ok("error") => Packet::Refused(text),
        _ => Packet::Other,
    }
}

/// Returns how many events an error of a subscription says were left out, if it is a gap notice. The
/// number is in its sentence.
pub(super) fn gap(text: &[u8]) -> Option<Option<u64>> {
    let error = serde_json::from_slice::<Message>(text).ok()?.error?;
    let number = error.message.split(' ').next().and_then(|first| first.parse().ok());
    (error.code == "GAP").then_some(number)
}

/// Whether a successful answer contains no event id: then no subscriber has the invocation's
/// context.
pub(super) fn reached_nobody(answer: &[u8]) -> bool {
    serde_json::from_slice::<Published>(answer).is_ok_and(|answer| answer.event_id.is_none())
}

/// Returns a publication as a node delivers it.
pub(super) fn delivered(schedule: &Schedule) -> Result<Template> {
    let event = format!(r#"{{"type":"event","topic":"{TOPIC}","eventId":"{EVENT_ID}","#);
    let event = format!(r#"{event}"eventTimestamp":"{EVENT_TIMESTAMP}","payload":"#);
    payload(&event, schedule.payload_bytes, "}")
}

/// Returns the floor's answer to a message; `None` if it needs none.
pub(super) fn reply(text: &[u8]) -> Option<Reply> {
    let message: Message = serde_json::from_slice(text).ok()?;
    if message.kind != "subscribe" {
        return None;
    }
    let subscribed = json!({
        "type": "subscribed",
        "id": message.id,
        "topic": TOPIC,
        "last": null,
    });
    Some(Reply { text: subscribed.to_string(), subscribes: true })
}

/// Returns a payload between `before` and `after`: a string of `payload_bytes` bytes without its
/// quotes, in which nothing has to be escaped.
fn payload(before: &str, payload_bytes: usize, after: &str) -> Result<Template> {
    let padding = payload_bytes.checked_sub(STAMP_BYTES);
    let padding = padding.with_context(|| format!("less than {STAMP_BYTES} bytes"))?;
    let padding = "x".repeat(padding);
    Ok(Template::new(&format!("{before}\""), &format!("{padding}\"{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Reader, Stamp};

    /// The message that a node delivered for the payload below, published on `load:1`.
    const DELIVERED: &str = concat!(
        r#"{"type":"event","topic":"Cj5_-kBzarZeBS9WRvMj2w","#,
        r#""eventId":"01a2031a-9d7c-72e9-96e7-53719142f454","eventTimestamp":"1795348405628","#,
        r#""payload":"@0000000012:0000000000000000345xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#
    );
    const STAMP: Stamp = Stamp { sequence: 12, due_ns: 345 };

    fn target() -> Target {
        "http://127.0.0.1:1".parse().unwrap()
    }

    fn schedule(payload_bytes: usize) -> Schedule {
        Schedule {
            channel: "c\"d".to_owned(),
            event: "load".to_owned(),
            payload_bytes,
            rate: 1.0,
            publications: 1,
        }
    }

    #[test]
    fn names_are_quoted_as_json() {
        let subscriber = script(&target(), Some("e.y.J"), Some("c\"d")).unwrap();
        let said: Value =
            serde_json::from_str(subscriber.steps[0].answer.as_ref().unwrap()).unwrap();
        assert_eq!(said, json!({ "type": "subscribe", "id": 1, "channel": "c\"d" }));
        let silent = script(&target(), Some("e.y.J"), None).unwrap();
        assert!(silent.steps.len() == 1 && silent.steps[0].answer.is_none());
    }

    #[test]
    fn a_credential_that_would_break_its_header_is_refused_and_not_shown() {
        for bad in ["se\r\ncret", "se\u{7f}cret", "s\u{e9}cret"] {
            let errors = [
                script(&target(), Some(bad), None).err().unwrap(),
                request(&target(), bad, &schedule(64)).err().unwrap(),
            ];
            assert!(errors.iter().all(|error| !format!("{error:#}").contains("cret")));
        }
        for bad in ["", "inv-1,accountId=x", "inv-1 x"] {
            assert!(request(&target(), bad, &schedule(64)).is_err(), "{bad}");
        }
        assert!(script(&target(), Some(""), None).is_err());
        // A shell's `$(…)` removes a final newline, but reading a file keeps it.
        assert!(script(&target(), Some("e.y.J\n"), None).is_ok());
    }

    #[test]
    fn messages_are_sorted() {
        let of = |kind: &str| format!(r#"{{"id":1,"type":"{kind}"}}"#).into_bytes();
        assert_eq!(read(&of("connected")), Packet::Word(Word::Connected));
        assert_eq!(read(&of("subscribed")), Packet::Word(Word::Subscribed));
        for event in [of("event"), br#"{"type":"event","payload":"x"}"#.to_vec()] {
            assert_eq!(read(&event), Packet::Event(&event));
        }
        let (complaint, refusal) = (of("subscription_error"), of("error"));
        assert_eq!(read(&complaint), Packet::Complaint(&complaint));
        assert_eq!(read(&refusal), Packet::Refused(&refusal));
        assert_eq!(read(&of("unsubscribed")), Packet::Other);
        let told = |code: &str, message: &str| {
            let error = json!({ "message": message, "code": code });
            let text = json!({ "type": "subscription_error", "topic": "Qm3", "error": error });
            gap(text.to_string().as_bytes())
        };
        assert_eq!(told("GAP", "54 events were lost"), Some(Some(54)));
        assert_eq!(told("GAP", "Events may have been lost"), Some(None));
        assert_eq!(told("TOKEN_EXPIRED", "54 events were lost"), None);
        assert_eq!(read(b"40"), Packet::Other);
    }

    #[test]
    fn only_an_answer_with_an_id_was_heard_by_somebody() {
        assert!(reached_nobody(br#"{"eventId":null,"eventTimestamp":null,"errors":null}"#));
        assert!(!reached_nobody(br#"{"eventId":"e","eventTimestamp":"1","errors":null}"#));
    }

    #[test]
    fn the_payload_has_the_asked_for_size_and_needs_no_escaping() {
        for bytes in [31, 48, 4_096] {
            let mut template = payload("", bytes, "").unwrap();
            let text = template.stamped(STAMP);
            let payload: String = serde_json::from_slice(text).unwrap();
            assert_eq!((payload.len(), text.len()), (bytes, bytes + 2));
        }
        assert!(payload("", 30, "").is_err());
        let mut template = request(&target(), "inv-1", &schedule(64)).unwrap();
        let request = String::from_utf8(template.stamped(STAMP).to_vec()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["name"], "c\"d");
        assert_eq!(body["payload"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn the_floor_answers_a_subscribe_only() {
        let answer = reply(br#"{"type":"subscribe","id":7,"channel":"a"}"#).unwrap();
        let subscribed: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(answer.subscribes && subscribed["id"] == 7);
        assert_eq!(read(answer.text.as_bytes()), Packet::Word(Word::Subscribed));
        assert_eq!(read(GREETING.as_bytes()), Packet::Word(Word::Connected));
        assert!(reply(br#"{"type":"unsubscribe","id":8}"#).is_none());
    }

    #[test]
    fn the_floor_delivers_what_a_node_does_but_for_ids_and_time() {
        let mut template = delivered(&schedule(64)).unwrap();
        let text = template.stamped(STAMP);
        let expected = DELIVERED
            .replace("Cj5_-kBzarZeBS9WRvMj2w", TOPIC)
            .replace("01a2031a-9d7c-72e9-96e7-53719142f454", EVENT_ID)
            .replace("1795348405628", EVENT_TIMESTAMP);
        assert_eq!(str::from_utf8(text).unwrap(), expected);
        assert_eq!(Reader::new().find(text), Some(STAMP));
    }
}
