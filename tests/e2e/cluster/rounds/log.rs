//! What clients saw, in the order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::histories::{Answer, Fact, History};

/// The record of a round. Its lock gives the facts of all threads one order.
#[derive(Default)]
pub(super) struct Log(Mutex<Pages>);

/// What was written.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) history: History,
    /// When each fact was written.
    pub(super) times: Vec<Instant>,
    /// The node of each subscriber.
    nodes: BTreeMap<u64, u64>,
    /// The subscribers that have not left.
    present: BTreeSet<u64>,
    publications: u64,
    /// The nodes that ended a client's connection.
    pub(super) cuts: BTreeSet<u64>,
    /// Answers that no node should give.
    pub(super) surprises: Vec<String>,
}

/// The audience in an answer.
pub(super) struct Audience {
    pub(super) total: u64,
    pub(super) nodes: u64,
    pub(super) unknown: Vec<u64>,
    pub(super) is_named: bool,
}

impl Log {
    /// Notes that a publication is about to be sent. Returns its number.
    pub(super) fn asked(&self, node: u64, channel: u64) -> u64 {
        let mut pages = self.pages();
        pages.publications += 1;
        let id = pages.publications;
        pages.write(Fact::Asked { attempt: id, id, channel, node });
        id
    }

    /// Notes the answer to a publication.
    pub(super) fn answered(&self, attempt: u64, answer: Answer, audience: Option<Audience>) {
        let mut pages = self.pages();
        pages.write(Fact::Answered { attempt, answer });
        if let Some(Audience { total, nodes, unknown, is_named }) = audience {
            pages.write(Fact::Counted { attempt, total, nodes, unknown, is_named });
        }
    }

    /// Notes that a subscribe is about to be sent. Returns the number of the subscriber.
    pub(super) fn joining(&self, node: u64, channel: u64) -> u64 {
        let mut pages = self.pages();
        let subscriber = pages.nodes.len() as u64 + 1;
        pages.nodes.insert(subscriber, node);
        pages.present.insert(subscriber);
        pages.write(Fact::Joining { subscriber, node, channel });
        subscriber
    }

    pub(super) fn joined(&self, subscriber: u64, channel: u64) {
        let mut pages = self.pages();
        let node = pages.nodes[&subscriber];
        pages.write(Fact::Joined { subscriber, node, channel });
    }

    pub(super) fn heard(&self, subscriber: u64, id: u64) {
        self.pages().write(Fact::Heard { subscriber, id, place: None });
    }

    pub(super) fn gap(&self, subscriber: u64) {
        self.pages().write(Fact::Gap { subscriber });
    }

    pub(super) fn leaving(&self, subscriber: u64) {
        self.pages().write(Fact::Leaving { subscriber });
    }

    pub(super) fn left(&self, subscriber: u64) {
        let mut pages = self.pages();
        pages.present.remove(&subscriber);
        pages.write(Fact::Left { subscriber });
    }

    /// Notes that a node has ended the connection of a client.
    pub(super) fn cut(&self, node: u64, subscriber: Option<u64>) {
        self.pages().cuts.insert(node);
        subscriber.into_iter().for_each(|subscriber| self.left(subscriber));
    }

    /// Notes an answer that no node should give.
    pub(super) fn surprise(&self, text: String) {
        self.pages().surprises.push(text);
    }

    /// Notes that a node is about to be stopped, or cut off from the others.
    pub(super) fn away(&self, node: u64) {
        self.pages().write(Fact::Away { node });
    }

    /// Notes that this is over.
    pub(super) fn back(&self, node: u64) {
        self.pages().write(Fact::Back { node });
    }

    /// Notes that a node is about to be killed, with all of its subscribers. Returns these.
    pub(super) fn ending(&self, node: u64) -> Vec<u64> {
        let mut pages = self.pages();
        pages.write(Fact::Away { node });
        let on_it = pages.present.iter().filter(|one| pages.nodes[one] == node);
        let gone: Vec<_> = on_it.copied().collect();
        gone.iter().for_each(|&subscriber| pages.write(Fact::Leaving { subscriber }));
        gone
    }

    /// Returns the number of publications so far.
    pub(super) fn publications(&self) -> u64 {
        self.pages().publications
    }

    /// Returns on how many channels of how many nodes there was a subscriber, multiplied.
    pub(super) fn attended(&self) -> usize {
        let pages = self.pages();
        let places = pages.history.iter().filter_map(|fact| match fact {
            Fact::Joined { node, channel, .. } => Some((*node, *channel)),
            _ => None,
        });
        places.collect::<BTreeSet<_>>().len()
    }

    /// Returns the number of facts so far.
    pub(super) fn mark(&self) -> usize {
        self.pages().history.len()
    }

    /// Returns whether each of these nodes has accepted a publication that was sent after a mark,
    /// and each of them has delivered it.
    pub(super) fn is_served(&self, mark: usize, by: &[u64]) -> bool {
        let pages = self.pages();
        let mut asked = BTreeMap::new();
        let mut heard: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut served = BTreeSet::new();
        for fact in &pages.history[mark..] {
            match *fact {
                Fact::Asked { id, node, .. } => drop(asked.insert(id, node)),
                Fact::Heard { id, subscriber, .. } => {
                    heard.entry(id).or_default().insert(pages.nodes[&subscriber]);
                }
                _ => {}
            }
        }
        for fact in &pages.history[mark..] {
            let Fact::Answered { attempt, answer: Answer::Stored { .. } } = fact else { continue };
            let Some(node) = asked.get(attempt) else { continue };
            if heard.get(attempt).is_some_and(|on| by.iter().all(|one| on.contains(one))) {
                served.insert(*node);
            }
        }
        by.iter().all(|node| served.contains(node))
    }

    /// Returns the answers of a node to publications that were sent to it after a mark.
    pub(super) fn answers(&self, mark: usize, of: u64) -> Vec<Answer> {
        let pages = self.pages();
        let mut asked = BTreeSet::new();
        let mut answers = Vec::new();
        for fact in &pages.history[mark..] {
            match fact {
                Fact::Asked { attempt, node, .. } if *node == of => drop(asked.insert(*attempt)),
                Fact::Answered { attempt, answer } if asked.contains(attempt) => {
                    answers.push(*answer);
                }
                _ => {}
            }
        }
        answers
    }

    pub(super) fn into_pages(self) -> Pages {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn write(&mut self, fact: Fact) {
        self.history.push(fact);
        self.times.push(Instant::now());
    }
}
