//! A client's publication: whether it is sent, what became of it, and who is asked to count.

use super::{Audit, Cluster, Decision, Purpose};
use crate::cluster::ack::Refusal;
use crate::cluster::events::{Action, Claimants, Moment, Publish, Published};
use crate::cluster::flight::{Landing, Outcome};
use crate::cluster::limits::{
    BARRIER_WAITING_MAX, BEAT_MS, CLAIM_RETRY_MS, CLAIMS_UNDER_WAY_MAX, CONTROL_ANSWER_MS, DEAD_MS,
    SURVEY_CHANNELS_MAX,
};
use crate::cluster::name::{ChannelHash, NodeName, Place, Seq, Stream};
use crate::cluster::wire::Origin;
use crate::message::{Channel, Millis};

/// What becomes of a message that there is no room for.
pub(super) const NO_ROOM: Outcome = Outcome::Refused(Refusal::Overloaded);

/// The nodes that listen to a channel, as far as the mirror knows.
struct Listeners {
    named: Vec<Origin>,
    /// Nodes that may listen, although the mirror has no claim of theirs, or that do not answer.
    unknown: Vec<NodeName>,
}

impl Cluster {
    pub(super) fn publish(&mut self, publish: Publish, now: Millis) {
        let token = publish.token;
        if !self.condition(now).is_serving() {
            let refused = Published::Refused(Refusal::Unavailable);
            self.actions.push(Action::Published(token, refused));
            return;
        }
        let Listeners { named, unknown } = self.listeners(&publish);
        if !publish.needs_listener || !named.is_empty() {
            self.send(publish, now);
            return;
        }
        // That no node listens can be said only after a barrier that begins now or later.
        let has_room = self.undecided.len() < BARRIER_WAITING_MAX;
        if has_room && self.barrier.wait(Decision::Send(token, unknown)).is_ok() {
            self.undecided.insert(token, publish);
        } else {
            let refused = Published::Refused(Refusal::Overloaded);
            self.actions.push(Action::Published(token, refused));
        }
    }

    fn send(&mut self, publish: Publish, now: Millis) {
        let Publish { token, bytes, patience, audience, .. } = publish;
        let departure = self.departure(Purpose::Publication(token), bytes, patience);
        let Some(number) = self.flights.depart(departure, now) else {
            let refused = Published::Refused(Refusal::Overloaded);
            self.actions.push(Action::Published(token, refused));
            return;
        };
        let is_counted = audience.is_some_and(|patience| self.counts.begin(token, patience));
        self.actions.push(Action::Send(token, number, is_counted));
        if is_counted {
            // Without room for it the names stay unknown, and the audience says so.
            let doubt = self.listeners(&publish).unknown;
            let _ = self.barrier.wait(Decision::Name(Box::new(publish), doubt));
        }
    }

    /// Takes what became of a message.
    pub(super) fn landed(&mut self, landing: Landing<Purpose>, at: Moment) {
        let Landing { what, outcome } = landing;
        let stream = what.stream();
        if let Outcome::Stored { seq, duplicate, runs_back } = outcome {
            if runs_back {
                self.runs_back(stream, at);
            } else if !duplicate {
                self.reached(stream, seq);
                if stream == Stream::Order {
                    self.witness.acked(seq, at.now);
                }
            }
        }
        match what {
            Purpose::Publication(token) => self.publication_landed(token, outcome, at.now),
            Purpose::Beat => {
                let no_leader = Outcome::Refused(Refusal::Unavailable);
                self.is_leaderless = self.is_up && outcome == no_leader;
                if let Outcome::Stored { .. } = outcome {
                    self.pulse.acked(at.now);
                }
            }
            Purpose::Claim(channel, listens) => {
                self.attachments.claimed(channel, listens, outcome, at.now);
            }
            Purpose::EndClaim => self.ends_flying -= 1,
            Purpose::Barrier => match outcome {
                Outcome::Stored { seq, .. } => {
                    let applied = self.mirror.applied();
                    let decisions = self.barrier.stored(seq, applied);
                    self.decide(decisions, at);
                }
                _ => {
                    let decisions = self.barrier.fail();
                    self.give_up(decisions, at.now);
                }
            },
            Purpose::Anchor(stream) => self.known(stream).epoch.written(outcome, at.now),
        }
    }

    fn publication_landed(&mut self, token: u64, outcome: Outcome, now: Millis) {
        let published = match outcome {
            Outcome::Stored { seq, duplicate, .. } => {
                self.counts.stored(token, seq, now);
                Published::Stored { seq, duplicate }
            }
            Outcome::Refused(refusal) => Published::Refused(refusal),
            Outcome::Unknown => Published::Unknown,
            Outcome::Late(seq) => Published::Late(seq),
        };
        if !matches!(published, Published::Stored { .. }) {
            self.counts.cancel(token);
        }
        self.actions.push(Action::Published(token, published));
    }

    /// Makes the decisions that waited for a barrier which is over.
    pub(super) fn decide(&mut self, decisions: Vec<Decision>, at: Moment) {
        let now = at.now;
        for decision in decisions {
            match decision {
                Decision::Name(publish, doubt) => {
                    let Listeners { named, mut unknown } = self.listeners(&publish);
                    unknown.extend(doubt);
                    if self.is_mirror_complete(now) {
                        self.counts.named(publish.token, named, unknown);
                    }
                }
                Decision::Send(token, doubt) => {
                    let Some(publish) = self.undecided.remove(&token) else { continue };
                    let Listeners { named, unknown } = self.listeners(&publish);
                    if !named.is_empty() {
                        self.send(publish, now);
                        continue;
                    }
                    let has_doubt = !unknown.is_empty() || !doubt.is_empty();
                    let is_proven = !has_doubt && self.is_mirror_complete(now);
                    let published =
                        if is_proven { Published::NotHeard } else { Published::Unproven };
                    self.actions.push(Action::Published(token, published));
                }
                Decision::Audit => self.audit(at),
                Decision::Members(channel, up_to) => {
                    let is_proven = self.is_mirror_complete(now);
                    self.name_members(channel, up_to, is_proven, now);
                }
            }
        }
    }

    /// Looks whether the mirror, which is complete, has the node's own claims. If the stream has
    /// lost one that it had acknowledged, it may have lost those of other nodes as well.
    fn audit(&mut self, at: Moment) {
        self.audit = Audit::Done;
        let (mirror, me) = (&self.mirror, &self.me);
        let has = |channel| mirror.has(Place::Channel(channel), me);
        if !mirror.is_cut() && self.attachments.lacks_claim(mirror.applied(), has) {
            self.runs_back(Stream::Claims, at);
        }
    }

    /// Gives up decisions whose barrier failed.
    pub(super) fn give_up(&mut self, decisions: Vec<Decision>, now: Millis) {
        for decision in decisions {
            if let Decision::Audit = decision {
                self.audit = Audit::Wanted(now + CLAIM_RETRY_MS);
            }
            if let Decision::Members(channel, up_to) = decision {
                self.name_members(channel, up_to, false, now);
                continue;
            }
            // An audience without names is told at its deadline.
            if let Decision::Send(token, _) = decision
                && self.undecided.remove(&token).is_some()
            {
                self.actions.push(Action::Published(token, Published::Unproven));
            }
        }
    }

    /// Finds the nodes that have members of a channel, which must be asked for them. That needs a
    /// barrier: a node claims a channel before it tells anything of it.
    pub(super) fn ask_members(&mut self, channel: Channel, up_to: Seq, now: Millis) {
        let waits = self.barrier.wait(Decision::Members(channel, up_to));
        if let Err(Decision::Members(channel, up_to)) = waits {
            self.name_members(channel, up_to, false, now);
        }
    }

    fn name_members(&mut self, channel: Channel, up_to: Seq, is_proven: bool, now: Millis) {
        let epoch = self.claims.epoch.number();
        let has_listened = self.is_up && self.since + DEAD_MS <= now;
        let peer = |node: &NodeName| self.pulse.peers().find(|(name, _)| *name == node);
        let mut nodes = self.mirror.named(ChannelHash::of(&channel), |_| false);
        nodes.retain(|one| match peer(&one.node) {
            _ if one.node == self.me.node => false,
            Some((_, peer)) => peer.incarnation == one.incarnation,
            // A node that was never heard may have just begun.
            None => !has_listened,
        });
        // These have not claimed everything in the present epoch of the claims.
        let mut bare = self.pulse.peers().filter(|(_, peer)| peer.beat.claims_epoch != epoch);
        let is_proven = is_proven && bare.next().is_none();
        self.actions.push(Action::Seed(channel, up_to, Claimants { nodes, is_proven }));
    }

    fn listeners(&self, publish: &Publish) -> Listeners {
        let named = self.mirror.named(publish.channel, |one| publish.patterns.contains(&one));
        let epoch = self.claims.epoch.number();
        let gone = named.iter().filter(|one| !self.pulse.is_living(one)).map(|one| &one.node);
        // These have not claimed everything in the present epoch of the claims.
        let bare = self.pulse.peers().filter(|(_, peer)| peer.beat.claims_epoch != epoch);
        let mut unknown: Vec<_> = gone.chain(bare.map(|(node, _)| node)).cloned().collect();
        if !self.has_all_claims() {
            unknown.push(self.me.node.clone());
        }
        Listeners { named, unknown }
    }

    /// Returns whether every node that the mirror does not name has no claim.
    fn is_mirror_complete(&self, now: Millis) -> bool {
        let is_cut = self.mirror.is_cut() || self.pulse.is_crowded();
        let epoch = &self.claims.epoch;
        // A mirror of the stream's earlier life has higher sequences, so that no barrier dates it.
        let is_present = epoch.anchor().map(|anchor| anchor.nonce) == self.mirror_nonce;
        // Before that, a node that must claim anew may not have been heard yet.
        let has_heard = self.since + 2 * BEAT_MS <= now;
        !is_cut && is_present && has_heard && epoch.is_settled()
    }

    /// Ends claims of starts of nodes that are over, some at a time. Every node ends its own
    /// earlier ones; those of dead nodes are ended by the first node by name.
    pub(super) fn sweep(&mut self, now: Millis) {
        let has_listened = self.is_up && self.since + DEAD_MS <= now;
        if !has_listened || self.pulse.is_displaced() {
            self.sweep = None;
            return;
        }
        let (me, pulse) = (&self.me, &self.pulse);
        let is_first = pulse.is_first();
        let is_over = |one: &Origin| match one.node == me.node {
            true => one != me,
            false => is_first && !pulse.peers().any(|(node, _)| *node == one.node),
        };
        if self.sweep.is_none() && !self.mirror.has_any(is_over) {
            return;
        }
        let most = SURVEY_CHANNELS_MAX;
        let (held, next) = self.mirror.of(is_over, self.sweep.flatten(), most);
        if self.ends_flying + held.len() > CLAIMS_UNDER_WAY_MAX && self.ends_flying > 0 {
            return;
        }
        self.sweep = next.map(Some);
        for held in held {
            let departure = self.departure(Purpose::EndClaim, 0, CONTROL_ANSWER_MS);
            // What finds no room is found again by the next look.
            let Some(number) = self.flights.depart(departure, now) else { return };
            self.ends_flying += 1;
            self.actions.push(Action::EndClaim(number, held));
        }
    }

    /// Begins a new epoch, because a stream has lost something.
    pub(super) fn runs_back(&mut self, stream: Stream, at: Moment) {
        let wish = self.known(stream).epoch.runs_back(at.random, at.now);
        self.grant(stream, wish, at.now);
    }

    /// Notes that a stream has this sequence.
    pub(super) fn reached(&mut self, stream: Stream, seq: u64) {
        let known = self.known(stream);
        known.highest = known.highest.max(seq);
    }
}
