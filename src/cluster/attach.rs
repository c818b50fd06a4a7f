//! The channels that a node is attached to: how it begins to hear one, what it hears, and how it
//! stops.
//!
//! A node is attached to a channel when its subscription is in force, which the echo of a heartbeat
//! behind it proves, and when the stream of claims has its claim. One heartbeat serves for all
//! subscriptions that were made before it. An answer to a question, instead of an echo, would prove
//! nothing: servers may carry it on another route than the subscription.

mod claiming;
mod hearing;

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use super::chain::{Chain, Missing};
use super::limits::{ATTACH_MS_MAX, DETACH_LINGER_MS, ROUND_CHANNELS_MAX, ROUND_MS};
use super::name::{ChannelHash, Seq};
use super::own_claim::OwnClaim;
use super::reads::Reads;
use crate::message::{Channel, Millis};

/// A node's attachments. `T` is a live message.
#[derive(Debug)]
pub struct Attachments<T> {
    channels: BTreeMap<ChannelHash, Attachment<T>>,
    /// The time at which something must happen to a channel, at most one for each.
    timers: BTreeSet<(Millis, ChannelHash)>,
    /// Channels that wait for a round.
    wanted: VecDeque<ChannelHash>,
    /// When the first of them came.
    wanted_since: Millis,
    /// Whether the next round begins at once.
    is_hurried: bool,
    rounds: VecDeque<Round>,
    /// Channels whose claims must be sent, each once.
    claims: VecDeque<ChannelHash>,
    claims_flying: usize,
    /// Channels whose claims failed, with the time at which they are tried again.
    retries: VecDeque<(Millis, ChannelHash)>,
    reads: Reads,
    line: Line,
    /// Whether a new epoch has begun, and the place behind which channels are heard is not known.
    is_renewing: bool,
    next_sid: u64,
    /// Acknowledged attachments whose claims the stream may not have.
    bare: usize,
    attached: usize,
    wishes: Vec<Wish<T>>,
}

/// One channel.
#[derive(Debug)]
struct Attachment<T> {
    channel: Channel,
    chain: Chain<T>,
    /// The number of the subscription on the line; 0 without a subscription.
    sid: u64,
    /// When the channel's timer fires; 0 without a timer.
    due: Millis,
    claim: OwnClaim,
    phase: Phase,
    /// Whether the directory wants the channel.
    is_wanted: bool,
    /// Whether what the channel kept must be read before it is attached.
    wants_seed: bool,
    /// Whether that is not read yet.
    needs_seed: bool,
    /// Whether publications on the channel are dropped if it has no listener.
    needs_listener: bool,
    /// Whether publishers may have been told that the channel has no listener, so that a gap must
    /// be told when the claim is in the stream again.
    owes_gap: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It waits for a round.
    Wanted,
    /// It is subscribed, and no heartbeat behind that has come back.
    Subscribed,
    /// The subscription is in force. The claim or what the channel kept is missing.
    Echoed,
    /// It was attached until a moment ago and is wanted again. Only its claim is missing.
    Reclaiming,
    Attached,
    /// It has no subscribers. It stays attached until its timer.
    Lingering,
    /// Only the end of its claim is missing.
    Releasing,
}

/// Channels that were subscribed together.
#[derive(Debug)]
struct Round {
    /// The number of the heartbeat behind the subscriptions.
    beat: u64,
    /// The channels with their subscriptions. A channel that was given up has another one by now,
    /// or none, which this round proves nothing of.
    channels: Vec<(ChannelHash, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Down,
    /// Channels up to this one are subscribed anew.
    Renewing(Option<ChannelHash>),
    Up,
}

/// What a channel is to the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    /// The channel that has its first subscriber.
    pub channel: Channel,
    /// Whether the directory keeps something of the channel for later subscribers.
    pub needs_seed: bool,
    /// Whether publications on it are dropped if it has no listener, so that its claim must end as
    /// soon as its last subscriber leaves.
    pub needs_listener: bool,
}

/// What attachments ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish<T> {
    /// Subscribe to a channel's live messages, under this number.
    Subscribe(ChannelHash, u64),
    /// End the subscription with this number.
    Unsubscribe(u64),
    /// Say in the stream of claims whether the node listens, if the last message of the claim's
    /// subject has this sequence.
    Claim(ChannelHash, bool, Seq),
    /// Read what the channel kept up to this place.
    Seed(Channel, Seq),
    /// The node is attached. What is up to this place is history, and what is behind it is
    /// delivered.
    Attached(Channel, Seq),
    /// The node could not attach in time. Those that wait for it are refused.
    Failed(Channel),
    /// The node is no longer attached. The directory must forget what it keeps.
    Detached(Channel),
    /// The channel's next message.
    Deliver(Channel, Seq, T),
    /// Messages of the channel may be lost here.
    Gap(Channel),
    /// Read what is missing.
    Read(ChannelHash, Missing),
}

impl<T> Attachments<T> {
    /// Creates the attachments of a node whose line is down.
    pub fn new() -> Self {
        Self {
            channels: BTreeMap::new(),
            timers: BTreeSet::new(),
            wanted: VecDeque::new(),
            wanted_since: 0,
            is_hurried: false,
            rounds: VecDeque::new(),
            claims: VecDeque::new(),
            claims_flying: 0,
            retries: VecDeque::new(),
            reads: Reads::default(),
            line: Line::Down,
            is_renewing: false,
            next_sid: 1,
            bare: 0,
            attached: 0,
            wishes: Vec::new(),
        }
    }

    /// Returns what is to be done, in order.
    pub fn take(&mut self) -> Vec<Wish<T>> {
        std::mem::take(&mut self.wishes)
    }

    /// Returns the number of channels that the node hears and has claimed.
    pub fn attached(&self) -> usize {
        self.attached
    }

    /// Returns whether the stream has the claims of all acknowledged attachments.
    pub fn has_all_claims(&self) -> bool {
        self.bare == 0
    }

    /// Returns the number of channels of which something is being read or must be.
    pub fn missing(&self) -> usize {
        self.reads.len()
    }

    /// Attaches to a channel, unless the node is attached already.
    pub fn want(&mut self, want: Want, now: Millis) {
        let hash = ChannelHash::of(&want.channel);
        let Want { needs_seed, needs_listener, .. } = want;
        if let Entry::Vacant(place) = self.channels.entry(hash) {
            place.insert(Attachment::new(want));
            self.begin(hash, now);
            return;
        }
        let phase = self.with(hash, |one| {
            one.is_wanted = true;
            one.claim.want(true);
            match one.phase {
                // The subscription never ended, so that the chain is whole.
                Phase::Lingering if one.claim.is_held() => one.phase = Phase::Attached,
                Phase::Lingering => one.phase = Phase::Reclaiming,
                Phase::Releasing => {
                    one.wants_seed = needs_seed;
                    one.needs_listener = needs_listener;
                    one.phase = Phase::Wanted;
                }
                _ => return one.phase,
            }
            one.phase
        });
        match phase {
            Some(Phase::Attached) => {
                self.set_timer(hash, 0);
                self.tell_attached(hash);
            }
            Some(Phase::Wanted) => self.begin(hash, now),
            Some(Phase::Reclaiming) => {
                self.set_timer(hash, now + ATTACH_MS_MAX);
                self.queue_claim(hash);
            }
            _ => {}
        }
    }

    /// Returns whether the node wants a channel, whether it hears it already or not.
    pub fn wants(&self, channel: ChannelHash) -> bool {
        let one = self.channels.get(&channel);
        one.is_some_and(|one| one.is_wanted && one.phase != Phase::Releasing)
    }

    /// Returns the name of a channel that the node wants or hears; `None` for another one.
    pub fn channel(&self, channel: ChannelHash) -> Option<&Channel> {
        self.channels.get(&channel).map(|one| &one.channel)
    }

    /// Lets the next round begin at once, if this channel waits for it. Returns whether it does.
    pub fn hurry(&mut self, channel: ChannelHash) -> bool {
        let one = self.channels.get(&channel);
        self.is_hurried =
            self.line == Line::Up && one.is_some_and(|one| one.phase == Phase::Wanted);
        if self.is_hurried {
            // A round may be too short for all that wait.
            self.wanted.push_front(channel);
        }
        self.is_hurried
    }

    /// Detaches from a channel after a while, because it has no subscriber any more.
    pub fn let_go(&mut self, channel: &Channel, now: Millis) {
        let hash = ChannelHash::of(channel);
        let phase = self.with(hash, |one| {
            one.is_wanted = false;
            one.phase
        });
        match phase {
            Some(Phase::Attached) => self.linger(hash, now),
            // Those that waited for it were refused. The directory waits for its end.
            None | Some(Phase::Releasing) => self.wishes.push(Wish::Detached(channel.clone())),
            _ => {}
        }
    }

    /// Ends all claims, because the node ends. The node hears nothing any more.
    pub fn leave(&mut self) {
        self.timers.clear();
        self.wanted.clear();
        let hashes: Vec<_> = self.channels.keys().copied().collect();
        for hash in hashes {
            self.with(hash, |one| {
                (one.phase, one.is_wanted, one.due) = (Phase::Releasing, false, 0);
                one.chain = Chain::at_bound(0);
                one.claim.want(false);
            });
            self.reads.forget(hash);
            self.queue_claim(hash);
            self.forget(hash);
        }
    }

    /// Returns whether there is no channel, and no claim that has not ended.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Subscribes to all channels anew, because the line is up.
    pub fn line_up(&mut self) {
        self.line = Line::Renewing(None);
    }

    /// Forgets all subscriptions, because the line is down. Channels that were not attached yet
    /// begin again.
    pub fn line_down(&mut self) {
        self.line = Line::Down;
        self.rounds.clear();
        self.wanted.clear();
        for one in self.channels.values_mut() {
            one.sid = 0;
            if matches!(one.phase, Phase::Subscribed | Phase::Echoed) {
                one.phase = Phase::Wanted;
            }
        }
    }

    /// Subscribes anew, or begins a round, as far as one step goes. `next_beat` is the number of
    /// the next heartbeat. Returns whether a heartbeat must be sent now.
    pub fn step(&mut self, next_beat: u64, now: Millis) -> bool {
        self.send_claims();
        match self.line {
            Line::Down => false,
            Line::Renewing(after) => self.renew(after, now),
            Line::Up => self.begin_round(next_beat, now),
        }
    }

    /// Returns whether all channels are subscribed since the line is up.
    pub fn is_renewed(&self) -> bool {
        self.line == Line::Up
    }

    /// Takes the echo of the heartbeat with this number, which came back at this place.
    pub fn echo(&mut self, beat: u64, seq: Seq, now: Millis) {
        while self.rounds.front().is_some_and(|round| round.beat <= beat) {
            let Some(round) = self.rounds.pop_front() else { break };
            for subscription in round.channels {
                self.bound(subscription, seq, now);
            }
        }
    }

    /// Notes that what the channel kept up to this place was read, or cannot be read.
    pub fn seeded(&mut self, channel: &Channel, up_to: Seq, now: Millis) {
        let hash = ChannelHash::of(channel);
        self.with(hash, |one| {
            // Another place is that of an earlier attempt to attach.
            if one.phase == Phase::Echoed && one.chain.heard() == up_to {
                one.needs_seed = false;
            }
        });
        self.complete(hash, now);
    }

    /// Does what is due: gives up attaches and reads, ends lingering, tries claims again.
    pub fn tick(&mut self, now: Millis) {
        while let Some((at, hash)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, hash));
            self.time_is_over(hash);
        }
        while self.retries.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, hash)) = self.retries.pop_front() {
                self.with(hash, |one| one.claim.is_queued = false);
                self.queue_claim(hash);
            }
        }
        for hash in self.reads.late(now) {
            self.chain(hash, Chain::give_up);
        }
    }

    /// Returns when there is something to do; `None` if nothing waits for a time.
    pub fn due(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let retry = self.retries.front().map(|(at, _)| *at);
        let has_round = self.line == Line::Up && !self.wanted.is_empty();
        let round = has_round.then_some(self.wanted_since + ROUND_MS);
        let renewal = matches!(self.line, Line::Renewing(_)).then_some(0);
        [timer, retry, round, renewal, self.reads.due()].into_iter().flatten().min()
    }
}

impl<T> Attachments<T> {
    /// Changes a channel and keeps the counts right.
    fn with<R>(
        &mut self,
        hash: ChannelHash,
        change: impl FnOnce(&mut Attachment<T>) -> R,
    ) -> Option<R> {
        let one = self.channels.get_mut(&hash)?;
        let before = one.counts();
        let result = change(one);
        let after = one.counts();
        self.bare = self.bare + after.0 - before.0;
        self.attached = self.attached + after.1 - before.1;
        Some(result)
    }

    fn begin(&mut self, hash: ChannelHash, now: Millis) {
        let is_renewed = match self.line {
            // Renewing finds the channel.
            Line::Down | Line::Renewing(None) => false,
            Line::Renewing(Some(after)) => hash <= after,
            Line::Up => true,
        };
        if is_renewed {
            self.gather(hash, now);
        }
        self.set_timer(hash, now + ATTACH_MS_MAX);
    }

    /// Lets a channel wait for the next round.
    fn gather(&mut self, hash: ChannelHash, now: Millis) {
        if self.wanted.is_empty() {
            self.wanted_since = now;
        }
        self.wanted.push_back(hash);
    }

    /// Sets the time at which something must happen to a channel; 0 for none.
    fn set_timer(&mut self, hash: ChannelHash, at: Millis) {
        let Some(one) = self.channels.get_mut(&hash) else { return };
        self.timers.remove(&(one.due, hash));
        one.due = at;
        if at > 0 {
            self.timers.insert((at, hash));
        }
    }

    /// Subscribes some channels anew. Returns whether that were the last ones, so that a heartbeat
    /// must follow.
    fn renew(&mut self, after: Option<ChannelHash>, now: Millis) -> bool {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.channels.range_mut((from, Bound::Unbounded));
        let (mut last, mut wanted) = (None, Vec::new());
        for (hash, one) in rest.take(ROUND_CHANNELS_MAX) {
            last = Some(*hash);
            if one.phase.is_heard() {
                one.sid = self.next_sid;
                self.next_sid += 1;
                self.wishes.push(Wish::Subscribe(*hash, one.sid));
            } else if one.phase == Phase::Wanted {
                wanted.push(*hash);
            }
        }
        for hash in wanted {
            self.gather(hash, now);
        }
        self.line = last.map_or(Line::Up, |last| Line::Renewing(Some(last)));
        last.is_none()
    }

    fn begin_round(&mut self, next_beat: u64, now: Millis) -> bool {
        let is_early = now < self.wanted_since + ROUND_MS;
        let has_time = !std::mem::take(&mut self.is_hurried) && is_early;
        if self.wanted.is_empty() || has_time && self.wanted.len() < ROUND_CHANNELS_MAX {
            return false;
        }
        let mut channels = Vec::new();
        while channels.len() < ROUND_CHANNELS_MAX
            && let Some(hash) = self.wanted.pop_front()
        {
            let sid = self.next_sid;
            let is_subscribed = self.with(hash, |one| {
                let is_wanted = one.phase == Phase::Wanted;
                if is_wanted {
                    (one.phase, one.sid) = (Phase::Subscribed, sid);
                }
                is_wanted
            });
            // A channel may be in the line twice, if it was released meanwhile or had to hurry.
            if is_subscribed == Some(true) {
                self.next_sid += 1;
                self.wishes.push(Wish::Subscribe(hash, sid));
                channels.push((hash, sid));
                self.queue_claim(hash);
            }
        }
        self.send_claims();
        let is_begun = !channels.is_empty();
        if is_begun {
            self.rounds.push_back(Round { beat: next_beat, channels });
        }
        is_begun
    }

    /// The subscription is in force: what is up to this place is history.
    fn bound(&mut self, (hash, sid): (ChannelHash, u64), seq: Seq, now: Millis) {
        let seed = self.with(hash, |one| {
            if one.phase != Phase::Subscribed || one.sid != sid {
                return None;
            }
            one.phase = Phase::Echoed;
            one.chain.reset(seq);
            one.chain.hold();
            one.needs_seed = one.wants_seed;
            one.needs_seed.then(|| one.channel.clone())
        });
        if let Some(Some(channel)) = seed {
            self.wishes.push(Wish::Seed(channel, seq));
        }
        self.complete(hash, now);
    }

    /// Attaches if nothing is missing.
    fn complete(&mut self, hash: ChannelHash, now: Millis) {
        let is_attached = self.with(hash, |one| {
            let is_new = one.phase == Phase::Echoed && !one.needs_seed;
            let is = one.claim.is_held() && (is_new || one.phase == Phase::Reclaiming);
            if is {
                one.phase = Phase::Attached;
            }
            is.then_some((is_new, one.is_wanted))
        });
        let Some(Some((is_new, is_wanted))) = is_attached else { return };
        self.set_timer(hash, 0);
        if is_wanted {
            self.tell_attached(hash);
        }
        if is_new {
            self.chain(hash, Chain::release);
        }
        if !is_wanted {
            self.linger(hash, now);
        }
    }

    fn tell_attached(&mut self, hash: ChannelHash) {
        if let Some(one) = self.channels.get(&hash) {
            self.wishes.push(Wish::Attached(one.channel.clone(), one.chain.heard()));
        }
    }

    fn linger(&mut self, hash: ChannelHash, now: Millis) {
        self.with(hash, |one| {
            one.phase = Phase::Lingering;
            if one.needs_listener {
                one.claim.want(false);
            }
        });
        self.set_timer(hash, now + DETACH_LINGER_MS);
        self.queue_claim(hash);
    }

    /// The linger of a channel is over, or it did not attach in time.
    fn time_is_over(&mut self, hash: ChannelHash) {
        let Some(one) = self.channels.get_mut(&hash) else { return };
        let (sid, phase) = (std::mem::take(&mut one.sid), one.phase);
        one.due = 0;
        let channel = one.channel.clone();
        let is_refused = phase != Phase::Lingering && one.is_wanted;
        self.with(hash, |one| {
            one.phase = Phase::Releasing;
            one.chain = Chain::at_bound(0);
            one.claim.want(false);
            one.owes_gap = false;
        });
        self.reads.forget(hash);
        if sid > 0 {
            self.wishes.push(Wish::Unsubscribe(sid));
        }
        self.wishes.push(if is_refused { Wish::Failed(channel) } else { Wish::Detached(channel) });
        self.queue_claim(hash);
        self.forget(hash);
    }

    /// Removes a channel of which nothing is left.
    fn forget(&mut self, hash: ChannelHash) {
        let is_over = |one: &Attachment<T>| one.phase == Phase::Releasing && one.claim.is_gone();
        if self.channels.get(&hash).is_some_and(is_over) {
            self.channels.remove(&hash);
        }
    }
}

impl<T> Attachment<T> {
    fn new(want: Want) -> Self {
        let Want { channel, needs_seed, needs_listener } = want;
        let mut claim = OwnClaim::default();
        claim.want(true);
        Self {
            channel,
            chain: Chain::at_bound(0),
            sid: 0,
            due: 0,
            claim,
            phase: Phase::Wanted,
            is_wanted: true,
            wants_seed: needs_seed,
            needs_seed,
            needs_listener,
            owes_gap: false,
        }
    }

    /// Returns what the channel adds to the numbers of bare and of attached channels.
    fn counts(&self) -> (usize, usize) {
        let is_told = matches!(self.phase, Phase::Attached | Phase::Lingering);
        (usize::from(is_told && self.claim.is_missing()), usize::from(is_told))
    }
}

impl Phase {
    /// Returns whether the chain goes on from what was heard.
    fn is_heard(self) -> bool {
        matches!(self, Self::Reclaiming | Self::Attached | Self::Lingering)
    }
}

impl<T> Default for Attachments<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
