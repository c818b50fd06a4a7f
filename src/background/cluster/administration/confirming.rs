//! Changes that are made, until all nodes have confirmed them.

use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::Post;
use super::follower::Lost;
use crate::cluster::name::NodeName;
use crate::limits::{ADMIN_ASK_MS, ADMIN_CONFIRM_MS};

/// How long to sleep if nothing waits.
const IDLE: Duration = Duration::from_secs(3_600);

/// What nodes say to each other of the bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// The node has followed up to this revision.
    Followed(NodeName, u64),
    /// Every node is to say how far it has followed.
    Asked,
}

#[derive(Serialize, Deserialize)]
struct WordText {
    node: Option<String>,
    revision: Option<u64>,
}

impl Word {
    pub(super) fn encode(&self) -> String {
        let text = match self {
            Self::Followed(node, revision) => {
                WordText { node: Some(node.to_string()), revision: Some(*revision) }
            }
            Self::Asked => WordText { node: None, revision: None },
        };
        serde_json::to_string(&text).expect("strings and numbers serialize")
    }

    /// Reads what a node says; `None` if it is not as this release says it.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let WordText { node, revision } = serde_json::from_slice(payload).ok()?;
        match (node, revision) {
            (Some(node), Some(revision)) => Some(Self::Followed(NodeName::read(&node)?, revision)),
            (None, None) => Some(Self::Asked),
            _ => None,
        }
    }
}

/// The words of nodes on one bucket.
pub(super) struct Words {
    client: Client,
    subject: String,
    node: NodeName,
    heard: Subscriber,
}

impl Words {
    /// Begins to hear them on a subject.
    pub(super) async fn begin(post: &Post, subject: String) -> Result<Self, Lost> {
        let client = post.control.client().clone();
        let heard = client.subscribe(subject.clone()).await;
        let heard = heard.map_err(|error| Lost::Bucket(error.to_string()))?;
        Ok(Self { client, subject, node: post.node.clone(), heard })
    }

    /// Waits for the next word; `None` if it cannot be read. Nothing is lost if this is given up
    /// meanwhile.
    pub(super) async fn next(&mut self) -> Result<Option<Word>, Lost> {
        let message = self.heard.next().await;
        let message = message.ok_or_else(|| Lost::Bucket("the connection has ended".to_owned()))?;
        Ok(Word::read(&message.payload))
    }

    /// Says how far this node has followed. A node that does not hear it asks later.
    pub(super) fn tell(&self, revision: u64) -> impl Future<Output = ()> + use<> {
        self.say(&Word::Followed(self.node.clone(), revision))
    }

    /// Asks all nodes how far they have followed.
    pub(super) fn ask(&self) -> impl Future<Output = ()> + use<> {
        self.say(&Word::Asked)
    }

    fn say(&self, word: &Word) -> impl Future<Output = ()> + use<> {
        let (client, subject) = (self.client.clone(), self.subject.clone());
        let text = word.encode();
        async move {
            let _ = client.publish(subject, text.into()).await;
        }
    }
}

/// Changes that wait for nodes. Each has a `T`, with which it is answered.
pub(super) struct Confirming<T> {
    waiting: Vec<Waiting<T>>,
}

struct Waiting<T> {
    change: T,
    revision: u64,
    /// The nodes that have not confirmed.
    missing: Vec<NodeName>,
    ask_at: Instant,
    until: Instant,
}

/// A change that is to be answered, with the nodes that have not confirmed it.
pub(super) type Settled<T> = (T, Vec<Box<str>>);

impl<T> Default for Confirming<T> {
    fn default() -> Self {
        Self { waiting: Vec::new() }
    }
}

impl<T> Confirming<T> {
    /// Returns the number of changes that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets a change wait for nodes.
    pub(super) fn add(&mut self, change: T, revision: u64, nodes: Vec<NodeName>) {
        let now = Instant::now();
        let [ask_at, until] = [ADMIN_ASK_MS, ADMIN_CONFIRM_MS].map(Duration::from_millis);
        self.waiting.push(Waiting {
            change,
            revision,
            missing: nodes,
            ask_at: now + ask_at,
            until: now + until,
        });
    }

    /// Notes that a node has followed up to a revision.
    pub(super) fn confirmed(&mut self, node: &NodeName, revision: u64) {
        for one in self.waiting.iter_mut().filter(|one| one.revision <= revision) {
            one.missing.retain(|missing| missing != node);
        }
    }

    /// Returns when something is due.
    pub(super) fn due(&self) -> Instant {
        let dues = self.waiting.iter().map(|one| one.ask_at.min(one.until));
        dues.min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    /// Returns whether nodes must be asked now. The next time is as long after this.
    pub(super) fn must_ask(&mut self) -> bool {
        let now = Instant::now();
        let mut must = false;
        for one in self.waiting.iter_mut().filter(|one| one.ask_at <= now) {
            one.ask_at = now + Duration::from_millis(ADMIN_ASK_MS);
            must |= !one.missing.is_empty();
        }
        must
    }

    /// Takes the changes that are confirmed by all nodes, or whose time is over.
    pub(super) fn settled(&mut self) -> Vec<Settled<T>> {
        let now = Instant::now();
        let is_over = |one: &mut Waiting<T>| one.missing.is_empty() || one.until <= now;
        self.waiting.extract_if(.., is_over).map(settle).collect()
    }

    /// Takes all changes.
    pub(super) fn take_all(&mut self) -> Vec<Settled<T>> {
        self.waiting.drain(..).map(settle).collect()
    }
}

fn settle<T>(one: Waiting<T>) -> Settled<T> {
    let unconfirmed = one.missing.iter().map(|node| node.as_str().into()).collect();
    (one.change, unconfirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        let node = NodeName::read("n1").unwrap();
        for word in [Word::Followed(node, 7), Word::Asked] {
            assert_eq!(Word::read(word.encode().as_bytes()), Some(word));
        }
        for other in [&b""[..], b"[]", br#"{"node":"n1"}"#, br#"{"node":"","revision":1}"#] {
            assert_eq!(Word::read(other), None);
        }
    }
}
