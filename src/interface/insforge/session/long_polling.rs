//! Events of long-polling.

use super::Session;
use crate::interface::context::Context;
use crate::interface::insforge::engineio::{self, Part};
use crate::interface::insforge::polling;
use crate::interface::insforge::violation::Violation;
use crate::interface::next::{Next, OfferStep, Offered, Reason};
use crate::mailbox::{PollTicket, Polled};
use crate::message::ConnId;

/// Events of long-polling. The caller has looked at the session's deadline before each of them.
impl Session {
    /// A poll came: answers it, or keeps it until there are packets. A second poll while one waits
    /// is refused and ends the session, for both. A poll that comes after an upgrade is refused.
    pub fn on_poll(&mut self, ctx: &mut Context<'_>, waiting: PollTicket) -> Next {
        let Some(polling) = &mut self.polling else {
            polling::refuse(ctx, waiting);
            return Next::Stay;
        };
        if !polling.keep(ctx, waiting) {
            return Next::close(Reason::Protocol);
        }
        polling.release(ctx);
        Next::Stay
    }

    /// Acts on one packet of a POST.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_packet(&mut self, ctx: &mut Context<'_>, part: Part<'_>) -> Result<Next, Violation> {
        match part {
            Part::Text(text) => self.on_text(ctx, text),
            Part::Binary(data) => self.on_binary(ctx, &data),
        }
    }

    /// The client of a poll went away. It may have missed packets, so its session ends.
    pub fn on_poll_gone(&mut self) -> Next {
        match self.polling {
            Some(_) => Next::close(Reason::Client),
            None => Next::Stay,
        }
    }

    /// The session may have frames to send: answers the poll that waits.
    pub fn on_output(&mut self, ctx: &mut Context<'_>) {
        if let Some(polling) = &mut self.polling {
            polling.release(ctx);
        }
    }

    /// A WebSocket offers to carry the session, or goes on with that.
    ///
    /// # Errors
    /// If the session takes no offer, or not this step of it: the WebSocket must be closed.
    pub fn on_offer(
        &mut self,
        ctx: &mut Context<'_>,
        probe: ConnId,
        step: OfferStep,
    ) -> Result<Offered, Violation> {
        let polling = self.polling.as_mut().ok_or(Violation("the session has moved already"))?;
        polling.on_offer(ctx, probe, step)
    }

    /// A WebSocket no longer offers to carry the session.
    pub fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if let Some(polling) = &mut self.polling {
            polling.on_offer_withdrawn(probe);
        }
    }

    /// Ends long-polling because the session goes on over a WebSocket. Returns the poll that waits
    /// and its answer.
    pub fn take_over(&mut self) -> Option<(PollTicket, Polled)> {
        let waiting = self.polling.take()?.waiting?;
        Some((waiting, Polled::Payload(engineio::NOOP.into())))
    }

    /// Forgets the WebSocket that offers to carry the session, because the session moves to another
    /// worker, and returns it. What the session has accepted of the offer stands.
    pub fn forget_probe(&mut self) -> Option<ConnId> {
        self.polling.as_mut()?.probe.take()
    }
}
