//! The node's writes of documents, until the stream has them or they are refused.
//!
//! Writes of one document go one after the other. The version of a write is decided by what the
//! node knows of the document, and the stream takes the write only if the document's last sequence
//! is the one that was decided by. If it is not, another node was faster: the node learns what that
//! one wrote and decides again. A refusal is decided by a copy that is proven to be new enough.

use std::collections::{HashMap, VecDeque};

use crate::cluster::ack::Refusal;
use crate::cluster::name::Seq;
use crate::limits::{
    CLUSTER_WRITE_BYTES_MAX, CLUSTER_WRITE_TRIES_MAX, CLUSTER_WRITES_KNOWN_MAX, CLUSTER_WRITES_MAX,
};
use crate::message::{Decided, Document, DocumentKey, DocumentWrite, Millis};

/// The writes of a node. `T` is the right to answer a writer.
#[derive(Debug)]
pub struct Writes<T> {
    lines: HashMap<DocumentKey, Line<T>>,
    flying: HashMap<u64, DocumentKey>,
    next: u64,
    len: usize,
    bytes: usize,
}

/// What the stream has of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The sequence of its message.
    pub seq: Seq,
    /// The version of its document, in milliseconds since the epoch.
    pub version: Millis,
    /// Whether it is there, or was deleted.
    pub is_there: bool,
}

/// What the node's copy says of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Before {
    /// The document; `None` if it was never written, or is forgotten.
    pub standing: Option<Standing>,
    /// The latest version among forgotten documents.
    pub forgotten: Millis,
    /// Whether there may be one more document.
    pub has_room: bool,
    /// The place in the stream up to which the copy has everything.
    pub position: Seq,
}

/// Names a write that waits, so that it is not taken for a later one of the same document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The document.
    pub key: DocumentKey,
    number: u64,
}

/// A message to the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// The number by which the answer is recognized.
    pub number: u64,
    /// The sequence that the document's last message must have; 0 if there must be none.
    pub expected: Seq,
    /// The document as it is to be.
    pub document: Document,
}

/// What the stream answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has the document, at this place.
    Stored(Seq),
    /// It does not have the document. It has moved to 0 if the place of another message of the
    /// document is not known.
    Refused(Refusal),
    /// It has the document or not.
    Unknown,
}

/// The answer to a writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The document has this version.
    Written(Millis),
    /// The version of the write is not later than this one.
    Stale(Millis),
    /// There is no document to delete.
    Missing,
    /// There is no room for a document.
    Full,
    /// Other writers or the stream are too fast or too slow for it; it has changed nothing.
    Busy,
    /// The stream cannot be reached; it has changed nothing.
    Unavailable,
    /// The stream did not answer: the document is written or not.
    Unknown,
    /// The stream refuses it for a reason that only an operator can do something about.
    Failed,
}

/// What is to be done for the first write of a document.
#[derive(Debug)]
pub enum Next<T> {
    /// Send this to the stream.
    Put(Box<Put>),
    /// Prove the copy, then decide again.
    Prove(Name),
    /// Answer the writer; the next write may be decided.
    Answer(T, Answer),
}

/// What follows from an answer of the stream.
#[derive(Debug)]
pub enum Settled<T> {
    /// Answer the writer; the next write of this document may be decided.
    Answer(T, Answer, DocumentKey),
    /// Decide again when the copy has this place.
    Behind(Name, Seq),
    /// Prove the copy, then decide again.
    Prove(Name),
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    /// What the stream has by its own answer.
    known: Option<Standing>,
    /// The sequence that the stream has, by its refusal of the first write.
    told: Option<Seq>,
    /// The number of the message that is not answered, and the version in it.
    flying: Option<(u64, Millis)>,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    write: DocumentWrite,
    ticket: T,
    tries: u32,
    ends: Millis,
}

impl<T> Default for Writes<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), flying: HashMap::new(), next: 0, len: 0, bytes: 0 }
    }
}

impl<T> Writes<T> {
    /// Returns whether one more write may be taken.
    pub fn has_room(&self) -> bool {
        self.len < CLUSTER_WRITES_MAX && self.bytes < CLUSTER_WRITE_BYTES_MAX
    }

    /// Returns whether no write waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a write, which is given up at `ends`. Returns its name if it is to be decided now.
    pub fn take(&mut self, write: DocumentWrite, ticket: T, ends: Millis) -> Option<Name> {
        let number = self.number();
        (self.len, self.bytes) = (self.len + 1, self.bytes + write.bytes());
        let key = write.key.clone();
        let line = self.lines.entry(key.clone()).or_default();
        line.waiting.push_back(Waiting { number, write, ticket, tries: 0, ends });
        (line.waiting.len() == 1).then_some(Name { key, number })
    }

    /// Returns the name of the first write of a document; `None` if none waits.
    pub fn first(&self, key: &DocumentKey) -> Option<Name> {
        let number = self.lines.get(key)?.waiting.front()?.number;
        Some(Name { key: key.clone(), number })
    }

    /// Decides on the write of this name by the copy, which `is_proven` if it has everything that
    /// the stream had when the write began to wait for that. Returns `None` if the write does not
    /// wait any more.
    pub fn decide(
        &mut self,
        name: &Name,
        before: &Before,
        is_proven: bool,
        now: Millis,
    ) -> Option<Next<T>> {
        let number = self.next;
        let line = self.lines.get_mut(&name.key)?;
        let first = line.waiting.front().filter(|first| first.number == name.number)?;
        if line.flying.is_some() {
            return None;
        }
        let known = line.known.filter(|known| known.seq > before.position);
        let standing = known.or(before.standing);
        let found = standing.map(|one| (one.version, one.is_there));
        let Before { forgotten, has_room, .. } = *before;
        let refused = match first.write.decide(found, forgotten, has_room, now) {
            Decided::Version(version) => {
                // A forgotten document may still have its message in the stream.
                let left = line.told.filter(|_| is_proven).unwrap_or(0);
                let expected = standing.map_or(left, |one| one.seq);
                line.flying = Some((number, version));
                let DocumentWrite { key, user_id, data, .. } = first.write.clone();
                self.next += 1;
                self.flying.insert(number, key.clone());
                let document = Document { key, user_id, data, version };
                return Some(Next::Put(Box::new(Put { number, expected, document })));
            }
            _ if !is_proven => return Some(Next::Prove(name.clone())),
            Decided::Stale(version) => Answer::Stale(version),
            Decided::Missing => Answer::Missing,
            Decided::Full => Answer::Full,
        };
        self.pop(&name.key).map(|ticket| Next::Answer(ticket, refused))
    }

    /// Takes an answer of the stream. `position` is the place up to which the copy has everything.
    /// Returns `None` if the writer has its answer already.
    pub fn settled(&mut self, number: u64, outcome: Outcome, position: Seq) -> Option<Settled<T>> {
        let key = self.flying.remove(&number)?;
        let line = self.lines.get_mut(&key)?;
        let (_, version) = line.flying.take()?;
        let first = line.waiting.front_mut()?;
        line.known = None;
        let answer = match outcome {
            Outcome::Stored(seq) => {
                let is_there = first.write.data.is_some();
                line.known = Some(Standing { seq, version, is_there });
                Answer::Written(version)
            }
            Outcome::Refused(Refusal::Moved(seq)) if first.tries < CLUSTER_WRITE_TRIES_MAX => {
                first.tries += 1;
                line.told = Some(seq);
                let name = Name { key, number: first.number };
                let is_behind = seq > position;
                return Some(match is_behind {
                    true => Settled::Behind(name, seq),
                    false => Settled::Prove(name),
                });
            }
            Outcome::Refused(Refusal::Moved(_) | Refusal::Overloaded) => Answer::Busy,
            Outcome::Refused(Refusal::Unavailable) => Answer::Unavailable,
            Outcome::Refused(Refusal::Error(_)) => Answer::Failed,
            Outcome::Unknown => Answer::Unknown,
        };
        self.pop(&key).map(|ticket| Settled::Answer(ticket, answer, key))
    }

    /// Gives up the writes whose time is over. Returns their answers, and the names of writes that
    /// may be decided now.
    pub fn expire(&mut self, now: Millis) -> (Vec<(T, Answer)>, Vec<Name>) {
        let is_over = |line: &Line<T>| line.waiting.front().is_some_and(|first| first.ends <= now);
        let over = self.lines.iter().filter(|(_, line)| is_over(line));
        let keys: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        let (mut answers, mut names) = (Vec::new(), Vec::new());
        for key in keys {
            while self.lines.get(&key).is_some_and(is_over) {
                let answer = match self.give_up_flight(&key) {
                    true => Answer::Unknown,
                    false => Answer::Unavailable,
                };
                answers.extend(self.pop(&key).map(|ticket| (ticket, answer)));
            }
            names.extend(self.first(&key));
        }
        (answers, names)
    }

    /// Gives up the writes that are not on their way to the stream, because it cannot be reached.
    pub fn refuse_unsent(&mut self) -> Vec<T> {
        let keys: Vec<_> = self.lines.keys().cloned().collect();
        let mut refused = Vec::new();
        for key in keys {
            let Some(line) = self.lines.get_mut(&key) else { continue };
            let sent = usize::from(line.flying.is_some());
            let unsent = line.waiting.split_off(sent.min(line.waiting.len()));
            self.len -= unsent.len();
            self.bytes -= unsent.iter().map(|one| one.write.bytes()).sum::<usize>();
            refused.extend(unsent.into_iter().map(|one| one.ticket));
            self.forget(&key);
        }
        refused
    }

    /// Notes that the copy has everything of a document up to this place.
    pub fn passed(&mut self, key: &DocumentKey, seq: Seq) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.known = line.known.filter(|known| known.seq > seq);
        self.forget(key);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Removes the first write of a document. Returns the right to answer its writer.
    fn pop(&mut self, key: &DocumentKey) -> Option<T> {
        let line = self.lines.get_mut(key)?;
        let first = line.waiting.pop_front()?;
        line.told = None;
        (self.len, self.bytes) = (self.len - 1, self.bytes - first.write.bytes());
        self.forget(key);
        Some(first.ticket)
    }

    /// Ceases to await the stream's answer for a document. Returns whether it was awaited.
    fn give_up_flight(&mut self, key: &DocumentKey) -> bool {
        let Some(line) = self.lines.get_mut(key) else { return false };
        let flying = line.flying.take();
        if let Some((number, _)) = flying {
            line.known = None;
            self.flying.remove(&number);
        }
        flying.is_some()
    }

    /// Forgets a document of which no write waits, unless the stream's answer says more than the
    /// copy.
    fn forget(&mut self, key: &DocumentKey) {
        let Some(line) = self.lines.get(key) else { return };
        let is_needed = line.known.is_some() && self.lines.len() <= CLUSTER_WRITES_KNOWN_MAX;
        if line.waiting.is_empty() && !is_needed {
            self.lines.remove(key);
        }
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), known: None, told: None, flying: None }
    }
}

#[cfg(test)]
mod tests;
