//! One connection's side of things: an outbox, and a client that reads when the simulation lets it.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare::broker::outbox::{Full, Outbox, Spares};
use fanfare::broker::outgoing::Outgoing;
use fanfare::broker::shedding::Lost;
use fanfare::message::{Channel, Content, Group, MessageId, Publication, SlowConsumer};

use crate::number;

/// Eight of these fill an outbox.
const LARGE_BYTES: usize = 2 * 1024 * 1024;
const SMALL_BYTES: usize = 100;
/// The payload of a publication whose frames are large.
pub(crate) const LARGE: &str = "\"large\"";

/// Every frame's bytes are a part of these.
static BYTES: [u8; LARGE_BYTES] = [0; LARGE_BYTES];

/// What a connection sees of a channel, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// With so many members by name, of so many in all.
    Acknowledged(Group, usize, usize),
    /// A publication, and whether the channel may lose it.
    Heard(MessageId, Group, SlowConsumer),
    Came(Box<str>),
    Went(Box<str>),
    /// So many publications were lost.
    Gap(u64),
    Left,
}

/// What waits for the client, and what it saw.
#[derive(Default)]
pub(crate) struct Consumer {
    outbox: Outbox<Frame>,
    spares: Spares<Frame>,
    pub(crate) seen: HashMap<usize, Vec<Seen>>,
    pub(crate) lost: Lost,
}

#[derive(Debug)]
enum Frame {
    Own(usize, Seen),
    Delivery(Arc<Publication>, Group),
    Gap(Channel, u64),
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        let is_large = self.publication().is_some_and(|publication| {
            matches!(&publication.content, Content::Message { payload, .. } if **payload == *LARGE)
        });
        if is_large { &BYTES } else { &BYTES[..SMALL_BYTES] }
    }
}

impl Frame {
    fn publication(&self) -> Option<&Publication> {
        match self {
            Self::Delivery(publication, _) => Some(publication),
            Self::Own(..) | Self::Gap(..) => None,
        }
    }
}

impl Outgoing for Frame {
    fn is_delivery(&self) -> bool {
        self.publication().is_some()
    }
    fn expendable(&self) -> Option<&Publication> {
        self.publication().filter(|one| one.options.slow_consumer != SlowConsumer::Close)
    }
    fn gap(&self) -> Option<(&Channel, u64)> {
        match self {
            Self::Gap(channel, count) => Some((channel, *count)),
            Self::Own(..) | Self::Delivery(..) => None,
        }
    }
    fn notice(channel: &Channel, count: u64) -> Self {
        Self::Gap(channel.clone(), count)
    }
}

impl Consumer {
    /// Something that is for this connection alone. False where there is no room.
    pub(crate) fn tell(&mut self, channel: usize, seen: Seen) -> bool {
        self.push(Frame::Own(channel, seen))
    }

    /// A publication. False where there is no room.
    pub(crate) fn deliver(&mut self, publication: &Arc<Publication>, group: Group) -> bool {
        self.push(match &publication.content {
            Content::Message { .. } | Content::Event { .. } => {
                Frame::Delivery(publication.clone(), group)
            }
            Content::Joined(member) => {
                let came = Seen::Came(member.presence_id.clone());
                Frame::Own(number(&publication.channel), came)
            }
            Content::Left(member) => {
                let went = Seen::Went(member.presence_id.clone());
                Frame::Own(number(&publication.channel), went)
            }
            Content::Document { .. } => unreachable!("documents have a world of their own"),
        })
    }

    /// As a worker does it for a socket that is full.
    fn push(&mut self, frame: Frame) -> bool {
        if let Err(Full(frame)) = self.outbox.push(frame, &mut self.spares) {
            let Some(lost) = self.outbox.make_room(&frame) else { return false };
            self.lost.add(lost);
            self.outbox.push(frame, &mut self.spares).expect("room was made");
        }
        if self.outbox.is_crowded() {
            self.lost.add(self.outbox.conflate());
        }
        true
    }

    /// The client takes so many frames.
    pub(crate) fn read(&mut self, frames: usize) {
        for _ in 0..frames {
            let (channel, seen) = match self.outbox.pop(&mut self.spares) {
                None => return,
                Some(Frame::Own(channel, seen)) => (channel, seen),
                Some(Frame::Delivery(publication, group)) => {
                    let verdict = publication.options.slow_consumer;
                    let heard = Seen::Heard(publication.id, group, verdict);
                    (number(&publication.channel), heard)
                }
                Some(Frame::Gap(channel, count)) => (number(&channel), Seen::Gap(count)),
            };
            self.seen.entry(channel).or_default().push(seen);
        }
    }

    /// The client takes all that waits, and has seen what it should: in order, each once, or it was
    /// told of a gap, with the right count and no later than where the first of it is missing.
    pub(crate) fn check(&mut self, expected: &HashMap<usize, Vec<Seen>>) {
        self.read(usize::MAX);
        let mut missing = 0;
        for (channel, expected) in expected {
            let seen = self.seen.remove(channel).unwrap_or_default();
            missing += check_channel(&seen, expected);
        }
        assert!(self.seen.values().all(Vec::is_empty), "unexpected: {:?}", self.seen);
        assert_eq!(missing, self.lost.oldest + self.lost.conflated, "all that is lost is counted");
    }
}

/// Answers how many are missing.
fn check_channel(seen: &[Seen], expected: &[Seen]) -> u64 {
    let (mut due, mut missing, mut told) = (expected.iter(), 0, 0);
    for one in seen {
        if let Seen::Gap(count) = one {
            told += count;
            continue;
        }
        for other in due.by_ref().take_while(|other| *other != one) {
            missing += check_may_be_missing(other);
        }
        assert!(missing <= told, "{missing} missing and {told} told of: {seen:?}, {expected:?}");
    }
    missing += due.map(check_may_be_missing).sum::<u64>();
    assert_eq!(missing, told, "left: what is missing is told of: {seen:?}, {expected:?}");
    missing
}

fn check_may_be_missing(one: &Seen) -> u64 {
    let may = matches!(one, Seen::Heard(_, _, SlowConsumer::DropOldest | SlowConsumer::Latest));
    assert!(may, "left out: {one:?}");
    1
}
