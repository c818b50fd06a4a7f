//! Forge Realtime for subscribers: JSON text messages, one object each, over
//! `GET /forge/realtime/v1/ws` with the subprotocol [`SUBPROTOCOL`].
//!
//! A client proves its context in the handshake (`Authorization: Bearer …`) or in its first
//! message, within [`CONNECT_MS`](super::limits::CONNECT_MS), and again before it
//! expires; who does not is closed with 4401. `id` is a whole number of the client's own, up to
//! 2^53 - 1, and answers name it. Members that are not known are passed over.
//!
//! - `connect` with `contextToken` is answered with `connected`, `connectionId`, `expiresAt` and
//!   `replaySeconds`, for how long events are kept: who was away for longer may have missed some;
//!   and `node`, which tells one start of the node from others: what was kept before is gone. A
//!   later `connect` must be of the same place.
//! - `subscribe` with `channel`, and perhaps `global` and `options`, with `subscribed`, `topic` and
//!   `last`, the newest event that is kept.
//! - `publish` with `channel` and `payload`, and perhaps `global` and `options`, with `published`,
//!   `eventId` and `eventTimestamp`, both `null` where nobody listens.
//! - `unsubscribe` with `topic`, with `unsubscribed`.
//!
//! `options` are `token` and `contextOverrides`, and for a subscription `replaySeconds` with
//! `after`, an event's id: what came later than that is replayed, or all that is younger where it
//! is not kept any more. What was refused is answered with `error: {message, code, detail?}`.
//!
//! Unasked come `event` (`topic`, `eventId`, `eventTimestamp`, `payload`, and `replay` with the id
//! of the request where it is from before) and `subscription_error`, with the code `GAP` where
//! events are missing, or `TOKEN_EXPIRED` where the subscription has ended with its token.

mod fault;
mod messages;
mod request;
mod selection;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use messages::{connected, error, event, gap, published, reply, token_expired};
pub use request::{Request, Said, Target, read};
pub use selection::{Selection, SelectionFault};

/// The subprotocol that a client may ask for in its handshake.
pub const SUBPROTOCOL: &str = "forge-realtime.v1";
