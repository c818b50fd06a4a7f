//! Requests of a session to the runtime for its own connection. An event returns them.
//!
//! A session does everything else itself, by calling its [`Context`](super::context::Context).

use crate::message::{ConnId, Millis, SessionId, WorkerId};

use super::insforge::detached::Resuming;

/// The request of an event to the runtime for its connection. After anything but [`Next::Stay`],
/// the event does nothing more.
#[derive(Debug)]
#[must_use = "the runtime must carry it out"]
pub enum Next {
    /// Nothing. The connection goes on as it is.
    Stay,
    /// Ends the connection with this reason and close frame.
    Close(Close),
    /// Gives the connection a new id, so that mail to the old id is ignored.
    Renew,
    /// Moves the session to the worker that keeps the session which the client wants to resume.
    Migrate {
        /// The worker that keeps the session to resume.
        to: WorkerId,
        /// The data of the client's CONNECT packet, which the other worker answers.
        auth: Box<str>,
    },
    /// Takes a step in upgrading a long-polling session to the WebSocket of this probe.
    Offer {
        /// The long-polling session that the probe offers to carry.
        session: SessionId,
        /// The step to take.
        step: OfferStep,
    },
    /// Closes an older connection of the session that the client wants to resume, because the node
    /// has not noticed that it was cut. Then resuming goes on.
    Displace {
        /// The older connection, which this worker owns.
        old: ConnId,
        /// The session that the client wants to resume.
        resuming: Box<Resuming>,
    },
}

impl Next {
    /// Returns the request to end the connection with a close frame that has no status code.
    pub fn close(reason: Reason) -> Self {
        Self::Close(Close { code: None, text: "", reason })
    }

    /// Returns whether nothing is asked.
    pub fn is_stay(&self) -> bool {
        matches!(self, Self::Stay)
    }
}

/// How to end a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// The status code of the close frame; `None` for a frame without a code.
    pub code: Option<u16>,
    /// The reason text of the close frame.
    pub text: &'static str,
    /// The reason, for metrics.
    pub reason: Reason,
}

/// Steps of an upgrade from long-polling to WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfferStep {
    /// The probe's WebSocket is open.
    Open,
    /// The client sent the ping with the text `probe` on it.
    Probed,
    /// The client sent the packet that completes the upgrade.
    Upgrade,
}

/// The answer of a long-polling session to a step of an upgrade that it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// Nothing more is to be done in this step.
    Noted,
    /// The probe must answer its client's ping.
    Probed,
    /// The session takes the probe's socket over.
    TakeOver,
}

/// The duties of the runtime when a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Until when the client still counts as a listener of its channels, or they keep what a stream
    /// misses, in milliseconds since the node started; 0 if neither.
    pub lingers_until: Millis,
    /// The session that this probe offered to carry and whose offer ends.
    pub withdraw: Option<SessionId>,
    /// The probe that offered to carry this session. It is closed as well.
    pub close_too: Option<ConnId>,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The client left, or its connection failed.
    Client,
    /// The client did not answer a ping.
    PingTimeout,
    /// The client did not enter a namespace, or send its context, in time.
    ConnectTimeout,
    /// The client broke the protocol.
    Protocol,
    /// The client sent a message that is longer than allowed.
    TooLong,
    /// The outbox overflowed, because the client did not keep up.
    SlowConsumer,
    /// The connection held more than its share of the node's memory, and its client took nothing.
    Memory,
    /// The token expired.
    Expired,
    /// The node is stopping.
    Drain,
    /// The system refused to report when the socket is ready.
    System,
}
