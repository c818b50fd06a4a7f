//! The application that public conformance suites of Socket.IO expect: every client may enter its
//! namespaces, and it sends messages back.

use rand::RngExt as _;

use super::socketio::{self, Event, InlineError, Packet, Pending};
use super::suite;
use super::violation::Violation;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::heartbeat::Timings;
use crate::interface::member::socket_id;
use crate::interface::next::{Next, Reason};
use crate::message::Millis;

/// The Socket.IO layer of a session that a conformance suite opened.
#[derive(Debug)]
pub(super) struct SocketIo {
    /// A bit for each namespace of [`suite::NAMESPACES`] that the client has entered.
    namespaces: u8,
    /// The deadline for entering a namespace, in milliseconds since the node started. It applies
    /// while the client is in no namespace.
    connect_by: Millis,
    /// A binary packet whose attachments have not all arrived.
    pending: Option<Pending>,
}

/// Returns the bit of a namespace; 0 if there is no such namespace.
fn bit(namespace: &str) -> u8 {
    let place = suite::NAMESPACES.iter().position(|known| *known == namespace);
    place.map_or(0, |place| 1 << place)
}

impl SocketIo {
    /// Creates the layer for a client that is in no namespace.
    pub(super) fn new(now: Millis, timings: &Timings) -> Self {
        Self { namespaces: 0, connect_by: now + timings.connect_timeout_ms, pending: None }
    }

    /// Handles the data of a message packet.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_packet(&mut self, ctx: &mut Context<'_>, data: &str) -> Result<(), Violation> {
        if self.pending.is_some() {
            return Err(Violation("a text packet instead of an attachment"));
        }
        match socketio::decode(data)? {
            Packet::Connect { namespace, auth } => return self.connect(ctx, namespace, auth),
            Packet::Disconnect { namespace } if self.is_in(namespace) => {
                self.namespaces &= !bit(namespace);
                self.connect_by = ctx.now.monotonic() + ctx.shared.timings.connect_timeout_ms;
            }
            Packet::Disconnect { .. } => {}
            Packet::Event(event) => return self.on_event(ctx, &event, &[]),
            Packet::Incomplete(pending) => self.pending = Some(pending),
            Packet::Ack { namespace } if self.is_in(namespace) => {}
            Packet::Ack { .. } => return Err(Violation("an acknowledgement before CONNECT")),
        }
        Ok(())
    }

    /// Adds an attachment to the incomplete binary packet, and handles the packet once complete.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_attachment(
        &mut self,
        ctx: &mut Context<'_>,
        data: &[u8],
    ) -> Result<(), Violation> {
        let pending = self.pending.take();
        let mut pending = pending.ok_or(Violation("a binary packet that no event announced"))?;
        if pending.attach(data) {
            if pending.is_too_large() {
                return Err(Violation("attachments are too large"));
            }
            if let Err(InlineError::Placeholder(violation)) = pending.inlined() {
                return Err(violation);
            }
            return self.on_event(ctx, &pending.event()?, pending.attachments());
        }
        self.pending = Some(pending);
        Ok(())
    }

    /// Closes the connection if its client is in no namespace and the deadline has passed.
    pub(super) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        match self.deadline() {
            Some(connect_by) if ctx.now.monotonic() >= connect_by => {
                Next::close(Reason::ConnectTimeout)
            }
            _ => Next::Stay,
        }
    }

    /// Returns when [`SocketIo::on_deadline`] must be called, in milliseconds since the node
    /// started; `None` while the client is in a namespace.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (self.namespaces == 0).then_some(self.connect_by)
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespaces & bit(namespace) != 0
    }

    fn connect(
        &mut self,
        ctx: &mut Context<'_>,
        namespace: &str,
        auth: &str,
    ) -> Result<(), Violation> {
        if bit(namespace) == 0 {
            ctx.send_text(&socketio::connect_error(namespace, "Invalid namespace", None));
            return Ok(());
        }
        if self.is_in(namespace) {
            return Err(Violation("a second CONNECT"));
        }
        self.namespaces |= bit(namespace);
        // A client has a separate socket id in each namespace.
        let socket_id = socket_id(&ctx.local.random.random());
        ctx.send_text(&socketio::connected(namespace, &socket_id));
        ctx.send_text(&suite::greeting(namespace, auth));
        Ok(())
    }

    fn on_event(
        &mut self,
        ctx: &mut Context<'_>,
        event: &Event<'_>,
        attachments: &[Vec<u8>],
    ) -> Result<(), Violation> {
        if !self.is_in(event.namespace) {
            return Err(Violation("an event before CONNECT"));
        }
        if let Some(answer) = suite::answer(event, attachments.len()) {
            ctx.send_text(&answer);
            for attachment in attachments {
                ctx.send(frame(Opcode::Binary, &[attachment]));
            }
        }
        Ok(())
    }
}
