//! Where the cluster's stream meets this node: its publications land on the node's subscribers, and
//! those of the node's publishers depart.

mod conditions;
mod flights;

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::membership::Membership;
use super::shared::Shared;
use crate::broker::definitions::Definitions;
use crate::broker::directory::Filling;
use crate::broker::takings::Takings;
use crate::cluster::attach::Want;
use crate::cluster::audience::Total;
use crate::cluster::events::Published;
use crate::cluster::health::Condition;
use crate::cluster::landing::{self, Departing, Earlier, Ending};
use crate::cluster::name::Seq;
use crate::cluster::vitals::Vitals;
use crate::cluster::wire;
use crate::limits::DEFINITIONS_AGAIN_MS;
use crate::mailbox::{Mailbox, Submitted, WorkerMailboxes};
use crate::message::{
    Behind, Channel, ChannelOptions, ChannelOrder, Heard, Landed, Left, MarkPlace, MessageId,
    Millis, Nanos, NodeLife, Now, Outgoing, PresenceMode, Publication, Space, Spread, StreamPlace,
    Taking, Tidings, WorkerId,
};
use crate::metrics::Counters;
use conditions::Conditions;
use flights::Flights;

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// The node, for the thread of its cluster. `S` is a pointer to what all threads share, and `C`
/// reads the clock.
#[derive(Debug)]
pub struct Landing<S, C> {
    shared: S,
    membership: Arc<Membership>,
    submitted: Receiver<Submitted>,
    flights: Flights,
    definitions: Seen,
    conditions: Conditions,
    counters: Arc<Counters>,
    clock: C,
}

impl<S: Deref<Target = Shared>, C: Fn() -> Now> Landing<S, C> {
    /// Creates the landing of a node whose publishers submit these publications.
    pub fn new(
        shared: S,
        membership: Arc<Membership>,
        submitted: Receiver<Submitted>,
        counters: Arc<Counters>,
        clock: C,
    ) -> Self {
        let flights = Flights::default();
        let all = shared.broker.definitions.load_full();
        let definitions = Seen { all, again: None };
        Self {
            shared,
            membership,
            submitted,
            flights,
            definitions,
            conditions: Conditions::default(),
            counters,
            clock,
        }
    }

    fn workers(&self) -> &WorkerMailboxes {
        &self.shared.broker.mailboxes.workers
    }

    /// Returns the time, in milliseconds since the node started.
    fn clock_ms(&self) -> Millis {
        (self.clock)().monotonic()
    }

    /// Returns the publication as this node delivers it now.
    fn publication(
        &self,
        published: wire::Published,
        place: MarkPlace,
        is_in_order: bool,
    ) -> Arc<Publication> {
        let publication = self.publication_of((self.clock)().nanos, published);
        Arc::new(publication.at_place(place, is_in_order))
    }

    /// Returns the publication under this node's own options, accepted at this time of the node.
    fn publication_of(&self, accepted: Nanos, published: wire::Published) -> Publication {
        let wire::Published { channel, id, at, content } = published;
        let options = match channel.space() {
            Space::Topics => self.shared.forge.options(),
            Space::Channels | Space::Resources => {
                let definitions = self.shared.broker.definitions.load();
                let found = definitions.find(channel.as_str());
                found.map_or_else(ChannelOptions::default, |definition| definition.options)
            }
        };
        let is_recoverable = options_recover(&channel) && self.shared.recovery.is_some();
        let publication = Publication::new(id, channel, at, content);
        let publication = publication.accepted(accepted).under(options);
        publication.recoverable(is_recoverable)
    }

    /// Returns the presence mode of a channel; `None` if no definition governs it any more.
    fn presence_of(&self, channel: &Channel) -> Option<PresenceMode> {
        let definitions = self.shared.broker.definitions.load();
        definitions.find(channel.as_str()).map(|definition| definition.options.presence)
    }

    /// Attaches channels that the stream orders since the definitions have changed.
    fn look_at_definitions(&mut self) {
        let all = self.shared.broker.definitions.load();
        let now = self.clock_ms();
        let is_new = !Arc::ptr_eq(&self.definitions.all, &all);
        if !is_new && self.definitions.again.is_none_or(|at| now < at) {
            return;
        }
        self.shared.broker.directory.reorder(|channel| {
            let found = all.find(channel.as_str());
            found.is_some_and(|one| one.options.order == ChannelOrder::Cluster)
        });
        let again = is_new.then_some(now + DEFINITIONS_AGAIN_MS);
        self.definitions = Seen { all: all.clone(), again };
    }
}

/// The definitions by which channels are ordered.
#[derive(Debug)]
struct Seen {
    all: Arc<Definitions>,
    /// When channels are looked at once more, because a worker may have carried out a join by
    /// earlier definitions after the first look.
    again: Option<Millis>,
}

/// Returns whether subscribers of the channel may resume after a cut.
fn options_recover(channel: &Channel) -> bool {
    channel.space() == Space::Channels
}

impl<S: Deref<Target = Shared>, C: Fn() -> Now> landing::Landing for Landing<S, C> {
    fn now(&self) -> Now {
        (self.clock)()
    }

    fn ending(&self) -> Ending {
        self.membership.ending()
    }

    fn is_idle(&self) -> bool {
        let stream = self.shared.broker.mailboxes.stream.as_ref();
        self.submitted.is_empty() && stream.is_none_or(|stream| stream.interests.is_empty())
    }

    fn noted(&mut self) -> Vec<Channel> {
        self.look_at_definitions();
        let stream = self.shared.broker.mailboxes.stream.as_ref();
        stream.map(|stream| stream.interests.take()).unwrap_or_default()
    }

    fn needed(&mut self, channel: &Channel) -> Option<Want> {
        let needs_listener = channel.space() == Space::Topics;
        let is_needed = self.shared.broker.directory.needs(channel);
        let needs_seed = is_needed && self.shared.broker.directory.shows_presence(channel);
        is_needed.then(|| Want { channel: channel.clone(), needs_seed, needs_listener })
    }

    fn attached(&mut self, channel: &Channel, from: MarkPlace) -> bool {
        self.shared.broker.directory.attached(self.workers(), channel, from, self.clock_ms()) > 0
    }

    fn lacks_earlier(&mut self, channel: &Channel) -> Option<Seq> {
        self.shared.broker.directory.lacks_earlier(channel)
    }

    fn earlier(&mut self, channel: &Channel, earlier: Option<Earlier>) -> bool {
        let now = (self.clock)();
        let age = |at: Millis| now.wall.saturating_sub(at);
        let filling = earlier.map(|Earlier { epoch, behind, is_all, publications, since }| {
            let each = publications.into_iter().map(|(seq, one)| {
                let age = age(one.at);
                let accepted = now.nanos.saturating_sub(age.saturating_mul(NANOS_PER_MILLI));
                let publication = self.publication_of(accepted, one);
                // A reader of the channel's past receives it in order.
                let place = MarkPlace::new(epoch, seq);
                (seq, age, Arc::new(publication.at_place(place, true)))
            });
            let whole_since = is_all.then(|| now.monotonic().saturating_sub(age(since)));
            Filling { publications: each.collect(), behind, whole_since }
        });
        self.shared.broker.directory.fill(channel, filling);
        self.shared.broker.directory.carry_on(self.workers(), channel) > 0
    }

    fn unattachable(&mut self, channel: &Channel) -> bool {
        self.shared.broker.directory.unattachable(self.workers(), channel)
    }

    fn detached(&mut self, channel: &Channel) {
        self.shared.broker.directory.detached(channel);
    }

    fn deliver(
        &mut self,
        published: wire::Published,
        place: MarkPlace,
        is_in_order: bool,
    ) -> Landed {
        if published.channel.space() == Space::Topics {
            self.shared.events.note(published.at);
        }
        let publication = self.publication(published, place, is_in_order);
        self.shared.broker.directory.publish_ordered(self.workers(), &publication, place)
    }

    fn behind(&mut self, channel: &Channel) -> Option<Vec<Behind>> {
        let directory = &self.shared.broker.directory;
        let mut behind = directory.behind(channel);
        // Joins of a worker that is behind wait until it has caught up.
        let do_wait = directory.carry_on(self.workers(), channel) > 0;
        let is_any = !behind.is_empty() || do_wait;
        behind.retain(|one| Mailbox::is_half_free(self.workers().of(one.worker)));
        is_any.then_some(behind)
    }

    fn catch_up(
        &mut self,
        channel: &Channel,
        worker: WorkerId,
        missed: Vec<(MarkPlace, wire::Published)>,
    ) -> bool {
        let missed: Vec<_> = missed
            .into_iter()
            .map(|(place, one)| (place.seq(), self.publication(one, place, false)))
            .collect();
        self.shared.broker.directory.catch_up(self.workers(), (channel, worker), &missed)
    }

    fn gap(&mut self, channel: &Channel, worker: Option<(WorkerId, Seq)>) -> bool {
        let now = self.clock_ms();
        !self.shared.broker.directory.tell_gap(self.workers(), channel, worker, now)
    }

    fn outgoing(&mut self, channel: &Channel, id: MessageId) -> Outgoing {
        let now = (self.clock)().wall;
        self.shared.broker.directory.outgoing(channel, now, id)
    }

    fn members(&mut self, channel: &Channel, id: MessageId) -> Vec<Tidings> {
        let now = (self.clock)().wall;
        self.shared.broker.directory.list(channel, now, id)
    }

    fn tell_list(&mut self, channel: &Channel) {
        self.shared.broker.directory.tell_list(channel);
    }

    fn told(&mut self, channel: &Channel, from: &NodeLife, tidings: &Tidings) -> Heard {
        let mode = self.presence_of(channel);
        let directory = &self.shared.broker.directory;
        let heard = directory.told(self.workers(), channel, (from, tidings), mode);
        self.counters.announcements_suppressed.add(heard.suppressed);
        heard
    }

    fn listed(
        &mut self,
        channel: &Channel,
        nodes: Option<&[NodeLife]>,
        is_partial: bool,
        id: MessageId,
    ) -> Heard {
        let mode = self.presence_of(channel);
        let by = ((self.clock)().wall, id);
        let directory = &self.shared.broker.directory;
        directory.listed(self.workers(), (channel, mode), (nodes, is_partial), by)
    }

    fn members_of(&mut self, node: &str, living: Option<u64>) -> Vec<Left> {
        self.shared.broker.directory.members_of(node, living)
    }

    fn departing(&mut self) -> Option<Departing> {
        let submitted = self.submitted.try_recv().ok()?;
        let publication = &submitted.publication;
        let wire = wire::Published {
            channel: publication.channel.clone(),
            id: publication.id,
            at: publication.at,
            content: publication.content.clone(),
        };
        let (is_counted, repeat) = (submitted.is_counted(), submitted.repeat);
        let token = self.flights.depart(submitted);
        Some(Departing { token, publication: wire, is_counted, repeat })
    }

    fn settled(&mut self, token: u64, published: Published, epoch: u64) {
        let mailboxes = &self.shared.broker.mailboxes;
        let now = self.clock_ms();
        if !self.flights.settled(mailboxes, (token, published), epoch, now) {
            self.counters.late_unkept.add(1);
        }
    }

    fn counted(&mut self, total: Total) {
        let Total { number, audience, nodes, unknown, is_named, .. } = total;
        let unknown = unknown.iter().map(|name| name.as_str().into()).collect();
        let spread = Spread { audience, nodes, unknown, is_named };
        self.flights.counted(&self.shared.broker.mailboxes, number, spread);
    }

    fn has_takings(&self) -> bool {
        self.shared.broker.directory.takings().is_some_and(|takings| !takings.is_empty())
    }

    fn takings(&mut self) -> Vec<Taking> {
        self.shared.broker.directory.takings().map(Takings::tell).unwrap_or_default()
    }

    fn takings_told(&mut self) {
        self.shared.broker.directory.takings().into_iter().for_each(Takings::told);
    }

    fn taken_elsewhere(&mut self, takings: &[Taking]) {
        let now = self.clock_ms();
        let directory = &self.shared.broker.directory;
        takings.iter().for_each(|taking| directory.taken_elsewhere(taking, now));
    }

    fn begin_again(&mut self) {
        self.flights.fail(&self.shared.broker.mailboxes, self.clock_ms());
        let directory = &self.shared.broker.directory;
        directory.attach_again();
        directory.takings().into_iter().for_each(|takings| takings.set_nodes(1));
    }

    fn measured(&mut self, vitals: Vitals) {
        if let Some(takings) = self.shared.broker.directory.takings() {
            takings.set_nodes(vitals.nodes);
        }
        if let (Some(stream), true) =
            (&self.shared.broker.mailboxes.stream, self.flights.is_empty())
        {
            // What departs from now on comes behind what was heard.
            stream.note(StreamPlace { epoch: vitals.epochs.0, seq: vitals.heard });
        }
        self.membership.measured(vitals);
        self.conditions.tell();
    }

    fn condition(&mut self, condition: &Condition) {
        let now = (self.clock)();
        self.membership.note(condition, now);
        self.conditions.note(condition, now.monotonic());
    }
}
