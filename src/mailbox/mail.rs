//! The closed list of what may be posted to a worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::inbox::Slot;
use super::ticket::{Health, Ticket};
use crate::message::{
    Activation, App, ConnId, Context, Deactivation, Delivery, Found, Load, Party, Publication,
    SessionId, Verdict,
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
    /// A socket changes hands.
    Adopt(Box<Handover>),
    /// The next of the worker's arrivals is there: a socket, a poll or a session, none of which is a
    /// noun that all threads know.
    Arrive,
    /// The session of this connection hears its channels again from here on.
    Recover(ConnId),
    /// A long-polling request.
    Poll(Box<Poll>),
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

/// What an upgraded socket is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A new Engine.IO session on WebSocket.
    EngineIo(App),
    /// An offer to carry an existing session from long-polling to WebSocket.
    Probe(SessionId),
    /// A client of Forge Realtime, with the context that it has proved in its handshake, if it did.
    Forge(Option<Arc<Context>>),
    /// A client of M2 Realtime, and on whose behalf it listens.
    M2(Arc<Party>),
    /// Echo of WebSocket messages, for conformance suites.
    Echo,
}

/// What a WebSocket's handshake is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The Sec-WebSocket-Accept value.
    pub key: String,
    /// The subprotocol, where one was agreed on.
    pub protocol: Option<String>,
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

/// A socket whose HTTP part is over.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: OwnedFd,
    /// Bytes that were already read past the request.
    pub leftover: Vec<u8>,
    /// What to answer with; none where that was done already.
    pub accept: Option<Accepted>,
    /// What it is for.
    pub purpose: Purpose,
}

/// The right to answer a long-polling request.
pub type PollTicket = Ticket<Result<Polled, PollRefusal>>;

/// One request of a long-polling client.
#[derive(Debug)]
pub struct Poll {
    /// Answered once, also if the client is gone.
    pub ticket: PollTicket,
    /// What is asked.
    pub request: PollRequest,
}

/// What a long-polling client asks.
#[derive(Debug)]
pub enum PollRequest {
    /// A new session.
    Open(App),
    /// Whatever waits for it, or will.
    Get(SessionId),
    /// Packets from it.
    Post(SessionId, Vec<u8>),
}

/// What a long-polling request is answered, if nothing is wrong with it.
#[derive(Debug)]
pub enum Polled {
    /// An Engine.IO payload for the client.
    Payload(Vec<u8>),
    /// The packets of a POST were taken.
    Taken,
}

/// Why a long-polling request failed (contract section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollRefusal {
    /// No such session.
    UnknownSession,
    /// The session exists, the request does not fit it.
    BadRequest,
    /// The worker has as many sessions as it may.
    Overloaded,
}
