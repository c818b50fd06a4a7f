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
        let sent = Sent { connected: 0, replayed: None, last: Some((2, id(3))) };
        let from = log.resume_from(&sent, 4, Some(id(1))).expect("it is here");
        let missed = log.missed(&ME, from, |channel| channel.as_str() != "c");
        assert_eq!(numbers(&missed), [2, 3, 5]);
        // What was sent last needs not be in the log any more.
        assert_eq!(log.resume_from(&sent, 4, Some(id(3))), Some(4));
    }

    #[test]
    fn who_received_nothing_resumes_where_it_connected_or_was_cut() {
        let mut log = Log::new(1_000, ROOMY);
        (1..=4).for_each(|number| {
            log.heard(publication(number, "a"), 0);
        });
        let nothing = Sent { connected: 1, replayed: None, last: None };
        assert_eq!(log.resume_from(&nothing, 3, None), Some(3));
        let something = Sent { connected: 1, replayed: None, last: Some((2, id(3))) };
        assert_eq!(log.resume_from(&something, 3, None), Some(1));
    }

    #[test]
    fn an_offset_of_an_earlier_session_is_as_good_as_none() {
        let mut log = Log::new(1_000, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.heard(publication(2, "a"), 0);
        let nothing = Sent { connected: 1, replayed: None, last: None };
        assert_eq!(log.resume_from(&nothing, 2, Some(id(1))), Some(2));
        assert_eq!(log.resume_from(&nothing, 2, Some(id(9))), Some(2));
        let something = Sent { connected: 1, replayed: None, last: Some((1, id(2))) };
        assert_eq!(log.resume_from(&something, 2, Some(id(1))), Some(1));
    }

    #[test]
    fn what_is_unknown_or_gone_is_said_to_be() {
        let mut log = Log::new(10, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.heard(publication(2, "a"), 20);
        assert_eq!(log.start(), 1);
        let sent = Sent { connected: 0, replayed: None, last: Some((1, id(2))) };
        for offset in [None, Some(id(1)), Some(id(9))] {
            assert_eq!(log.resume_from(&sent, 2, offset), None, "{offset:?}");
        }
        log.heard(publication(3, "a"), 50);
        assert_eq!(log.resume_from(&sent, 1, Some(id(2))), None, "the cut is out of the log");
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
    fn who_ceased_to_hear_a_channel_for_a_while_misses_nothing_of_that() {
        let mut log = Log::new(1_000, ROOMY);
        log.heard(publication(1, "a"), 0);
        log.ended(ME, Channel::from("a"), 0);
        log.heard(publication(2, "a"), 0);
        log.began(ME, Channel::from("a"), 0);
        log.heard(publication(3, "a"), 0);
        assert_eq!(numbers(&log.missed(&ME, 0, |_| true)), [1, 3]);
        assert_eq!(numbers(&log.missed(&OTHER, 0, |_| true)), [1, 2, 3]);
    }

    #[test]
    fn who_was_given_what_a_channel_kept_goes_on_behind_it_or_not_at_all() {
        let mut log = Log::new(1_000, ROOMY);
        (1..=2).for_each(|number| {
            log.heard(publication(number, "b"), 0);
        });
        log.began(ME, Channel::from("b"), 0);
        let replayed = Some((log.end(), id(2)));
        log.heard(publication(3, "b"), 0);
        log.heard(publication(4, "b"), 0);
        let sent = Sent { connected: 2, replayed, last: Some((4, id(4))) };
        assert_eq!(log.resume_from(&sent, 5, Some(id(2))), Some(3), "all of it");
        assert_eq!(log.resume_from(&sent, 5, Some(id(3))), Some(4));
        assert_eq!(log.resume_from(&sent, 5, Some(id(4))), Some(5));
        for part in [Some(id(1)), None] {
            assert_eq!(log.resume_from(&sent, 5, part), None, "a part of it");
        }
        let nothing_else = Sent { last: replayed, ..sent };
        assert_eq!(log.resume_from(&nothing_else, 5, Some(id(2))), Some(5));
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
            let mut sent = Sent { connected: 0, replayed: None, last: None };
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
            let from = log.resume_from(&sent, dropped, offset).expect("all is in the log");
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
