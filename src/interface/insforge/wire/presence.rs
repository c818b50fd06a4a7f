//! Writes presence, in acknowledgements and in events.

use std::fmt::Write as _;

use super::push_meta_end;
use crate::codec::json::push_json;
use crate::interface::insforge::socketio;
use crate::message::{Channel, Member, MessageId, Millis, Publication, Snapshot, iso_millis};

/// Returns a member of a channel as a JSON object.
fn member(member: &Member) -> String {
    let kind = if member.is_user { "user" } else { "anonymous" };
    let mut out = format!(r#"{{"type":"{kind}","presenceId":"#);
    push_json(&mut out, &member.presence_id);
    let _ = write!(out, r#","joinedAt":"{}"}}"#, iso_millis(member.joined_at));
    out
}

/// Returns the JSON that tells subscribers that a member has joined or left.
pub(super) fn presence_event(publication: &Publication, who: &Member) -> String {
    let mut out = format!(r#"{{"member":{},"meta":{{"channel":"#, member(who));
    push_json(&mut out, publication.channel.as_str());
    out.push_str(r#","senderType":"system""#);
    push_meta_end(&mut out, publication.id, publication.at);
    out.push('}');
    out
}

/// Returns the `presence:sync` packet with the present members of a channel, for a client that has
/// resumed its session. It replaces the joins and leaves that the client missed. `present` is the
/// number of members, which may exceed those in the snapshot.
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

/// Returns the `presence` key of an object, without braces.
pub fn presence(presence: &Snapshot, present: usize) -> String {
    let mut out = String::new();
    push_presence(&mut out, presence, present);
    out
}

/// Appends the `presence` key of an object: the members of the snapshot, and the number of all
/// members if the snapshot does not hold all.
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
