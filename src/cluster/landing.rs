//! The port between the thread of the cluster and the rest of its node.
//!
//! The thread takes from it what the node needs and publishes, and gives to it what came of that.
//! Every call answers at once.

use super::attach::Want;
use super::audience::Total;
use super::events::Published;
use super::health::Condition;
use super::name::Seq;
use super::vitals::Vitals;
use super::wire;
use crate::message::{
    Behind, Channel, Heard, Landed, Left, MarkPlace, MessageId, Millis, NodeLife, Now, Outgoing,
    RepeatKey, Taking, Tidings, WorkerId,
};

/// A node as the thread of its cluster sees it.
pub trait Landing {
    /// Returns the present time.
    fn now(&self) -> Now;

    /// Returns how far the end of the node is.
    fn ending(&self) -> Ending;

    /// Returns whether [`Landing::noted`] and [`Landing::departing`] have nothing, so that the
    /// thread may sleep until the bell rings.
    fn is_idle(&self) -> bool;

    /// Takes the channels that the node has begun or ceased to need.
    fn noted(&mut self) -> Vec<Channel>;

    /// Returns what the channel is to the node, if it is needed now. A later change is noted again.
    fn needed(&mut self, channel: &Channel) -> Option<Want>;

    /// Carries out requests that waited because the node did not hear the channel. It hears all
    /// behind this place of the stream. Returns whether some are left, so that the thread must call
    /// again after a while.
    fn attached(&mut self, channel: &Channel, from: MarkPlace) -> bool;

    /// Returns the place behind which requests wait for what the stream has of a channel from
    /// before the node heard it, or 0 if they wait for all of that. `None` if no request waits, or
    /// the node does not hear the channel.
    fn lacks_earlier(&mut self, channel: &Channel) -> Option<Seq>;

    /// Takes that, or `None` if it cannot be read. Returns whether requests are left, as
    /// [`Landing::attached`] does.
    fn earlier(&mut self, channel: &Channel, earlier: Option<Earlier>) -> bool;

    /// Refuses requests that wait, because the node cannot hear the channel. Returns whether some
    /// are left, so that the thread must call again after a while.
    fn unattachable(&mut self, channel: &Channel) -> bool;

    /// Forgets what the channel keeps, because the node does not hear it any more.
    fn detached(&mut self, channel: &Channel);

    /// Delivers a publication at its place in the stream to the node's subscribers. `is_in_order`
    /// says that they have received, in all channels, what the stream has before it, and nothing
    /// from behind it.
    fn deliver(
        &mut self,
        publication: wire::Published,
        place: MarkPlace,
        is_in_order: bool,
    ) -> Landed;

    /// Returns the workers that are behind on a channel and whose mailboxes have room again, or
    /// `None` if no worker is behind, so that the thread need not ask again.
    fn behind(&mut self, channel: &Channel) -> Option<Vec<Behind>>;

    /// Gives a worker that is behind publications that it missed, in order and without a gap.
    /// Returns whether it is still behind.
    fn catch_up(
        &mut self,
        channel: &Channel,
        worker: WorkerId,
        missed: Vec<(MarkPlace, wire::Published)>,
    ) -> bool;

    /// Tells the channel's subscribers that they may have missed publications. If `worker` is
    /// given, only that worker's subscribers are told, and it is not behind up to this place any
    /// more. Returns whether some could not be told yet, so that the thread must call again after a
    /// while.
    fn gap(&mut self, channel: &Channel, worker: Option<(WorkerId, Seq)>) -> bool;

    /// Takes what the node must tell of its members of a channel, if it hears the channel. `id` is
    /// that from which those of the announcements are made.
    fn outgoing(&mut self, channel: &Channel, id: MessageId) -> Outgoing;

    /// Returns the list of the node's members of a channel.
    fn members(&mut self, channel: &Channel, id: MessageId) -> Vec<Tidings>;

    /// Makes the node tell that list, because what it told may be lost.
    fn tell_list(&mut self, channel: &Channel);

    /// Takes what a node tells of the members of a channel.
    fn told(&mut self, channel: &Channel, from: &NodeLife, tidings: &Tidings) -> Heard;

    /// Forgets nodes that are not among those that have a channel; `nodes` is `None` if these are
    /// not known. Sets whether the list of one of them is missing.
    fn listed(
        &mut self,
        channel: &Channel,
        nodes: Option<&[NodeLife]>,
        is_partial: bool,
        id: MessageId,
    ) -> Heard;

    /// Returns the channels on which starts of a node, but for the one that lives, have members.
    fn members_of(&mut self, node: &str, living: Option<u64>) -> Vec<Left>;

    /// Takes the next publication for the stream.
    fn departing(&mut self) -> Option<Departing>;

    /// Takes what became of a publication, in the epoch of the stream with this number. A
    /// publication that is to be counted and is stored is over only with [`Landing::counted`].
    fn settled(&mut self, token: u64, published: Published, epoch: u64);

    /// Takes the audience of a publication.
    fn counted(&mut self, total: Total);

    /// Returns whether [`Landing::takings`] has something. The node rings when that begins.
    fn has_takings(&self) -> bool;

    /// Returns what to tell the other nodes of what this one has taken from buckets that all share.
    fn takings(&mut self) -> Vec<Taking>;

    /// Notes that the other nodes know what [`Landing::takings`] has returned, or will not hear of
    /// it.
    fn takings_told(&mut self);

    /// Takes what another node has taken.
    fn taken_elsewhere(&mut self, takings: &[Taking]);

    /// Begins anew, because the node must join again: what it heard is not heard any more, and what
    /// was under way to the stream is unknown.
    fn begin_again(&mut self);

    /// Takes the condition of the node, whenever it has changed.
    fn condition(&mut self, condition: &Condition);

    /// Takes what the node measures, twice a second.
    fn measured(&mut self, vitals: Vitals);
}

/// What the stream has of a channel.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The tag of the stream's epoch.
    pub epoch: u32,
    /// The place behind which these are all publications; it was asked for, or the stream has lost
    /// what was before.
    pub behind: Seq,
    /// Whether everything that the stream had was asked for.
    pub is_all: bool,
    /// The publications, in order.
    pub publications: Vec<(Seq, wire::Published)>,
    /// Since when none is missing, in milliseconds since the epoch.
    pub since: Millis,
}

/// How far the end of the node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The node serves.
    No,
    /// The node closes its connections.
    Draining,
    /// Nothing more departs: the thread ends its claims and then itself.
    Over,
}

/// A publication for the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Departing {
    /// Names the publication to the node.
    pub token: u64,
    /// What is published, as other nodes read it.
    pub publication: wire::Published,
    /// Whether the nodes count its audience.
    pub is_counted: bool,
    /// What the stream recognizes a repetition by; `None` if it recognizes none.
    pub repeat: Option<RepeatKey>,
}
