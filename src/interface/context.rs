//! What a session may use while it handles an event: its own link, what the sessions of its worker
//! share, and what all threads share. Every call answers at once.

use std::sync::Arc;

use rand::rngs::StdRng;

use super::authenticators::Authenticators;
use super::authorize::{Authorizer, Standing};
use super::frame::Frame;
use super::insforge::detached::Detached;
use super::m2::loads::PendingLoads;
use super::shared::Shared;
use crate::broker::directory::Subscriber;
use crate::broker::index::Index;
use crate::broker::link::Link;
use crate::broker::outboxes::Outboxes;
use crate::broker::outgoing::Outgoing;
use crate::broker::publish::message_id;
use crate::broker::subscriptions::{DeferredLeaves, Joining, Left, Subscriptions};
use crate::codec::json::Scratch;
use crate::codec::websocket::{Opcode, frame};
use crate::limits::MAILBOX_CONTROL_MAX;
use crate::mailbox::Slot;
use crate::message::{
    AckId, Action, Channel, ConnId, Credential, Encoding, MessageId, Millis, Now, Publication,
    Refusal, Transport, WorkerId,
};
use crate::metrics::Counters;

/// One connection, and everything else that its session may use.
pub struct Context<'a> {
    /// The connection's id.
    pub id: ConnId,
    /// Now, as it was read for this event.
    pub now: Now,
    /// The broker's part of the connection.
    pub link: &'a mut Link<Frame>,
    /// What the worker's sessions share.
    pub local: &'a mut Local,
    /// What all threads share.
    pub shared: &'a Shared,
}

/// What the sessions of one worker share. It never leaves the worker's thread.
pub struct Local {
    /// The worker.
    pub worker: WorkerId,
    /// Which of its connections hear which channel.
    pub index: Index,
    /// All outboxes.
    pub outboxes: Outboxes<Frame>,
    /// Leaves that wait for room in a mailbox.
    pub leaves: DeferredLeaves,
    /// Verifies credentials.
    pub auth: Authenticators,
    /// Buffers for taking JSON apart; use [`Context::with_json`].
    pub json: Scratch,
    /// What policies say.
    pub authorizer: Authorizer,
    /// The only source of randomness, so that a seed repeats a run.
    pub random: StdRng,
    /// The worker's counters.
    pub counters: Arc<Counters>,
    /// Sessions that can be resumed; `None` if recovery is off.
    pub detached: Option<Box<Detached>>,
    /// Reads of documents that are under way.
    pub loads: PendingLoads,
}

impl Local {
    /// Creates what the sessions of a worker share, with nothing in it.
    pub fn new(
        worker: WorkerId,
        shared: &Shared,
        auth: Authenticators,
        counters: Arc<Counters>,
        random: StdRng,
    ) -> Self {
        Self {
            worker,
            index: Index::default(),
            outboxes: Outboxes::default(),
            leaves: DeferredLeaves::default(),
            auth,
            json: Scratch::default(),
            authorizer: Authorizer::new(&shared.broker.policies),
            random,
            counters,
            detached: shared.recovery.map(|terms| Box::new(Detached::new(terms, shared.start))),
            loads: PendingLoads::default(),
        }
    }

    /// The worker's joins and leaves.
    pub fn subscriptions<'a>(&'a mut self, shared: &'a Shared, now: Now) -> Subscriptions<'a> {
        Subscriptions {
            broker: &shared.broker,
            worker: self.worker,
            index: &mut self.index,
            leaves: &mut self.leaves,
            random: &mut self.random,
            counters: &self.counters,
            now,
        }
    }
}

impl Context<'_> {
    /// Puts bytes for this connection alone into its outbox.
    pub fn send(&mut self, bytes: Vec<u8>) {
        self.push(Frame::own(bytes));
    }

    /// Puts a WebSocket frame with text for this connection alone into its outbox.
    pub fn send_text(&mut self, text: &str) {
        self.send(frame(Opcode::Text, &[text.as_bytes()]));
    }

    /// Puts a frame into the connection's outbox. Returns false if the connection cannot take it
    /// and will be closed.
    pub fn push(&mut self, frame: Frame) -> bool {
        self.local.outboxes.push(self.id.slot, self.link, frame)
    }

    /// Delivers a publication to this connection alone, counted as fan-out counts it. Returns how
    /// many bytes that was.
    pub fn deliver(&mut self, publication: &Arc<Publication>, encoding: Encoding) -> usize {
        let frame = Frame::of(publication, encoding);
        let bytes = frame.as_ref().len();
        self.local.counters.matched.add(1);
        if !self.push(frame) {
            self.local.counters.dropped_slow_consumer.add(1);
        }
        bytes
    }

    /// Puts what a channel kept into the outbox, behind the acknowledgement and before everything
    /// that is live. `frame_of` makes the frame of each publication. Returns how many bytes that
    /// was, and whether any publication went in.
    ///
    /// A replay fills at most half of an outbox, because live publications need room as well, and
    /// at most `bytes_max` bytes with what waits already. If that is too little the subscriber gets
    /// the newest, after a notice of how many it did not get.
    pub fn replay(
        &mut self,
        channel: &Channel,
        publications: &[Arc<Publication>],
        bytes_max: usize,
        frame_of: impl Fn(&Arc<Publication>) -> Frame,
    ) -> Replayed {
        let (mut frames_left, bytes_left) = self.link.outbox.free_half();
        let mut bytes_left = bytes_left.min(bytes_max.saturating_sub(self.link.outbox.bytes()));
        let mut frames = Vec::with_capacity(publications.len());
        for publication in publications.iter().rev() {
            let frame = frame_of(publication);
            let length = frame.as_ref().len();
            if frames_left == 0 || bytes_left < length {
                break;
            }
            (frames_left, bytes_left) = (frames_left - 1, bytes_left - length);
            frames.push(frame);
        }
        let is_any_given = !frames.is_empty();
        let skipped = (publications.len() - frames.len()) as u64;
        if skipped > 0 && self.push(Frame::notice(channel, skipped)) {
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

    /// Counts the connection in a channel. It hears the channel, and its client is answered, when
    /// the activation comes up in the worker's mailbox.
    ///
    /// # Errors
    /// [`Refusal::TooManySubscriptions`], or [`Refusal::Overloaded`] if the node stops or a mailbox
    /// has no room.
    pub fn join(
        &mut self,
        subscriber: Subscriber,
        channel: &Channel,
        joining: &Joining,
    ) -> Result<(), Refusal> {
        if self.link.is_leaving {
            return Err(Refusal::Overloaded);
        }
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.join(self.link, subscriber, channel, joining)
    }

    /// Uncounts the connection in a channel. It hears no more of the channel, and its client is
    /// answered, when the deactivation comes up.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`], if a mailbox has no room.
    pub fn leave(
        &mut self,
        subscriber: &Subscriber,
        channel: &Channel,
        reply: Option<AckId>,
    ) -> Result<Left, Refusal> {
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.leave(self.link, subscriber, channel, reply)
    }

    /// Leaves all channels because the session ends. A leave that finds no room is tried again
    /// later.
    pub fn leave_all(&mut self, subscriber: &Subscriber, lingers_until: Millis) {
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.leave_all(self.link, subscriber, lingers_until);
    }

    /// Leaves all channels as a client does that goes on listening. False if a mailbox had no room;
    /// then it must be tried again.
    pub fn leave_in_order(&mut self, subscriber: &Subscriber) -> bool {
        let mut subscriptions = self.local.subscriptions(self.shared, self.now);
        subscriptions.leave_in_order(self.link, subscriber)
    }

    /// Whether the connection is counted as subscribed to a channel.
    pub fn is_subscribed(&self, channel: &Channel) -> bool {
        self.local.index.counted(self.link.subscriptions, channel).is_some()
    }

    /// The channels that the connection is counted in, with its encoding in each.
    pub fn channels(&self) -> Vec<(Channel, Encoding)> {
        let all = self.local.index.of(self.link.subscriptions);
        all.map(|(channel, counted)| (channel.clone(), counted.encoding)).collect()
    }

    /// Finds out whether the verdict of the policies on a command is known, and asks for it if it
    /// is not.
    pub fn judge(
        &mut self,
        action: Action,
        channel: &Channel,
        credential: &Arc<Credential>,
    ) -> Standing {
        let Local { authorizer, counters, .. } = &mut *self.local;
        authorizer.judge((self.shared, counters), self.id, (action, channel, credential))
    }

    /// Whether the worker's own mailbox has room for what commands may post into it. Each command
    /// may need a place there, and the next turn empties it.
    pub fn has_room_for_commands(&self) -> bool {
        let mailbox = self.shared.broker.mailboxes.workers.of(self.local.worker);
        mailbox.free(Slot::Control) >= MAILBOX_CONTROL_MAX / 2
    }

    /// Lets `take` use the worker's buffers for JSON beside the context.
    pub fn with_json<R>(&mut self, take: impl FnOnce(&mut Self, &mut Scratch) -> R) -> R {
        let mut scratch = std::mem::take(&mut self.local.json);
        let result = take(self, &mut scratch);
        self.local.json = scratch;
        result
    }

    /// Creates a message id.
    pub fn message_id(&mut self) -> MessageId {
        message_id(self.now.wall, &mut self.local.random)
    }

    /// How the connection's bytes travel.
    pub fn transport(&self) -> Transport {
        match self.link.socket {
            Some(_) => Transport::WebSocket,
            None => Transport::Polling,
        }
    }
}

/// What came of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Bytes that were put into the outbox.
    pub bytes: usize,
    /// Whether any publication was.
    pub is_any_given: bool,
}
