//! Tidings of members as they travel between nodes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BODY_BYTES_MAX, Origin};
use crate::cluster::name::{ChannelHash, space_letter};
use crate::limits::{CHANNEL_BYTES_MAX, PRESENCE_PARTS_MAX};
use crate::message::{
    Channel, Member, MemberId, Millis, News, NodeLife, SOCKET_ID_BYTES, Space, Tidings,
};

/// What a node tells of the members of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The channel whose name is compared with the hash in the subject.
    pub channel: Channel,
    /// What the node tells.
    pub tidings: Tidings,
}

/// A question to a node for the list of its members of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskMembers(pub ChannelHash);

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    number: u64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<u64>,
    /// The kind of each member, its id, and when it joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    members: Vec<(char, String, Millis)>,
    /// The place of the part and the number of parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<String>,
    /// The node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AskText {
    members: String,
}

#[derive(Deserialize)]
struct AbsentText {
    absent: String,
}

impl Told {
    /// Returns the letter of the kind in `Ff-K`.
    pub(super) fn kind(&self) -> &'static str {
        match &self.tidings.news {
            News::Joined(_) => "j",
            News::Left(_) => "l",
            News::List { .. } => "m",
            News::Gone(_) => "g",
        }
    }

    /// Returns the bytes of the body, or `None` if they would be too many. An answer names the node
    /// that it is from.
    pub fn encode(&self, from: Option<&Origin>) -> Option<Vec<u8>> {
        let Self { channel, tidings } = self;
        let (members, part, gone) = match &tidings.news {
            News::Joined(members) | News::Left(members) => (&members[..], None, None),
            News::List { part, parts, members } => (&members[..], Some((*part, *parts)), None),
            News::Gone(life) => (&[][..], None, Some(format!("{}.{:016x}", life.node, life.start))),
        };
        let text = Text {
            name: channel.as_str().into(),
            number: tidings.number,
            id: tidings.id.to_string().into(),
            at: tidings.at,
            digest: tidings.digest,
            members: members.iter().map(write).collect(),
            part,
            gone,
            from: from.map(Origin::to_string),
        };
        let is_shown = space_letter(channel.space()) == space_letter(Space::Channels);
        serde_json::to_vec(&text).ok().filter(|body| is_shown && body.len() <= BODY_BYTES_MAX)
    }

    /// Reads the body of a message of this kind on the channel with this hash.
    pub(super) fn decode(
        kind: &str,
        body: &[u8],
        hash: Option<ChannelHash>,
    ) -> Result<Self, &'static str> {
        let text: Text<'_> = serde_json::from_slice(body).map_err(|_| "members")?;
        text.told(kind, hash)
    }

    /// Reads an answer to the question for the list of a channel; `None` if it is not as this
    /// version writes it.
    pub fn answer(body: &[u8]) -> Option<(Origin, Self)> {
        let text: Text<'_> = serde_json::from_slice(body).ok()?;
        let from = Origin::read(text.from.as_deref()?)?;
        let hash = ChannelHash::of(&Channel::from(&*text.name));
        Some((from, text.told("m", Some(hash)).ok()?))
    }
}

impl Text<'_> {
    fn told(self, kind: &str, hash: Option<ChannelHash>) -> Result<Told, &'static str> {
        if self.name.len() > CHANNEL_BYTES_MAX {
            return Err("name too long");
        }
        let channel = Channel::from(&*self.name);
        if hash != Some(ChannelHash::of(&channel)) {
            return Err("the name is not that of the subject");
        }
        let id = Uuid::try_parse(&self.id).ok().filter(|_| self.id.len() == 36).ok_or("id")?;
        let members = self.members.into_iter().map(read).collect::<Option<_>>().ok_or("member")?;
        let news = match (kind, self.part, self.gone) {
            ("j", None, None) => News::Joined(members),
            ("l", None, None) => News::Left(members),
            ("m", Some((part, parts)), None) if part < parts && parts <= PRESENCE_PARTS_MAX => {
                News::List { part, parts, members }
            }
            ("g", None, Some(gone)) => News::Gone(Origin::read(&gone).ok_or("node")?.life()),
            _ => return Err("kind of news"),
        };
        let (number, at, digest) = (self.number, self.at, self.digest);
        Ok(Told { channel, tidings: Tidings { number, id, at, digest, news } })
    }
}

impl Origin {
    /// Returns the start of the node as presence knows it.
    pub fn life(&self) -> NodeLife {
        NodeLife { node: self.node.as_str().into(), start: self.incarnation.0 }
    }
}

impl AskMembers {
    /// Returns the body of the question.
    pub fn encode(self) -> String {
        format!("{{\"members\":\"{}\"}}", self.0)
    }

    /// Returns the answer of a node that does not have the channel.
    pub fn absent(from: &Origin) -> String {
        format!("{{\"absent\":\"{from}\"}}")
    }

    /// Returns the node that does not have the channel; `None` for another answer.
    pub fn is_absent(body: &[u8]) -> Option<Origin> {
        let AbsentText { absent } = serde_json::from_slice(body).ok()?;
        Origin::read(&absent)
    }

    /// Reads the body of a question; `None` if it is another one.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let AskText { members } = serde_json::from_slice(body).ok()?;
        ChannelHash::read(&members).map(Self)
    }
}

fn write(member: &Member) -> (char, String, Millis) {
    let kind = if member.id.is_user() { 'u' } else { 'c' };
    (kind, member.id.text(&mut [0; SOCKET_ID_BYTES]).to_owned(), member.joined_at)
}

fn read((kind, id, joined_at): (char, String, Millis)) -> Option<Member> {
    let id = match kind {
        'u' => MemberId::user(&id),
        'c' => MemberId::connection(&id)?,
        _ => return None,
    };
    Some(Member { id, joined_at })
}
