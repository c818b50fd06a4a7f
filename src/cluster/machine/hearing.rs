//! What comes over the line and by reads: publications, heartbeats, anchors, claims.

use super::Cluster;
use crate::cluster::chain::Placed;
use crate::cluster::events::{Action, Mirrored, Moment};
use crate::cluster::hole::Wish;
use crate::cluster::limits::SURVEY_CHANNELS_MAX;
use crate::cluster::name::{ChannelHash, Place, Seq, Stream};
use crate::cluster::pulse::Told;
use crate::cluster::wire::{Body, Message};
use crate::message::Millis;

/// What a message counts for while it waits, besides what its publisher gave, in bytes.
const OVERHEAD_BYTES: usize = 512;

/// Returns a message with its place and its size.
pub(super) fn placed(message: Message) -> Placed<Box<Message>> {
    boxed(Box::new(message))
}

fn boxed(message: Box<Message>) -> Placed<Box<Message>> {
    let content = match &message.body {
        Ok(Body::Publication(published)) => published.content.bytes(),
        Ok(Body::Tidings(told)) => told.tidings.bytes(),
        _ => 0,
    };
    let (seq, last) = (message.stamp.seq, message.stamp.last);
    Placed { seq, last, bytes: content + OVERHEAD_BYTES, message }
}

impl Cluster {
    pub(super) fn live(&mut self, channel: Option<ChannelHash>, message: Box<Message>, at: Moment) {
        let stamp = message.stamp;
        if !self.witness.heard(stamp.seq, stamp.at, at.now) {
            self.runs_back(Stream::Order, at);
        }
        if let Some(channel) = channel {
            self.attachments.live(channel, boxed(message), self.hole.whole());
        } else {
            let Message { from, body, .. } = *message;
            match (body, from) {
                (Ok(Body::Beat(beat)), Some(from)) => {
                    let told = self.pulse.heard(&from, beat, stamp.at, (at.now, at.wall));
                    if let Some(Told::Echo(number)) = told {
                        self.echo(number, stamp.seq, at.now);
                    } else if let Some(told) = told {
                        self.pulse_told(told, at.now);
                    }
                }
                (Ok(Body::Anchor(anchor)), _) => {
                    let epoch = &mut self.order.epoch;
                    let wishes = epoch.heard(anchor, stamp.seq, at.random, at.now);
                    self.grant(Stream::Order, wishes, at.now);
                }
                _ => {}
            }
        }
        self.heard = self.heard.max(stamp.seq);
        self.reached(Stream::Order, stamp.seq);
    }

    fn echo(&mut self, number: u64, seq: Seq, now: Millis) {
        let wish = self.hole.echo(number, seq, now);
        if let Some(Wish::Begin(seq)) = wish {
            self.attachments.begin_again(seq);
        }
        self.attachments.echo(number, seq, now);
        self.fill(wish, now);
    }

    pub(super) fn pulse_told(&mut self, told: Told, now: Millis) {
        match told {
            Told::Deaf(side) => self.actions.push(Action::Reconnect(side)),
            Told::Free => self.actions.push(Action::RegisterAgain),
            // The claims of a node that is over are looked for at the next tick.
            Told::Dead(_) => self.sweep(now),
            Told::Up(node) => {
                let living = self.pulse.peers().find(|(name, _)| **name == node);
                let living = living.map(|(_, peer)| peer.incarnation);
                self.actions.push(Action::Ended(node, living));
            }
            Told::Suspect(node) => self.actions.push(Action::Ended(node, None)),
            Told::Echo(_) | Told::Displaced(_) => {}
        }
    }

    /// Takes a message of the stream of claims.
    pub(super) fn mirrored(&mut self, seq: Seq, mirrored: Mirrored, at: Moment) {
        match mirrored {
            Mirrored::Claim(place, node, claim) => {
                let is_ended = !claim.listens || claim.incarnation != self.me.incarnation;
                if let Place::Channel(channel) = place
                    && node == self.me.node
                    && is_ended
                {
                    self.attachments.claim_ended(channel, seq);
                }
                self.mirror.apply(place, node, claim, seq);
            }
            Mirrored::Anchor(anchor) => {
                self.mirror.passed(seq);
                self.mirror_nonce = Some(anchor.nonce);
                let wishes = self.claims.epoch.heard(anchor, seq, at.random, at.now);
                self.grant(Stream::Claims, wishes, at.now);
            }
            Mirrored::Other => self.mirror.passed(seq),
        }
        self.reached(Stream::Claims, seq);
        let decisions = self.barrier.applied(self.mirror.applied());
        self.decide(decisions, at);
    }

    /// Does what a hole asks for.
    pub(super) fn fill(&mut self, wishes: impl IntoIterator<Item = Wish>, now: Millis) {
        for wish in wishes {
            match wish {
                // With the last message that is known, which shows whether this is still the
                // stream that the node has heard.
                Wish::Read(after, most) => {
                    let read = Action::ReadHole(after.saturating_sub(1), most + 1);
                    self.actions.push(read);
                }
                Wish::Lost(missing) => self.attachments.lost(missing),
                Wish::Whole | Wish::Begin(_) => self.surveyed = None,
                Wish::Survey => {
                    let most = SURVEY_CHANNELS_MAX;
                    let channels = self.attachments.heard_channels(self.surveyed, most);
                    if channels.is_empty() {
                        self.hole.surveyed(true, now);
                        self.surveyed = None;
                    } else {
                        self.actions.push(Action::ReadLatest(channels));
                    }
                }
            }
        }
    }

    /// Compares messages that were read with those that the node has heard at these places. Returns
    /// whether the stream has lost what it had there.
    pub(super) fn compare<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a Message>,
        at: Moment,
    ) -> bool {
        let mut messages = messages.map(|one| (one.stamp, one.from.as_ref() == Some(&self.me)));
        let has_lost =
            messages.any(|(stamp, is_own)| self.witness.contradicts(stamp.seq, stamp.at, is_own));
        if has_lost {
            self.runs_back(Stream::Order, at);
        }
        has_lost
    }

    pub(super) fn hole_read(&mut self, messages: Vec<(Option<ChannelHash>, Message)>, at: Moment) {
        if !self.hole.is_filling() {
            return;
        }
        let now = at.now;
        if self.compare(messages.iter().map(|(_, message)| message), at) {
            // These may be messages of an earlier life, which were delivered long ago.
            return;
        }
        let wishes = self.hole.read(messages.iter().map(|(_, one)| one.stamp.seq), now);
        let (lost, others): (Vec<_>, Vec<_>) =
            wishes.into_iter().partition(|wish| matches!(wish, Wish::Lost(_)));
        self.fill(lost, now);
        for (channel, message) in messages {
            if let Some(channel) = channel {
                self.attachments.fill(channel, placed(message));
            }
        }
        self.fill(others, now);
    }

    pub(super) fn latest_read(
        &mut self,
        latest: Vec<(ChannelHash, Option<Seq>)>,
        oldest: Seq,
        now: Millis,
    ) {
        if !self.hole.is_survey() {
            return;
        }
        for (channel, seq) in &latest {
            self.attachments.latest(*channel, *seq, oldest);
        }
        self.surveyed = latest.last().map(|(channel, _)| *channel).or(self.surveyed);
        let wish = self.hole.surveyed(false, now);
        self.fill(wish, now);
    }
}
