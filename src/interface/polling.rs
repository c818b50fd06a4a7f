//! Events of long-polling, and of its upgrade to a WebSocket. Only Engine.IO has them: other
//! sessions ignore them.

use super::Session;
use super::context::Context;
use super::insforge;
use super::insforge::engineio::Part;
use super::insforge::violation::Violation;
use super::next::{Next, OfferStep, Offered};
use crate::mailbox::{PollTicket, Polled};
use crate::message::{ConnId, SessionId};

/// Events of long-polling sessions.
impl Session {
    /// Returns the Engine.IO session if its transport is long-polling now.
    pub fn polling(&mut self) -> Option<&mut insforge::Session> {
        self.engineio().filter(|session| session.is_polling())
    }

    /// Returns the payload that answers the request which opened this session; `None` if its
    /// transport is not long-polling.
    pub fn opening(&mut self, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        self.polling().map(|session| session.opening(ctx).into_bytes())
    }

    /// Takes a request that asks for packets. Answers it at once if frames wait in the outbox, else
    /// keeps it until there are frames.
    pub fn on_poll(&mut self, ctx: &mut Context<'_>, ticket: PollTicket) -> Next {
        match self.engineio() {
            Some(session) => session.on_poll(ctx, ticket),
            None => Next::Stay,
        }
    }

    /// Answers the kept request for packets without any, because the node that has passed it on
    /// stops.
    pub fn on_poll_release(&mut self, ctx: &Context<'_>) {
        if let Some(session) = self.engineio() {
            session.on_poll_release(ctx);
        }
    }

    /// Handles one packet of a request in which a long-polling client sends packets.
    ///
    /// # Errors
    /// If the client broke the protocol. The caller must close the session.
    pub fn on_packet(&mut self, ctx: &mut Context<'_>, part: Part<'_>) -> Result<Next, Violation> {
        match self.engineio() {
            Some(session) => session.on_packet(ctx, part),
            None => Ok(Next::Stay),
        }
    }

    /// Answers the kept request for packets, because the outbox of a connection without a socket
    /// has frames.
    pub fn on_output(&mut self, ctx: &mut Context<'_>) {
        if let Some(session) = self.engineio() {
            session.on_output(ctx);
        }
    }

    /// Takes a step of the offer that the WebSocket `probe` makes to carry this session.
    ///
    /// # Errors
    /// If this session takes no offer, or not this step of one. The caller must close the probe.
    pub fn on_offer(
        &mut self,
        ctx: &mut Context<'_>,
        probe: ConnId,
        step: OfferStep,
    ) -> Result<Offered, Violation> {
        match self.engineio() {
            Some(session) => session.on_offer(ctx, probe, step),
            None => Err(Violation("the session is gone")),
        }
    }

    /// Forgets the offer of a probe that has ended.
    pub fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if let Some(session) = self.polling() {
            session.on_offer_withdrawn(probe);
        }
    }

    /// Forgets the probe that offers to carry this session and returns it, because the session
    /// moves to another worker.
    pub fn forget_probe(&mut self) -> Option<ConnId> {
        self.polling().and_then(insforge::Session::forget_probe)
    }

    /// Leaves long-polling, because the session goes on over a WebSocket. Returns the kept request
    /// for packets, if any, and the answer to send.
    pub fn leave_polling(&mut self) -> Option<(PollTicket, Polled)> {
        self.polling().and_then(insforge::Session::take_over)
    }
}

/// Events of WebSockets that offer to carry a polling session.
impl Session {
    /// Answers the client's ping on this probe, because the session that it offers to carry
    /// accepted it.
    pub fn on_probed(&mut self, ctx: &mut Context<'_>) {
        if let Some(probe) = self.probe() {
            probe.on_probed(ctx);
        }
    }

    /// Notes the new id of the session that this probe offers to carry.
    pub fn renamed(&mut self, session: SessionId) {
        if let Some(probe) = self.probe() {
            probe.renamed(session);
        }
    }
}
