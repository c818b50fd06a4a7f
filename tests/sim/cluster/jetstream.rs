//! A model of JetStream: a stream has a log on each server, and a leader that a majority follows.
//!
//! A message is acknowledged when a majority has it. Servers that lose their data may vote all the
//! same, as those of a stream in memory do, so that acknowledged messages can be lost.

use std::rc::Rc;

use fanfare::cluster::ack::{Ack, Refusal};
use fanfare::cluster::name::{Seq, Stream};
use fanfare::cluster::wire::Origin;
use fanfare::message::Millis;

use super::clockwork::Dice;
use super::frames::{Payload, Publish, Reply, Subject};

/// How long a stream keeps messages and recognizes duplicates, in milliseconds.
pub(super) const MAX_AGE_MS: Millis = 120_000;
/// Entries of one stream in one world.
const ENTRIES_MAX: usize = 20_000;

/// A stored message.
#[derive(PartialEq, Debug)]
pub(super) struct Entry {
    /// The term of the leader that took it.
    term: u64,
    pub(super) seq: Seq,
    /// The sequence of the one before it on its subject; 0 if there was none.
    pub(super) last: Seq,
    pub(super) subject: Subject,
    pub(super) from: Origin,
    id: Option<u64>,
    ttl: Millis,
    pub(super) payload: Payload,
    pub(super) ask: Option<(u64, u64)>,
    /// When the leader took it, by the world's clock and by its own.
    taken: Millis,
    pub(super) at: Millis,
    /// Counts all entries of all lives of the stream.
    pub(super) place: u64,
}

/// A server's part of a stream.
#[derive(Default)]
pub(super) struct Replica {
    pub(super) log: Vec<Rc<Entry>>,
    /// How many entries are in force, as far as the server knows.
    pub(super) applied: usize,
    /// How many entries the leader knows that the server has.
    matched: usize,
}

/// A stream.
pub(super) struct Group {
    pub(super) stream: Stream,
    pub(super) term: u64,
    pub(super) leader: Option<usize>,
    pub(super) replicas: Vec<Replica>,
    /// Publishers that wait until an entry with this number is in force.
    waiting: Vec<(usize, Reply, bool)>,
    /// Since when the stream has no leader that can store, and when that ends.
    pub(super) election: Option<(Millis, Millis)>,
    places: u64,
}

/// An entry that is in force, with the publishers that wait for it, each with whether its message
/// is a duplicate.
type Stored = (Rc<Entry>, Vec<(Reply, bool)>);

/// What a leader answers to a message at once.
pub(super) enum Taken {
    /// It is in the leader's log.
    Appended,
    Answer(Ack),
    /// The answer comes with an earlier message.
    Waits,
}

impl Group {
    pub(super) fn new(stream: Stream, servers: usize) -> Self {
        let replicas = (0..servers).map(|_| Replica::default()).collect();
        let (waiting, election) = (Vec::new(), None);
        // The streams have different leaders, so that what is sent to one proves nothing of the
        // way to the other.
        let leader = Some(if stream == Stream::Order { 0 } else { servers - 1 });
        Self { stream, term: 1, leader, replicas, waiting, election, places: 0 }
    }

    fn is_visible(&self, entry: &Entry, now: Millis) -> bool {
        let most = if self.stream == Stream::Order { MAX_AGE_MS } else { Millis::MAX };
        let ttl = if entry.ttl == 0 { most } else { entry.ttl.min(most) };
        now - entry.taken < ttl
    }

    /// Returns a server's entries in force that have not expired, in order. The stream of claims
    /// keeps the last one of each subject.
    pub(super) fn seen(
        &self,
        server: usize,
        now: Millis,
    ) -> impl DoubleEndedIterator<Item = &Rc<Entry>> {
        let Replica { log, applied, .. } = &self.replicas[server];
        let log = &log[..*applied];
        let is_last = move |entry: &Entry| {
            let at = usize::try_from(entry.seq).unwrap_or(usize::MAX).min(log.len());
            log[at..].iter().all(|later| later.subject != entry.subject)
        };
        let keeps_all = self.stream == Stream::Order;
        log.iter().filter(move |entry| self.is_visible(entry, now) && (keeps_all || is_last(entry)))
    }

    /// Takes a message at the leader.
    pub(super) fn propose(&mut self, publish: &Publish, now: Millis, clock: Millis) -> Taken {
        let Some(leader) = self.leader else {
            return Taken::Answer(Ack::Refused(Refusal::Unavailable));
        };
        let Replica { log, applied, .. } = &self.replicas[leader];
        if let Some(id) = publish.id
            && let Some(first) = log.iter().rfind(|one| one.id == Some(id))
            && now - first.taken < MAX_AGE_MS
        {
            let seq = first.seq;
            if seq <= *applied as u64 {
                return Taken::Answer(Ack::Stored { seq, duplicate: true });
            }
            let at = usize::try_from(seq).expect("the log is short") - 1;
            self.waiting.push((at, publish.reply, true));
            return Taken::Waits;
        }
        let last = log.iter().rfind(|one| one.subject == publish.subject);
        let last = last.filter(|one| self.is_visible(one, now)).map_or(0, |one| one.seq);
        if publish.expected.is_some_and(|expected| expected != last) {
            return Taken::Answer(Ack::Refused(Refusal::Moved(last)));
        }
        assert!(log.len() < ENTRIES_MAX, "the nodes flood the stream of {:?}", self.stream);
        self.places += 1;
        let entry = Entry {
            term: self.term,
            seq: log.len() as u64 + 1,
            last,
            subject: publish.subject.clone(),
            from: publish.from.clone(),
            id: publish.id,
            ttl: publish.ttl,
            payload: publish.payload.clone(),
            ask: publish.ask.map(|token| (publish.reply.0, token)),
            taken: now,
            at: clock,
            place: self.places,
        };
        self.waiting.push((log.len(), publish.reply, false));
        self.replicas[leader].log.push(Rc::new(entry));
        Taken::Appended
    }

    /// Makes a follower's log that of the leader up to so many entries. Returns how many it has.
    pub(super) fn follow(&mut self, follower: usize, count: usize) -> usize {
        let Some(leader) = self.leader else { return 0 };
        let count = count.min(self.replicas[leader].log.len());
        let ours = &self.replicas[follower].log;
        let theirs = &self.replicas[leader].log;
        let is_same = |at: usize| Rc::ptr_eq(&ours[at], &theirs[at]);
        let common = ours.len().min(theirs.len());
        let fits = common == 0 || is_same(common - 1);
        let keep = if fits { common } else { (0..common).take_while(|at| is_same(*at)).count() };
        if keep < ours.len() || keep < count {
            let more = theirs[keep.min(count)..count].to_vec();
            let replica = &mut self.replicas[follower];
            replica.log.truncate(keep);
            replica.log.extend(more);
            replica.applied = replica.applied.min(replica.log.len());
        }
        self.replicas[follower].log.len()
    }

    /// Notes that a follower has so many entries. Returns those that are in force now, with the
    /// publishers that wait for each.
    pub(super) fn matched(&mut self, follower: usize, count: usize) -> Vec<Stored> {
        let Some(leader) = self.leader else { return Vec::new() };
        let own = self.replicas[leader].log.len();
        self.replicas[follower].matched = count;
        self.replicas[leader].matched = own;
        let mut all: Vec<_> = self.replicas.iter().map(|one| one.matched.min(own)).collect();
        all.sort_unstable();
        let in_force = all[(all.len() - 1) / 2];
        let mut done = Vec::new();
        while self.replicas[leader].applied < in_force {
            let at = self.replicas[leader].applied;
            self.replicas[leader].applied += 1;
            let entry = self.replicas[leader].log[at].clone();
            let mut replies = Vec::new();
            self.waiting.retain(|(index, reply, duplicate)| {
                let waits = *index != at;
                if !waits {
                    replies.push((*reply, *duplicate));
                }
                waits
            });
            done.push((entry, replies));
        }
        done
    }

    /// Notes at a follower that so many entries are in force.
    pub(super) fn committed(&mut self, follower: usize, count: usize) {
        let replica = &mut self.replicas[follower];
        replica.applied = replica.applied.max(count.min(replica.log.len()));
    }

    /// Makes the server the leader that has most, among a majority of those that hear each other.
    /// Returns it with the entries that are in force only now: no publisher is told of them.
    pub(super) fn elect(&mut self, voters: &[usize]) -> (usize, Vec<Rc<Entry>>) {
        let rank = |server: &&usize| {
            let log = &self.replicas[**server].log;
            (log.last().map_or(0, |last| last.term), log.len())
        };
        let winner = *voters.iter().max_by_key(rank).expect("a majority is not empty");
        self.term += 1;
        (self.leader, self.election) = (Some(winner), None);
        self.waiting.clear();
        self.replicas.iter_mut().for_each(|one| one.matched = 0);
        let Replica { log, applied, .. } = &mut self.replicas[winner];
        let more = log[*applied..].to_vec();
        *applied = log.len();
        (winner, more)
    }

    /// Lets the stream be without a leader for a while.
    pub(super) fn depose(&mut self, now: Millis, dice: &mut Dice) {
        self.leader = None;
        self.waiting.clear();
        self.election = Some((now, now + dice.from(200, 4_000)));
    }

    /// Lets a server lose its last entries.
    pub(super) fn lose(&mut self, server: usize, count: usize) {
        let Replica { log, applied, matched } = &mut self.replicas[server];
        log.truncate(log.len().saturating_sub(count));
        *applied = (*applied).min(log.len());
        *matched = 0;
    }

    /// Returns the servers that do not have all entries of the leader, as far as it knows.
    pub(super) fn behind(&self) -> Vec<usize> {
        let Some(leader) = self.leader else { return Vec::new() };
        let count = self.replicas[leader].log.len();
        let applied = self.replicas[leader].applied;
        let is_behind = |one: &Replica| one.matched < count || one.applied < applied;
        let all = self.replicas.iter().enumerate();
        all.filter(|(server, one)| *server != leader && is_behind(one))
            .map(|(server, _)| server)
            .collect()
    }
}
