//! Messages between the nodes of a cluster: headers and bodies, with a form and a kind.
//!
//! Headers are ASCII. Channel names and payloads may hold any UTF-8 and line ends, so that they are
//! in the body. A message of a later form or of an unknown kind is skipped; unknown headers and
//! JSON members are ignored. A member may be added within a version only if ignoring it is right.
//!
//! [`VERSIONS`] are those of all that nodes tell each other: of questions, documents, sessions and
//! history as well. Nodes without a common version refuse each other. Heartbeats and anchors
//! have the same form in all releases: nodes must hear who is alive before they can compare
//! versions, and the stream outlives a release.

mod takings;
mod tidings;

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut as _, Bytes};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

use super::limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, LINE_BYTES_MAX};
use super::name::{ChannelHash, Incarnation, NodeName, Seq, decimal, hexadecimal, space_letter};
use crate::limits::{CHANNEL_BYTES_MAX, EVENT_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::message::{Audience, Channel, Content, MessageId, Millis, Sender};

pub use takings::Took;
pub use tidings::{AskMembers, Told};

/// The versions of messages that this node reads and writes: the lowest and the highest. Nodes of
/// version 1 know neither members nor sessions of other nodes, nor their history and documents, nor
/// what administrators set.
pub const VERSIONS: (u32, u32) = (2, 2);
/// The form of messages, in `Ff-V`.
const FORM: u64 = 1;
/// The same as it is written.
const FORM_TEXT: &str = "1";

/// Returns the lowest version that all nodes of these ranges read; `None` if there is none.
pub fn common_version(ranges: impl Iterator<Item = (u32, u32)>) -> Option<u32> {
    let both = |one: (u32, u32), other: (u32, u32)| (one.0.max(other.0), one.1.min(other.1));
    let (least, most) = ranges.fold(VERSIONS, both);
    (least <= most).then_some(least)
}

/// One start of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The node's name in its cluster.
    pub node: NodeName,
    /// Tells this start of the node from others.
    pub incarnation: Incarnation,
}

/// The place of a message in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The message's own sequence.
    pub seq: Seq,
    /// The sequence of the message before it on the same subject; 0 if the stream has none.
    pub last: Seq,
    /// The time at which the stream stored the message, in milliseconds since the epoch.
    pub at: Millis,
}

/// A message of the first stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The place of the message in the stream.
    pub stamp: Stamp,
    /// The node that sent the message; `None` if it is not readable.
    pub from: Option<Origin>,
    /// The subject on which the publisher waits for counts; `None` if it waits for none.
    pub ask: Option<Box<str>>,
    /// The trace of the publisher (W3C `traceparent`); `None` if it has none.
    pub trace: Option<Box<str>>,
    /// The body, or why the node skips the message. A skipped message has a place in its channel
    /// all the same.
    pub body: Result<Body, Skip>,
}

/// Why a message is skipped. Each reason is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// It is of a later form than this node reads.
    Version,
    /// It is of a kind that this version does not know.
    Kind,
    /// It is not as this version writes it. The text says what is wrong.
    Malformed(&'static str),
}

/// The body of a message by its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A publication on a channel.
    Publication(Published),
    /// News of the members of a channel.
    Tidings(Told),
    /// A node's heartbeat.
    Beat(Beat),
    /// The anchor of the stream.
    Anchor(Anchor),
}

/// A publication as it travels between nodes. Its options are those of the receiving node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The channel on which it is published.
    pub channel: Channel,
    /// The id, by which acknowledgements, frames and history name it.
    pub id: MessageId,
    /// The time at which the publisher's node accepted it, in milliseconds since the epoch.
    pub at: Millis,
    /// A message or an event.
    pub content: Content,
}

/// What a node says of itself in a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Beat {
    /// Counts the heartbeats of this start of the node.
    pub number: u64,
    /// The revision of the node's entry in the register. Of two nodes with one name the one with
    /// the higher revision goes on.
    pub registered: u64,
    /// The highest sequence that the node has heard.
    pub heard: Seq,
    /// The number of the claims' epoch in which the stream has all claims of the node; 0 if it does
    /// not have all of them.
    pub claims_epoch: u64,
    /// The number of channels that the node is attached to.
    pub attached: u64,
    /// Whether the node is about to end.
    pub draining: bool,
    /// The lowest and the highest version of messages that the node reads.
    pub versions: (u32, u32),
}

/// What tells one life of a stream from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// A random number that no other life of the stream has.
    pub nonce: u128,
    /// Counts the epochs of the cluster.
    pub number: u64,
}

/// A node's claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The start of the node that claims.
    pub incarnation: Incarnation,
    /// Whether the node has subscribers. If not, this is the end of an earlier claim.
    pub listens: bool,
}

/// A question to a node about its subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The channel of the publication.
    pub channel: ChannelHash,
    /// The publication's place in the stream.
    pub seq: Seq,
    /// The epoch in which the stream has it there. In another epoch, another message has the place.
    pub epoch: u64,
}

/// A node's answer: the number of its subscribers that a publication was posted to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The node that counted.
    pub from: Origin,
    /// The publication's place in the stream.
    pub seq: Seq,
    /// The number of subscribers.
    pub audience: Audience,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    space: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<(String, Option<String>)>,
}

#[derive(Serialize, Deserialize)]
struct AnchorText {
    nonce: String,
    number: u64,
}

#[derive(Serialize, Deserialize)]
struct AskText {
    hash: String,
    seq: Seq,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
struct CountedText {
    node: String,
    incarnation: String,
    seq: Seq,
    ws: u32,
    poll: u32,
    sse: u32,
}

impl Body {
    /// Returns the letter of the kind in `Ff-K`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Publication(_) => "p",
            Self::Tidings(told) => told.kind(),
            Self::Beat(_) => "h",
            Self::Anchor(_) => "e",
        }
    }

    /// Returns the bytes of the body, or `None` if they would be too many, or if the content is of
    /// a kind that does not travel.
    pub fn encode(&self) -> Option<Vec<u8>> {
        match self {
            Self::Publication(published) => published.encode(),
            Self::Tidings(told) => told.encode(None),
            Self::Beat(beat) => serde_json::to_vec(beat).ok(),
            Self::Anchor(Anchor { nonce, number }) => {
                let text = AnchorText { nonce: format!("{nonce:032x}"), number: *number };
                serde_json::to_vec(&text).ok()
            }
        }
    }

    /// Returns names and values of the headers of a message with this body, which the node with
    /// this [`Origin`] in text sends. A subject or a trace that cannot be the value of a header is
    /// left out.
    pub fn headers<'a>(
        &self,
        from: &'a str,
        ask: Option<&'a str>,
        trace: Option<&'a str>,
    ) -> Headers<'a> {
        let mut headers = Headers::new();
        headers.extend([("Ff-V", FORM_TEXT), ("Ff-K", self.kind()), ("Ff-From", from)]);
        for (name, value) in [("Ff-Ask", ask), ("Ff-Tp", trace)] {
            headers.extend(value.filter(|value| is_value(value)).map(|value| (name, value)));
        }
        headers
    }
}

/// Names and values of headers.
pub type Headers<'a> = SmallVec<[(&'static str, &'a str); 8]>;

/// Returns whether a text can be the value of a header as it is.
fn is_value(text: &str) -> bool {
    text.len() <= HEADER_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Published {
    fn encode(&self) -> Option<Vec<u8>> {
        let (event, sender, payload) = match &self.content {
            Content::Message { event, payload, sender } => {
                let (kind, id) = sender.parts();
                let sender = (kind.to_owned(), id.map(str::to_owned));
                (Some(event.to_string()), Some(sender), payload)
            }
            Content::Event { payload } => (None, None, payload),
            Content::Document { .. } | Content::Joined(..) | Content::Left(..) => return None,
        };
        let line = Line {
            space: space_letter(self.channel.space()).into(),
            name: self.channel.as_str().into(),
            id: self.id.to_string().into(),
            at: self.at,
            event,
            sender,
        };
        let mut out = serde_json::to_vec(&line).ok()?;
        if out.len() > LINE_BYTES_MAX || payload.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        out.push(b'\n');
        out.put_slice(payload.as_bytes());
        Some(out)
    }

    /// Reads the body of a publication on the channel with this hash.
    fn decode(body: &Bytes, hash: Option<ChannelHash>) -> Result<Self, &'static str> {
        let end = body.iter().take(LINE_BYTES_MAX + 1).position(|byte| *byte == b'\n');
        let end = end.ok_or("no first line")?;
        let payload = body.slice(end + 1..);
        if payload.len() > MESSAGE_BYTES_MAX {
            return Err("payload too long");
        }
        let payload = ByteString::try_from(payload).map_err(|_| "payload is not UTF-8")?;
        let line: Line<'_> = serde_json::from_slice(&body[..end]).map_err(|_| "first line")?;
        if line.name.len() > CHANNEL_BYTES_MAX {
            return Err("name too long");
        }
        let id = Uuid::try_parse(&line.id).ok().filter(|_| line.id.len() == 36).ok_or("id")?;
        let (channel, content) = match (&*line.space, line.event, line.sender) {
            ("c", Some(event), Some(sender)) if event.len() <= EVENT_BYTES_MAX => {
                let sender = match (&*sender.0, sender.1) {
                    ("system", None) => Sender::System,
                    ("user", id) => Sender::User(id.map(Into::into)),
                    _ => return Err("sender"),
                };
                let content = Content::Message { event: event.into(), payload, sender };
                (Channel::from(&*line.name), content)
            }
            ("t", None, None) => (Channel::topic(&line.name), Content::Event { payload }),
            _ => return Err("space, event or sender"),
        };
        if hash != Some(ChannelHash::of(&channel)) {
            return Err("the name is not that of the subject");
        }
        Ok(Self { channel, id, at: line.at, content })
    }
}

impl Anchor {
    fn decode(body: &[u8]) -> Option<Self> {
        let text: AnchorText = serde_json::from_slice(body).ok()?;
        let nonce = (text.nonce.len() == 32).then(|| hexadecimal(&text.nonce))??;
        Some(Self { nonce, number: text.number })
    }
}

impl Message {
    /// Reads a message from its headers, each a name and a value, and its body. `hash` is that of
    /// its channel; `None` if it came on a subject of the cluster's own. Returns `None` if the
    /// headers do not say its place in the stream.
    pub fn decode<'a>(
        headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        body: &Bytes,
        hash: Option<ChannelHash>,
    ) -> Option<Self> {
        let head = Head::read(headers)?;
        let stamp = head.stamp()?;
        let boxed = |value: Option<&str>| value.filter(|value| is_value(value)).map(Into::into);
        let from = head.from.and_then(Origin::read);
        let (ask, trace) = (boxed(head.ask), boxed(head.trace));
        let body = head.body(body, hash);
        let body =
            if body.is_ok() && from.is_none() { Err(Skip::Malformed("Ff-From")) } else { body };
        Some(Self { stamp, from, ask, trace, body })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        let (node, incarnation) = text.split_once('.')?;
        Some(Self { node: NodeName::read(node)?, incarnation: Incarnation::read(incarnation)? })
    }
}

/// The values of the headers that are read.
#[derive(Default)]
struct Head<'a> {
    form: Option<&'a str>,
    kind: Option<&'a str>,
    from: Option<&'a str>,
    ask: Option<&'a str>,
    trace: Option<&'a str>,
    seq: Option<&'a str>,
    last: Option<&'a str>,
    at: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Returns `None` if there are too many headers, or if one that is read is too long, is not
    /// UTF-8 or comes twice.
    fn read(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Self> {
        let mut head = Self::default();
        for (count, (name, value)) in headers.enumerate() {
            if count >= HEADERS_MAX {
                return None;
            }
            let place = match name {
                b"Ff-V" => &mut head.form,
                b"Ff-K" => &mut head.kind,
                b"Ff-From" => &mut head.from,
                b"Ff-Ask" => &mut head.ask,
                b"Ff-Tp" => &mut head.trace,
                b"Nats-Sequence" => &mut head.seq,
                b"Nats-Last-Sequence" => &mut head.last,
                b"Nats-Time-Stamp" => &mut head.at,
                _ => continue,
            };
            if value.len() > HEADER_BYTES_MAX || place.is_some() {
                return None;
            }
            *place = Some(str::from_utf8(value).ok()?);
        }
        Some(head)
    }

    fn stamp(&self) -> Option<Stamp> {
        let (seq, last) = (decimal(self.seq?)?, decimal(self.last?)?);
        let at: jiff::Timestamp = self.at?.parse().ok()?;
        let at = Millis::try_from(at.as_millisecond()).ok()?;
        (last < seq).then_some(Stamp { seq, last, at })
    }

    fn body(&self, body: &Bytes, hash: Option<ChannelHash>) -> Result<Body, Skip> {
        let form = self.form.and_then(decimal).ok_or(Skip::Malformed("Ff-V"))?;
        if form > FORM {
            return Err(Skip::Version);
        }
        if form < FORM {
            return Err(Skip::Malformed("Ff-V"));
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(Skip::Malformed("too long"));
        }
        match self.kind {
            Some("p") => {
                Published::decode(body, hash).map(Body::Publication).map_err(Skip::Malformed)
            }
            Some(kind @ ("j" | "l" | "m" | "g")) => {
                Told::decode(kind, body, hash).map(Body::Tidings).map_err(Skip::Malformed)
            }
            Some("h") if hash.is_none() => {
                let beat = serde_json::from_slice(body);
                beat.map(Body::Beat).map_err(|_| Skip::Malformed("heartbeat"))
            }
            Some("e") if hash.is_none() => {
                Anchor::decode(body).map(Body::Anchor).ok_or(Skip::Malformed("anchor"))
            }
            Some("h" | "e") => Err(Skip::Malformed("kind and subject")),
            Some(_) => Err(Skip::Kind),
            None => Err(Skip::Malformed("Ff-K")),
        }
    }
}

impl Claim {
    /// Returns the body of the claim's message.
    pub fn encode(self) -> String {
        format!("{} {}", self.incarnation, if self.listens { "L" } else { "-" })
    }

    /// Reads the body of a claim's message; `None` if it is not as this version writes it.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (incarnation, state) = str::from_utf8(body).ok()?.split_once(' ')?;
        let listens = match state {
            "L" => true,
            "-" => false,
            _ => return None,
        };
        Some(Self { incarnation: Incarnation::read(incarnation)?, listens })
    }
}

impl Ask {
    /// Returns the body of the question.
    pub fn encode(self) -> String {
        let Self { channel, seq, epoch } = self;
        format!("{{\"hash\":\"{channel}\",\"seq\":{seq},\"epoch\":{epoch}}}")
    }

    /// Reads the body of a question; `None` if it is not as this version writes it.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let AskText { hash, seq, epoch } = serde_json::from_slice(body).ok()?;
        Some(Self { channel: ChannelHash::read(&hash)?, seq, epoch })
    }
}

impl Counted {
    /// Returns the body of the answer.
    pub fn encode(&self) -> String {
        let Self { from: Origin { node, incarnation }, seq, audience } = self;
        let Audience { websocket, polling, sse } = audience;
        format!(
            "{{\"node\":\"{node}\",\"incarnation\":\"{incarnation}\",\"seq\":{seq},\
             \"ws\":{websocket},\"poll\":{polling},\"sse\":{sse}}}"
        )
    }

    /// Reads the body of an answer; `None` if it is not as this version writes it, or if its total
    /// does not fit.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let text: CountedText = serde_json::from_slice(body).ok()?;
        let node = NodeName::read(&text.node)?;
        let incarnation = Incarnation::read(&text.incarnation)?;
        text.ws.checked_add(text.poll)?.checked_add(text.sse)?;
        let audience = Audience { websocket: text.ws, polling: text.poll, sse: text.sse };
        Some(Self { from: Origin { node, incarnation }, seq: text.seq, audience })
    }
}

#[cfg(test)]
mod tests;
