//! The long-polling state of a session: the waiting poll, and the WebSocket that offers to carry
//! the session.

use super::engineio;
use super::violation::Violation;
use crate::broker::outbox::Gone;
use crate::codec::websocket::{is_binary, payload};
use crate::interface::context::Context;
use crate::interface::next::{OfferStep, Offered};
use crate::limits::{POLL_BYTES_MAX, POLL_PACKETS_MAX};
use crate::mailbox::{PollRefusal, PollTicket, Polled};
use crate::message::ConnId;

/// The state of a session whose transport is long-polling.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// The poll that waits for packets.
    pub(super) waiting: Option<PollTicket>,
    /// The WebSocket that offers to carry the session.
    pub(super) probe: Option<ConnId>,
    /// Whether the session has accepted the WebSocket's probe. Then polls are answered at once,
    /// because the client has to stop polling before it upgrades.
    is_upgrading: bool,
}

impl Polling {
    /// Stores a poll until packets arrive for it. Returns false if another poll waits already. That
    /// breaks the protocol: the new poll is refused, and the caller must end the session.
    pub(super) fn keep(&mut self, ctx: &Context<'_>, waiting: PollTicket) -> bool {
        if self.waiting.is_some() {
            refuse(ctx, waiting);
            return false;
        }
        self.waiting = Some(waiting);
        true
    }

    /// Answers the waiting poll with the first frames of the outbox. With an empty outbox, the poll
    /// is answered only while the session is about to move to a WebSocket. If no poll waits,
    /// outdated publications are removed from a crowded outbox.
    pub(super) fn release(&mut self, ctx: &mut Context<'_>) {
        if ctx.link.outbox.is_empty() && !self.is_upgrading {
            return;
        }
        let Some(waiting) = self.waiting.take() else {
            return ctx.local.outboxes.relieve(ctx.link);
        };
        let mut payload = Vec::new();
        let taken = take_packets(ctx, &mut payload);
        if taken.frames == 0 {
            payload.extend_from_slice(engineio::NOOP.as_bytes());
        }
        ctx.local.counters.frames_sent.add(taken.frames);
        ctx.local.counters.delivered.add(taken.deliveries);
        answer(ctx, waiting, Ok(Polled::Payload(payload)));
    }

    /// Answers the waiting poll, if there is one, with this packet alone.
    pub(super) fn answer_with(&mut self, ctx: &Context<'_>, packet: &str) {
        if let Some(waiting) = self.waiting.take() {
            answer(ctx, waiting, Ok(Polled::Payload(packet.into())));
        }
    }

    /// Handles a step of an upgrade. A session has one offer at a time.
    ///
    /// The probe is optional: clients in several languages leave it out and upgrade at once.
    ///
    /// # Errors
    /// If the step comes from another WebSocket than the one whose offer stands.
    pub(super) fn on_offer(
        &mut self,
        ctx: &mut Context<'_>,
        probe: ConnId,
        step: OfferStep,
    ) -> Result<Offered, Violation> {
        match step {
            OfferStep::Open if self.probe.is_none() => {
                self.probe = Some(probe);
                Ok(Offered::Noted)
            }
            _ if self.probe != Some(probe) => {
                Err(Violation("another WebSocket offers to carry the session"))
            }
            OfferStep::Open => Ok(Offered::Noted),
            OfferStep::Probed => {
                self.is_upgrading = true;
                self.release(ctx);
                Ok(Offered::Probed)
            }
            OfferStep::Upgrade => Ok(Offered::TakeOver),
        }
    }

    /// Ends the offer of a WebSocket. The session stays on long-polling.
    pub(super) fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if self.probe == Some(probe) {
            (self.probe, self.is_upgrading) = (None, false);
        }
    }
}

/// Moves frames from the front of the outbox into a payload: at least one, if there is any, and at
/// most [`POLL_PACKETS_MAX`] with [`POLL_BYTES_MAX`] bytes. The others stay for the next poll.
/// Returns the counts of what was moved.
fn take_packets(ctx: &mut Context<'_>, out: &mut Vec<u8>) -> Gone {
    let mut taken = Gone::default();
    while taken.frames < POLL_PACKETS_MAX && has_room_for_next(ctx, out) {
        let Some(frame) = ctx.link.outbox.pop(&mut ctx.local.outboxes.spares) else { break };
        taken.count(&frame);
        let bytes = frame.as_ref();
        match is_binary(bytes) {
            true => engineio::append_binary(out, payload(bytes)),
            false => engineio::append_text(out, payload(bytes)),
        }
    }
    taken
}

/// Returns whether the next frame of the outbox may be added to a payload.
fn has_room_for_next(ctx: &Context<'_>, out: &[u8]) -> bool {
    let Some(next) = ctx.link.outbox.slices().next() else { return false };
    let length = match is_binary(next) {
        true => engineio::binary_length(payload(next)),
        false => payload(next).len(),
    };
    out.is_empty() || out.len() + 1 + length <= POLL_BYTES_MAX
}

/// Refuses a poll that the session cannot serve.
pub(super) fn refuse(ctx: &Context<'_>, waiting: PollTicket) {
    answer(ctx, waiting, Err(PollRefusal::BadRequest));
}

fn answer(ctx: &Context<'_>, ticket: PollTicket, answer: Result<Polled, PollRefusal>) {
    ctx.shared.broker.mailboxes.answer(ticket, answer);
}
