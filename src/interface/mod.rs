//! The seam: what the runtime knows of the interfaces.
//!
//! A [`Session`] is a value that lives in its connection's slot. The runtime hands it an event; the
//! session calls what its [`Context`] offers, which answers at once, and returns [`Next`]: what
//! only the runtime can do. A session holds no socket, clock, thread or source of randomness of its
//! own.
//!
//! To add an interface: make a folder with its session and a variant in [`Session`]. This file and
//! `encode.rs` are the only ones that match on which interface it is.

pub mod authenticators;
pub mod authorize;
pub mod context;
pub mod encode;
pub mod entrance;
pub mod forge;
pub mod frame;
pub mod heartbeat;
pub mod http;
pub mod insforge;
pub mod m2;
pub mod next;
mod polling;
pub mod rest;
mod resuming;
pub mod shared;
mod websocket;

use std::sync::Arc;

use crate::broker::directory::Subscriber;
use crate::codec::http::Response;
use crate::codec::websocket::{self as wire, Opcode};
use crate::limits::{ECHO_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::message::{
    AckId, Activation, Channel, ConnId, Credential, Encoding, Found, Load, Millis, Now,
    Publication, SessionId, SessionKey, Transport,
};
use crate::metrics::{Counter, Counters, Text};
use context::Context;
pub use insforge::violation::Violation;
use m2::loads::Waiter;
use next::{End, Next, Reason};
pub use shared::Shared;
pub use websocket::close_frame;

/// What a connection is.
#[derive(Debug)]
pub enum Session {
    /// An Engine.IO session of InsForge Realtime, or of a conformance application.
    Insforge(insforge::Session),
    /// A WebSocket that offers to carry a polling session of InsForge Realtime.
    Probe(insforge::Probe),
    /// A client of Forge Realtime.
    Forge(forge::Session),
    /// A client of M2 Realtime.
    M2(m2::Session),
    /// Echo of WebSocket messages, for conformance suites.
    Echo,
}

/// Events.
impl Session {
    /// The connection is open, and its handshake is answered.
    pub fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        match self {
            Self::Insforge(session) => session.on_open(ctx),
            Self::Probe(probe) => probe.on_open(),
            Self::Forge(session) => session.on_open(ctx),
            Self::M2(session) => session.on_open(ctx),
            Self::Echo => Next::Stay,
        }
    }

    fn message_bytes_max(&self) -> usize {
        match self {
            Self::Echo => ECHO_MESSAGE_BYTES_MAX,
            Self::Insforge(_) | Self::Probe(_) | Self::Forge(_) | Self::M2(_) => MESSAGE_BYTES_MAX,
        }
    }

    fn on_peer_close(&mut self) {
        if let Self::Forge(session) = self {
            session.on_peer_close();
        }
    }

    fn on_pong(&mut self, ctx: &mut Context<'_>) {
        match self {
            Self::Forge(session) => session.on_pong(ctx),
            Self::M2(session) => session.on_pong(ctx),
            Self::Insforge(_) | Self::Probe(_) | Self::Echo => {}
        }
    }

    fn on_text(&mut self, ctx: &mut Context<'_>, text: &str) -> Next {
        match self {
            Self::Insforge(session) => check(session.on_text(ctx, text)),
            Self::Probe(probe) => check(probe.on_text(text)),
            Self::Forge(session) => {
                session.on_text(ctx, text);
                Next::Stay
            }
            Self::M2(session) => {
                session.on_text(ctx, text);
                Next::Stay
            }
            Self::Echo => {
                ctx.send_text(text);
                Next::Stay
            }
        }
    }

    fn on_binary(&mut self, ctx: &mut Context<'_>, data: &[u8]) -> Next {
        match self {
            Self::Insforge(session) => check(session.on_binary(ctx, data)),
            Self::Probe(_) => check(Err(Violation("binary on a probe"))),
            Self::Forge(session) => {
                session.on_binary(ctx);
                Next::Stay
            }
            Self::M2(session) => {
                session.on_binary(ctx);
                Next::Stay
            }
            Self::Echo => {
                ctx.send(wire::frame(Opcode::Binary, &[data]));
                Next::Stay
            }
        }
    }

    /// It is time for what [`Self::deadline`] announced.
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        match self {
            Self::Insforge(session) => session.on_deadline(ctx),
            Self::Probe(probe) => probe.on_deadline(ctx),
            Self::Forge(session) => session.on_deadline(ctx),
            Self::M2(session) => session.on_deadline(ctx),
            Self::Echo => Next::Stay,
        }
    }

    /// A subscription begins: its activation has come up, and the index knows it. Returns how many
    /// bytes the client was sent.
    pub fn on_joined(&mut self, ctx: &mut Context<'_>, activation: Activation) -> usize {
        match self {
            Self::Insforge(session) => session.on_joined(ctx, activation),
            Self::Forge(session) => session.on_joined(ctx, activation),
            Self::M2(session) => session.on_joined(ctx, activation),
            Self::Probe(_) | Self::Echo => 0,
        }
    }

    /// A subscription has ended: its deactivation has come up, and the index knows it.
    pub fn on_left(&mut self, ctx: &mut Context<'_>, channel: &Channel, reply: Option<AckId>) {
        match self {
            Self::Insforge(session) => session.on_left(ctx, channel, reply),
            Self::Forge(session) => session.on_left(ctx, channel, reply),
            Self::M2(session) => session.on_left(ctx, channel),
            Self::Probe(_) | Self::Echo => {}
        }
    }

    /// A verdict of the policies that a command waits for is known. Returns false if the session
    /// must be called again, because the worker's mailbox has no room for what its commands post.
    pub fn on_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        match self {
            Self::Insforge(session) => session.on_verdict(ctx),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Echo => true,
        }
    }

    /// The store has answered; `None` if it failed. Returns how many bytes the client was sent.
    pub fn on_loaded(
        &mut self,
        ctx: &mut Context<'_>,
        (load, waiter): (&Load, &Waiter),
        found: Option<Found<Arc<Publication>>>,
    ) -> usize {
        match self {
            Self::M2(session) => session.on_loaded(ctx, (load, waiter), found),
            Self::Insforge(_) | Self::Probe(_) | Self::Forge(_) | Self::Echo => 0,
        }
    }

    /// The client has taken all its frames, and there are documents to be read again.
    pub fn on_drained(&mut self, ctx: &mut Context<'_>) {
        if let Self::M2(session) = self {
            session.on_drained(ctx);
        }
    }

    /// The connection is about to end. The session is still in its channels.
    pub fn on_end(&mut self, ctx: &mut Context<'_>, reason: Reason) -> End {
        match self {
            Self::Insforge(session) => session.on_end(ctx, reason),
            Self::Probe(probe) => probe.on_end(),
            Self::Forge(session) => session.on_end(ctx),
            Self::M2(session) => session.on_end(ctx),
            Self::Echo => End::default(),
        }
    }
}

/// What the runtime asks of a session without an event.
impl Session {
    /// When the session must be told the time, in milliseconds since the node started.
    pub fn deadline(&self, now: Now, shared: &Shared) -> Option<Millis> {
        match self {
            Self::Insforge(session) => Some(session.deadline(now, shared)),
            Self::Probe(probe) => Some(probe.until()),
            Self::Forge(session) => Some(session.deadline(now)),
            Self::M2(session) => Some(session.deadline(now, shared)),
            Self::Echo => None,
        }
    }

    /// Returns the subscriber that the session is; `None` before the client has authenticated. Its
    /// encoding is the first one of the interface.
    pub fn subscriber(&self, connection: ConnId) -> Option<Subscriber> {
        let websocket = |encoding| {
            Some(Subscriber { connection, encoding, transport: Transport::WebSocket, member: None })
        };
        match self {
            Self::Insforge(session) => session.subscriber(connection),
            Self::Forge(_) => websocket(Encoding::Topic),
            Self::M2(_) => websocket(Encoding::Resource),
            Self::Probe(_) | Self::Echo => None,
        }
    }

    /// The gauge of open connections that it counts in; `None` if it counts in none.
    pub fn gauge<'c>(&self, counters: &'c Counters) -> Option<&'c Counter> {
        match self {
            Self::Insforge(session) => Some(session.gauge(counters)),
            Self::Forge(_) => Some(&counters.topic_websockets),
            Self::M2(_) => Some(&counters.resource_websockets),
            Self::Probe(_) | Self::Echo => None,
        }
    }

    /// Whether it speaks for this client.
    pub fn holds(&self, credential: &Credential) -> bool {
        matches!(self, Self::Insforge(session) if session.holds(credential))
    }

    /// The secret part of its id, if it has one.
    pub fn key(&self) -> Option<&SessionKey> {
        match self {
            Self::Insforge(session) => Some(session.key()),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Echo => None,
        }
    }

    /// Whether a stopping node may close the connection: a polling client has yet to fetch its
    /// packets, or to come and be told.
    pub fn may_end(&self, has_output: bool) -> bool {
        match self {
            Self::Insforge(session) => session.may_end(has_output),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Echo => true,
        }
    }

    /// Returns the answer to the upgrade of a probe whose session is not there; `None` if it is no
    /// probe.
    pub fn refusal(&self) -> Option<Response> {
        match self {
            Self::Probe(probe) => Some(probe.refusal()),
            _ => None,
        }
    }

    /// The session that it offers to carry, if it is a probe.
    pub fn carries(&self) -> Option<SessionId> {
        match self {
            Self::Probe(probe) => Some(probe.session()),
            _ => None,
        }
    }

    /// The Engine.IO session, if this is one.
    fn engineio(&mut self) -> Option<&mut insforge::Session> {
        match self {
            Self::Insforge(session) => Some(session),
            _ => None,
        }
    }

    /// The probe, if this is one.
    fn probe(&mut self) -> Option<&mut insforge::Probe> {
        match self {
            Self::Probe(probe) => Some(probe),
            _ => None,
        }
    }
}

/// Renders what the interfaces keep besides channels, for `/metrics`.
pub fn render_gauges(shared: &Shared, text: &mut Text) {
    let help = "Invocations of Forge registered, those that expired meanwhile included.";
    text.gauge("fanfare_invocations", help, shared.events.invocations.len());
}

/// Closes the transport of a client that broke the protocol; the client may come again.
fn check(handled: Result<Next, Violation>) -> Next {
    handled.unwrap_or_else(|Violation(why)| {
        tracing::debug!(why, "closing a connection that broke its protocol");
        Next::close(Reason::Protocol)
    })
}
