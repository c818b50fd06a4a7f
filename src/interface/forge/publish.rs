//! Publishing events. The timestamp of an event is never before that of an earlier event. An event
//! is published only if its topic has subscribers.

use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;

use super::invocations::Invocations;
use crate::broker::publish::Submission;
use crate::config::Forge;
use crate::interface::shared::Shared;
use crate::mailbox::Publisher;
use crate::message::{
    Channel, ChannelOptions, ChannelOrder, Content, MessageId, Millis, Now, PresenceMode, Refused,
    RepeatKey, Retain,
};

/// Attempts to publish an event while other threads publish events with later timestamps first.
/// After these the event is refused. A second attempt is rare already.
const STAMPS_MAX: usize = 16;

/// What is published on a topic.
#[derive(Clone, Debug)]
pub struct Event {
    /// The id by which frames and the answer name the event.
    pub id: MessageId,
    /// The payload: a JSON string.
    pub payload: ByteString,
    /// Recognizes a repetition of the event; see [`Submission::repeat`].
    pub repeat: Option<RepeatKey>,
}

/// The state of Forge's events that all threads share.
#[derive(Debug, Default)]
pub struct Events {
    /// The invocations that a platform has registered, for which apps may publish.
    pub invocations: Invocations,
    /// The latest timestamp of an event.
    stamped: AtomicU64,
}

/// An event that was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventReceipt {
    /// The id by which frames and the answer name the event.
    pub id: MessageId,
    /// The timestamp, in milliseconds since the epoch.
    pub at: Millis,
}

impl Forge {
    /// Returns the options of all topics.
    pub fn options(&self) -> ChannelOptions {
        ChannelOptions {
            ephemeral: true,
            presence: PresenceMode::Off,
            slow_consumer: self.slow_consumer,
            retain: Retain::window(self.replay_seconds),
            rate_limit: 0,
            order: ChannelOrder::Cluster,
        }
    }
}

/// Publishes an event. Returns `None`, and publishes nothing, if the topic has no subscribers.
///
/// # Errors
/// [`Refused::Overloaded`] if the mailbox of a subscriber's worker is full.
pub fn publish_event(
    shared: &Shared,
    topic: &Channel,
    event: &Event,
    now: Now,
) -> Result<Option<EventReceipt>, Refused> {
    // Frames are made before the lock of the topic is taken. Meanwhile another thread may publish
    // an event with a later timestamp.
    for _ in 0..STAMPS_MAX {
        let (submission, receipt) = submission(shared, topic, event.clone(), now);
        let (_, published) = match shared.publish(submission) {
            Err(Refused::Late) => continue,
            published => published?,
        };
        return Ok((published.offset > 0).then_some(receipt));
    }
    Err(Refused::Overloaded)
}

/// Returns whether a cluster's stream orders all topics.
pub fn is_ordered(shared: &Shared) -> bool {
    shared.broker.is_ordered(shared.forge.options())
}

impl Event {
    /// Creates an event. `publisher` names the publisher among all others, and `is_given` says
    /// whether it has given the id.
    pub fn new(
        shared: &Shared,
        publisher: [&str; 2],
        topic: &Channel,
        (id, is_given): (MessageId, bool),
        payload: ByteString,
    ) -> Self {
        let repeat = (is_given || is_ordered(shared)).then(|| RepeatKey::of(&publisher, topic, id));
        Self { id, payload, repeat }
    }
}

/// Sends an event to the cluster's stream, which publishes it if a node has subscribers of the
/// topic. Returns what the publisher knows it by then.
///
/// # Errors
/// [`Refused`] if nothing was sent, because a queue is full.
pub fn send_event(
    shared: &Shared,
    topic: &Channel,
    event: Event,
    now: Now,
    publisher: Publisher,
) -> Result<EventReceipt, Refused> {
    let (submission, receipt) = submission(shared, topic, event, now);
    shared.broker.send(submission, publisher)?;
    Ok(receipt)
}

/// Stamps an event. Returns what is to be published, and what the publisher knows it by.
fn submission(
    shared: &Shared,
    topic: &Channel,
    event: Event,
    now: Now,
) -> (Submission<'static>, EventReceipt) {
    let Event { id, payload, repeat } = event;
    let at = shared.events.stamp(now.wall);
    let submission = Submission {
        channel: topic.clone(),
        content: Content::Event { payload },
        options: shared.forge.options(),
        id,
        now: Now { wall: at, ..now },
        is_recoverable: false,
        history: None,
        repeat,
    };
    (submission, EventReceipt { id, at })
}

/// Returns whether an installation is below its rate. If it is, counts one more request.
pub fn admit_installation(shared: &Shared, installation: &str, now: Now) -> bool {
    let rate = shared.forge.rate_limit;
    if rate == 0 {
        return true;
    }
    // No topic has this id, because the ids of topics have no colon.
    let bucket = Channel::topic(&format!("installation:{installation}"));
    shared.broker.directory.admit(&bucket, rate, now.monotonic())
}

impl Events {
    /// Returns the timestamp of an event, in milliseconds since the epoch: `now`, but never less
    /// than that of an earlier event.
    fn stamp(&self, now: Millis) -> Millis {
        now.max(self.stamped.fetch_max(now, Ordering::Relaxed))
    }

    /// Notes the timestamp of an event of another node, which later ones must not precede.
    pub fn note(&self, at: Millis) {
        self.stamped.fetch_max(at, Ordering::Relaxed);
    }
}
