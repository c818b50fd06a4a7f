//! The audience of a publication over all nodes: which nodes were asked, what they answered, and
//! which ones did not in time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::limits::{COUNTS_MAX, NODES_MAX};
use super::name::{NodeName, Seq};
use super::wire::{Counted, Origin};
use crate::message::{Audience, Millis};

/// Publications whose audience is being counted, each under a number.
///
/// Results come in the order in which the stream acknowledged the publications, because history is
/// written in that order with the audience in it.
#[derive(Debug, Default)]
pub struct Counts {
    counts: BTreeMap<u64, Count>,
    order: VecDeque<u64>,
    /// Deadlines, and the times at which silent nodes are asked directly.
    times: BTreeSet<(Millis, u64)>,
}

#[derive(Debug, Default)]
struct Count {
    /// The publication's place in the stream; `None` until it is acknowledged.
    seq: Option<Seq>,
    patience: Millis,
    deadline: Millis,
    /// The nodes that claimed the channel; `None` until the mirror is known to be new enough.
    named: Option<Vec<Origin>>,
    /// Nodes that may listen, although they have no claim in the mirror.
    unknown: BTreeSet<NodeName>,
    answers: BTreeMap<NodeName, Audience>,
    is_over: bool,
}

/// The audience of a publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Total {
    /// The publication's number.
    pub number: u64,
    /// The publication's place in the stream.
    pub seq: Seq,
    /// The subscribers on the nodes that answered.
    pub audience: Audience,
    /// The number of nodes that answered.
    pub nodes: usize,
    /// The nodes that may have subscribers and did not answer in time.
    pub unknown: Vec<NodeName>,
    /// Whether the names of the nodes are known. If not, any node may be missing.
    pub is_named: bool,
}

/// A node that is to be asked directly about a publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The publication's number.
    pub number: u64,
    /// The publication's place in the stream.
    pub seq: Seq,
    /// The node to ask.
    pub node: NodeName,
}

impl Counts {
    /// Returns the number of publications that are not over.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Returns whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Begins to count a publication that is about to be sent. Its nodes have `patience`
    /// milliseconds from its acknowledgement on. Returns false at the bound; then its audience is
    /// not counted.
    pub fn begin(&mut self, number: u64, patience: Millis) -> bool {
        if self.counts.len() >= COUNTS_MAX {
            return false;
        }
        self.counts.insert(number, Count { patience, ..Count::default() });
        true
    }

    /// Ends the count of a publication that is not stored, or of which that is not known.
    pub fn cancel(&mut self, number: u64) {
        if self.counts.get(&number).is_some_and(|count| count.seq.is_none()) {
            self.counts.remove(&number);
        }
    }

    /// Notes that the stream has acknowledged the publication.
    pub fn stored(&mut self, number: u64, seq: Seq, now: Millis) {
        let Some(count) = self.counts.get_mut(&number).filter(|count| count.seq.is_none()) else {
            return;
        };
        count.seq = Some(seq);
        let patience = count.patience;
        count.deadline = now + patience;
        self.order.push_back(number);
        self.times.insert((now + patience / 2, number));
        self.times.insert((count.deadline, number));
        count.look();
    }

    /// Notes which nodes claimed the channel, after a barrier that began when the publication was
    /// sent or later. `unknown` may listen all the same.
    pub fn named(&mut self, number: u64, named: Vec<Origin>, unknown: Vec<NodeName>) {
        if let Some(count) = self.counts.get_mut(&number).filter(|count| !count.is_over) {
            count.named = Some(named);
            count.unknown = unknown.into_iter().collect();
            count.look();
        }
    }

    /// Takes a node's answer. It may come before the acknowledgement, and from a node that was not
    /// named because it attached later.
    pub fn counted(&mut self, number: u64, answer: Counted) {
        let Some(count) = self.counts.get_mut(&number).filter(|count| !count.is_over) else {
            return;
        };
        let Counted { from, seq, audience } = answer;
        let is_known = count.answers.contains_key(&from.node);
        let is_other = count.seq.is_some_and(|known| known != seq);
        if is_other || !is_known && count.answers.len() >= NODES_MAX {
            return;
        }
        if !is_known {
            count.answers.insert(from.node, audience);
        }
        count.look();
    }

    /// Ends the counts whose time is over. Returns the nodes to ask directly, because they have not
    /// answered in half of it.
    pub fn tick(&mut self, now: Millis) -> Vec<Question> {
        let mut questions = Vec::new();
        while let Some((at, number)) = self.times.first().copied().filter(|(at, _)| *at <= now) {
            self.times.remove(&(at, number));
            let Some(count) = self.counts.get_mut(&number).filter(|count| !count.is_over) else {
                continue;
            };
            if count.deadline <= now {
                count.is_over = true;
            } else if let Some(seq) = count.seq {
                let silent = count.silent().cloned();
                questions.extend(silent.map(|node| Question { number, seq, node }));
            }
        }
        questions
    }

    /// Returns the publications that are over, in the order of their acknowledgements.
    pub fn take(&mut self) -> Vec<Total> {
        let mut totals = Vec::new();
        while let Some(&number) = self.order.front() {
            if self.counts.get(&number).is_some_and(|count| !count.is_over) {
                break;
            }
            self.order.pop_front();
            totals.extend(self.counts.remove(&number).map(|count| count.total(number)));
        }
        totals
    }

    /// Returns when [`Counts::tick`] has something to do; `None` if nothing waits.
    pub fn due(&self) -> Option<Millis> {
        self.times.first().map(|(at, _)| *at)
    }
}

impl Count {
    /// Looks whether all named nodes have answered.
    fn look(&mut self) {
        let is_complete = self.named.is_some() && self.silent().next().is_none();
        self.is_over |= self.seq.is_some() && is_complete;
    }

    /// Returns the nodes that may have subscribers and have not answered.
    fn silent(&self) -> impl Iterator<Item = &NodeName> {
        let named = self.named.iter().flatten().map(|origin| &origin.node);
        let all: BTreeSet<_> = named.chain(&self.unknown).collect();
        all.into_iter().filter(|node| !self.answers.contains_key(*node))
    }

    fn total(&self, number: u64) -> Total {
        let mut audience = Audience::default();
        for one in self.answers.values() {
            audience.websocket = audience.websocket.saturating_add(one.websocket);
            audience.polling = audience.polling.saturating_add(one.polling);
            audience.sse = audience.sse.saturating_add(one.sse);
        }
        Total {
            number,
            seq: self.seq.unwrap_or(0),
            audience,
            nodes: self.answers.len(),
            unknown: self.silent().cloned().collect(),
            is_named: self.named.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::name::Incarnation;
    use super::*;

    fn origin(node: &str) -> Origin {
        Origin { node: name(node), incarnation: Incarnation(1) }
    }

    fn name(node: &str) -> NodeName {
        NodeName::read(node).unwrap()
    }

    fn answer(node: &str, seq: Seq, websocket: u32) -> Counted {
        let audience = Audience { websocket, ..Audience::default() };
        Counted { from: origin(node), seq, audience }
    }

    fn begun(named: &[&str]) -> Counts {
        let mut counts = Counts::default();
        assert!(counts.begin(1, 50));
        counts.named(1, named.iter().map(|node| origin(node)).collect(), vec![]);
        counts
    }

    #[test]
    fn a_count_is_over_when_all_named_nodes_have_answered() {
        let mut counts = begun(&["n1", "n2"]);
        counts.counted(1, answer("n1", 9, 3));
        counts.stored(1, 9, 0);
        assert_eq!(counts.take(), []);
        counts.counted(1, answer("n1", 9, 3));
        assert_eq!(counts.take(), [], "one that answers twice is one");
        counts.counted(1, answer("n2", 8, 5));
        assert_eq!(counts.take(), [], "an answer about another publication");
        counts.counted(1, answer("n3", 9, 1));
        counts.counted(1, answer("n2", 9, 0));
        let totals = counts.take();
        assert_eq!((totals[0].audience.websocket, totals[0].nodes), (4, 3));
        assert_eq!(totals[0].unknown, []);
        assert!(counts.is_empty());
    }

    #[test]
    fn silent_nodes_are_asked_and_then_unknown() {
        let mut counts = begun(&["n1", "n2"]);
        counts.stored(1, 9, 100);
        counts.counted(1, answer("n1", 9, 3));
        assert_eq!(counts.due(), Some(125));
        assert_eq!(counts.tick(124), []);
        assert_eq!(counts.tick(125), [Question { number: 1, seq: 9, node: name("n2") }]);
        assert_eq!(counts.tick(149), []);
        assert_eq!(counts.take(), []);
        counts.tick(150);
        let totals = counts.take();
        assert_eq!(totals[0].unknown, [name("n2")]);
        assert_eq!(totals[0].nodes, 1);
        assert_eq!(counts.due(), None);
    }

    #[test]
    fn a_node_that_may_listen_is_unknown_without_being_named() {
        let mut counts = Counts::default();
        counts.begin(1, 50);
        counts.stored(1, 9, 0);
        counts.named(1, vec![], vec![name("n4")]);
        counts.tick(50);
        let totals = counts.take();
        assert!(totals[0].is_named);
        assert_eq!(totals[0].unknown, [name("n4")]);
        // Without names nothing is known of any node.
        counts.begin(2, 50);
        counts.stored(2, 10, 100);
        counts.tick(150);
        assert!(!counts.take()[0].is_named);
    }

    #[test]
    fn results_come_in_the_order_of_the_stream() {
        let mut counts = Counts::default();
        for number in [1, 2, 3] {
            counts.begin(number, 50);
        }
        counts.named(1, vec![origin("n1")], vec![]);
        counts.named(2, vec![], vec![]);
        counts.stored(1, 5, 0);
        counts.stored(2, 6, 0);
        assert_eq!(counts.take(), [], "the first one waits for an answer");
        counts.cancel(3);
        counts.cancel(1);
        counts.tick(50);
        let order: Vec<_> = counts.take().iter().map(|total| total.seq).collect();
        assert_eq!(order, [5, 6]);
        assert!(counts.is_empty(), "3 was not stored; 1 was, and cannot be cancelled");
    }

    #[test]
    fn publications_beyond_the_bound_are_not_counted() {
        let mut counts = Counts::default();
        for number in 0..COUNTS_MAX as u64 {
            assert!(counts.begin(number, 50));
        }
        assert!(!counts.begin(COUNTS_MAX as u64, 50));
        counts.cancel(0);
        assert!(counts.begin(COUNTS_MAX as u64, 50));
    }

    proptest! {
        #[test]
        fn every_named_node_is_counted_or_unknown(
            named in proptest::collection::btree_set(0..6_u8, 0..5),
            answering in proptest::collection::vec((0..6_u8, 0..100_u32), 0..8),
            is_stored_first: bool,
        ) {
            let text = |number: u8| format!("n{number}");
            let mut counts = Counts::default();
            counts.begin(1, 50);
            if is_stored_first {
                counts.stored(1, 9, 0);
            }
            counts.named(1, named.iter().map(|one| origin(&text(*one))).collect(), vec![]);
            let (mut expected, mut totals) = (BTreeMap::new(), counts.take());
            for (node, websocket) in answering {
                if totals.is_empty() {
                    expected.entry(node).or_insert(websocket);
                    counts.counted(1, answer(&text(node), 9, websocket));
                    totals.extend(counts.take());
                }
            }
            counts.stored(1, 9, 0);
            counts.tick(50);
            totals.extend(counts.take());
            let silent = named.iter().filter(|one| !expected.contains_key(one));
            let silent: Vec<_> = silent.map(|one| name(&text(*one))).collect();
            prop_assert_eq!(totals.len(), 1);
            prop_assert_eq!(&totals[0].unknown, &silent);
            prop_assert_eq!(totals[0].audience.websocket, expected.values().sum::<u32>());
            prop_assert!(counts.is_empty());
        }
    }
}
