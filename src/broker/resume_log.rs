//! What one worker heard lately, in the order in which it took it from its mailbox: what a client
//! missed while its connection was cut is read from here. Bounded in time and bytes; whoever needs
//! what was there before is told that it is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::message::{Channel, MessageId, Millis, Publication, RecoveryKey};

/// A place in the log: counts everything that was ever entered.
pub type Position = u64;

/// Bytes that an entry takes besides what its publisher gave, roughly: the publication's own, its
/// place here, and the beginning of its frames.
const ENTRY_BYTES: usize = 512;
/// How often a publication's content is in memory: as it came, and in a frame for each encoding.
const COPIES: usize = 3;

/// The log.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// The position of the first entry.
    start: Position,
    places: HashMap<MessageId, Position>,
    bytes: usize,
    bytes_max: usize,
    window: Millis,
}

#[derive(Debug)]
struct Entry {
    at: Millis,
    what: What,
}

#[derive(Debug)]
enum What {
    /// For everybody who hears its channel.
    Heard(Arc<Publication>),
    /// A session hears a channel from here on.
    Began(RecoveryKey, Channel),
    /// A session hears a channel no longer.
    Ended(RecoveryKey, Channel),
}

/// What a session was sent, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Where it connected.
    pub connected: Position,
    /// What a channel had kept for it, the last time that there was anything: the end of the log
    /// then, and the last publication of it. That is from before, and so has no place of its own.
    pub replayed: Option<(Position, MessageId)>,
    /// The last publication that was put into its outbox, and where the log was then.
    pub last: Option<(Position, MessageId)>,
}

impl Log {
    /// A log that keeps what is no older than `window`, and no more than so many bytes of it.
    pub fn new(window: Millis, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            start: 0,
            places: HashMap::new(),
            bytes: 0,
            bytes_max,
            window,
        }
    }

    /// The position of the oldest entry.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The position that the next entry gets.
    pub fn end(&self) -> Position {
        self.start + self.entries.len() as u64
    }

    /// Bytes in it, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Enters a publication that everybody who hears its channel was given now.
    pub fn heard(&mut self, publication: Arc<Publication>, now: Millis) -> Position {
        self.places.insert(publication.id, self.end());
        self.enter(What::Heard(publication), now)
    }

    /// Enters that a session hears a channel from now on.
    pub fn began(&mut self, session: RecoveryKey, channel: Channel, now: Millis) {
        self.enter(What::Began(session, channel), now);
    }

    /// Enters that a session hears a channel no longer.
    pub fn ended(&mut self, session: RecoveryKey, channel: Channel, now: Millis) {
        self.enter(What::Ended(session, channel), now);
    }

    /// Lets go of what is too old.
    pub fn trim(&mut self, now: Millis) {
        while let Some(first) = self.entries.front() {
            let is_old = first.at.saturating_add(self.window) < now;
            if !is_old && self.bytes <= self.bytes_max {
                return;
            }
            self.pop();
        }
    }

    /// From where on a session has missed something that was cut at `dropped` and says that
    /// `offset` is the last publication it received. `None` where that cannot be said, or what
    /// followed is no longer here.
    pub fn resume_from(
        &self,
        sent: &Sent,
        dropped: Position,
        offset: Option<MessageId>,
    ) -> Option<Position> {
        let from = match (offset, sent.last) {
            // Nothing was sent to it, so what it missed comes after the cut. An offset that it
            // names all the same is of a session that it had before.
            (_, None) => dropped,
            (Some(offset), Some((_, last))) if offset == last => dropped,
            (offset, Some(_)) => self.after(sent, offset)?,
        };
        (from >= self.start).then_some(from)
    }

    /// Behind what a session received last, where it has not received all that it was sent.
    fn after(&self, sent: &Sent, offset: Option<MessageId>) -> Option<Position> {
        let place = offset.and_then(|offset| self.places.get(&offset).copied());
        if let Some((position, last)) = sent.replayed {
            return match place {
                _ if offset == Some(last) => Some(position),
                Some(place) if place >= position => Some(place + 1),
                // It may have received a part of what was replayed; which one, nobody knows.
                _ => None,
            };
        }
        match (offset, place) {
            (None, _) => Some(sent.connected),
            // It is of a session that it had before: of this one it has received nothing.
            (Some(_), Some(place)) => Some((place + 1).max(sent.connected)),
            (Some(_), None) => None,
        }
    }

    /// What a session has missed from a position on, in order, of the channels that it hears now,
    /// which `hears` names: what came there while it heard them.
    pub fn missed(
        &self,
        session: &RecoveryKey,
        from: Position,
        hears: impl Fn(&Channel) -> bool,
    ) -> Vec<(Position, Arc<Publication>)> {
        let mut is_heard = self.heard_at(session, from);
        let mut missed = Vec::new();
        for (position, what) in self.since(from) {
            match what {
                What::Heard(publication) => {
                    let channel = &publication.channel;
                    if hears(channel) && is_heard.get(channel).copied().unwrap_or(true) {
                        missed.push((position, publication.clone()));
                    }
                }
                What::Began(key, channel) if key == session => {
                    is_heard.insert(channel, true);
                }
                What::Ended(key, channel) if key == session => {
                    is_heard.insert(channel, false);
                }
                What::Began(..) | What::Ended(..) => {}
            }
        }
        missed
    }

    /// Whether a session heard a channel at a position, for each that it began or ceased to hear
    /// later.
    fn heard_at(&self, session: &RecoveryKey, from: Position) -> HashMap<&Channel, bool> {
        let mut heard = HashMap::new();
        for (_, what) in self.since(from) {
            match what {
                What::Began(key, channel) if key == session => {
                    heard.entry(channel).or_insert(false);
                }
                What::Ended(key, channel) if key == session => {
                    heard.entry(channel).or_insert(true);
                }
                _ => {}
            }
        }
        heard
    }

    fn since(&self, from: Position) -> impl Iterator<Item = (Position, &What)> {
        // What lies before the start is gone; beyond the end there is nothing.
        let skipped = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        (self.start..).zip(&self.entries).skip(skipped).map(|(at, entry)| (at, &entry.what))
    }

    fn enter(&mut self, what: What, now: Millis) -> Position {
        let position = self.end();
        self.bytes += bytes(&what);
        self.entries.push_back(Entry { at: now, what });
        self.trim(now);
        position
    }

    fn pop(&mut self) {
        let Some(Entry { what, .. }) = self.entries.pop_front() else { return };
        self.bytes -= bytes(&what);
        if let What::Heard(publication) = &what {
            self.places.remove(&publication.id);
        }
        self.start += 1;
    }
}

fn bytes(what: &What) -> usize {
    match what {
        What::Heard(publication) => ENTRY_BYTES + COPIES * publication.content.bytes(),
        What::Began(..) | What::Ended(..) => size_of::<Entry>(),
    }
}

#[cfg(test)]
mod tests;
