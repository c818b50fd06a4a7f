//! Server-Sent Events as bytes (WHATWG HTML, section 9.2): blocks of `field: value` lines, each
//! ended by an empty line.

use std::fmt::Write as _;

use super::cursor;
use super::limits::RETRY_MS;
use crate::broker::cursor::Cursor;
use crate::codec::json::push_json;
use crate::message::{Channel, Content, Publication};

/// A comment, which tells proxies and clients that the stream lives.
pub const COMMENT: &[u8] = b":\n\n";

/// Appends the block of an event. `id` is left out for events that no client can resume behind.
fn push_block(out: &mut String, event: &str, id: Option<&str>, data: &str) {
    let _ = writeln!(out, "event: {}", one_line(event));
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    // A line ends at CR LF, LF or CR. Payloads are JSON as it came, so that these are blanks
    // between its tokens, and a client may see one for another.
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        let _ = writeln!(out, "data: {line}");
    }
    out.push('\n');
}

/// Returns an event's name without line breaks, which would end the field.
fn one_line(name: &str) -> String {
    name.replace(['\n', '\r'], " ")
}

/// Returns the block of a publication. `cursor` is that of a stream with several channels; streams
/// of one channel share a block whose cursor is the message. `event` and `data` are the
/// publication's name and JSON as the public document shows them.
pub fn publication(
    publication: &Publication,
    cursor: Option<&Cursor>,
    (event, data): (&str, &str),
) -> Vec<u8> {
    let mut out = String::with_capacity(data.len() + 200);
    let id = matches!(publication.content, Content::Message { .. }).then(|| match cursor {
        Some(cursor) => cursor::of_stream(cursor),
        None => cursor::of_message(&publication.channel, publication.id),
    });
    push_block(&mut out, event, id.as_deref(), data);
    out.into_bytes()
}

/// Returns the block that says that a subscription begins. `presence` is a member of JSON.
pub fn subscribed(channel: &Channel, presence: &str) -> Vec<u8> {
    let mut data = String::from(r#"{"channel":"#);
    push_json(&mut data, channel.as_str());
    let _ = write!(data, ",{presence}}}");
    let mut out = String::with_capacity(data.len() + 50);
    push_block(&mut out, "realtime:subscribed", None, &data);
    out.into_bytes()
}

/// Returns the block that tells that publications of a channel are missing: so many, if that is
/// known.
pub fn gap(channel: &Channel, count: Option<u64>) -> Vec<u8> {
    let mut data = String::from(r#"{"channel":"#);
    push_json(&mut data, channel.as_str());
    match count {
        Some(count) => {
            let _ = write!(data, r#","count":{count}}}"#);
        }
        None => data.push_str(r#","count":null}"#),
    }
    let mut out = String::with_capacity(data.len() + 30);
    push_block(&mut out, "gap", None, &data);
    out.into_bytes()
}

/// Returns the block that begins a stream: how long clients wait before they connect again.
pub fn beginning() -> Vec<u8> {
    format!("retry: {RETRY_MS}\n\n").into_bytes()
}

/// Returns a block without an event, which moves the client's cursor.
pub fn place(cursor: &Cursor) -> Vec<u8> {
    format!("id: {}\n\n", cursor::of_stream(cursor)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageId, Sender};

    fn message(payload: &str) -> Publication {
        let (event, payload) = ("e".into(), payload.into());
        let content = Content::Message { event, payload, sender: Sender::System };
        Publication::new(MessageId::from_u128(7), Channel::from("a"), 0, content)
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("blocks are UTF-8")
    }

    #[test]
    fn a_message_has_a_name_a_place_and_data() {
        let id = cursor::of_message(&Channel::from("a"), MessageId::from_u128(7));
        let block = text(publication(&message("1"), None, ("tick", r#"{"payload":1}"#)));
        assert_eq!(block, format!("event: tick\nid: {id}\ndata: {{\"payload\":1}}\n\n"));
    }

    #[test]
    fn line_breaks_stay_inside_their_block() {
        let data = "{\n\"a\":1,\r\n\"b\":2,\r\"c\":3}";
        let block = text(publication(&message("1"), None, ("a\nid: x\r\rb", data)));
        let lines: Vec<_> = block.split('\n').collect();
        let [event, id, rest @ ..] = &lines[..] else { panic!("{block}") };
        assert_eq!(*event, "event: a id: x  b");
        assert!(id.starts_with("id: ") && !block.contains('\r'));
        let expected = ["data: {", r#"data: "a":1,"#, r#"data: "b":2,"#, r#"data: "c":3}"#, "", ""];
        assert_eq!(rest, expected);
    }

    #[test]
    fn presence_moves_no_cursor() {
        let id = crate::message::MemberId::Connection([0; 15]);
        let member = crate::message::Member { id, joined_at: 0 };
        let joined = Content::Joined(std::sync::Arc::new(member), None);
        let joined = Publication::new(MessageId::nil(), Channel::from("a"), 0, joined);
        let block = text(publication(&joined, None, ("presence:join", "{}")));
        assert_eq!(block, "event: presence:join\ndata: {}\n\n");
    }

    #[test]
    fn a_gap_says_how_much_is_missing_if_that_is_known() {
        let channel = Channel::from("a\"b");
        let block = text(gap(&channel, Some(3)));
        assert_eq!(block, "event: gap\ndata: {\"channel\":\"a\\\"b\",\"count\":3}\n\n");
        assert!(text(gap(&channel, None)).contains(r#""count":null"#));
    }
}
