//! The closed list of what may be posted to a worker.

use std::sync::Arc;

use super::answers::{Health, PollRefusal, Polled};
use super::inbox::Slot;
use super::ticket::Ticket;
use crate::message::{
    Activation, ConnId, Deactivation, Delivery, Found, Load, Publication, SessionId, Verdict,
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
    /// The next of the worker's arrivals is there: a socket, a poll or a session, none of which is
    /// a noun that all threads know.
    Arrive,
    /// The session of this connection hears its channels again from here on.
    Recover(ConnId),
    /// The client of a long-polling request of this session went away.
    PollGone(SessionId),
    /// The store was asked for the current documents of a resource.
    Loaded(Box<Loaded>),
    /// Policies were asked whether somebody may do something.
    Verdict(Box<Verdict>),
    /// Asks whether this worker still takes its mail.
    Probe(Ticket<Health>),
}

impl Mail {
    /// The kind of slot it stands in.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Deliver(_) => Slot::Publication,
            _ => Slot::Control,
        }
    }
}

/// The current documents of a resource, as the store has them behind all that was published before
/// this mail and before all that comes after it.
#[derive(Debug)]
pub struct Loaded {
    /// What was asked for.
    pub load: Load,
    /// The documents; deleted ones, too, as far as they are remembered. None where the store
    /// failed.
    pub found: Option<Found<Arc<Publication>>>,
}

/// The right to answer a long-polling request.
pub type PollTicket = Ticket<Result<Polled, PollRefusal>>;
