//! The closed list of what may be posted to a worker.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::answers::{Health, PollRefusal, Polled};
use super::inbox::Slot;
use super::ticket::Ticket;
use crate::message::{
    AckId, Activation, Channel, ConnId, Deactivation, Delivery, Found, Load, Publication,
    SessionId, SessionTold, Settled, Verdict, WorkerId,
};

/// Everything that can be posted to a worker.
#[derive(Debug)]
pub enum Mail {
    /// A publication for the local subscribers of its channel.
    Deliver(Delivery),
    /// A subscription begins here.
    Activate(Box<Activation>),
    /// A subscription ends here.
    Deactivate(Box<Deactivation>),
    /// The next of the worker's arrivals is ready: a socket, a poll or a session. The arrival
    /// itself is elsewhere, because mail holds only nouns that all threads know.
    Arrive,
    /// The session of this connection is resumed: it hears its channels again from here on.
    Recover(ConnId),
    /// The client of a long-polling request of this session has gone away.
    PollGone(SessionId),
    /// The long-polling request that waits for packets of this session is to be answered without,
    /// because the node that has passed it on stops.
    PollRelease(SessionId),
    /// The store's answer to a [`Load`].
    Loaded(Box<Loaded>),
    /// The policies' answer to a question.
    Verdict(Box<Verdict>),
    /// A join is refused, because the node could not hear its channel.
    JoinRefused(Box<JoinRefused>),
    /// What became of a publication of one of the worker's connections.
    Settled(Box<Settled>),
    /// The answer to a [`SessionAsk`](super::SessionAsk).
    Session(Box<SessionTold>),
    /// Publications of this channel may be missing here.
    Gap(Box<Channel>),
    /// Asks whether this worker still takes its mail.
    Probe(Ticket<Health>),
    /// Asks the same for the watchdog; the worker answers with its number.
    Roll(Sender<WorkerId>),
}

const _: () = assert!(size_of::<Mail>() <= 24, "each publication is posted as one");

impl Mail {
    /// Returns the kind of place that this mail uses.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Deliver(_) => Slot::Publication,
            _ => Slot::Control,
        }
    }
}

/// A join that waited in vain for its channel to be heard.
#[derive(Debug)]
pub struct JoinRefused {
    /// The connection that joined.
    pub connection: ConnId,
    /// The channel that it joined.
    pub channel: Channel,
    /// The acknowledgement that its client waits for.
    pub reply: Option<AckId>,
}

/// The current documents of a resource: with all changes that were published before this mail, and
/// none that come after it.
#[derive(Debug)]
pub struct Loaded {
    /// The request that this answers.
    pub load: Load,
    /// The documents, including deleted ones that the store remembers; `None` if the store failed.
    pub found: Option<Found<Arc<Publication>>>,
}

/// The right to answer a long-polling request.
pub type PollTicket = Ticket<Result<Polled, PollRefusal>>;
