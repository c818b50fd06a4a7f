//! The state that a session may use while it handles an event: its own link, and that which the
//! sessions of its worker or all threads share. Every call returns without waiting.

use std::sync::Arc;

use bytestring::ByteString;
use rand::rngs::StdRng;

use super::authenticators::Authenticators;
use super::authorize::{Authorizer, Standing};
use super::deflating::{Deflating, counted};
use super::frame::Frame;
use super::insforge::detached::Detached;
use super::m2::loads::PendingLoads;
use super::publish_rate::PublishRate;
use super::shared::Shared;
use crate::broker::directory::Subscriber;
use crate::broker::index::Index;
use crate::broker::link::Link;
use crate::broker::outboxes::Outboxes;
use crate::broker::publish::message_id;
use crate::broker::received::Received;
use crate::broker::subscriptions::{DeferredLeaves, Joining, Left, Subscriptions};
use crate::codec::http::{Date, Dates};
use crate::codec::json::Scratch;
use crate::codec::websocket::{Opcode, frame};
use crate::limits::MAILBOX_CONTROL_MAX;
use crate::mailbox::Slot;
use crate::message::{
    AckId, Action, Channel, ConnId, Credential, Encoding, MessageId, Millis, Now, Publication,
    Refusal, Transport, WorkerId,
};
use crate::metrics::Counters;

/// One connection, and what its session may use besides.
pub struct Context<'a> {
    /// The id of the connection.
    pub id: ConnId,
    /// The time of the event.
    pub now: Now,
    /// The broker's part of the connection.
    pub link: &'a mut Link<Frame>,
    /// The state that the sessions of this worker share.
    pub local: &'a mut Local,
    /// The state that all threads share.
    pub shared: &'a Shared,
}

/// The state that the sessions of one worker share. It stays on the worker's thread.
pub struct Local {
    /// The id of the worker.
    pub worker: WorkerId,
    /// The subscribers among the worker's connections, by channel.
    pub index: Index,
    /// The list of connections with frames to send, and what all outboxes of the worker share.
    pub outboxes: Outboxes<Frame>,
    /// Leaves of ended connections that wait for room in a mailbox.
    pub leaves: DeferredLeaves,
    /// The keys and caches that the worker verifies credentials with.
    pub auth: Authenticators,
    /// The message that the session handles, if it arrived in several reads; empty otherwise.
    pub received: Received,
    /// What the worker compresses and inflates messages with.
    pub deflating: Deflating,
    /// Buffers for decoding JSON; use [`Context::with_json`].
    pub json: Scratch,
    /// The worker's cache of the policies' verdicts.
    pub authorizer: Authorizer,
    /// The worker's only source of randomness, so that a simulation repeats a run from its seed.
    pub random: StdRng,
    /// The date that the worker has formatted last.
    pub dates: Dates,
    /// The counters that only this worker's thread changes.
    pub counters: Arc<Counters>,
    /// Sessions that can be resumed; `None` if recovery is off.
    pub detached: Option<Box<Detached>>,
    /// Reads of documents that wait for the store.
    pub loads: PendingLoads,
    /// The publications that connections have sent lately, if these have a limit.
    pub publishes: PublishRate,
}

impl Local {
    /// Creates the state that a worker's sessions share, empty.
    pub fn new(
        worker: WorkerId,
        shared: &Shared,
        auth: Authenticators,
        counters: Arc<Counters>,
        random: StdRng,
    ) -> Self {
        let deflated = counted(shared.config.websocket);
        Self {
            worker,
            index: Index::default(),
            outboxes: Outboxes::default(),
            leaves: DeferredLeaves::default(),
            auth,
            received: Received::default(),
            deflating: Deflating::new(shared.config.websocket),
            json: Scratch::default(),
            authorizer: Authorizer::new(&shared.broker.policies),
            random,
            dates: Dates::default(),
            counters,
            detached: shared
                .recovery
                .map(|terms| Box::new(Detached::new(terms, shared.start, deflated))),
            loads: PendingLoads::default(),
            publishes: PublishRate::new(shared.config.limits.publishes_per_second_per_connection),
        }
    }

    /// Returns what joins and leaves of the worker need.
    pub fn subscriptions<'a>(&'a mut self, shared: &'a Shared, now: Now) -> Subscriptions<'a> {
        Subscriptions {
            broker: &shared.broker,
            worker: self.worker,
            most: shared.config.limits.subscriptions_per_connection,
            index: &mut self.index,
            leaves: &mut self.leaves,
            random: &mut self.random,
            counters: &self.counters,
            now,
        }
    }
}

impl Context<'_> {
    /// Puts bytes that are for this connection alone into its outbox.
    pub fn send(&mut self, bytes: Vec<u8>) {
        self.push(Frame::own(bytes));
    }

    /// Puts a data frame that is for this connection alone into its outbox, compressed if the
    /// client has negotiated that.
    pub fn echo(&mut self, frame: Vec<u8>) {
        let Local { deflating, counters, .. } = &mut *self.local;
        let deflated = self.link.deflates().then(|| deflating.own(&frame, counters)).flatten();
        self.send(deflated.unwrap_or(frame));
    }

    /// Puts a WebSocket text frame that is for this connection alone into its outbox.
    pub fn send_text(&mut self, text: &str) {
        self.send(frame(Opcode::Text, &[text.as_bytes()]));
    }

    /// Puts a frame into the connection's outbox. Returns false if the connection is too slow to
    /// take it and will be closed.
    pub fn push(&mut self, frame: Frame) -> bool {
        self.local.outboxes.push(self.id.slot, self.link, frame)
    }

    /// Returns the frame of a publication that many connections share, compressed if this one has
    /// negotiated that.
    fn shared_frame(&mut self, publication: &Arc<Publication>, encoding: Encoding) -> Frame {
        let frame = Frame::of(publication, encoding);
        if !self.link.deflates() {
            return frame;
        }
        let Local { deflating, counters, .. } = &mut *self.local;
        frame.deflated(publication, encoding, (deflating, counters))
    }

    /// Delivers a publication to this connection alone, and counts it as fan-out does. Returns the
    /// number of bytes of its frame.
    pub fn deliver(&mut self, publication: &Arc<Publication>, encoding: Encoding) -> usize {
        let frame = self.shared_frame(publication, encoding);
        let bytes = frame.as_ref().len();
        self.local.counters.matched.add(1);
        if !self.push(frame) {
            self.local.counters.dropped_slow_consumer.add(1);
        }
        bytes
    }

    /// Puts retained publications of a channel into the outbox, after the acknowledgement and
    /// before live publications. `own_frame` makes the frame of a publication that is for this
    /// client alone; `None` stands for the shared one.
    ///
    /// A replay fills at most half of the outbox, because live publications need room as well, and
    /// stops when the outbox holds `bytes_max` bytes. If not all publications fit, the subscriber
    /// receives the newest ones, after a notice of how many were left out.
    pub fn replay(
        &mut self,
        (channel, encoding): (&Channel, Encoding),
        publications: &[Arc<Publication>],
        bytes_max: usize,
        own_frame: impl Fn(&Arc<Publication>) -> Option<Frame>,
    ) -> Replayed {
        let (mut frames_left, bytes_left) = self.link.outbox.free_half();
        let mut bytes_left = bytes_left.min(bytes_max.saturating_sub(self.link.outbox.bytes()));
        let mut frames = Vec::with_capacity(publications.len());
        for publication in publications.iter().rev() {
            let frame = own_frame(publication);
            let frame = frame.unwrap_or_else(|| self.shared_frame(publication, encoding));
            let length = frame.as_ref().len();
            if frames_left == 0 || bytes_left < length {
                break;
            }
            (frames_left, bytes_left) = (frames_left - 1, bytes_left - length);
            frames.push(frame);
        }
        let is_any_given = !frames.is_empty();
        let skipped = (publications.len() - frames.len()) as u64;
        if skipped > 0 && self.push(Frame::gap_notice(channel, skipped, encoding)) {
            self.local.counters.gaps.add(1);
        }
        let (mut bytes, mut dropped) = (0, 0);
        for frame in frames.into_iter().rev() {
            bytes += frame.as_ref().len();
            dropped += u64::from(!self.push(frame));
        }
        let counters = &self.local.counters;
        counters.matched.add(publications.len() as u64);
        counters.replayed.add(publications.len() as u64 - skipped - dropped);
        counters.dropped_replay.add(skipped);
        counters.dropped_slow_consumer.add(dropped);
        Replayed { bytes, is_any_given }
    }

    /// Counts the connection as a subscriber of a channel and posts the activation to the worker's
    /// own mailbox. When the worker takes the activation, the subscription begins and the client
    /// receives its answer.
    ///
    /// # Errors
    /// [`Refusal::TooManySubscriptions`]; [`Refusal::Overloaded`] if the node is stopping or a
    /// mailbox has no room.
    pub fn join(
        &mut self,
        subscriber: Subscriber,
        channel: &Channel,
        joining: &Joining,
    ) -> Result<(), Refusal> {
        if self.link.is_leaving() {
            return Err(Refusal::Overloaded);
        }
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.join(self.link, subscriber, channel, joining)
    }

    /// Stops counting the connection as a subscriber of a channel and posts the deactivation. When
    /// the worker takes the deactivation, the subscription ends and `reply` is acknowledged.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] if a mailbox has no room.
    pub fn leave(
        &mut self,
        subscriber: &Subscriber,
        channel: &Channel,
        reply: Option<AckId>,
    ) -> Result<Left, Refusal> {
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.leave(self.link, subscriber, channel, reply)
    }

    /// Leaves all channels because the session ends. Leaves for which a mailbox has no room are
    /// retried later. Until `lingers_until`, in milliseconds since the node started, the client
    /// counts as a listener; 0 if it does not.
    pub fn leave_all(&mut self, subscriber: &Subscriber, lingers_until: Millis) {
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.leave_all(self.link, subscriber, lingers_until);
    }

    /// Stops counting the connection as a subscriber of a channel whose join is refused.
    pub fn uncount(&mut self, channel: &Channel) {
        self.local.subscriptions(self.shared, self.now).refused(self.link, self.id, channel);
    }

    /// Returns whether the connection is counted as a subscriber of a channel.
    pub fn is_subscribed(&self, channel: &Channel) -> bool {
        self.local.index.counted(self.link.subscriptions, channel).is_some()
    }

    /// Returns the channels that the connection is counted in, with its encoding in each.
    pub fn channels(&self) -> Vec<(Channel, Encoding)> {
        let all = self.local.index.of(self.link.subscriptions);
        all.map(|(channel, counted)| (channel.clone(), counted.encoding)).collect()
    }

    /// Looks up the policies' verdict on a command of this connection, and puts the question if it
    /// is not known.
    pub fn judge(
        &mut self,
        action: Action,
        channel: &Channel,
        credential: &Arc<Credential>,
    ) -> Standing {
        let Local { authorizer, counters, .. } = &mut *self.local;
        authorizer.judge((self.shared, counters), self.id, (action, channel, credential))
    }

    /// Returns whether this connection may publish once more in this second, and counts it.
    pub fn admit_publish(&mut self) -> bool {
        self.local.publishes.admit(self.id, self.now.monotonic())
    }

    /// Returns whether at least half of the worker's own mailbox is free. Each command may need a
    /// place in it, and the next turn empties it.
    pub fn has_room_for_commands(&self) -> bool {
        let mailbox = self.shared.broker.mailboxes.workers.of(self.local.worker);
        mailbox.free(Slot::Control) >= MAILBOX_CONTROL_MAX / 2
    }

    /// Returns a payload that outlives the message that it is a part of: a slice of the message, or
    /// a copy.
    pub fn keep(&self, payload: &str) -> ByteString {
        let Local { received, counters, .. } = &*self.local;
        counters.payload(received.keep(payload, &self.shared.broker.memory.buffers))
    }

    /// Calls `take` with the worker's JSON buffers beside the context.
    pub fn with_json<R>(&mut self, take: impl FnOnce(&mut Self, &mut Scratch) -> R) -> R {
        let mut scratch = std::mem::take(&mut self.local.json);
        let result = take(self, &mut scratch);
        self.local.json = scratch;
        result
    }

    /// Returns the date of a response to HTTP that is sent now.
    pub fn date(&self) -> Date {
        self.local.dates.at(self.now.wall_seconds())
    }

    /// Creates a message id from the time of the event and the worker's randomness.
    pub fn message_id(&mut self) -> MessageId {
        message_id(self.now.wall, &mut self.local.random)
    }

    /// Returns [`Transport::WebSocket`] if the connection has a socket, else
    /// [`Transport::Polling`].
    pub fn transport(&self) -> Transport {
        match self.link.socket {
            Some(_) => Transport::WebSocket,
            None => Transport::Polling,
        }
    }
}

/// The frames that a replay has put into the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Bytes of the publications' frames.
    pub bytes: usize,
    /// Whether there was room for any publication.
    pub is_any_given: bool,
}
