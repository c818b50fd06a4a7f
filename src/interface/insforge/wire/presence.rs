//! Presence: in acknowledgements and in events.

use std::fmt::Write as _;

use super::push_meta_end;
use crate::codec::json::push_json;
use crate::interface::insforge::socketio;
use crate::message::{Channel, Member, MessageId, Millis, Publication, Snapshot, iso_millis};

fn member(member: &Member) -> String {
    let kind = if member.is_user { "user" } else { "anonymous" };
    let mut out = format!(r#"{{"type":"{kind}","presenceId":"#);
    push_json(&mut out, &member.presence_id);
    let _ = write!(out, r#","joinedAt":"{}"}}"#, iso_millis(member.joined_at));
    out
}

pub(super) fn presence_event(publication: &Publication, name: &str, who: &Member) -> String {
    let mut out = format!(r#"{{"member":{},"meta":{{"channel":"#, member(who));
    push_json(&mut out, publication.channel.as_str());
    out.push_str(r#","senderType":"system""#);
    push_meta_end(&mut out, publication.id, publication.at);
    out.push('}');
    socketio::event_text("/", name, &out)
}

/// Who is there, for a client that comes back after a cut: in the place of the joins and leaves
/// that it missed.
pub fn presence_sync(
    channel: &Channel,
    presence: &Snapshot,
    present: usize,
    (id, at): (MessageId, Millis),
) -> String {
    let mut out = String::from("{");
    push_presence(&mut out, presence, present);
    out.push_str(r#","meta":{"channel":"#);
    push_json(&mut out, channel.as_str());
    out.push_str(r#","senderType":"system""#);
    push_meta_end(&mut out, id, at);
    out.push('}');
    socketio::event_text("/", "presence:sync", &out)
}

pub(super) fn push_presence(out: &mut String, presence: &Snapshot, present: usize) {
    let members = presence.json(|members| {
        let members: Vec<String> = members.iter().map(|m| member(m)).collect();
        members.join(",")
    });
    let _ = write!(out, r#""presence":{{"members":[{members}]"#);
    if presence.members.len() < present {
        let _ = write!(out, r#","count":{present},"truncated":true"#);
    }
    out.push('}');
}
