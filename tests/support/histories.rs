//! Judges what the subscribers and publishers of a cluster saw: whether every acknowledged
//! publication was heard once, in one order, and whether audiences and nulls were true.
//!
//! The recorder writes facts in the order of time: a subscribe when its acknowledgement has come, a
//! publish before it is sent, an answer when it has come. A recorder outside of the node also writes
//! when a subscriber asks to come or to leave, because the node does that some time before the
//! recorder knows.

use std::collections::{BTreeMap, BTreeSet};

/// What was seen, in the order of time.
pub(crate) type History = Vec<Fact>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fact {
    /// A subscribe is about to be sent: from here on the subscriber may be counted.
    Joining {
        subscriber: u64,
        node: u64,
        channel: u64,
    },
    /// A subscribe was acknowledged.
    Joined {
        subscriber: u64,
        node: u64,
        channel: u64,
    },
    /// An unsubscribe is about to be sent: from here on the subscriber need not be counted.
    Leaving {
        subscriber: u64,
    },
    /// A subscriber has left or was cut off.
    Left {
        subscriber: u64,
    },
    /// A subscriber received the publication with this id. The place is that in the order of all
    /// publications; `None` if the recorder does not know it.
    Heard {
        subscriber: u64,
        id: u64,
        place: Option<u64>,
    },
    /// A subscriber was told that it may have missed something.
    Gap {
        subscriber: u64,
    },
    /// A publication is about to be sent. Attempts with one id are one publication.
    Asked {
        attempt: u64,
        id: u64,
        channel: u64,
        node: u64,
    },
    Answered {
        attempt: u64,
        answer: Answer,
    },
    /// An attempt's audience: the number of subscribers that were counted, the number of nodes that
    /// counted, and those that did not.
    Counted {
        attempt: u64,
        total: u64,
        nodes: u64,
        unknown: Vec<u64>,
        is_named: bool,
    },
    /// A node is stopped, or cut off from the others.
    Away {
        node: u64,
    },
    /// That is over.
    Back {
        node: u64,
    },
    /// The servers have lost a publication that they had acknowledged.
    Lost {
        id: u64,
        place: Option<u64>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It was published, now or by an earlier attempt.
    Stored { place: Option<u64> },
    /// Nothing was published, because no node has a subscriber.
    NotHeard,
    /// Nothing was published.
    Refused,
    /// It may have been published.
    Unknown,
}

/// What is wrong with a history. Numbers are those of subscribers, publications and attempts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// A subscriber heard a publication twice.
    Twice { subscriber: u64, id: u64 },
    /// Subscribers heard publications in different orders.
    Disorder { subscriber: u64, id: u64 },
    /// A subscriber did not hear an acknowledged publication, and was told no gap there.
    Missed { subscriber: u64, id: u64 },
    /// A subscriber heard a publication of which the publisher was told that it was not published.
    Denied { subscriber: u64, id: u64 },
    /// A subscriber heard a publication of another channel, or one that was never sent.
    Stray { subscriber: u64, id: u64 },
    /// The publisher was told that no node listens, and this subscriber did.
    FalseNull { attempt: u64, subscriber: u64 },
    /// The audience left out subscribers whose nodes were not said to be unknown.
    Hidden { attempt: u64, counted: u64, least: u64 },
    /// The audience had more subscribers than there were.
    Invented { attempt: u64, counted: u64, most: u64 },
    /// An attempt has no answer or more than one.
    Answers { attempt: u64, count: usize },
}

/// One subscriber's part of a history. Moments are numbers of facts.
struct Subscriber {
    node: u64,
    channel: u64,
    joining: usize,
    /// `None` if the subscribe was not acknowledged.
    joined: Option<usize>,
    leaving: Option<usize>,
    left: Option<usize>,
    heard: Vec<Heard>,
    /// The ids in `heard`.
    known: BTreeSet<u64>,
    gaps: Vec<usize>,
}

struct Heard {
    id: u64,
    place: Option<u64>,
    at: usize,
}

/// All attempts with one id.
struct Publication {
    channel: u64,
    /// The node of the last attempt.
    node: u64,
    /// When the first attempt was about to be sent.
    asked: usize,
    is_stored: bool,
    /// Whether it may have been published although no answer says so.
    is_doubtful: bool,
    place: Option<u64>,
    is_lost: bool,
}

struct Attempt {
    id: u64,
    asked: usize,
    answers: usize,
    is_doubtful: bool,
}

#[derive(Default)]
struct Record {
    subscribers: BTreeMap<u64, Subscriber>,
    publications: BTreeMap<u64, Publication>,
    attempts: BTreeMap<u64, Attempt>,
    /// When each node was away. The end is `None` if it did not come back.
    away: BTreeMap<u64, Vec<(usize, Option<usize>)>>,
    nulls: Vec<(u64, usize)>,
    is_lossy: bool,
}

/// Returns everything that is wrong with a history.
pub(crate) fn faults(history: &[Fact]) -> Vec<Fault> {
    let record = Record::of(history);
    let mut faults = BTreeSet::new();
    record.check_answers(&mut faults);
    record.check_hearing(&mut faults);
    record.check_order(&mut faults);
    record.check_missed(&mut faults);
    record.check_nulls(&mut faults);
    record.check_audiences(history, &mut faults);
    faults.into_iter().collect()
}

impl Record {
    fn of(history: &[Fact]) -> Self {
        let mut record = Self::default();
        for (at, fact) in history.iter().enumerate() {
            record.note(at, fact);
        }
        record
    }

    fn note(&mut self, at: usize, fact: &Fact) {
        match *fact {
            Fact::Joining { subscriber, node, channel } => {
                self.subscribers.insert(subscriber, Subscriber::new(node, channel, at));
            }
            Fact::Joined { subscriber, node, channel } => {
                let new = || Subscriber::new(node, channel, at);
                self.subscribers.entry(subscriber).or_insert_with(new).joined = Some(at);
            }
            Fact::Leaving { subscriber } => self.with(subscriber, |one| {
                one.leaving = one.leaving.or(Some(at));
            }),
            Fact::Left { subscriber } => self.with(subscriber, |one| {
                one.leaving = one.leaving.or(Some(at));
                one.left = one.left.or(Some(at));
            }),
            Fact::Heard { subscriber, id, place } => self.with(subscriber, |one| {
                one.heard.push(Heard { id, place, at });
                one.known.insert(id);
            }),
            Fact::Gap { subscriber } => self.with(subscriber, |one| one.gaps.push(at)),
            Fact::Asked { attempt, id, channel, node } => {
                let one = Attempt { id, asked: at, answers: 0, is_doubtful: false };
                self.attempts.insert(attempt, one);
                let (is_stored, is_doubtful, is_lost) = (false, false, false);
                let publication = self.publications.entry(id).or_insert(Publication {
                    channel,
                    node,
                    asked: at,
                    is_stored,
                    is_doubtful,
                    place: None,
                    is_lost,
                });
                publication.node = node;
            }
            Fact::Answered { attempt, answer } => self.note_answer(at, attempt, answer),
            Fact::Counted { .. } => {}
            Fact::Away { node } => self.away.entry(node).or_default().push((at, None)),
            Fact::Back { node } => {
                if let Some((_, end)) = self.away.get_mut(&node).and_then(|all| all.last_mut()) {
                    *end = end.or(Some(at));
                }
            }
            Fact::Lost { id, place } => {
                self.is_lossy = true;
                let one = self.publications.get_mut(&id);
                if let Some(one) = one.filter(|one| place.is_none() || one.place == place) {
                    one.is_lost = true;
                }
            }
        }
    }

    fn with(&mut self, subscriber: u64, change: impl FnOnce(&mut Subscriber)) {
        self.subscribers.get_mut(&subscriber).map(change);
    }

    fn note_answer(&mut self, at: usize, attempt: u64, answer: Answer) {
        let Some(one) = self.attempts.get_mut(&attempt) else { return };
        // Only what was unknown may be answered again: it was stored all the same.
        let is_late = one.is_doubtful && matches!(answer, Answer::Stored { .. });
        one.answers += usize::from(!is_late);
        one.is_doubtful = answer == Answer::Unknown;
        let Some(publication) = self.publications.get_mut(&one.id) else { return };
        match answer {
            Answer::Stored { place } => {
                publication.is_stored = true;
                publication.place = place.or(publication.place);
            }
            Answer::NotHeard => self.nulls.push((attempt, at)),
            Answer::Refused => {}
            Answer::Unknown => publication.is_doubtful = true,
        }
    }

    fn check_answers(&self, faults: &mut BTreeSet<Fault>) {
        for (attempt, one) in &self.attempts {
            if one.answers != 1 {
                faults.insert(Fault::Answers { attempt: *attempt, count: one.answers });
            }
        }
    }

    fn check_hearing(&self, faults: &mut BTreeSet<Fault>) {
        for (&subscriber, one) in &self.subscribers {
            let mut known: BTreeMap<u64, usize> = BTreeMap::new();
            for Heard { id, at, .. } in &one.heard {
                let id = *id;
                let publication = self.publications.get(&id);
                let is_stray = publication.is_none_or(|published| {
                    published.channel != one.channel || published.asked > *at
                });
                if is_stray {
                    faults.insert(Fault::Stray { subscriber, id });
                }
                if publication.is_some_and(|one| !one.is_stored && !one.is_doubtful) {
                    faults.insert(Fault::Denied { subscriber, id });
                }
                // What was lost may have been published once more, and the loss is told.
                if let Some(first) = known.insert(id, *at)
                    && !(self.is_lossy && one.has_gap(first, Some(*at)))
                {
                    faults.insert(Fault::Twice { subscriber, id });
                }
            }
        }
    }

    /// Checks that one order explains what all subscribers of each channel heard.
    fn check_order(&self, faults: &mut BTreeSet<Fault>) {
        // What is heard right behind each item, and right before it.
        let mut behind: BTreeMap<Item, BTreeSet<Item>> = BTreeMap::new();
        let mut before: BTreeMap<Item, BTreeSet<Item>> = BTreeMap::new();
        for (&subscriber, one) in &self.subscribers {
            for pair in one.heard.windows(2) {
                let [first, next] = pair else { continue };
                let is_over = self.is_lossy && one.has_gap(first.at, Some(next.at));
                let places = first.place.zip(next.place);
                if places.is_some_and(|(first, next)| first >= next) && !is_over {
                    faults.insert(Fault::Disorder { subscriber, id: next.id });
                }
                let (first, next) = (first.item(), next.item());
                if first != next {
                    behind.entry(first).or_default().insert(next);
                    before.entry(next).or_default().insert(first);
                    before.entry(first).or_default();
                }
            }
        }
        // Takes away what nothing is before, until nothing is left but circles.
        let is_first =
            |(item, before): (&Item, &BTreeSet<Item>)| before.is_empty().then_some(*item);
        let mut free: Vec<_> = before.iter().filter_map(is_first).collect();
        while let Some(item) = free.pop() {
            before.remove(&item);
            for next in behind.remove(&item).into_iter().flatten() {
                let Some(left) = before.get_mut(&next) else { continue };
                left.remove(&item);
                free.extend(left.is_empty().then_some(next));
            }
        }
        for (&subscriber, one) in &self.subscribers {
            if let Some(heard) = one.heard.iter().find(|heard| before.contains_key(&heard.item())) {
                faults.insert(Fault::Disorder { subscriber, id: heard.id });
            }
        }
    }

    fn check_missed(&self, faults: &mut BTreeSet<Fault>) {
        for (&id, published) in self.publications.iter().filter(|(_, one)| one.is_stored) {
            for (&subscriber, one) in &self.subscribers {
                let is_concerned = one.channel == published.channel
                    && one.joined.is_some_and(|joined| joined < published.asked)
                    && !one.known.contains(&id);
                // The last node that knew of it may have ended before the loss was noticed.
                let is_forgotten =
                    published.is_lost && self.was_away(published.node, published.asked, usize::MAX);
                if is_concerned && !is_forgotten && one.misses(published, self.is_lossy) {
                    faults.insert(Fault::Missed { subscriber, id });
                }
            }
        }
    }

    fn check_nulls(&self, faults: &mut BTreeSet<Fault>) {
        for &(attempt, answered) in &self.nulls {
            let Attempt { id, asked, .. } = self.attempts[&attempt];
            let channel = self.publications[&id].channel;
            for (&subscriber, one) in &self.subscribers {
                let is_gone = one.leaving.is_some() && self.was_away(one.node, 0, usize::MAX);
                let is_false = one.channel == channel && one.covers(asked, answered) && !is_gone;
                // A node that was taken for dead tells a gap when it comes back.
                if is_false && !one.has_gap(asked, None) {
                    faults.insert(Fault::FalseNull { attempt, subscriber });
                }
            }
        }
    }

    fn check_audiences(&self, history: &[Fact], faults: &mut BTreeSet<Fault>) {
        for (at, fact) in history.iter().enumerate() {
            let Fact::Counted { attempt, total, nodes, unknown, is_named } = fact else { continue };
            let Some(one) = self.attempts.get(attempt) else { continue };
            let Publication { channel, asked, .. } = self.publications[&one.id];
            let all = self.subscribers.values().filter(|one| one.channel == channel);
            let might =
                |one: &&Subscriber| one.joining < at && one.left.is_none_or(|end| end > asked);
            let most = all.clone().filter(might).count() as u64;
            if *total > most {
                let (attempt, counted) = (*attempt, *total);
                faults.insert(Fault::Invented { attempt, counted, most });
            }
            let must: Vec<_> = all
                .filter(|one| one.covers(asked, at))
                .filter(|one| !unknown.contains(&one.node))
                .filter(|one| !self.was_away(one.node, asked, at))
                .collect();
            let least = must.len() as u64;
            let places: BTreeSet<_> = must.iter().map(|one| one.node).collect();
            if *is_named && (*total < least || *nodes < places.len() as u64) {
                let (attempt, counted) = (*attempt, *total);
                faults.insert(Fault::Hidden { attempt, counted, least });
            }
        }
    }

    /// Returns whether a node was away at any time between two moments.
    fn was_away(&self, node: u64, from: usize, to: usize) -> bool {
        let times = self.away.get(&node).into_iter().flatten();
        times.into_iter().any(|(begin, end)| *begin < to && end.is_none_or(|end| end > from))
    }
}

/// A publication at a place: what was lost and published once more has two.
type Item = (u64, Option<u64>);

impl Heard {
    fn item(&self) -> Item {
        (self.id, self.place)
    }
}

impl Subscriber {
    fn new(node: u64, channel: u64, joining: usize) -> Self {
        let (heard, known, gaps) = (Vec::new(), BTreeSet::new(), Vec::new());
        let (joined, leaving, left) = (None, None, None);
        Self { node, channel, joining, joined, leaving, left, heard, known, gaps }
    }

    /// Returns whether the subscriber was there from before one moment until after another.
    fn covers(&self, from: usize, to: usize) -> bool {
        self.joined.is_some_and(|joined| joined < from)
            && self.leaving.is_none_or(|leaving| leaving > to)
    }

    /// Returns whether a gap was told between two moments.
    fn has_gap(&self, from: usize, to: Option<usize>) -> bool {
        self.gaps.iter().any(|gap| from < *gap && to.is_none_or(|to| *gap < to))
    }

    /// Returns whether the subscriber should have heard a publication, or a gap in its place.
    fn misses(&self, published: &Publication, is_lossy: bool) -> bool {
        let Some(place) = published.place.filter(|_| !is_lossy) else {
            // It has no place between others, or the loss is noticed and told later.
            return self.leaving.is_none() && !self.has_gap(published.asked, None);
        };
        let is_before = |one: &&Heard| one.place.is_some_and(|one| one < place);
        let is_after = |one: &&Heard| one.place.is_some_and(|one| one > place);
        let joined = self.joined.unwrap_or(self.joining);
        let before = self.heard.iter().rfind(is_before).map_or(joined, |one| one.at);
        let after = self.heard.iter().find(is_after).map(|one| one.at);
        let is_over = after.is_some() || self.leaving.is_none();
        is_over && !self.has_gap(before, after)
    }
}
