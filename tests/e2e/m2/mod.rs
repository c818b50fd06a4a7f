//! M2 Realtime on the real node.

pub(crate) mod app;
mod clients;
mod data;
pub(crate) mod documents;
mod ending;
mod handshakes;
mod killed;
pub(crate) mod listener;
mod messages;
mod overload;
mod public_keys;
pub(crate) mod readers;
mod refusals;
mod scope;
mod secrets;
mod slow;
mod subprotocols;
mod updates;
mod writers;
