//! Server-Sent Events over InsForge's channels. Publishers are InsForge's.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::api::payload::payload;
use crate::api::{Api, Packet, Script, Step, Word, header_value, percent_encoded};
use crate::handshake::Handshake;
use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::stream::fields;
use crate::target::Target;

const PATH: &str = "/api/realtime/events";
/// A member of messages. The gap event of a node lacks it, and an event of that name that a client
/// published has it.
const MESSAGE_MEMBER: &[u8] = b"\"messageId\":";

/// The floor's first block.
pub(super) const GREETING: &str = concat!(
    "event: realtime:subscribed\n",
    r#"data: {"channel":"floor","presence":{"members":[]}}"#,
    "\n\n"
);

/// Ids of a node differ from publication to publication, but have the same length.
const CURSOR: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const MESSAGE_ID: &str = "00000000-0000-7000-8000-000000000000";

/// Returns the script of a client, which sends nothing but its request.
pub(super) fn script(
    target: &Target,
    token: Option<&str>,
    channel: Option<&str>,
) -> Result<Script> {
    let channel = channel.context("a stream is always subscribed")?;
    let token = token.map(|token| header_value(token, "token")).transpose()?;
    let path = format!("{PATH}?channel={}", percent_encoded(channel));
    Ok(Script {
        api: Api::Events,
        handshake: Handshake::stream(target, &path, token),
        opening: None,
        steps: vec![Step { awaited: Word::Subscribed, answer: None }],
        plain: None,
    })
}

/// Classifies a block.
pub(super) fn read(block: &[u8]) -> Packet<'_> {
    let mut event: &[u8] = b"message";
    let mut is_comment = false;
    for (name, value) in fields(block) {
        match name {
            b"event" => event = value,
            // Data follow the event's name, and a block without data is no event.
            b"data" => return read_event(event, block),
            b"" => is_comment = true,
            _ => {}
        }
    }
    if is_comment { Packet::Heartbeat(None) } else { Packet::Other }
}

fn read_event<'a>(event: &[u8], block: &'a [u8]) -> Packet<'a> {
    let is_message = || memchr::memmem::find(block, MESSAGE_MEMBER).is_some();
    match event {
        b"realtime:subscribed" => Packet::Word(Word::Subscribed),
        b"gap" if !is_message() => Packet::Complaint(block),
        _ => Packet::Event(block),
    }
}

/// Returns how many messages a gap event says were left out.
pub(super) fn gap(block: &[u8]) -> Option<Option<u64>> {
    let data = fields(block).find(|(name, _)| *name == b"data")?.1;
    Some(serde_json::from_slice::<Value>(data).ok()?["count"].as_u64())
}

/// Returns a publication as a node delivers it to a stream of one channel. Only the ids are
/// invented.
pub(super) fn delivered(schedule: &Schedule) -> Result<Template> {
    let channel = Value::from(schedule.channel.as_str());
    let before = format!(
        "event: {}\nid: {CURSOR}\ndata: {{\"channel\":{channel},\"messageId\":\"{MESSAGE_ID}\",\
         \"senderType\":\"system\",\"senderId\":null,\"payload\":",
        schedule.event
    );
    payload(&before, schedule.payload_bytes, "", "}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Reader, Stamp};
    use crate::stream::read_block;

    /// What a node delivered for the payload below, published on `load:1`.
    const DELIVERED: &str = concat!(
        "event: load\n",
        "id: AWfRWVEBoiT3fix8VZfS1bwMDYpg\n",
        r#"data: {"channel":"load:1","messageId":"01a224f7-7e2c-7c55-97d2-d5bc0c0d8a60","#,
        r#""senderType":"system","senderId":null,"#,
        r#""payload":{"t":"@0000000012:0000000000000000345","pad":"xxxxxxxxxxxxxxxx"}}"#,
        "\n\n"
    );
    const STAMP: Stamp = Stamp { sequence: 12, due_ns: 345 };

    fn target() -> Target {
        "http://127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn a_client_asks_for_its_channel() {
        let Script { handshake, opening, steps, .. } =
            script(&target(), Some("anon_1\n"), Some("load:1&a b")).unwrap();
        let start = "GET /api/realtime/events?channel=load:1%26a%20b HTTP/1.1\r\n";
        assert!(handshake.request.starts_with(start), "{}", handshake.request);
        assert!(handshake.request.contains("\r\nAuthorization: Bearer anon_1\r\n"));
        assert!(opening.is_none() && steps.len() == 1 && steps[0].answer.is_none());
    }

    #[test]
    fn a_stream_needs_a_channel_and_a_token_must_fit_its_header() {
        assert!(script(&target(), None, Some("a")).is_ok(), "the floor asks for no token");
        for (token, channel) in [(Some("t"), None), (Some("se\rcret"), Some("a"))] {
            let error = script(&target(), token, channel).err().unwrap();
            assert!(!format!("{error:#}").contains("cret"));
        }
    }

    #[test]
    fn blocks_are_sorted() {
        let (event, _) = read_block(DELIVERED.as_bytes()).unwrap().unwrap();
        assert_eq!(read(event), Packet::Event(event));
        let (greeting, _) = read_block(GREETING.as_bytes()).unwrap().unwrap();
        assert_eq!(read(greeting), Packet::Word(Word::Subscribed));
        assert_eq!(read(b":\n"), Packet::Heartbeat(None));
        for other in [&b"retry: 2000\n"[..], b"id: AuWlDjIOF9XjZ9FZUQA\n", b"event: load\n", b""] {
            assert_eq!(read(other), Packet::Other);
        }
        for event in [
            &b"data: 1\n"[..],
            b"event: presence:join\ndata: {\"member\":{}}\n",
            b"event: gap\ndata: {\"channel\":\"a\",\"messageId\":\"1\"}\n",
        ] {
            assert_eq!(read(event), Packet::Event(event));
        }
        let gap = b"event: gap\ndata: {\"channel\":\"a\",\"count\":null}\n";
        assert_eq!(read(gap), Packet::Complaint(gap));
        assert_eq!(super::gap(gap), Some(None));
        assert_eq!(
            super::gap(b"event: gap\ndata: {\"channel\":\"a\",\"count\":7}\n"),
            Some(Some(7))
        );
    }

    #[test]
    fn the_floor_delivers_what_a_node_does_but_for_ids() {
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
            .replace("01a224f7-7e2c-7c55-97d2-d5bc0c0d8a60", MESSAGE_ID)
            .replace("AWfRWVEBoiT3fix8VZfS1bwMDYpg", CURSOR);
        assert_eq!(str::from_utf8(text).unwrap(), expected);
        assert_eq!(Reader::new().find(text), Some(STAMP));
    }
}
