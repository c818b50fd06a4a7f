//! History of all nodes: what the node that is asked asks the others, and how it merges what they
//! answer.
//!
//! Each node keeps what was published through it, in the order of its own positions. The places of
//! these messages in the cluster's stream rise with the positions. So the order of all messages is
//! that of their [`Key`]s: by place, then by node and position.

pub mod codec;
mod pages;
pub mod parts;

use std::collections::HashMap;

use uuid::Uuid;

use super::name::NodeName;
use crate::limits::{EVENTS_COUNTED_MAX, TOP_EVENTS_MAX};
use crate::message::{
    Durability, MessageId, MessageName, Position, Stats, StatsQuery, StoredMessage, StreamPlace,
};

pub use pages::{Next, Pages};

/// The place of a message in the history of all nodes. A higher one is later.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Where the cluster's stream has it, or had the one before it on its node.
    pub place: StreamPlace,
    /// The node that keeps it.
    pub node: NodeName,
    /// Its place in the history of that node.
    pub position: Position,
}

/// The end of a search in one node's history: only messages before it are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// All messages.
    End,
    /// Those before this position.
    Position(Position),
    /// Those before all that have this place or a later one.
    Place(StreamPlace),
}

impl Key {
    /// Returns where the messages before this one end in the history of a node.
    pub fn on(&self, node: &NodeName) -> Below {
        let StreamPlace { epoch, seq } = self.place;
        match node.cmp(&self.node) {
            std::cmp::Ordering::Equal => Below::Position(self.position),
            std::cmp::Ordering::Less => {
                Below::Place(StreamPlace { epoch, seq: seq.saturating_add(1) })
            }
            std::cmp::Ordering::Greater => Below::Place(self.place),
        }
    }
}

/// The condition that messages of a list meet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Only messages under this definition.
    pub channel_id: Option<Uuid>,
    /// Only messages with this event name.
    pub event_name: Option<Box<str>>,
}

/// What a node is asked about its history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Where it has the message with this id.
    Locate(MessageId),
    /// Which messages it has, the newest first.
    Find {
        /// The condition that they meet.
        filter: Filter,
        /// Only messages before this one.
        below: Option<Key>,
        /// The number of newest ones to leave out.
        skip: u64,
        /// The most to return.
        limit: u32,
    },
    /// The messages at these positions.
    Read(Vec<Position>),
    /// How many messages it has.
    Count(StatsQuery),
    /// To remove all messages that it has now.
    Clear,
    /// Whether it has a message, or receives it in a moment. If it has, it is as safe as this level
    /// when it answers.
    Has(MessageName, Durability),
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Question::Locate`]; `None` if it does not have the message.
    Located(Option<Held>),
    /// To [`Question::Find`].
    Found(Vec<Held>),
    /// To [`Question::Read`]. Those that were removed meanwhile are missing.
    Read(Vec<(Position, StoredMessage)>),
    /// To [`Question::Count`].
    Counted(Share),
    /// To [`Question::Clear`]: the number of messages that were removed.
    Cleared(u64),
    /// To [`Question::Has`].
    Has(bool),
    /// The node does not answer, for this reason.
    Refused(Refusal),
}

/// Why a node does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It has too many questions.
    Busy,
    /// The answer takes too long to find.
    TooSlow,
    /// Its store failed, or it does not know this kind of question.
    Failed,
}

/// A message that a node has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Where the cluster's stream has it.
    pub place: StreamPlace,
    /// Where the node has it.
    pub position: Position,
    /// The same for no two messages, but for one that two nodes have.
    pub twin: Uuid,
    /// Bytes of its payload.
    pub bytes: u64,
}

/// Sums over the messages of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// The number of messages.
    pub messages: u64,
    /// The number of webhook calls that they were meant for.
    pub wh_audience: u64,
    /// The number of these calls that were accepted.
    pub wh_delivered: u64,
    /// The number of messages of each event name.
    pub events: Vec<(Box<str>, u64)>,
    /// For how many days the node keeps messages; `None` for ever.
    pub retention_days: Option<u32>,
}

/// Adds the sums of nodes up. The retention is that of the first. Returns `None` if there are too
/// many event names to count.
pub fn sum(shares: impl IntoIterator<Item = Share>) -> Option<Share> {
    let mut shares = shares.into_iter().peekable();
    let retention_days = shares.peek().and_then(|share| share.retention_days);
    let mut sum = Share { retention_days, ..Share::default() };
    let mut events = HashMap::<Box<str>, u64>::new();
    for share in shares {
        sum.messages = sum.messages.saturating_add(share.messages);
        sum.wh_audience = sum.wh_audience.saturating_add(share.wh_audience);
        sum.wh_delivered = sum.wh_delivered.saturating_add(share.wh_delivered);
        for (name, count) in share.events {
            let sum = events.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
        if events.len() > EVENTS_COUNTED_MAX {
            return None;
        }
    }
    sum.events = events.into_iter().collect();
    Some(sum)
}

impl Share {
    /// Returns the statistics of these sums.
    pub fn into_stats(self) -> Stats {
        let Self { messages, wh_audience, wh_delivered, events: mut top_events, .. } = self;
        top_events
            .sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        top_events.truncate(TOP_EVENTS_MAX);
        let retention_days = self.retention_days;
        Stats { messages, wh_audience, wh_delivered, top_events, retention_days }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(messages: u64, events: &[(&str, u64)]) -> Share {
        let events = events.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        let retention_days = Some(7);
        Share { messages, wh_audience: 2 * messages, wh_delivered: 1, events, retention_days }
    }

    #[test]
    fn sums_of_nodes_are_added_up_before_the_top_is_taken() {
        let names: Vec<String> = (0..20).map(|number| format!("e{number:02}")).collect();
        let small: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
        let shares = [share(20, &small), share(22, &small), share(3, &[("e19", 3)])];
        let stats = sum(shares).unwrap().into_stats();
        assert_eq!((stats.messages, stats.wh_audience, stats.wh_delivered), (45, 90, 3));
        assert_eq!((stats.top_events.len(), stats.retention_days), (TOP_EVENTS_MAX, Some(7)));
        let top: Vec<_> =
            stats.top_events.iter().take(3).map(|(name, count)| (&**name, *count)).collect();
        assert_eq!(top, [("e19", 5), ("e00", 2), ("e01", 2)]);
    }

    #[test]
    fn too_many_names_are_not_counted() {
        let share = |from: usize, to: usize| Share {
            events: (from..to).map(|number| (number.to_string().into(), 1)).collect(),
            ..Share::default()
        };
        let half = EVENTS_COUNTED_MAX / 2;
        assert!(sum([share(0, half), share(0, half)]).is_some());
        assert!(sum([share(0, half + 1), share(half + 1, 2 * half + 1)]).is_none());
    }
}
