//! What the node needs and publishes, and what it is given.

use super::Owner;
use super::again::Requests;
use super::parcel::{Parcel, TOO_LONG, place};
use crate::cluster::ack::Refusal;
use crate::cluster::audience::Total;
use crate::cluster::events::{Event, Published};
use crate::cluster::landing::{Departing, Landing};
use crate::cluster::name::{ChannelHash, Seq, Stream};
use crate::cluster::wire::{Anchor, Body, Message, Skip};
use crate::limits::{CLUSTER_DEPARTURES_MAX, CLUSTER_INTERESTS_MAX};
use crate::message::{Channel, MarkPlace};

impl<L: Landing> Owner<'_, L> {
    /// Looks at channels that the node has begun or ceased to need. Returns whether some are left.
    pub(super) fn interests(&mut self) -> bool {
        if self.noted.is_empty() {
            self.noted = self.landing.noted().into();
        }
        for _ in 0..CLUSTER_INTERESTS_MAX {
            let Some(channel) = self.noted.pop_front() else { break };
            let event = match self.landing.needed(&channel) {
                Some(want) => Event::Want(want),
                None => Event::LetGo(channel.clone()),
            };
            self.handle(event);
            self.tell_members(&channel);
            self.read_earlier(&channel);
        }
        !self.noted.is_empty()
    }

    /// Takes publications of the node. Returns whether some may be left.
    pub(super) fn departures(&mut self) -> bool {
        for _ in 0..CLUSTER_DEPARTURES_MAX {
            let Some(departing) = self.landing.departing() else { return false };
            self.depart(departing);
        }
        true
    }

    fn depart(&mut self, departing: Departing) {
        let Departing { token, publication, is_counted, repeat } = departing;
        if self.is_congested() {
            self.settled(token, Published::Refused(Refusal::Overloaded));
            return;
        }
        let channel = ChannelHash::of(&publication.channel);
        // Its publisher may have subscribed before, and the note of that may not be taken yet.
        if !self.cluster.wants(channel)
            && let Some(want) = self.landing.needed(&publication.channel)
        {
            self.handle(Event::Want(want));
        }
        // Its publisher may have joined right before.
        self.tell_members(&publication.channel);
        let needs_listener = publication.content.needs_listener();
        let Some(parcel) = Parcel::new(channel, Body::Publication(publication), repeat) else {
            self.settled(token, Published::Refused(TOO_LONG));
            return;
        };
        let audience = is_counted.then_some(self.audience_patience);
        let publish = parcel.publish(token, self.patience, (needs_listener, audience));
        self.parcels.insert(token, parcel);
        self.handle(Event::Publish(publish));
    }

    /// Tells the node what became of a publication.
    pub(super) fn settled(&mut self, token: u64, published: Published) {
        if self.tidings_settled(token, published) {
            return;
        }
        self.parcels.remove(&token);
        let counters = &self.parts.counters;
        let counter = match published {
            Published::Stored { duplicate: false, .. } => &counters.cluster_stored,
            Published::Stored { duplicate: true, .. } => &counters.cluster_duplicate,
            Published::NotHeard => &counters.cluster_unheard,
            Published::Unproven => &counters.cluster_unproven,
            Published::Refused(_) => &counters.cluster_refused,
            Published::Unknown => &counters.cluster_unknown,
            Published::Late(_) => &counters.cluster_late,
        };
        counter.add(1);
        if !matches!(published, Published::Stored { .. }) {
            self.counted.remove(&token);
        }
        self.landing.settled(token, published, self.cluster.epoch());
    }

    pub(super) fn total(&mut self, total: Total) {
        self.counted.remove(&total.number);
        if !total.is_named || !total.unknown.is_empty() {
            self.parts.counters.cluster_audiences_unknown.add(1);
        }
        self.landing.counted(total);
    }

    pub(super) fn deliver(&mut self, channel: &Channel, message: Message, is_in_order: bool) {
        let Message { stamp, ask, body, from, .. } = message;
        let publication = match body {
            Ok(Body::Publication(publication)) => publication,
            Ok(Body::Tidings(told)) => {
                if let Some(from) = from {
                    self.tidings(&from, &told);
                }
                return;
            }
            _ => return,
        };
        // Where a worker is behind, something of other channels may overtake what it lacks.
        let is_in_order = is_in_order && self.catching.is_empty();
        let landed = self.landing.deliver(publication, self.place(stamp.seq), is_in_order);
        if landed.is_behind {
            self.catching.note(channel, &self.parts.counters);
        }
        if let Some(ask) = ask {
            let hash = ChannelHash::of(channel);
            self.counts.note((hash, stamp.seq), landed.audience);
            self.tell_count(&ask, stamp.seq, landed.audience);
        }
    }

    pub(super) fn skip(&mut self, channel: &Channel, skip: Skip) {
        let counters = &self.parts.counters;
        let (counter, what) = match skip {
            Skip::Version => (&counters.cluster_skipped_version, "a later version"),
            Skip::Kind => (&counters.cluster_skipped_kind, "an unknown kind"),
            Skip::Malformed(what) => (&counters.cluster_skipped_malformed, what),
        };
        counter.add(1);
        if let Some(count) = self.skipped.add(1) {
            let channel = channel.as_str();
            tracing::warn!(count, channel, "messages of the cluster cannot be read here: {what}");
        }
    }

    pub(super) fn attached(&mut self, channel: &Channel, from: Seq) {
        self.bounds.note(ChannelHash::of(channel), from);
        let from = self.place(from);
        self.again.requests(self.landing, channel, Requests::CarryOut(from));
        self.read_earlier_anew(channel);
    }

    /// Returns a place of the stream's present epoch.
    pub(super) fn place(&self, seq: Seq) -> MarkPlace {
        MarkPlace::new(self.cluster.epoch_tag(), seq)
    }

    pub(super) fn failed(&mut self, channel: &Channel) {
        self.parts.counters.cluster_unattachable.add(1);
        self.again.requests(self.landing, channel, Requests::Refuse);
    }

    pub(super) fn detached(&mut self, channel: &Channel) {
        self.again.forget(channel);
        self.landing.detached(channel);
    }

    pub(super) fn gap(&mut self, channel: &Channel) {
        self.parts.counters.cluster_gaps.add(1);
        self.again.gap(self.landing, channel);
        self.read_earlier_anew(channel);
    }

    /// Keeps the later one of a stream's anchors.
    pub(super) fn remember(&mut self, stream: Stream, anchor: Anchor) {
        let known = &mut self.remembered[place(stream)];
        if known.is_none_or(|known| known.number < anchor.number) {
            *known = Some(anchor);
        }
    }
}
