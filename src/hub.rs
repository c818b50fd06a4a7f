//! What the hot threads share, and [`Hub::publish`]: the way of every publication, whoever sends
//! it, from its content to the workers' mailboxes.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rand::Rng;

use crate::broker::definitions::Definitions;
use crate::broker::directory::{Directory, Published};
use crate::broker::policies::Policies;
use crate::config::{Config, EngineIo, Forge, M2, Recovery};
use crate::interface::encode::encode;
use crate::interface::forge;
use crate::mailbox::{Keep, Mailboxes, Ticket};
use crate::message::{
    Api, Channel, ChannelDefinition, ChannelOptions, Content, Durability, MessageId, Millis, Nanos,
    Now, Publication, Record, Refused,
};
use crate::metrics::Metrics;

/// What the hot threads share.
#[derive(Debug)]
pub struct Hub {
    /// Order and audience of every channel.
    pub directory: Directory,
    /// Which channels there may be. Replaced whole by the side, read without waiting, so that a
    /// change holds on every thread from the moment that it is answered.
    pub definitions: ArcSwap<Definitions>,
    /// Who may subscribe and publish. Replaced whole as the definitions are.
    pub policies: Arc<ArcSwap<Policies>>,
    /// The mailboxes.
    pub mailboxes: Arc<Mailboxes>,
    /// The counters.
    pub metrics: Metrics,
    /// The configuration.
    pub config: Arc<Config>,
    /// Its section on Engine.IO.
    pub timings: EngineIo,
    /// Its section on recovery, if clients may recover.
    pub recovery: Option<Recovery>,
    /// Its section on Forge.
    pub forge: Forge,
    /// Its section on M2.
    pub m2: M2,
    /// The clocks.
    pub clock: Clock,
    /// A random number that tells this start of the node from all others.
    pub start: u64,
    /// What all threads share of Forge's events.
    pub events: forge::Shared,
    /// What the node says of itself.
    pub about: About,
    /// Set once the node stops.
    pub shutdown: OnceLock<Shutdown>,
}

/// What a node says of itself in its metrics.
#[derive(Clone, Debug)]
pub struct About {
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Why it is that one, where it is second choice.
    pub driver_reason: String,
    /// When the node started, by the wall.
    pub started: Millis,
}

/// How a node stops.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// Since when, on the node's own clock.
    pub began: Millis,
    /// Over how many milliseconds connections are closed.
    pub window: Millis,
}

impl Shutdown {
    /// How many of `all` connections should be closed by now, the first of them at once; none to
    /// say, when the time is over: then there should be none left.
    pub fn due(&self, now: Millis, all: u64) -> Option<u64> {
        let passed = now.saturating_sub(self.began);
        (passed < self.window).then(|| all.min(1 + all * passed / self.window))
    }
}

/// Both of the node's clocks, read at the edge and passed in everywhere else.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// That starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now { nanos: self.nanos(), wall: self.wall() }
    }

    /// Milliseconds since the node started: for deadlines.
    pub fn monotonic(&self) -> Millis {
        // The node's life in milliseconds fits.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Nanoseconds since the node started: for how long things take.
    pub fn nanos(&self) -> Nanos {
        // Five centuries fit.
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Milliseconds since the epoch: for what people and tokens read.
    pub fn wall(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// What somebody wants published.
#[derive(Debug)]
pub struct Submission<'a> {
    /// Where.
    pub channel: Channel,
    /// What.
    pub content: Content,
    /// How the channel behaves.
    pub options: ChannelOptions,
    /// The id that the publication gets.
    pub id: MessageId,
    /// Now.
    pub now: Now,
    /// How it is kept in history, where it is.
    pub history: Option<ToKeep<'a>>,
}

/// How a publication is to be kept in history.
#[derive(Debug)]
pub struct ToKeep<'a> {
    /// What governs the channel.
    pub definition: &'a Arc<ChannelDefinition>,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// Answered then; `None` if the level is reached at once.
    pub ticket: Option<Ticket<Durability>>,
}

impl Hub {
    /// Publishes: frames for the groups in use are made before any lock is taken, then the
    /// directory gives the publication its place, posts it, and has it kept in the same order.
    ///
    /// # Errors
    /// [`Refused`], where somebody has no room for it.
    pub fn publish(
        &self,
        submission: Submission<'_>,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        let Submission { channel, content, options, id, now, history: to_keep } = submission;
        let groups = self.directory.groups(&channel);
        let is_recoverable = self.recovery.is_some() && channel.api() == Api::Insforge;
        let publication = Publication::new(id, channel, now.wall, content);
        let publication = publication.accepted(now.nanos).under(options);
        let publication = Arc::new(publication.recoverable(is_recoverable));
        for group in groups.iter() {
            publication.frame(group, encode);
        }
        let history = &self.mailboxes.history;
        let place = match to_keep {
            None => None,
            Some(_) => {
                Some(history.reserve(publication.content.bytes()).ok_or(Refused::HistoryFull)?)
            }
        };
        let keep = |audience| {
            let (Some(place), Some(to_keep)) = (place, to_keep) else { return };
            let ToKeep { definition, level, ticket } = to_keep;
            let definition = definition.clone();
            let record = Record { publication: publication.clone(), definition, audience };
            place.post(Keep { record, level, ticket });
        };
        let published = self.directory.publish(&self.mailboxes.workers, &publication, keep)?;
        Ok((publication, published))
    }
}

/// Creates a message id that sorts by time (UUID version 7).
pub fn message_id(at: Millis, random: &mut impl Rng) -> MessageId {
    let mut bytes = [0; 10];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_unix_timestamp_millis(at, &bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_is_even_and_then_over() {
        let plan = Shutdown { began: 1_000, window: 10_000 };
        assert_eq!(plan.due(900, 5_000), Some(1));
        assert_eq!(plan.due(1_010, 5_000), Some(6));
        assert_eq!(plan.due(6_000, 5_000), Some(2_501));
        assert_eq!(plan.due(10_999, 5_000), Some(5_000));
        assert_eq!(plan.due(1_000, 0), Some(0));
        assert_eq!(plan.due(11_000, 5_000), None);
        assert_eq!(Shutdown { began: 0, window: 0 }.due(0, 7), None);
    }
}
