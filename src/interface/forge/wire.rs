//! The messages between the node and clients of Forge Realtime: JSON text messages, one object
//! each, over `GET /forge/realtime/v1/ws` with the subprotocol [`SUBPROTOCOL`].
//!
//! A client proves its context in the handshake (`Authorization: Bearer …`) or with `connect`,
//! within [`CONNECT_MS`](super::limits::CONNECT_MS), and again before the proof expires. Otherwise
//! the node closes the connection with 4401. Each request has an `id`, a whole number from 0 to
//! 2^53 - 1 that the client chooses; the answer repeats it. Unknown members are ignored.
//!
//! - `connect` has `contextToken`. Its answer, `connected`, has `connectionId`, `expiresAt`, `node`
//!   and `replaySeconds`. The node keeps events for `replaySeconds`: a client that was away for
//!   longer may have missed some. `node` changes if the node starts again, and then the events of
//!   the earlier start are gone. A later `connect` must prove the same place.
//! - `subscribe` has `channel`, and optionally `global` and `options`. Its answer, `subscribed`,
//!   has `topic` and `last`, the id of the newest retained event, or `null`.
//! - `publish` has `channel` and `payload`, and optionally `global` and `options`. Its answer,
//!   `published`, has `eventId` and `eventTimestamp`. Both are `null` if the topic has no
//!   subscribers.
//! - `unsubscribe` has `topic`. Its answer is `unsubscribed`.
//!
//! `options` has `token` and `contextOverrides`. For a subscription it also has `replaySeconds` and
//! `after`, the id of an event. The node replays the retained events of the last `replaySeconds`;
//! if the event `after` is still retained, only later ones. A refused request is answered with
//! `error: {message, code, detail?}`.
//!
//! Without a request the node sends `event` and `subscription_error`. An `event` has `topic`,
//! `eventId`, `eventTimestamp` and `payload`; if it is replayed, `replay` is the id of the request.
//! A `subscription_error` has the code `GAP` if events are missing, or `TOKEN_EXPIRED` if the
//! subscription has ended with its token.

mod fault;
mod messages;
mod request;
mod selection;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use messages::{connected, error, event, gap, published, reply, token_expired};
pub use request::{Request, Said, Target, given, read};
pub use selection::{Selection, SelectionFault};

/// The subprotocol that a client may ask for in its handshake.
pub const SUBPROTOCOL: &str = "forge-realtime.v1";
