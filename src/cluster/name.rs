//! Names of nodes and channels on the wire, and the subjects that are made of them.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::limits::{NODE_NAME_BYTES_MAX, PREFIX_BYTES_MAX};
use crate::message::{Channel, NodeTag, Space};

/// A place in a stream: 1, 2, 3, … over all channels. 0 is before the first message.
pub type Seq = u64;

/// One of the two streams of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// The stream of publications and heartbeats.
    Order,
    /// The stream of claims.
    Claims,
}

/// The name of a node in its cluster: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Returns the name in `text`, or `None` if it has other characters or a wrong length.
    pub fn read(text: &str) -> Option<Self> {
        is_name(text, NODE_NAME_BYTES_MAX).then(|| Self(text.into()))
    }

    /// Returns the name as configuration, subjects and answers show it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what stands for the node in ids of sessions. Two of 100 nodes have the same tag once
    /// in 900,000 clusters; then requests for their sessions reach both.
    pub fn tag(&self) -> NodeTag {
        let mut tag = NodeTag([0; 4]);
        tag.0.copy_from_slice(&Sha256::digest(self.0.as_bytes())[..4]);
        tag
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Tells one start of a node from all others. It is random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Returns the incarnation in `text`: 16 digits in lower-case hexadecimal.
    pub fn read(text: &str) -> Option<Self> {
        (text.len() == 16).then_some(())?;
        hexadecimal(text).and_then(|value| u64::try_from(value).ok()).map(Self)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Returns the number in up to 32 digits of lower-case hexadecimal, without a sign.
pub(super) fn hexadecimal(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(is_digit).then(|| u128::from_str_radix(text, 16).ok())?
}

/// Returns the decimal number in `text`, which has no sign and no leading zero.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_plain && is_canonical).then(|| text.parse().ok())?
}

/// A channel in subjects: the first half of a SHA-256 of its namespace and name. Names may hold any
/// character and be long; a hash needs no escapes and has 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelHash([u8; 16]);

/// The number of characters of a hash in base32.
const HASH_CHARS: usize = 26;
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl ChannelHash {
    /// Returns the hash of a channel.
    pub fn of(channel: &Channel) -> Self {
        let mut hash = Sha256::new();
        hash.update(space_letter(channel.space()).as_bytes());
        hash.update([0]);
        hash.update(channel.as_str().as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Self(half)
    }

    /// Returns the hash in `text`, or `None` if no hash is written like that.
    pub fn read(text: &str) -> Option<Self> {
        (text.len() == HASH_CHARS).then_some(())?;
        // 26 characters hold 130 bits: the last two must be 0.
        let mut value = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = u128::from(match byte {
                b'a'..=b'z' => byte - b'a',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => return None,
            });
            if at + 1 == HASH_CHARS {
                return (digit & 3 == 0).then(|| Self((value << 3 | digit >> 2).to_be_bytes()));
            }
            value = value << 5 | digit;
        }
        None
    }
}

impl fmt::Display for ChannelHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = [0; HASH_CHARS];
        for (at, digit) in text.iter_mut().enumerate() {
            let bits = if at + 1 == HASH_CHARS { value << 2 } else { value >> (123 - 5 * at) };
            *digit = DIGITS[(bits & 31) as usize];
        }
        f.write_str(str::from_utf8(&text).expect("the digits are ASCII"))
    }
}

impl fmt::Debug for ChannelHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the letter of a namespace in hashes and messages.
pub(super) fn space_letter(space: Space) -> &'static str {
    match space {
        Space::Channels => "c",
        Space::Topics => "t",
        Space::Resources => "r",
    }
}

/// A pattern of channel names that a node listens to. It stands for many names, of which the claim
/// names none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PatternId(pub u64);

/// What a claim is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// The channel with this hash.
    Channel(ChannelHash),
    /// All channels whose names match a pattern.
    Pattern(PatternId),
}

/// The prefix of a cluster's subjects and streams: 1 to 16 of `a-z`, `0-9` and `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Returns the prefix in `text`, or `None` if it has other characters or a wrong length.
    pub fn read(text: &str) -> Option<Self> {
        is_name(text, PREFIX_BYTES_MAX).then(|| Self(text.into()))
    }

    /// Returns the prefix as the configuration shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of a stream.
    pub fn stream(&self, stream: Stream) -> String {
        let end = match stream {
            Stream::Order => "ORD",
            Stream::Claims => "INT",
        };
        format!("{}_{end}", self.0.to_uppercase())
    }

    /// Returns the subjects whose messages a stream stores, with a wildcard.
    pub fn stored(&self, stream: Stream) -> String {
        match stream {
            Stream::Order => format!("{self}.in.>"),
            Stream::Claims => format!("{self}.int.>"),
        }
    }

    /// Returns the subjects on which the messages of the stream of publications come live, with the
    /// same wildcard.
    pub fn live(&self) -> String {
        format!("{self}.live.>")
    }

    /// Returns the subject of all nodes' live heartbeats.
    pub fn live_beats(&self) -> String {
        format!("{self}.live._hb.*")
    }

    /// Returns the name of the bucket that has what administrators set for all nodes.
    pub fn administration(&self) -> String {
        format!("{self}_admin")
    }

    /// Returns the subject on which nodes say how far they have followed that bucket.
    pub fn followed(&self) -> String {
        format!("{self}.admin")
    }

    /// Returns the name of the bucket that has the invocations of all nodes.
    pub fn invocations(&self) -> String {
        format!("{self}_inv")
    }

    /// Returns the subject on which nodes say how far they have followed that bucket.
    pub fn invoked(&self) -> String {
        format!("{self}.inv")
    }

    /// Returns the subject of questions to a node about its share of history.
    pub fn history(&self, node: &NodeName) -> String {
        format!("{self}.h.{node}")
    }

    /// Returns the subject of answers to a node's question about history with this number.
    pub fn history_answers(&self, node: &NodeName, number: u64) -> String {
        format!("{self}.h.{node}.{number:016x}")
    }

    /// Returns the subject of long-polling requests for sessions of a node.
    pub fn polls(&self, NodeTag(tag): NodeTag) -> String {
        format!("{self}.poll.{}", hex(&tag))
    }

    /// Returns the beginning of the subjects of answers to such requests.
    pub fn poll_answers(&self) -> String {
        format!("{self}.poll.answer")
    }

    /// Returns the name of the register: the bucket in which the nodes are entered.
    pub fn register(&self) -> String {
        format!("{self}_node")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a subject of the cluster means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A live message of a channel.
    Live(ChannelHash),
    /// The live heartbeat of a node.
    Beat(NodeName),
    /// The live anchor of the stream of publications.
    Anchor,
    /// A node's claim.
    Claim(Place, NodeName),
    /// The anchor of the stream of claims.
    ClaimsAnchor,
    /// A node's barrier in the stream of claims.
    Barrier(NodeName),
    /// The answer to the message with this number.
    Answer(u64),
    /// A question to this node about its subscribers.
    Ask,
    /// Another node's answer about its subscribers, for the publication with this token.
    Count(u64),
    /// Another node's answer with the members of a channel, for the question with this number.
    Members(u64),
    /// What a node has taken from buckets that all share.
    Took,
}

/// The subjects of one node of a cluster.
#[derive(Clone, Debug)]
pub struct Subjects {
    prefix: Prefix,
    node: NodeName,
    incarnation: Incarnation,
}

impl Subjects {
    /// Creates the subjects below a prefix: 1 to 16 of `a-z`, `0-9` and `-`. Returns `None` for
    /// another prefix.
    pub fn new(prefix: &str, node: NodeName, incarnation: Incarnation) -> Option<Self> {
        Some(Self { prefix: Prefix::read(prefix)?, node, incarnation })
    }

    /// Returns the name of the stream of publications.
    pub fn stream(&self) -> String {
        self.prefix.stream(Stream::Order)
    }

    /// Returns the name of the stream of claims.
    pub fn claims_stream(&self) -> String {
        self.prefix.stream(Stream::Claims)
    }

    /// Returns the subject to publish a channel's messages on.
    pub fn input(&self, channel: ChannelHash) -> String {
        format!("{}.in.{channel}", self.prefix)
    }

    /// Returns the subject on which a channel's stored messages come live.
    pub fn live(&self, channel: ChannelHash) -> String {
        format!("{}.live.{channel}", self.prefix)
    }

    /// Returns the subject to publish this node's heartbeats on.
    pub fn beat(&self) -> String {
        format!("{}.in._hb.{}", self.prefix, self.node)
    }

    /// Returns the subject of all nodes' live heartbeats.
    pub fn live_beats(&self) -> String {
        self.prefix.live_beats()
    }

    /// Returns the subject to publish the anchor of the stream of publications on.
    pub fn anchor(&self) -> String {
        format!("{}.in._ep", self.prefix)
    }

    /// Returns the subject of the live anchor.
    pub fn live_anchor(&self) -> String {
        format!("{}.live._ep", self.prefix)
    }

    /// Returns the subjects of all messages in the stream of publications.
    pub fn inputs(&self) -> String {
        format!("{}.in.>", self.prefix)
    }

    /// Returns the channel of a message in the stream of publications; `None` if it is on another
    /// subject.
    pub fn stored(&self, subject: &str) -> Option<ChannelHash> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".in.")?;
        ChannelHash::read(rest)
    }

    /// Returns the subject of this node's messages that prove how new a read of the stream of
    /// publications is.
    pub fn proof(&self) -> String {
        format!("{}.in._rd.{}", self.prefix, self.node)
    }

    /// Returns the subject of this node's claim.
    pub fn claim(&self, place: Place) -> String {
        self.claim_of(place, &self.node)
    }

    /// Returns the subject of a node's claim.
    pub fn claim_of(&self, place: Place, node: &NodeName) -> String {
        match place {
            Place::Channel(channel) => format!("{}.int.{channel}.{node}", self.prefix),
            Place::Pattern(PatternId(id)) => format!("{}.int.p.{id:016x}.{node}", self.prefix),
        }
    }

    /// Returns the subject of the anchor of the stream of claims.
    pub fn claims_anchor(&self) -> String {
        format!("{}.int._ep", self.prefix)
    }

    /// Returns the subject of this node's barriers.
    pub fn barrier(&self) -> String {
        format!("{}.int._bar.{}", self.prefix, self.node)
    }

    /// Returns the subject for the answer to this node's message with this number. It names the
    /// incarnation, so that no answer to an earlier start of the node arrives.
    pub fn answer(&self, number: u64) -> String {
        format!("{}.n.{}.{}.a.{number}", self.prefix, self.node, self.incarnation)
    }

    /// Returns the subject for other nodes' answers about the audience of the publication with this
    /// token.
    pub fn count(&self, token: u64) -> String {
        format!("{}.n.{}.{}.c.{token}", self.prefix, self.node, self.incarnation)
    }

    /// Returns the subject for other nodes' answers with the members of a channel, to the question
    /// with this number.
    pub fn members(&self, number: u64) -> String {
        format!("{}.n.{}.{}.m.{number}", self.prefix, self.node, self.incarnation)
    }

    /// Returns the subject of all answers to this node.
    pub fn answers(&self) -> String {
        format!("{}.n.{}.{}.*.*", self.prefix, self.node, self.incarnation)
    }

    /// Returns the subject of questions to a node about its subscribers.
    pub fn ask(&self, node: &NodeName) -> String {
        format!("{}.n.{node}.ask", self.prefix)
    }

    /// Returns the subject on which nodes tell what they have taken from buckets that all share.
    pub fn took(&self) -> String {
        format!("{}.took", self.prefix)
    }

    /// Returns whether messages on a subject go to a node of this cluster.
    pub fn is_of_node(&self, subject: &str) -> bool {
        let rest = subject.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.starts_with(".n."))
    }

    /// Returns what a subject means to this node; `None` for a subject of another cluster, of
    /// another node, or of a kind that this version does not know.
    pub fn read(&self, subject: &str) -> Option<Subject> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let mut parts = rest.split('.');
        let mut next = || parts.next().unwrap_or_default();
        let five = [next(), next(), next(), next(), next()];
        if !next().is_empty() {
            return None;
        }
        let own = |name: &str| name == self.node.as_str();
        let is_ours = |name, incarnation| {
            own(name) && Incarnation::read(incarnation) == Some(self.incarnation)
        };
        Some(match five {
            ["took", "", "", "", ""] => Subject::Took,
            ["live", "_ep", "", "", ""] => Subject::Anchor,
            ["live", "_hb", node, "", ""] => Subject::Beat(NodeName::read(node)?),
            ["live", hash, "", "", ""] => Subject::Live(ChannelHash::read(hash)?),
            ["int", "_ep", "", "", ""] => Subject::ClaimsAnchor,
            ["int", "_bar", node, "", ""] => Subject::Barrier(NodeName::read(node)?),
            ["int", "p", id, node, ""] if id.len() == 16 => {
                let id = PatternId(u64::try_from(hexadecimal(id)?).ok()?);
                Subject::Claim(Place::Pattern(id), NodeName::read(node)?)
            }
            ["int", hash, node, "", ""] => {
                Subject::Claim(Place::Channel(ChannelHash::read(hash)?), NodeName::read(node)?)
            }
            ["n", node, "ask", "", ""] if own(node) => Subject::Ask,
            ["n", node, life, "a", number] if is_ours(node, life) => {
                Subject::Answer(decimal(number)?)
            }
            ["n", node, life, "c", number] if is_ours(node, life) => {
                Subject::Count(decimal(number)?)
            }
            ["n", node, life, "m", number] if is_ours(node, life) => {
                Subject::Members(decimal(number)?)
            }
            _ => return None,
        })
    }
}

/// Returns bytes as digits, for a part of a subject or a key that may not have other characters.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A failure of writing to a string is impossible.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> Subjects {
        let node = NodeName::read("n1").unwrap();
        Subjects::new("ff", node, Incarnation(0xabc)).unwrap()
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["n", "node-7", &"x".repeat(NODE_NAME_BYTES_MAX)] {
            assert_eq!(NodeName::read(good).map(|name| name.to_string()), Some(good.into()));
        }
        for bad in ["", "N1", "a.b", "a*", "a>", "ä", "a b", &"x".repeat(NODE_NAME_BYTES_MAX + 1)]
        {
            assert_eq!(NodeName::read(bad), None, "{bad}");
        }
        let node = NodeName::read("n").unwrap();
        for bad in ["", "ff.x", "FF", &"x".repeat(PREFIX_BYTES_MAX + 1)] {
            assert!(Subjects::new(bad, node.clone(), Incarnation(1)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_never_changes() {
        // All nodes and all versions must agree on it.
        let text = |channel| ChannelHash::of(&channel).to_string();
        assert_eq!(text(Channel::from("order:1")), "yib22thd6y34jibq7hw5tntbba");
        assert_eq!(text(Channel::topic("order:1")), "7ci5finkxvs7mqv6pdm3aew4aa");
        assert_ne!(text(Channel::resource("order:1")), text(Channel::from("order:1")));
    }

    #[test]
    fn a_tag_never_changes() {
        // All nodes and all versions must agree on it.
        let tag = NodeName::read("n1").unwrap().tag();
        assert_eq!(Prefix::read("ff").unwrap().polls(tag), "ff.poll.676b8bb8");
        assert_ne!(NodeName::read("n2").unwrap().tag(), tag);
    }

    #[test]
    fn an_answer_to_another_start_or_node_is_not_ours() {
        let ours = subjects();
        let later = Subjects::new("ff", NodeName::read("n1").unwrap(), Incarnation(0xabd)).unwrap();
        let other = Subjects::new("ff", NodeName::read("n2").unwrap(), Incarnation(0xabc)).unwrap();
        let apart = Subjects::new("gg", NodeName::read("n1").unwrap(), Incarnation(0xabc)).unwrap();
        assert_eq!(ours.read(&ours.answer(7)), Some(Subject::Answer(7)));
        for another in [later, other, apart] {
            assert_eq!(ours.read(&another.answer(7)), None);
            assert_eq!(ours.read(&another.count(7)), None);
        }
    }

    #[test]
    fn every_subject_is_read_back() {
        let ours = subjects();
        let node = NodeName::read("n1").unwrap();
        let hash = ChannelHash::of(&"a b\r\n".into());
        let channel = Place::Channel(hash);
        let pattern = Place::Pattern(PatternId(9));
        for (subject, expected) in [
            (ours.live(hash), Subject::Live(hash)),
            ("ff.live._hb.n1".into(), Subject::Beat(node.clone())),
            (ours.live_anchor(), Subject::Anchor),
            (ours.claim(channel), Subject::Claim(channel, node.clone())),
            (ours.claim(pattern), Subject::Claim(pattern, node.clone())),
            (ours.claims_anchor(), Subject::ClaimsAnchor),
            (ours.barrier(), Subject::Barrier(node.clone())),
            (ours.ask(&node), Subject::Ask),
            (ours.count(3), Subject::Count(3)),
            (ours.took(), Subject::Took),
        ] {
            assert_eq!(ours.read(&subject), Some(expected), "{subject}");
            assert_eq!(ours.read(&format!("{subject}.x")), None);
            assert_eq!(ours.read(&format!("x{subject}")), None);
        }
        assert_eq!((ours.stream(), ours.claims_stream()), ("FF_ORD".into(), "FF_INT".into()));
        assert_eq!(ours.stored(&ours.input(hash)), Some(hash));
        for other in [ours.live(hash), ours.beat(), ours.proof(), ours.input(hash) + ".x"] {
            assert_eq!(ours.stored(&other), None, "{other}");
        }
        let other = NodeName::read("n2").unwrap();
        assert_eq!(
            ours.read(&ours.claim_of(channel, &other)),
            Some(Subject::Claim(channel, other))
        );
    }

    proptest! {
        #[test]
        fn hashes_are_read_back(bytes in any::<[u8; 16]>()) {
            let hash = ChannelHash(bytes);
            let text = hash.to_string();
            prop_assert_eq!(text.len(), HASH_CHARS);
            prop_assert_eq!(ChannelHash::read(&text), Some(hash));
        }

        #[test]
        fn each_hash_has_one_text(text in "[a-z2-7]{26}") {
            if let Some(hash) = ChannelHash::read(&text) {
                prop_assert_eq!(hash.to_string(), text);
            }
        }

        #[test]
        fn no_subject_makes_it_panic(subject in "\\PC*", rest in "[a-z0-9_.*>]{0,60}") {
            subjects().read(&subject);
            subjects().read(&format!("ff.{rest}"));
        }
    }
}
