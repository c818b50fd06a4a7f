//! The seam: all that the runtime knows of the interfaces.
//!
//! A [`Session`] is the value behind one connection. The runtime calls it with an event. While it
//! handles the event, the session calls what its [`Context`] offers, which answers at once. It
//! returns [`Next`], which asks for what only the runtime can do. A session holds no socket, clock,
//! thread or source of randomness of its own.
//!
//! - `mod.rs`: [`Session`], its events, and the questions that the runtime asks it between events.
//! - `entrance.rs`: finds the interface that an HTTP request is for, and runs its calls.
//! - `front.rs`: the page at `/`.
//! - `http.rs`: the arguments and results of the interfaces' HTTP handlers.
//! - `websocket.rs`: the handshake and the messages of WebSockets.
//! - `polling.rs`: the events of long-polling and of its upgrade to a WebSocket.
//! - `resuming.rs`: the events of a client that resumes an earlier session.
//! - `context.rs`: the state and calls for a session while it handles an event.
//! - `landing.rs`: where the cluster's stream meets the node's publishers and subscribers.
//! - `shared.rs`: the state that the sessions and calls of all threads share.
//! - `next.rs`: requests of a session to the runtime, as an event returns them.
//! - `member.rs`: how a client is present in a channel.
//! - `membership.rs`: what all threads know of the node's part in its cluster.
//! - `authenticators.rs`: the keys and caches that one thread verifies credentials with.
//! - `refusal_log.rs`: one thread's log of callers that were refused.
//! - `authorize.rs`: a worker's cache of the policies' verdicts.
//! - `heartbeat.rs`: pings, and the end of connections whose clients do not answer.
//! - `encode.rs`: the bytes of a publication for each encoding.
//! - `deflating.rs`: the compression of messages.
//! - `frame.rs`: the frames that outboxes hold.
//! - `rest/`: bodies, replies, errors and dates of REST calls.
//! - `insforge/`, `events/`, `forge/`, `m2/`: the interfaces, a folder each.
//!
//! A subscribe comes in through [`Session::on_bytes`], or through [`Session::on_packet`] on
//! long-polling. The interface's session reads it and calls [`Context::join`]. Once the worker has
//! taken the activation out of its mailbox, it calls [`Session::on_joined`].
//!
//! To add an interface, make a folder with its session and add a variant to [`Session`]. Only this
//! file, `encode.rs` and `entrance.rs` match on which interface a session belongs to.

pub mod authenticators;
pub mod authorize;
pub mod caller;
pub mod capture;
pub mod context;
pub mod deflating;
pub mod encode;
pub mod entrance;
pub mod events;
pub mod forge;
pub mod frame;
mod front;
pub mod heartbeat;
pub mod http;
pub mod insforge;
pub mod landing;
pub mod m2;
pub mod member;
pub mod membership;
pub mod next;
mod polling;
pub mod publish_rate;
pub mod refusal_log;
pub mod rest;
pub mod resuming;
pub mod rows;
pub mod shared;
pub mod throttle;
mod websocket;

use std::sync::Arc;

use crate::broker::directory::Subscriber;
use crate::codec::http::Response;
use crate::codec::websocket::{self as wire, Opcode};
use crate::limits::{ECHO_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::mailbox::JoinRefused;
use crate::message::{
    AckId, Activation, Channel, ConnId, Credential, Encoding, Found, Load, Millis, Now,
    Publication, SessionId, SessionKey, Settled, Transport,
};
use crate::metrics::{Counter, Counters, Text};
use context::Context;
pub use insforge::violation::Violation;
use m2::loads::Waiter;
use next::{End, Next, Reason};
pub use shared::Shared;

/// The session behind a connection of any interface.
#[derive(Debug)]
pub enum Session {
    /// An Engine.IO session of InsForge Realtime, or of an application that conformance suites
    /// test.
    Insforge(insforge::Session),
    /// A WebSocket that offers to carry a long-polling session of InsForge Realtime.
    Probe(insforge::Probe),
    /// A session of Forge Realtime.
    Forge(forge::Session),
    /// A session of M2 Realtime.
    M2(m2::Session),
    /// A stream of Server-Sent Events.
    Events(events::Session),
    /// A WebSocket that returns each message to its client, for conformance suites.
    Echo,
}

/// Events of all interfaces.
impl Session {
    /// Starts the session. Its WebSocket is open, and the response to the handshake is in the
    /// outbox or sent already.
    pub fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        match self {
            Self::Insforge(session) => session.on_open(ctx),
            Self::Probe(probe) => probe.on_open(),
            Self::Forge(session) => session.on_open(ctx),
            Self::M2(session) => session.on_open(ctx),
            Self::Events(session) => session.on_open(ctx),
            Self::Echo => Next::Stay,
        }
    }

    /// Returns the longest message of a client, in bytes; `None` if the connection is not a
    /// WebSocket, and its client sends nothing.
    fn message_bytes_max(&self) -> Option<usize> {
        match self {
            Self::Echo => Some(ECHO_MESSAGE_BYTES_MAX),
            Self::Insforge(_) | Self::Probe(_) | Self::Forge(_) | Self::M2(_) => {
                Some(MESSAGE_BYTES_MAX)
            }
            Self::Events(_) => None,
        }
    }

    /// Answers a message that is too long, of which only the `start` was read. The connection is
    /// closed after that. Returns the name of the interface for the log.
    fn refuse_too_long(&mut self, ctx: &mut Context<'_>, start: &[u8]) -> &'static str {
        match self {
            Self::Insforge(session) => {
                session.refuse_too_long(ctx, start);
                "insforge"
            }
            Self::Forge(_) => {
                forge::Session::refuse_too_long(ctx);
                "forge"
            }
            Self::M2(_) => {
                m2::Session::refuse_too_long(ctx);
                "m2"
            }
            Self::Probe(_) | Self::Events(_) | Self::Echo => "websocket",
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
            Self::Insforge(_) | Self::Probe(_) | Self::Events(_) | Self::Echo => {}
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
            Self::Events(_) => Next::Stay,
            Self::Echo => {
                ctx.echo(wire::frame(Opcode::Text, &[text.as_bytes()]));
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
            Self::Events(_) => Next::Stay,
            Self::Echo => {
                ctx.echo(wire::frame(Opcode::Binary, &[data]));
                Next::Stay
            }
        }
    }

    /// Does what is due: pings the client, or closes the connection. Does nothing before
    /// [`Self::deadline`].
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        match self {
            Self::Insforge(session) => session.on_deadline(ctx),
            Self::Probe(probe) => probe.on_deadline(ctx),
            Self::Forge(session) => session.on_deadline(ctx),
            Self::M2(session) => session.on_deadline(ctx),
            Self::Events(session) => session.on_deadline(ctx),
            Self::Echo => Next::Stay,
        }
    }

    /// Notes that the client has closed its sending side. Returns whether the client has yet to
    /// receive the answer to its request; if not, the runtime ends the connection.
    pub fn on_input_end(&mut self, ctx: &mut Context<'_>) -> bool {
        match self {
            Self::Events(session) => session.on_input_end(ctx),
            Self::Insforge(_) | Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Echo => false,
        }
    }

    /// Begins a subscription. The worker has taken its activation out of the mailbox, and from now
    /// on the index delivers to the connection. Returns the number of bytes that were sent to the
    /// client.
    pub fn on_joined(&mut self, ctx: &mut Context<'_>, activation: Activation) -> usize {
        match self {
            Self::Insforge(session) => session.on_joined(ctx, activation),
            Self::Forge(session) => session.on_joined(ctx, activation),
            Self::M2(session) => session.on_joined(ctx, activation),
            Self::Events(session) => session.on_joined(ctx, activation),
            Self::Probe(_) | Self::Echo => 0,
        }
    }

    /// Ends a subscription. The worker has taken its deactivation out of the mailbox, and the index
    /// no longer delivers to the connection. `reply` is the request to acknowledge.
    pub fn on_left(&mut self, ctx: &mut Context<'_>, channel: &Channel, reply: Option<AckId>) {
        match self {
            Self::Insforge(session) => session.on_left(ctx, channel, reply),
            Self::Forge(session) => session.on_left(ctx, channel, reply),
            Self::M2(session) => session.on_left(ctx, channel),
            Self::Probe(_) | Self::Events(_) | Self::Echo => {}
        }
    }

    /// Answers a publish of this session after the cluster's stream has.
    pub fn on_settled(&mut self, ctx: &mut Context<'_>, settled: Settled) {
        match self {
            Self::Insforge(_) => insforge::Session::on_settled(ctx, settled),
            Self::Forge(_) => forge::Session::on_settled(ctx, &settled),
            Self::Probe(_) | Self::M2(_) | Self::Events(_) | Self::Echo => {}
        }
    }

    /// Refuses a subscribe that waited in vain, because the node could not hear the channel.
    pub fn on_join_refused(&mut self, ctx: &mut Context<'_>, refused: JoinRefused) -> Next {
        let JoinRefused { channel, reply, .. } = refused;
        ctx.uncount(&channel);
        match self {
            Self::Insforge(_) => insforge::Session::on_join_refused(ctx, channel, reply),
            Self::Forge(session) => session.on_join_refused(ctx, &channel, reply),
            // Its client connects again by itself.
            Self::Events(_) => return Next::close(Reason::System),
            Self::Probe(_) | Self::M2(_) | Self::Echo => {}
        }
        Next::Stay
    }

    /// Runs commands of the backlog, because a verdict that one of them waited for is known.
    /// Returns false if the runtime must call again later, because the worker's mailbox has no room
    /// for what the commands post.
    pub fn on_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        match self {
            Self::Insforge(session) => session.on_verdict(ctx),
            Self::Events(session) => {
                session.on_verdict(ctx);
                true
            }
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Echo => true,
        }
    }

    /// Takes what the store found for a read of this session; `found` is `None` if the store
    /// failed. Returns the number of bytes that were sent to the client.
    pub fn on_loaded(
        &mut self,
        ctx: &mut Context<'_>,
        (load, waiter): (&Load, &Waiter),
        found: Option<Found<Arc<Publication>>>,
    ) -> usize {
        match self {
            Self::M2(session) => session.on_loaded(ctx, (load, waiter), found),
            Self::Insforge(_) | Self::Probe(_) | Self::Forge(_) | Self::Events(_) | Self::Echo => 0,
        }
    }

    /// Reads stale documents again. The client has taken all its frames.
    pub fn on_drained(&mut self, ctx: &mut Context<'_>) {
        if let Self::M2(session) = self {
            session.on_drained(ctx);
        }
    }

    /// Ends the session because its connection is about to end. The session must still be in its
    /// channels.
    pub fn on_end(&mut self, ctx: &mut Context<'_>, reason: Reason) -> End {
        match self {
            Self::Insforge(session) => session.on_end(ctx, reason),
            Self::Probe(probe) => probe.on_end(),
            Self::Forge(session) => session.on_end(ctx),
            Self::M2(session) => session.on_end(ctx),
            Self::Events(_) => events::Session::on_end(ctx),
            Self::Echo => End::default(),
        }
    }
}

/// Questions of the runtime between events.
impl Session {
    /// Returns when [`Self::on_deadline`] must be called, in milliseconds since the node started;
    /// `None` if never.
    pub fn deadline(&self, now: Now, shared: &Shared) -> Option<Millis> {
        match self {
            Self::Insforge(session) => Some(session.deadline(now, shared)),
            Self::Probe(probe) => Some(probe.until()),
            Self::Forge(session) => Some(session.deadline(now)),
            Self::M2(session) => Some(session.deadline(now, shared)),
            Self::Events(session) => session.deadline(now, shared),
            Self::Echo => None,
        }
    }

    /// Returns this session as a subscriber; `None` before the client has authenticated. The
    /// encoding is the first one of the interface.
    pub fn subscriber(&self, connection: ConnId) -> Option<Subscriber> {
        let websocket = |encoding| {
            Some(Subscriber { connection, encoding, transport: Transport::WebSocket, member: None })
        };
        match self {
            Self::Insforge(session) => session.subscriber(connection),
            Self::Forge(_) => websocket(Encoding::Topic),
            Self::M2(_) => websocket(Encoding::Resource),
            Self::Events(session) => Some(session.subscriber(connection)),
            Self::Probe(_) | Self::Echo => None,
        }
    }

    /// Returns the bytes of the client's commands that wait for something, and of messages whose
    /// parts have not all arrived.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Insforge(session) => session.held_bytes(),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Events(_) | Self::Echo => 0,
        }
    }

    /// Returns the gauge that counts this connection while it is open. Probes and echoes have none.
    pub fn gauge<'c>(&self, counters: &'c Counters) -> Option<&'c Counter> {
        match self {
            Self::Insforge(session) => Some(session.gauge(counters)),
            Self::Forge(_) => Some(&counters.topic_websockets),
            Self::M2(_) => Some(&counters.resource_websockets),
            Self::Events(session) => session.is_open().then_some(&counters.event_streams),
            Self::Probe(_) | Self::Echo => None,
        }
    }

    /// Returns whether the session's client authenticated as this same client.
    pub fn holds(&self, credential: &Credential) -> bool {
        matches!(self, Self::Insforge(session) if session.holds(credential))
    }

    /// Returns the secret part of the session's id; only sessions of Engine.IO have one.
    pub fn key(&self) -> Option<&SessionKey> {
        match self {
            Self::Insforge(session) => Some(session.key()),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Events(_) | Self::Echo => None,
        }
    }

    /// Returns whether a stopping node may close the connection now. `has_output` says whether
    /// frames wait in the outbox. On long-polling, the client must have fetched its packets, and a
    /// poll must be waiting that can receive the end of the session.
    pub fn may_end(&self, has_output: bool) -> bool {
        match self {
            Self::Insforge(session) => session.may_end(has_output),
            Self::Probe(_) | Self::Forge(_) | Self::M2(_) | Self::Events(_) | Self::Echo => true,
        }
    }

    /// Returns the response to the upgrade of a probe whose session does not exist; `None` if this
    /// is not a probe.
    pub fn refusal(&self) -> Option<Response> {
        match self {
            Self::Probe(probe) => Some(probe.refusal()),
            _ => None,
        }
    }

    /// Returns the session that this probe offers to carry; `None` if this is not a probe.
    pub fn carries(&self) -> Option<SessionId> {
        match self {
            Self::Probe(probe) => Some(probe.session()),
            _ => None,
        }
    }

    fn engineio(&mut self) -> Option<&mut insforge::Session> {
        match self {
            Self::Insforge(session) => Some(session),
            _ => None,
        }
    }

    fn probe(&mut self) -> Option<&mut insforge::Probe> {
        match self {
            Self::Probe(probe) => Some(probe),
            _ => None,
        }
    }
}

/// Renders the gauges of what interfaces keep besides channels, for `/metrics`.
pub fn render_gauges(shared: &Shared, text: &mut Text) {
    let help = "Registered Forge invocations, including expired ones.";
    text.gauge("fanfare_invocations", help, shared.events.invocations.len());
}

/// Returns what a handler asks for. If the client broke the protocol, that is to close the
/// connection; the client may connect again.
fn check(handled: Result<Next, Violation>) -> Next {
    handled.unwrap_or_else(|Violation(why)| {
        tracing::debug!(why, "closing a connection because its client broke the protocol");
        Next::close(Reason::Protocol)
    })
}
