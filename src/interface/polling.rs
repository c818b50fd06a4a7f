//! Events of long-polling, and of its upgrade to a WebSocket.

use super::Session;
use super::context::Context;
use super::insforge;
use super::insforge::engineio::Part;
use super::insforge::violation::Violation;
use super::next::{Next, OfferStep, Offered};
use crate::mailbox::{PollTicket, Polled};
use crate::message::{ConnId, SessionId};

/// Events of polling sessions.
impl Session {
    /// The polling session, if it is one now.
    pub fn polling(&mut self) -> Option<&mut insforge::Session> {
        self.engineio().filter(|session| session.is_polling())
    }

    /// A polling session is open. Returns the answer to the request that opened it; `None` if this
    /// is no polling session.
    pub fn opening(&mut self, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        self.polling().map(|session| session.opening(ctx).into_bytes())
    }

    /// A polling client waits for packets.
    pub fn on_poll(&mut self, ctx: &mut Context<'_>, ticket: PollTicket) -> Next {
        match self.engineio() {
            Some(session) => session.on_poll(ctx, ticket),
            None => Next::Stay,
        }
    }

    /// A packet came in a request of a polling client.
    ///
    /// # Errors
    /// If the client broke the protocol: its session must be closed.
    pub fn on_packet(&mut self, ctx: &mut Context<'_>, part: Part<'_>) -> Result<Next, Violation> {
        match self.engineio() {
            Some(session) => session.on_packet(ctx, part),
            None => Ok(Next::Stay),
        }
    }

    /// A connection without a socket has frames: the request that waits takes them.
    pub fn on_output(&mut self, ctx: &mut Context<'_>) {
        if let Some(session) = self.engineio() {
            session.on_output(ctx);
        }
    }

    /// A WebSocket offers to carry this session, or goes on with that.
    ///
    /// # Errors
    /// If this session takes no offer, or not this step of it: the probe must be closed.
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

    /// A probe no longer offers to carry this session.
    pub fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if let Some(session) = self.polling() {
            session.on_offer_withdrawn(probe);
        }
    }

    /// Forgets the probe that offers to carry this session, because the session goes to another
    /// worker, and returns it.
    pub fn forget_probe(&mut self) -> Option<ConnId> {
        self.polling().and_then(insforge::Session::forget_probe)
    }

    /// Leaves long-polling, because the session goes on over a WebSocket. Returns the request that
    /// waits for packets, and how it must be answered.
    pub fn leave_polling(&mut self) -> Option<(PollTicket, Polled)> {
        self.polling().and_then(insforge::Session::take_over)
    }
}

/// Events of probes.
impl Session {
    /// The session that this probe offers to carry has accepted the probe's ping.
    pub fn on_probed(&mut self, ctx: &mut Context<'_>) {
        if let Some(probe) = self.probe() {
            probe.on_probed(ctx);
        }
    }

    /// Notes where the session is that it offers to carry, if it is a probe.
    pub fn renamed(&mut self, session: SessionId) {
        if let Some(probe) = self.probe() {
            probe.renamed(session);
        }
    }
}
