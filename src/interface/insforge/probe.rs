//! A WebSocket that offers to carry a session on long-polling. The session itself decides about
//! each step.

use super::engineio::{self, Packet, RequestError};
use super::violation::Violation;
use crate::codec::http::Response;
use crate::interface::context::Context;
use crate::interface::next::{End, Next, OfferStep, Reason};
use crate::message::{Millis, SessionId};

/// A WebSocket that offers to carry a session.
#[derive(Debug)]
pub struct Probe {
    session: SessionId,
    until: Millis,
}

impl Probe {
    /// Creates an offer that ends at `until`, in milliseconds since the node started.
    pub fn new(session: SessionId, until: Millis) -> Self {
        Self { session, until }
    }

    /// When the offer ends, in milliseconds since the node started.
    pub fn until(&self) -> Millis {
        self.until
    }

    /// The session that it offers to carry.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Notes the id of the session after it has moved to another worker.
    pub fn renamed(&mut self, session: SessionId) {
        self.session = session;
    }

    /// Returns the answer to the upgrade if there is no such session.
    pub fn refusal(&self) -> Response {
        refused_upgrade(RequestError::UnknownSession)
    }

    /// The WebSocket is open: offers to carry the session.
    pub fn on_open(&mut self) -> Next {
        self.offer(OfferStep::Open)
    }

    /// Acts on a packet.
    ///
    /// # Errors
    /// If it is neither the probe nor the upgrade. The session goes on as it was.
    pub fn on_text(&mut self, text: &str) -> Result<Next, Violation> {
        match engineio::decode(text)? {
            Packet::Ping("probe") => Ok(self.offer(OfferStep::Probed)),
            Packet::Upgrade => Ok(self.offer(OfferStep::Upgrade)),
            _ => Err(Violation("neither probe nor upgrade")),
        }
    }

    /// The session has accepted the probe: answers it.
    pub fn on_probed(&mut self, ctx: &mut Context<'_>) {
        ctx.send_text(engineio::PROBE_ANSWER);
    }

    /// Closes the WebSocket once the offer has ended.
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        match self.until <= ctx.now.monotonic() {
            true => Next::close(Reason::Client),
            false => Next::Stay,
        }
    }

    /// The WebSocket ends, and its offer with it.
    pub fn on_end(&mut self) -> End {
        End { withdraw: Some(self.session), ..End::default() }
    }

    fn offer(&self, step: OfferStep) -> Next {
        Next::Offer { session: self.session, step }
    }
}

/// Refuses an upgrade.
pub(super) fn refused_upgrade(error: RequestError) -> Response {
    Response::with_type(400, "text/html", error.message())
}
