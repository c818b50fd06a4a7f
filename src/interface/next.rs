//! What a session asks of the runtime for its own connection, as the value that an event returns.
//!
//! Everything else a session does itself, by calls that answer at once
//! ([`Context`](super::context::Context)).

use crate::message::{ConnId, Millis, SessionId, WorkerId};

use super::insforge::detached::Resuming;

/// What an event asks of the runtime for its connection. Anything but [`Next::Stay`] is the last
/// thing that the event does.
#[derive(Debug)]
#[must_use = "the runtime must carry it out"]
pub enum Next {
    /// Nothing: the connection goes on as it is.
    Stay,
    /// Ends the connection.
    Close(Close),
    /// Gives the connection a new id, so that mail on its way to the old one finds nothing.
    Renew,
    /// Moves the session to another worker, which knows the session that its client wants to
    /// resume.
    Migrate {
        /// Where to.
        to: WorkerId,
        /// The data of the client's CONNECT packet, which is answered there.
        auth: Box<str>,
    },
    /// Takes a step of an upgrade from long-polling, for the session that this probe offers to
    /// carry.
    Offer {
        /// The session.
        session: SessionId,
        /// Which step.
        step: OfferStep,
    },
    /// Closes an older connection of the session that the client resumes, whose cut was not
    /// noticed, and goes on with the resuming then.
    Displace {
        /// The older connection.
        old: ConnId,
        /// What the client asked for.
        resuming: Box<Resuming>,
    },
}

impl Next {
    /// Ends the connection without a status code.
    pub fn close(reason: Reason) -> Self {
        Self::Close(Close { code: None, text: "", reason })
    }

    /// Whether the connection goes on as it is.
    pub fn is_stay(&self) -> bool {
        matches!(self, Self::Stay)
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// The status code of the WebSocket's close frame; a frame without one if there is none.
    pub code: Option<u16>,
    /// The text beside the code.
    pub text: &'static str,
    /// Why, as metrics count it.
    pub reason: Reason,
}

/// Steps of an upgrade from long-polling to WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfferStep {
    /// The probe's WebSocket is open.
    Open,
    /// The client sent the ping `probe` on it.
    Probed,
    /// The client sent the packet that completes the upgrade.
    Upgrade,
}

/// What a polling session made of a step of an offer that it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// The offer stands.
    Noted,
    /// The probe may answer its client's ping.
    Probed,
    /// The session goes on over the probe's socket.
    TakeOver,
}

/// What remains to be done when a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Until when the client counts as a listener of its channels, in milliseconds since the node
    /// started; 0 for no longer.
    pub lingers_until: Millis,
    /// The session whose offer ends with this probe.
    pub withdraw: Option<SessionId>,
    /// The probe that offered to carry this session.
    pub close_too: Option<ConnId>,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Its client left, or vanished.
    Client,
    /// Its client did not answer a ping.
    PingTimeout,
    /// Its client did not enter a namespace, or prove its context, in time.
    ConnectTimeout,
    /// Its client broke the protocol.
    Protocol,
    /// Its outbox overflowed.
    SlowConsumer,
    /// Its token expired.
    Expired,
    /// The node stops.
    Drain,
    /// The system did not let the node watch its socket.
    System,
}
