//! Publishing events: an event has a timestamp that is never before that of an earlier one, and is
//! published only if somebody listens to its topic.

use std::sync::atomic::{AtomicU64, Ordering};

use super::invocations::Invocations;
use crate::broker::publish::Submission;
use crate::config::Forge;
use crate::interface::shared::Shared;
use crate::message::{
    Channel, ChannelOptions, Content, MessageId, Millis, Now, PresenceMode, Refused, Retain,
};

/// Timestamps that one event is given while other threads publish later ones before it; then it is
/// refused. Already a second timestamp is rare.
const STAMPS_MAX: usize = 16;

/// What all threads share of Forge's events.
#[derive(Debug, Default)]
pub struct Events {
    /// The invocations that apps may publish for, as a platform has registered them.
    pub invocations: Invocations,
    /// The latest timestamp of an event.
    stamped: AtomicU64,
}

/// An event that was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventReceipt {
    /// Its id.
    pub id: MessageId,
    /// Its timestamp, in milliseconds since the epoch.
    pub at: Millis,
}

impl Forge {
    /// Returns how topics behave.
    pub fn options(&self) -> ChannelOptions {
        ChannelOptions {
            ephemeral: true,
            presence: PresenceMode::Off,
            slow_consumer: self.slow_consumer,
            retain: Retain::window(self.replay_seconds),
            rate_limit: 0,
        }
    }
}

/// Publishes an event. Returns `None` if nobody is subscribed to its topic; then nothing was
/// published.
///
/// # Errors
/// [`Refused::Overloaded`] if a worker of a subscriber has no room for it.
pub fn publish_event(
    shared: &Shared,
    topic: &Channel,
    payload: &str,
    (id, now): (MessageId, Now),
) -> Result<Option<EventReceipt>, Refused> {
    // Frames are made before the lock that gives them their place. Until then another thread may
    // have published an event with a later timestamp.
    for _ in 0..STAMPS_MAX {
        let content = Content::Event { payload: payload.into() };
        let (channel, options) = (topic.clone(), shared.forge.options());
        let at = shared.events.stamp(now.wall);
        let now = Now { wall: at, ..now };
        let submission =
            Submission { channel, content, options, id, now, is_recoverable: false, history: None };
        let (publication, published) = match shared.publish(submission) {
            Err(Refused::Late) => continue,
            published => published?,
        };
        let receipt = EventReceipt { id: publication.id, at };
        return Ok((published.offset > 0).then_some(receipt));
    }
    Err(Refused::Overloaded)
}

/// Whether an installation is below its rate. If it is, one more request is counted.
pub fn admit_installation(shared: &Shared, installation: &str, now: Now) -> bool {
    let rate = shared.forge.rate_limit;
    if rate == 0 {
        return true;
    }
    // No topic's id has a colon.
    let bucket = Channel::topic(&format!("installation:{installation}"));
    shared.broker.directory.admit(&bucket, rate, now.monotonic())
}

impl Events {
    /// Returns the timestamp of an event, in milliseconds since the epoch: `now`, but never less
    /// than that of an earlier event.
    fn stamp(&self, now: Millis) -> Millis {
        now.max(self.stamped.fetch_max(now, Ordering::Relaxed))
    }
}
