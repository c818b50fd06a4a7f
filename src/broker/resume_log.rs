//! The publications that one worker took from its mailbox lately, in that order. Those that a
//! client missed while its connection was cut are read from here. The log is bounded in time and
//! bytes; a client that missed older publications is not recovered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::budget::Deflated;
use crate::message::{Channel, Mark, MarkPlace, Millis, Publication, RecoveryKey};

/// A place in the log: the number of entries before it since the log was created.
pub type Position = u64;

/// Bytes that an entry takes besides the content, roughly: the publication itself, its entry, and
/// the beginnings of its frames.
const ENTRY_BYTES: usize = 512;
/// Copies of a publication's content in memory: as it was published, and in a frame of each
/// encoding. Each frame may have a compressed form besides.
const COPIES: usize = 3;

/// A worker's resume log.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// The position of the first entry.
    start: Position,
    positions: HashMap<Mark, Position>,
    /// The place up to which the log's channels are entered as far as the cluster's stream has
    /// them, and nothing of them from behind it; `None` if that is not known. Without an entry of
    /// the stream it is that of no stream.
    place: Option<MarkPlace>,
    bytes: usize,
    bytes_max: usize,
    deflated: Deflated,
    window: Millis,
}

#[derive(Debug)]
struct Entry {
    at: Millis,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A publication, which all subscribers of its channel received.
    Heard(Arc<Publication>),
    /// A session hears a channel from here on.
    Began(RecoveryKey, Channel),
    /// A session hears a channel no longer.
    Ended(RecoveryKey, Channel),
    /// Publications of a channel may be missing here.
    Lost(Channel),
}

/// The last publications that a session was sent, as far as the worker knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The end of the log when the session connected.
    pub connected: Position,
    /// The last replay that contained a publication: the end of the log at that time, and the last
    /// publication of the replay. Replayed publications are older than the log's end and have no
    /// place of their own in it.
    pub replayed: Option<(Position, Mark)>,
    /// The last publication that was put into the session's outbox, and its position in the log.
    pub last: Option<(Position, Mark)>,
}

impl Log {
    /// Creates a log of entries that are at most `window` milliseconds old and have at most
    /// `bytes_max` bytes together.
    pub fn new(window: Millis, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            start: 0,
            positions: HashMap::new(),
            place: Some(MarkPlace::default()),
            bytes: 0,
            bytes_max,
            deflated: Deflated::default(),
            window,
        }
    }

    /// Lets compressed frames count.
    pub fn with_deflated(self, deflated: Deflated) -> Self {
        Self { deflated, ..self }
    }

    /// Returns the position of the oldest entry.
    pub fn start(&self) -> Position {
        self.start
    }

    /// Returns the position of the next entry.
    pub fn end(&self) -> Position {
        self.start + self.entries.len() as u64
    }

    /// Returns the place in the cluster's stream up to which the worker's sessions have received
    /// everything, and from behind which they have received nothing; `None` if that is not known.
    pub fn place(&self) -> Option<MarkPlace> {
        self.place.filter(|place| *place != MarkPlace::default())
    }

    /// Returns the same when one of them begins to hear a channel behind `joined`.
    pub fn place_with(&self, joined: MarkPlace) -> Option<MarkPlace> {
        match self.place? {
            none if none == MarkPlace::default() => Some(joined),
            // What was entered is older than a join that the worker takes after it.
            place => (place.epoch() == joined.epoch()).then(|| place.max(joined)),
        }
    }

    /// Returns what was entered of these channels, of each since a position. `None` if something
    /// may be missing.
    pub fn heard_since(
        &self,
        joined: &HashMap<Channel, Position>,
    ) -> Option<Vec<Arc<Publication>>> {
        let first = joined.values().copied().min().unwrap_or(self.end());
        let mut heard = Vec::new();
        for (position, what) in self.since(first) {
            let is_heard = |channel| joined.get(channel).is_some_and(|from| *from <= position);
            match what {
                What::Heard(publication) if is_heard(&publication.channel) => {
                    heard.push(publication.clone());
                }
                What::Lost(channel) if is_heard(channel) => return None,
                _ => {}
            }
        }
        (self.start <= first).then_some(heard)
    }

    /// Returns the bytes of the entries, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Enters a publication that all subscribers of its channel received now.
    pub fn heard(&mut self, publication: Arc<Publication>, now: Millis) -> Position {
        let mark = publication.mark();
        self.positions.insert(mark, self.end());
        match mark {
            Mark::Place(place) => self.place = Some(place),
            // On a channel of this node's own order it says nothing of the stream.
            _ if publication.place.is_none() => {}
            _ => self.place = None,
        }
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

    /// Enters that publications of a channel may be missing here.
    pub fn lost(&mut self, channel: Channel, now: Millis) {
        self.place = None;
        self.enter(What::Lost(channel), now);
    }

    /// Drops entries that are too old, and the oldest ones beyond the bound in bytes.
    pub fn trim(&mut self, now: Millis) {
        while let Some(first) = self.entries.front() {
            let is_old = first.at.saturating_add(self.window) < now;
            if !is_old && self.bytes <= self.bytes_max {
                return;
            }
            self.pop();
        }
    }

    /// Returns the position from which on a session has missed publications. Its connection was cut
    /// at `dropped`, and its client names `offset` as the last publication that it received. `None`
    /// if the position is unknown or no longer in the log.
    pub fn resume_from(
        &self,
        sent: &Sent,
        dropped: Position,
        offset: Option<Mark>,
    ) -> Option<Position> {
        let from = match (offset, sent.last) {
            // Nothing was sent to the session, so it missed what came after the cut. If the client
            // names an offset, that is of an earlier session.
            (_, None) => dropped,
            (Some(offset), Some((_, last))) if offset == last => dropped,
            (offset, Some(_)) => self.after(sent, offset)?,
        };
        (from >= self.start).then_some(from)
    }

    /// Returns the position behind the last publication that a session received, if it has not
    /// received all that it was sent.
    fn after(&self, sent: &Sent, offset: Option<Mark>) -> Option<Position> {
        let place = offset.and_then(|offset| self.positions.get(&offset).copied());
        if let Some((position, last)) = sent.replayed {
            return match place {
                _ if offset == Some(last) => Some(position),
                Some(place) if place >= position => Some(place + 1),
                // It may have received a part of the replay, and which part is unknown.
                _ => None,
            };
        }
        match (offset, place) {
            (None, _) => Some(sent.connected),
            // The offset may be of an earlier session. Then this session has received nothing.
            (Some(_), Some(place)) => Some((place + 1).max(sent.connected)),
            (Some(_), None) => None,
        }
    }

    /// Returns the publications that a session missed from a position on, in order: those on
    /// channels for which `hears` is true, published while the session was subscribed. `None` if
    /// some of these may be missing in the log.
    pub fn missed(
        &self,
        session: &RecoveryKey,
        from: Position,
        hears: impl Fn(&Channel) -> bool,
    ) -> Option<Vec<(Position, Arc<Publication>)>> {
        let mut is_heard = self.heard_at(session, from);
        let mut missed = Vec::new();
        for (position, what) in self.since(from) {
            let heard = |channel: &Channel| {
                hears(channel) && is_heard.get(channel).copied().unwrap_or(true)
            };
            match what {
                What::Heard(publication) if heard(&publication.channel) => {
                    missed.push((position, publication.clone()));
                }
                What::Lost(channel) if heard(channel) => return None,
                What::Heard(_) | What::Lost(_) => {}
                What::Began(key, channel) if key == session => {
                    is_heard.insert(channel, true);
                }
                What::Ended(key, channel) if key == session => {
                    is_heard.insert(channel, false);
                }
                What::Began(..) | What::Ended(..) => {}
            }
        }
        Some(missed)
    }

    /// Returns whether a session heard a channel at a position, for each channel that it began or
    /// ceased to hear later.
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
        // Entries before the start are gone, and no entry is beyond the end.
        let skipped = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        (self.start..).zip(&self.entries).skip(skipped).map(|(at, entry)| (at, &entry.what))
    }

    fn enter(&mut self, what: What, now: Millis) -> Position {
        let position = self.end();
        self.bytes += bytes(&what, self.deflated);
        self.entries.push_back(Entry { at: now, what });
        self.trim(now);
        position
    }

    fn pop(&mut self) {
        let Some(Entry { what, .. }) = self.entries.pop_front() else { return };
        self.bytes -= bytes(&what, self.deflated);
        if let What::Heard(publication) = &what {
            self.positions.remove(&publication.mark());
        }
        self.start += 1;
    }
}

/// Returns the bytes that a publication takes in a log, roughly.
pub(super) fn weight(publication: &Publication, deflated: Deflated) -> usize {
    let bytes = publication.content.bytes();
    ENTRY_BYTES + COPIES * bytes + (COPIES - 1) * deflated.bytes(&publication.channel, bytes)
}

fn bytes(what: &What, deflated: Deflated) -> usize {
    match what {
        What::Heard(publication) => weight(publication, deflated),
        What::Began(..) | What::Ended(..) | What::Lost(_) => size_of::<Entry>(),
    }
}

#[cfg(test)]
mod tests;
