//! What the directory keeps of one channel, and whom it counts there.

use std::sync::Arc;

use crate::broker::bucket::Bucket;
use crate::broker::presence::Presence;
use crate::broker::retain::{Budgets, Kept};
use crate::message::{
    Audience, Channel, Encoding, Encodings, Millis, Offset, PresenceMode, Snapshot, Transport,
    WorkerId,
};

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    pub(super) shares: Vec<Share>,
    pub(super) presence: Presence,
    /// What the last join went by, for leaves after the definition is gone.
    pub(super) presence_mode: PresenceMode,
    /// What its clients may still publish.
    pub(super) bucket: Bucket,
    /// What it keeps for later subscribers.
    pub(super) kept: Kept,
    /// Until when somebody whose connection was lost counts as listening.
    pub(super) lingers_until: Millis,
    /// The timestamp of its latest publication, where they must not run back.
    pub(super) stamped: Millis,
    /// Whether it stands in its shard's list of those.
    pub(super) is_watched: bool,
}

/// A worker's part of a channel's audience.
#[derive(Debug)]
pub(super) struct Share {
    worker: WorkerId,
    /// By the encodings' places.
    websocket: [u32; Encoding::PER_SPACE],
    /// The same.
    polling: [u32; Encoding::PER_SPACE],
    /// Subscribers whose connection was cut and who may come back: they are in no audience, but
    /// the worker is given what they miss.
    away: u32,
}

impl Share {
    fn count(&mut self, encoding: Encoding, transport: Transport) -> &mut u32 {
        match transport {
            Transport::WebSocket => &mut self.websocket[encoding.place()],
            Transport::Polling => &mut self.polling[encoding.place()],
        }
    }

    fn is_empty(&self) -> bool {
        self.away == 0 && self.websocket.iter().chain(&self.polling).all(|count| *count == 0)
    }
}

impl Entry {
    /// Who is there and how many, as a subscriber is told.
    pub(super) fn view(&mut self, mode: PresenceMode) -> (Arc<Snapshot>, usize) {
        match mode {
            PresenceMode::Full => (self.presence.snapshot(), self.presence.count()),
            PresenceMode::Count => (Arc::default(), self.presence.count()),
            PresenceMode::Off => (Arc::default(), 0),
        }
    }

    /// Whether anybody listens, or is about to come back.
    pub(super) fn is_listened_to(&self, now: Millis) -> bool {
        !self.shares.is_empty() || now < self.lingers_until
    }

    /// Whether nothing of it outlives its last subscriber.
    pub(super) fn keeps_nothing(&self) -> bool {
        !self.kept.outlives_subscribers()
            && self.bucket.is_new()
            && self.lingers_until == 0
            && !self.is_watched
    }

    /// Lets go of what is too old. Whether time has anything more to end: what is kept, or, where
    /// nobody is subscribed, what keeps clients from publishing faster by coming anew, or who may
    /// come back.
    pub(super) fn still_keeps(&mut self, now: Millis, budgets: &Budgets) -> bool {
        self.kept.expire(now, budgets);
        let is_waited_for = !self.bucket.is_full(now) || now < self.lingers_until;
        self.kept.outlives_subscribers() || (self.shares.is_empty() && is_waited_for)
    }

    /// The encodings that have subscribers.
    pub(super) fn encodings(&self, channel: &Channel) -> Encodings {
        let mut encodings = Encodings::default();
        for share in &self.shares {
            for &encoding in channel.encodings() {
                if share.websocket[encoding.place()] + share.polling[encoding.place()] > 0 {
                    encodings.insert(encoding);
                }
            }
        }
        encodings
    }

    pub(super) fn audience(&self) -> Audience {
        let mut audience = Audience::default();
        for share in &self.shares {
            audience.websocket += share.websocket.iter().sum::<u32>();
            audience.polling += share.polling.iter().sum::<u32>();
        }
        audience
    }

    /// Counts a subscriber that is away.
    pub(super) fn count_away(&mut self, worker: WorkerId) {
        self.share(worker).away += 1;
    }

    /// Uncounts a subscriber that was away. False if the worker has no share.
    pub(super) fn uncount_away(&mut self, worker: WorkerId) -> bool {
        let Some(at) = self.shares.iter().position(|share| share.worker == worker) else {
            return false;
        };
        let away = &mut self.shares[at].away;
        debug_assert!(*away > 0, "who comes back was away");
        *away = away.saturating_sub(1);
        self.tidy(at);
        true
    }

    pub(super) fn count(&mut self, worker: WorkerId, encoding: Encoding, transport: Transport) {
        *self.share(worker).count(encoding, transport) += 1;
    }

    /// A worker's share, made where it has none.
    fn share(&mut self, worker: WorkerId) -> &mut Share {
        let at = self.shares.iter().position(|share| share.worker == worker).unwrap_or_else(|| {
            // Most channels have one share, or two: no room for others that may come.
            self.shares.reserve_exact(1);
            self.shares.push(Share { worker, websocket: [0; _], polling: [0; _], away: 0 });
            self.shares.len() - 1
        });
        &mut self.shares[at]
    }

    /// Removes a share that nobody needs any more.
    fn tidy(&mut self, at: usize) {
        if self.shares[at].is_empty() {
            self.shares.swap_remove(at);
        }
    }

    pub(super) fn uncount(&mut self, worker: WorkerId, encoding: Encoding, transport: Transport) {
        let Some(at) = self.shares.iter().position(|share| share.worker == worker) else { return };
        let count = self.shares[at].count(encoding, transport);
        debug_assert!(*count > 0, "a subscriber is uncounted once");
        *count = count.saturating_sub(1);
        self.tidy(at);
    }
}

/// The workers that have a part of a channel's audience.
pub(super) fn workers(shares: &[Share]) -> impl Iterator<Item = WorkerId> {
    shares.iter().map(|share| share.worker)
}
