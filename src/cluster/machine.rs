//! One node of a cluster: owns the parts, and passes each event to those that it concerns.

mod hearing;
mod publishing;

use std::collections::BTreeMap;

use super::attach::{Attachments, Wish};
use super::audience::Counts;
use super::claims::{Barrier, Claims};
use super::epoch::{self, Epoch};
use super::events::{Action, Event, Moment, Publish};
use super::flight::{Departure, Flights};
use super::health::{Condition, Obstacle};
use super::hole::Hole;
use super::limits::CONTROL_ANSWER_MS;
use super::name::{ChannelHash, NodeName, Place, Seq, Stream};
use super::pulse::{Pulse, Side};
use super::sequence::Sequence;
use super::vitals::Vitals;
use super::wire::{Beat, Message, Origin, VERSIONS};
use super::witness::Witness;
use crate::message::{Channel, Millis};

/// One node of a cluster.
#[derive(Debug)]
pub struct Cluster {
    me: Origin,
    joined: Result<(), Obstacle>,
    is_up: bool,
    /// When the line came up or went down last.
    since: Millis,
    is_draining: bool,
    /// Whether the last heartbeat was refused because its stream has no leader.
    is_leaderless: bool,
    /// Whether a heartbeat must be sent before the next one is due.
    must_beat: bool,
    pulse: Pulse,
    hole: Hole,
    /// The last channel of the survey that is under way.
    surveyed: Option<ChannelHash>,
    attachments: Attachments<Box<Message>>,
    flights: Flights<Purpose>,
    order: Known,
    claims: Known,
    /// The sequence of the last message that came live in this epoch.
    heard: Seq,
    /// The order of what was delivered.
    sequence: Sequence,
    /// The latest messages of the stream of publications.
    witness: Witness,
    mirror: Claims,
    /// The random number of the anchor that the mirror's consumer has brought.
    mirror_nonce: Option<u128>,
    barrier: Barrier<Decision>,
    audit: Audit,
    /// Publications that are sent only if a node listens, until that is known.
    undecided: BTreeMap<u64, Publish>,
    counts: Counts,
    /// Where the search for claims of ended nodes goes on; `None` if no search is under way.
    sweep: Option<Option<Place>>,
    ends_flying: usize,
    actions: Vec<Action>,
}

/// What a node knows of one of the streams.
#[derive(Debug, Default)]
struct Known {
    epoch: Epoch,
    /// The highest sequence that the stream has acknowledged or delivered.
    highest: Seq,
}

/// What a message that was sent is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// The publication with this token.
    Publication(u64),
    Beat,
    /// The claim of a channel, or its end.
    Claim(ChannelHash, bool),
    EndClaim,
    Barrier,
    Anchor(Stream),
}

/// The nodes whose claims were not known to be in the stream when a decision began to wait. The
/// barrier says nothing of claims that they made later.
type Doubt = Vec<NodeName>;

/// A decision that waits for a barrier.
#[derive(Clone, Debug)]
enum Decision {
    /// Whether the publication with this token is sent.
    Send(u64, Doubt),
    /// Which nodes are asked to count the audience of this publication.
    Name(Box<Publish>, Doubt),
    /// Whether the stream still has the node's own claims.
    Audit,
    /// Which nodes are asked for their members of this channel, to which the node attaches at this
    /// place.
    Members(Channel, Seq),
}

/// Whether the mirror has shown, since the line is up and since the mirror's consumer began, that
/// the stream has the claims which it acknowledged. Until then other nodes must not rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audit {
    /// A barrier must be sent for it, at this time.
    Wanted(Millis),
    Waiting,
    Done,
}

impl Purpose {
    fn stream(self) -> Stream {
        match self {
            Self::Publication(_) | Self::Beat | Self::Anchor(Stream::Order) => Stream::Order,
            _ => Stream::Claims,
        }
    }
}

impl Cluster {
    /// Creates a node that is not joined, whose line is down and whose entry in the register has
    /// this revision.
    pub fn new(me: Origin, registered: u64) -> Self {
        Self {
            pulse: Pulse::new(me.clone(), registered),
            me,
            joined: Err(Obstacle::Pending),
            is_up: false,
            since: 0,
            is_draining: false,
            is_leaderless: false,
            must_beat: false,
            hole: Hole::default(),
            surveyed: None,
            attachments: Attachments::new(),
            flights: Flights::new(),
            order: Known::default(),
            claims: Known::default(),
            heard: 0,
            sequence: Sequence::default(),
            witness: Witness::default(),
            mirror: Claims::default(),
            mirror_nonce: None,
            barrier: Barrier::default(),
            audit: Audit::Wanted(0),
            undecided: BTreeMap::new(),
            counts: Counts::default(),
            sweep: None,
            ends_flying: 0,
            actions: Vec::new(),
        }
    }

    /// Takes an event and returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, at: Moment) -> Vec<Action> {
        match event {
            Event::Joined(joined) => {
                self.joined = joined;
                if !self.is_up {
                    self.since = at.now;
                }
            }
            Event::LineUp(order, claims) => {
                (self.is_up, self.since) = (true, at.now);
                self.audit = Audit::Wanted(at.now);
                self.pulse.line_up(at.now);
                self.attachments.line_up();
                let read = self.order.epoch.line_up(order, at.now);
                self.grant(Stream::Order, [read], at.now);
                let read = self.claims.epoch.line_up(claims, at.now);
                self.grant(Stream::Claims, [read], at.now);
            }
            Event::LineDown => self.line_down(at),
            Event::Written(number) => self.flights.written(number),
            Event::Answered(number, ack) => {
                if let Some(landing) = self.flights.answered(number, &ack) {
                    self.landed(landing, at);
                }
            }
            Event::Live(channel, message) => self.live(channel, message, at),
            Event::MirrorBegins => {
                self.mirror.reset();
                (self.mirror_nonce, self.sweep) = (None, None);
                let decisions = self.barrier.fail();
                self.give_up(decisions, at.now);
                self.audit = Audit::Wanted(at.now);
            }
            Event::Mirrored(seq, mirrored) => self.mirrored(seq, mirrored, at),
            Event::LeaderChanged => {
                self.hole.leader_changed(self.pulse.next_number(), at.now);
                self.must_beat = true;
            }
            Event::Want(want) => self.attachments.want(want, at.now),
            Event::LetGo(channel) => self.attachments.let_go(&channel, at.now),
            Event::Publish(publish) => {
                // A client that has just subscribed must hear what it publishes, so that the
                // publication must come behind the heartbeat that proves the subscription.
                if self.attachments.hurry(publish.channel) {
                    self.go_on(at.now);
                }
                self.publish(publish, at.now);
            }
            Event::Counted(number, counted) => self.counts.counted(number, counted),
            Event::AnchorRead(stream, found) => {
                let wishes = self.known(stream).epoch.read(found, at.random, at.now);
                self.grant(stream, wishes, at.now);
            }
            Event::HoleRead(messages) => self.hole_read(messages, at),
            Event::LatestRead(latest, oldest) => self.latest_read(latest, oldest, at.now),
            Event::ChannelRead(channel, missing, messages, oldest) => {
                let _ = self.compare(messages.iter(), at);
                let placed = messages.into_iter().map(hearing::placed).collect();
                self.attachments.read(channel, missing, placed, oldest);
            }
            Event::Seeded(channel, up_to) => self.attachments.seeded(&channel, up_to, at.now),
            Event::MembersWanted(channel) => self.ask_members(channel, 0, at.now),
            Event::Prove => self.must_beat = true,
            Event::Tick => self.tick(at),
        }
        self.go_on(at.now);
        std::mem::take(&mut self.actions)
    }

    /// Lets the node say in its heartbeats that it is about to end.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Ends all claims of the node, because it ends. [`Cluster::has_left`] says when that is done.
    pub fn leave(&mut self, at: Moment) -> Vec<Action> {
        self.is_draining = true;
        // The others are to know that the silence that follows is no fault.
        self.must_beat = true;
        self.attachments.leave();
        self.go_on(at.now);
        std::mem::take(&mut self.actions)
    }

    /// Returns whether the node has no channel, and no claim that has not ended.
    pub fn has_left(&self) -> bool {
        self.attachments.is_empty()
    }

    /// Returns the condition of the node, for health and for refusals.
    pub fn condition(&self, now: Millis) -> Condition {
        if let Err(obstacle) = &self.joined {
            return Condition::NotJoined(obstacle.clone());
        }
        if self.pulse.is_displaced() {
            return Condition::Displaced(self.me.node.clone());
        }
        if self.is_leaderless {
            return Condition::NoLeader(Stream::Order);
        }
        // Of all lines since the last answer, so that it is one silence if lines come and go.
        let silence = |side| now.saturating_sub(self.pulse.answered(side).unwrap_or(self.since));
        if self.pulse.is_silent(Side::Publishing) {
            return Condition::NoAnswer(silence(Side::Publishing));
        }
        if self.pulse.is_silent(Side::Reading) {
            return Condition::Deaf(silence(Side::Reading));
        }
        if !self.order.epoch.is_settled() {
            return Condition::NoEpoch;
        }
        let is_behind = self.hole.is_open() || self.attachments.missing() > 0;
        if is_behind { Condition::CatchingUp } else { Condition::Healthy }
    }

    /// Returns whether the node wants a channel, whether it hears it already or not.
    pub fn wants(&self, channel: ChannelHash) -> bool {
        self.attachments.wants(channel)
    }

    /// Returns the name of a channel that the node wants or hears; `None` for another one.
    pub fn channel(&self, channel: ChannelHash) -> Option<&Channel> {
        self.attachments.channel(channel)
    }

    /// Returns whether this node does what one node must do for all.
    pub fn is_first(&self) -> bool {
        self.pulse.is_first()
    }

    /// Returns the number of the epoch of the stream of publications; 0 if it is not known yet.
    pub fn epoch(&self) -> u64 {
        self.order.epoch.number()
    }

    /// Returns a number that tells this epoch from others, even of a stream that was made anew; 0
    /// if the epoch is not known yet.
    pub fn epoch_tag(&self) -> u32 {
        // As good as random: the rest of the number is not needed.
        #[expect(clippy::cast_possible_truncation, reason = "a part of a random number")]
        self.order.epoch.anchor().map_or(0, |anchor| anchor.nonce as u32)
    }

    /// Returns the other nodes that are not dead, in the order of their names.
    pub fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.pulse.peers().map(|(name, _)| name)
    }

    /// Returns whether the last heartbeat of another node said that it was about to end.
    pub fn was_draining(&self, node: &NodeName) -> bool {
        self.pulse.peers().any(|(name, peer)| name == node && peer.beat.draining)
    }

    /// Returns the place in the stream of publications up to which the node has certainly received
    /// everything that it was subscribed to; 0 if something may be missing.
    pub fn whole(&self) -> Seq {
        self.hole.whole()
    }

    /// Returns what must be added to the node's wall clock to get the stream's, in milliseconds.
    pub fn clock_offset(&self) -> i64 {
        self.pulse.clock_offset()
    }

    /// Returns what the node measures.
    pub fn vitals(&self, now: Millis) -> Vitals {
        let heard_by_peers = self.pulse.peers().map(|(_, peer)| peer.beat.heard).max();
        let known = self.order.highest.max(heard_by_peers.unwrap_or(0));
        Vitals {
            nodes: 1 + self.pulse.living(),
            epochs: (self.epoch(), self.claims.epoch.number()),
            heard: self.heard,
            lag: known.saturating_sub(self.heard),
            silence: self.pulse.silence(now),
            beat: self.pulse.took(),
            clock_offset: self.clock_offset(),
            attached: self.attachments.attached(),
            claims: self.mirror.len(),
            in_flight: self.flights.under_way(),
            counting: self.counts.len(),
        }
    }

    /// Returns when the node must be told that time has passed; `None` if nothing waits.
    pub fn due(&self) -> Option<Millis> {
        let parts = [
            self.pulse.due(),
            self.hole.due(),
            self.attachments.due(),
            self.flights.due(),
            self.order.epoch.due(),
            self.claims.epoch.due(),
            self.barrier.due(),
            self.audit_due(),
            self.counts.due(),
        ];
        parts.into_iter().flatten().min()
    }

    fn audit_due(&self) -> Option<Millis> {
        match self.audit {
            Audit::Wanted(at) if self.is_up => Some(at),
            _ => None,
        }
    }

    /// Returns whether the stream has the claims of all acknowledged attachments, for certain.
    fn has_all_claims(&self) -> bool {
        self.attachments.has_all_claims() && self.audit == Audit::Done
    }

    fn known(&mut self, stream: Stream) -> &mut Known {
        match stream {
            Stream::Order => &mut self.order,
            Stream::Claims => &mut self.claims,
        }
    }

    fn line_down(&mut self, at: Moment) {
        (self.is_up, self.since) = (false, at.now);
        self.is_leaderless = false;
        self.pulse.line_down();
        self.hole.line_down();
        self.attachments.line_down();
        self.order.epoch.line_down();
        self.claims.epoch.line_down();
        let landings = self.flights.line_down(at.now, may_be_late);
        for landing in landings {
            self.landed(landing, at);
        }
        // What waits for the next barrier cannot be decided without a line either.
        let decisions = self.barrier.fail_all();
        self.give_up(decisions, at.now);
    }

    fn tick(&mut self, at: Moment) {
        let Moment { now, .. } = at;
        for landing in self.flights.tick(now, may_be_late) {
            self.landed(landing, at);
        }
        if self.barrier.due().is_some_and(|end| end <= now) {
            let decisions = self.barrier.fail();
            self.give_up(decisions, now);
        }
        for told in self.pulse.tick(now) {
            self.pulse_told(told, now);
        }
        for stream in [Stream::Order, Stream::Claims] {
            let wish = self.known(stream).epoch.tick(now);
            self.grant(stream, wish, now);
        }
        let wishes = self.hole.tick(now);
        self.fill(wishes, now);
        self.attachments.tick(now);
        let questions = self.counts.tick(now);
        self.actions.extend(questions.into_iter().map(Action::Ask));
        self.sweep(now);
    }

    /// Does what any event may have made possible.
    fn go_on(&mut self, now: Millis) {
        let was_renewed = self.attachments.is_renewed();
        let next = self.pulse.next_number();
        let is_asked = self.attachments.step(next, now);
        self.pass_on(now);
        let is_due = is_asked || self.must_beat || self.pulse.is_due(now);
        if self.is_up && is_due && !self.pulse.is_displaced() {
            self.beat(now);
        }
        if is_asked && !was_renewed {
            // Whatever came while the node was not subscribed ends before this heartbeat.
            self.hole.opened(next);
        }
        self.attachments.begin_reads(self.hole.is_open(), now);
        self.pass_on(now);
        let is_due = self.audit_due().is_some_and(|at| at <= now);
        if is_due && self.barrier.wait(Decision::Audit).is_ok() {
            self.audit = Audit::Waiting;
        }
        if self.barrier.is_wanted() && self.is_up {
            let departure = self.departure(Purpose::Barrier, 0, CONTROL_ANSWER_MS);
            if let Some(number) = self.flights.depart(departure, now) {
                self.barrier.sent(now + CONTROL_ANSWER_MS);
                self.actions.push(Action::Barrier(number));
            }
        }
        self.actions.extend(self.counts.take().into_iter().map(Action::Audience));
    }

    fn beat(&mut self, now: Millis) {
        let departure = self.departure(Purpose::Beat, 0, CONTROL_ANSWER_MS);
        self.must_beat = false;
        // Its number counts even if it cannot be sent: a later heartbeat serves as well.
        let (number, registered) = self.pulse.beat(now);
        let Some(flight) = self.flights.depart(departure, now) else { return };
        let has_all = self.has_all_claims() && self.claims.epoch.is_settled();
        let beat = Beat {
            number,
            registered,
            heard: self.order.highest,
            claims_epoch: if has_all { self.claims.epoch.number() } else { 0 },
            attached: self.attachments.attached() as u64,
            draining: self.is_draining,
            versions: VERSIONS,
        };
        self.actions.push(Action::Beat(flight, beat));
    }

    fn departure(&self, what: Purpose, bytes: usize, patience: Millis) -> Departure<Purpose> {
        let acked = match what.stream() {
            Stream::Order => self.order.highest,
            Stream::Claims => self.claims.highest,
        };
        let is_urgent = !matches!(what, Purpose::Publication(_));
        Departure { what, bytes, patience, acked, is_urgent }
    }

    /// Does what an epoch asks for.
    fn grant(
        &mut self,
        stream: Stream,
        wishes: impl IntoIterator<Item = epoch::Wish>,
        now: Millis,
    ) {
        for wish in wishes {
            match wish {
                epoch::Wish::Read => self.actions.push(Action::ReadAnchor(stream)),
                epoch::Wish::Write(anchor, expected) => {
                    let departure = self.departure(Purpose::Anchor(stream), 0, CONTROL_ANSWER_MS);
                    // Without room it is read and written again after a while.
                    if let Some(number) = self.flights.depart(departure, now) {
                        let write = Action::WriteAnchor(number, stream, anchor, expected);
                        self.actions.push(write);
                    }
                }
                epoch::Wish::Remember(anchor) => {
                    self.actions.push(Action::Remember(stream, anchor));
                }
                epoch::Wish::Known(..) => {}
                epoch::Wish::Changed(anchor, seq) => {
                    self.known(stream).highest = seq;
                    self.flights.begin_epoch(|what| what.stream() == stream);
                    match stream {
                        Stream::Order => {
                            self.heard = 0;
                            self.sequence.begin_epoch();
                            self.hole.reset(self.pulse.next_number());
                            self.attachments.epoch_changed(now);
                            self.witness.reset();
                            self.must_beat = true;
                        }
                        Stream::Claims => self.attachments.claims_lost(),
                    }
                    self.actions.push(Action::EpochChanged(stream, anchor.number));
                }
            }
        }
    }

    /// Passes on what the attachments ask for.
    fn pass_on(&mut self, now: Millis) {
        let wishes = self.attachments.take();
        let delivered: Vec<Seq> = wishes.iter().filter_map(delivered).collect();
        let is_whole = !self.hole.is_open() && self.attachments.missing() == 0;
        let mut in_order = self.sequence.deliver(&delivered, is_whole).into_iter();
        for wish in wishes {
            let action = match wish {
                Wish::Subscribe(channel, sid) => Action::Subscribe(channel, sid),
                Wish::Unsubscribe(sid) => Action::Unsubscribe(sid),
                Wish::Claim(channel, listens, expected) => {
                    let what = Purpose::Claim(channel, listens);
                    let departure = self.departure(what, 0, CONTROL_ANSWER_MS);
                    let Some(number) = self.flights.depart(departure, now) else {
                        let outcome = publishing::NO_ROOM;
                        self.attachments.claimed(channel, listens, outcome, now);
                        continue;
                    };
                    Action::Claim(number, channel, listens, expected)
                }
                Wish::Seed(channel, up_to) => {
                    self.ask_members(channel, up_to, now);
                    continue;
                }
                Wish::Attached(channel, from) => Action::Attached(channel, from),
                Wish::Failed(channel) => Action::Failed(channel),
                Wish::Detached(channel) => Action::Detached(channel),
                Wish::Deliver(channel, _, message) => {
                    let is_in_order = in_order.next().unwrap_or(false);
                    match &message.body {
                        Ok(_) => Action::Deliver(channel, message, is_in_order),
                        Err(skip) => Action::Skipped(channel, *skip),
                    }
                }
                Wish::Gap(channel) => Action::Gap(channel),
                Wish::Read(channel, missing) => Action::ReadChannel(channel, missing),
            };
            self.actions.push(action);
        }
    }
}

/// Returns the sequence of a message that is delivered.
fn delivered(wish: &Wish<Box<Message>>) -> Option<Seq> {
    match wish {
        Wish::Deliver(_, seq, _) => Some(*seq),
        _ => None,
    }
}

/// Returns whether an answer after the end of the time is of use.
fn may_be_late(what: Purpose) -> bool {
    matches!(what, Purpose::Publication(_))
}

#[cfg(test)]
mod tests;
