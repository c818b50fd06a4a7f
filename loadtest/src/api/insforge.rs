//! InsForge Realtime: Socket.IO 5 in Engine.IO 4 for clients, REST for publishers.

use std::io::{Write as _, stderr};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::api::payload::payload;
use crate::api::{Api, Packet, Reply, Script, Step, Word};
use crate::handshake::Handshake;
use crate::http;
use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::target::Target;

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
/// The answer to a heartbeat.
const PONG_PACKET: &[u8] = b"3";

/// The floor's first packet, as long as a node's. The floor sends no heartbeats, and clients do not
/// require them.
pub(crate) const GREETING: &str = concat!(
    r#"0{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":[],"pingInterval":90000,"pingTimeout":20000,"#,
    r#""maxPayload":1000000}"#
);
pub(crate) const CONNECTED: &str = r#"40{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#;
/// The answer to a publication: its text before, between and behind the numbers of its audience.
/// The id and the times are invented, but as long as a node's.
const ACCEPTED: [&str; 4] = [
    concat!(
        r#"{"messageId":"00000000-0000-7000-8000-000000000000","#,
        r#""timestamp":"2000-01-01T00:00:00.000Z","audience":{"total":"#
    ),
    r#","websocket":"#,
    r#","polling":0,"sse":0},"durability":""#,
    r#""}"#,
];

/// Ids and times of a node differ from publication to publication, but have the same length.
const MESSAGE_ID: &str = "00000000-0000-7000-8000-000000000000";
const TIMESTAMP: &str = "2000-01-01T00:00:00.000Z";

/// Returns the script of a client. `auth` is the payload of its CONNECT packet.
pub(super) fn script(target: &Target, auth: Option<&str>, channel: Option<&str>) -> Script {
    let connect = format!("40{}", auth.unwrap_or_default());
    let subscribe = |channel| json!(["realtime:subscribe", { "channel": channel }]);
    let subscribe = channel.map(|channel| format!("420{}", subscribe(channel)));
    let subscribed = channel.map(|_| Step { awaited: Word::Subscribed, answer: None });
    let steps = [
        Step { awaited: Word::Open, answer: Some(connect) },
        Step { awaited: Word::Connected, answer: subscribe },
    ];
    Script {
        api: Api::InsForge,
        handshake: Handshake::upgrade(target, PATH, None, &[]),
        opening: None,
        steps: steps.into_iter().chain(subscribed).collect(),
        plain: None,
    }
}

/// Options of the channels that a run defines, as a definition names them; `None` leaves the node's
/// default.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) ephemeral: bool,
    pub(crate) presence: Option<&'static str>,
    pub(crate) slow_consumer: Option<&'static str>,
}

/// A definition that this run made. Dropping it removes it from the node.
pub(crate) struct Definition {
    target: Target,
    api_key: String,
    id: String,
}

impl Definition {
    /// Defines the channels of a pattern. Returns `None` if the definition exists already; then it
    /// stays when the run ends. An existing one is an error if options are asked for, because its
    /// own may differ.
    pub(crate) fn make(
        target: &Target,
        pattern: &str,
        api_key: &str,
        options: &Options,
    ) -> Result<Option<Self>> {
        let mut body = json!({ "pattern": pattern, "description": "load test" });
        if options.ephemeral {
            body["ephemeral"] = true.into();
        }
        let names = [("presence", options.presence), ("slowConsumer", options.slow_consumer)];
        for (name, value) in names {
            value.into_iter().for_each(|value| body[name] = value.into());
        }
        let has_options = body.as_object().is_some_and(|body| body.len() > 2);
        let body = body.to_string();
        let call = "POST /api/realtime/channels";
        let head = http::head(target, call, &credential(api_key), body.len());
        let response = http::ask(target, &format!("{head}{body}"))?;
        match response.status {
            200..300 => {
                let made: Value = serde_json::from_slice(&response.body)?;
                let id = made["id"].as_str().context("a definition without an id")?.to_owned();
                let api_key = api_key.to_owned();
                Ok(Some(Self { target: target.clone(), api_key, id }))
            }
            409 if has_options => bail!(
                "the node has a definition of {pattern} already, whose options may be others: \
                 remove it, or name another channel"
            ),
            409 => Ok(None),
            status => bail!("making the channel was answered {status}: {}", response.excerpt()),
        }
    }

    fn remove(&self) -> Result<()> {
        let call = format!("DELETE /api/realtime/channels/{}", self.id);
        let request = http::head(&self.target, &call, &credential(&self.api_key), 0);
        let response = http::ask(&self.target, &request)?;
        let status = response.status;
        ensure!(matches!(status, 200..300 | 404), "answered {status}: {}", response.excerpt());
        Ok(())
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let id = &self.id;
            // Standard error may be closed, which must not panic in a drop.
            let _ = writeln!(stderr(), "the channel's definition {id} was not removed: {error:#}");
        }
    }
}

/// Returns the request of a publication, to be stamped.
pub(super) fn request(target: &Target, api_key: &str, schedule: &Schedule) -> Result<Template> {
    let before = format!(
        r#"{{"channel":{},"event":{},"payload":"#,
        Value::from(schedule.channel.as_str()),
        Value::from(schedule.event.as_str())
    );
    let body_bytes = before.len() + schedule.payload_bytes + 1;
    let call = "POST /api/realtime/messages";
    let head = http::head(target, call, &credential(api_key), body_bytes);
    payload(&format!("{head}{before}"), schedule.payload_bytes, "", "}")
}

/// Classifies an Engine.IO packet from the server.
pub(super) fn read(text: &[u8]) -> Packet<'_> {
    match text {
        [b'0', ..] => Packet::Word(Word::Open),
        [b'1', ..] | [b'4', b'1', ..] => Packet::Closed,
        [b'2', ..] => Packet::Heartbeat(Some(PONG_PACKET)),
        [b'4', b'0', ..] => Packet::Word(Word::Connected),
        [b'4', b'2', event @ ..] if event.starts_with(b"[\"realtime:error\"") => {
            Packet::Complaint(event)
        }
        [b'4', b'2', event @ ..] => Packet::Event(event),
        [b'4', b'3', rest @ ..] => read_acknowledgement(&rest[digits(rest)..]),
        [b'4', b'4', rest @ ..] => Packet::Refused(rest),
        _ => Packet::Other,
    }
}

/// Returns how many publications an error says were left out, if it is a gap notice.
pub(super) fn gap(event: &[u8]) -> Option<Option<u64>> {
    let event = serde_json::from_slice::<Value>(event).ok()?;
    (event[1]["code"] == "REALTIME_GAP").then(|| event[1]["count"].as_u64())
}

/// Returns a publication as a node delivers it to subscribers like these clients. Only the id and
/// the time are invented.
pub(super) fn delivered(schedule: &Schedule) -> Result<Template> {
    let channel = Value::from(format!("realtime:{}", schedule.channel));
    let meta = format!(
        r#","meta":{{"channel":{channel},"senderType":"system","messageId":"{MESSAGE_ID}","#
    );
    let meta = format!(r#"{meta}"timestamp":"{TIMESTAMP}"}}"#);
    let before = format!("42[{},", Value::from(schedule.event.as_str()));
    payload(&before, schedule.payload_bytes, &meta, "]")
}

/// Returns the floor's answer to a packet; `None` if it needs none.
pub(super) fn reply(text: &[u8]) -> Option<Reply> {
    if text.starts_with(b"40") {
        return Some(Reply { text: CONNECTED.to_owned(), subscribes: false });
    }
    let event = text.strip_prefix(b"42")?;
    let id = String::from_utf8_lossy(&event[..digits(event)]);
    let channel = String::from_utf8_lossy(channel(event).unwrap_or(b"\"\""));
    let members = r#""presence":{"members":[]}"#;
    let text = format!(r#"43{id}[{{"ok":true,"channel":{channel},{members}}}]"#);
    Some(Reply { text, subscribes: true })
}

/// Returns the channel in a subscribe or in the body of a publication, with its quotes.
pub(crate) fn channel(text: &[u8]) -> Option<&[u8]> {
    const MEMBER: &[u8] = br#""channel":"#;
    let start = memchr::memmem::find(text, MEMBER)? + MEMBER.len();
    let rest = text.get(start..)?;
    let end = rest.iter().skip(1).position(|byte| *byte == b'"')?;
    Some(&rest[..end + 2])
}

/// Returns the floor's answer to a publication that reached this many subscribers: as many bytes as
/// a node's.
pub(crate) fn accepted(audience: usize) -> String {
    let [before, between, behind, end] = ACCEPTED;
    let body = format!("{before}{audience}{between}{audience}{behind}memory{end}");
    format!(
        "HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\n\
         Vary: Origin\r\nCache-Control: no-store\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
        body.len()
    )
}

fn credential(api_key: &str) -> String {
    format!("Authorization: Bearer {api_key}")
}

/// Classifies an acknowledgement by its arguments, a JSON array. It is a refusal unless `ok` is
/// true.
fn read_acknowledgement(arguments: &[u8]) -> Packet<'_> {
    let answer = serde_json::from_slice::<Value>(arguments).unwrap_or_default();
    match answer[0]["ok"] == true {
        true => Packet::Word(Word::Subscribed),
        false => Packet::Refused(arguments),
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Reader, Stamp};

    /// The packet that a node delivered for the payload below, published on `load:1` and subscribed
    /// to with `realtime:subscribe`. Only the stamp was inserted later.
    const DELIVERED: &str = concat!(
        r#"42["load",{"t":"@0000000012:0000000000000000345","pad":"xxxxxxxxxxxxxxxx","meta":"#,
        r#"{"channel":"realtime:load:1","senderType":"system","#,
        r#""messageId":"01a2017c-89cb-7c53-96ba-fc9105fd492e","#,
        r#""timestamp":"2026-11-22T04:21:08.683Z"}}]"#
    );
    const STAMP: Stamp = Stamp { sequence: 12, due_ns: 345 };

    fn answers(script: &Script) -> Vec<Option<&str>> {
        script.steps.iter().map(|step| step.answer.as_deref()).collect()
    }

    #[test]
    fn names_are_quoted_as_json() {
        let target = "http://127.0.0.1:1".parse().unwrap();
        let auth = json!({ "token": "a\"b" }).to_string();
        let subscriber = script(&target, Some(&auth), Some("c\"d"));
        let connect = r#"40{"token":"a\"b"}"#;
        let subscribe = r#"420["realtime:subscribe",{"channel":"c\"d"}]"#;
        assert_eq!(answers(&subscriber), [Some(connect), Some(subscribe), None]);
        assert_eq!(answers(&script(&target, None, None)), [Some("40"), None]);
    }

    #[test]
    fn packets_are_sorted() {
        assert_eq!(read(br#"0{"sid":"x"}"#), Packet::Word(Word::Open));
        assert_eq!(read(b"2"), Packet::Heartbeat(Some(b"3")));
        assert_eq!(read(br#"40{"sid":"x"}"#), Packet::Word(Word::Connected));
        assert_eq!(read(br#"44{"message":"no"}"#), Packet::Refused(br#"{"message":"no"}"#));
        assert_eq!(read(br#"42["a",{}]"#), Packet::Event(br#"["a",{}]"#));
        let error = br#"["realtime:error",{}]"#;
        assert_eq!(read(&[b"42".as_slice(), error].concat()), Packet::Complaint(error));
        assert_eq!(read(b"41"), Packet::Closed);
        assert_eq!(read(b"1"), Packet::Closed);
        assert_eq!(read(b"6"), Packet::Other);
        assert_eq!(read(b""), Packet::Other);
    }

    #[test]
    fn only_a_positive_acknowledgement_subscribes() {
        let good = br#"4317[{"ok":true,"channel":"a"}]"#;
        assert_eq!(read(good), Packet::Word(Word::Subscribed));
        for bad in ["[]", r#"[{"ok":false,"error":{"code":"REALTIME_UNAUTHORIZED"}}]"#, "[tru"] {
            let packet = format!("430{bad}");
            assert_eq!(read(packet.as_bytes()), Packet::Refused(bad.as_bytes()));
        }
    }

    #[test]
    fn the_floor_answers_as_many_bytes_as_a_node() {
        // What a node answered; only ids and times differ.
        let node = concat!(
            r#"0{"sid":"AAAAAAAAXvEJIQ1UyLhg","upgrades":[],"pingInterval":25000,"#,
            r#""pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert_eq!(GREETING.len(), node.len());
        assert_eq!(CONNECTED.len(), r#"40{"sid":"Uxjo2b2Qee1tU8L74MFJ"}"#.len());
        let reply = reply(br#"420["realtime:subscribe",{"channel":"load:1"}]"#).unwrap();
        let node = r#"430[{"ok":true,"channel":"load:1","presence":{"members":[]}}]"#;
        assert!(reply.subscribes && reply.text == node);
        let node = concat!(
            "HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\n",
            "Vary: Origin\r\nCache-Control: no-store\r\nDate: Sun, 29 Nov 2026 07:06:34 GMT\r\n",
            "Content-Length: 171\r\nConnection: keep-alive\r\n\r\n",
            r#"{"messageId":"01a22620-8339-791a-999a-2415f9e2ef31","#,
            r#""timestamp":"2026-11-29T07:06:34.681Z","audience":{"total":0,"websocket":0,"#,
            r#""polling":0,"sse":0},"durability":"stored"}"#
        );
        assert_eq!(accepted(0).len(), node.len());
    }

    #[test]
    fn the_floor_delivers_what_a_node_does_but_for_id_and_time() {
        let schedule = Schedule {
            channel: "load:1".to_owned(),
            event: "load".to_owned(),
            payload_bytes: 64,
            rate: 1.0,
            publications: 1,
        };
        let mut template = delivered(&schedule).unwrap();
        let text = template.stamped(STAMP);
        let expected = DELIVERED
            .replace("01a2017c-89cb-7c53-96ba-fc9105fd492e", MESSAGE_ID)
            .replace("2026-11-22T04:21:08.683Z", TIMESTAMP);
        assert_eq!(str::from_utf8(text).unwrap(), expected);
        assert_eq!(Reader::new().find(text), Some(STAMP));
    }
}
