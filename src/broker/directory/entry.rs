//! The directory's entry of one channel, with the counts of its subscribers.

use std::sync::Arc;

use super::attachment::{Attachment, Phase};
use super::requests::{Join, Subscriber};
use crate::broker::bucket::Bucket;
use crate::broker::channel_log::ChannelLog;
use crate::broker::presence::Presence;
use crate::broker::retain::{Budgets, Kept};
use crate::message::{
    Audience, Channel, Encoding, Encodings, MarkPlace, Millis, Offset, PresenceMode, Replay,
    Snapshot, Transport, WorkerId,
};

/// A channel's offset, audience, presence and publications that it keeps.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    pub(super) shares: Vec<Share>,
    pub(super) presence: Presence,
    /// The mode of the last join. A leave uses it if the definition was removed meanwhile.
    pub(super) presence_mode: PresenceMode,
    /// The rate limit of the channel's clients.
    pub(super) bucket: Bucket,
    /// The publications that the channel keeps for later subscribers.
    pub(super) kept: Kept,
    /// What the channel keeps for streams that are cut; `None` if recovery is off, it has had no
    /// stream lately, or there was no room.
    pub(super) log: Option<Box<ChannelLog>>,
    /// When a client whose connection was lost stops counting as a listener.
    pub(super) lingers_until: Millis,
    /// The timestamp of the latest publication. On topics timestamps must not run back.
    pub(super) stamped: Millis,
    /// What the channel waits for, if a cluster's stream orders it.
    pub(super) attachment: Option<Box<Attachment>>,
    /// Whether the channel is in its shard's `watched`.
    pub(super) is_watched: bool,
}

/// The encodings of one space for sockets: all but the last, which is that of streams.
const SOCKET_ENCODINGS: usize = Encoding::PER_SPACE - 1;

const _: () = assert!(Encoding::EventStream.place() == SOCKET_ENCODINGS);

/// One worker's part of a channel's audience.
#[derive(Debug)]
pub(super) struct Share {
    worker: WorkerId,
    /// Subscribers on WebSocket, by [`Encoding::place`].
    websocket: [u32; SOCKET_ENCODINGS],
    /// Subscribers on long-polling, by [`Encoding::place`].
    polling: [u32; SOCKET_ENCODINGS],
    /// Subscribers on streams, which have one encoding.
    streams: u32,
    /// Detached sessions. They are in no audience, but the worker receives what they miss.
    detached: u32,
}

impl Share {
    fn count(&mut self, encoding: Encoding, transport: Transport) -> &mut u32 {
        match transport {
            Transport::WebSocket => &mut self.websocket[encoding.place()],
            Transport::Polling => &mut self.polling[encoding.place()],
            Transport::EventStream => &mut self.streams,
        }
    }

    /// Returns the number of subscribers whose frames have this encoding.
    fn in_encoding(&self, encoding: Encoding) -> u32 {
        match encoding {
            Encoding::EventStream => self.streams,
            encoding => self.websocket[encoding.place()] + self.polling[encoding.place()],
        }
    }

    fn is_empty(&self) -> bool {
        let sockets = self.websocket.iter().chain(&self.polling);
        self.detached == 0 && self.streams == 0 && sockets.sum::<u32>() == 0
    }
}

impl Entry {
    /// Returns the members and their number, as far as this mode shows them to a subscriber; `None`
    /// stands for all subscribers of this node.
    pub(super) fn view(
        &mut self,
        mode: PresenceMode,
        of: Option<&Subscriber>,
    ) -> (Arc<Snapshot>, usize) {
        if let Some(roster) = self.attachment.as_mut().and_then(|one| one.roster.as_mut()) {
            let of = of.map(|of| (of.member.as_ref(), of.connection));
            return roster.view(mode, of);
        }
        match mode {
            PresenceMode::Full => (self.presence.snapshot(), self.presence.count()),
            PresenceMode::Count => (Arc::default(), self.presence.count()),
            PresenceMode::Off => (Arc::default(), 0),
        }
    }

    /// Returns whether the channel has a subscriber, a detached session or a lingering listener.
    pub(super) fn is_listened_to(&self, now: Millis) -> bool {
        !self.shares.is_empty() || now < self.lingers_until
    }

    /// Returns whether the entry can be removed with its last subscriber.
    pub(super) fn keeps_nothing(&self) -> bool {
        !self.kept.outlives_subscribers()
            && self.log.is_none()
            && self.bucket.is_new()
            && self.lingers_until == 0
            && self.attachment.is_none()
            && !self.is_watched
    }

    /// Drops expired publications. Returns whether later sweeps have more to do: the window is not
    /// empty, there is a log, or the channel has no subscriber and its bucket is not full or a
    /// listener lingers. A bucket that was dropped early would let a client publish faster by
    /// leaving and joining again.
    pub(super) fn still_keeps(&mut self, now: Millis, budgets: &Budgets) -> bool {
        self.kept.expire(now, budgets);
        let has_streams = self.shares.iter().any(|share| share.streams > 0);
        self.log = self.log.take().and_then(|mut log| {
            if log.expire(now, &budgets.logs) || has_streams {
                return Some(log);
            }
            log.close(&budgets.logs);
            None
        });
        let is_needed =
            !self.bucket.is_full(now) || now < self.lingers_until || self.attachment.is_some();
        self.kept.outlives_subscribers()
            || self.log.is_some()
            || (self.shares.is_empty() && is_needed)
    }

    /// Drops everything that the channel keeps.
    pub(super) fn clear(&mut self, budgets: &Budgets) {
        self.kept.clear(budgets);
        if let Some(log) = self.log.take() {
            log.close(&budgets.logs);
        }
    }

    /// Returns the place in the stream up to which the node has received the channel; `None` if the
    /// stream does not order it.
    pub(super) fn place(&self) -> Option<MarkPlace> {
        let attachment = self.attachment.as_deref()?;
        let heard_from = attachment.heard_from.unwrap_or(0);
        Some(MarkPlace::new(attachment.epoch, self.offset.max(heard_from)))
    }

    /// Returns the place in the stream behind which the node receives the channel from now on;
    /// [`Offset::MAX`] if that is not known.
    pub(super) fn heard_behind(&self) -> Offset {
        let heard = self.attachment.as_deref().filter(|one| one.phase == Phase::Attached);
        let from = heard.and_then(|one| one.heard_from.max(Some(self.offset)));
        from.filter(|from| *from > 0).unwrap_or(Offset::MAX)
    }

    /// Returns the publications that a new subscriber asks for. A stream receives what the log has
    /// after its position, or else what the window has. For the first stream a log begins.
    pub(super) fn replay(&mut self, join: &Join<'_>, budgets: &Budgets) -> Replay {
        if let Some(behind) = join.replay.behind {
            let missed = self.log.as_ref().and_then(|log| log.behind(behind));
            let is_whole = missed.is_some();
            let publications = missed.unwrap_or_default();
            return Replay { publications, is_whole, ..Replay::default() };
        }
        // What was published before the node heard the channel is missing in the window.
        let window = Millis::from(join.replay.seconds) * 1_000;
        let missing_until = self.attachment.as_ref().map_or(0, |one| one.whole_since + window);
        let mut replay = self.kept.replay(join.replay, join.clock, missing_until);
        if join.subscriber.transport != Transport::EventStream {
            return replay;
        }
        let logs = &budgets.logs;
        if self.log.is_none() {
            let before = replay.last.unwrap_or(join.announcement);
            self.log = logs.begin(before, self.heard_behind());
        }
        let Some(log) = &self.log else { return replay };
        if let Some(missed) = join.replay.after.and_then(|after| log.after(after)) {
            replay = Replay { publications: missed, has_gap: false, is_whole: true, ..replay };
        }
        // An empty window knows when the stream came. That holds as long as the window would keep
        // publications, and a position in the log as long as the log does.
        if logs.keep >= Millis::from(join.options.retain.seconds()) * 1_000 {
            replay.last = replay.last.or_else(|| Some(log.last()));
        }
        replay
    }

    /// Returns the encodings that have subscribers.
    pub(super) fn encodings(&self, channel: &Channel) -> Encodings {
        let mut encodings = Encodings::default();
        for share in &self.shares {
            for &encoding in channel.encodings() {
                if share.in_encoding(encoding) > 0 {
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
            audience.sse += share.streams;
        }
        audience
    }

    /// Returns how a subscriber is counted: as it says, unless a later join of it is held back.
    pub(super) fn counted_as(&self, subscriber: &Subscriber) -> (Encoding, Transport) {
        let &Subscriber { connection, encoding, transport, .. } = subscriber;
        let waiting = self.attachment.as_ref().and_then(|it| it.connections.get(&connection));
        waiting.and_then(|waiting| waiting.counted).unwrap_or((encoding, transport))
    }

    /// Counts a detached session.
    pub(super) fn count_detached(&mut self, worker: WorkerId) {
        self.share(worker).detached += 1;
    }

    /// Uncounts a detached session. Returns false if the worker has no share.
    pub(super) fn uncount_detached(&mut self, worker: WorkerId) -> bool {
        let Some(at) = self.shares.iter().position(|share| share.worker == worker) else {
            return false;
        };
        let detached = &mut self.shares[at].detached;
        debug_assert!(*detached > 0, "a session is uncounted once");
        *detached = detached.saturating_sub(1);
        self.tidy(at);
        true
    }

    pub(super) fn count(&mut self, worker: WorkerId, encoding: Encoding, transport: Transport) {
        *self.share(worker).count(encoding, transport) += 1;
    }

    /// Returns a worker's share, which is created if the worker has none.
    fn share(&mut self, worker: WorkerId) -> &mut Share {
        let at = self.shares.iter().position(|share| share.worker == worker).unwrap_or_else(|| {
            // Most channels have one share, or two: no capacity for more.
            self.shares.reserve_exact(1);
            self.shares.push(Share {
                worker,
                websocket: [0; _],
                polling: [0; _],
                streams: 0,
                detached: 0,
            });
            self.shares.len() - 1
        });
        &mut self.shares[at]
    }

    /// Removes a share that counts nothing.
    fn tidy(&mut self, at: usize) {
        if self.shares[at].is_empty() {
            let share = self.shares.swap_remove(at);
            if let Some(attachment) = &mut self.attachment {
                attachment.forget(share.worker);
            }
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

/// Returns the workers of the shares.
pub(super) fn workers(shares: &[Share]) -> impl Iterator<Item = WorkerId> {
    shares.iter().map(|share| share.worker)
}
