//! What the hot threads share, and [`Hub::publish`]: the way of every publication, whoever sends
//! it, from its content to the workers' mailboxes.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use crate::engine::Mailboxes;
use crate::engine::definitions::Definitions;
use crate::engine::directory::{Directory, Overloaded, Published};
use crate::message::{
    Activation, Channel, Content, Deactivation, Delivery, FrameBytes, Group, MessageId, Millis,
    Publication, WorkerId,
};
use crate::metrics::Metrics;
use crate::protocol::engineio::Timings;
use crate::router::{Mail, Router, Slot};
use crate::{protocol, wire};

/// What the hot threads share.
#[derive(Debug)]
pub struct Hub {
    /// Order and audience of every channel.
    pub directory: Directory,
    /// Which channels there may be. Replaced whole by the side, read without waiting, so that a
    /// change holds on every thread from the moment that it is answered.
    pub definitions: ArcSwap<Definitions>,
    /// The mailboxes.
    pub router: Arc<Router>,
    /// The counters.
    pub metrics: Metrics,
    /// Engine.IO's timings.
    pub timings: Timings,
    /// The clocks.
    pub clock: Clock,
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

    /// Milliseconds since the node started: for deadlines.
    pub fn monotonic(&self) -> Millis {
        // The node's life in milliseconds fits.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX)
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

impl Hub {
    /// Publishes on a channel: frames for the groups in use are made before any lock is taken,
    /// then the directory gives the publication its place and posts it.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker concerned has no room: nobody gets it.
    pub fn publish(
        &self,
        channel: Channel,
        content: Content,
        at: Millis,
    ) -> Result<(MessageId, Published), Overloaded> {
        let id = message_id(at);
        let groups = self.directory.groups(&channel);
        let publication = Arc::new(Publication::new(id, channel, at, content));
        for group in groups.iter() {
            publication.frame(group, encode);
        }
        let published = self.directory.publish(&*self.router, &publication)?;
        Ok((id, published))
    }
}

/// The WebSocket frame of a publication for one group. Long-polling uses the same bytes past the
/// frame header.
pub fn encode(publication: &Publication, group: Group) -> FrameBytes {
    let text = protocol::encode(publication, group);
    wire::frame::frame(wire::frame::Opcode::Text, &[text.as_bytes()]).into()
}

/// A message id that sorts by time (UUID version 7).
pub fn message_id(at: Millis) -> MessageId {
    uuid::Builder::from_unix_timestamp_millis(at, &rand::random()).into_uuid()
}

impl Mailboxes for Router {
    fn reserve_publication(&self, worker: WorkerId) -> bool {
        self.worker(worker).reserve(Slot::Publication)
    }

    fn release_publication(&self, worker: WorkerId) {
        self.worker(worker).release(Slot::Publication);
    }

    fn reserve_control(&self, worker: WorkerId) -> bool {
        self.worker(worker).reserve(Slot::Control)
    }

    fn release_control(&self, worker: WorkerId) {
        self.worker(worker).release(Slot::Control);
    }

    fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        self.worker(worker).post(Mail::Deliver(delivery));
    }

    fn activate(&self, activation: Activation) {
        let worker = activation.connection.worker;
        self.worker(worker).post(Mail::Activate(Box::new(activation)));
    }

    fn deactivate(&self, deactivation: Deactivation) {
        let worker = deactivation.connection.worker;
        self.worker(worker).post(Mail::Deactivate(Box::new(deactivation)));
    }

    fn ring(&self, worker: WorkerId) {
        self.worker(worker).ring();
    }
}
