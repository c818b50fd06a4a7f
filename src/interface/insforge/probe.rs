//! A WebSocket that offers to carry a session that is on long-polling. The session decides whether
//! it accepts each step.

use super::engineio::{self, Packet, RequestError};
use super::violation::Violation;
use crate::codec::http::Response;
use crate::interface::context::Context;
use crate::interface::next::{End, Next, OfferStep, Reason};
use crate::message::{Millis, SessionId};

/// A WebSocket that offers to carry a session, until a deadline.
#[derive(Debug)]
pub struct Probe {
    session: SessionId,
    until: Millis,
}

impl Probe {
    /// Creates an offer to carry `session` that ends at `until`, in milliseconds since the node
    /// started.
    pub fn new(session: SessionId, until: Millis) -> Self {
        Self { session, until }
    }

    /// Returns when the offer ends, in milliseconds since the node started.
    pub fn until(&self) -> Millis {
        self.until
    }

    /// Returns the id of the session that the WebSocket offers to carry.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Records the new id of the session after it has moved to another worker.
    pub fn renamed(&mut self, session: SessionId) {
        self.session = session;
    }

    /// Returns the answer to the upgrade request if the session does not exist.
    pub fn refusal(&self) -> Response {
        refused_upgrade(RequestError::UnknownSession)
    }

    /// Handles the opening of the WebSocket: makes the offer.
    pub fn on_open(&mut self) -> Next {
        self.offer(OfferStep::Open)
    }

    /// Handles a packet.
    ///
    /// # Errors
    /// If the packet is neither the probe nor the upgrade. The session is not affected.
    pub fn on_text(&mut self, text: &str) -> Result<Next, Violation> {
        match engineio::decode(text)? {
            Packet::Ping("probe") => Ok(self.offer(OfferStep::Probed)),
            Packet::Upgrade => Ok(self.offer(OfferStep::Upgrade)),
            _ => Err(Violation("a packet that is neither probe nor upgrade")),
        }
    }

    /// Answers the client's probe, which the session has accepted.
    pub fn on_probed(&mut self, ctx: &mut Context<'_>) {
        ctx.send_text(engineio::PROBE_ANSWER);
    }

    /// Closes the WebSocket if the time of the offer has passed.
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        match self.until <= ctx.now.monotonic() {
            true => Next::close(Reason::Client),
            false => Next::Stay,
        }
    }

    /// Handles the end of the WebSocket: withdraws the offer.
    pub fn on_end(&mut self) -> End {
        End { withdraw: Some(self.session), ..End::default() }
    }

    fn offer(&self, step: OfferStep) -> Next {
        Next::Offer { session: self.session, step }
    }
}

/// Returns the refusal of an upgrade request, in plain text.
pub(super) fn refused_upgrade(error: RequestError) -> Response {
    match error.unsupported() {
        Some(what) => {
            let text = format!("{}. {}", error.message(), what.advice());
            Response::with_type(400, "text/html", text)
        }
        None => Response::with_type(400, "text/html", error.message()),
    }
}
