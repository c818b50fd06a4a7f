//! Events of a session on long-polling.

use super::Session;
use crate::interface::context::Context;
use crate::interface::insforge::engineio::{self, Part};
use crate::interface::insforge::polling;
use crate::interface::insforge::violation::Violation;
use crate::interface::next::{Next, OfferStep, Offered, Reason};
use crate::mailbox::{PollTicket, Polled};
use crate::message::ConnId;

/// Events of long-polling. The caller handles the session's deadline before each of them.
impl Session {
    /// Answers a poll, or keeps it until packets arrive. A second poll while one waits is refused
    /// and ends the session. A poll that arrives after an upgrade is refused.
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

    /// Handles one packet, of a POST or of the WebSocket.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_packet(&mut self, ctx: &mut Context<'_>, part: Part<'_>) -> Result<Next, Violation> {
        match part {
            Part::Text(text) => self.on_text_packet(ctx, text),
            Part::Binary(data) => self.on_binary(ctx, &data),
        }
    }

    /// Ends the session because the connection of a poll was closed. The client may have missed
    /// packets.
    pub fn on_poll_gone(&mut self) -> Next {
        match self.polling {
            Some(_) => Next::close(Reason::Client),
            None => Next::Stay,
        }
    }

    /// Answers the waiting poll without packets, so that the client sends its next one.
    pub fn on_poll_release(&mut self, ctx: &Context<'_>) {
        if let Some(polling) = &mut self.polling {
            polling.answer_with(ctx, engineio::NOOP);
        }
    }

    /// Answers the waiting poll if the outbox has frames.
    pub fn on_output(&mut self, ctx: &mut Context<'_>) {
        if let Some(polling) = &mut self.polling {
            polling.release(ctx);
        }
    }

    /// Handles a step of a WebSocket's offer to carry the session.
    ///
    /// # Errors
    /// If the session does not accept the offer or the step. The caller must close the WebSocket.
    pub fn on_offer(
        &mut self,
        ctx: &mut Context<'_>,
        probe: ConnId,
        step: OfferStep,
    ) -> Result<Offered, Violation> {
        let polling = self.polling.as_mut().ok_or(Violation("the session has moved already"))?;
        polling.on_offer(ctx, probe, step)
    }

    /// Ends the offer of a WebSocket.
    pub fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if let Some(polling) = &mut self.polling {
            polling.on_offer_withdrawn(probe);
        }
    }

    /// Ends long-polling because the session moves to a WebSocket. Returns the waiting poll, if
    /// there is one, and the answer to it.
    pub fn take_over(&mut self) -> Option<(PollTicket, Polled)> {
        let waiting = self.polling.take()?.waiting?;
        Some((waiting, Polled::Payload(engineio::NOOP.into())))
    }

    /// Removes and returns the WebSocket that offers to carry the session, because the session
    /// moves to another worker. The steps that the session has accepted remain accepted.
    pub fn forget_probe(&mut self) -> Option<ConnId> {
        self.polling.as_mut()?.probe.take()
    }
}
