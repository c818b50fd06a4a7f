//! Writes presence, in acknowledgements and in events.

use std::fmt::Write as _;

use super::push_meta_end;
use crate::codec::json::push_json;
use crate::interface::insforge::socketio;
use crate::message::{
    Channel, Member, MessageId, Millis, Publication, SOCKET_ID_BYTES, Snapshot, push_iso_millis,
};

/// Bytes of most members as JSON, with a comma.
const MEMBER_BYTES: usize = 96;

/// Appends a member of a channel as a JSON object.
fn push_member(out: &mut String, member: &Member) {
    out.push_str(match member.id.is_user() {
        true => r#"{"type":"user","presenceId":"#,
        false => r#"{"type":"anonymous","presenceId":"#,
    });
    push_json(out, member.id.text(&mut [0; SOCKET_ID_BYTES]));
    out.push_str(r#","joinedAt":""#);
    push_iso_millis(out, member.joined_at);
    out.push_str(r#""}"#);
}

/// Returns the JSON that tells subscribers that a member has joined or left.
pub(super) fn presence_event(publication: &Publication, who: &Member) -> String {
    let mut out = String::from(r#"{"member":"#);
    push_member(&mut out, who);
    out.push_str(r#","meta":{"channel":"#);
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
    let mut out = String::from(r#"{"channel":"#);
    push_json(&mut out, channel.as_str());
    out.push(',');
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
/// members if the snapshot does not hold all, or may not.
pub(super) fn push_presence(out: &mut String, presence: &Snapshot, present: usize) {
    let members = presence.json(members);
    out.reserve(members.len() + PRESENCE_BYTES);
    let _ = write!(out, r#""presence":{{"members":[{members}]"#);
    if presence.members.len() < present || presence.is_partial {
        let _ = write!(out, r#","count":{present},"truncated":true"#);
    }
    out.push('}');
}

/// Bytes of the `presence` key besides its members.
const PRESENCE_BYTES: usize = 80;

/// Returns the JSON of members, separated by commas.
fn members(members: &[Member]) -> String {
    let mut out = String::with_capacity(members.len() * MEMBER_BYTES);
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_member(&mut out, member);
    }
    out
}
