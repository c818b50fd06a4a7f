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
/// How often a publication's content is in memory: as it came, and in a frame for each group.
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
    /// Sent to one session, which subscribed after it was published.
    Replayed(RecoveryKey, Arc<Publication>),
}

/// What a session was sent, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Where it connected.
    pub connected: Position,
    /// The last publication that was put into its outbox.
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

    /// Enters a publication that one session was given now.
    pub fn replayed(
        &mut self,
        session: RecoveryKey,
        publication: Arc<Publication>,
        now: Millis,
    ) -> Position {
        self.enter(What::Replayed(session, publication), now)
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
        session: &RecoveryKey,
        sent: &Sent,
        dropped: Position,
        offset: Option<MessageId>,
    ) -> Option<Position> {
        let from = match (offset, sent.last) {
            // Nothing was sent to it, so what it missed comes after the cut. An offset that it
            // names all the same is of a session that it had before.
            (_, None) => dropped,
            (None, Some(_)) => sent.connected,
            (Some(offset), Some((_, last))) if offset == last => dropped,
            (Some(offset), Some(_)) if self.is_before(sent.connected, offset) => sent.connected,
            (Some(offset), Some(_)) => self.place_for(session, sent.connected, offset)? + 1,
        };
        (from >= self.start).then_some(from)
    }

    /// What a session has missed from a position on, in order. `hears` names the channels that it
    /// is subscribed to.
    pub fn missed(
        &self,
        session: &RecoveryKey,
        from: Position,
        hears: impl Fn(&Channel) -> bool,
    ) -> Vec<(Position, Arc<Publication>)> {
        let began = self.beginnings(session, from);
        let entries = self.since(from);
        let missed = entries.filter_map(|(position, what)| match what {
            What::Heard(publication) => {
                let channel = &publication.channel;
                let is_later = began.get(channel).is_none_or(|began| position > *began);
                (is_later && hears(channel)).then(|| (position, publication.clone()))
            }
            What::Replayed(key, publication) => {
                let is_its = key == session && hears(&publication.channel);
                is_its.then(|| (position, publication.clone()))
            }
            What::Began(..) => None,
        });
        missed.collect()
    }

    /// Where a session last began to hear each channel, as far as that is after a position.
    fn beginnings(&self, session: &RecoveryKey, from: Position) -> HashMap<&Channel, Position> {
        let entries = self.since(from);
        let began = entries.filter_map(|(position, what)| match what {
            What::Began(key, channel) if key == session => Some((channel, position)),
            _ => None,
        });
        began.collect()
    }

    /// Whether a publication was heard before a position, for all that is known.
    fn is_before(&self, position: Position, id: MessageId) -> bool {
        self.places.get(&id).is_some_and(|place| *place < position)
    }

    /// Where a session was sent this publication; `None` where it was not, or perhaps twice.
    fn place_for(
        &self,
        session: &RecoveryKey,
        connected: Position,
        id: MessageId,
    ) -> Option<Position> {
        let heard = self.places.get(&id).copied().filter(|place| *place >= connected);
        let mut replays = self.since(connected.max(self.start)).filter(|(_, what)| {
            matches!(what, What::Replayed(key, publication)
                if key == session && publication.id == id)
        });
        let replayed = replays.next().map(|(position, _)| position);
        match (heard, replayed, replays.next()) {
            (Some(place), None, None) | (None, Some(place), None) => Some(place),
            _ => None,
        }
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
        // Its content is shared with whoever else has it, most likely.
        What::Replayed(..) | What::Began(..) => ENTRY_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::message::{Content, Sender};

    const ME: RecoveryKey = [7; 15];
    const OTHER: RecoveryKey = [8; 15];
    const ROOMY: usize = usize::MAX;

    fn id(number: u128) -> MessageId {
        Uuid::from_u128(number)
    }

    fn publication(number: u128, channel: &str) -> Arc<Publication> {
        let content =
            Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
        Arc::new(Publication::new(id(number), Channel::from(channel), 0, content))
    }

    fn numbers(missed: &[(Position, Arc<Publication>)]) -> Vec<u128> {
        missed.iter().map(|(_, publication)| publication.id.as_u128()).collect()
    }

    #[test]
    fn what_follows_the_offset_is_missed_on_channels_that_are_heard() {
        let mut log = Log::new(1_000, ROOMY);
        for (number, channel) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")] {
            log.heard(publication(number, channel), 0);
        }
        let sent = Sent { connected: 0, last: Some((2, id(3))) };
        let from = log.resume_from(&ME, &sent, 4, Some(id(1))).expect("it is here");
        let missed = log.missed(&ME, from, |channel| channel.as_str() != "c");
        assert_eq!(numbers(&missed), [2, 3, 5]);
        // What was sent last needs not be in the log any more.
        assert_eq!(log.resume_from(&ME, &sent, 4, Some(id(3))), Some(4));
    }

    #[test]
    fn who_received_nothing_resumes_where_it_connected_or_was_cut() {
        let mut log = Log::new(1_000, ROOMY);
        (1..=4).for_each(|number| {
            log.heard(publication(number, "a"), 0);
        });
        let nothing = Sent { connected: 1, last: None };
        assert_eq!(log.resume_from(&ME, &nothing, 3, None), Some(3));
        let something = Sent { connected: 1, last: Some((2, id(3))) };
        assert_eq!(log.resume_from(&ME, &something, 3, None), Some(1));
    }

    #[test]
    fn an_offset_of_an_earlier_session_is_as_good_as_none() {
        let mut log = Log::new(1_000, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.heard(publication(2, "a"), 0);
        let nothing = Sent { connected: 1, last: None };
        assert_eq!(log.resume_from(&ME, &nothing, 2, Some(id(1))), Some(2));
        assert_eq!(log.resume_from(&ME, &nothing, 2, Some(id(9))), Some(2));
        let something = Sent { connected: 1, last: Some((1, id(2))) };
        assert_eq!(log.resume_from(&ME, &something, 2, Some(id(1))), Some(1));
    }

    #[test]
    fn what_is_unknown_or_gone_is_said_to_be() {
        let mut log = Log::new(10, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.heard(publication(2, "a"), 20);
        assert_eq!(log.start(), 1);
        let sent = Sent { connected: 0, last: Some((1, id(2))) };
        for offset in [None, Some(id(1)), Some(id(9))] {
            assert_eq!(log.resume_from(&ME, &sent, 2, offset), None, "{offset:?}");
        }
        log.heard(publication(3, "a"), 50);
        assert_eq!(log.resume_from(&ME, &sent, 1, Some(id(2))), None, "the cut is out of the log");
    }

    #[test]
    fn nothing_from_before_a_subscription_is_missed() {
        let mut log = Log::new(1_000, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.heard(publication(2, "b"), 0);
        log.began(OTHER, Channel::from("b"), 0);
        log.heard(publication(3, "b"), 0);
        log.began(ME, Channel::from("b"), 0);
        log.heard(publication(4, "b"), 0);
        assert_eq!(numbers(&log.missed(&ME, 0, |_| true)), [1, 4]);
        assert_eq!(numbers(&log.missed(&OTHER, 0, |_| true)), [1, 3, 4]);
    }

    #[test]
    fn a_replay_is_missed_by_its_session_alone() {
        let mut log = Log::new(1_000, ROOMY);
        let old = publication(1, "b");
        log.heard(publication(2, "a"), 0);
        log.began(ME, Channel::from("b"), 0);
        log.replayed(ME, old.clone(), 0);
        log.heard(publication(3, "b"), 0);
        assert_eq!(numbers(&log.missed(&ME, 0, |_| true)), [2, 1, 3]);
        assert_eq!(numbers(&log.missed(&OTHER, 0, |_| true)), [2, 3]);
        let sent = Sent { connected: 0, last: Some((3, id(3))) };
        assert_eq!(log.resume_from(&ME, &sent, 4, Some(id(1))), Some(3));
        assert_eq!(log.resume_from(&OTHER, &sent, 4, Some(id(1))), None);
        log.replayed(ME, old, 0);
        assert_eq!(log.resume_from(&ME, &sent, 5, Some(id(1))), None, "which of the two?");
    }

    #[test]
    fn bytes_are_bounded() {
        let mut log = Log::new(1_000_000, 10 * ENTRY_BYTES);
        (0..100).for_each(|number| {
            log.heard(publication(number, "a"), 0);
        });
        assert!(log.bytes() <= 10 * ENTRY_BYTES && log.end() == 100 && log.start() > 89);
        assert_eq!(log.places.len() as u64, log.end() - log.start());
    }

    proptest! {
        #[test]
        fn whatever_was_received_the_rest_comes_once_and_in_order(
            channels in prop::collection::vec(0usize..4, 1..60),
            subscribed in prop::collection::vec(0usize..60, 4),
            received in 0usize..60,
            cut in 0usize..60,
        ) {
            let names = ["a", "b", "c", "d"];
            let cut = cut.min(channels.len());
            let mut log = Log::new(1_000, ROOMY);
            let mut sent = Sent { connected: 0, last: None };
            let mut heard: Vec<(usize, MessageId)> = Vec::new();
            let mut dropped = 0;
            for (number, channel) in channels.iter().enumerate() {
                if number == cut {
                    dropped = log.end();
                }
                for (which, at) in subscribed.iter().enumerate() {
                    if *at == number && number < cut {
                        log.began(ME, Channel::from(names[which]), 0);
                    }
                }
                let one = publication(number as u128 + 1, names[*channel]);
                let is_subscribed = subscribed[*channel] < cut && subscribed[*channel] <= number;
                let position = log.heard(one.clone(), 0);
                if is_subscribed {
                    heard.push((number, one.id));
                    if number < cut {
                        sent.last = Some((position, one.id));
                    }
                }
            }
            if cut == channels.len() {
                dropped = log.end();
            }
            let before_cut = heard.iter().filter(|(number, _)| *number < cut).count();
            let received = received.min(before_cut);
            let offset = received.checked_sub(1).map(|last| heard[last].1);
            let from = log.resume_from(&ME, &sent, dropped, offset).expect("all is in the log");
            let hears = |channel: &Channel| {
                let which = names.iter().position(|name| *name == channel.as_str());
                which.is_some_and(|which| subscribed[which] < cut)
            };
            let missed: Vec<MessageId> =
                log.missed(&ME, from, hears).iter().map(|(_, one)| one.id).collect();
            let expected: Vec<MessageId> = heard[received..].iter().map(|(_, id)| *id).collect();
            prop_assert_eq!(missed, expected);
        }
    }
}
